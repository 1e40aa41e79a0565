"""Conversations: {"messages": [{"role", "content"}, ...]} as WEST writes them.

Notable choices
- There are no keys: a line's key is its file and number.
- Most models read one request, recording and answer: of a conversation only the first turn is used
  (`parse_turns`). Later turns depend on earlier ones; they are left out and counted.
- Models that were trained with several turns get the whole of it (`parse_whole`); as in WEST's code, only the
  last turn may have a recording, which follows its words.
- The task of a request with a recording must be known, since answers begin with its tags: from a "task" in
  the line, or because it is a published request or WEST's own. A recording alone is spoken chat, a text alone
  a question to the text model.
- A system message is put before the request, as in WEST.
"""

from collections.abc import Iterator
from pathlib import Path
from reprlib import repr as short
from typing import NamedTuple

from mindspore_osum.data.formats.manifest import MALFORMED, Skipped, Utterance, default_key, parse_object
from mindspore_osum.errors import UserError
from mindspore_osum.tasks import TASKS, task_of_request

DEFAULT_REQUEST = "Transcribe the Speech"  # of WEST
LATER_TURNS, NOT_ONE_RECORDING = "later turns of a conversation", "several recordings in a turn"
CONVERSATION = "conversation"  # key of `Utterance.extra`


class Conversation(NamedTuple):
    """What comes before an utterance's answer.

    Attributes
    ----------
    words : of the user beside or instead of the recording; None if there are none.
    history : (what the user said, the answer) of each earlier turn.
    system : None without a system message.
    """

    words: str | None
    history: tuple[tuple[str, str], ...] = ()
    system: str | None = None


def conversation_of(utt: Utterance) -> Conversation | None:
    """The conversation of an utterance that `parse_whole` made; None for others.

    Raises
    ------
    UserError : `extra` has something else under its name.
    """
    if (given := utt.extra.get(CONVERSATION)) is None:
        return None
    words, history, system = (given.get(k) if isinstance(given, dict) else 0 for k in Conversation._fields)
    texts = all(text is None or isinstance(text, str) for text in (words, system))
    pairs = isinstance(history, list) and all(
        isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)
        for turn in history
    )
    if not texts or not pairs:
        raise UserError(
            f"{utt.where}: extra.{CONVERSATION}: give messages instead, in a line of its own form"
        )
    return Conversation(words, tuple((said, reply) for said, reply in history), system)


def parse_whole(
    values: dict, folder: Path, where: str, task: str | None = None
) -> Iterator[Utterance | Skipped]:
    """The utterance of a whole conversation: its last turn, with the others in `extra`; or why there is none.

    Parameters
    ----------
    task : as of `parse_turns`, where it matters for scores alone.
    """
    values = {"key": default_key(where), **values}
    try:
        system, turns = _turns(values["messages"], where)
        *earlier, ((texts, wavs), answer) = turns
        for n, ((said, heard), _) in enumerate(earlier, 1):
            if heard:
                raise UserError(
                    f"{where}: turn {n} has a recording; this model hears only that of the last one"
                )
            if not "".join(said).strip():
                raise UserError(f"{where}: turn {n}: the user says nothing")
        if len(wavs) > 1:
            raise UserError(f"{where}: {len(wavs)} recordings in a turn; this model hears one")
        if _text_behind(values["messages"][-2]["content"]):
            raise UserError(f"{where}: words after the recording; this model reads them before it")
        words, extra = "".join(texts), values.get("extra")
        if not words.strip() and not wavs:
            raise UserError(f"{where}: the last turn: the user says nothing")
        extra = {} if extra is None else extra
        if not isinstance(extra, dict):
            raise UserError(f"{where}: 'extra' must be an object, found {type(extra).__name__}")
        history = [["".join(said), reply] for (said, _), reply in earlier]
        talk = {"words": words or None, "history": history, "system": "".join(system) or None}
        known = TASKS["asr"].key if _is_default(words) else task_of_request(words) or task
        heard_as = known or TASKS["sttc"].key
        asked = {"task": values.get("task") or (heard_as if wavs else "<TEXT2TEXT>")}
        wav = wavs[0] if wavs else None
        line = values | asked | {"txt": answer, "wav": wav, "extra": {**extra, CONVERSATION: talk}}
        yield parse_object(line, folder, where)
    except UserError as error:
        yield Skipped(MALFORMED, str(error))


