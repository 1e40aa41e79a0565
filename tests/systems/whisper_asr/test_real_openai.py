"""Whole transcripts and word times of real whisper-base against openai-whisper's own `transcribe`, float32.

    pytest -m slow -s tests/systems/whisper_asr/test_real_openai.py

It needs `pip install openai-whisper` and the parts of test_real.py. A talk of ten minutes is made of the
recordings. It prints what it measured and what is different; docs/WHISPER.md has the figures.
"""

import json
import time

import numpy as np
import pytest
import soundfile

from ckpt_convert.convert import convert
from mindspore_osum.api import OSUM

whisper = pytest.importorskip("whisper", reason="needs openai-whisper to compare with")
torch = pytest.importorskip("torch", reason="needs PyTorch to compare with")
pytestmark = pytest.mark.slow

TALK, PAUSE = 600, 0.5  # seconds of the talk, and between two recordings of it
NEAR = 0.02 + 1e-6  # seconds


@pytest.fixture(scope="module")
def waves(real_part) -> dict[str, np.ndarray]:
    """Name -> samples at 16 kHz: each recording, and all of them as one talk."""
    home, found = real_part("recordings"), {}
    for name in ("librivox", "asterisk_dev"):
        for line in (home / f"{name}.jsonl").read_text("utf-8").splitlines():
            path = home / json.loads(line)["wav"]
            wave_N, rate = soundfile.read(path, dtype="float32")
            assert rate == 16_000
            found[path.stem] = wave_N
    pause_N = np.zeros(round(PAUSE * 16_000), np.float32)
    row = [part for wave_N in found.values() for part in (wave_N, pause_N)]
    return found | {"talk": np.concatenate(row)[: TALK * 16_000]}


@pytest.fixture(scope="module")
def ours(real_part, tmp_path_factory):
    home = tmp_path_factory.mktemp("openai")
    convert(real_part("whisper-base"), home / "model")
    return OSUM.load(home / "model", device="CPU")


@pytest.fixture(scope="module")
def theirs(ours, tmp_path_factory):
    """The same weights in openai-whisper, with the alignment heads of its own base model."""
    path = tmp_path_factory.mktemp("base") / "base.pt"
    convert(ours.engine.folder, path, form="openai_whisper")
    model = whisper.load_model(str(path), device="cpu").float()
    model.set_alignment_heads(whisper._ALIGNMENT_HEADS["base"])
    return model


def test_transcripts_and_words(ours, theirs, waves):
    """Texts of 98 % are equal, also with word times; these are within 20 ms for 95 % of the words."""
    for word_times in (False, True):
        how = {"word_times": word_times, "batch_size": 4}
        sounds = [(wave_N, 16_000) for wave_N in waves.values()]
        begun = time.perf_counter()
        responses = ours.transcribe(sounds, **how)
        spent, equal, near, words, others = time.perf_counter() - begun, 0, 0, 0, 0.0
        for (name, wave_N), response in zip(waves.items(), responses, strict=True):
            torch.manual_seed(0)
            begun = time.perf_counter()
            told = theirs.transcribe(wave_N, fp16=False, word_timestamps=word_times)
            others += time.perf_counter() - begun
            if same := response.text.split() == told["text"].split():
                equal += 1
            else:
                warmest = [max((one["temperature"] for one in told["segments"]), default=0)]
                warmest += [max((one.temperature or 0 for one in response.segments), default=0)]
                print(f"\n{name}: {told['text']!r}, ours {response.text!r}, temperatures {warmest}")
            said = [word for one in told["segments"] for word in one.get("words", ())]
            pairs = zip(said, response.words, strict=True) if same and word_times else ()
            for word, own in pairs:
                words += 1
                distance = max(abs(word["start"] - own.start), abs(word["end"] - own.end))
                near += distance < NEAR
                if distance >= NEAR:
                    print(f"{name}: {word['word']!r} {word['start']:.2f}-{word['end']:.2f}, ours {own}")
        seconds = sum(map(len, waves.values())) / 16_000
        print(
            f"\n{equal} of {len(waves)} texts are equal; {seconds / spent:.1f} s of sound a second, ", end=""
        )
        print(f"openai-whisper {seconds / others:.1f}")
        assert equal >= 0.98 * len(waves)
        if word_times:
            print(f"{near} of {words} words are within 20 ms")
            assert words > 1000 and near >= 0.95 * words
    rows = 3  # batches of 4, 2 and 1
    assert ours.engine.generator.compiles <= rows * 8
