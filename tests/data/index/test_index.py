"""An index in the place of its manifests and shards: the same batches and reports; changes and damage."""

import json
import os
import tarfile
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest

from mindspore_osum.data.augment import WaveAugment
from mindspore_osum.data.batches.batching import bucket_shapes
from mindspore_osum.data.batches.corpus import Corpus
from mindspore_osum.data.batches.loader import Loader
from mindspore_osum.data.checks import Errors
from mindspore_osum.data.index import table
from mindspore_osum.data.index.building import build
from mindspore_osum.data.index.reading import Index
from mindspore_osum.errors import UserError
from mindspore_osum.systems.osum.extractor import OsumExtractor
from mindspore_osum.systems.osum.template import load_template
from mindspore_osum.systems.osum.texts import Texts
from mindspore_osum.systems.registry import preset, system_of
from mindspore_osum.text.tokenizer import open_tokenizer
from tests.systems.touch_asu.common import make_world as make_conversations
from tests.training.tones import add_texts, make_world, random_words, shape

SHAPES = [shape(2, 36, 60), shape(2, 64, 60)]
READING = {"system": "osum"}
ABOUT = {"command": "osum data index A --output B --config C", "reading": READING}


def extractor(world, requests: str = "both"):
    """Of the preset tiny; some sentences do not fit beside long answers."""
    tokenizer = open_tokenizer(world / "tokenizer.model")
    return OsumExtractor(preset("tiny"), Texts(tokenizer, load_template("compact"), requests, room=60))


def write_lines(path, lines) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """words.jsonl with every kind of wrong line, texts, shards, and a list of them with a combination."""
    world = make_world(tmp_path_factory.mktemp("world"), [*random_words(21), "a", "abcdefgh" * 2])
    add_texts(world)
    lines = [json.loads(line) for line in (world / "words.jsonl").read_text("utf-8").splitlines()]
    lines[3] |= {"extra": {"question": "ab"}, "start": 0.01, "end": 0.23}
    lines[4]["task"] = "<TRANSCRIBE> <ALIGN>"
    lines[4]["txt"] = "<0.1>a<0.2>"
    lines[5]["txt"] = "abcd" * 20  # too many tokens
    lines += [lines[0], {"key": "none", "wav": "none.wav", "txt": "a", "task": "<TRANSCRIBE>"}, {"key": 3}]
    lines += [lines[1] | {"key": "age", "task": "<TRANSCRIBE> <AGE>"}]  # no label in its text
    write_lines(world / "words.jsonl", lines)
    for number in range(2):
        write_shard(world / f"{number}.tar", world, range(5 * number, 5 * number + 5))
    texts = [{"key": f"s{n}", "txt": "ba", "task": "<TRANSCRIBE>", "extra": {}} for n in (5, 7, 99)]
    write_lines(world / "other.jsonl", texts)
    (world / "all.list").write_text("0.tar\nother.jsonl|1.tar\nmissing.tar\nno shard\n")
    return world


def write_shard(path, world, numbers) -> None:
    with tarfile.open(path, "w") as tar:
        for n in numbers:
            tar.add(world / f"{n}.wav", f"s{n}.wav")
            (world / "text").write_text("abc")
            tar.add(world / "text", f"s{n}.txt")


SOURCES = ("words.jsonl", "all.list", "0.tar", "qa.jsonl", "intent.jsonl")


def made(world, out, sources=SOURCES, requests="both", processes=1):
    return build(
        [str(world / name) for name in sources], out, partial(extractor, world, requests), ABOUT, processes
    )


def loader(world, paths, requests="both", speeds=(1.0,), **over):
    sources = [(str(n), path, 1.5) for n, path in enumerate(paths)]
    errors, wave = Errors(100), WaveAugment(speeds=list(speeds))
    corpus = Corpus(sources, extractor(world, requests), SHAPES, errors, wave, READING)
    return Loader(corpus, 3, **over)


