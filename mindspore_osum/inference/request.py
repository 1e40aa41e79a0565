"""What is asked of recordings, and what comes back. Loads nothing heavy."""

from dataclasses import dataclass, field

from mindspore_osum.errors import UserError
from mindspore_osum.tasks import (
    INTENT_KEY,
    TASKS,
    TEXT2TEXT,
    ParsedAnswer,
    parse_answer,
    tags_of,
    task_key,
    write_tags,
)


@dataclass
class Result:
    """The answer to one recording; see `tasks.ParsedAnswer` for the parts of it."""

    audio: str  # its path, or what it was given as
    text: str = ""
    tags: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    words: list[tuple[str, float, float]] = field(default_factory=list)  # word, start, end in seconds
    answer: str | None = None  # reply of a spoken chat
    raw: str = ""  # all the model wrote
    cut: bool = False  # the answer reached max_new_tokens, or the model's last position, before its end
    seconds: float = 0.0  # length of the recording
    rtf: float = 0.0  # real-time factor: computing time (its share of the batch; without compiling) / seconds
    # field -> label -> probability among the labels of its set; None unless it was asked for
    probabilities: dict[str, dict[str, float]] | None = None
    error: str | None = None  # one line; there is no answer then


@dataclass(frozen=True)
class Request:
    """What is asked of a recording, or, by the two output types without speech, of words alone."""

    words: str | None  # what the user says; the form `s2t_chat` of spoken chat leaves it out
    output_type: str  # of `text.prompts.OUTPUT_TYPES`
    task: str | None  # published key, where it is known; it guides the reading of the answer


def make_request(task: str | None = None, instruction: str | None = None) -> Request:
    """What to ask for: the tags of a task (by default asr), or free words.

    The task sttc takes the published form of spoken chat, which has no request; the words "<chat>", or any
    others, ask for the same in the form of all other tasks.
    """
    if instruction is not None:
        if task is not None:
            raise UserError("a task and an instruction exclude each other: give one of them")
        if not instruction.strip():
            raise UserError("the instruction is empty: say what to do with the recording")
        return Request(instruction, "text", None)
    key = task_key(task or "asr")
    if key == INTENT_KEY:
        raise UserError(f"task {task}: reads words, not a recording")
    output_type = next((t.output_type for t in TASKS.values() if t.key == key), "text")
    return Request(write_tags(tags_of(key)), output_type, key)


def read_answer(raw: str, task: str | None) -> ParsedAnswer:
    """`tasks.parse_answer` for every published key: an answer to words about words is a reply as a whole."""
    return ParsedAnswer(answer=raw.strip()) if task == TEXT2TEXT else parse_answer(raw, task)
