"""`--engine ray`: recordings answered by replicas of a model on a Ray cluster, and their lines in parts."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from mindspore_osum.cluster.parts import refuse_parts
from mindspore_osum.commands.console import Progress, failures, resumable, say, warn
from mindspore_osum.commands.jsonl import kept_lines, output_files
from mindspore_osum.errors import UserError
from mindspore_osum.files import check_on_disk
from mindspore_osum.inference.request import Request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.results import Response


@dataclass(frozen=True)
class Listening:
    """In a replica: responses to recordings of any length, all asked the same."""

    model: str
    device: str
    requests: Sequence[Request]
    how: dict  # settings of `api.OSUM.each`

    def open(self) -> Callable[[Sequence], list[Response]]:
        """Load the model."""
        model = _load(self)
        return lambda sources: list(model.each(sources, self.requests, **self.how))


@dataclass(frozen=True)
class Asking:
    """In a replica: responses to pairs of a recording, or an utterance, and a request."""

    model: str
    device: str
    sampling: Sampling
    batch_size: int
    common: Request | None = None  # of all: refused once, not for every recording

    def open(self) -> Callable[[Sequence], list[Response]]:
        """Load the model."""
        engine = _load(self).engine
        if self.common:
            engine.asked(self.common)
        how = {"sampling": self.sampling, "batch_size": self.batch_size}
        return lambda pairs: engine.answer([s for s, _ in pairs], requests=[r for _, r in pairs], **how)


def _load(work):
    from mindspore_osum.api import OSUM

    return OSUM.load(work.model, work.device)


def on_ray(args, to: str = "") -> bool:
    """Whether --engine ray is asked for; `to` is the option that says where answers go.

    Raises
    ------
    UserError : its options without it, no place for the answers, or standard input among the recordings;
        without it, --output of a job on Ray that was stopped.
    """
    if args.output:
        check_on_disk(args.output, f"--output {args.output}")
    if not args.engine:
        if args.output and Path(args.output).name:
            refuse_parts(Path(args.output))
        if given := [name for name in ("replicas", "address") if getattr(args, name) is not None]:
            raise UserError(f"--{given[0]} is of --engine ray; give that, too")
        return False
    if args.replicas is not None and args.replicas < 1:
        raise UserError(f"--replicas {args.replicas}: must be 1 or more")
    if args.batch_size < 1:
        raise UserError(f"batch_size {args.batch_size}: must be 1 or more")
    if not args.output:
        raise UserError(f"--engine ray writes answers to files; give {to}")
    if "-" in getattr(args, "audio", ()):
        raise UserError("-: replicas cannot read standard input; give --engine ray the recording as a file")
    return True


def files_of(model: str) -> list[list]:
    """What tells a model folder from others: name, bytes and time of its files; UserError if it is none."""
    from mindspore_osum.folder import read_config
    from mindspore_osum.hub import model_folder

    read_config(folder := model_folder(model))
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def answered(
    args, work: Listening | Asking, items: Sequence, todo: Sequence[int] | None = None
) -> Iterator[tuple[int, Sequence, list[Response]]]:
    """Number, items and responses of each part, as they are done.

    Parameters
    ----------
    todo : the parts that are asked for; all by default.
    """
    from mindspore_osum.cluster.bulk import answered, in_parts

    files_of(args.model)  # a mistake is said before anything is started
    parts = in_parts(items, size_of_parts(args, items))
    parts = parts if todo is None else {number: parts[number] for number in todo}

    def begun(replicas: int, options: dict) -> None:
        each = "an NPU" if "resources" in options else f"{options['num_cpus']} of the cores"
        say(f"loading {work.model} on {work.device}, {replicas} times, each with {each}")

    def lost() -> None:
        say("a replica was lost; its part is answered again")

    if parts:
        replies = answered(work, parts, args.replicas, work.device, args.address, begun, lost)
        with closing(replies), Progress(sum(map(len, parts.values()))) as progress:
            for number, responses in replies:
                progress.clear()
                yield number, parts[number], responses
                for response in responses:
                    if not response.error:
                        warn(response)
                progress(len(responses))


def size_of_parts(args, items: Sequence) -> int:
    """Items of a part."""
    from mindspore_osum.cluster.bulk import part_size

    return part_size(len(items), args.batch_size)


def kept_by_jobs(args, name: Callable[[dict], object], verb: str) -> dict[object, str]:
    """The lines of `kept_lines`; of a job on Ray that was begun, those that it keeps."""
    from mindspore_osum.cluster.parts import kept_file

    if not args.resume:
        return {}
    begun = kept_file(output_files(args.output)[0]) if args.output else None
    return kept_lines(str(begun) if begun else args.output, name, verb)


def write_in_parts(
    args, verb: str, work: Listening | Asking, items: Sequence, kept: dict, line_of: Callable
) -> int:
    """Answer items and write --output from parts; returns the exit status.

    Parameters
    ----------
    kept : lines of earlier jobs, which go before.
    line_of : makes the line of an item and its response.
    """
    from mindspore_osum.cluster.parts import Parts

    target, partial = output_files(args.output)
    job = {
        "verb": verb,
        "model": files_of(args.model),
        "settings": _digest([replace(work, model="")]),
        "batch_size": args.batch_size,
        "recordings": _digest(items),
    }
    parts, count = Parts(target, job, args.resume, kept.values()), 0
    try:
        count = -(-len(items) // size_of_parts(args, items))
        todo = parts.missing(count)
        if args.resume and count:
            say(f"{count - len(todo)} of {count} parts are there already")
        with resumable("--resume"), closing(answered(args, work, items, todo)) as replies:
            for number, asked, responses in replies:
                lines = [line_of(item, response) for item, response in zip(asked, responses, strict=True)]
                parts.add(number, lines, [response.error for response in responses if response.error])
        failed = parts.failed(count)
        parts.merge(count)
        partial.unlink(missing_ok=True)  # what was in it is kept
    finally:
        parts.close()
    return failures(failed)


def _digest(values: Sequence) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(repr(value).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()