@pytest.fixture(scope="module")
def index(world):
    """One index of each source, with small row groups and parts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("building", "reading", "table"):
            for constant, value in (("GROUP", 4), ("PART", 8)):
                patch.setattr(f"mindspore_osum.data.index.{name}.{constant}", value, raising=False)
        for name in SOURCES:
            made(world, world / f"index-{name}", [name])
        yield [world / f"index-{name}" for name in SOURCES]


def same(one: dict, other: dict) -> bool:
    return list(one) == list(other) and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("requests", "over"),
    [
        ("both", {}),
        ("both", {"pack": 160}),
        ("tag", {"other_requests": 0.7, "accumulation": 2, "rank": 1, "ranks": 2}),
        ("both", {"other_requests": 0.7, "speeds": (0.8, 1.1)}),
    ],
)
def test_batches_are_those_of_the_sources(world, index, tmp_path, requests, over):
    if requests != "both":
        index = [tmp_path / name for name in SOURCES]
        for name in SOURCES:
            made(world, tmp_path / name, [name], requests)
    read, indexed = (
        loader(world, paths, requests, **over) for paths in ([world / n for n in SOURCES], index)
    )
    assert "longer than" in read.corpus.report[0] and "shorter than" in read.corpus.report[0]
    assert "text tokens" in read.corpus.report[0] and len(read.corpus.utterances) >= 25
    for name in ("report", "frames", "buckets", "labels", "others", "parts"):
        assert getattr(read.corpus, name) == getattr(indexed.corpus, name), name
    assert read.corpus.errors.count == indexed.corpus.errors.count == 6
    assert list(read.corpus.utterances) == list(indexed.corpus.utterances)
    assert read.corpus.utterances.lines.digest() == indexed.corpus.utterances.lines.digest()
    assert read.corpus.utterances.digest and indexed.corpus.utterances.digest is None
    assert read.steps_per_epoch == indexed.steps_per_epoch and read.report() == indexed.report()
    for step in range(read.steps_per_epoch + 2):
        assert read.keys(step) == indexed.keys(step)
        for micro in range(read.accumulation):
            assert same(read.micro_batch(step, micro), indexed.micro_batch(step, micro))


def test_indexes_and_manifests_in_one_corpus(world, index):
    mixed = [world / "words.jsonl", index[1], world / "0.tar", *index[3:]]
    read, joined = loader(world, [world / name for name in SOURCES]), loader(world, mixed)
    assert list(read.corpus.utterances) == list(joined.corpus.utterances)
    assert all(same(read.micro_batch(step, 0), joined.micro_batch(step, 0)) for step in range(8))


def touch_asu(world):
    """Of a system that takes whole conversations."""
    return system_of("touch_asu").extractor(preset("touch_asu_tiny"), open_tokenizer(world))


def test_whole_conversations(tmp_path):
    world = make_conversations(tmp_path)
    made_of = partial(touch_asu, world)
    build([str(world / "data.jsonl")], world / "index", made_of, ABOUT)
    shapes = bucket_shapes(preset("touch_asu_tiny"), 3, [64], 130)
    sources = [[("all", world / name, 1.0)] for name in ("data.jsonl", "index")]
    read, indexed = (Loader(Corpus(source, made_of(), shapes, reading=READING), 3) for source in sources)
    assert len(read.corpus.utterances) > 3 and list(read.corpus.utterances) == list(indexed.corpus.utterances)
    assert all(same(read.micro_batch(step, 0), indexed.micro_batch(step, 0)) for step in range(3))
    assert made_of().reads == {"loss.prompt": True}


def test_several_processes_and_sources_give_the_same_index(world, tmp_path):
    one, two = made(world, tmp_path / "one"), made(world, tmp_path / "two", processes=2)
    assert (one.sources, one.rows, one.usable) == (two.sources, two.rows, two.usable)
    assert one.left_out.lines() == two.left_out.lines()
    for name in sorted(os.listdir(tmp_path / "one")):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_it_is_a_table_for_any_tool(index):
    rows = pq.read_table(sorted(index[0].glob("part-*.parquet"))).to_pylist()
    assert [row["key"] for row in rows[:3]] == ["u0", "u1", "u2"] and rows[0]["wav"] == "0.wav"
    assert rows[0]["frames"] > 20 and rows[0]["tokens"] > rows[0]["labels"] > 2
    assert {row["reason"] for row in rows} == {None, "malformed", "unusable"}


def test_it_may_move_with_its_sources(world, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    make_world(old, random_words(4))
    made(old, old / "index", ["words.jsonl"], "tag")
    old.rename(new)
    assert loader(new, [new / "index"], "tag").micro_batch(0, 0)
    assert Index(new / "index")[1].wav == str(new / "1.wav")
    (new / "index").rename(tmp_path / "index")
    with pytest.raises(
        UserError, match=r"words.jsonl is not there any more; build it anew: osum data index A"
    ):
        Index(tmp_path / "index")


def change_text(path):
    path.write_bytes(path.read_bytes().replace(b'"txt": "', b'"txt": "a', 1))


def change_byte(path):
    path.write_bytes(path.read_bytes().replace(b"u1", b"u9", 1))


def test_a_changed_source_is_noticed(world, tmp_path):
    make_world(tmp_path, random_words(4))
    write_shard(tmp_path / "0.tar", world, range(3))
    made(tmp_path, tmp_path / "index", ["words.jsonl", "0.tar"], "tag")
    for name in ("words.jsonl", "0.tar"):
        whole, then = (tmp_path / name).read_bytes(), os.stat(tmp_path / name)
        os.utime(tmp_path / name)  # copied or touched: the digest is that of before
        Index(tmp_path / "index")
        (tmp_path / name).write_bytes(
            whole.replace(b"abc", b"abd") if name == "0.tar" else whole.replace(b"u1", b"u9")
        )
        with pytest.raises(UserError, match=rf"{name} has other contents; build it anew: osum data index A"):
            Index(tmp_path / "index")
        (tmp_path / name).write_bytes(whole + bytes(512))
        with pytest.raises(
            UserError, match=rf"{name} has {len(whole) + 512} bytes, not {len(whole)}; build it"
        ):
            Index(tmp_path / "index")
        (tmp_path / name).write_bytes(whole)
        os.utime(tmp_path / name, ns=(then.st_atime_ns, then.st_mtime_ns))


def damaged(folder, name, change):
    """The error of an index with a changed file."""
    whole = (folder / name).read_bytes()
    try:
        (folder / name).write_bytes(change(whole))
        with pytest.raises(UserError) as error:
            list(Index(folder))
    finally:
        (folder / name).write_bytes(whole)
    assert "\n" not in str(error.value) and "osum data index A" in str(error.value)
    return str(error.value)


def test_damage_is_one_line(world, tmp_path):
    out = tmp_path / "index"
    make_world(tmp_path, random_words(4))
    made(tmp_path, out, ["words.jsonl"], "tag")
    rows = damaged(out, "index.json", lambda raw: raw.replace(b'"rows": 4', b'"rows": 0'))
    assert "rows are missing; build it anew" in rows
    version = damaged(out, "index.json", lambda raw: raw.replace(b'"version": 1', b'"version": 7'))
    assert "an index of version 7, this is version 1; build it anew" in version
    assert "rows are missing" in damaged(out, "index.json", lambda raw: raw.replace(b'"rows"', b'"row"'))
    for name in ("part-00000.parquet", "sources.parquet", "requests.parquet"):
        for size in (0, 10, -1):
            assert f"{name}: truncated, damaged or missing" in damaged(
                out, name, lambda raw, size=size: raw[:size]
            )
    assert "does not have its 5 rows" in damaged(
        out, "index.json", lambda raw: raw.replace(b'"rows": 4', b'"rows": 5')
    )
    pq.write_table(pq.read_table(out / "part-00000.parquet"), tmp_path / "other", row_group_size=3)
    assert "its 4 rows in 1 groups" in damaged(
        out, "part-00000.parquet", lambda raw: (tmp_path / "other").read_bytes()
    )
    at = (out / "part-00000.parquet").read_bytes().index(b"u2")
    flipped = damaged(out, "part-00000.parquet", lambda raw: raw[:at] + b"v" + raw[at + 1 :])
    assert "part-00000.parquet: truncated, damaged" in flipped


def test_another_reading_is_refused(world, index):
    with pytest.raises(
        UserError, match=r"made for system \"osum\", the job has \"touch_asu\"; build it anew with"
    ):
        Index(index[0]).check({"system": "touch_asu"})
    with pytest.raises(UserError, match=r"made for seed null, the job has 3"):
        Index(index[0]).check(READING | {"seed": 3})


def test_a_request_that_the_index_did_not_measure(world, tmp_path):
    made(world, tmp_path / "index", ["words.jsonl"], "tag")
    with pytest.raises(UserError, match=r"the index says \d+; build the index anew"):
        other = loader(world, [tmp_path / "index"], "natural")
        [other.micro_batch(step, 0) for step in range(4)]


def test_nothing_else_is_replaced_or_left(world, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(UserError, match="is there already and no index; remove it"):
        made(world, tmp_path / "mine")
    (tmp_path / "mine" / "index.json").write_text('{"pages": 3}')  # a site has such a file, too
    with pytest.raises(UserError, match="is there already and no index; remove it"):
        made(world, tmp_path / "mine")
    with pytest.raises(UserError, match="mine: its index.json is not of `osum data index`"):
        Index(tmp_path / "mine")
    with pytest.raises(UserError, match="words.jsonl: is given twice"):
        made(world, tmp_path / "new", ["words.jsonl", "words.jsonl"])
    with pytest.raises(UserError, match=r"^https://a/b.jsonl: only addresses of object stores"):
        build(["https://a/b.jsonl"], tmp_path / "new", partial(extractor, world), ABOUT)
    with pytest.raises(UserError, match="nothing.jsonl: No such file"):
        made(world, tmp_path / "new", ["words.jsonl", "nothing.jsonl"])
    write_lines(tmp_path / "bad.jsonl", [{"key": 3}])
    with pytest.raises(UserError, match="no usable line; the first problem: .*bad.jsonl:1: 'key'"):
        build([str(tmp_path / "bad.jsonl")], tmp_path / "new", partial(extractor, world), ABOUT)
    assert sorted(os.listdir(tmp_path)) == ["bad.jsonl", "mine"]
    made(world, tmp_path / "new", ["qa.jsonl"])
    opened = Index(tmp_path / "new")
    made(world, tmp_path / "new", ["intent.jsonl"])  # an older index
    assert opened[0].key == "q1" and Index(tmp_path / "new")[0].key == "i1"
    (tmp_path / "new" / "train.jsonl").touch()
    with pytest.raises(UserError, match="train.jsonl in it is none of its files and would be lost"):
        made(world, tmp_path / "new", ["intent.jsonl"])
    (tmp_path / "new" / "train.jsonl").unlink()
    assert sorted(os.listdir(tmp_path)) == ["bad.jsonl", "mine", "new"]


def test_a_source_that_grows_meanwhile(world, tmp_path, monkeypatch):
    make_world(tmp_path, random_words(3))
    write = table.PartWriter.finish

    def grow(self):
        write(self)
        with open(tmp_path / "words.jsonl", "a") as file:
            file.write("\n")

    monkeypatch.setattr(table.PartWriter, "finish", grow)
    with pytest.raises(UserError, match="words.jsonl: changed while it was indexed; run it again"):
        made(tmp_path, tmp_path / "index", ["words.jsonl"], "tag")
    assert not (tmp_path / "index").exists()
