"""Tars that are damaged or hostile: what is whole is used, the rest is told, nothing else happens."""

import io
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.sources import open_source
from mindspore_osum.data.formats.tar_index import BLOCK, TarReader
from mindspore_osum.errors import UserError
from tests.data.formats.tars import sample, sound, write_tar

CHARS = st.characters(exclude_characters="/", exclude_categories=["Cs", "Cc"])
NAMES = st.text(CHARS, min_size=1, max_size=120)
MEMBERS = [*sample("a", extra={"n": 1}), *sample("long" * 40), *sample("c")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_tar(tmp_path_factory.mktemp("tar") / "whole.tar", MEMBERS, tarfile.PAX_FORMAT).read_bytes()


def header(block: bytes, start: int, new: bytes, checksum: bool = True) -> bytes:
    """A header with bytes replaced and its checksum made right again."""
    block = bytearray(block[:start] + new + block[start + len(new) :])
    if checksum:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def items(path):
    found = list(open_source(path))
    assert all(isinstance(i, Utterance | Skipped) for i in found)
    keys = [i.key for i in found if isinstance(i, Utterance)]
    return keys, [i.text for i in found if isinstance(i, Skipped)]


def test_every_cut_is_told(whole, tmp_path):
    path = tmp_path / "s.tar"
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        ends = {m.name: m.offset_data + m.size for m in tar}
    mark = -(-ends["c.task"] // BLOCK) * BLOCK + BLOCK
    # a sample is known to be whole when the next one has begun, or at the end mark
    known = {"a": ends["long" * 40 + ".wav"], "long" * 40: ends["c.wav"], "c": mark}
    for size in {*range(0, len(whole), 499), *known.values(), *(n - 1 for n in known.values())}:
        path.write_bytes(whole[:size])
        keys, problems = items(path)
        assert keys == [key for key, end in known.items() if size >= end]
        assert problems == [] if size >= mark else len(problems) == 1 and "truncated" in problems[0]


@pytest.mark.parametrize(
    ("start", "new", "checksum", "says"),
    [
        (0, b"Z", False, "wrong checksum"),
        (124, b"77777777777\0", True, "truncated, 'a.wav' of 8589934591 bytes"),
        (124, b"\x80" + b"\xff" * 11, True, "truncated"),
        (124, b"\xff" * 12, True, "no size of 'a.wav'"),  # negative
        (124, b"12x45678901\0", True, "no size of 'a.wav'"),
        (156, b"2", True, "a.wav: is a link, a device or a sparse file"),
        (156, b"S", True, "is a link, a device or a sparse file"),
        (156, b"x", True, "bytes of header; at most" if len(sound()) > 2**16 else "broken pax header"),
        (124, b"00000400000\0", True, "truncated"),
    ],
)
def test_headers_that_lie(whole, tmp_path, start, new, checksum, says):
    path = tmp_path / "s.tar"
    path.write_bytes(header(whole[:BLOCK], start, new, checksum) + whole[BLOCK:])
    keys, problems = items(path)
    assert "a" not in keys
    assert any(says in p for p in problems), problems
    assert all(p.startswith(str(path)) for p in problems)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"30 path=x\n", "broken pax header"),
        (b"9999999999 path=x\n", "broken pax header"),
        (b"path=x\n", "broken pax header"),
        (b"12 size=-10\n", "no size in its pax header"),
        (b"22 GNU.sparse.major=1\n", "sparse"),
        (b"26 size=99999999999999999\n", "truncated"),
    ],
)
def test_pax_headers_that_lie(tmp_path, content, says):
    info = tarfile.TarInfo("pax")
    info.size, info.type = len(content), tarfile.XHDTYPE
    plain = write_tar(tmp_path / "p.tar", sample("a")).read_bytes()
    lie = info.tobuf(tarfile.USTAR_FORMAT) + content.ljust(BLOCK, b"\0")
    (tmp_path / "s.tar").write_bytes(lie + plain)
    keys, (problem,) = items(tmp_path / "s.tar")
    assert not keys and says in problem


def test_checksums_of_old_tars_add_signed_bytes(tmp_path):
    data = write_tar(tmp_path / "p.tar", sample("é", audio=None, task="<TEXT2TEXT>", extra={"question": "?"}))
    blocks = bytearray(data.read_bytes())
    for start in range(0, len(blocks), 2 * BLOCK):
        if any(blocks[start : start + BLOCK]):
            blocks[start + 148 : start + 156] = b" " * 8
            signed = sum(b - 256 * (b > 127) for b in blocks[start : start + BLOCK])
            blocks[start + 148 : start + 156] = b"%06o\0 " % signed
    (tmp_path / "s.tar").write_bytes(blocks)
    assert items(tmp_path / "s.tar") == (["é"], [])


def test_links_and_folders_take_no_data(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, kind in (("d", tarfile.DIRTYPE), ("a.txt", tarfile.SYMTYPE), ("b.wav", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name, content in sample("c"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    keys, problems = items(tmp_path / "s.tar")
    assert keys == ["c"] and len(problems) == 2 and all("is a link" in p for p in problems)


def test_comments_on_the_whole_tar_are_passed_over(tmp_path):
    comment = {"comment": "x"}
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.PAX_FORMAT, pax_headers=comment) as tar:
        for name, content in sample("c"):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert items(tmp_path / "s.tar") == (["c"], [])


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 2**15), st.binary(min_size=1, max_size=20)), min_size=1, max_size=4),
    st.booleans(),
)
def test_no_damage_is_more_than_a_problem(whole, tmp_path, changes, mended):
    data = bytearray(whole)
    for at, new in changes:
        at %= len(data) - len(new)
        data[at : at + len(new)] = new
        if mended:  # the checksum of a header there fits again
            block = at // BLOCK * BLOCK
            data[block : block + BLOCK] = header(bytes(data[block : block + BLOCK]), 0, b"")
    (tmp_path / "s.tar").write_bytes(data)
    items(tmp_path / "s.tar")


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(NAMES, st.binary(max_size=1500)), max_size=5),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_members_are_those_of_the_standard_library(tmp_path, members, form):
    path = write_tar(tmp_path / "s.tar", members, form)
    with TarReader(path) as tar:
        found = [(m.name, tar.read(m)) for m in tar.members()]
    assert found == members


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=700) | st.text('{}[]|:",\\\n.tarjsonl -key', max_size=80).map(str.encode),
    st.sampled_from(["jsonl", "list", "tar"]),
)
def test_no_file_ends_in_another_error(tmp_path, content, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    try:
        problems = items(path)[1]
    except UserError as error:  # no text, or no list at all
        problems = [str(error)]
    assert all(text.startswith(f"{tmp_path}") for text in problems)


def test_random_bytes_are_no_tar(tmp_path):
    (tmp_path / "s.tar").write_bytes(b"\x01" * 2000)
    with TarReader(tmp_path / "s.tar") as tar, pytest.raises(UserError, match="not a tar, or damaged, at"):
        list(tar.members())
