"""What is asked of recordings, and what comes back. Loads nothing heavy."""

from dataclasses import dataclass, field

from mindspore_osum.errors import UserError
from mindspore_osum.tasks import INTENT_KEY, TASKS, tags_of, task_key, write_tags


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
    error: str | None = None  # one line; there is no answer then


@dataclass(frozen=True)
class Request:
    """What is asked of every recording."""

    words: str | None  # None for spoken chat, which has none
    output_type: str
    task: str | None  # published key, where it is known


def make_request(task: str | None = None, instruction: str | None = None) -> Request:
    """What to ask for: the tags of a task (by default asr), or free words."""
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
