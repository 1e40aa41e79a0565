"""Input of generation, and how a system with a template makes it of a request."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mindspore_osum.systems.config import Config
from mindspore_osum.tasks import task_of_request
from mindspore_osum.text.sequence import HybridSequence, denied_ids, opening_ids
from mindspore_osum.text.template import AUDIO, Turn
from mindspore_osum.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """Input of generation.

    Attributes
    ----------
    sequence : the hybrid sequence.
    mel_TF : log-mel of its speech, float32, if any.
    opening : the last tokens of the sequence, if they are the beginning of the answer.
    first : the only tokens that may follow them; any may if empty.
    denied : tokens that may not.
    """

    sequence: HybridSequence
    mel_TF: np.ndarray | None = None
    opening: tuple[int, ...] = ()
    first: tuple[int, ...] = ()
    denied: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.sequence)

    def __str__(self) -> str:
        return f"prompt of {len(self)} positions ({self.sequence.n_speech} of speech)"


class Prompts:
    """Makes the prompts of one model whose sequences a template lays out.

    Parameters
    ----------
    system : the `System`.
    """

    def __init__(self, system: Any, cfg: Config, tokenizer: Tokenizer):
        self.system, self.cfg, self.tokenizer = system, cfg, tokenizer
        self.template = system.template(cfg)
        self._openings: dict[str, tuple] = {}

    def hears(self, request) -> bool:
        """Whether a `Request`, or a turn before it, is about a recording."""
        forms = [request.output_type, *(turn.output_type for turn in request.history)]
        return any(AUDIO in self.template.needs(form) for form in forms)

    def prompt(self, request, speech: int | None, mel_TF: np.ndarray | None = None) -> Prompt:
        """The prompt of a `Request` after the turns before it.

        Parameters
        ----------
        speech : tokens of the recording, None without one.
        mel_TF : its log-mel; without it the prompt has the right length, and cannot be answered.
        """
        forced = request.task and request.force_tags
        opening, first, denied = self._opening(request.task) if forced else ((), (), ())
        words = request.words
        if request.hotwords:
            words = self.system.with_hotwords(words, request.task, request.hotwords)

        def turn(form: str, words: str | None, task: str | None, **more) -> Turn:
            heard = speech if AUDIO in self.template.needs(form) else None
            return Turn(form, self.given(form, words, task, request), heard, **more)

        turns = [
            turn(form, said, task_of_request(said or ""), answer=[("", reply)])
            for form, said, reply in request.history
        ]
        turns.append(turn(request.output_type, words, request.asks_for, opening=opening))
        sequence = self.template.sequence(self.tokenizer, *turns, system=request.system)
        return Prompt(sequence, mel_TF, opening, first, denied)

    def given(self, form: str, words: str | None, task: str | None, request) -> dict[str, str | None]:
        """The caller's words of a turn, by the names that the template has for them.

        Parameters
        ----------
        words : of the user.
        task : published key, where it is known.
        request : the `Request` that the conversation ends with.
        """
        return {"request": words}

    def _opening(self, task: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The tokens that every answer to a task begins with, those that may follow (empty: any), and not."""
        if task not in self._openings:
            opening, texts = self.system.openings(task, self.cfg)
            ids, first = opening_ids(self.tokenizer, opening, texts)
            denied = denied_ids(self.tokenizer, ids, texts, self.system.other_openings(task, self.cfg))
            self._openings[task] = ids, first, denied
        return self._openings[task]
