"""What is asked of recordings. Loads nothing heavy."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mindspore_osum.errors import UserError
from mindspore_osum.inference.conversation import Exchange
from mindspore_osum.tasks import INTENT_KEY, TASKS, tags_of, task_key, task_of_request, write_tags


@dataclass(frozen=True)
class Request:
    """What is asked of a recording, or of words alone (the two output types without speech)."""

    words: str | None  # the user's words; not used by the form `s2t_chat` of spoken chat
    output_type: str  # a form of the system's template
    task: str | None  # published key, where it is known; it guides the parsing of the answer
    # where the task is known: the answer's opening tags are given, so that it can be of no other task
    force_tags: bool = True
    hotwords: tuple[str, ...] = ()  # names and terms that may be said; the system puts them into its prompt
    language: str = ""  # of what is said, code or English name; "": the model finds out
    translate: bool = False  # the answer in English, whatever is said
    system: str | None = None  # instead of the system text that the model was trained with
    history: tuple[Exchange, ...] = ()  # the turns before; the recording may be in one of them
    prompt: str = ""  # words as if they had been said before the recording
    word_times: bool = False  # also the times of words, where the task does not give them
    earlier: Any = None  # what was read of a recording before this window, by the system's own reading

    @property
    def asks_for(self) -> str | None:
        """Published key of the task: `task`, or that of known words."""
        return self.task or task_of_request(self.words or "")


def make_request(
    task: str | None = None,
    instruction: str | None = None,
    hotwords: str | Sequence[str] = (),
    language: str = "",
    translate: bool = False,
    prompt: str = "",
    word_times: bool = False,
) -> Request:
    """Make a request from a task (its tags; by default asr) or from free words.

    The task sttc takes the published form of spoken chat, which has no request; the words "<chat>", or any
    others, and hotwords ask for a reply in the form of all other tasks.

    Parameters
    ----------
    hotwords : names and terms that may be said: a list, or a text with commas between them.
    language : of what is said, a code or an English name, for models that take one; "": they detect it.
    translate : have the words in English, of models that translate.
    prompt : words as if they had been said before the recording, of models that read such.
    word_times : also the times of words, of models whose tasks do not give them.

    Raises
    ------
    UserError : no such task, an empty instruction, or hotwords, a prompt or a language that are no texts.
    """
    hotwords = _hotwords(hotwords)
    if not isinstance(language, str):
        raise UserError(f"language of type {type(language).__name__}: give its code or its English name")
    if not isinstance(prompt, str):
        raise UserError(f"prompt of type {type(prompt).__name__}: give text")
    more = {"language": language, "translate": translate, "prompt": prompt.strip(), "word_times": word_times}
    if instruction is not None:
        if task is not None:
            raise UserError("a task and an instruction exclude each other: give one of them")
        if not instruction.strip():
            raise UserError("the instruction is empty: say what to do with the recording")
        return Request(instruction, "text", None, True, hotwords, **more)
    key = task_key(task or "asr")
    if key == INTENT_KEY:
        raise UserError(f"task {task}: reads words, not a recording")
    output_type = next((t.output_type for t in TASKS.values() if t.key == key and not hotwords), "text")
    return Request(write_tags(tags_of(key)), output_type, key, True, hotwords, **more)


def _hotwords(given: str | Sequence[str]) -> tuple[str, ...]:
    words = re.split("[,，、]", given) if isinstance(given, str) else given
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise UserError(f"hotwords {given!r}: give a list of texts, or one text with commas between them")
    words = [" ".join(word.split()) for word in words]
    for word in words:
        if "<" in word or ">" in word:
            raise UserError(f"hotword {word!r}: < and > are for tags; leave them out")
    return tuple(dict.fromkeys(filter(None, words)))
