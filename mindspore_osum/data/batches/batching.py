"""Batches of static shape, padded or packed, built from an extractor's examples; features of utterances.

Notable choices
- Utterances that do not fit a shape are left out before training (see corpus.py), never truncated.
- `speech` counts speech tokens, which the model computes from mel frames; packs are laid out in these units.

Legend: B rows, T mel frames, F mel bins, N samples at 16 kHz, S samples at the recording's own rate.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mindspore_osum.data.batches.columns import Axis, Column, stack
from mindspore_osum.data.batches.extractor import Example
from mindspore_osum.data.batches.packing import Room
from mindspore_osum.data.formats.manifest import END_SLACK, Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE, duration_seconds, load_audio, load_native
from mindspore_osum.speech.config import FEATURES, FeatureConfig
from mindspore_osum.speech.features import features_of

MIN_FRAMES = 20  # shorter recordings are noise (published filter)
DRAWS, UTTERANCES, TARGETS = "draws_B", "utterances_B", "targets_B"
STEP_COLUMNS = (
    DRAWS,
    UTTERANCES,
    TARGETS,
)  # of the step, behind the extractor's columns


@dataclass(frozen=True)
class Shape:
    """The static shape of a batch; for packed batches, the limits of one utterance."""

    size: int  # rows: utterances, or packs
    frames: int  # mel frames an audio slot holds
    speech: int  # speech tokens the model makes of them
    text_tokens: int  # sequence positions other than the speech tokens and their two marks

    @property
    def length(self) -> int:
        """Sequence positions."""
        return self.speech + 2 + self.text_tokens


def bucket_shapes(model, size: int, frames: list[int], text_tokens: int, max_tokens: int = 0) -> list[Shape]:
    """The shapes of a job, one for each audio length.

    Parameters
    ----------
    model : the model's Config, which gives the number of speech tokens of a recording.
    size : rows of each.
    max_tokens : if above 0, it replaces `size`: as many rows as hold at most this many positions.
    """
    shapes = [Shape(size, t, model.tokens(t), text_tokens) for t in frames]
    return [replace(s, size=max(1, max_tokens // s.length)) for s in shapes] if max_tokens else shapes


def recording_of(utt: Utterance) -> tuple[str | None, float | None, float | None]:
    """What an utterance's features depend on: file, start and end."""
    return utt.wav, utt.start, utt.end


def frames_of(utt: Utterance, cfg: FeatureConfig = FEATURES) -> int:
    """Mel frames of an utterance, from the header of its recording; 0 if it is text-only.

    For some MP3 files the header gives an estimate only.
    """
    if utt.wav is None:
        return 0
    try:
        seconds = duration_seconds(utt.wav)
    except UserError as error:
        raise UserError(f"{utt.where}: {error}") from None
    first, last = _cut(utt, math.ceil(seconds * SAMPLE_RATE - 1e-6))  # samples after resampling
    return cfg.frames(last - first)


def seconds_of(utt: Utterance) -> float:
    """Seconds of an utterance, from the whole frames of `frames_of`."""
    return FEATURES.seconds(frames_of(utt))


def features(utt: Utterance, cfg: FeatureConfig = FEATURES, change=None) -> np.ndarray:
    """Features (T, F) float32 of the utterance's recording; `change` is applied to its samples first."""
    wave_N = samples(utt)
    return features_of(change(wave_N) if change else wave_N, cfg)


def samples(utt: Utterance) -> np.ndarray:
    """The utterance's recording, or its part `start`..`end`: float32 (N,) at 16 kHz."""
    try:
        wave_N = load_audio(utt.wav)
    except UserError as error:
        raise UserError(f"{utt.where}: {error}") from None
    first, last = _cut(utt, len(wave_N))
    return wave_N[first:last]


def native_samples(utt: Utterance) -> tuple[np.ndarray, int]:
    """`samples` at the recording's own sample rate: float32 (S,), and the rate in Hz."""
    try:
        wave_S, rate = load_native(utt.wav)
    except UserError as error:
        raise UserError(f"{utt.where}: {error}") from None
    first, last = _cut(utt, len(wave_S), rate)
    return wave_S[first:last], rate


