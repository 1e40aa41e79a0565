"""Object stores, against moto's S3 server on 127.0.0.1: manifests, recordings, shards, an index, refusals."""

import gzip
import json
import os
import sys
import tarfile
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from mindspore_osum import stores
from mindspore_osum.cli import main
from mindspore_osum.data.batches.batching import samples
from mindspore_osum.data.batches.corpus import Corpus
from mindspore_osum.data.batches.loader import Loader, Steps
from mindspore_osum.data.formats.manifest import Skipped
from mindspore_osum.data.formats.sources import open_source, read_manifest
from mindspore_osum.data.index.building import build
from mindspore_osum.data.index.reading import Index
from mindspore_osum.errors import Unreachable, UserError
from mindspore_osum.speech.audio import duration_seconds, load_audio
from tests.training.tones import extractor, make_world, random_words, shape

pytest.importorskip("s3fs", reason="needs s3fs: pip install 'mindspore-osum[s3]'")
moto = pytest.importorskip("moto.server", reason="needs moto[s3] and flask, of the extra dev")

ABOUT = {"command": "osum data index s3://tones/words.jsonl", "reading": {}}


@pytest.fixture(scope="module")
def server():
    """An empty S3 server; its address."""
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def store(server, tmp_path_factory):
    """s3://tones, with the files of a world; its folder on the disk."""
    world = make_world(tmp_path_factory.mktemp("world"), random_words(6))
    with tarfile.open(world / "0.tar", "w") as tar:
        for n in range(3):
            tar.add(world / f"{n}.wav", f"s{n}.wav")
            (world / "text").write_text("abc")
            tar.add(world / "text", f"s{n}.txt")
    (world / "words.jsonl.gz").write_bytes(gzip.compress((world / "words.jsonl").read_bytes()))
    texts = [{"key": f"s{n}", "txt": "ba", "task": "<TRANSCRIBE>", "extra": {}} for n in range(2)]
    (world / "other.jsonl").write_text("".join(json.dumps(line) + "\n" for line in texts))
    (world / "all.list").write_text("0.tar\nother.jsonl|s3://tones/deep/../0.tar\n")
    (world / "empty.wav").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", server)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        forget()
        import fsspec

        s3 = fsspec.filesystem("s3")
        s3.mkdir("tones")
        for path in world.iterdir():
            s3.put(str(path), f"tones/{path.name}")
        yield world
    forget()


def forget():
    """Let the next request make its connection anew."""
    import s3fs

    stores._store.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


def put(name: str, content: bytes) -> None:
    import fsspec

    fsspec.filesystem("s3").pipe(f"tones/{name}", content)


def test_a_manifest_and_its_recordings(store):
    here, _ = read_manifest(store / "words.jsonl")
    for name in ("words.jsonl", "words.jsonl.gz"):
        there, problems = read_manifest(f"s3://tones/{name}")
        assert [utt.wav for utt in there] == [f"s3://tones/{n}.wav" for n in range(6)] and not problems
        assert there[0].where == f"s3://tones/{name}:1" and there[0].txt == here[0].txt
    for one, other in zip(here, there, strict=True):
        assert (samples(one) == samples(other)).all() and duration_seconds(one.wav) == duration_seconds(
            other.wav
        )


def test_a_manifest_on_the_disk_may_name_recordings_in_a_store(store, tmp_path):
    line = {"key": "a", "wav": "s3://tones/0.wav", "txt": "a", "task": "<TRANSCRIBE>"}
    messages = [{"role": "user", "content": "Transcribe the Speech"}, {"role": "assistant", "content": "a"}]
    both = [line, {"messages": messages, "audios": ["s3://tones/0.wav"]}]
    (tmp_path / "words.jsonl").write_text("\n".join(map(json.dumps, both)))
    found, problems = read_manifest(tmp_path / "words.jsonl")
    assert [utt.wav for utt in found] == ["s3://tones/0.wav"] * 2 and not problems


