"""OSUM's sequences: their parts in order, against the published code and as they were before.

`sequences.json` holds digests of the arrays by prompt set, output type and what is learned; "packed" is one
row with all four, an empty one and one whose tags are not learned.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mindspore_osum.data.batches.columns import Axis, stack
from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED, TOKENIZER
from mindspore_osum.systems.osum.extractor import COLUMNS
from mindspore_osum.systems.osum.template import load_template, prompt_sets
from mindspore_osum.tasks import format_answer
from mindspore_osum.text.template import AUDIO, Turn
from mindspore_osum.text.tokenizer import open_tokenizer

FORMS = ["text", "s2t_chat", "text2text", "intent_classification"]
TEXT = "<asr>hello 你好"
ANSWERS = {
    "none": None,
    "content": [("content", TEXT)],
    "both": [("intent", "<asr>"), ("content", TEXT.removeprefix("<asr>"))],
    "intent": [("intent", "<asr><age>")],
}


@pytest.fixture(scope="module")
def bundled():
    return open_tokenizer(BUNDLED / TOKENIZER)


@pytest.fixture(scope="module")
def golden(shared):
    config = json.loads((shared / "golden/config.json").read_text("utf-8"))
    with np.load(shared / "golden/golden_wav1.npz") as npz:
        arrays = {k: npz[k][0] for k in npz if k.endswith(("_ids", "_labels", "train_attention_mask"))}
        n_speech = npz["speech_embeds"].shape[1]
    return config, arrays, n_speech, open_tokenizer(shared / "golden/tokenizer.model")


def digest(arrays) -> str:
    return hashlib.sha256(b"".join(np.asarray(a, np.int32).tobytes() for a in arrays)).hexdigest()[:16]


def packed(rows) -> dict[str, np.ndarray]:
    """The text columns of rows of sequences, three positions longer than the first; 7 speech tokens each."""
    length, places = sum(map(len, rows[0])) + 3, []
    starts = {"tokens": [], "speech": [], "sequences": []}
    for b, row in enumerate(rows):
        for i, sequence in enumerate(row):
            starts["tokens"].append(b * length + sum(map(len, row[:i])))
            starts["speech"].append(7 * len(places))
            starts["sequences"].append(i)
            places.append(sequence.columns)
    lengths = {"tokens": length, "speech": 7, "sequences": 4}
    axes = {name: Axis(len(rows), lengths[name], starts[name]) for name in starts}
    columns = [column for column in COLUMNS if column.name in places[0]]
    return stack(columns, places, axes, {}, packed=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["osum_pangu", "osum_pangu_published_inference", "compact"])
def test_arrays_are_what_they_were(bundled, name, form):
    recorded = json.loads(Path(__file__).with_name("sequences.json").read_text("utf-8"))
    template, found = load_template(name), {}

    def sequence(answer):
        speech = 5 if AUDIO in template.needs(form) else None
        return template.sequence(bundled, Turn(form, {"request": "how old is she?"}, speech, answer))

    rows = {case: sequence(answer) for case, answer in ANSWERS.items()}
    for case, s in rows.items():
        found[case] = [len(s), digest((s.ids_L, s.labels_L, np.arange(len(s)), s.spans_L))]
    content_only = sequence([("", ANSWERS["both"][0][1]), ANSWERS["both"][1]])
    batch = packed([list(rows.values()), [rows["none"]], [], [content_only]])
    found["packed"] = [batch["token_ids_BL"].shape[1] - 3, digest(batch[key] for key in sorted(batch))]
    assert found == {case: recorded[f"{name} {form} {case}"] for case in found}


def test_golden_training_sequence(golden):
    config, arrays, n_speech, tokenizer = golden
    sample, words = config["samples"]["wav1"], config["instructions"]["wav1"]
    label = format_answer(sample["task"], text=sample["raw_txt"])
    turn = Turn(sample["output_type"], {"request": words}, n_speech, [("content", label)])
    seq = load_template("osum_pangu").sequence(tokenizer, turn)
    np.testing.assert_array_equal(seq.ids_L, arrays["train_input_ids"])
    np.testing.assert_array_equal(seq.labels_L, arrays["train_labels"])
    assert tokenizer.encode(words) == sample["prompt_token_ids"]
    assert seq.labels_L[seq.labels_L >= 0].tolist() == sample["label_token_ids"]
    columns = seq.columns
    np.testing.assert_array_equal(columns["positions_BL"], arrays["train_position_ids"])
    np.testing.assert_array_equal(columns["segments_BL"], arrays["train_attention_mask"])


def test_golden_inference_sequences(golden):
    config, arrays, n_speech, tokenizer = golden
    template = load_template("osum_pangu_published_inference")
    words = {"request": config["instructions"]["wav1"]}
    for form, name in (("text", "gen"), ("s2t_chat", "chat")):
        seq = template.sequence(tokenizer, Turn(form, words, n_speech))
        np.testing.assert_array_equal(seq.ids_L, arrays[f"{name}_input_ids"])


def test_training_form(bundled):
    template = load_template("compact")
    request, label = bundled.encode("how old"), bundled.encode("<asr>hello")
    turn = Turn("text", {"request": "how old"}, 3, [("content", "<asr>hello")])
    seq = template.sequence(bundled, turn)
    context = [1, *request, -2, -1, -1, -1, -3, 1, *bundled.encode("[unused9]")]
    assert seq.ids_L.tolist() == [*context, *label, bundled.eos_id]
    assert seq.labels_L.tolist() == [-100] * len(context) + [*label, bundled.eos_id]
    assert seq.n_speech == 3
    assert {a.dtype for a in (seq.ids_L, seq.labels_L, seq.spans_L)} == {np.dtype("int32")}
    # without an answer it is the context alone
    np.testing.assert_array_equal(template.sequence(bundled, Turn("text", turn.words, 3)).ids_L, context)


def test_text_only_and_chat_forms(bundled):
    template, words = load_template("compact"), {"request": "how old"}
    sep = bundled.encode("[unused9]")
    for form in ("text2text", "intent_classification"):
        seq = template.sequence(bundled, Turn(form, words))
        assert seq.ids_L.tolist() == [1, *bundled.encode("how old"), 1, *sep] and seq.n_speech == 0
    chat = template.sequence(bundled, Turn("s2t_chat", words, 1))  # the request is left aside
    assert chat.ids_L.tolist() == [1, -2, -1, -3, 1, *sep]


@pytest.mark.parametrize("name", ["compact", "osum_pangu", "osum_pangu_published_inference"])
def test_around_is_what_the_fixed_texts_take(bundled, name):
    template = load_template(name)
    for form in FORMS:
        texts = template.texts["left"][form], template.texts["assistant"]
        assert template.around(bundled, form) == sum(len(bundled.encode(t, bos=True)) for t in texts)


def test_golden_training_prompts(golden):
    texts, prompts = load_template("osum_pangu").texts, golden[0]["prompts"]
    assert texts["left"] == {form: prompts[f"train_{form}"] for form in FORMS}
    assert texts["assistant"] == prompts["assistant_part"]


def test_golden_inference_prompts(golden):
    texts, prompts = load_template("osum_pangu_published_inference").texts, golden[0]["prompts"]
    assert texts["left"] == {
        "text": prompts["infer_generate"],
        "s2t_chat": prompts["infer_generate4chat"],
        "text2text": prompts["infer_generate_text2text"],
        "intent_classification": prompts["infer_generate_text2text"],
    }
    assert texts["assistant"] == prompts["assistant_part"]


def test_default_is_the_undamaged_training_set():
    assert load_template() == load_template("osum_pangu")
    assert "analyze" in load_template().texts["left"]["text"]


def test_compact_is_short(bundled):
    texts = load_template("compact").texts
    assert set(texts["left"].values()) == {""} and len(bundled.encode(texts["assistant"])) == 1


def test_unknown_set_gets_a_hint():
    assert "compact" in prompt_sets()
    with pytest.raises(UserError, match="did you mean 'compact'"):
        load_template("compakt")


GOOD = "left: {text: a, s2t_chat: b, text2text: c, intent_classification: d}\nassistant: e\n"


def test_own_file(tmp_path, bundled):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD, "utf-8")
    template = load_template(str(path))
    assert (template.texts["left"]["text2text"], template.texts["assistant"]) == ("c", "e")
    assert template.bos == load_template("osum_pangu").bos and not template.bos_unanswered


def test_own_file_says_what_begins_with_bos(tmp_path, bundled):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD + "bos: []\nbos_unanswered: {text: [request]}\n", "utf-8")
    template, words = load_template(str(path)), {"request": "r"}
    parts = [bundled.encode(text) for text in ("a", "r", "e")]
    for answer, begins in ((None, [1]), ([("content", "")], [])):
        seq = template.sequence(bundled, Turn("text", words, 1, answer))
        expected = [*parts[0], *begins, *parts[1], -2, -1, -3, *parts[2]]
        assert seq.ids_L[: len(expected)].tolist() == expected


@pytest.mark.parametrize(
    "content, message",
    [
        (GOOD.replace("text:", "txt:"), "left: unknown key 'txt'.*did you mean 'text'"),
        (GOOD.replace("assistant: e", ""), "missing assistant"),
        (GOOD.replace(" d}", " d").replace("intent_classification: d", "}"), "missing intent_classification"),
        (GOOD.replace(" a,", " 1,"), "text: expected a text in quotes, got int"),
        (GOOD + "bos: 1", "bos: expected a list of names, found 1"),
        (GOOD + "bos: [lft]", "bos: unknown text 'lft'; did you mean 'left'"),
        (GOOD + "bos_unanswered: [left]", "bos_unanswered: expected the keys text, "),
        (GOOD + "bos_unanswered: {txt: [left]}", "bos_unanswered: unknown key 'txt'"),
        (GOOD + "bos_unanswered: {text: [lft]}", "bos_unanswered: text: unknown text 'lft'"),
        ("left: {text: a\nassistant: e", "mine.yaml:2: not valid YAML"),
        ("!!python/object/apply:os.getcwd []", "settings are plain values"),
        ("- a", "expected a mapping"),
        ("", "expected a mapping"),
        ("left: []\nassistant: e", "left: expected a text in quotes, got list"),
    ],
)
def test_bad_own_file(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_text(content, "utf-8")
    with pytest.raises(UserError, match=message) as e:
        load_template(str(path))
    assert "\n" not in str(e.value)


def test_missing_own_file(tmp_path):
    with pytest.raises(UserError, match="none.yaml: cannot read"):
        load_template(str(tmp_path / "none.yaml"))
    with pytest.raises(UserError, match=r"prompts 'none.yaml': no such file in /.*; give its whole path"):
        load_template("none.yaml")


@pytest.mark.parametrize(
    "turn, message",
    [
        (Turn("tex", {"request": "r"}, 1), "choose one of text"),
        (Turn("text", {}, 1), "the request is needed"),
        (Turn("text", {"request": None}, 1), "the request is needed"),
        (Turn("text", {"request": "r"}), "speech is needed"),
        (Turn("text", {"request": "r"}, 0), "speech is needed"),
        (Turn("text2text", {"request": "r"}, 1), "holds no speech"),
    ],
)
def test_impossible_sequences(bundled, turn, message):
    with pytest.raises(UserError, match=message):
        load_template().sequence(bundled, turn)


HEAD, END, USER = "<|im_start|>system\n", "<|im_end|>\n", "<|im_start|>user\n"
ASSISTANT = f"{END}<|im_start|>assistant\n"
TALK = (
    Turn("text", {"request": "who?"}, 2, [("", "<asr>a man[unused10]")]),
    Turn("text2text", {"request": "how old"}),
)


def test_turns_and_a_system_message_by_hand(bundled):
    """Every turn as in training; what others say ends nothing, whatever it spells."""
    template, encode = load_template(), bundled.encode
    own = template.texts["left"]["text"].removeprefix(HEAD).removesuffix(END + USER)
    assert HEAD not in own and END not in own and "audio understanding" in own

    def by_hand(system: str, plain=()):
        first = encode(f"{HEAD}{system}{END}{USER}", bos=True, plain=plain)
        reply = "<asr>a man[unused10]"
        return [
            *[*first, *encode("who?"), -2, -1, -1, -3, *encode(ASSISTANT, bos=True)],
            *[*encode(reply, plain=[range(len(reply))]), bundled.eos_id],
            *[*encode(END + USER, bos=True), *encode("how old"), *encode(ASSISTANT, bos=True)],
        ]

    assert template.sequence(bundled, *TALK).ids_L.tolist() == by_hand(own)
    said = "Be brief.[unused10]"
    ids = template.sequence(bundled, *TALK, system=said).ids_L.tolist()
    assert ids == by_hand(said, [range(len(HEAD), len(HEAD + said))]) and ids.count(bundled.eos_id) == 1
    # words first: the model is to listen, so the system text is that of the turn with the recording
    words = Turn("text2text", {"request": "hi"}, answer=[("", "hello")])
    last = Turn("text", {"request": "who?"}, 2)
    found = template.sequence(bundled, words, last).ids_L.tolist()
    assert found[: len(encode(HEAD + own, bos=True))] == encode(HEAD + own, bos=True)
    alone = template.sequence(bundled, last).ids_L.tolist()
    assert found[-len(alone[alone.index(-2) :]) :] == alone[alone.index(-2) :]
    assert template.sequence(bundled, last, system=own).ids_L.tolist() == alone  # its own text is no change


def test_turns_of_a_small_model_by_hand(bundled):
    """Without a system text a system message is at the beginning."""
    encode, stop = bundled.encode, bundled.encode("[unused9]", bos=True)
    reply = "<asr>a man[unused10]"
    found = load_template("compact").sequence(bundled, *TALK, system="Be brief.").ids_L.tolist()
    assert found == [
        *[*encode("Be brief.", bos=True), *encode("who?"), -2, -1, -1, -3, *stop],
        *[*encode(reply, plain=[range(len(reply))]), bundled.eos_id],
        *[bundled.bos_id, *encode("how old"), *stop],
    ]


def test_a_prompt_without_a_system_text_takes_none(bundled, tmp_path):
    (tmp_path / "own.yaml").write_text(
        "left: {text: a, s2t_chat: b, text2text: c, intent_classification: d}\n"
    )
    (tmp_path / "own.yaml").write_text((tmp_path / "own.yaml").read_text() + "assistant: e\n")
    template = load_template(str(tmp_path / "own.yaml"))
    for turns, system in ((TALK, None), (TALK[1:], "Be brief.")):
        with pytest.raises(UserError, match="neither a system message nor several turns"):
            template.sequence(bundled, *turns, system=system)
    assert template.sequence(bundled, TALK[1])


def test_text_side_imports_nothing_heavy():
    code = (
        "import sys, mindspore_osum.text.requests, mindspore_osum.systems.osum.template\n"
        "print([m for m in ('mindspore', 'torch', 'transformers', 'sentencepiece') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