def _cut(utt: Utterance, samples: int, rate: int = SAMPLE_RATE) -> tuple[int, int]:
    """First and last sample of the part `start`..`end` of a recording."""
    first = round((utt.start or 0.0) * rate)
    last = samples if utt.end is None else round(utt.end * rate)
    if not first < last <= samples + round(END_SLACK * rate):
        raise UserError(
            f"{utt.where}: start {utt.start} and end {utt.end} do not fit the recording's "
            f"{samples / rate:.2f} s"
        )
    return first, min(last, samples)


def padded_batch(
    columns: Iterable[Column], sizes: dict[str, int], shape: Shape, rows: Sequence[Example | None]
) -> dict[str, np.ndarray]:
    """The columns of a batch with one utterance per row.

    Parameters
    ----------
    columns, sizes : the extractor's.
    rows : at most `shape.size` examples; None, or none, leaves a row empty.
    """
    row_B = np.arange(shape.size)
    axes = {
        "tokens": Axis(shape.size, shape.length, row_B * shape.length),
        "frames": Axis(shape.size, shape.frames, row_B * shape.frames),
        "speech": Axis(shape.size, shape.speech, row_B * shape.speech),
        "sequences": Axis(shape.size, 1, np.zeros_like(row_B)),
    }
    places = [*rows, *[None] * (shape.size - len(rows))]
    return stack(columns, places, axes, {"text_tokens": shape.text_tokens, **sizes}, packed=False)


def packed_batch(
    columns: Iterable[Column],
    sizes: dict[str, int],
    room: Room,
    text_tokens: int,
    rows: Sequence[Sequence[Example]],
    starts: Sequence[Sequence[int]],
) -> dict[str, np.ndarray]:
    """The columns of a batch of packs; each has `room.audio_rows` rows of audio and `room.items` slots.

    Parameters
    ----------
    text_tokens : most text tokens of an utterance.
    starts : for each example, the index of its recording's first speech token in the audio rows of its pack.
    """
    columns, audio_rows = tuple(columns), len(rows) * room.audio_rows
    first_N = {name: np.zeros(len(rows) * room.items, np.int64) for name in ("tokens", "speech", "sequences")}
    places: list[Example | None] = [None] * (len(rows) * room.items)
    along = next(column.name for column in columns if column.axis == "tokens")
    for b, (row, begins) in enumerate(zip(rows, starts, strict=True)):
        token = b * room.tokens
        for i, (example, start) in enumerate(zip(row, begins, strict=True)):
            n = b * room.items + i
            places[n] = example
            first_N["tokens"][n], first_N["sequences"][n] = token, i
            first_N["speech"][n] = b * room.audio_rows * room.speech + max(start, 0)
            token += len(example[along])
    axes = {
        "tokens": Axis(len(rows), room.tokens, first_N["tokens"]),
        "frames": Axis(audio_rows, room.frames, first_N["speech"] * room.frames_per_token),
        "speech": Axis(audio_rows, room.speech, first_N["speech"]),
        "sequences": Axis(len(rows), room.items, first_N["sequences"]),
    }
    return stack(columns, places, axes, {"text_tokens": text_tokens, **sizes}, packed=True)


def step_columns(rows: int, first_row: int, utterances: float, targets: float) -> dict[str, np.ndarray]:
    """Numbers of the whole batch, repeated in every row, so that each part of a sharded batch has them.

    Parameters
    ----------
    first_row : number of the first row in the run; dropout is seeded by it.
    utterances, targets : the divisors of losses: counts of the whole step divided by its number of parts
        (see loader.py).
    """
    draws_B = (first_row + np.arange(rows)) % 2**31
    return {
        DRAWS: draws_B.astype(np.int32),
        UTTERANCES: np.full(rows, utterances, np.float32),
        TARGETS: np.full(rows, targets, np.float32),
    }
