"""Nothing is compiled after warm-up, whatever recordings come; test_golden.py counts the graphs of a few."""

import numpy as np
import pytest

RATE, RECORDINGS, MOST = 16_000, 200, 6
LANGUAGES = ("", "en", "de", "zh")

pytestmark = pytest.mark.slow


def recording(seconds: float, rng) -> tuple[np.ndarray, int]:
    """Bursts of noise between pauses."""
    count = max(1, round(seconds * RATE))
    loud = 0.2 * (np.sin(np.arange(count) / RATE * rng.uniform(3, 9)) > -0.2)
    return (loud * rng.standard_normal(count)).astype(np.float32), RATE


@pytest.mark.parametrize("long", ["seek", "pauses"])
def test_two_hundred_mixed_recordings(folder, long):
    """Lengths of 0.1 to 65 s, languages known and detected, words and times, batches of 1 to 8, translations;
    doubtful answers are drawn anew. Warm-up: one recording for every batch size that is a power of two."""
    pytest.importorskip("mindspore")
    from mindspore_osum import OSUM
    from mindspore_osum.bench.requests import graphs

    model, rng = OSUM.load(folder, device="CPU"), np.random.default_rng(0)
    how = {"long": long, "max_new_tokens": MOST, "gate": False, "channels": "mix"}
    if long == "seek":  # what was said before makes prompts longer: a graph for every 64 tokens
        how["condition_on_previous_text"] = False
    for size in (1, 2, 4, 8):
        model([recording(2.0, rng)] * size, batch_size=size, **how)
    before, done = graphs(), 0
    while done < RECORDINGS:
        count = min(int(rng.integers(1, 20)), RECORDINGS - done)
        seconds = np.where(rng.random(count) < 0.9, rng.uniform(0.1, 30, count), rng.uniform(30, 65, count))
        found = model(
            [recording(s, rng) for s in seconds],
            task=str(rng.choice(["asr", "srwt"])),
            language=str(rng.choice(LANGUAGES)),
            translate=bool(rng.integers(2)),
            batch_size=int(rng.integers(1, 9)),
            **how,
        )
        assert len(found) == count and not any(one.error for one in found)
        done += count
    assert graphs() == before
