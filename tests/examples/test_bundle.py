"""examples/speech_world/bundle.py: what it chooses and what it writes."""

import json
from collections import Counter

import bundle
import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.tasks import TASKS
from mindspore_osum.weights_io import WeightsWriter, info_of, open_weights


@pytest.fixture(scope="module")
def lines(plans) -> list[dict]:
    """The manifest of the default test split, without its audio."""
    import manifests

    times = [("x", 0.1, 0.2)]
    return [
        manifests.record(line, key, number, times, 1.5, 0.01)
        for line in plans["test"]
        for number, key in enumerate(manifests.checked_keys(line))
    ]


def write_model(folder, values: dict[str, np.ndarray]) -> None:
    with WeightsWriter(folder, {name: info_of(v) for name, v in values.items()}) as writer:
        for name, v in values.items():
            writer.write(name, v)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.model").write_bytes(b"x")


def speaker(line: dict) -> str:
    return line["extra"]["voice"].split("+")[1]


def test_every_task_language_and_group_is_among_the_recordings(lines):
    chosen = bundle.choose(lines)
    recordings = {line["wav"]: line for line in chosen}
    assert len(recordings) == 16 == len({speaker(line) for line in recordings.values()})
    shown = Counter((line["task"], line["extra"]["lang"]) for line in chosen)
    assert set(shown) == {(task.key, lang) for task in TASKS.values() for lang in ("en", "zh")}
    groups = Counter((line["extra"]["gender"], line["extra"]["age"]) for line in recordings.values())
    assert set(groups) == set(bundle.GROUPS) and min(groups.values()) >= 2
    every = [line for line in lines if line["wav"] in recordings]
    assert chosen == every  # all lines of a recording, in the order of the keys


def test_the_first_of_the_keys_is_taken(lines):
    """The first cell is English asr of a boy."""
    first = next(
        line
        for line in lines
        if (line["task"], line["extra"]["lang"], line["extra"]["gender"], line["extra"]["age"])
        == ("<TRANSCRIBE>", "en", *bundle.GROUPS[0])
    )
    assert first in bundle.choose(lines)
    without = [line for line in lines if line["wav"] != first["wav"]]
    assert bundle.choose(without) != bundle.choose(lines)


def test_too_small_a_split_is_refused(lines):
    with pytest.raises(UserError, match="the test split has no (en|zh) .*; make it larger"):
        bundle.choose(lines[:30])


def test_model_is_rounded_to_half_precision(tmp_path):
    values = {"a.weight": np.array([[1.0, 1e-3]], np.float32), "b": np.array([np.pi], np.float32)}
    write_model(tmp_path / "model", values)
    bundle.bundle_model(tmp_path / "model", tmp_path / "out")
    with open_weights(tmp_path / "out") as weights:
        for name, v in values.items():
            assert weights.infos[name].dtype == "F16"
            np.testing.assert_array_equal(weights.read(name), v.astype(np.float16))


def test_a_share_of_the_weights_that_training_went_on_from(tmp_path):
    for name, value in (("start", 1.0), ("model", 3.0)):
        (tmp_path / name).mkdir(exist_ok=True)
        write_model(tmp_path / name, {"a": np.array([value, 0.0], np.float32)})
    bundle.bundle_model(tmp_path / "model", tmp_path / "out", tmp_path / "start", 0.25)
    with open_weights(tmp_path / "out") as weights:
        np.testing.assert_array_equal(weights.read("a"), [1.5, 0.0])


def test_a_weight_beyond_half_precision_is_refused(tmp_path):
    write_model(tmp_path / "model", {"big": np.array([1e6], np.float32)})
    with pytest.raises(UserError, match="big does not fit float16"):
        bundle.bundle_model(tmp_path / "model", tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_recordings_come_with_a_manifest_in_place_of_older_ones(lines, tmp_path):
    chosen = bundle.choose(lines)
    (tmp_path / "wav" / "test").mkdir(parents=True)
    for line in lines:
        (tmp_path / line["wav"]).write_bytes(line["wav"].encode())
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (tmp_path / "test.jsonl").write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.wav").write_bytes(b"old")
    bundle.bundle_recordings(tmp_path, out)
    written = [json.loads(text) for text in (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    assert written == [line | {"wav": line["wav"].rpartition("/")[2]} for line in chosen]
    assert {path.name for path in out.iterdir()} == {line["wav"] for line in written} | {"manifest.jsonl"}
    for line in chosen:
        assert (out / line["wav"].rpartition("/")[2]).read_bytes() == line["wav"].encode()
