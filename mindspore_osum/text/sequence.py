"""The one place that builds the hybrid text/speech sequence, for training and inference alike.

    [left][request] [speech BOS][speech frames][speech EOS] [assistant] ([label][eos])

Notable choices
- A sequence is made of ids with placeholders for speech (-2, -1...-1, -3); the model fills in the embeddings.
- Each part is tokenized on its own, so each starts with SentencePiece's dummy prefix, as in OSUM-Pangu.
- No padding inside a sequence (the published batches have it): `stack_sequences` pads on the right only,
  so a row of a batch equals the sequence alone.

Legend: B rows, L sequence positions, Z speech tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.text.prompts import OUTPUT_TYPES, PromptSet
from mindspore_osum.text.tokenizer import Tokenizer

SPEECH_BOS, SPEECH_FRAME, SPEECH_EOS = -2, -1, -3  # placeholders in HybridSequence.ids_L
IGNORE = -100  # label of positions without a target
NO_SPAN, INTENT, CONTENT = 0, 1, 2  # parts of a label: the tags that name the task, and all after them
MASKED_POSITION = 1  # position id of masked places (OSUM-Pangu: cumsum(mask) - 1, then 1 where masked)
NO_EOS_SUFFIX = "<&&>"  # a label ending so is cut off in mid-speech and gets no end piece (with the unk rule)
BOS_POLICIES = ("training", "published")


@dataclass(frozen=True)
class HybridSequence:
    """One example, unpadded. All arrays are int32 of shape (L,).

    Attributes
    ----------
    ids_L : token ids; -2 speech BOS, -1 speech frame, -3 speech EOS.
    labels_L : target at its own position (not shifted), -100 where there is none.
    positions_L : position ids, 0..L-1 unless places are masked.
    attention_mask_L : 1, or 0 for labels hidden by the unk rule.
    intent_end : the position after the last label of the intent span; 0 where there is none.
    """

    ids_L: np.ndarray
    labels_L: np.ndarray
    positions_L: np.ndarray
    attention_mask_L: np.ndarray
    intent_end: int = 0

    def __len__(self) -> int:
        return len(self.ids_L)

    @property
    def n_speech(self) -> int:
        """Number of speech frames (tokens between speech BOS and EOS); 0 for a text-only sequence."""
        return int(np.count_nonzero(self.ids_L == SPEECH_FRAME))

    def without_intent(self) -> "HybridSequence":
        """The same sequence, in which only what follows the intent span is a target."""
        labels_L = np.where(np.arange(len(self)) < self.intent_end, IGNORE, self.labels_L)
        return replace(self, labels_L=labels_L.astype(np.int32))

    @property
    def speech_row_L(self) -> np.ndarray:
        """Row of the model's speech table at each position, int32 (L,): -1 text, 0 and 1 speech BOS and EOS,
        2 + z speech token z of the recording."""
        row_L = np.full(len(self), -1, np.int32)
        row_L[self.ids_L == SPEECH_BOS] = 0
        row_L[self.ids_L == SPEECH_EOS] = 1
        row_L[self.ids_L == SPEECH_FRAME] = 2 + np.arange(self.n_speech)
        return row_L

    @property
    def spans_L(self) -> np.ndarray:
        """Span of each label: 1 intent, 2 content, 0 where there is no label; int32 (L,)."""
        span_L = np.where(np.arange(len(self)) < self.intent_end, INTENT, CONTENT)
        return np.where(self.labels_L == IGNORE, NO_SPAN, span_L).astype(np.int32)


def build_sequence(
    tokenizer: Tokenizer,
    prompts: PromptSet,
    output_type: str,
    *,
    request: str | None = None,
    n_speech: int | None = None,
    label: str | None = None,
    intent: str = "",
    bos: str = "training",
    unk_label_id: int | None = None,
) -> HybridSequence:
    """Build one sequence; with ``label`` for training, without for inference.

    Parameters
    ----------
    output_type : {"text", "s2t_chat", "text2text", "intent_classification"}
        Chooses the left part and which parts there are: ``s2t_chat`` drops the request, as the published
        model was trained; the last two hold no speech.
    request : str, optional
        The user's words.
    n_speech : int, optional
        Number of speech tokens Z the adapter makes of the recording; None for text-only types.
    label : str, optional
        Complete answer text (see ``tasks.format_answer``); the end piece is added.
    intent : str
        The beginning of ``label`` that names the task: its pieces are the intent span, also a piece that goes
        on beyond it. The whole label, end piece included, if it is no longer than that.
    bos : {"training", "published"}
        Where ``<s>`` stands. "training": before the left and the assistant part, always. "published": the
        same and, like the released inference code, before the request of a spoken example without label.
    unk_label_id : int, optional
        Reproduces the released training code, which hides labels of this id (7672 there): no loss, no
        attention, id 0, skipped by the position ids. Off by default: openPangu's 7672 is an ordinary piece.

    Returns
    -------
    HybridSequence

    Raises
    ------
    UserError
        Unknown output type or policy; request or speech missing, or speech given to a text-only type.
    """
    _check(output_type, request, n_speech, bos)
    has_speech, has_request = OUTPUT_TYPES[output_type]
    ids = tokenizer.encode(prompts.left[output_type], bos=True)
    if has_request:
        ids += tokenizer.encode(request, bos=bos == "published" and label is None and has_speech)
    if has_speech:
        ids += [SPEECH_BOS, *[SPEECH_FRAME] * n_speech, SPEECH_EOS]
    ids += tokenizer.encode(prompts.assistant, bos=True)
    n_context, n_intent = len(ids), 0
    if label is not None:
        cut_off = unk_label_id is not None and label.endswith(NO_EOS_SUFFIX)
        label_ids = tokenizer.encode(label) + ([] if cut_off else [tokenizer.eos_id])
        n_intent = len(label_ids) if intent == label else pieces_of_start(tokenizer, label_ids, intent)
        ids += label_ids
    ids_L = np.array(ids, np.int32)
    labels_L = np.where(np.arange(len(ids)) < n_context, IGNORE, ids_L).astype(np.int32)
    mask_L = np.ones_like(ids_L)
    if unk_label_id is not None:
        hidden_L = labels_L == unk_label_id
        ids_L[hidden_L], labels_L[hidden_L], mask_L[hidden_L] = 0, IGNORE, 0
    positions_L = np.where(mask_L == 1, np.cumsum(mask_L) - 1, MASKED_POSITION).astype(np.int32)
    return HybridSequence(ids_L, labels_L, positions_L, mask_L, n_context + n_intent if n_intent else 0)


def pieces_of_start(tokenizer: Tokenizer, ids: Sequence[int], start: str) -> int:
    """How many of ``ids`` it takes to spell ``start``, the beginning of their text; 0 if ``start`` is empty.

    A piece that holds the end of ``start`` and more is counted.

    Raises
    ------
    UserError
        The tokenizer lacks pieces for ``start``.
    """
    for n in range(len(ids)):
        if tokenizer.decode(ids[:n]).startswith(start):
            return n
    raise UserError(
        f"{tokenizer.path}: cannot spell {start!r}; use a tokenizer with these characters or with byte pieces"
    )


def _check(output_type: str, request: str | None, n_speech: int | None, bos: str) -> None:
    if output_type not in OUTPUT_TYPES:
        raise UserError(f"output type {output_type!r}: choose one of {', '.join(OUTPUT_TYPES)}")
    if bos not in BOS_POLICIES:
        raise UserError(f"bos {bos!r}: choose one of {', '.join(BOS_POLICIES)}")
    has_speech, has_request = OUTPUT_TYPES[output_type]
    if has_request and request is None:
        raise UserError(f"output type {output_type}: a request (what to do, in words) is needed")
    if has_speech and not n_speech:
        raise UserError(f"output type {output_type}: speech is needed, but there are no speech tokens")
    if not has_speech and n_speech is not None:
        raise UserError(f"output type {output_type} holds no speech: leave the recording out")


def stack_sequences(
    sequences: Sequence[HybridSequence], length: int, zmax: int, n_slots: int
) -> dict[str, np.ndarray]:
    """`pack_sequences` with one sequence per row."""
    return pack_sequences([[s] for s in sequences], length, zmax, n_slots)


def pack_sequences(
    rows: Sequence[Sequence[HybridSequence]], length: int, zmax: int, n_slots: int
) -> dict[str, np.ndarray]:
    """Lay sequences out in rows of a static length, padded on the right.

    Parameters
    ----------
    rows : sequences per row, in order
    length : int
        Static number of positions L of each row.
    zmax : int
        Speech tokens per audio slot in the model's ``z_BZD``.
    n_slots : int
        Number of audio slots. The i-th sequence that holds speech, counted over all rows, reads slot i.

    Returns
    -------
    dict of int32 arrays (B, L)
        ``token_ids_BL`` (0 at speech places and padding); ``speech_row_BL`` (-1 text and padding, 0 speech
        BOS, 1 speech EOS, ``2 + slot * zmax + z`` speech token z); ``labels_BL`` (-100 none, not shifted);
        ``positions_BL`` (restart in each sequence); ``segments_BL`` (1.. the sequence in its row, 0 padding
        and masked places); ``spans_BL`` (of each label: 1 intent, 2 content; 0 where there is none).

    Raises
    ------
    UserError
        A row is longer than ``length``, a recording longer than ``zmax``, or there are too few slots.
    """
    fill = {
        "token_ids_BL": 0,
        "speech_row_BL": -1,
        "labels_BL": IGNORE,
        "positions_BL": MASKED_POSITION,
        "segments_BL": 0,
        "spans_BL": NO_SPAN,
    }
    batch = {name: np.full((len(rows), length), value, np.int32) for name, value in fill.items()}
    slot = 0
    for b, row in enumerate(rows):
        _check_row(b, row, length, zmax)
        start = 0
        for segment, seq in enumerate(row, start=1):
            at = (b, slice(start, start + len(seq)))
            batch["token_ids_BL"][at] = np.maximum(seq.ids_L, 0)
            row_L = seq.speech_row_L
            batch["speech_row_BL"][at] = np.where(row_L >= 2, row_L + slot * zmax, row_L)
            batch["labels_BL"][at] = seq.labels_L
            batch["positions_BL"][at] = seq.positions_L
            batch["segments_BL"][at] = segment * seq.attention_mask_L
            batch["spans_BL"][at] = seq.spans_L
            start += len(seq)
            slot += seq.n_speech > 0
    if slot > n_slots:
        raise UserError(f"the batch holds {slot} recordings but has {n_slots} audio slots: make it smaller")
    return batch


def _check_row(b: int, row: Sequence[HybridSequence], length: int, zmax: int) -> None:
    total = sum(map(len, row))
    if total > length:
        raise UserError(
            f"row {b}: {total} tokens do not fit the sequence length {length} "
            f"({total - length} too many): raise it or shorten request, recording or label"
        )
    for seq in row:
        if seq.n_speech > zmax:
            raise UserError(
                f"row {b}: {seq.n_speech} speech tokens do not fit the {zmax} of an audio slot "
                f"({seq.n_speech - zmax} too many): raise the audio length or cut the recording"
            )