def test_shards_and_lists(store, monkeypatch):
    ranges = []
    ask = stores.Address.ask
    monkeypatch.setattr(stores.Address, "ask", lambda self, what: ranges.append(str(self)) or ask(self, what))
    here, there = list(open_source(store / "all.list")), list(open_source("s3://tones/all.list"))
    assert [item.txt for item in there if not isinstance(item, Skipped)] == ["abc"] * 3 + ["ba"] * 2
    assert len(here) == len(there) == 6 and isinstance(there[5], Skipped)  # in the shard alone
    assert there[3].wav.path == "s3://tones/0.tar"
    ranges.clear()
    assert (samples(there[1]) == samples(here[1])).all()
    assert ranges == ["s3://tones/0.tar"]  # one request: the range of the member


def test_a_large_tar_is_not_read_whole(store, monkeypatch):
    """Only the headers between members, in blocks, and the texts."""
    big = store / "big.tar"
    with tarfile.open(big, "w") as tar:
        for n in range(2):
            (store / "noise").write_bytes(os.urandom(3 * 2**20))
            tar.add(store / "noise", f"s{n}.wav")
            tar.add(store / "text", f"s{n}.txt")
    put("big.tar", big.read_bytes())
    import s3fs

    taken, fetch = [], s3fs.S3File._fetch_range
    monkeypatch.setattr(
        s3fs.S3File,
        "_fetch_range",
        lambda self, start, end: taken.append(end - start) or fetch(self, start, end),
    )
    assert [utt.key for utt in open_source("s3://tones/big.tar")] == ["s0", "s1"]
    assert 0 < sum(taken) < 2**21 and len(taken) <= 6


def test_an_index_of_sources_in_a_store(store, tmp_path):
    sources = ["s3://tones/words.jsonl", "s3://tones/0.tar"]
    built = build(sources, tmp_path / "index", partial(extractor, store), ABOUT, processes=2)
    here = build(
        [str(store / "words.jsonl"), str(store / "0.tar")],
        tmp_path / "here",
        partial(extractor, store),
        ABOUT,
    )
    assert (
        (built.rows, built.usable, built.frames)
        == (here.rows, here.usable, here.frames)
        == (9, 9, built.frames)
    )
    index = Index(tmp_path / "index")
    assert index[1].wav == "s3://tones/1.wav" and index[8].wav.path == "s3://tones/0.tar"
    assert index[1] == read_manifest("s3://tones/words.jsonl")[0][1]
    whole = (store / "words.jsonl").read_bytes()
    put("words.jsonl", whole)  # another time, the same content
    Index(tmp_path / "index")
    put("words.jsonl", whole.replace(b"u1", b"u9"))
    with pytest.raises(
        UserError, match="s3://tones/words.jsonl has other contents; build it anew: osum data"
    ):
        Index(tmp_path / "index")
    put("words.jsonl", whole)


def test_many_sources_are_looked_up_by_their_folder(store, tmp_path, monkeypatch):
    content = (store / "0.tar").read_bytes()
    names = [f"many/{n}.tar" for n in range(stores._MANY + 1)]
    for name in names:
        put(name, content)
    put("many/all.list", "\n".join(name.removeprefix("many/") for name in names).encode())
    build(["s3://tones/many/all.list"], tmp_path / "index", partial(extractor, store), ABOUT)
    forget()
    import s3fs

    asked, call = [], s3fs.S3FileSystem._call_s3
    monkeypatch.setattr(
        s3fs.S3FileSystem,
        "_call_s3",
        lambda self, *what, **how: asked.append(what[0]) or call(self, *what, **how),
    )
    assert len(Index(tmp_path / "index")) == 3 * len(names) and not asked  # but for one listing
    put(names[3], content.replace(b"abc", b"abd"))
    with pytest.raises(UserError, match="s3://tones/many/3.tar has other contents"):
        Index(tmp_path / "index")


