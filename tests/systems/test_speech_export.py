"""Exported graphs of a TouchASU and of a linear aligner, against the engine that answers from the folder.

scripts/test.sh tests/systems/test_speech_export.py -m slow    # the golden models: a Whisper encoder, Qwen2
"""

import json
from dataclasses import replace

import pytest

pytest.importorskip("mindspore")

from ckpt_convert.convert import convert  # noqa: E402
from mindspore_osum.errors import UserError  # noqa: E402
from mindspore_osum.folder import BUNDLED, read_config, save_folder  # noqa: E402
from mindspore_osum.inference.engine import Engine  # noqa: E402
from mindspore_osum.inference.request import Request, make_request  # noqa: E402
from mindspore_osum.inference.sampling import Sampling  # noqa: E402
from mindspore_osum.systems.linear_aligner.template import load_layout  # noqa: E402
from mindspore_osum.systems.registry import preset, system_of  # noqa: E402
from mindspore_osum.text.tokenizer import open_tokenizer  # noqa: E402
from tests.export.common import export_to  # noqa: E402
from tests.inference.common import fill  # noqa: E402
from tests.systems.osum import qwen2  # noqa: E402
from tests.systems.touch_asu import common as touch_asu  # noqa: E402
from tests.training.tones import write_tokenizer  # noqa: E402

RECORDINGS = sorted((BUNDLED.parent / "recordings").glob("*.wav"))[:2]
SIZES = ["--seconds", "3", "--max-new-tokens", "16", "--request-tokens", "90", "--batch-size", "2"]
REQUESTS = [make_request("asr"), make_request(instruction="What does the speaker say?"), make_request("sttc")]


def touch_asu_tokenizer(folder):
    return touch_asu.write_tokenizer(folder)


def aligner_tokenizer(folder):
    write_tokenizer(folder / "tokenizer.model")
    return folder / "tokenizer.model"


TINY = {"touch_asu_firered_tiny": touch_asu_tokenizer, "tiny_aligner": aligner_tokenizer}


def tiny(name: str, folder):
    """A folder of a preset with random weights, whose vocabulary is that of its tokenizer."""
    (folder / "model").mkdir()
    tokenizer, cfg = TINY[name](folder), preset(name)
    rows = open_tokenizer(tokenizer).vocab_size
    # LoRA of random weights at its usual scale, 4, would make a float's rounding 2,000 times as large
    lora = replace(cfg.lora, alpha=float(cfg.lora.rank or 1))
    cfg = replace(cfg, decoder=replace(cfg.decoder, vocab_size=rows), lora=lora)
    model = system_of(cfg.model_type).build(cfg)
    fill(model, seed=4)
    save_folder(folder / "model", model, tokenizer)
    return folder / "model"


def check(folder, target, beams: int = 0) -> None:
    """Exported, compared with the whole pass; the same answers to every request, and their ends."""
    sampling = Sampling(16, beams=beams)
    exported, engine = export_to(target, "--model", str(folder), *SIZES), Engine(folder)
    facts = json.loads((target / "export.json").read_text("utf-8"))
    assert facts["compared"].keys() == {"speech", "prefill", "decode"}
    assert max(facts["compared"].values()) <= 1e-4
    said = set()
    for request in REQUESTS:
        found = exported.answerer.answer(RECORDINGS, requests=[request] * 2, sampling=sampling)
        expected = engine.answer(RECORDINGS, requests=[request] * 2, sampling=sampling)
        for got, want in zip(found, expected, strict=True):
            assert bool(got.error) == bool(want.error), (got.error, want.error)
            if got.error:  # both wrote an id that is no piece, as the vocabulary of a golden model is padded
                assert "is none of the" in got.error and "is none of the" in want.error
                continue
            (got,), (want,) = got.segments, want.segments
            assert (got.raw, got.text, got.cut) == (want.raw, want.text, want.cut)
            said.add(got.raw)
    assert said


HEAVY = pytest.param("touch_asu_firered_tiny", marks=pytest.mark.slow)  # minutes of compilation


@pytest.mark.parametrize("name", [HEAVY, "tiny_aligner"])
def test_answers_are_the_engine_s(name, tmp_path):
    check(tiny(name, tmp_path), tmp_path / "deploy")


@pytest.mark.slow
def test_a_touch_asu_with_a_whisper_encoder(shared, tmp_path):
    golden = shared / "golden" / "touch_asu"
    convert(golden / "checkpoint-1", tmp_path / "model", tokenizer=golden / "llm")
    check(tmp_path / "model", tmp_path / "deploy")


@pytest.mark.slow
def test_osum_with_qwen2(shared, tmp_path):
    """Greedy, as an export has no beams; without openings, as its answers have no tags."""
    folder = qwen2.converted(shared / "golden" / "osum_qwen2", tmp_path)
    check(folder, tmp_path / "deploy", beams=1)


def test_the_words_of_every_task_fit_without_a_request(tmp_path):
    """A linear aligner whose export has room for one token of a request still transcribes and translates."""
    tokenizer, cfg = open_tokenizer(aligner_tokenizer(tmp_path)), preset("tiny_aligner")
    system = system_of(cfg.model_type)
    exports, template = system.export(), system.template(cfg)
    sizes = exports.sizes_for(cfg, tokenizer, template, 2.0, 1, 10, 1)
    speech, prompts = cfg.tokens(sizes.frames), system.prompts(cfg, tokenizer)
    asked = [make_request("asr"), make_request("asr", translate=True), make_request("sttc")]
    lengths = [len(prompts.prompt(request, speech)) for request in asked]
    assert max(lengths) == sizes.prompt
    words = "识别" * 30
    sizes = exports.sizes_for(cfg, tokenizer, template, 2.0, len(tokenizer.encode(words)) + 1, 10, 1)
    assert len(prompts.prompt(Request(words, "text", "<TRANSCRIBE>"), speech)) <= sizes.prompt
    assert load_layout(cfg.prompts).requests.keys() == {"asr", "st", "qa"}


def test_a_window_that_no_token_divides_stays_whole(tmp_path):
    """Recordings padded to 30 s, averaged by 7 frames: the last token is of fewer."""
    cfg = preset("tiny_aligner")
    cfg = replace(
        cfg,
        encoder=replace(cfg.encoder, pad_to_seconds=30.0),
        adapter=replace(cfg.adapter, frames_per_token=7),
    )
    system, tokenizer = system_of(cfg.model_type), open_tokenizer(aligner_tokenizer(tmp_path))
    sizes = system.export().sizes_for(cfg, tokenizer, system.template(cfg), 2.0, 8, 10, 1)
    assert (sizes.frames, cfg.tokens(3000), cfg.tokens(sizes.frames)) == (3010, 215, 215)
    assert sizes.frames <= cfg.most_frames
    with pytest.raises(UserError, match="positions .* the model has 1024; lower --seconds"):
        system.export().sizes_for(cfg, tokenizer, system.template(cfg), 2.0, 8, 900, 1)


def test_a_touch_asu_ends_an_answer_with_any_of_its_tokens():
    cfg = preset("touch_asu_tiny")
    exports = system_of(cfg.model_type).export()
    assert exports.eos_ids(cfg) == (599, 597) and exports.settings(cfg, Sampling()).repetition_penalty == 1.0
    assert read_config(BUNDLED).decoder.eos_id in system_of("osum").export().eos_ids(read_config(BUNDLED))
