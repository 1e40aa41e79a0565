"""From utterances to a static-shape training batch: features, stacked arrays.

Notable choices
- What does not fit a shape is refused by the caller before training (see loader.py), never shortened.
- Column order is the order of the training network's inputs.

Legend: B utterances, T mel frames, F mel bins, L sequence positions, S CTC labels, Z speech tokens.
"""

import math
from dataclasses import dataclass

import numpy as np

from mindspore_osum.data.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE, duration_seconds, load_audio
from mindspore_osum.speech.features import log_mel, num_frames
from mindspore_osum.text.sequence import HybridSequence, stack_sequences

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
    "targets_B",
)
_NONE = np.zeros(0, np.int32)
EMPTY = HybridSequence(_NONE, _NONE, _NONE, _NONE)  # a row of a batch that nothing is in


def speech_tokens(frames: int) -> int:
    """Speech tokens the adapter makes of mel frames: three halvings, each rounded up."""
    for _ in range(3):
        frames = (frames + 1) // 2
    return frames


@dataclass(frozen=True)
class Shape:
    """The static shape of a batch."""

    size: int  # utterances
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


def recording_of(utt: Utterance) -> tuple[str | None, float | None, float | None]:
    """What features depend on: file, start and end."""
    return utt.wav, utt.start, utt.end


def frames_of(utt: Utterance, pad_to_seconds: float = 0.0) -> int:
    """Mel frames of an utterance by its recording's header (some MP3: an estimate); 0 for text-only ones."""
    if utt.wav is None:
        return 0
    try:
        seconds = duration_seconds(utt.wav)
    except UserError as error:
        raise UserError(f"{utt.where}: {error}") from None
    first, last = _cut(utt, math.ceil(seconds * SAMPLE_RATE - 1e-6))  # as many as resampling makes
    return num_frames(max(last - first, round(pad_to_seconds * SAMPLE_RATE)))


def features(utt: Utterance, n_mels: int, pad_to_seconds: float = 0.0, change=None) -> np.ndarray:
    """Log-mel (T, F) float32 of the utterance's recording; `change` is what happens to its samples first."""
    try:
        wave_N = load_audio(utt.wav)
    except UserError as error:
        raise UserError(f"{utt.where}: {error}") from None
    first, last = _cut(utt, len(wave_N))
    wave_N = wave_N[first:last]
    return log_mel(change(wave_N) if change else wave_N, n_mels, pad_to_seconds=pad_to_seconds)


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
    mels: list,
    sequences: list[HybridSequence],
    ctc: list[list[int]],
    targets: float,
):
    """One batch as a tuple of arrays in the order of COLUMNS.

    Parameters
    ----------
    mels : (T, F) float32 each, None for a text-only example (its slot is two frames nothing reads).
    sequences : hybrid sequence of each example, EMPTY for none.
    ctc : CTC target ids of each example, [] for none.
    targets : labels the loss is divided by: those of the whole step, divided by its parts (see loader.py).
    """
    mel_BTF = np.zeros((shape.size, shape.frames, n_mels), np.float32)
    mel_len_B = np.full(shape.size, 2, np.int32)
    ctc_labels_BS = np.zeros((shape.size, shape.text_tokens), np.int32)
    ctc_len_B = np.zeros(shape.size, np.int32)
    for b, (mel_TF, ids) in enumerate(zip(mels, ctc, strict=True)):
        if mel_TF is not None:
            mel_BTF[b, : len(mel_TF)] = mel_TF
            mel_len_B[b] = len(mel_TF)
        ctc_labels_BS[b, : len(ids)] = ids
        ctc_len_B[b] = len(ids)
    arrays = stack_rows(sequences, shape)
    text = [arrays[name] for name in COLUMNS[2:8]]
    return (mel_BTF, mel_len_B, *text, ctc_labels_BS, ctc_len_B, np.full(shape.size, targets, np.float32))


def stack_rows(sequences: list[HybridSequence], shape: Shape) -> dict[str, np.ndarray]:
    """`stack_sequences` with the audio slot of each row being the row itself, also beside text-only rows."""
    arrays = stack_sequences(sequences, shape.length, shape.speech, shape.size)
    speech = [b for b, s in enumerate(sequences) if s.n_speech]
    for slot, b in enumerate(speech):  # slots are counted over the rows that hold speech
        rows = arrays["speech_row_BL"][b]
        rows[rows >= 2] += (b - slot) * shape.speech
    return arrays