def test_batches_of_a_store_and_a_store_that_fails_meanwhile(store, monkeypatch):
    here, there = (
        Loader(Corpus([("all", f"{folder}/words.jsonl", 1.0)], extractor(store), [shape(2, 64, 24)]), 0)
        for folder in (store, "s3://tones")
    )
    for step in range(here.steps_per_epoch):
        one, other = here.micro_batch(step, 0), there.micro_batch(step, 0)
        assert all(np.array_equal(one[name], other[name]) for name in one)
    monkeypatch.setattr(stores, "_store", lambda scheme: SimpleNamespace(info=lambda key: 1 / 0))
    steps = Steps(there, 0, 3)
    with pytest.raises(Unreachable, match="the store does not give it"):  # and no row is left empty
        steps[0]
    assert isinstance(steps.error, Unreachable)


def test_what_is_not_there(store):
    for source in (
        "s3://tones/no.jsonl",
        "s3://tones/no.tar",
        "s3://tones/no.list",
        "s3://tones/bucket.jsonl",
    ):
        with pytest.raises(UserError, match=rf"{source}: .*no such"):
            list(open_source(source))
    with pytest.raises(Unreachable, match="s3://nowhere/a.jsonl: .*bucket does not exist; check the address"):
        list(open_source("s3://nowhere/a.jsonl"))
    with pytest.raises(UserError, match=r"^s3://...@...: keys are not given in an address"):
        list(open_source("s3://key:secret@tones/words.jsonl"))
    with pytest.raises(UserError, match="s3://tones/no.wav: no such object in the store"):
        load_audio("s3://tones/no.wav")
    with pytest.raises(UserError, match=r"s3://tones/empty.wav: the file is empty \(0 bytes\)"):
        load_audio("s3://tones/empty.wav")
    for read in (load_audio, read_manifest):
        with pytest.raises(UserError, match=r"only addresses of object stores \(s3, oss, obs\) are fetched"):
            read("https://example.org/a.wav")


def test_a_recording_is_bounded(store, monkeypatch):
    monkeypatch.setattr(stores, "MAX_FETCHED", 1000)
    with pytest.raises(
        UserError, match=r"s3://tones/0.wav: \d+ bytes, at most 1000 are fetched; download it"
    ):
        load_audio("s3://tones/0.wav")


def test_the_command_line(store, capsys):
    assert main(["data", "validate", "s3://tones/words.jsonl", "s3://tones/0.tar"]) == 0
    assert "s3://tones/0.tar: 3 usable utterances" in capsys.readouterr().out
    assert main(["data", "stats", "s3://tones/no.jsonl"]) == 1
    error = capsys.readouterr().err
    assert "s3://tones/no.jsonl" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ["annotate", "a.wav"],
        ["infer", "a.wav", "--task", "asr"],
        ["transcribe", "a.wav"],
        ["eval", "--manifest", "a.jsonl"],
        ["data", "index", "a.jsonl", "--config", "job.yaml"],
        ["data", "intersect", "a.jsonl", "b.jsonl"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_results_are_written_on_disks(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--output", "s3://tones/out.jsonl"]) == 1
    error = capsys.readouterr().err
    assert "/tones/out.jsonl: results are written on disks; give a path" in error and error.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_a_store_that_does_not_answer_ends_the_job(store, capsys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    forget()
    assert main(["data", "validate", "s3://tones/words.jsonl"]) == 1
    error = capsys.readouterr().err
    assert "s3://tones/words.jsonl: the store does not give it, check its endpoint" in error
    assert "127.0.0.1:9" in error and error.count("\n") == 1
    with pytest.raises(Unreachable):
        load_audio("s3://tones/0.wav")
    forget()


def test_a_missing_extra_is_one_line(monkeypatch, capsys):
    forget()
    monkeypatch.setitem(sys.modules, "s3fs", None)
    import fsspec.registry  # noqa: F401

    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    assert main(["data", "validate", "s3://tones/words.jsonl"]) == 1
    error = capsys.readouterr().err
    assert "needs the package s3fs" in error and "pip install 'mindspore-osum[s3]'" in error
    assert error.count("\n") == 1
