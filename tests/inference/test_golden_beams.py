"""From the recording to the tokens that the published PyTorch code of OSUM gave: greedy and with 4 beams."""

import json

import numpy as np
import pytest

from mindspore_osum.inference.engine import Engine
from mindspore_osum.inference.request import make_request
from mindspore_osum.inference.sampling import Sampling
from tests.systems.osum.qwen2 import converted


@pytest.fixture(scope="module")
def golden(shared):
    return shared / "golden/osum_qwen2"


def test_answers(golden, tmp_path):
    """Its task alone is given: the request, the sequence and the text follow from the converted model."""
    told = json.loads((golden / "config.json").read_text("utf-8"))
    with np.load(golden / "golden_wav1.npz") as arrays:
        tokens = {name: arrays[f"{name}_tokens"][0].tolist() for name in ("greedy", "beam4")}
    engine = Engine(converted(golden, tmp_path))
    for name, how in told["generation"].items():
        settings = how["settings"]
        sampling = Sampling(
            settings["max_new_tokens"],
            repetition_penalty=settings["repetition_penalty"],
            beams=settings["num_beams"],
            length_penalty=settings["length_penalty"] if settings["num_beams"] > 1 else None,
        )
        (found,) = engine.answer([golden / "wav1.wav"], task="asr", sampling=sampling)
        assert found.raw == how["text"], name
        prompt, _ = engine.prompt(golden / "wav1.wav", make_request("asr"))
        (written,) = engine.generator.generate([prompt], sampling)
        assert written.tokens == how["tokens"] == tokens[name.removeprefix("wav1_")], name
    # what the publication does unless told otherwise: draws, in a search with 4 beams
    published = engine.generator._settings(Sampling())
    assert (published.beams, published.temperature, published.top_k, published.top_p) == (4, 1.0, 5, 0.9)
    assert engine.generator._settings(Sampling(beams=1)) == Sampling(beams=1)
    assert engine.generator._settings(Sampling(temperature=0.5)) == Sampling(beams=1, temperature=0.5)
    compiled = engine.generator.compiles
    first, again, other = (
        engine.generator.generate([prompt], Sampling(40, seed=seed))[0].tokens for seed in (1, 1, 2)
    )
    assert first == again != other and engine.generator.compiles == compiled
    (streamed,) = next(engine.generator.stream([prompt]))  # a stream has no beams
    assert streamed == tokens["greedy"][0]
