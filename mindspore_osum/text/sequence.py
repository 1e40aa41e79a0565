"""Layout of hybrid text/speech sequences, shared by training and inference.

A sequence is a list of spans, whose order is given by a system's template (text/template.py):

    Text [Audio: begin, speech tokens, end] Text Target

Notable choices
- A sequence has token ids and placeholders for speech (-2, -1...-1, -3), which the model replaces by
  embeddings.
- Each span is tokenized separately, so each starts with SentencePiece's dummy prefix, as in OSUM-Pangu.
- The targets are given per span, by the name of a loss; a system's losses are numbered from 1.
- Unlike in the published batches, there is no padding inside a sequence: `stack_sequences` pads on the right
  only, so a row of a batch equals the single sequence.

Legend: B rows, L sequence positions, Z speech tokens.
"""

import os.path
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.text.tokenizer import Tokenizer

SPEECH_BOS, SPEECH_FRAME, SPEECH_EOS = -2, -1, -3  # placeholders in HybridSequence.ids_L
IGNORE = -100  # label of positions without a target
NOT_LEARNED = 0  # in HybridSequence.spans_L

Parts = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Text:
    """A text span of the prompt.

    Attributes
    ----------
    words : text, tokenized separately; or token ids.
    bos : whether it begins with ``<s>``.
    loss : name of the loss it is a target of; "" for none.
    plain : the parts that a user wrote, in which special pieces are text; see `Tokenizer.encode`.
    """

    words: str | Sequence[int]
    bos: bool = False
    loss: str = ""
    plain: tuple[range, ...] = ()


@dataclass(frozen=True)
class Audio:
    """A recording of Z speech tokens; if `marks`, between the model's speech BOS and EOS."""

    tokens: int
    marks: bool = True


@dataclass(frozen=True)
class Target:
    """An answer, tokenized as one text.

    Attributes
    ----------
    parts : (name of the loss, words) in order; the name is "" for a part that is no target. A piece across
        the end of a part belongs to that part.
    end : whether the end piece follows; it belongs to the last part.
    plain : the parts of the text in which special pieces are text; see `Tokenizer.encode`.
    """

    parts: Parts
    end: bool = True
    plain: tuple[range, ...] = ()


Span = Text | Audio | Target


@dataclass(frozen=True)
class HybridSequence:
    """One example, unpadded. Arrays are int32 of shape (L,).

    Attributes
    ----------
    ids_L : token ids; -2 speech BOS, -1 speech frame, -3 speech EOS.
    labels_L : target at its own position (not shifted), -100 where there is none.
    spans_L : number of the loss of each label, 0 where there is no label.
    recordings : number of speech tokens of each recording, in order.
    """

    ids_L: np.ndarray
    labels_L: np.ndarray
    spans_L: np.ndarray
    recordings: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.ids_L)

    @property
    def n_speech(self) -> int:
        """Number of speech tokens; 0 for a text-only sequence."""
        return sum(self.recordings)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The arrays for training, by name; positions and speech tokens are numbered from 0."""
        return {
            "token_ids_BL": np.maximum(self.ids_L, 0),
            "speech_row_BL": self.speech_rows(np.cumsum([0, *self.recordings])[:-1]),
            "labels_BL": self.labels_L,
            "positions_BL": np.arange(len(self)),
            "segments_BL": np.ones(len(self), np.int32),
            "spans_BL": self.spans_L,
        }

    def speech_rows(self, firsts: Sequence[int]) -> np.ndarray:
        """Row of the model's speech table at each position, int32 (L,).

        -1 for text, 0 and 1 for speech BOS and EOS, 2 + first + z for speech token z of a recording whose
        tokens begin at `first`.
        """
        row_L = np.full(len(self), -1, np.int32)
        row_L[self.ids_L == SPEECH_BOS] = 0
        row_L[self.ids_L == SPEECH_EOS] = 1
        tokens = [2 + first + np.arange(z) for first, z in zip(firsts, self.recordings, strict=True)]
        row_L[self.ids_L == SPEECH_FRAME] = np.concatenate([[], *tokens])
        return row_L


def lay_out(tokenizer: Tokenizer | None, spans: Sequence[Span], losses: Sequence[str] = ()) -> HybridSequence:
    """The arrays of a sequence.

    Parameters
    ----------
    tokenizer : may be None if all spans are ids and audio.
    losses : names of the system's losses, numbered 1, 2, ...

    Raises
    ------
    UserError
        The tokenizer has no pieces for the beginning of an answer.
    """
    number = {"": NOT_LEARNED} | {name: i for i, name in enumerate(losses, start=NOT_LEARNED + 1)}
    ids, learned, recordings = [], [], []
    for span in spans:
        if isinstance(span, Audio):
            recordings.append(span.tokens)
            frames = [SPEECH_FRAME] * span.tokens
            new = [SPEECH_BOS, *frames, SPEECH_EOS] if span.marks else frames
            learned += [NOT_LEARNED] * len(new)
        elif isinstance(span, Text):
            new = text_ids(tokenizer, span)
            learned += [number[span.loss]] * len(new)
        else:
            new, counts = _target_ids(tokenizer, span)
            for (loss, _), count in zip(span.parts, counts, strict=True):
                learned += [number[loss]] * count
        ids += new
    learned[:1] = [NOT_LEARNED] * len(learned[:1])  # the first position has no predecessor to predict it
    ids_L, spans_L = np.array(ids, np.int32), np.array(learned, np.int32)
    labels_L = np.where(spans_L == NOT_LEARNED, IGNORE, ids_L).astype(np.int32)
    return HybridSequence(ids_L, labels_L, spans_L, tuple(recordings))


def text_ids(tokenizer: Tokenizer | None, span: Text) -> list[int]:
    """Token ids of a text span."""
    if isinstance(span.words, str):
        return tokenizer.encode(span.words, bos=span.bos, plain=span.plain)
    return list(span.words)


def _target_ids(tokenizer: Tokenizer, span: Target) -> tuple[list[int], list[int]]:
    """Ids of an answer, and the number of ids of each part."""
    text, ends, counts = "", [], []
    for _, words in span.parts:
        text += words
        ends.append(text)
    ids = tokenizer.encode(text, plain=span.plain) + ([tokenizer.eos_id] if span.end else [])
    for end in ends[:-1]:
        counts.append(pieces_of_start(tokenizer, ids, end) - sum(counts))
    return ids, [*counts, len(ids) - sum(counts)] if span.parts else []


def pieces_of_start(tokenizer: Tokenizer, ids: Sequence[int], start: str) -> int:
    """How many of ``ids`` cover ``start``, the beginning of their text; 0 if ``start`` is empty.

    A piece that extends beyond the end of ``start`` is counted.

    Raises
    ------
    UserError
        The tokenizer has no pieces for ``start``.
    """
    for n in range(len(ids)):
        if tokenizer.decode(ids[:n]).startswith(start):
            return n
    raise UserError(
        f"{tokenizer.path}: cannot spell {start!r}; use a tokenizer with these characters or with byte pieces"
    )


def opening_ids(
    tokenizer: Tokenizer, opening: str, texts: Sequence[str]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens of an opening as training saw them at the beginning of answers.

    Parameters
    ----------
    opening : with which all `texts` begin.
    texts : answers that differ after it.

    Returns
    -------
    The ids that all `texts` have in common, and those that may come next: where a piece reaches from the
    opening into what follows it (``><``), the common ids end before, and the next one must be of such a text.
    No ids where `texts` is empty.
    """
    encoded = [tokenizer.encode(text) for text in texts]
    ids = os.path.commonprefix(encoded)
    if tokenizer.decode(ids).startswith(opening):
        return tuple(ids), ()
    return tuple(ids), tuple(sorted({one[len(ids)] for one in encoded}))


