"""Rows of an index as a part of a corpus: what corpus.py decides utterance by utterance, decided by columns.

A test compares both: the same utterances, sizes, reports and batches.
"""

from typing import Any

import numpy as np

from mindspore_osum.data.batches.batching import MIN_FRAMES
from mindspore_osum.data.checks import LeftOut
from mindspore_osum.data.formats.manifest import Skipped
from mindspore_osum.data.index.reading import Index, Rows
from mindspore_osum.data.index.table import UNKNOWN

_USED, _FLAW, _SHORT, _LONG, _TEXT = range(5)  # what becomes of a row


def take(corpus: Any, index: Index, left_out: LeftOut) -> int:
    """Add the rows of an index that a corpus can use.

    Parameters
    ----------
    corpus : a `Corpus` that is being made.
    left_out : takes the other rows.

    Returns
    -------
    Mel frames of the rows that are used, before augmentation.
    """
    numbers = np.array([corpus.requests.measured(tokens) for tokens in index.sets])
    most = np.array([tokens.max(initial=0) for tokens in index.sets])
    heard = 0
    for first, columns, tasks in index.numbers():
        frames_N = _longest(corpus, columns["frames"], columns["task"], tasks)
        sets_N = columns["requests"]  # of unusable rows: any number
        fate_N = _fates(corpus, columns, frames_N, most[sets_N])
        _leave_out(corpus, index, first, fate_N, left_out)
        rows_N = np.flatnonzero(fate_N == _USED)
        heard += int(columns["frames"][rows_N].sum(dtype=np.int64))
        _add(corpus, {name: columns[name][rows_N] for name in ("tokens", "labels")}, frames_N[rows_N])
        _extend(corpus.choices, numbers[sets_N[rows_N]])
        corpus.utterances.extend_by(Rows(index, first, rows_N), columns["digest"][rows_N].tobytes())
    return heard


def _longest(corpus: Any, frames_N: np.ndarray, task_N: np.ndarray, tasks: list[str]) -> np.ndarray:
    """Most mel frames of each row's features; those of a row that is too long anyway stay as they are."""
    limit = corpus.shapes[-1].frames
    table = np.array([[corpus.longest(task, n) for n in range(limit + 1)] for task in tasks or [""]])
    inside_N = (frames_N >= 0) & (frames_N <= limit)
    return np.where(inside_N, table[task_N, np.where(inside_N, frames_N, 0)], frames_N)


def _fates(corpus: Any, columns: dict[str, np.ndarray], longest_N: np.ndarray, most_N) -> np.ndarray:
    """What becomes of each row, in the order in which corpus.py asks."""
    frames_N, limit = columns["frames"], corpus.shapes[-1]
    return np.select(
        [
            frames_N == UNKNOWN,
            (frames_N > 0) & (frames_N < MIN_FRAMES),
            longest_N > limit.frames,
            columns["reason"],
            columns["tokens"] + most_N > limit.text_tokens,
        ],
        [_FLAW, _SHORT, _LONG, _FLAW, _TEXT],
        _USED,
    )


def _leave_out(corpus: Any, index: Index, first: int, fate_N: np.ndarray, left_out: LeftOut) -> None:
    """Count what is not used, in the order of the rows; flaws of the data one by one."""
    rows_N = np.flatnonzero(fate_N != _USED)
    if not len(rows_N):
        return
    reasons = {_SHORT: corpus.too_short(), _LONG: corpus.too_long(), _TEXT: corpus.too_many_tokens()}
    for row in rows_N:
        reason = reasons.get(fate_N[row])
        if reason in left_out.counts:
            left_out.counts[reason] += 1
            continue
        item = index[first + int(row)]
        if reason:
            text = item.text if isinstance(item, Skipped) else f"{item.where}: {item.key}"
            item = Skipped(reason, text, False)
        corpus.errors.take(item)
        left_out.add(item)


def _add(corpus: Any, columns: dict[str, np.ndarray], frames_N: np.ndarray) -> None:
    """The sizes of rows that are used."""
    spoken_N = frames_N > 0
    others_N = columns["tokens"] + np.where(spoken_N, corpus.model.tokens(frames_N) + 2, 0)
    _extend(corpus.frames, frames_N)
    _extend(corpus.buckets, np.searchsorted([shape.frames for shape in corpus.shapes], frames_N))
    _extend(corpus.labels, columns["labels"])
    _extend(corpus.others, others_N)


def _extend(numbers, values_N: np.ndarray) -> None:
    """Add to an array("i")."""
    numbers.frombytes(values_N.astype(np.int32).tobytes())
