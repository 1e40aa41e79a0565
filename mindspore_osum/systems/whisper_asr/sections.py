"""What a window's tokens say: sections between timestamps, and where the next window begins.

The rules of openai-whisper's `transcribe.py`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from mindspore_osum.systems.whisper_asr.vocabulary import TIME_STEP, Vocabulary
from mindspore_osum.systems.whisper_asr.words import Section


class Reading(NamedTuple):
    """The sections of a window, until when it was read, in seconds of the recording, and whether a single
    timestamp ends it: then nothing is said after it, and all of the window was read."""

    sections: list[Section]
    until: float
    closed: bool


def read(
    tokens: Sequence[int], vocabulary: Vocabulary, start: float, seconds: float, rest: bool = False
) -> Reading:
    """The sections of a window, in seconds of the recording.

    Text after the last pair of timestamps belongs to the next window, which begins at that pair. Where no
    pair is, all of the window was read.

    Parameters
    ----------
    tokens : what the model wrote about the window, without the end.
    start, seconds : of the window in the recording, and its length without padding.
    rest : there is no next window: text after the last pair is a section to the end of this one.
    """
    tokens, first, end = list(tokens), vocabulary.first_time, start + seconds

    def moment(token: int) -> float:
        return start + max(token - first, 0) * TIME_STEP

    is_time = [token >= first for token in tokens]
    closed = is_time[-2:] == [False, True]
    ends = [n for n in range(1, len(tokens)) if is_time[n - 1] and is_time[n]]
    if not ends:
        written = [token for token in tokens if token >= first]
        last = moment(written[-1]) if written and written[-1] != first else end
        return Reading([Section(start, last, tokens)], end, closed)
    if closed:
        ends.append(len(tokens))
    parts = [tokens[a:b] for a, b in pairwise([0, *ends])]
    found = [Section(moment(part[0]), moment(part[-1]), part) for part in parts]
    if rest and not closed:
        part = tokens[ends[-1] :]
        found.append(Section(moment(part[0]), max(end, moment(part[0])), part))
    return Reading(found, end if rest or closed else moment(parts[-1][-1]), closed)


def text_tokens(sections: Sequence[Section], vocabulary: Vocabulary) -> list[int]:
    """Those of the texts alone."""
    return [token for section in sections for token in section.tokens if token < vocabulary.eot]
