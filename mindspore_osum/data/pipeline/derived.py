"""Writes what a step of the pipeline made of utterances, without copying their recordings.

Notable choices
- Utterances of manifests become one manifest. Those of shards become the published form of new texts for
  known recordings: a list of `combined.jsonl|path.tar`, with a file of lines for each tar.
- All files appear together, when they are complete; the same lines give the same bytes.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, groupby
from pathlib import Path

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError, is_plain
from mindspore_osum.files import check_place, replacing
from mindspore_osum.interrupts import unfinished
from mindspore_osum.speech.opening import FilePart


def write_derived(out: Path, utterances: Iterable[Utterance]) -> int:
    """Write utterances to `out`: a manifest, .jsonl, or for those of shards a list, .list.

    Returns
    -------
    Number of utterances.

    Raises
    ------
    UserError : the name does not suit the utterances, there are none, or the file cannot be written.
    """
    utterances = iter(utterances)
    first = next(utterances, None)
    if first is None:
        raise UserError(
            f"{out}: nothing to write: the sources have no utterance, or none was left (see above)"
        )
    of_shards = isinstance(first.wav, FilePart)
    check_name(out, of_shards)
    utterances = _of_one_kind(chain([first], utterances), of_shards)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return _write_list(out, utterances) if of_shards else _write_manifest(out, utterances)
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot write there ({error.strerror})") from None


def check_outputs(sources: Sequence[str], **paths: Path | None) -> None:
    """Refuse, before any work, files that cannot be written or that the command reads.

    Parameters
    ----------
    sources : paths that are read.
    paths : option -> file to write.

    Raises
    ------
    UserError : a folder, the same file twice, one of the sources, or no place to write to.
    """
    read = {os.path.realpath(source) for source in sources}
    seen: dict[str, str] = {}
    for name, path in paths.items():
        if path is None:
            continue
        real = os.path.realpath(path)
        if path.is_dir():
            raise UserError(f"--{name} {path}: is a folder; give the name of a new file in it")
        if real in read:
            raise UserError(f"--{name} {path}: is read by this command; give another name")
        if real in seen:
            raise UserError(f"--{name} {path}: is the same file as --{seen[real]}; give another name")
        seen[real] = name
        check_place(path, f"--{name} {path}")
    if (out := paths.get("output")) and out.suffix not in (".jsonl", ".list"):
        raise UserError(f"{out}: give --output a name that ends in .jsonl, or for shards in .list")


def check_name(out: Path, of_shards: bool) -> None:
    """UserError if the name of an output does not suit its sources."""
    wanted = ".list" if of_shards else ".jsonl"
    if out.suffix != wanted:
        kind = "shards become a list of shards with new texts" if of_shards else "manifests become a manifest"
        raise UserError(f"{out}: {kind}; give --output a name that ends in {wanted}")


def _of_one_kind(utterances: Iterable[Utterance], of_shards: bool) -> Iterator[Utterance]:
    for utt in utterances:
        if isinstance(utt.wav, FilePart) != of_shards:
            raise UserError(f"{utt.where}: manifests and shards in one run; take them one after the other")
        yield utt


def values_of(utt: Utterance, folder: Path) -> dict:
    """The published line of an utterance in a manifest in `folder`, as an object."""
    values = {"key": utt.key, "wav": utt.wav and path_in(folder, utt.wav, utt.where)}
    values |= {"txt": utt.txt, "task": utt.task, "extra": utt.extra}
    times = {name: getattr(utt, name) for name in ("start", "end") if getattr(utt, name) is not None}
    return values | times


def _line(values: dict) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode("utf-8") + b"\n"


def path_in(folder: Path, path: str, where: str) -> str:
    """A path as files in `folder` name it; UserError if it is no Unicode text."""
    try:
        name = Path(os.path.relpath(os.path.realpath(path), os.path.realpath(folder))).as_posix()
    except ValueError:  # another drive
        name = os.path.realpath(path)
    if not is_plain(name):
        raise UserError(f"{where}: the path {name!r} cannot be written in a manifest; rename it")
    return name


def _write_manifest(out: Path, utterances: Iterator[Utterance]) -> int:
    count = 0
    with replacing(out) as file:
        for utt in utterances:
            file.write(_line(values_of(utt, out.parent)))
            count += 1
    return count


def _write_list(out: Path, utterances: Iterator[Utterance]) -> int:
    """The list and its files of lines, NAME.00000.jsonl, ... beside it."""
    count, names = 0, []
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=out.parent, prefix=".derived-")))
        unfinished.add(temporary)
        stack.callback(unfinished.discard, temporary)
        for number, (tar, samples) in enumerate(groupby(utterances, lambda utt: utt.wav.path)):
            name = f"{out.stem}.{number:05d}.jsonl"
            path = path_in(out.parent, tar, str(out))
            if "|" in path:
                raise UserError(f"{tar}: a list of shards cannot name a path with '|' in it; rename it")
            names.append(f"{name}|{path}\n")
            with open(temporary / name, "wb") as file:
                for utt in samples:
                    values = {"key": utt.key, "txt": utt.txt, "task": utt.task, "extra": utt.extra}
                    file.write(_line(values))
                    count += 1
        for line in names:
            name = line.partition("|")[0]
            os.replace(temporary / name, out.parent / name)
        with replacing(out) as file:
            file.write("".join(names).encode("utf-8"))
    return count
