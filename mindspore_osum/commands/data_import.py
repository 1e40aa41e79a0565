"""`osum data import NAME ROOT OUT`: manifests from a published corpus, or from another project's manifest."""

import argparse
from pathlib import Path

from mindspore_osum.data.formats.importers.importing import CORPORA, find_corpus, import_corpus
from mindspore_osum.data.formats.importers.manifests import PROJECTS, find_project, import_manifest
from mindspore_osum.data.formats.importers.write import Written
from mindspore_osum.errors import UserError

MAX_KINDS = 20  # kinds of problems shown; all of them are in the list of problems


class _List(argparse.Action):
    """--list: print the table of corpora and end, as --help does."""

    def __call__(self, parser, namespace, values, option_string=None):
        print(corpus_table())
        parser.exit()


def add_arguments(parser) -> None:
    """The arguments of `osum data import`."""
    parser.add_argument("--list", action=_List, nargs=0, help="the corpora, their tasks, what must be there")
    parser.add_argument("name", metavar="NAME", help="the corpus or the project; see --list")
    parser.add_argument("root", metavar="ROOT", type=Path, help="its folder; of a project, the manifest")
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
        help="asr, ser, ... or a published key like '<TRANSCRIBE> <AGE>' (may be repeated); default: what "
        "the papers use the corpus for. Of a project's manifest: the task of lines that name none",
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
    """Import as the arguments say and print a summary; 0."""
    if project := find_project(args.name):
        if args.split or len(args.task or []) > 1:
            raise UserError(f"{project.name}: a manifest has no splits and takes one --task; leave them out")
        task = args.task[0] if args.task else None
        done = [import_manifest(project, args.root, args.out, task, args.limit, args.cut)]
    else:
        find_corpus(args.name, PROJECTS)
        done = import_corpus(args.name, args.root, args.out, args.split, args.task, args.limit, args.cut)
    print("\n".join(line for manifest in done for line in describe(manifest, args.out)))
    return 0


def describe(manifest: Written, out: Path) -> list[str]:
    """Lines about a manifest: what is in it, and what was left out; none for a missing split."""
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
    lines += ["", "manifests of other projects (ROOT is the file):"]
    lines += [f"  {project.name}: {project.lines}" for project in PROJECTS.values()]
    return "\n".join(lines)


def _short(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{names[0]}, {names[1]}, ... {names[-1]}"
