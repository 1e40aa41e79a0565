"""From an utterance to a static-shape training batch: features, hybrid sequence, stacked arrays.

Notable choices
- Labels and requests follow the published data pipeline: the task's tags in front of the text; the request is
  the tag string or one of the published sentences; `extra.question` and `extra.intent` replace it.
- What does not fit a shape is refused by the caller before training (see loader.py), never shortened.
- Column order is the order of the training network's inputs.

Legend: B utterances, T mel frames, F mel bins, L sequence positions, S CTC labels, Z speech tokens.
"""

import math
import re
from dataclasses import dataclass

import numpy as np

from mindspore_osum.data.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE, duration_seconds, load_audio
from mindspore_osum.speech.features import log_mel, num_frames
from mindspore_osum.tasks import ANSWER_MARK, INTENT_KEY, TASKS, tags_of, task_key, task_of_tags, write_tags
from mindspore_osum.text.normalize import normalize_label
from mindspore_osum.text.prompts import intent_instructions, intent_request, task_requests
from mindspore_osum.text.sequence import IGNORE, HybridSequence, build_sequence, stack_sequences

COLUMNS = (
    "mel_BTF",
    "mel_len_B",
    "token_ids_BL",
    "speech_row_BL",
    "labels_BL",
    "positions_BL",
    "segments_BL",
    "ctc_labels_BS",
    "ctc_len_B",
    "targets_B",
)
TEXT2TEXT = "<TEXT2TEXT>"
_NONE = np.zeros(0, np.int32)
EMPTY = HybridSequence(_NONE, _NONE, _NONE, _NONE)  # a row of a batch that nothing is in
_ANGLES = re.compile(r"<[^<>]*>")


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


class Texts:
    """What an utterance says to the model: request, label, CTC target."""

    def __init__(self, tokenizer, prompts, kind: str = "both"):
        self.tokenizer, self.prompts, self.kind = tokenizer, prompts, kind

    def label(self, utt: Utterance) -> str:
        """The full answer: tags of the task, then the text, normalised as published."""
        if key_of(utt) == TEXT2TEXT:
            return utt.txt
        key = key_of(utt)
        return normalize_label(write_tags(tags_of(key)) + utt.txt, key)

    def requests(self, utt: Utterance) -> list[str | None]:
        """The requests this utterance may be trained with; [None] for spoken chat, which has none."""
        kind = output_type(utt)
        if kind == "s2t_chat":
            return [None]
        question, intent = utt.extra.get("question"), utt.extra.get("intent")
        if isinstance(question, str) and question:
            return [question]
        if kind == "intent_classification":
            if not isinstance(intent, str) or not intent:
                raise UserError(f"{utt.where}: task {INTENT_KEY} needs the user's words in extra.intent")
            return [intent_request(intent, i) for i in intent_instructions()]
        if kind == "text2text":
            raise UserError(f"{utt.where}: task {TEXT2TEXT} needs the user's words in extra.question")
        tags = tags_of(key_of(utt))
        abbr = task_of_tags(tags)
        natural = list(task_requests(abbr)) if abbr in TASKS else []
        wanted = {"tag": [], "natural": natural, "both": natural}[self.kind]
        return wanted + ([write_tags(tags)] if self.kind != "natural" or not natural else [])

    def ctc_ids(self, utt: Utterance) -> list[int]:
        """Token ids of the transcript, without tags, labels and end; [] where the text is no transcript."""
        if utt.wav is None or "asr" not in tags_of(key_of(utt)):
            return []
        transcript = _ANGLES.sub(" ", normalize_label(utt.txt.split(ANSWER_MARK)[0], key_of(utt)))
        return self.tokenizer.encode(" ".join(transcript.split()))

    def sequence(self, utt: Utterance, request: str | None, n_speech: int | None) -> HybridSequence:
        """The hybrid sequence with label."""
        return build_sequence(
            self.tokenizer,
            self.prompts,
            output_type(utt),
            request=request,
            n_speech=n_speech,
            label=self.label(utt),
        )


def key_of(utt: Utterance) -> str:
    """The published key of the utterance's task, which may be given by abbreviation or with other spaces."""
    try:
        return TEXT2TEXT if utt.task == TEXT2TEXT else task_key(utt.task)
    except UserError as error:
        raise UserError(f"{utt.where}: {error}") from None


def output_type(utt: Utterance) -> str:
    """The sequence form of a task (published rule: only these three differ from "text")."""
    forms = {TEXT2TEXT: "text2text", INTENT_KEY: "intent_classification", TASKS["sttc"].key: "s2t_chat"}
    return forms.get(key_of(utt), "text")


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


def features(utt: Utterance, n_mels: int, pad_to_seconds: float = 0.0) -> np.ndarray:
    """Log-mel (T, F) float32 of the utterance's recording."""
    try:
        wave_N = load_audio(utt.wav)
    except UserError as error:
        raise UserError(f"{utt.where}: {error}") from None
    first, last = _cut(utt, len(wave_N))
    return log_mel(wave_N[first:last], n_mels, pad_to_seconds=pad_to_seconds)


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


def spec_augment(
    mel_TF: np.ndarray, rng, time_masks: int, time_max: int, freq_masks: int, freq_max: int
) -> None:
    """Zero random stretches of time and frequency in place (SpecAugment, Park et al. 2019)."""
    frames, bins = mel_TF.shape
    for _ in range(time_masks):
        start = rng.integers(0, frames)
        mel_TF[start : start + rng.integers(1, time_max + 1)] = 0.0
    for _ in range(freq_masks):
        start = rng.integers(0, bins)
        mel_TF[:, start : start + rng.integers(1, freq_max + 1)] = 0.0


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
    text = [arrays[name] for name in COLUMNS[2:7]]
    return (mel_BTF, mel_len_B, *text, ctc_labels_BS, ctc_len_B, np.full(shape.size, targets, np.float32))


def stack_rows(sequences: list[HybridSequence], shape: Shape) -> dict[str, np.ndarray]:
    """`stack_sequences` with the audio slot of each row being the row itself, also beside text-only rows."""
    arrays = stack_sequences(sequences, shape.length, shape.speech, shape.size)
    speech = [b for b, s in enumerate(sequences) if s.n_speech]
    for slot, b in enumerate(speech):  # slots are counted over the rows that hold speech
        rows = arrays["speech_row_BL"][b]
        rows[rows >= 2] += (b - slot) * shape.speech
    return arrays


def label_count(sequence: HybridSequence) -> int:
    """Labels of a sequence that count in the loss."""
    return int(np.count_nonzero(sequence.labels_L[1:] != IGNORE))
