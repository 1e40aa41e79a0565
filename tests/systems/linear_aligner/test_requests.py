"""What a linear aligner is asked: the prompts of the paper's Figure 2 and of ChatML, and refusals."""

from dataclasses import replace

import pytest

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.requests import request_of
from mindspore_osum.inference.conversation import Exchange
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.systems.linear_aligner.template import load_layout
from mindspore_osum.systems.registry import preset, system_of
from mindspore_osum.tasks import TEXT2TEXT

SYSTEM = system_of("linear_aligner")


class Letters:
    """A tokenizer with an id for each character."""

    path, bos_id, eos_id = "letters", None, 1

    def encode(self, text, bos=False, plain=()):
        return [ord(c) for c in text]

    def decode(self, ids, skip_special=True):
        return "".join(map(chr, ids))


def spelled(request, prompts="yi", speech=3) -> str:
    """The prompt as text, a speech token as *."""
    cfg = replace(preset("tiny_aligner"), prompts=prompts)
    made = SYSTEM.prompts(cfg, Letters())
    SYSTEM.check_request(request, cfg)
    prompt = made.prompt(request, speech if made.hears(request) else None)
    return "".join("*" if i == -1 else chr(i) for i in prompt.sequence.ids_L)


CASES = {
    "asr": (
        make_request("asr"),
        "<|Human|><|startofaudio|>***<|endofaudio|><|asr|>识别出音频内容\n<|Assistant|>",
    ),
    "st": (
        make_request("asr", translate=True),
        "<|Human|><|startofaudio|>***<|endofaudio|><|st|>翻译音频内容为英文\n<|Assistant|>",
    ),
    "qa": (
        make_request("sttc"),
        "<|Human|><|startofaudio|>***<|endofaudio|><|qa|>回答音频问题\n<|Assistant|>",
    ),
    "words": (
        make_request(instruction="谁?"),
        "<|Human|><|startofaudio|>***<|endofaudio|><|qa|>谁?\n<|Assistant|>",
    ),
    "qa in words": (
        Request("谁?", "text", "<S2TCHAT>"),
        "<|Human|><|startofaudio|>***<|endofaudio|><|qa|>谁?\n<|Assistant|>",
    ),
    "asr in words": (
        Request("写", "text", "<TRANSCRIBE>"),
        "<|Human|><|startofaudio|>***<|endofaudio|><|asr|>写\n<|Assistant|>",
    ),
    "text": (
        Request("创造一个标题。", "text2text", TEXT2TEXT),
        "<|Human|><|startofaudio|><|endofaudio|><|text|>创造一个标题。\n<|Assistant|>",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_prompts_of_the_paper(name):
    request, want = CASES[name]
    assert spelled(request) == want


def test_chat_ml_with_a_turn_before():
    request = Request("Who?", "text2text", None, history=(Exchange("s2t_chat", None, "It is cold."),))
    assert spelled(request, "chatml") == (
        "<|im_start|>user\n***\nAnswer the question in the speech.<|im_end|>\n<|im_start|>assistant\n"
        "It is cold.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    "request_, message",
    [
        (make_request("sgc"), "<TRANSCRIBE> <GENDER>: a linear aligner has the tasks asr, sttc"),
        (make_request("sttc", translate=True), "translate: it goes with the task asr"),
        (make_request("asr", language="en"), "language: a model of linear_aligner has no such setting"),
        (make_request("asr", hotwords="Yi"), "hotwords: a model of linear_aligner has no place for them"),
    ],
)
def test_what_it_cannot_be_asked(request_, message):
    with pytest.raises(UserError, match=message) as caught:
        spelled(request_)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("left: a", "missing right, assistant"),
        (
            "{left: a, right: b, assistant: c, turn_end: d, end: true, tags: {}, requests: {}}",
            "tags: missing asr",
        ),
        (
            "{left: a, right: b, assistant: c, turn_end: d, end: true, requests: {asr: a, st: b, qa: c},"
            " tags: {asr: 1, st: b, qa: c, text: d}}",
            "tags: asr: expected a text in quotes, not 1",
        ),
    ],
)
def test_a_prompt_set_of_a_user(tmp_path, text, message):
    path = tmp_path / "own.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(UserError, match=message):
        load_layout(str(path))
    with pytest.raises(UserError, match="prompt set 'yii': no such set; did you mean 'yi'"):
        load_layout("yii")


def test_an_evaluation_asks_for_a_translation():
    """As transcription with `translate`; in natural language only in the manifest's own words."""
    line = Utterance("a", "a.wav", "good morning", "<TRANSLATE>")
    own = replace(line, extra={"request": "译成英文"})
    assert request_of(line, "fixed", None) == make_request("asr", translate=True)
    assert request_of(line, "natural", None) is None and request_of(line, "natural", {}) is None
    request = request_of(own, "natural", None)
    assert spelled(request).endswith("<|st|>译成英文\n<|Assistant|>")
    with pytest.raises(UserError, match="translate: a model of osum has no such setting"):
        system_of("osum").check_request(request, preset("tiny"))
