import shutil

import numpy as np
import pytest

from mindspore_osum.config import from_dict, merge
from mindspore_osum.errors import UserError
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.registry import preset
from mindspore_osum.training import checkpoint, shards
from mindspore_osum.training.model_files import restored, weights_digest
from mindspore_osum.weights_io import WeightsWriter, info_of
from tests.training.tones import SMALL_MODEL

LEARN = ["adapter"]


def model_folder(folder, **over):
    arrays = {"a": np.arange(100_000, dtype=np.float32), "b": np.ones(3, np.float32), **over}
    with WeightsWriter(folder, {name: info_of(values) for name, values in arrays.items()}) as writer:
        for name, values in arrays.items():
            writer.write(name, values)
    return weights_digest(folder)


def test_the_digest_of_a_start_tells_other_weights(tmp_path):
    first = model_folder(tmp_path / "a")
    assert first == model_folder(tmp_path / "same") and len(first) == 16
    others = {"b": np.array([1, 1, 1.0000001], np.float32)}, {"a": np.arange(100_000) * np.float32(1.0001)}
    shapes = {"b": np.ones((3, 1), np.float32)}, {"c": np.zeros(0, np.float32)}
    digests = {model_folder(tmp_path / f"b{i}", **over) for i, over in enumerate((*others, *shapes))}
    assert len(digests) == 4 and first not in digests


@pytest.fixture
def trained(tmp_path):
    """(config, start folder, what learned, fingerprint) of a run that taught an adapter."""
    from mindspore_osum.systems.osum.network import OsumModel
    from mindspore_osum.systems.osum.system import SYSTEM

    config = from_dict(ModelConfig, merge(preset("tiny").to_dict(), SMALL_MODEL), "small")
    model = OsumModel(config)
    SYSTEM.init_weights(model, 1)
    arrays = {name: param.asnumpy() for name, param in model.parameters_and_names()}
    start = tmp_path / "start"
    with WeightsWriter(start, {name: info_of(values) for name, values in arrays.items()}) as writer:
        for name, values in arrays.items():
            writer.write(name, values)
    parts = ("adapter.", "speech_token_embed.")
    learned = {f"model.{name}": values + 1 for name, values in arrays.items() if name.startswith(parts)}
    return config, start, learned, {"start_weights": weights_digest(start)}


def test_a_model_is_its_start_and_what_learned(trained, tmp_path):
    config, start, learned, known = trained
    path = checkpoint.save(tmp_path / "checkpoints", 3, learned, {"fingerprint": known}, 1)
    model = restored(path, config, str(start), 0, LEARN)
    for name, param in model.parameters_and_names():
        assert f"model.{name}" not in learned or np.array_equal(param.asnumpy(), learned[f"model.{name}"])
    assert weights_digest(start) == known["start_weights"]


@pytest.fixture
def drawn(monkeypatch) -> list[str]:
    """Names of the parameters whose random numbers were drawn."""
    from mindspore_osum.systems.osum.system import SYSTEM

    names, real = [], SYSTEM.initial_value
    record = lambda cfg, name, *rest: names.append(name) or real(cfg, name, *rest)  # noqa: E731
    monkeypatch.setattr(SYSTEM, "initial_value", record, raising=False)
    return names


def test_only_what_neither_start_nor_checkpoint_has_is_drawn(trained, tmp_path, drawn):
    config, start, learned, known = trained
    path = checkpoint.save(tmp_path / "checkpoints", 3, learned, {"fingerprint": known}, 1)
    restored(path, config, str(start), 0, LEARN)
    assert drawn == []
    model = restored(path, config, "", 0, LEARN)
    assert {f"model.{name}" for name in drawn} | learned.keys() == {
        f"model.{name}" for name, _ in model.parameters_and_names()
    }
    assert len(drawn) + len(learned) == len(list(model.parameters_and_names()))


def test_a_job_draws_only_what_its_start_lacks(trained, drawn):
    """The same numbers as if it had drawn all: new LoRA on a model without."""
    pytest.importorskip("mindformers")
    from mindspore_osum.systems.init import initial_value
    from mindspore_osum.training.mindformers_job import plain
    from mindspore_osum.training.network import NetworkConfig, TrainingNetwork

    config, start, _, _ = trained
    values = merge(config.to_dict(), {"lora": {"rank": 2, "alpha": 4.0}})
    net = TrainingNetwork(NetworkConfig(model=plain(values), start=str(start), learn=["lora"], seed=5))
    params = dict(net.model.parameters_and_names())
    assert sorted(drawn) == sorted(name for name in params if "lora_" in name) != []
    for name in drawn:
        assert np.array_equal(params[name].asnumpy(), initial_value(name, params[name].shape, 1, 5))


def test_a_job_of_text_alone_has_no_adapter_to_lose(trained, tmp_path):
    """Its network has none, though `learn` may name it."""
    config, start, _, known = trained
    weight = np.full((config.decoder.d_model,), 2.0, np.float32)
    learned = {"model.decoder.model.norm.weight": weight}
    path = checkpoint.save(tmp_path / "checkpoints", 3, learned, {"fingerprint": known}, 1)
    assert (restored(path, config, str(start), 0, LEARN).decoder.model.norm.weight.asnumpy() == 2).all()


def test_a_start_that_has_changed_since_is_refused(trained, tmp_path):
    config, start, learned, known = trained
    path = checkpoint.save(tmp_path / "checkpoints", 3, learned, {"fingerprint": known}, 1)
    shutil.rmtree(start)
    model_folder(start)
    with pytest.raises(UserError, match="start: its weights have changed since .*step_000003 was written"):
        restored(path, config, str(start), 0, LEARN)


def test_a_checkpoint_that_has_lost_its_tensors_makes_no_model(trained, tmp_path):
    config, start, learned, known = trained
    path = checkpoint.save(tmp_path / "checkpoints", 3, learned, {"fingerprint": known}, 1)
    (path / checkpoint.STATE).unlink()
    says = f"step_000003: {len(learned)} tensors that learned are missing, e.g. model.adapter"
    with pytest.raises(UserError, match=says):
        restored(path, config, str(start), 0, LEARN)
    for rank, names in enumerate((sorted(learned)[:2], sorted(learned)[2:])):  # as two stages of a pipeline
        piece = {name: learned[name] for name in names}
        shards.write(path, 0, piece, {}, set())
        for old in path.glob("shard_00000.*"):
            old.rename(old.with_name(f"shard_0000{rank + 2}{old.suffix}"))
    restored(path, config, str(start), 0, LEARN)
    (path / "shard_00002.safetensors").unlink()
    with pytest.raises(UserError, match="step_000003: 2 tensors that learned are missing"):
        restored(path, config, str(start), 0, LEARN)
    shutil.rmtree(path)
    with pytest.raises(UserError, match="step_000003"):
        restored(path, config, str(start), 0, LEARN)
