"""Recordings as folders: which subjects there are, making one, comparing two."""

import json
import subprocess
import tempfile
import time
from pathlib import Path

from tests.equal import asking, conversion, golden, planning, training
from tests.equal.checkout import CannotRecord, Checkout
from tests.equal.values import LEFT_OUT, differences, flat

# subject -> what records it: (Checkout, chosen parts, all of them if empty) -> nested values, by part
SUBJECTS = {
    "plan": planning.record,
    "answers": asking.answers,
    "eval": asking.scores,
    "conversion": conversion.record,
    "golden": golden.record,
    "training": training.record,
}
SKIPPED = "skipped"  # part/skipped: why a part is not recorded here


def chosen(only: list[str] | None) -> dict[str, set[str]]:
    """Subject -> parts (all, if empty) of the words of --only."""
    found: dict[str, set[str]] = {}
    for word in only or SUBJECTS:
        subject, _, parts = word.partition(":")
        if subject not in SUBJECTS:
            raise CannotRecord(f"--only {word}: no such subject; choose of {', '.join(SUBJECTS)}")
        found[subject] = found.get(subject, set()) | set(filter(None, parts.split(",")))
    return found


def record(folder: Path, root: Path, subjects: dict[str, set[str]]) -> int:
    """Record the subjects of a checkout into a folder; 1 if one of them could not be."""
    folder.mkdir(parents=True, exist_ok=True)
    status = 0
    for subject, parts in subjects.items():
        began = time.monotonic()
        try:
            with tempfile.TemporaryDirectory() as work:
                nested = SUBJECTS[subject](Checkout(root, Path(work)), parts)
        except CannotRecord as error:
            print(f"{subject}: cannot be recorded: {error}", flush=True)
            status = 1
            continue
        values = dict(flat(nested, LEFT_OUT[subject]))
        for part in sorted(parts - {key.partition("/")[0] for key in values}):
            raise CannotRecord(f"--only {subject}:{part}: no such part")
        text = json.dumps(values, ensure_ascii=False, indent=0)
        (folder / f"{subject}.json").write_text(text, "utf-8")
        print(f"{subject}: {len(values)} values, {time.monotonic() - began:.0f} s", flush=True)
    head = subprocess.run(["git", "log", "-1", "--format=%h %s"], cwd=root, capture_output=True, text=True)
    (folder / "tree.txt").write_text(head.stdout, "utf-8")
    return status


def compare(before: Path, after: Path, subjects: dict[str, set[str]], but: set[str]) -> int:
    """Compare two recordings; 1 if they differ in any key that has none of the names `but`."""
    status = 0
    for subject, parts in subjects.items():
        status |= compare_subject(subject, parts, but, read(before, subject), read(after, subject))
    return status


def compare_subject(subject: str, parts: set[str], but: set[str], old: dict | None, new: dict | None) -> int:
    """Print how two recordings of a subject differ; 1 if they do."""
    if old is None or new is None:
        print(f"{subject}: not in {'the first' if old is None else 'the second'} recording")
        return 1
    skipped = {key.partition("/")[0] for some in (old, new) for key in some if key.endswith(f"/{SKIPPED}")}

    def counted(values: dict) -> dict:
        found = {}
        for key, value in values.items():
            part, *names = key.split("/")
            if part not in skipped and (not parts or part in parts) and not but.intersection(names):
                found[key] = value
        return found

    lines, reworded = differences(counted(old), counted(new))
    for part in sorted(skipped):
        print(f"{subject}: {part} is left out, {(old | new)[f'{part}/{SKIPPED}']}")
    for line in lines:
        print(f"{subject}: {line}")
    words = f"; {reworded} texts have other words around the same numbers" if reworded else ""
    if not lines:
        print(f"{subject}: equal, {len(counted(old))} values{words}", flush=True)
    elif words:
        print(f"{subject}{words}")
    return int(bool(lines))


def read(folder: Path, subject: str) -> dict | None:
    """The recorded values of a subject by key, None if there are none."""
    path = folder / f"{subject}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None
