"""Conversations: {"messages": [{"role", "content"}, ...]} as WEST writes them.

Notable choices
- There are no keys: a line's key is its file and number.
- Only the first turn of a conversation is used, because a sequence holds one request, recording and answer.
  Later turns depend on earlier ones; they are left out and counted. WEST's own reader also uses one turn.
- The task of a request with a recording must be known, since answers begin with its tags: from a "task" in
  the line, or because it is a published request or WEST's own. A recording alone is spoken chat, a text alone
  a question to the text model.
- A system message is put before the request, as in WEST.
"""

from collections.abc import Iterator
from pathlib import Path
from reprlib import repr as short

from mindspore_osum.data.formats.manifest import MALFORMED, Skipped, Utterance, default_key, parse_object
from mindspore_osum.errors import UserError
from mindspore_osum.tasks import TASKS, task_of_request

DEFAULT_REQUEST = "Transcribe the Speech"  # of WEST
LATER_TURNS, NOT_ONE_RECORDING = "later turns of a conversation", "several recordings in a turn"


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
    default = words.strip().casefold() == DEFAULT_REQUEST.casefold()
    known = TASKS["asr"].key if default else task_of_request(words)
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
