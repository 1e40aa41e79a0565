"""A linear aligner of real parts: whisper-base and SmolLM2-135M-Instruct, on human recordings.

pytest -m slow -s tests/systems/linear_aligner/test_real.py      two minutes; it prints what it measured
"""

import json

import pytest

from ckpt_convert.convert import convert
from ckpt_convert.settle import Settings
from mindspore_osum.inference.request import Request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.tasks import TEXT2TEXT

torch = pytest.importorskip("torch", reason="needs PyTorch to compare with")
pytestmark = pytest.mark.slow

QUESTIONS = ("What is the capital of France?", "Name three colours.", "How many days has a week?")


@pytest.fixture(scope="module")
def parts(real_part, tmp_path_factory):
    """The parts joined; the layer between them is random."""
    folder = tmp_path_factory.mktemp("real") / "parts"
    settings = Settings(
        preset="smollm2_aligner", overrides={"encoder": {"pad_to_seconds": 0.0}, "dtype": "float32"}
    )
    encoder, decoder = real_part("whisper-base"), real_part("SmolLM2-135M-Instruct")
    convert(None, folder, encoder=encoder, decoder=decoder, settings=settings)
    return folder


def test_typed_questions_are_answered_as_by_transformers(parts, real_part):
    """The prompts are those of ChatML, and the decoder's tokens those of SmolLM2, greedy."""
    from transformers import AutoModelForCausalLM

    from mindspore_osum.inference.engine import Engine

    engine = Engine(parts)
    model = AutoModelForCausalLM.from_pretrained(real_part("SmolLM2-135M-Instruct"), dtype=torch.float32)
    prompts = [engine.prompts.prompt(Request(q, "text2text", TEXT2TEXT), None) for q in QUESTIONS]
    answers = engine.generator.generate(prompts, Sampling(max_new_tokens=24, repetition_penalty=1.0))
    for question, prompt, answer in zip(QUESTIONS, prompts, answers, strict=True):
        ids = torch.tensor([prompt.sequence.ids_L.tolist()])
        want = model.generate(ids, max_new_tokens=24, do_sample=False, repetition_penalty=1.0)[
            0, ids.shape[1] :
        ]
        want = [i for i in want.tolist() if i not in engine.generator.eos_ids]
        assert answer.tokens[: len(want)] == want, question
        print(question, "->", engine.tokenizer.decode(answer.tokens))


def test_the_closed_form_finds_words_again(parts, real_part, tmp_path):
    """Far more often than by chance in recordings that were held out."""
    from mindspore_osum.training.ridge import fit_aligner

    home, lines = real_part("recordings"), []
    for line in (home / "asterisk_dev.jsonl").read_text("utf-8").splitlines()[:60]:
        values = json.loads(line)
        lines.append(json.dumps(values | {"wav": str(home / values["wav"])}))
    (tmp_path / "some.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    fit = fit_aligner(parts, tmp_path / "start", [str(tmp_path / "some.jsonl")])
    print(
        f"{fit.nearest:.1%} of {fit.held_out} words nearest of {fit.different}, {fit.among_five:.1%} of five"
    )
    assert fit.different > 150 and fit.nearest > 0.4 and fit.among_five > fit.nearest
