"""`open_source` reads all formats of training data.

    manifest (.jsonl, .json)   an object a line, or one array of objects: see line_formats.py; may end in .gz
    shard (.tar)               key.wav, key.txt, key.task, key.extra
    list of shards             a path, "-|path" or "combined.jsonl|path" a line

Notable choices
- The format follows from the suffix; for .list and .txt, which manifests and lists of shards both use, from
  the content. In a manifest the format of each line is detected separately.
- Everything is read as a stream, with limits on lengths; a key takes 8 bytes while its file is read.
- Paths are relative to the file that names them.
"""

import os
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from mindspore_osum.data.formats.line_formats import format_of, parse_line
from mindspore_osum.data.formats.manifest import MALFORMED, Skipped, Utterance
from mindspore_osum.data.formats.shards import FIELDS, read_shard
from mindspore_osum.data.formats.text_files import json_objects, suffix_of, text_lines
from mindspore_osum.errors import UserError
from mindspore_osum.files import as_text
from mindspore_osum.stores import is_address, is_stored, joined, place

SHARD = "shard"  # the format of a shard's samples
INDEX = "index.json"  # a file of each index (data/index)
_SNIFFED = 100  # lines of which a list of shards names one at least
_MOST_BAD = 20_000  # items that cannot be used, while there are not a tenth as many that can
_MAX_COMBINED = 2**30  # bytes of the list that is combined with one shard


def open_source(
    path: str | os.PathLike, formats: Counter[str] | None = None, whole: bool = False
) -> Iterator[Utterance | Skipped]:
    """The utterances of a source in order, and the items from which none was made.

    Parameters
    ----------
    path : a file of one of the formats above.
    formats : counts, while the source is read, its lines by the name of their format, and samples of shards.
    whole : whether all turns of a conversation are used; else the first one.

    Raises
    ------
    UserError : it cannot be read.
    """
    path, formats = place(path), Counter() if formats is None else formats
    shards = shards_of(path)
    if shards is None:
        return _bounded(_manifest(path, formats, whole), path)
    return _bounded(_counted(chain.from_iterable(map(read_listed, shards)), formats), path)


class Shard(NamedTuple):
    """A shard, as a line of a list names it."""

    tar: Path
    combined: Path | None  # the list that replaces its texts
    where: str  # file:line of the list, for errors


def shards_of(path: Path) -> Iterator[Shard | Skipped] | None:
    """The shards of a source, and wrong lines of a list of them; None for a manifest."""
    if path.suffix == ".tar":
        if not path.is_file():
            raise UserError(f"{path}: no such shard")
        return iter([Shard(path, None, str(path))])
    check_kind(path)
    if _is_manifest(path):
        return None
    _check_list(path)
    return _listed(path)


def read_listed(shard: Shard | Skipped) -> Iterator[Utterance | Skipped]:
    """The items of a shard, as of `open_source`."""
    if isinstance(shard, Skipped):
        yield shard
        return
    try:
        combined = _combined(shard.combined) if shard.combined else None
    except UserError as error:
        yield Skipped(MALFORMED, str(error))
        return
    yield from read_shard(shard.tar, combined)


def read_manifest(
    path: str | os.PathLike, strict: bool = False, whole: bool = False
) -> tuple[list[Utterance], list[str]]:
    """Read any source into memory.

    Parameters
    ----------
    path : a .jsonl manifest, a shard or a list of shards; recordings are looked up relative to its folder.
    strict : raise at the first malformed line instead of listing it.
    whole : as of `open_source`.

    Returns
    -------
    The utterances, and one line "file:line: what is wrong" for each malformed one.

    Raises
    ------
    UserError : the file cannot be read, holds no usable line, or (strict) a line is malformed.
    """
    utterances, problems = [], []
    for item in open_source(path, whole=whole):
        if isinstance(item, Utterance):
            utterances.append(item)
        elif strict and item.error:
            raise UserError(item.text)
        else:
            problems.append(item.text)
    if not utterances:
        raise UserError(
            f"{path}: no usable line" + (f"; the first problem: {problems[0]}" if problems else "")
        )
    return utterances, problems


def _bounded(items: Iterator[Utterance | Skipped], path: Path) -> Iterator[Utterance | Skipped]:
    """The items, until it is clear that they are none: a small file of gzip has millions of them."""
    good, bad, first = 0, 0, ""
    for item in items:
        good += isinstance(item, Utterance)
        if isinstance(item, Skipped) and item.error:
            bad, first = bad + 1, first or item.text
            if bad > _MOST_BAD + 10 * good:
                raise UserError(f"{path}: {bad} items cannot be used, only {good} can; the first: {first}")
        yield item


