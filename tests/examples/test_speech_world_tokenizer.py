"""The speech world's tokenizer: of the openPangu kind, one piece for whatever a sequence is made of."""

from pathlib import Path

import grammar
import make_tokenizer
import manifests
import pytest

from mindspore_osum import tasks
from mindspore_osum.text.tokenizer import Tokenizer, open_tokenizer
from tests.examples.common import run

MOST_PIECES = 2048  # of the tiny model's vocabulary


@pytest.fixture(scope="module")
def tokenizer(tokenizer_model) -> Tokenizer:
    return open_tokenizer(tokenizer_model)


def test_size(tokenizer, tokenizer_model):
    assert 1500 <= tokenizer.vocab_size <= MOST_PIECES
    assert tokenizer_model.stat().st_size < 40 * 1024


def test_reserved_ids_are_those_of_the_openpangu_kind(tokenizer):
    assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 4)
    ids = [tokenizer.encode(piece) for piece in make_tokenizer.RESERVED]
    assert ids == [[3], [4], [5], [6]]


def test_model_settings_agree_with_the_golden_one(tokenizer, shared):
    from sentencepiece import sentencepiece_model_pb2 as proto

    ours, golden = proto.ModelProto(), proto.ModelProto()
    ours.ParseFromString(Path(tokenizer.path).read_bytes())
    golden.ParseFromString((shared / "golden" / "tokenizer.model").read_bytes())
    assert [(p.piece, p.type) for p in ours.pieces[:263]] == [(p.piece, p.type) for p in golden.pieces[:263]]
    for field in ("name", "add_dummy_prefix", "remove_extra_whitespaces", "escape_whitespaces"):
        assert getattr(ours.normalizer_spec, field) == getattr(golden.normalizer_spec, field), field
    for field in ("byte_fallback", "unk_id", "bos_id", "eos_id", "pad_id"):
        assert getattr(ours.trainer_spec, field) == getattr(golden.trainer_spec, field), field


def test_all_sentences_come_back_and_take_a_piece_per_word(tokenizer, plans):
    for line in {line.text: line for lines in plans.values() for line in lines}.values():
        for tags, extra in (("", line.lang == "zh"), ("<asr>", 2)):  # "▁" before Chinese; "▁" and the tag
            ids = tokenizer.encode(tags + line.text)
            assert tokenizer.decode(ids) == tags + line.text
            assert len(ids) == len(grammar.words(line.text, line.lang)) + extra


def test_a_timed_word_is_three_pieces(tokenizer, plans):
    """Every word, and every time that stands in a training manifest."""
    lines = {line.text: line for line in plans["train"]}
    for number, line in enumerate(lines.values()):
        words = grammar.words(line.text, line.lang)
        times = [
            (word, 0.013 * (number % 230) + 0.1 * i, 0.013 * (number % 230) + 0.1 * i + 0.1)
            for i, word in enumerate(words)
        ]
        text = manifests.body(line, "<TRANSCRIBE> <ALIGN>", times, manifests.STEP)
        ids = tokenizer.encode("<asr><align>" + text)
        assert len(ids) == 3 + 3 * len(words) and tokenizer.decode(ids) == "<asr><align>" + text


def test_tags_labels_and_times_are_one_piece(tokenizer):
    names = [f"<{tag}>" for tag in tasks.TAG_OF_KEY_PART.values()] + [tasks.ANSWER_MARK]
    names += [f"<{value}>" for labels in tasks.LABEL_SETS.values() for value in labels.values]
    names += [
        f"<{manifests.STEP * i:.2f}>" for i in range(round(manifests.LONGEST_TIME / manifests.STEP) + 1)
    ]
    names += ["<|im_start|>", "<|im_end|>"]
    assert "<0.00>" in names and "<4.20>" in names
    assert len({tuple(tokenizer.encode("你" + name)[2:]) for name in names}) == len(set(names))
    for name in names:
        ids = tokenizer.encode("你" + name)
        assert len(ids) == 3 and tokenizer.decode(ids) == "你" + name, name


def test_requests_take_few_pieces(tokenizer):
    """Requests in training are nearly all of known words."""
    from mindspore_osum.data.requests import generate

    requests = generate("train", 200, 1)
    pieces = sum(len(tokenizer.encode(request.text)) for request in requests)
    units = sum(len(make_tokenizer.units(request.text)) for request in requests)
    assert pieces < 1.5 * units


@pytest.mark.parametrize(
    "text",
    [
        "<asr><align><0.21>turn<0.47> <0.46>on<0.60>",
        "".join(map(chr, range(0x20, 0x7F))),
        "龘 🙂 ﬁ 2024\t\n",
        "  two  spaces  ",
        "sandwich Kitchen",
    ],
)
def test_any_text_comes_back(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_id not in ids


def test_digits_of_other_times_stay_single(tokenizer):
    assert len(tokenizer.encode("<0.21>")) == 1 + len("<0.21>")


def test_words_of_a_manifest_are_added_and_nothing_else_moves(tokenizer, tmp_path):
    manifest, model = tmp_path / "more.jsonl", tmp_path / "more.model"
    manifest.write_text('{"txt": "<zzz>zebra 龘"}\n', encoding="utf-8")
    assert run("make_tokenizer.py", "--manifest", manifest, "--output", model).returncode == 0
    larger = open_tokenizer(model)
    assert larger.vocab_size == tokenizer.vocab_size + 3  # zebra with and without a space, 龘
    assert len(larger.encode("zebra 龘")) == 3
    assert len(larger.encode("zzz")) == 4  # what stands in < > is no word: a space and letters


@pytest.mark.parametrize("line", ["{", "[]", '{"text": "x"}', '{"txt": 3}'])
def test_a_bad_manifest_line_is_named(tmp_path, line):
    manifest = tmp_path / "bad.jsonl"
    manifest.write_text('{"txt": "five"}\n' + line + "\n")
    done = run("make_tokenizer.py", "--manifest", manifest, "--output", tmp_path / "t.model")
    assert done.returncode == 1 and f"{manifest}:2" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "t.model").exists()