def denied_ids(
    tokenizer: Tokenizer, opening: Sequence[int], texts: Sequence[str], others: Sequence[str]
) -> tuple[int, ...]:
    """The tokens after an opening that lead to one of `others` and to none of `texts`."""

    def after(answers: Sequence[str]) -> set[int]:
        encoded = [tokenizer.encode(text) for text in answers]
        return {ids[len(opening)] for ids in encoded if tuple(ids[: len(opening)]) == tuple(opening)}

    return tuple(sorted(after(others) - after(texts)))


def stack_sequences(
    sequences: Sequence[HybridSequence], length: int, zmax: int, n_slots: int
) -> dict[str, np.ndarray]:
    """The model's inputs for sequences, one per row, padded on the right.

    Parameters
    ----------
    length : int
        Static number of positions L per row.
    zmax : int
        Speech tokens per audio slot in the model's ``z_BZD``.
    n_slots : int
        Number of audio slots. The i-th recording, counted over all sequences, uses slot i.

    Returns
    -------
    dict of int32 arrays (B, L)
        ``token_ids_BL`` (0 at speech slots and padding); ``speech_row_BL`` (-1 text and padding, 0 speech
        BOS, 1 speech EOS, ``2 + slot * zmax + z`` speech token z).

    Raises
    ------
    UserError
        A sequence is longer than ``length``, a recording longer than ``zmax``, or there are too few slots.
    """
    token_ids_BL = np.zeros((len(sequences), length), np.int32)
    speech_row_BL = np.full((len(sequences), length), -1, np.int32)
    slot = 0
    for b, seq in enumerate(sequences):
        _check_row(b, seq, length, zmax)
        token_ids_BL[b, : len(seq)] = np.maximum(seq.ids_L, 0)
        speech_row_BL[b, : len(seq)] = seq.speech_rows(
            [(slot + i) * zmax for i in range(len(seq.recordings))]
        )
        slot += len(seq.recordings)
    if slot > n_slots:
        raise UserError(f"the batch holds {slot} recordings but has {n_slots} audio slots: make it smaller")
    return {"token_ids_BL": token_ids_BL, "speech_row_BL": speech_row_BL}


def _check_row(b: int, seq: HybridSequence, length: int, zmax: int) -> None:
    if len(seq) > length:
        raise UserError(
            f"row {b}: {len(seq)} tokens do not fit the sequence length {length} "
            f"({len(seq) - length} too many): raise it or shorten request, recording or label"
        )
    longest = max(seq.recordings, default=0)
    if longest > zmax:
        raise UserError(
            f"row {b}: {longest} speech tokens do not fit the {zmax} of an audio slot "
            f"({longest - zmax} too many): raise the audio length or split the recording"
        )
