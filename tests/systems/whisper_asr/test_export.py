"""A Whisper as exported graphs, against the engine that answers from the folder itself."""

import json

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED
from mindspore_osum.inference.engine import Engine
from mindspore_osum.inference.request import make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.models.exported import Sizes
from mindspore_osum.systems.registry import preset, system_of
from tests.export.common import export_to

RECORDINGS = sorted((BUNDLED.parent / "recordings").glob("*.wav"))[:2]
SIZES = ["--batch-size", "2", "--request-tokens", "20", "--max-new-tokens", "24"]


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    """The golden model, exported; it answers by the graphs that were loaded again to be compared."""
    target = tmp_path_factory.mktemp("export") / "deploy"
    return export_to(target, "--model", str(folder), *SIZES)


def test_it_was_compared(exported):
    facts = json.loads((exported.folder / "export.json").read_text("utf-8"))
    assert facts["compared"].keys() == {"speech", "prefill", "decode"}
    assert max(facts["compared"].values()) <= 1e-4
    assert exported.sizes == Sizes(2, 3000, 25, 49)


def test_answers_are_the_engine_s(exported, folder):
    """Text with and without times, the language, and how sure the model is; hotwords, a translation."""
    engine, sampling = Engine(folder), Sampling(max_new_tokens=24, fallback=False)
    requests = [
        make_request("srwt"),
        make_request("asr", language="de", hotwords="Ann"),
        make_request("asr", translate=True),
    ]
    for request in requests:
        for path, expected in zip(
            RECORDINGS, engine.answer(RECORDINGS, requests=[request] * 2, sampling=sampling), strict=True
        ):
            (want,), got = (
                expected.segments,
                exported.answerer.answer([path], requests=[request], sampling=sampling),
            )
            (segment,) = got[0].segments
            assert (segment.raw, segment.language, segment.cut) == (want.raw, want.language, want.cut)
            assert segment.avg_logprob == pytest.approx(want.avg_logprob, abs=1e-4)
            assert segment.no_speech_prob == pytest.approx(want.no_speech_prob, abs=1e-5)
            assert segment.raw


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((31.0, 64, 400, 1), "--seconds 31: recordings are 1 to 30 seconds at most"),
        ((30.0, 300, 400, 1), "the model has 448; lower --request-tokens or --max-new-tokens"),
        ((30.0, 64, 0, 1), "--max-new-tokens 0: must be 1 or more"),
    ],
)
def test_sizes_beyond_the_model_are_refused(numbers, message):
    cfg = preset("whisper_base")
    with pytest.raises(UserError, match=message):
        system_of(cfg.model_type).export().sizes_for(cfg, None, None, *numbers)
