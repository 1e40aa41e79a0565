"""Published shards: a tar of key.wav (or .flac, ...), key.txt, key.task, key.extra; WEST's have wav and txt.

Notable choices
- Consecutive members whose names differ only after the last dot form a sample (published rule).
- A sample without a task is plain transcription, as in the published code. Without a recording, the published
  code substitutes 10 s of noise; here this is an error, unless the task has no speech.
- Recordings are not unpacked: an utterance stores file, offset and size (`FilePart`).
- Names that begin with a dot are left out: macOS puts `._name` beside each file of a tar.
- The last sample before damage in a shard is not used, since it may be incomplete.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from mindspore_osum.data.formats.manifest import MALFORMED, Skipped, Utterance, parse_object
from mindspore_osum.data.formats.tar_index import Member, TarReader
from mindspore_osum.errors import UserError
from mindspore_osum.files import as_text
from mindspore_osum.speech.opening import FilePart

AUDIO = ("wav", "flac", "mp3", "ogg", "opus", "m4a", "wma")  # published; the last two cannot be decoded here
FIELDS = ("txt", "task", "extra")
MAX_FIELD = 2**20  # bytes of a text in a shard
NOT_COMBINED = "not in both halves of a combination"


def read_shard(
    path: str | os.PathLike, combined: dict[str, dict] | None = None
) -> Iterator[Utterance | Skipped]:
    """The utterances of a shard in order, and the items that were not used.

    Parameters
    ----------
    path : a .tar.
    combined : key -> object with txt, task and extra, which replace those of the shard; samples with other
        keys are left out (published: "json_path|tar_path").
    """
    seen: set[str] = set()  # keys; a shard has a few thousand
    try:
        with TarReader(path) as tar:
            for key, sample in _samples(tar):
                yield from _utterance(tar, key, sample, combined, seen)
    except UserError as error:
        yield Skipped(MALFORMED, str(error))
    for key in combined or ():
        if key not in seen:
            yield Skipped(NOT_COMBINED, f"{path}:{key}: only in the list that is combined with it", False)


def _samples(tar: TarReader) -> Iterator[tuple[str | None, dict[str, Member] | Skipped]]:
    """(key, field -> member) of each sample; (None, Skipped) for members that belong to none."""
    key, sample = None, {}
    for member in tar.members():
        if isinstance(member, Skipped):
            yield None, member
            continue
        if member.name.rpartition("/")[2].startswith("."):
            continue
        name, dot, field = member.name.rpartition(".")
        if not dot or not name:
            yield None, Skipped(MALFORMED, f"{tar.path}:{member.name}: no name like key.txt or key.wav")
            continue
        if name != key:
            if sample:
                yield key, sample
            key, sample = name, {}
        field = "wav" if field in AUDIO else field
        if field in sample:
            yield None, Skipped(MALFORMED, f"{tar.path}:{member.name}: the sample has two of these")
            continue
        sample[field] = member
    if sample:
        yield key, sample


def _utterance(
    tar: TarReader, key: str | None, sample: dict[str, Member] | Skipped, combined, seen: set[str]
) -> Iterator[Utterance | Skipped]:
    if isinstance(sample, Skipped):
        yield sample
        return
    where = f"{tar.path}:{key}"
    twice, _ = key in seen, seen.add(key)
    try:
        if twice:
            raise UserError(f"{where}: key {key!r} is there twice; keys name an utterance")
        if combined is not None and key not in combined:
            yield Skipped(NOT_COMBINED, f"{where}: not in the list that is combined with the shard", False)
            return
        values = {"key": key, "task": "<TRANSCRIBE>"}
        if combined is None:
            values |= {name: _text(tar, sample[name], where) for name in FIELDS if name in sample}
        else:
            values |= {name: combined[key].get(name) for name in FIELDS}
        if "wav" in sample:
            member = sample["wav"]
            values["wav"] = FilePart(tar.path, member.offset, member.size, member.name)
        yield parse_object(values, Path(), where)
    except UserError as error:
        yield Skipped(MALFORMED, str(error))


def _text(tar: TarReader, member: Member, where: str) -> str:
    if member.size > MAX_FIELD:
        raise UserError(f"{where}: {member.name} has {member.size} bytes, a text has at most {MAX_FIELD}")
    return as_text(tar.read(member), f"{where}: {member.name}").strip()
