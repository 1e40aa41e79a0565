"""LoRA adapters to and from the PEFT library, which loads and runs them here; and merged into the weights."""

import json

import numpy as np
import pytest

from ckpt_convert.convert import convert
from ckpt_convert.settle import Settings
from mindspore_osum.cli import main
from mindspore_osum.errors import UserError
from mindspore_osum.folder import read_config
from mindspore_osum.models.llama.config import LoraConfig
from mindspore_osum.weights_io import WeightsWriter, info_of, open_weights
from tests.convert.common import OVERRIDES, RANK, published_state, save, torch
from tests.convert.test_hf import START, make_decoder, whisper  # noqa: F401

IDS = np.array([[3, 17, 42, 5, 60, 1]])
TARGETS = ["q_proj", "v_proj", "up_proj"]
Q = "layers.1.self_attn.q_proj"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A Hugging Face decoder of the openPangu kind."""
    return make_decoder(tmp_path_factory.mktemp("base") / "hf", "openpangu")


@pytest.fixture(scope="module")
def start(base, whisper, tmp_path_factory):  # noqa: F811
    """A model folder with that decoder and LoRA whose B is not zero, as after training."""
    folder = tmp_path_factory.mktemp("start") / "m"
    lora = {"rank": 3, "alpha": 5.0, "targets": TARGETS}
    overrides = {**START.overrides, "lora": lora}
    convert(None, folder, encoder=whisper, decoder=base, settings=Settings(overrides=overrides))
    rng = np.random.default_rng(0)
    arrays = read(folder)
    for name, values in arrays.items():
        if "lora_B" in name:
            arrays[name] = rng.standard_normal(values.shape, np.float32)
    write(folder, arrays)
    return folder


def write(target, arrays: dict[str, np.ndarray]) -> None:
    with WeightsWriter(target, {name: info_of(values) for name, values in arrays.items()}) as writer:
        for name, values in arrays.items():
            writer.write(name, values)


def read(folder) -> dict[str, np.ndarray]:
    with open_weights(folder) as weights:
        return {name: np.array(weights.read(name)) for name in weights.infos}


def adapters_of(arrays: dict) -> dict:
    return {name: values for name, values in arrays.items() if "lora_" in name}


def our_logits(folder) -> np.ndarray:
    import mindspore as ms
    from mindspore import Tensor, ops

    from mindspore_osum.folder import load_folder
    from mindspore_osum.models.ops import segment_causal_mask

    decoder = load_folder(folder).set_train(False).decoder
    positions = ops.arange(0, IDS.shape[1], dtype=ms.int32).expand_dims(0)
    x = decoder.embed(Tensor(IDS, ms.int32))
    hidden = decoder(x, positions, segment_causal_mask(Tensor(np.ones(IDS.shape, np.int32))))
    return decoder.logits(hidden).asnumpy()


def same(found, expected) -> None:
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def peft_logits(base, adapters) -> np.ndarray:
    peft = pytest.importorskip("peft", reason="needs peft (extra dev)")
    from transformers import AutoModelForCausalLM

    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapters)).eval()
    with torch.no_grad():
        return model(torch.from_numpy(IDS)).logits.numpy()


def test_the_library_computes_what_we_do_from_our_adapters(start, base, tmp_path, capsys):
    out = tmp_path / "adapters"
    assert main(["convert", str(start), "--to", "peft", "-o", str(out), "--base-name", "org/base"]) == 0
    assert "stay behind" in capsys.readouterr().out
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (3, 5, TARGETS)
    assert (config["task_type"], config["base_model_name_or_path"]) == ("CAUSAL_LM", "org/base")
    assert sorted(p.name for p in out.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    with open_weights(out / "adapter_model.safetensors") as weights:
        assert f"base_model.model.model.{Q}.lora_A.weight" in weights.infos
        assert len(weights.infos) == len(adapters_of(read(start))) == 2 * 2 * len(TARGETS)
    ours, theirs = our_logits(start), peft_logits(base, out)
    same(ours, theirs)
    plain = peft_without(base)
    assert np.abs(theirs - plain).max() > 0.1 * np.abs(plain).max()  # the adapters do something


def peft_without(base) -> np.ndarray:
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(base).eval()(torch.from_numpy(IDS)).logits.numpy()


def test_adapters_of_the_library_become_our_lora(start, base, tmp_path):
    peft = pytest.importorskip("peft", reason="needs peft (extra dev)")
    from transformers import AutoModelForCausalLM

    lora = peft.LoraConfig(
        r=2,
        lora_alpha=6,
        lora_dropout=0.2,
        target_modules=["down_proj", "o_proj"],
        use_rslora=True,
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(0)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(tmp_path / "theirs")
    report = convert(start, tmp_path / "tuned", adapters=tmp_path / "theirs")
    found = read_config(tmp_path / "tuned").lora
    assert found == LoraConfig(2, 6 * 2**0.5, 0.2, ("o_proj", "down_proj"))
    assert set(report.ignored.values()) == {"the adapters given take its place"} and not report.initialised
    same(our_logits(tmp_path / "tuned"), peft_logits(base, tmp_path / "theirs"))
    before, after = read(start), read(tmp_path / "tuned")
    assert all(np.array_equal(after[name], before[name]) for name in after if "lora_" not in name)
    convert(tmp_path / "tuned", tmp_path / "again", form="peft")
    with open_weights(tmp_path / "again" / "adapter_model.safetensors") as a:
        with open_weights(tmp_path / "theirs" / "adapter_model.safetensors") as b:
            assert a.infos == b.infos and all(np.array_equal(a.raw(n), b.raw(n)) for n in a.infos)


def test_adapters_beside_a_stock_decoder_and_a_published_checkpoint(start, base, whisper, tmp_path):  # noqa: F811
    convert(start, tmp_path / "a", form="peft")
    settings = Settings(overrides={"adapter": {"n_heads": 2}, "speech_token_num": 7})
    report = convert(
        None, tmp_path / "m", encoder=whisper, decoder=base, adapters=tmp_path / "a", settings=settings
    )
    assert not any("lora_" in name for name in report.initialised)
    expected, found = adapters_of(read(start)), adapters_of(read(tmp_path / "m"))
    assert found.keys() == expected.keys() and all(np.array_equal(found[n], expected[n]) for n in found)
    assert read_config(tmp_path / "m").lora.scale == read_config(start).lora.scale
    told = Settings("osum_pangu_7b", overrides={**OVERRIDES, "lora": {}})
    source = save(published_state(), tmp_path / "p.pt")
    convert(source, tmp_path / "p", settings=Settings("osum_pangu_7b", overrides=OVERRIDES))
    convert(tmp_path / "p", tmp_path / "pa", form="peft")
    convert(source, tmp_path / "q", adapters=tmp_path / "pa", settings=told)
    assert read_config(tmp_path / "q") == read_config(tmp_path / "p")
    assert read_config(tmp_path / "q").lora.rank == RANK


def test_merging_as_a_verb(start, tmp_path, capsys):
    assert main(["merge-lora", str(start), str(tmp_path / "merged")]) == 0
    assert "LoRA merged" in capsys.readouterr().out
    assert read_config(tmp_path / "merged").lora.rank == 0
    before, after = read(start), read(tmp_path / "merged")
    assert set(after) == set(before) - set(adapters_of(before))
    name = f"decoder.model.{Q}"
    product = before[f"{name}.lora_B.weight"].astype(np.float64) @ before[f"{name}.lora_A.weight"]
    want = (before[f"{name}.weight"] + 5.0 / 3 * product).astype(np.float32)
    assert np.array_equal(after[f"{name}.weight"], want)
    assert main(["merge-lora", str(tmp_path / "merged"), str(tmp_path / "twice")]) == 1
    error = capsys.readouterr().err
    assert "there is no LoRA in it to merge" in error and error.count("\n") == 1
    assert not (tmp_path / "twice").exists()


def test_the_base_alone_of_a_model_with_lora(start, base, tmp_path):
    settings = Settings(overrides={"lora": {"rank": 0}}, allow=frozenset({"unexpected"}))
    convert(start, tmp_path / "base", form="hf_decoder", settings=settings)
    found, expected = read(tmp_path / "base"), read(base)
    assert found.keys() == expected.keys() and all(np.array_equal(found[n], expected[n]) for n in found)


@pytest.fixture
def adapters(start, tmp_path):
    convert(start, tmp_path / "adapters", form="peft")
    return tmp_path / "adapters"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"use_dora": True}, "use_dora is True, but model.layers.0.self_attn.q_proj has no magnitudes"),
        ({"peft_type": "PREFIX_TUNING"}, "peft_type = 'PREFIX_TUNING' is not supported"),
        ({"rank_pattern": {"q_proj": 4}}, "its rank is 4"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"layers_to_transform": [0]}, "layers.1.self_attn.q_proj has adapters, but is no target module"),
        ({"bias": "all"}, "bias = 'all' is not supported"),
        ({"init_lora_weights": "pissa_niter_16"}, "'pissa_niter_16' is not supported: it changes the base"),
        ({"r": 0}, "r must be above 0"),
        ({"r": None}, "key 'r' is missing"),
        ({"lora_alpha": "big"}, "lora_alpha should be of type float"),
        ({"target_modules": ["q_proj", "v_proj"]}, "mlp.up_proj has adapters, but is no target module"),
        ({"r": 4}, "its rank is 4"),
    ],
)
def test_what_our_lora_is_not_is_refused(start, adapters, tmp_path, values, message):
    path = adapters / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(UserError) as caught:
        convert(start, tmp_path / "out", adapters=adapters)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_incomplete_and_misplaced_adapters_are_refused(start, base, adapters, tmp_path, capsys):
    def refused(message, *args, **kwargs):
        with pytest.raises(UserError, match=message):
            convert(*args, tmp_path / "out", **kwargs)

    refused("give it with --adapters", adapters)
    refused("no PEFT adapters", start, adapters=base)
    refused("give one whole checkpoint", None, adapters=adapters)
    arrays = read(adapters / "adapter_model.safetensors")
    del arrays[f"base_model.model.model.{Q}.lora_B.weight"]
    arrays["base_model.model.lm_head.weight"] = np.ones((2, 2), np.float32)
    write(adapters / "adapter_model.safetensors", arrays)
    refused(f"1 missing: decoder.model.{Q}.lora_B.weight; 1 unexpected.*lm_head", start, adapters=adapters)
    assert main(["convert", str(start), "--to", "peft", "-o", str(tmp_path / "a.pt")]) == 1
    assert "are a folder" in capsys.readouterr().err
    assert main(["merge-lora", str(start), str(tmp_path / "merged")]) == 0
    refused("no LoRA, so there are no adapters", tmp_path / "merged", form="peft")
    arguments = [str(start), "--adapters", str(adapters), "-o", str(tmp_path / "o"), "--verify"]
    assert main(["convert", *arguments]) == 1
    assert "no PEFT adapters" in capsys.readouterr().err