def _counted(items: Iterator[Utterance | Skipped], formats: Counter[str]) -> Iterator[Utterance | Skipped]:
    for item in items:
        if isinstance(item, Utterance):
            formats[SHARD] += 1
        yield item


def _is_manifest(path: Path) -> bool:
    if suffix_of(path) in (".jsonl", ".json"):
        return True
    return next((raw.lstrip().startswith(b"{") for _, raw in text_lines(path)), True)


def check_kind(path: Path) -> None:
    """UserError, with what to do, for a folder, a table or a recording, where a manifest or list belongs."""
    from mindspore_osum.speech.audio import READABLE  # numpy: importers do without

    if path.is_dir():
        if (path / INDEX).is_file():
            raise UserError(
                f"{path}: is an index, which data.train and data.valid of a job take; give the manifests or "
                "shards that it was made of"
            )
        raise UserError(f"{path}: is a folder; give the manifests or shards in it, as {path}/*.jsonl")
    if suffix_of(path) in (".csv", ".tsv"):
        raise UserError(
            f"{path}: is a table; `osum data import own FOLDER OUT` makes manifests of a folder's train, "
            f"valid and test{suffix_of(path)}, with the columns audio and text"
        )
    if suffix_of(path).removeprefix(".") in READABLE:
        raise UserError(f"{path}: is a recording; give a manifest that names it and its text")


def _check_list(path: Path) -> None:
    """UserError if a file is no list of shards, so that its lines are not reported as their names."""
    if not any(raw.rstrip().lower().endswith(b".tar") for _, raw in islice(text_lines(path), _SNIFFED)):
        raise UserError(
            f"{path}: neither a manifest, which has a JSON object a line, nor a list of shards, which has "
            "the path of a .tar a line"
        )


def _manifest(path: Path, formats: Counter[str], whole: bool) -> Iterator[Utterance | Skipped]:
    seen: set[bytes] = set()
    for where, values in json_objects(path):
        if not isinstance(values, Skipped):
            formats[format_of(values).name] += 1
        for item in line_items(values, path.parent, where, whole):
            yield once(item, seen) if isinstance(item, Utterance) else item


def once(utt: Utterance, seen: set[bytes]) -> Utterance | Skipped:
    """The utterance, or Skipped if its key is in `seen`; its key is added there."""
    key = blake2b(utt.key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    if key in seen:
        return Skipped(MALFORMED, f"{utt.where}: key {utt.key!r} is there twice; keys name an utterance")
    seen.add(key)
    return utt


def line_items(
    values: dict | Skipped, folder: Path, where: str, whole: bool = False
) -> Iterator[Utterance | Skipped]:
    """The utterances of a manifest line, and what was not used; `whole` as of `open_source`."""
    if isinstance(values, Skipped):
        yield values
    else:
        yield from parse_line(values, folder, where, whole=whole)


def _listed(path: Path) -> Iterator[Shard | Skipped]:
    for where, raw in text_lines(path):
        try:
            line = as_text(raw, where).strip()
            *combination, shard = line.split("|")
            if len(combination) > 1 or len(line) > 2**13 or _no_path(shard) or not shard.strip():
                raise UserError(
                    f'{where}: {line[:60]!r}: expected the path of a .tar, "-|tar" or "json_path|tar"'
                )
        except UserError as error:
            yield Skipped(MALFORMED, str(error))
            continue
        names = [name.strip() for name in combination if name.strip() != "-"]
        tar, combined = (
            name and place(joined(path.parent, name)) for name in (shard.strip(), *names, None)[:2]
        )
        yield Shard(tar, combined, where)


def _no_path(name: str) -> bool:
    return is_address(name) and not is_stored(name)


def _combined(path: Path) -> dict[str, dict]:
    """Key -> object of the list that is combined with a shard."""
    if path.is_file() and path.stat().st_size > _MAX_COMBINED:
        raise UserError(f"{path}: more than {_MAX_COMBINED} bytes for one shard")
    found = {}
    for where, values in json_objects(path):
        if isinstance(values, Skipped):
            raise UserError(values.text)
        missing = [name for name in ("key", *FIELDS) if name not in values]
        if missing or not isinstance(values["key"], str):
            raise UserError(f"{where}: to replace a shard's own, an object needs key, txt, task and extra")
        found[values["key"]] = values
    return found
