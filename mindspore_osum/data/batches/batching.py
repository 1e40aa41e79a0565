"""From utterances to a static-shape training batch: features, stacked arrays.

Notable choices
- What does not fit a shape is refused by the caller before training (see loader.py), never shortened.
- Column order is the order of the training network's inputs.

Legend: B utterances, T mel frames, F mel bins, L sequence positions, S CTC labels, Z speech tokens,
C label sets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mindspore_osum.data.batches.packing import Room
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE, duration_seconds, load_audio
from mindspore_osum.speech.features import log_mel, num_frames
from mindspore_osum.tasks import LABEL_SETS
from mindspore_osum.text.sequence import IGNORE, HybridSequence, pack_sequences

COLUMNS = (
    "mel_BTF",
    "mel_len_B",
    "token_ids_BL",
    "speech_row_BL",
    "labels_BL",
    "positions_BL",
    "segments_BL",
    "spans_BL",
    "ctc_labels_BS",
    "ctc_len_B",
    "frames_BZ",
    "classes_BC",
    "draws_B",
    "utterances_B",
    "targets_B",
)


class Example(NamedTuple):
    """What the model sees of one utterance."""

    mel_TF: np.ndarray | None  # float32; None for text-only tasks
    sequence: HybridSequence
    ctc_ids: list[int]  # target of the CTC loss, [] for none
    frames: list[int]  # class of the CTC head at each speech token, or IGNORE
    classes: list[int]  # place of the label in each of tasks.LABEL_SETS, or IGNORE


def speech_tokens(frames: int) -> int:
    """Speech tokens the adapter makes of mel frames: three halvings, each rounded up."""
    for _ in range(3):
        frames = (frames + 1) // 2
    return frames


@dataclass(frozen=True)
class Shape:
    """The static shape of a batch, or what a packed one allows for one utterance."""

    size: int  # rows: utterances, or packs
    frames: int  # mel frames (10 ms) an audio slot holds
    text_tokens: int  # sequence positions beside the speech tokens and their two marks

    @property
    def speech(self) -> int:
        """Speech tokens an audio slot holds."""
        return speech_tokens(self.frames)

    @property
    def length(self) -> int:
        """Sequence positions."""
        return self.speech + 2 + self.text_tokens


def bucket_shapes(size: int, frames: list[int], text_tokens: int, max_tokens: int = 0) -> list[Shape]:
    """The shapes of a job, one for each audio length.

    Parameters
    ----------
    size : rows of each.
    max_tokens : above 0, as many rows as hold at most so many positions take the place of `size`.
    """
    shapes = [Shape(size, t, text_tokens) for t in frames]
    return [replace(s, size=max(1, max_tokens // s.length)) for s in shapes] if max_tokens else shapes


def recording_of(utt: Utterance) -> tuple[str | None, float | None, float | None]:
    """What features depend on: file, start and end."""
    return utt.wav, utt.start, utt.end


def frames_of(utt: Utterance) -> int:
    """Mel frames of an utterance by its recording's header (some MP3: an estimate); 0 for text-only ones."""
    if utt.wav is None:
        return 0
    try:
        seconds = duration_seconds(utt.wav)
    except UserError as error:
        raise UserError(f"{utt.where}: {error}") from None
    first, last = _cut(utt, math.ceil(seconds * SAMPLE_RATE - 1e-6))  # as many as resampling makes
    return num_frames(last - first)


def features(utt: Utterance, n_mels: int, pad_to_seconds: float = 0.0, change=None) -> np.ndarray:
    """Log-mel (T, F) float32 of the utterance's recording; `change` is what happens to its samples first."""
    wave_N = samples(utt)
    return log_mel(change(wave_N) if change else wave_N, n_mels, pad_to_seconds=pad_to_seconds)


def samples(utt: Utterance) -> np.ndarray:
    """The utterance's recording, or the part of it that is meant: float32 (N,) at 16 kHz."""
    try:
        wave_N = load_audio(utt.wav)
    except UserError as error:
        raise UserError(f"{utt.where}: {error}") from None
    first, last = _cut(utt, len(wave_N))
    return wave_N[first:last]


def _cut(utt: Utterance, samples: int) -> tuple[int, int]:
    """First and last sample of the part `start`..`end` of a recording."""
    first = round((utt.start or 0.0) * SAMPLE_RATE)
    last = samples if utt.end is None else round(utt.end * SAMPLE_RATE)
    if not first < last <= samples + SAMPLE_RATE // 100:  # ends are rounded in published lists
        raise UserError(
            f"{utt.where}: start {utt.start} and end {utt.end} do not fit the recording's "
            f"{samples / SAMPLE_RATE:.2f} s"
        )
    return first, min(last, samples)


