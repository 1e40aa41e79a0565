"""What was said before a request: a system message and earlier turns. Loads nothing heavy.

Notable choices
- One recording in all, in any of the user's turns: it is what the conversation is about.
- What is out of order is refused, with the number of the message; nothing that was said is dropped.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mindspore_osum.errors import UserError

SYSTEM_ROLES = ("system", "developer")
RECORDING = "<audio>"  # in the words of a message: where the recording was given


class Said(NamedTuple):
    """A message.

    Attributes
    ----------
    role : "user", "assistant", or one of `SYSTEM_ROLES`.
    recordings : how many it has.
    """

    role: str
    words: str
    recordings: int = 0


class Exchange(NamedTuple):
    """An earlier turn: a form of the system's template, the user's words if it has any, and the answer."""

    output_type: str
    words: str | None
    reply: str


def exchange(words: str | None, reply: str, recording: bool) -> Exchange:
    """An earlier turn, with a recording or of words alone; a recording without words is spoken chat."""
    return Exchange("text2text" if not recording else "text" if words else "s2t_chat", words or None, reply)


def conversation(
    messages: Sequence[Said], where: str = "messages"
) -> tuple[str | None, tuple[Exchange, ...], Said | None]:
    """(system text, earlier turns, the last message if it is the user's).

    Raises
    ------
    UserError : "{where}.number.role: ..." of a message that has no place there, or more than one recording.
    """
    system, turns, asked = [], [], None
    for number, said in enumerate(messages):
        if said.role in SYSTEM_ROLES and not said.words and not said.recordings:
            continue  # it says nothing
        if wrong := _out_of_order(said, bool(turns or asked), asked):
            raise UserError(f"{where}.{number}.role: {said.role!r}: {wrong}")
        if said.role in SYSTEM_ROLES:
            system.append(said.words)
        elif said.role == "user":
            asked = said
        else:
            turns.append(exchange(asked.words, said.words, bool(asked.recordings)))
            asked = None
    if (heard := sum(said.recordings for said in messages)) > 1:
        raise UserError(f"{where}: {heard} recordings; a conversation has one, in any turn of the user")
    return "\n".join(system) or None, tuple(turns), asked


def _out_of_order(said: Said, begun: bool, asked: Said | None) -> str:
    """What is wrong with a message after the ones before it, or ""."""
    if said.role != "user" and said.recordings:
        return "a recording is given in a message of the user"
    if said.role in SYSTEM_ROLES:
        return "it comes before all other messages" if begun else ""
    if said.role == "user" and asked:
        return "the user speaks twice in a row; join the two messages, or put the answer between them"
    if said.role != "user" and not asked:
        return "an answer follows a message of the user"
    return "" if said.words or said.recordings else "it is empty; leave it out or say something"


def history_of(history: Sequence[Mapping]) -> tuple[Exchange, ...]:
    """The turns of a list of ``{"role": "user" or "assistant", "content": text}``.

    `RECORDING` in a user's text is where the recording was given.

    Raises
    ------
    UserError : messages of another form, or out of order.
    """
    form = 'give a list of {"role": "user" or "assistant", "content": text}'
    if not isinstance(history, list | tuple):
        raise UserError(f"history of type {type(history).__name__}: {form}")
    messages = []
    for number, one in enumerate(history):
        known = isinstance(one, Mapping) and one.keys() == {"role", "content"}
        if not known or one["role"] not in ("user", "assistant") or not isinstance(one["content"], str):
            raise UserError(f"history.{number}: {form}; a system message is `system`")
        words, of_user = one["content"], one["role"] == "user"
        heard = words.count(RECORDING) if of_user else 0
        words = " ".join(words.replace(RECORDING, " ").split()) if heard else words.strip()
        messages.append(Said(one["role"], words, heard))
    _, turns, left = conversation(messages, "history")
    if left:
        raise UserError(f"history.{len(messages) - 1}: the last one is an answer; the request follows it")
    return turns
