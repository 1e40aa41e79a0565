"""Import of a published corpus by its name; the manifests appear only when all of them are complete."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mindspore_osum.config import did_you_mean
from mindspore_osum.data.formats.importers.corpus import Corpus, Place
from mindspore_osum.data.formats.importers.json_files import JSON_FILES
from mindspore_osum.data.formats.importers.kaldi import KALDI
from mindspore_osum.data.formats.importers.lists import LISTS
from mindspore_osum.data.formats.importers.tables import TABLES
from mindspore_osum.data.formats.importers.write import Manifest, Written, write_split
from mindspore_osum.errors import UserError

CORPORA: dict[str, Corpus] = {
    c.name: c for c in sorted((*LISTS, *TABLES, *JSON_FILES, *KALDI), key=lambda c: c.name)
}


def import_corpus(
    name: str,
    root: Path,
    out: Path,
    splits: list[str] | None = None,
    tasks: list[str] | None = None,
    limit: int | None = None,
    cut: bool = False,
) -> list[Manifest]:
    """Write the manifests of a corpus, one for each split and task.

    Parameters
    ----------
    name : name of the corpus, see `find_corpus`.
    root : folder of the corpus.
    out : folder of the manifests; nothing in it changes unless all of them are complete.
    splits : the splits to import; None for all that exist.
    tasks : abbreviations or published keys; None for the tasks that the papers use the corpus for.
    limit : most utterances per manifest; None for all.
    cut : whether segments of recordings are written as separate files.

    Raises
    ------
    UserError : no such corpus, split or task, folders that are not as published, or nothing to import.
    """
    corpus = find_corpus(name)
    if cut and not corpus.segments:
        raise UserError(f"--cut: {corpus.name} has no segments of longer recordings; leave the option out")
    wanted = [corpus.wanted(task) for task in dict.fromkeys(tasks or corpus.tasks)]
    keys = list(dict.fromkeys(key for key, _ in wanted))
    places = find_places(corpus, root, splits, frozenset().union(*(fields for _, fields in wanted)))
    with appearing(out) as (folder, target):
        done = [
            manifest
            for place in places
            for manifest in write_split(corpus, place, keys, folder, target, limit, cut)
        ]
        check(done, bool(splits), bool(tasks))
        move(done, folder, target)
    return done


@contextlib.contextmanager
def appearing(out: Path) -> Iterator[tuple[Path, Path]]:
    """A temporary folder within `out`, and `out`, made if needed; UserError if they cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        target = out.resolve()
        with tempfile.TemporaryDirectory(dir=target, prefix=".import-") as temporary:
            yield Path(temporary), target
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror}") from None


def find_corpus(name: str, others: Iterable[str] = ()) -> Corpus:
    """The corpus with this name; case, spaces, `-` and `_` are ignored.

    Parameters
    ----------
    others : names of what is no corpus but would have been right as well, for the error.

    Raises
    ------
    UserError : there is none.
    """
    folded = {re.sub(r"[\s_-]", "", known): known for known in CORPORA}
    known = folded.get(re.sub(r"[\s_-]", "", name.lower()))
    if known is None:
        raise UserError(
            f"corpus {name!r}: not known{did_you_mean(name.lower(), [*CORPORA, *others])}; "
            "see osum data import --list"
        )
    return CORPORA[known]


def find_places(corpus: Corpus, root: Path, splits: list[str] | None, wanted: frozenset[str]) -> list[Place]:
    """The given splits, or all that exist; UserError if a given one is missing, or all are."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    for split in splits or ():
        if split not in corpus.splits:
            hint = did_you_mean(split, corpus.splits)
            raise UserError(f"--split {split}: {corpus.name} has no such split{hint}")
    names = dict.fromkeys(splits or corpus.splits)
    places = {split: corpus.place(root.resolve(), split, wanted) for split in names}
    missing = [split for split, place in places.items() if place is None]
    if missing and (splits or len(missing) == len(names)):
        looked = ", ".join(str(root / path) for path in corpus.splits[missing[0]])
        raise UserError(f"{corpus.name} {missing[0]}: missing, looked for {looked}; needs {corpus.needs}")
    return [place for place in places.values() if place]


def check(done: Sequence[Written], by_split: bool = False, by_task: bool = False) -> None:
    """UserError if nothing was imported, as a whole or for a requested split or task."""
    groups = [[m] for m in done] if by_split else [done]
    if by_task:
        groups += [[m for m in done if m.task == task] for task in dict.fromkeys(m.task for m in done)]
    for group in groups:
        if not any(m.keys for m in group):
            first = next((m for m in group if m.problems), group[0])
            reasons = "; ".join(
                f"{n} {kind} (first: {first.first[kind]})" for kind, n in first.problems.most_common(3)
            )
            raise UserError(f"{first.stem}: nothing to import: {reasons or 'no utterances in it'}")


def move(done: Sequence[Written], temporary: Path, out: Path) -> None:
    """Replace the manifests in `out` and their lists of problems by those in `temporary`."""
    for manifest in done:
        for name in (f"{manifest.stem}.jsonl", f"{manifest.stem}.problems.txt"):
            if (temporary / name).exists():
                os.replace(temporary / name, out / name)
            else:
                (out / name).unlink(missing_ok=True)  # left by an earlier import, now outdated