def stack_batch(
    shape: Shape,
    n_mels: int,
    rows: list[list[Example]],
    targets: float,
    utterances: float,
    first_row: int = 0,
):
    """One padded batch, of at most one example a row, as a tuple of arrays in the order of COLUMNS.

    Parameters
    ----------
    targets, utterances : what cross-entropy and CTC are divided by: the labels and the utterances of the
        whole step, divided by its parts (see loader.py).
    first_row : number of the first row in the run; what dropout draws follows from it.
    """
    mel_BTF = np.zeros((shape.size, shape.frames, n_mels), np.float32)
    mel_len_B = np.full(shape.size, 2, np.int32)  # of a slot without recording: two frames nothing reads
    for b, row in enumerate(rows):
        for example in row:
            if example.mel_TF is not None:
                mel_BTF[b, : len(example.mel_TF)] = example.mel_TF
                mel_len_B[b] = len(example.mel_TF)
    text = stack_text(rows, shape.length, shape.speech, np.arange(shape.size)[:, None] * shape.speech)
    heads = stack_heads([row[0] if row else None for row in rows], shape.text_tokens, shape.speech)
    return (mel_BTF, mel_len_B, *text, *heads, *stack_counts(shape.size, first_row, utterances, targets))


def stack_counts(rows: int, first_row: int, utterances: float, targets: float) -> list[np.ndarray]:
    """The columns of numbers that belong to the batch, in every row, so that any part of it has them."""
    draws_B = (first_row + np.arange(rows)) % 2**31
    return [draws_B.astype(np.int32), *(np.full(rows, x, np.float32) for x in (utterances, targets))]


def stack_packs(
    room: Room,
    text_tokens: int,
    n_mels: int,
    rows: list[list[Example]],
    starts: list[Sequence[int]],
    targets: float,
    utterances: float,
    first_row: int = 0,
):
    """One packed batch of shape (rows, room), as `stack_batch`, but for what holds recordings.

    A pack has `room.audio_rows` rows of audio; "mel_len_B" is (N, 2): first frame in all of them laid end to
    end, and frames, of each of its `room.items` places for an utterance; what the heads learn from has a row
    for each of these places too.

    Parameters
    ----------
    text_tokens : S, most CTC labels.
    starts : for each example the speech token its recording starts with, in the audio rows of its own pack.
    """
    frames, speech = room.speech * 8, room.audio_rows * room.speech
    mel_XF = np.zeros((len(rows) * speech * 8, n_mels), np.float32)
    spans_N2 = np.zeros((len(rows) * room.items, 2), np.int32)
    first_BI = np.zeros((len(rows), room.items), np.int64)
    examples: list[Example | None] = [None for _ in spans_N2]
    for b, (row, begins) in enumerate(zip(rows, starts, strict=True)):
        for i, (example, start) in enumerate(zip(row, begins, strict=True)):
            n = b * room.items + i
            examples[n] = example
            if example.mel_TF is not None:
                first_BI[b, i] = b * speech + start
                spans_N2[n] = first_BI[b, i] * 8, len(example.mel_TF)
                mel_XF[spans_N2[n, 0] : spans_N2[n].sum()] = example.mel_TF
    text = stack_text(rows, room.tokens, room.speech, first_BI)
    heads = stack_heads(examples, text_tokens, room.speech)
    counts = stack_counts(len(rows), first_row, utterances, targets)
    return (mel_XF.reshape(-1, frames, n_mels), spans_N2, *text, *heads, *counts)


def stack_text(rows: list[list[Example]], length: int, zmax: int, first_BI: np.ndarray) -> list[np.ndarray]:
    """The columns of text; `first_BI` is the row of the model's speech tokens each example's begin at."""
    sequences = [[example.sequence for example in row] for row in rows]
    arrays = pack_sequences(sequences, length, zmax, first_BI.size)
    speech_row_BL = arrays["speech_row_BL"]
    # slots are counted there over the sequences that hold speech
    first = [first_BI[b, i] for b, row in enumerate(sequences) for i, s in enumerate(row) if s.n_speech]
    slot, z = np.divmod(speech_row_BL - 2, zmax)
    moved_BL = 2 + np.array([*first, 0])[np.maximum(slot, -1)] + z
    arrays["speech_row_BL"] = np.where(speech_row_BL >= 2, moved_BL, speech_row_BL).astype(np.int32)
    return [arrays[name] for name in COLUMNS[2:8]]


def stack_heads(examples: list[Example | None], text_tokens: int, speech: int) -> list[np.ndarray]:
    """The columns that the heads of CTC and labels learn from, a row for each example; None leaves it empty.

    Parameters
    ----------
    text_tokens : S, most CTC labels.
    speech : Z, most speech tokens.
    """
    rows = len(examples)
    labels_NS, length_N = np.zeros((rows, text_tokens), np.int32), np.zeros(rows, np.int32)
    frames_NZ = np.full((rows, speech), IGNORE, np.int32)
    classes_NC = np.full((rows, len(LABEL_SETS)), IGNORE, np.int32)
    for n, example in enumerate(examples):
        if example is not None:
            length_N[n] = len(example.ctc_ids)
            labels_NS[n, : length_N[n]] = example.ctc_ids
            frames_NZ[n, : len(example.frames)] = example.frames
            classes_NC[n] = example.classes
    return [labels_NS, length_N, frames_NZ, classes_NC]
