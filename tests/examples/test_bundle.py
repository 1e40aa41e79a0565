"""examples/speech_world/bundle.py: what it chooses and what it writes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.weights_io import WeightsWriter, info_of, open_weights

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "speech_world"))
import bundle  # noqa: E402


def line(key: str, lang: str, voice: str) -> dict:
    extra = {"lang": lang, "voice": voice}
    return {"key": key, "wav": f"wav/{key}.wav", "txt": "x", "task": "<TRANSCRIBE>", "extra": extra}


def write_model(folder: Path, values: dict[str, np.ndarray]) -> None:
    with WeightsWriter(folder, {name: info_of(v) for name, v in values.items()}) as writer:
        for name, v in values.items():
            writer.write(name, v)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.model").write_bytes(b"x")


def test_speakers_take_turns_in_both_languages():
    voices = [(lang, voice) for lang in ("en", "zh") for voice in ("m1", "f1")]
    lines = [line(f"{lang}{v}{i}", lang, f"{lang}+{v}") for lang, v in voices for i in range(5)]
    chosen = bundle.choose(lines, 6)
    assert [c["key"] for c in chosen] == ["enm10", "enf10", "enm11", "zhm10", "zhf10", "zhm11"]


def test_model_is_rounded_to_half_precision(tmp_path):
    values = {"a.weight": np.array([[1.0, 1e-3]], np.float32), "b": np.array([np.pi], np.float32)}
    write_model(tmp_path / "model", values)
    bundle.bundle_model(tmp_path / "model", tmp_path / "out")
    with open_weights(tmp_path / "out") as weights:
        for name, v in values.items():
            assert weights.infos[name].dtype == "F16"
            np.testing.assert_array_equal(weights.read(name), v.astype(np.float16))


def test_a_weight_beyond_half_precision_is_refused(tmp_path):
    write_model(tmp_path / "model", {"big": np.array([1e6], np.float32)})
    with pytest.raises(UserError, match="big does not fit float16"):
        bundle.bundle_model(tmp_path / "model", tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_recordings_come_with_a_manifest(tmp_path):
    (tmp_path / "wav").mkdir()
    lines = [line("k1", "en", "en+m1"), line("k2", "zh", "zh+f1")]
    for entry in lines:
        (tmp_path / entry["wav"]).write_bytes(entry["key"].encode())
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    bundle.bundle_recordings(tmp_path, tmp_path / "out", 2)
    written = [json.loads(text) for text in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert [w["wav"] for w in written] == ["k1.wav", "k2.wav"]
    assert (tmp_path / "out" / "k2.wav").read_bytes() == b"k2"
