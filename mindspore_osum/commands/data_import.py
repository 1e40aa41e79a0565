"""`osum data import NAME ROOT OUT`: manifests from the folders of a published corpus."""

import argparse
import os
import re
import tempfile
from pathlib import Path

from mindspore_osum.config import did_you_mean
from mindspore_osum.data.formats.importers.corpus import Corpus, Place
from mindspore_osum.data.formats.importers.json_files import JSON_FILES
from mindspore_osum.data.formats.importers.lists import LISTS
from mindspore_osum.data.formats.importers.tables import TABLES
from mindspore_osum.data.formats.importers.write import Manifest, write_split
from mindspore_osum.errors import UserError

CORPORA: dict[str, Corpus] = {c.name: c for c in sorted((*LISTS, *TABLES, *JSON_FILES), key=lambda c: c.name)}
MAX_KINDS = 20  # kinds of problems shown; all of them are in the list of problems


class _List(argparse.Action):
    """--list: print the table of corpora and end, as --help does."""

    def __call__(self, parser, namespace, values, option_string=None):
        print(corpus_table())
        parser.exit()


def add_arguments(parser) -> None:
    """The arguments of `osum data import`."""
    parser.add_argument("--list", action=_List, nargs=0, help="the corpora, their tasks, what must be there")
    parser.add_argument("name", metavar="NAME", help="the corpus; see --list")
    parser.add_argument("root", metavar="ROOT", type=Path, help="its folder")
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        help="folder of the manifests, <name>-<split>-<task>.jsonl, with what was left out",
    )
    parser.add_argument(
        "--split",
        action="append",
        metavar="SPLIT",
        help="only this split (may be repeated); default: all that are there",
    )
    parser.add_argument(
        "--task",
        action="append",
        metavar="TASK",
        help="asr, ser, ... or a published key like '<TRANSCRIBE> <AGE>' (may be repeated); "
        "default: what the papers use the corpus for",
    )
    parser.add_argument(
        "--limit", type=_positive, metavar="N", help="only the first N utterances of each manifest"
    )
    parser.add_argument(
        "--cut",
        action="store_true",
        help="write segments of recordings as wav files under OUT/wav, without start and end",
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def run(args) -> int:
    """Import as the arguments say and tell what came of it; 0."""
    corpus = find_corpus(args.name)
    if args.cut and not corpus.segments:
        raise UserError(f"--cut: {corpus.name} has no segments of longer recordings; leave the option away")
    wanted = [corpus.wanted(task) for task in dict.fromkeys(args.task or corpus.tasks)]
    tasks = list(dict.fromkeys(key for key, _ in wanted))
    places = find_places(corpus, args.root, args.split, frozenset().union(*(fields for _, fields in wanted)))
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        out = args.out.resolve()
        with tempfile.TemporaryDirectory(dir=out, prefix=".import-") as temporary:
            done = [
                m
                for place in places
                for m in write_split(corpus, place, tasks, Path(temporary), out, args.limit, args.cut)
            ]
            _check(done, args)
            _move(done, Path(temporary), out)
    except OSError as error:
        raise UserError(f"{error.filename or args.out}: {error.strerror}") from None
    print("\n".join(line for manifest in done for line in describe(manifest, args.out)))
    return 0


def find_corpus(name: str) -> Corpus:
    """The corpus of a name; case, spaces, `-` and `_` do not matter. UserError if there is none."""
    folded = {re.sub(r"[\s_-]", "", known): known for known in CORPORA}
    known = folded.get(re.sub(r"[\s_-]", "", name.lower()))
    if known is None:
        raise UserError(
            f"corpus {name!r}: not known{did_you_mean(name.lower(), CORPORA)}; see osum data import --list"
        )
    return CORPORA[known]


def find_places(corpus: Corpus, root: Path, splits: list[str] | None, wanted: frozenset[str]) -> list[Place]:
    """The given splits, or all that are there; UserError if one that was given, or every one, is missing."""
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


def _check(done: list[Manifest], args) -> None:
    """Refuse an import that gives nothing: of a split or a task that was asked for, or as a whole."""
    groups = [[m] for m in done] if args.split else [done]
    if args.task:
        groups += [[m for m in done if m.task == task] for task in dict.fromkeys(m.task for m in done)]
    for group in groups:
        if not any(m.keys for m in group):
            told = next((m for m in group if m.problems), group[0])
            reasons = "; ".join(
                f"{n} {kind} (first: {told.first[kind]})" for kind, n in told.problems.most_common(3)
            )
            raise UserError(f"{told.stem}: nothing to import: {reasons or 'no utterances in it'}")


def _move(done: list[Manifest], temporary: Path, out: Path) -> None:
    for manifest in done:
        for name in (f"{manifest.stem}.jsonl", f"{manifest.stem}.problems.txt"):
            if (temporary / name).exists():
                os.replace(temporary / name, out / name)
            else:
                (out / name).unlink(missing_ok=True)  # of an earlier import: no longer true


def describe(manifest: Manifest, out: Path) -> list[str]:
    """Lines about a manifest: what is in it, and what was left out; none for a split that is not there."""
    if not manifest.keys and not manifest.problems:
        return []
    labels = ", ".join(f"{value} {n}" for value, n in sorted(manifest.labels.items()))
    path = f" -> {out / manifest.stem}.jsonl" if manifest.keys else ", no manifest"
    lines = [f"{manifest.stem}: {len(manifest.keys)} utterances{f' ({labels})' if labels else ''}{path}"]
    kinds = manifest.problems.most_common()
    lines += [f"  {n} left out, {kind}; first: {manifest.first[kind]}" for kind, n in kinds[:MAX_KINDS]]
    if kinds:
        more = f"{len(kinds) - MAX_KINDS} more kinds; " if len(kinds) > MAX_KINDS else ""
        lines.append(f"  {more}all of them: {out / manifest.stem}.problems.txt")
    return lines


def corpus_table() -> str:
    """The table of --list."""
    lines = ["corpus: tasks in the papers [also possible]; what must be under ROOT; splits"]
    for corpus in CORPORA.values():
        lines += [
            "",
            f"{corpus.name}: {', '.join(corpus.tasks)} [from {', '.join(corpus.offers)}]",
            f"  {corpus.needs}",
            f"  splits: {_short(list(corpus.splits))}",
            f"  layout from: {corpus.source}",
        ]
    return "\n".join(lines)


def _short(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{names[0]}, {names[1]}, ... {names[-1]}"
