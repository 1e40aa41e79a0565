"""Lines in parts: resumed, merged in order, each once; other jobs' parts stay as they are."""

import argparse
import os

import pytest

from mindspore_osum.cluster.bulk import BATCHES, in_parts, part_size
from mindspore_osum.cluster.parts import Parts, kept_file
from mindspore_osum.commands.bulk import on_ray
from mindspore_osum.errors import UserError

JOB = {"verb": "infer", "recordings": "a digest"}


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out.jsonl"


@pytest.mark.parametrize("count, size", [(1, 8), (60, 8), (5000, 40), (10**6, 8 * BATCHES)])
def test_parts_are_whole_batches_and_not_too_many(count, size):
    assert part_size(count, 8) == size


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 31])
def test_each_item_is_in_one_part(count):
    parts = in_parts(range(count), 8)
    assert [item for n in sorted(parts) for item in parts[n]] == list(range(count))
    assert sorted(parts) == list(range(len(parts))) and all(len(part) <= 8 for part in parts.values())


def test_parts_in_any_order_are_merged_in_order(target):
    parts = Parts(target, JOB, resume=False, kept=["kept\n"])
    for number in (2, 0, 1):
        parts.add(number, [f"{number}a", f"{number}b — 语"], [f"{number} failed"] if number else [])
    assert not target.exists() and parts.missing(4) == [3]
    parts.add(3, [])
    assert parts.failed(4) == ["1 failed", "2 failed"]
    parts.merge(4)
    expected = ["kept", *(f"{n}{x}" for n in range(3) for x in ("a", "b — 语"))]
    assert target.read_text("utf-8").splitlines() == expected
    assert os.listdir(target.parent) == ["out.jsonl"]


def test_a_killed_job_goes_on_with_what_is_missing(target):
    """What a kill leaves: a part that is in the manifest without its file, a torn line, a temporary file."""
    parts = Parts(target, JOB, resume=False, kept=["kept\n"])
    for number in range(4):
        parts.add(number, [f"line {number}"])
    del parts
    folder = target.with_name("out.jsonl.parts")
    (folder / "000001.jsonl").write_text("line")  # another size
    (folder / "000002.jsonl").unlink()
    manifest = (folder / "manifest.jsonl").read_bytes()
    (folder / "manifest.jsonl").write_bytes(manifest[:-5])  # part 3
    (folder / ".000004.jsonl.x.partial").write_text("li")
    assert kept_file(target) == folder / "kept.jsonl"
    again = Parts(target, JOB, resume=True, kept=["other lines are not taken\n"])
    assert again.missing(4) == [1, 2, 3] and len(again) == 3
    for number in again.missing(4):
        again.add(number, [f"line {number}"])
    again.merge(4)
    assert target.read_text() == "kept\nline 0\nline 1\nline 2\nline 3\n"
    assert os.listdir(target.parent) == ["out.jsonl"] and kept_file(target) is None


def test_without_resume_a_stopped_job_is_not_overwritten(target):
    parts = Parts(target, JOB, resume=False)
    parts.add(0, ["line"])
    parts.close()
    with pytest.raises(
        UserError, match="parts: holds the parts of a job that was stopped; go on with --resume"
    ):
        Parts(target, JOB, resume=False)
    assert Parts(target, JOB, resume=True).missing(1) == []


def test_parts_of_another_job_are_refused_and_stay(target):
    parts = Parts(target, JOB, resume=False)
    parts.add(0, ["line"])
    parts.close()
    before = {path.name: path.read_bytes() for path in parts.folder.iterdir()}
    with pytest.raises(
        UserError, match=r"with other settings \(recordings\); give the same ones, or remove .*out.jsonl.p"
    ):
        Parts(target, JOB | {"recordings": "others"}, resume=True)
    assert {path.name: path.read_bytes() for path in parts.folder.iterdir()} == before


def test_a_folder_of_something_else_is_refused_and_stays(target):
    folder = target.with_name("out.jsonl.parts")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is there, and no folder of parts"):
        Parts(target, JOB, resume=True)
    assert os.listdir(folder) == ["notes.txt"]


@pytest.mark.parametrize("text", ['{"mine": "no line break"}', '{"mine": 1}\n', "\0" * 3000, "a\nb"])
def test_a_manifest_of_something_else_is_refused_and_stays(target, text):
    folder = target.with_name("out.jsonl.parts")
    folder.mkdir()
    (folder / "manifest.jsonl").write_text(text)
    with pytest.raises(UserError, match="manifest.jsonl: is there, and of something else"):
        Parts(target, JOB, resume=True)
    assert os.listdir(folder) == ["manifest.jsonl"] and (folder / "manifest.jsonl").read_text() == text


def test_what_was_stopped_before_its_first_part_is_no_hindrance(target):
    folder = target.with_name("out.jsonl.parts")
    folder.mkdir()
    for name in ("kept.jsonl", "lock", ".manifest.jsonl.ab12.partial"):  # while it was made
        (folder / name).write_text("half")
    parts = Parts(target, JOB, resume=False, kept=["kept\n"])
    parts._lock.close()  # killed
    assert kept_file(target) is None
    again = Parts(target, JOB, resume=False, kept=["kept\n", "later\n"])
    again.add(0, ["line"])
    again.merge(1)
    assert target.read_text() == "kept\nlater\nline\n"


def test_the_plain_command_does_not_pass_over_parts(target):
    """Going on with them later would replace what it wrote."""
    parts = Parts(target, JOB, resume=False)
    parts.add(0, ["line"])
    parts.close()
    with pytest.raises(UserError, match="stopped; go on with --engine ray --resume, or remove it"):
        on_ray(argparse.Namespace(engine=None, replicas=None, address=None, output=str(target)))
    assert sorted(os.listdir(target.parent)) == ["out.jsonl.parts"]


def test_two_jobs_at_once_are_refused(target):
    parts = Parts(target, JOB, resume=False)
    with pytest.raises(UserError, match="another job is at work there"):
        Parts(target, JOB, resume=True)
    parts.close()


def test_a_job_without_a_part_leaves_nothing(target):
    Parts(target, JOB, resume=False, kept=["kept\n"]).close()
    assert os.listdir(target.parent) == []


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(UserError, match="absent/out.jsonl.parts: cannot write there .*directory\\)$"):
        Parts(tmp_path / "absent" / "out.jsonl", JOB, resume=False)
