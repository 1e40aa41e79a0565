"""Manifests of other projects as published ones. Training reads both: this is for checking and for parts.

Notable choices
- A project's manifest holds lines of its formats only (see line_formats.py); others are problems.
- Recordings are looked up, and their parts can be written as files of their own, as for corpora.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from mindspore_osum.data.formats import conversations
from mindspore_osum.data.formats.importers.corpus import NO_RECORDING, Problem
from mindspore_osum.data.formats.importers.importing import appearing, check, move
from mindspore_osum.data.formats.importers.write import Segments, Written, name_in
from mindspore_osum.data.formats.line_formats import LHOTSE, PAIR, RECORDINGS, format_of, parse_line
from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.sources import once
from mindspore_osum.data.formats.text_files import json_objects
from mindspore_osum.tasks import task_key


@dataclass(frozen=True)
class Project:
    """A project whose manifests are imported: its name, the formats of its lines, and these in short."""

    name: str
    formats: frozenset[str]
    lines: str


_TALKS = {conversations.MESSAGES, conversations.CONVERSATIONS}
PROJECTS = {
    project.name: project
    for project in (
        Project("funasr", frozenset({"FunASR"}), '{"key", "source", "target"}'),
        Project(
            "huggingface", frozenset(RECORDINGS.values()), '{"file_name", "text"}, {"audio", "sentence"}'
        ),
        Project("lhotse", frozenset({LHOTSE}), "cuts.jsonl or cuts.jsonl.gz"),
        Project(
            "llama-factory",
            frozenset({*_TALKS, conversations.INSTRUCTION}),
            '{"conversations", "audios"}, {"messages", "audios"}, {"instruction", "output", "audios"}',
        ),
        Project("nemo", frozenset({"NeMo"}), '{"audio_filepath", "text", "offset", "duration"}'),
        Project(
            "swift",
            frozenset({*_TALKS, conversations.QUERY}),
            '{"messages", "audios"}, {"query", "response", "audios"}',
        ),
        Project("west", frozenset({PAIR, *_TALKS}), '{"wav", "txt"}, {"messages"}; also of WeNet'),
    )
}


def import_manifest(
    project: Project,
    file: Path,
    out: Path,
    task: str | None = None,
    limit: int | None = None,
    cut: bool = False,
) -> Written:
    """Write OUT/<project>-<name of the file>.jsonl.

    Parameters
    ----------
    task : abbreviation or published key, for lines with a recording that do not say theirs.
    limit : most utterances; None for all.
    cut : whether parts of recordings are written as separate files.

    Raises
    ------
    UserError : the file cannot be read, the task is unknown, or there is nothing to import.
    """
    task = task and task_key(task)
    with appearing(out) as (folder, target):
        written = Written(f"{project.name}-{file.name.removesuffix('.gz').rpartition('.')[0] or file.name}")
        segments = Segments(folder, target) if cut else None
        seen: set[bytes] = set()
        try:
            with open(folder / f"{written.stem}.jsonl", "w", encoding="utf-8") as lines:
                for where, values in json_objects(file):
                    if limit is not None and len(written.keys) >= limit:
                        break
                    for item in _items(project, values, file.resolve().parent, where, task):
                        item = once(item, seen) if isinstance(item, Utterance) else item
                        line = _line(item, target, segments)
                        if isinstance(line, Problem):
                            written.leave_out(line)
                            continue
                        lines.write(json.dumps(line, ensure_ascii=False) + "\n")
                        written.keys.add(line["key"])
        finally:
            if segments:
                segments.close()
        check([written])
        written.list_problems(folder)
        move([written], folder, target)
    return written


def _items(project: Project, values: dict | Skipped, folder: Path, where: str, task: str | None):
    """What a line holds, if it is one of the project's."""
    if isinstance(values, Skipped):
        return [values]
    form = format_of(values).name
    if form not in project.formats:
        return [Skipped("line of another format", f"{where}: {form}, not {project.lines}")]
    return parse_line(values, folder, where, task)


def _line(item: Utterance | Skipped, out: Path, segments: Segments | None) -> dict | Problem:
    """The published line of an utterance, or why there is none."""
    if isinstance(item, Skipped):
        return Problem(item.reason, item.text)
    line = {"key": item.key, "wav": None, "txt": item.txt, "task": item.task, "extra": item.extra}
    if item.wav is None:
        return line
    wav = Path(item.wav)
    if not wav.is_file():
        return Problem(NO_RECORDING, f"{item.where}: {wav}")
    times = {name: seconds for name in ("start", "end") if (seconds := getattr(item, name)) is not None}
    if segments and len(times) == 2:
        wav, times = segments.write(wav, item), {}
    name = wav if isinstance(wav, Problem) else name_in(out, wav, item.where)
    return name if isinstance(name, Problem) else {**line, "wav": name, **times}


def find_project(name: str) -> Project | None:
    """The project with this name; None for the names of corpora."""
    return PROJECTS.get(name.lower().replace("_", "-"))
