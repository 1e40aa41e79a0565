"""Shards in training: the same batches as from files, and errors up to a limit, early and late."""

import json
import logging

import numpy as np
import pytest

from mindspore_osum.data.augment import Augment, SpecAugment, WaveAugment
from mindspore_osum.data.batches.corpus import Corpus
from mindspore_osum.data.batches.loader import Loader
from mindspore_osum.data.checks import Errors
from mindspore_osum.data.formats.shard_writer import pack
from mindspore_osum.errors import UserError
from tests.data.formats.tars import sound
from tests.training.tones import extractor, make_world, random_words, shape


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path, random_words(6))


def corpus(world, source, errors=None):
    return Corpus([("w", source, 1.0)], extractor(world), [shape(2, 64, 60)], errors)


def same(one: dict, other: dict) -> bool:
    return all(np.array_equal(column, other[name]) for name, column in one.items())


def batches(loader):
    return [loader.micro_batch(step, 0) for step in range(loader.steps_per_epoch)]


def test_shards_train_as_their_manifest_does(world):
    pack(world / "words.jsonl", world / "shards", 4, Errors())
    augment = Augment(SpecAugment(time_max=5, sub_max=5), WaveAugment(speeds=[1.0, 1.1]))
    files, shards = (
        Loader(corpus(world, source), 1, augment=augment)
        for source in (world / "words.jsonl", world / "shards/shards.list")
    )
    for one, other in zip(batches(files), batches(shards), strict=True):
        assert same(one, other)


def add(world, **line):
    line = {"key": str(line), "task": "<TRANSCRIBE>", "txt": "ab", **line}
    with open(world / "words.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def test_errors_are_counted_named_and_skipped_up_to_the_limit(world):
    wrong = [
        {"wav": "none.wav"},
        {"wav": "0.wav", "task": "<SING>"},
        {"wav": "0.wav", "start": 9.0},
        {"wav": "0.wav", "task": "<AGE>", "txt": "<BABY>"},
        {"wav": 3},
        {"wav": "0.wav", "task": "<TRANSCRIBE> <ALIGN>", "txt": "<0.10>ab<9.00>"},
        {"wav": None, "task": "<TEXT2TEXT>"},
    ]
    for line in wrong:
        add(world, **line)
    found = corpus(world, world / "words.jsonl", Errors(7))
    assert len(found.utterances) == 6 and found.errors.count == 7
    (line,) = found.report
    assert f"; 6 left out, unusable (first: {world}/words.jsonl:7: " in line and "none.wav: no such" in line
    assert f"; 1 left out, malformed (first: {world}/words.jsonl:11: 'wav'" in line
    with pytest.raises(UserError, match="^more than 6 errors in the data; .*none.wav.*data.max_errors"):
        corpus(world, world / "words.jsonl", Errors(6))
    with pytest.raises(UserError, match="words.jsonl:7: .*none.wav: no such audio file$"):
        corpus(world, world / "words.jsonl", Errors(7, strict=True))


def test_a_rule_is_no_error(world):
    lines = (world / "words.jsonl").read_text().splitlines()
    long = json.dumps({"key": "x", "wav": "0.wav", "txt": "ab" * 60, "task": "<TRANSCRIBE>"})
    (world / "words.jsonl").write_text("\n".join([*lines, long]))
    found = corpus(world, world / "words.jsonl", Errors(0, strict=True))
    assert "1 left out, more than 60 text tokens" in found.report[0] and found.errors.count == 0


def damage(world, name="0.wav"):
    """A flac whose header is whole and whose middle is not, in place of a recording."""
    data = bytearray(sound(0.5, kind="FLAC"))
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    (world / name).write_bytes(data)


def test_a_recording_that_cannot_be_decoded_leaves_its_row_empty(world, caplog):
    damage(world)
    loader = Loader(corpus(world, world / "words.jsonl"), 1)
    with caplog.at_level(logging.WARNING):
        first = [batches(loader), batches(loader)]
    assert loader.corpus.errors.count == 1  # once, though it was met twice
    assert len(caplog.records) == 1 and f"{world}/0.wav: " in caplog.text
    again = Loader(corpus(world, world / "words.jsonl"), 1)
    for step in reversed(range(again.steps_per_epoch)):  # a resumed run has the same rows
        assert same(first[0][step], again.micro_batch(step, 0))
    for one, other in zip(*first, strict=True):
        assert same(one, other)
    empty = [step for step, batch in enumerate(first[0]) if not batch["segments_BL"].any(1).all()]
    assert [step for step in range(3) if "u0" in loader.keys(step)] == empty


def test_in_a_pack_it_leaves_its_place_empty(world):
    damage(world)
    loader = Loader(corpus(world, world / "words.jsonl"), 1, pack=120)
    whole = 0
    for step in range(loader.steps_per_epoch):
        batch = loader.micro_batch(step, 0)
        whole += np.count_nonzero(batch["mel_len_B"][:, 1])
        assert len({int(s) for s in batch["segments_BL"].ravel()} - {0}) <= 6
    assert whole == 5 and loader.corpus.errors.count == 1


def test_a_recording_longer_than_planned_never_runs_into_its_neighbour(world):
    loader = Loader(corpus(world, world / "words.jsonl", Errors(strict=True)), 1, pack=120)
    number = max(range(6), key=lambda n: loader.corpus.frames[n])
    loader.corpus.frames[number] -= 8  # as if its header had said so
    with pytest.raises(UserError, match=f"words.jsonl:{number + 1}: .* frames, its header said"):
        batches(loader)


def test_too_many_of_them_end_the_job(world):
    for name in ("0.wav", "1.wav"):
        damage(world, name)
    loader = Loader(corpus(world, world / "words.jsonl", Errors(1)), 1)
    with pytest.raises(UserError, match="^more than 1 errors in the data; the first: "):
        batches(loader)
    strict = Loader(corpus(world, world / "words.jsonl", Errors(strict=True)), 1)
    with pytest.raises(UserError, match="words.jsonl:[12]: .*[01].wav: "):
        batches(strict)


def test_headers_are_read_and_not_recordings(world):
    damage(world)
    assert len(corpus(world, world / "words.jsonl", Errors(strict=True)).utterances) == 6
