"""Conversations of ms-swift and LLaMA-Factory, brought to WEST's form: contents hold the recordings.

    {"messages": [{"role", "content"}, ...], "audios": [path, ...]}            both; also "system"
    {"conversations": [{"from", "value"}, ...], "audios": ...}                 LLaMA-Factory (ShareGPT)
    {"query", "response", "history": [[query, response], ...], "audios": ...}  ms-swift
    {"instruction", "input", "output", "history", "audios": ...}               LLaMA-Factory (Alpaca)

Notable choices
- A recording is where `<audio>` stands in the words; `<audio>path</audio>` names it there. Without any, the
  recordings are in front of the first request, as in ms-swift. Another number of places is an error.
- What the answer may depend on and this model cannot take (images, videos, tools) is an error.
"""

import re
from collections.abc import Iterator
from reprlib import repr as short

from mindspore_osum.errors import UserError
from mindspore_osum.stores import is_stored

MESSAGES, CONVERSATIONS = "messages", "conversations"
QUERY, INSTRUCTION = "query and response", "instruction and output"
AUDIOS = ("audios", "audio")  # the second for one recording
KEYS = {
    "messages",
    "conversations",
    "system",
    "query",
    "response",
    "history",
    "instruction",
    "input",
    "output",
}
KEYS |= {*AUDIOS, "images", "image", "videos", "video", "tools"}
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}
_PLACE = re.compile(r"\n?<audio>(?:([^<>]+)</audio>)?\n?")


def form_of(values: dict) -> str | None:
    """The name of a conversation's form, one of the four above; None for other objects."""
    if "messages" in values:
        return MESSAGES
    if "conversations" in values:
        return CONVERSATIONS
    if {"query", "response"} <= values.keys():
        return QUERY
    return INSTRUCTION if {"instruction", "output"} <= values.keys() else None


def with_messages(values: dict, where: str) -> dict:
    """The object with `messages` in WEST's form instead of its own keys.

    Raises
    ------
    UserError : it is not clear where a recording belongs, or something is there that is no sound.
    """
    for name in ("images", "image", "videos", "video", "tools"):
        if values.get(name):
            raise UserError(f"{where}: {name!r}: this model takes words and recordings; leave the line out")
    messages = [*_system(values, where), *_messages(values, where)]
    names = _names(values, where)
    left = iter(names)
    parted = [{"role": role, "content": _parts(content, left, where)} for role, content in messages]
    unused = len(list(left))
    first = next((m for m in parted if m["role"] == "user"), None)
    if names and unused == len(names) and first and not any(map(_is_audio, first["content"])):
        first["content"] = [*map(_audio, names), *first["content"]]
    elif unused:
        raise UserError(
            f"{where}: {_key(values)!r} names {len(names)} recordings, but {len(names) - unused} <audio> are "
            "in the words; each needs its place"
        )
    rest = {name: value for name, value in values.items() if name not in KEYS}
    return {**rest, "messages": parted}


def _audio(path: str) -> dict:
    return {"type": "audio", "audio": path}


def _is_audio(part) -> bool:
    return isinstance(part, dict) and part.get("type") == "audio"


def _key(values: dict) -> str:
    return next((name for name in AUDIOS if values.get(name)), AUDIOS[0])


def _names(values: dict, where: str) -> list[str]:
    """The recordings that a line names beside its words."""
    key = _key(values)
    if all(values.get(name) for name in AUDIOS):
        raise UserError(f"{where}: both 'audios' and 'audio' name recordings; keep one of them")
    names = values.get(key) or []
    names = names if isinstance(names, list) else [names]
    names = [name.get("path") if isinstance(name, dict) else name for name in names]
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise UserError(f"{where}: {key!r} must be a path or a list of paths, found {short(values[key])}")
    if address := next((name for name in names if re.match(r"\w{2,}:", name) and not is_stored(name)), None):
        raise UserError(f"{where}: {key!r}: {address[:60]!r} is no path; save the recording as a file")
    return names


def _system(values: dict, where: str) -> Iterator[tuple[str, object]]:
    system = values.get("system")
    if system is not None and not isinstance(system, str):
        raise UserError(f"{where}: 'system' must be a text, found {short(system)}")
    if system:
        yield "system", system


def _messages(values: dict, where: str) -> list[tuple[object, object]]:
    """(role, content) of each message."""
    form = form_of(values)
    if form in (MESSAGES, CONVERSATIONS):
        messages = values[form]
        if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
            raise UserError(f"{where}: {form!r} must be a list of objects with role and content")
        pairs = [(m.get("role", m.get("from")), m.get("content", m.get("value"))) for m in messages]
        return [(_ROLES.get(role, role) if isinstance(role, str) else role, said) for role, said in pairs]
    history = values.get("history") or []
    if not isinstance(history, list) or not all(isinstance(t, list) and len(t) == 2 for t in history):
        raise UserError(f"{where}: 'history' must be a list of [request, answer], found {short(history)}")
    if form == QUERY:
        turns = [*history, [values["query"], values["response"]]]
    else:
        words = [values["instruction"], *filter(None, [values.get("input")])]
        joined = "\n".join(words) if all(isinstance(text, str) for text in words) else values["instruction"]
        turns = [*history, [joined, values["output"]]]
    return [pair for turn in turns for pair in zip(("user", "assistant"), turn)]


def _parts(content, names: Iterator[str], where: str) -> list:
    """The texts and recordings of a content; what is neither is left for the reader of WEST to refuse."""
    parts = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
            part = part["text"]
        if isinstance(part, str):
            parts += _split(part, names, where)
        elif _is_audio(part) and not part.get("audio"):
            path = part.get("audio_url") or next(names, None)  # audio_url: Qwen2-Audio
            parts.append({**part, "audio": path})
        else:
            parts.append(part)
    return parts


def _split(text: str, names: Iterator[str], where: str) -> list:
    """A text and the recordings whose places are in it."""
    parts, at = [], 0
    for place in _PLACE.finditer(text):
        path = place[1] or next(names, None)
        if path is None:
            raise UserError(f"{where}: <audio> stands in the words, but 'audios' names no recording for it")
        parts += [text[at : place.start()], _audio(path)]
        at = place.end()
    return [part for part in (*parts, text[at:]) if part or not parts]