def _is_default(words: str) -> bool:
    return words.strip().casefold() == DEFAULT_REQUEST.casefold()


def _text_behind(content) -> bool:
    """Whether there is text after a recording in a content."""
    kinds = [isinstance(part, str) or part.get("type") == "text" for part in content if part]
    return isinstance(content, list) and False in kinds and any(kinds[kinds.index(False) :])


def parse_turns(
    values: dict, folder: Path, where: str, task: str | None = None
) -> Iterator[Utterance | Skipped]:
    """At most one utterance of a conversation (`messages`), and what was not used.

    Parameters
    ----------
    task : that of a request with a recording which names none.
    """
    values = {"key": default_key(where), **values}
    try:
        system, turns = _turns(values["messages"], where)
        texts, wavs = turns[0][0]
        if len(wavs) > 1:
            yield Skipped(NOT_ONE_RECORDING, f"{where}: {len(wavs)} recordings in a turn", False)
        else:
            values |= {"txt": turns[0][1], "wav": wavs[0] if wavs else None}
            asked = _asked(values, "".join(system), "".join(texts), where, task)
            yield parse_object({**values, **asked}, folder, where)
        if len(turns) > 1:
            yield Skipped(LATER_TURNS, f"{where}: {len(turns) - 1} after the first", False)
    except UserError as error:
        yield Skipped(MALFORMED, str(error))


def _asked(values: dict, system: str, words: str, where: str, other: str | None) -> dict:
    """Task and extra of a turn."""
    extra, task = values.get("extra"), values.get("task")
    extra = {} if extra is None else extra
    if not isinstance(extra, dict):
        raise UserError(f"{where}: 'extra' must be an object, found {type(extra).__name__}")
    request = system + words
    if not request.strip():
        return {"task": task or TASKS["sttc"].key, "extra": extra}
    if values["wav"] is None:
        return {"task": task or "<TEXT2TEXT>", "extra": {**extra, "question": request}}
    task = TASKS["sttc"].key if task == "sttc" else task  # a chat has no request, whatever its spelling
    # training may replace a known request by any other for the task
    known = TASKS["asr"].key if _is_default(words) else task_of_request(words)
    if task in (None, ""):
        task = known or other
        if task is None:
            raise UserError(
                f'{where}: request {request[:60]!r} names no task; add a "task" to the line, '
                'for instance "<TRANSCRIBE>", or give one to `osum data import`'
            )
    if task == known and not system.strip():
        return {"task": known, "extra": extra}
    if task == TASKS["sttc"].key:
        raise UserError(f"{where}: request {request[:60]!r}: spoken chat has none beside the recording")
    return {"task": task, "extra": {**extra, "question": request}}


def _turns(messages, where: str) -> tuple[list[str], list[tuple[tuple[list[str], list[str]], str]]]:
    """System texts, and ((texts, recordings), answer) of each turn."""
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise UserError(f"{where}: 'messages' must be a list of objects with role and content")
    roles = [m.get("role") for m in messages]
    first = 1 if roles[:1] == ["system"] else 0
    if not roles[first:] or roles[first:] != ["user", "assistant"] * (len(roles[first:]) // 2):
        raise UserError(
            f"{where}: roles {short(roles)}: user and assistant must take turns, after at most one system"
        )
    parts = [_parts(m.get("content"), where) for m in messages]
    system = parts[0][0] if first else []
    turns = []
    for question, (texts, wavs) in zip(parts[first::2], parts[first + 1 :: 2]):
        if wavs or not "".join(texts).strip():
            raise UserError(f"{where}: an answer must be text and not empty; spoken answers are not learned")
        turns.append((question, "".join(texts)))
    return system, turns


def _parts(content, where: str) -> tuple[list[str], list[str]]:
    """Texts and recordings of a content: a text, {"type": "audio", "audio": path}, or a list of these."""
    texts, wavs = [], []
    for part in content if isinstance(content, list) else [content]:
        kind = "text" if isinstance(part, str) else part.get("type") if isinstance(part, dict) else None
        value = part if isinstance(part, str) else part.get(kind) if kind in ("text", "audio") else None
        if not isinstance(value, str) or (kind == "audio" and not value):
            raise UserError(
                f"{where}: content {short(part)}: expected a text, or an object of type text or audio"
            )
        (texts if kind == "text" else wavs).append(value)
    return texts, wavs
