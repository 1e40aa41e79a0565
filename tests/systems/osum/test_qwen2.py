"""OSUM with Qwen2: its requests in five wordings, labels without tags, and how its tasks are asked for."""

import hashlib
import json
from types import SimpleNamespace

import pytest

from mindspore_osum.config import from_dict, merge
from mindspore_osum.data.batches.corpus import Corpus
from mindspore_osum.data.batches.loader import Loader
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.inference.conversation import Exchange
from mindspore_osum.inference.passes import plan
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.systems.osum.extractor import OsumExtractor
from mindspore_osum.systems.osum.label_scores import LabelScorer
from mindspore_osum.systems.osum.system import SYSTEM
from mindspore_osum.systems.osum.template import load_template
from mindspore_osum.systems.osum.texts import Texts
from mindspore_osum.systems.prompt import Prompts
from mindspore_osum.systems.registry import preset
from mindspore_osum.tasks import TASKS
from mindspore_osum.text.tokenizer import open_tokenizer
from tests.systems.whisper_asr.common import write_tokenizer
from tests.training.tones import make_world, random_words, shape

CFG = preset("osum_qwen2_tiny")
TEMPLATE = load_template("osum_qwen2")
HASHES = {  # first 16 digits of the published wordings' SHA-256, joined by newlines
    "<TRANSCRIBE>": "399813707755b87b",
    "<TRANSCRIBE> <ALIGN>": "e100c38eee155122",
    "<TRANSCRIBE> <S2TCHAT>": "f5bc70f913162a21",
    "<TRANSCRIBE> <EMOTION>": "58eb4767beec1983",
    "<TRANSCRIBE> <STYLE>": "e5dc6441fc5d7623",
    "<TRANSCRIBE> <CAPTION>": "b5270ae195d9bbe7",
    "<TRANSCRIBE> <GENDER>": "7fe54b1044b759bf",
    "<TRANSCRIBE> <AGE>": "e23679f605aa526b",
    "<TRANSCRIBE> <AGE> <GENDER>": "527d860b79b0f6f9",
    "<AGE> <GENDER>": "796218b5512cea09",
    "<TRANSCRIBE> <STYLE> <AGE> <GENDER>": "0df0a8991b3a2f66",
    "<STYLE> <AGE> <GENDER>": "2df080844c81fe44",
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return open_tokenizer(write_tokenizer(tmp_path_factory.mktemp("bytes"), 256))


def utt(task, txt="Hello", **extra):
    return Utterance("k", "a.wav", txt, task, extra, where="m:1")


def test_a_checkpoint_without_preset_is_told_which_one_it_needs():
    released, other = preset("osum_qwen2_7b"), preset("osum_pangu_7b")
    given = {"decoder": {"n_heads": 28}}
    _, needs = SYSTEM.infer(SYSTEM.shapes(released), other, given, "osum_pangu_7b")
    assert any(line.endswith("; --preset osum_qwen2_7b has these sizes") for line in needs)
    found, needs = SYSTEM.infer(SYSTEM.shapes(released), released, {}, "")
    assert not needs and from_dict(type(CFG), merge(released.to_dict(), found), "found") == released


def test_the_wordings_are_the_published_ones():
    joined = {key: "\n".join(wordings) for key, wordings in TEMPLATE.requests.items()}
    assert {key: hashlib.sha256(text.encode()).hexdigest()[:16] for key, text in joined.items()} == HASHES
    assert {len(wordings) for wordings in TEMPLATE.requests.values()} == {5}


@pytest.mark.parametrize(
    "task, txt, label",
    [
        ("<TRANSCRIBE>", "Turn on the LIGHT", "turn on the light"),
        ("<TRANSCRIBE> <EMOTION>", "你 好 World <HAPPY>", "你好world<happy>"),  # as process_text is recorded
        ("<TRANSCRIBE> <STYLE>", "Hi <小说>", "hi<有声书>"),
        ("<TRANSCRIBE> <ALIGN>", "<0.21>Good<0.47> <0.46>day<0.60>", "<0.21>good<0.47><0.46>day<0.60>"),
        ("<AGE> <GENDER>", "<ADULT><MALE>", "<adult><male>"),
        ("<TRANSCRIBE> <S2TCHAT>", "How are you <开始回答> Fine", "how are you<开始回答>fine"),
    ],
)
def test_labels_have_no_tags_and_are_in_lower_case(tokenizer, task, txt, label):
    texts = Texts(tokenizer, TEMPLATE, "tag")
    one = utt(task, txt)
    assert texts.label(one) == label and texts.answer(one) == [("content", label)]
    wordings = texts.requests(one)
    assert wordings == list(TEMPLATE.requests[task])
    ids = texts.sequence(one, wordings[3], 2).ids_L.tolist()
    assert ids == [*tokenizer.encode(wordings[3]), -2, -1, -1, -3, *tokenizer.encode(label), tokenizer.eos_id]


def test_sentences_beside_the_wordings_have_the_same_share(tokenizer):
    found = Texts(tokenizer, TEMPLATE, "both").requests(utt("<TRANSCRIBE>"))
    ours = [request for request in found if request in TEMPLATE.requests["<TRANSCRIBE>"]]
    assert len(ours) == pytest.approx(len(found) / 2, rel=0.01)
    assert len({ours.count(one) for one in TEMPLATE.requests["<TRANSCRIBE>"]}) == 1


@pytest.mark.parametrize(
    "one, message",
    [
        (utt("<EMOTION>", "<HAPPY>"), "m:1: task <EMOTION>: the model's prompt set has no request for it"),
        (utt("<S2TCHAT>", "fine"), "m:1: task <S2TCHAT>: the model's prompt set"),
        (Utterance("k", None, "hi", "<TEXT2TEXT>", {"question": "?"}, where="m:1"), "for recordings alone"),
    ],
)
def test_what_it_cannot_be_trained_on(tokenizer, one, message):
    with pytest.raises(UserError, match=message):
        OsumExtractor(CFG, Texts(tokenizer, TEMPLATE, "tag")).scan(one)


def test_every_wording_is_drawn(tokenizer, tmp_path):
    world = make_world(tmp_path, random_words(4))
    made = OsumExtractor(CFG, Texts(tokenizer, TEMPLATE, "tag"))
    loader = Loader(Corpus([("w", world / "words.jsonl", 1.0)], made, [shape(4, 64, 120)]), seed=1)
    drawn = set()
    for step in range(12):
        batch = loader.micro_batch(step, 0)
        for ids_L, row_L in zip(batch["token_ids_BL"], batch["speech_row_BL"], strict=True):
            drawn.add(tokenizer.decode(ids_L[: row_L.tolist().index(0)].tolist()))
    assert drawn == set(TEMPLATE.requests["<TRANSCRIBE>"])


@pytest.mark.parametrize(
    "task, key, number",
    [
        ("asr", "<TRANSCRIBE>", 4),
        ("sttc", "<TRANSCRIBE> <S2TCHAT>", 0),
        ("ser", "<TRANSCRIBE> <EMOTION>", 2),
        ("<EMOTION>", "<TRANSCRIBE> <EMOTION>", 2),
        ("<AGE> <GENDER>", "<AGE> <GENDER>", 0),
    ],
)
def test_a_task_is_asked_in_the_demo_s_words(tokenizer, task, key, number):
    request = SYSTEM.asked(make_request(task), CFG)
    assert (request.task, request.output_type) == (key, "text")
    assert request.words == TEMPLATE.requests[key][number]
    assert SYSTEM.asked(request, CFG) == request
    prompt = Prompts(SYSTEM, CFG, tokenizer).prompt(request, 2)
    assert prompt.sequence.ids_L.tolist() == [*tokenizer.encode(request.words), -2, -1, -1, -3]
    assert not prompt.opening and not prompt.denied  # answers begin with the transcript


def test_what_is_asked_in_words_stays_as_it_is():
    own = Request("how old?", "text", "<TRANSCRIBE> <AGE>")
    assert SYSTEM.asked(own, CFG) == own and SYSTEM.asked(make_request(instruction="x"), CFG).words == "x"
    assert SYSTEM.asked(make_request("sttc"), preset("tiny")) == make_request("sttc")  # of OSUM-Pangu
    other = "<TRANSCRIBE> <CAPTION> <AGE> <GENDER>"
    with pytest.raises(UserError, match=f"task {other}: this model was trained for"):
        SYSTEM.asked(make_request(other), CFG)


def test_it_has_no_form_for_words_alone_and_further_turns():
    written = Request("capital of France?", "text2text", "<TEXT2TEXT>")
    after = Request("and now?", "text", None, history=(Exchange("s2t_chat", None, "hi"),))
    for request in (written, after):
        with pytest.raises(UserError, match="trained for one request about one recording"):
            SYSTEM.asked(request, CFG)
        assert SYSTEM.asked(request, preset("tiny")) == request


def test_all_tasks_take_five_passes():
    """Of plan's three for OSUM-Pangu, that of the five labels is asked in three."""
    passes = [one for request in plan(list(TASKS)) for one in SYSTEM.passes(request, CFG)]
    assert [SYSTEM.asked(one, CFG).task for one in passes] == [
        "<TRANSCRIBE> <STYLE> <AGE> <GENDER>",
        "<TRANSCRIBE> <EMOTION>",
        "<TRANSCRIBE> <CAPTION>",
        "<TRANSCRIBE> <S2TCHAT>",
        "<TRANSCRIBE> <ALIGN>",
    ]
    assert SYSTEM.passes(plan(list(TASKS))[0], preset("tiny")) == plan(list(TASKS))[:1]


def test_answers_are_read_without_tags():
    answer = SYSTEM.answer("how are you<开始回答>fine", "<TRANSCRIBE> <S2TCHAT>")
    assert (answer.text, answer.answer, answer.tags) == ("how are you", "fine", [])
    answer = SYSTEM.answer("how are", "<TRANSCRIBE> <S2TCHAT>")  # truncated before the mark
    assert (answer.text, answer.answer) == ("how are", None)
    answer = SYSTEM.answer("你好<adult><male>", "<TRANSCRIBE> <AGE> <GENDER>")
    assert (answer.text, answer.labels) == ("你好", {"age": "ADULT", "gender": "MALE"})
    assert SYSTEM.other_task("<TRANSCRIBE> <AGE> <GENDER>", answer, CFG) == ""
    assert "the answer is of no task" in SYSTEM.other_task("sap", answer, preset("tiny"))


def test_missing_labels_are_decided_after_the_transcript_alone():
    class Recorded(LabelScorer):
        def __init__(self, cfg):
            self.model, self.seen = SimpleNamespace(cfg=cfg), []

        def _of_set(self, prompt, before, texts, labels):
            self.seen.append((before, texts[0]))
            return {value: float(n == 1) for n, value in enumerate(labels.values)}

    key = "<TRANSCRIBE> <AGE> <GENDER>"
    ours, pangu = Recorded(CFG), Recorded(preset("tiny"))
    for scorer in (ours, pangu):
        assert scorer.decide(None, key, "hi", {})["age"]["ADULT"] == 1
    assert ours.seen == [("hi", "<child>"), ("hi<adult>", "<male>")]
    assert pangu.seen[0] == ("<asr><age><gender>hi", "<CHILD>")


FORMS = {"text": ["request", "audio", "answer"]}
SET = {"forms": FORMS, "tags": False, "requests": {"<TRANSCRIBE>": ["a", "b"]}}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"tags": 1}, "tags: expected true or false, found 1"),
        ({"forms": {"txt": []}}, "forms: unknown key 'txt'; did you mean 'text'"),
        ({"forms": 3}, "forms: expected the keys text"),
        ({"requests": {"<TRANSCRIBE>": []}}, "requests: <TRANSCRIBE>: expected a list of texts"),
        ({"requests": {"<TRANSCRIB>": ["a"]}}, "requests: unknown key '<TRANSCRIB>'; did you mean"),
        ({"asked": {"<TRANSCRIBE>": 3}}, "asked: <TRANSCRIBE>: expected 1 to 2, found 3"),
        ({"asked": {"<AGE>": 1}}, "asked: unknown key '<AGE>'"),
        ({"left": {}}, "unknown key 'left'"),
    ],
)
def test_bad_sets_of_a_user(tmp_path, change, message):
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(SET | change), "utf-8")
    with pytest.raises(UserError, match=message) as error:
        load_template(str(path))
    assert "\n" not in str(error.value)
    path.write_text(json.dumps(SET), "utf-8")
    assert load_template(str(path)).wording("<TRANSCRIBE>") == "a"
