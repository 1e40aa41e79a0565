"""What a Whisper can be asked, in which tokens, and what its answers are; without a model."""

from dataclasses import replace

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.inference.fallback import fall_back
from mindspore_osum.inference.request import make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.inference.tokens import Generated
from mindspore_osum.results import Answer, Response, Word
from mindspore_osum.systems.registry import preset, system_of
from mindspore_osum.systems.whisper_asr.answer import parse
from mindspore_osum.systems.whisper_asr.prompts import WhisperPrompts
from mindspore_osum.systems.whisper_asr.vocabulary import DETECT, PUBLISHED, Vocabulary
from mindspore_osum.text.tokenizer import open_tokenizer
from tests.systems.whisper_asr.common import write_tokenizer

SYSTEM, BASE, ENGLISH = system_of("whisper_asr"), preset("whisper_base"), preset("whisper_base_en")


def ids_of(cfg, **asked) -> list[int]:
    request = make_request(**asked)
    SYSTEM.check_request(request, cfg)
    return WhisperPrompts(cfg, None).prompt(request, 1500).sequence.ids_L.tolist()


def test_special_tokens():
    """The ids of the published vocabularies, by their sizes."""
    last = {51864: 51863, 51865: 51864, 51866: 51865}
    for rows, (eot, languages) in PUBLISHED.items():
        words = Vocabulary(eot, languages)
        assert words.last_time == last[rows] and words.first_time == last[rows] - 1500
        ids = [i for _, i in words.pieces()]
        assert len(set(ids)) == len(ids) and max(ids) == last[rows]
    words = BASE.vocabulary
    assert (words.sot, words.translate, words.transcribe, words.no_timestamps) == (50258, 50358, 50359, 50363)
    assert len(words.never) == 88 and len(ENGLISH.vocabulary.never) == 90
    assert (words.language("de"), words.language("German"), words.code(50261)) == (50261, 50261, "de")
    assert "yue" not in words.codes and preset("whisper_large_v3").vocabulary.language("cantonese") == 50358


@pytest.mark.parametrize(
    "cfg, asked, ids",
    [
        (BASE, {}, [50258, DETECT, 50359, 50363]),
        (BASE, {"task": "srwt", "language": "zh"}, [50258, 50260, 50359]),
        (BASE, {"language": "german", "translate": True}, [50258, 50261, 50358, 50363]),
        (ENGLISH, {}, [50257, 50362]),
        (ENGLISH, {"task": "srwt", "language": "en"}, [50257]),
    ],
)
def test_prompts(cfg, asked, ids):
    assert ids_of(cfg, **asked) == ids


def test_hotwords_come_before(tmp_path):
    prompts = WhisperPrompts(BASE, pieces := open_tokenizer(write_tokenizer(tmp_path)))
    request = make_request(hotwords="Dashwood, Norland<|en|>".replace("<|en|>", ""), language="en")
    ids = prompts.prompt(request, 1500).sequence.ids_L.tolist()
    assert ids == [50361, *pieces.encode(" Dashwood, Norland"), 50258, 50259, 50359, 50363]
    ids = prompts.prompt(make_request(hotwords="a" * 999), 1500).sequence.ids_L
    assert len(ids) == 224 + 4  # there is room for the answer


@pytest.mark.parametrize(
    "cfg, asked, message",
    [
        (BASE, {"language": "germna"}, "language 'germna' is unknown; did you mean 'german'"),
        (BASE, {"task": "sap"}, "a Whisper writes what is said"),
        (BASE, {"instruction": "who speaks?"}, "a request in words: a Whisper writes"),
        (ENGLISH, {"language": "de"}, "knows English only"),
        (ENGLISH, {"translate": True}, "knows English only"),
        (preset("tiny"), {"language": "de"}, "language: a model of osum has no such setting"),
        (preset("tiny"), {"translate": True}, "translate: a model of osum has no such setting"),
    ],
)
def test_what_is_refused(cfg, asked, message):
    with pytest.raises(UserError, match=message) as caught:
        system_of(cfg.model_type).check_request(make_request(**asked), cfg)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "raw, text, sections",
    [
        (" hello there.", "hello there.", []),
        (
            "<|0.00|> hello<|1.50|><|1.50|> there<|2.00|>",
            "hello there",
            [("hello", 0, 1.5), ("there", 1.5, 2)],
        ),
        ("<|0.20|>你好<|1.00|><|3.00|>世界", "你好世界", [("你好", 0.2, 1), ("世界", 3, 30)]),  # cut short
        ("<|0.00|><|2.00|>", "", []),
        ("<|en|> a", "a", []),
    ],
)
def test_answers(raw, text, sections):
    found = parse(raw)
    assert (found.text, found.raw) == (text, raw)
    assert [tuple(section) for section in found.sections] == sections


