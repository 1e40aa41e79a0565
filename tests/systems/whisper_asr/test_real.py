"""Real weights on real voices against transformers: whisper-base, human recordings.

    pytest -m "slow or not slow" -s tests/systems/whisper_asr/test_real.py      all of them; without -m a few

The parts are made once, or those of OSUM_REAL_PARTS: a folder that has `whisper-base`, of Hugging Face, and
`recordings` with `librivox.jsonl`, `asterisk_dev.jsonl`, lines of wav and txt. It prints what it measured;
docs/WHISPER.md has the figures.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ckpt_convert.convert import convert
from mindspore_osum.api import OSUM
from mindspore_osum.inference.request import make_request
from mindspore_osum.inference.sampling import KEEP, Sampling
from tests.systems.whisper_asr.common import scores, word_errors

torch = pytest.importorskip("torch", reason="needs PyTorch to compare with")

TOGETHER, FORCED = 3, 3  # recordings in a batch; recordings whose scores are compared
FEW, BEAMS = 6, 5
BEGIN = [50258, 50259, 50359, 50363]


@pytest.fixture(scope="module")
def recordings(real_part) -> list[tuple[Path, str]]:
    home, found = real_part("recordings"), []
    for name in ("librivox", "asterisk_dev"):
        for line in (home / f"{name}.jsonl").read_text("utf-8").splitlines():
            values = json.loads(line)
            found.append((home / values["wav"], values["txt"]))
    return found


@pytest.mark.parametrize("count", [FEW, pytest.param(None, marks=pytest.mark.slow)], ids=["few", "all"])
def test_real_whisper(count, real_part, recordings, tmp_path, monkeypatch):
    """Greedy tokens are those of transformers; encoder and teacher-forced scores differ by less than 1e-4."""
    import mindspore as ms
    from mindspore import Tensor
    from transformers import WhisperForConditionalGeneration

    recordings, base = recordings[:count], real_part("whisper-base")
    monkeypatch.setenv("OSUM_CACHE", str(tmp_path))
    engine = OSUM.load(base, device="CPU").engine
    model, sampling = engine.generator.model, Sampling(loops=KEEP)
    theirs = WhisperForConditionalGeneration.from_pretrained(base, dtype=torch.float32).eval()
    how = {"language": "en", "task": "transcribe", "do_sample": False, "num_beams": 1, "max_new_tokens": 224}
    other, largest, frames, words, wrong = [], 0.0, 0.0, 0, 0
    for first in range(0, len(recordings), TOGETHER):
        batch = recordings[first : first + TOGETHER]
        request = make_request("asr", language="en")
        prompts = [engine.prompt(path, request)[0] for path, _ in batch]
        found = engine.generator.generate(prompts, sampling, TOGETHER)
        for (path, text), asked, one in zip(batch, prompts, found, strict=True):
            mel_1FT = torch.from_numpy(asked.mel_TF.T[None])
            with torch.no_grad():
                ids = theirs.generate(mel_1FT, **how)[0].tolist()
            expected = [i for i in ids if i < 50257]
            if one.tokens != expected:
                other.append(f"{path.name}: {engine.tokenizer.decode(one.tokens)!r}, transformers {expected}")
            said = engine.tokenizer.decode(one.tokens)
            errors, count = word_errors(text, said)
            wrong, words = wrong + errors, words + count
            if first < FORCED:
                forced = [*BEGIN, *expected]
                with torch.no_grad():
                    told = theirs(mel_1FT, decoder_input_ids=torch.tensor([forced]))
                ours_UD = model.encoder(Tensor(asked.mel_TF[None]), Tensor([3000], ms.int32))[0].asnumpy()[0]
                frames = max(frames, difference(ours_UD, told.encoder_last_hidden_state[0].numpy()))
                largest = max(
                    largest, difference(scores(model, asked.mel_TF, forced), told.logits[0].numpy())
                )
        print(f"{first + len(batch)}: {len(other)} other", end="; ", flush=True)
    equal = len(recordings) - len(other)
    print(f"\n{len(recordings)} recordings: {equal} with equal tokens, WER {wrong / words:.1%}")
    print(f"of {FORCED}: encoder {frames:.1e}, teacher-forced scores {largest:.1e} of the largest value")
    assert not other and frames < 1e-4 and largest < 1e-4, "\n".join(other)
    assert engine.generator.compiles == 3  # one shape for all


@pytest.mark.slow
def test_real_beams(real_part, recordings, tmp_path, monkeypatch):
    """Tokens of 5 beams, with timestamps, are those of openai-whisper, which a Python of its own may have:
    OSUM_WHISPER_PYTHON."""
    python = os.environ.get("OSUM_WHISPER_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import whisper"], capture_output=True).returncode:
        pytest.skip("needs openai-whisper: OSUM_WHISPER_PYTHON names no Python that has it")
    monkeypatch.setenv("OSUM_CACHE", str(tmp_path))
    engine = OSUM.load(real_part("whisper-base"), device="CPU").engine
    convert(engine.folder, tmp_path / "base.pt", form="openai_whisper")
    theirs = subprocess.run(
        [python, Path(__file__).with_name("openai_beams.py"), tmp_path / "base.pt", str(BEAMS)],
        input="".join(f"{path}\n" for path, _ in recordings),
        capture_output=True,
        text=True,
        check=True,
    )
    request, sampling = make_request("srwt", language="en"), Sampling(loops=KEEP, beams=BEAMS)
    other, words, wrong = [], 0, 0
    for (path, text), line in zip(recordings, theirs.stdout.splitlines(), strict=True):
        (found,), expected = (
            engine.generator.generate([engine.prompt(path, request)[0]], sampling),
            json.loads(line),
        )
        said = engine.system.answer(engine.tokenizer.decode(found.tokens), "srwt").text
        errors, count = word_errors(text, said)
        wrong, words = wrong + errors, words + count
        if found.tokens != expected["tokens"]:
            other.append(f"{path.name}: {found.tokens}, openai-whisper {expected['tokens']}")
        else:
            assert found.mean_log_p == pytest.approx(expected["avg_logprob"], abs=1e-3)
    equal = len(recordings) - len(other)
    print(
        f"\n{len(recordings)} recordings: {equal} with equal tokens of {BEAMS} beams, WER {wrong / words:.1%}"
    )
    assert len(other) <= 0.02 * len(recordings), "\n".join(other)
    assert engine.generator.compiles == 6  # one shape for all


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference over the largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
