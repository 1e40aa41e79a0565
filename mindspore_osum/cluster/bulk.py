"""Bulk work on replicas of a model: Ray Data starts them, gives them parts, and repeats what a lost one had.

    for number, responses in answered(work, {0: ["a.wav", "b.wav"], 1: ["c.wav"]}, replicas=2, device="CPU"):
        ...

Notable choices
- A part is what is given and answered as a whole. Answers come as soon as their part is done, in any order,
  and are written by the process that asked. So a part that was computed twice, because its replica was lost
  before its answers arrived, is received once.
- A replica works in the folder of the process that asked, so that names of files mean the same there.
- A part that has ended its replica `STARTS` times is an error: a recording may be the reason. Ray's own limit
  does not do: while a machine is lost and Ray does not know it yet, it counts every attempt to reach it.
"""

import contextlib
import io
import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from mindspore_osum.cluster.ray import joined, reserved, usual_replicas
from mindspore_osum.errors import UserError, one_line

STARTS = 4
BATCHES = 16  # of the largest part
PARTS = 128  # of a job whose parts are smaller, about so many


class Work(Protocol):
    """What replicas do; it is sent to them."""

    def open(self) -> Callable[[Sequence], list]:
        """In a replica: load the model; returns what answers a part. Both may raise UserError."""


def part_size(count: int, batch_size: int) -> int:
    """Items of a part, a multiple of the batch; parts are small enough that replicas end together."""
    batches = -(-count // (PARTS * batch_size))
    return batch_size * min(max(batches, 1), BATCHES)


def in_parts(items: Sequence, size: int) -> dict[int, Sequence]:
    """Number -> part, in the order of the items."""
    return {n: items[start : start + size] for n, start in enumerate(range(0, len(items), size))}


def answered(
    work: Work,
    parts: Mapping[int, Sequence],
    replicas: int | None,
    device: str,
    address: str | None = None,
    begun: Callable[[int, dict], None] = lambda replicas, options: None,
    lost: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, list]]:
    """Each part's number and answers, as they are done.

    Parameters
    ----------
    work : what answers a part; an answer for each item.
    replicas : how many models work at a time; None for `usual_replicas`.
    device : "CPU" or "Ascend", which a replica has one NPU of.
    address : of `joined`.
    begun : called with the number of replicas and what each has of the cluster, before they start.
    lost : called when a part is repeated, since its replica ended.

    Raises
    ------
    UserError : no such cluster, too few resources, what the work raises, or a part that ends its replicas.
    """
    with joined(address) as ray, contextlib.redirect_stdout(io.StringIO()):  # Ray prints there
        replicas = min(replicas or usual_replicas(device), len(parts))
        options = reserved(replicas, device)
        begun(replicas, options)
        found = _dataset(ray, work, parts, replicas, options)
        try:
            for row in _rows(found):
                if row["start"] > 1:
                    lost()
                if row["error"]:
                    raise UserError(row["error"])
                yield int(row["part"]), list(row["answers"])
        except ray.exceptions.RayError as error:
            raise UserError(f"Ray: {_last_line(error)}") from None


def _rows(found) -> Iterator[dict]:
    for batch in found.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
        yield from (dict(zip(batch, values)) for values in zip(*batch.values()))


def _dataset(ray, work: Work, parts: Mapping[int, Sequence], replicas: int, options: dict):
    """The answers to parts, each of them a block of its own, so that it comes when it is done."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False  # the caller's to show
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    starts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Starts).remote()
    rows = [{"part": number, "items": list(items)} for number, items in parts.items()]
    with warnings.catch_warnings():  # of what Ray 2.64 has another way for
        warnings.simplefilter("ignore")
        return ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Replica,
            fn_constructor_args=(work, os.getcwd(), lambda part: ray.get(starts.add.remote(part))),
            compute=ray.data.ActorPoolStrategy(size=replicas, max_tasks_in_flight_per_actor=1),
            **options,
        )


class _Starts:
    """Counts how often each part was started, in a process that no recording ends."""

    def __init__(self):
        self.counts: Counter[int] = Counter()

    def add(self, part: int) -> int:
        """One more; returns how many by now."""
        self.counts[part] += 1
        return self.counts[part]


class _Replica:
    """One model, in a process of its own."""

    def __init__(self, work: Work, folder: str, start: Callable[[int], int]):
        self.work, self.folder, self.start, self.answer = work, folder, start, None

    def __call__(self, row: dict) -> dict:
        answers, error, start = [], "", self.start(int(row["part"]))
        try:
            if start > STARTS:
                raise UserError(
                    f"part {row['part']}, {len(row['items'])} recordings, ended its replica {STARTS} times: "
                    "a recording may be the reason, or too little memory"
                )
            self.answer = self.answer or self._open()
            answers = self.answer(row["items"])
        except UserError as found:  # as a value: Ray would repeat the part, and show where it was raised
            error = str(found)
        return {"part": row["part"], "answers": answers, "error": error, "start": start}

    def _open(self):
        try:
            os.chdir(self.folder)
        except OSError as error:
            host = os.uname().nodename
            raise UserError(
                f"{self.folder}: not on {host} ({error.strerror}); all machines of the cluster need the same "
                "folders, as shared storage gives them"
            ) from None
        return self.work.open()


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1] if lines else type(error).__name__)