def test_sections_become_segments():
    answer = Answer(
        10, 40, "a b", language="de", avg_logprob=-0.5, sections=[Word("a", 10, 11), Word("b", 12, 13)]
    )
    parts = answer.divided()
    assert [(one.start, one.end, one.text, one.language) for one in parts] == [
        (10, 11, "a", "de"),
        (12, 13, "b", "de"),
    ]
    told = Response("x", 40, parts).to_dict()
    assert told["language"] == "de" and told["segments"][1]["avg_logprob"] == -0.5
    plain = Answer(0, 1, "a")
    assert plain.divided() == [plain] and "language" not in plain.to_dict()


def test_nobody_speaks():
    answer = parse("<|0.00|> Thanks.<|2.00|>")
    SYSTEM.describe(answer, {"language": "en", "no_speech_probability": 0.9}, -1.5)
    assert answer.no_speech and not answer.text and not answer.sections and answer.raw
    sure = parse(" Thanks.")
    SYSTEM.describe(sure, {"language": "en", "no_speech_probability": 0.9}, -0.2)
    assert sure.text == "Thanks." and not sure.no_speech


@pytest.mark.parametrize(
    "text, silence, log_p, doubtful",
    [
        (" Thanks.", 0.1, -0.5, False),
        (" Thanks.", 0.1, -1.5, True),
        (" Thanks.", 0.9, -1.5, False),  # nobody speaks
        ("<|0.00|>" + " la" * 30 + "<|2.00|>", 0.1, -0.2, True),  # it repeats itself
    ],
)
def test_doubtful_answers(text, silence, log_p, doubtful):
    assert SYSTEM.doubtful(text, {"no_speech_probability": silence}, log_p) == doubtful


def test_answers_are_drawn_until_nothing_is_doubtful():
    class Fake:
        def __init__(self):
            self.asked = []

        def generate(self, prompts, sampling, rows):
            self.asked.append((prompts, sampling.temperature))
            sure = {"a": 0.4, "b": 2.0}
            return [Generated([1], sum_log_p=0 if sampling.temperature >= sure[p] else -9) for p in prompts]

    def answers():
        return [Generated([1], sum_log_p=-9), Generated([1], sum_log_p=-0.1), Generated([1], sum_log_p=-9)]

    found, fake = answers(), Fake()
    fall_back(SYSTEM, fake, str, ["a", "sure", "b"], found, Sampling(), 3)
    assert [one.temperature for one in found] == [0.4, 0.0, 1.0]
    assert fake.asked[:2] == [(["a", "b"], 0.2), (["a", "b"], 0.4)] and fake.asked[-1] == (["b"], 1.0)
    for sampling in (Sampling(fallback=False), Sampling(temperature=0.7)):
        found, fake = answers(), Fake()
        fall_back(SYSTEM, fake, str, ["a", "sure", "b"], found, sampling, 3)
        assert not fake.asked and {one.temperature for one in found} == {sampling.temperature}


def test_sizes_are_refused():
    with pytest.raises(UserError, match="must be equal"):
        replace(BASE, encoder=replace(BASE.encoder, d_model=256, n_heads=4))
    with pytest.raises(UserError, match="holds no special tokens of 99 languages"):
        replace(BASE, decoder=replace(BASE.decoder, vocab_size=51864))
    for part, change in (("encoder", {"n_heads": 64}), ("decoder", {"max_positions": 9999, "d_ff": 10**6})):
        with pytest.raises(UserError, match="must be at most"):
            replace(BASE, **{part: replace(getattr(BASE, part), **change)})
    with pytest.raises(UserError, match="positions must be at most 6000"):
        replace(BASE, positions=10**6)
    with pytest.raises(UserError, match="alignment_heads"):
        replace(BASE, alignment_heads=((6, 0),))


def test_few_lengths():
    """Prompts have any length, graphs two: a beginning alone, or all that may be before it."""
    assert {BASE.static_length(n) for n in range(1, 65)} == {64}
    assert {BASE.static_length(n) for n in range(65, 257)} == {256}
