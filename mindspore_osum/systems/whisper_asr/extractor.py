"""The training data of a Whisper: what an utterance's line becomes, and the columns of a batch.

    <|startoftranscript|> language task <|notimestamps|> answer <|endoftext|>

Every token after the first is a target, as published (OSUM's ASR training code): also language and task.

Legend: B rows, T mel frames, F mel bins, S tokens.
"""

from collections.abc import Callable, Iterator

import numpy as np

from mindspore_osum.data.batches import batching
from mindspore_osum.data.batches.columns import BATCHED, EXTENT, PACKED, Column
from mindspore_osum.data.batches.extractor import Example, Scanned
from mindspore_osum.data.checks import flaws
from mindspore_osum.data.formats.manifest import Utterance, key_of
from mindspore_osum.errors import UserError
from mindspore_osum.systems.whisper_asr.config import WhisperConfig
from mindspore_osum.systems.whisper_asr.prompts import PLAIN
from mindspore_osum.systems.whisper_asr.tags import known_tasks, label_task, task_tag
from mindspore_osum.systems.whisper_asr.words import WITHOUT_SPACES
from mindspore_osum.tasks import LABEL_SETS, parse_answer
from mindspore_osum.text.sequence import IGNORE
from mindspore_osum.text.tokenizer import Tokenizer

PREFIX, WORDS, LABEL = 1, 2, 3  # what a target belongs to
COLUMNS = (
    Column("mel_BTF", PACKED, "frames", ("mels",), dtype=np.float32),
    Column("mel_len_B", EXTENT, "frames", fill=2),
    Column("token_ids_BS", BATCHED, shape=("text_tokens",)),
    Column("labels_BS", BATCHED, shape=("text_tokens",), fill=IGNORE),  # of the token after each
    Column("spans_BS", BATCHED, shape=("text_tokens",)),
)
_LANGUAGE = ("lang", "language")  # keys of `extra`


class WhisperExtractor:
    """Computes the columns of utterances."""

    columns = COLUMNS
    conversations = False

    def __init__(self, model: WhisperConfig, tokenizer: Tokenizer):
        self.model, self.tokenizer, self.words = model, tokenizer, model.vocabulary
        self.sizes = {"mels": model.features.n_mels}
        self.labels = known_tasks(model.tag_ids)

    def flaws(self, utt: Utterance, seconds: float) -> Iterator[str]:
        """Problems of an utterance whose recording lasts `seconds`."""
        yield from flaws(utt, seconds)
        try:
            self._language(utt)
            key = key_of(utt)
        except UserError as error:
            yield str(error)
            return
        if key != PLAIN and label_task(key) not in self.labels:
            known = ", ".join([PLAIN, *(f"<{task.upper()}>" for task in self.labels)])
            yield f"{utt.where}: task {key}: a Whisper learns one task from a line; write lines of {known}"

    def _language(self, utt: Utterance) -> int | None:
        """The token of an utterance's language; None for a model that has only one."""
        if not self.words.multilingual:
            return None
        name = next((utt.extra[key] for key in _LANGUAGE if isinstance(utt.extra.get(key), str)), None)
        if name is None:
            raise UserError(f"{utt.where}: extra.lang is missing; give the language, a code like en or zh")
        try:
            return self.words.language(name)
        except UserError as error:
            raise UserError(f"{utt.where}: {error}") from None

    def prefix(self, utt: Utterance) -> list[int]:
        """The tokens before the answer."""
        words, label, language = self.words, label_task(key_of(utt)), self._language(utt)
        if language is None:
            return [words.sot, words.no_timestamps]
        task = self.model.tag_ids[task_tag(label)] if label else words.transcribe
        return [words.sot, language, task, words.no_timestamps]

    def answer(self, utt: Utterance) -> list[int]:
        """The tokens of the answer, without the end."""
        if label := label_task(key_of(utt)):
            labels = LABEL_SETS[label]
            return [self.model.tag_ids[f"<{parse_answer(utt.txt, key_of(utt)).labels[labels.field]}>"]]
        text = utt.txt.strip()
        language = self._language(utt)
        if language is None or self.words.code(language) not in WITHOUT_SPACES:
            text = f" {text}"
        return self.tokenizer.encode(text, plain=[range(len(text))])

    def scan(self, utt: Utterance) -> Scanned:
        """The properties of an utterance that do not need its audio."""
        prefix, answer = self.prefix(utt), self.answer(utt)
        return Scanned((None,), len(prefix) + len(answer), len(prefix) + len(answer))

    def request_tokens(self, request: str | None) -> int:
        """Tokens of a request; there are none."""
        return 0

    def brings_request(self, utt: Utterance) -> bool:
        """Whether an utterance has its own request."""
        return False

    def features(self, utt: Utterance, change: Callable | None = None) -> np.ndarray:
        """Log-mel (T, F) float32 of its recording; `change` is applied to the samples first."""
        return batching.features(utt, self.model.features, change)

    def example(
        self, utt: Utterance, request: str | None, mel_TF: np.ndarray | None, content_only: bool = False
    ) -> Example:
        """The values of an utterance by column."""
        prefix, answer = self.prefix(utt), self.answer(utt)
        ids = np.array([*prefix, *answer, self.words.eot], np.int32)
        kind = LABEL if label_task(key_of(utt)) else WORDS
        spans = [PREFIX] * (len(prefix) - 1) + [kind] * (len(answer) + 1)
        return {
            "mel_BTF": mel_TF,
            "mel_len_B": np.array(len(mel_TF)),
            "token_ids_BS": ids[:-1],
            "labels_BS": ids[1:],
            "spans_BS": np.array(spans, np.int32),
        }

    def report(self) -> list[str]:
        """A line about the tasks."""
        return [f"tasks: {', '.join([PLAIN, *(f'<{task.upper()}>' for task in self.labels)])}"]
