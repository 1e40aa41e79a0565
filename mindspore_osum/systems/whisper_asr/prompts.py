"""What a request becomes: the tokens that Whisper's answer follows, and what it cannot be asked.

[<|startofprev|> hotwords, prompt or what was written before] <|startoftranscript|> [language task]
[<|notimestamps|>]

A label task has its own tag as task, and one of its labels as answer (tags.py).
"""

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.systems.whisper_asr.config import WhisperConfig
from mindspore_osum.systems.whisper_asr.tags import known_tasks, label_tags, label_task, task_tag
from mindspore_osum.systems.whisper_asr.vocabulary import DETECT
from mindspore_osum.tasks import tags_of, write_tags
from mindspore_osum.text.sequence import Text, lay_out
from mindspore_osum.text.tokenizer import Tokenizer

PLAIN, TIMED = "<TRANSCRIBE>", "<TRANSCRIBE> <ALIGN>"  # tasks: words alone, words with times


def check(request, cfg: WhisperConfig) -> None:
    """Refuse a `Request` that is not for this Whisper; UserError in one line."""
    known, label = known_tasks(cfg.tag_ids), label_task(request.task)
    usual = request.task in (PLAIN, TIMED) or label in known
    if not usual or request.history or request.system is not None:
        asked = request.task or "a request in words"
        if known:
            keys = " ".join(f"<{task.upper()}>" for task in known)
            raise UserError(
                f"{asked}: this Whisper has one task a pass: asr, srwt for times, or one of {keys}; ask for "
                "them one by one"
            )
        raise UserError(
            f"{asked}: a Whisper writes what is said, or translates it to English; ask for asr, or srwt for "
            "times, and use an OSUM model for everything else"
        )
    if request.words and request.words != write_tags(tags_of(request.task)):
        raise UserError("a request in words: a Whisper reads none; ask for a task, or an OSUM model")
    if label and (request.translate or request.hotwords):
        raise UserError(f"{request.task}: a label is neither translated nor spelled; ask without")
    words = cfg.vocabulary
    if not words.multilingual and request.translate:
        raise UserError("translate: this Whisper knows English only; use a multilingual one")
    if request.language and words.language(request.language) != words.first_language:
        if not words.multilingual:
            raise UserError(
                f"language {request.language!r}: this Whisper knows English only; use a multilingual one"
            )


def example(cfg: WhisperConfig, frames: int) -> Prompt:
    """As `System.example`: a transcript without times, of a language that is detected."""
    words = cfg.vocabulary
    ids = [words.sot, *((DETECT, words.transcribe) if words.multilingual else ()), words.no_timestamps]
    return Prompt(lay_out(None, [Text(ids)]), np.zeros((frames, cfg.features.n_mels), np.float32))


class WhisperPrompts:
    """Makes the prompts of one model."""

    def __init__(self, cfg: WhisperConfig, tokenizer: Tokenizer):
        self.cfg, self.tokenizer, self.words = cfg, tokenizer, cfg.vocabulary
        self.most = cfg.decoder.max_positions // 2 - 1  # tokens before a transcript

    def hears(self, request) -> bool:
        """Whether a request is about a recording: every one is."""
        return True

    def prompt(self, request, speech: int | None, mel_TF: np.ndarray | None = None) -> Prompt:
        """The prompt of a `Request` about a recording with this log-mel (T, F)."""
        words, ids, earlier = self.words, self._before(request), request.earlier
        first, label = (), label_task(request.task)
        ids.append(words.sot)
        if words.multilingual:
            ids.append(words.language(request.language) if request.language else DETECT)
            ids.append(words.translate if request.translate else words.transcribe)
        if label:
            tags = self.cfg.tag_ids
            ids[-1] = tags[task_tag(label)]
            first = tuple(tags[tag] for tag in label_tags(label)) if request.force_tags else ()
        if request.task != TIMED and earlier is None:  # seeking goes by timestamps
            ids.append(words.no_timestamps)
        if earlier is not None and mel_TF is not None:  # published so: not silence, but zeros follow it
            mel_TF = np.pad(mel_TF, ((0, max(0, self.cfg.features.padding - len(mel_TF))), (0, 0)))
        return Prompt(lay_out(None, [Text(ids)]), mel_TF, first=first)

    def _before(self, request) -> list[int]:
        """Hotwords, then the prompt or what was written before: the last tokens that half the positions hold,
        hotwords first."""
        hotwords = self.text(", ".join(request.hotwords))[-self.most :]
        said = self.text(request.prompt) if request.earlier is None else [*request.earlier.tokens]
        ids = hotwords + said[max(0, len(said) - (self.most - len(hotwords))) :]
        return [self.words.start_of_previous, *ids] if ids else []

    def text(self, said: str) -> list[int]:
        """The tokens of what is read as if it had been said before."""
        text = " " + said.strip()
        return self.tokenizer.encode(text, plain=[range(len(text))]) if said.strip() else []
