"""A response as a notebook shows it: a player, the words with their times, labels and reply.

Everything that comes from a model, a file or its name is escaped.
"""

import base64
import os
from html import escape

MAX_BYTES = 4 << 20  # of a recording that becomes part of the notebook
TYPES = {  # suffix -> media type that browsers play
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
}
WORDS = 2000  # that are shown


def card(response) -> str:
    """HTML of a `Response`; its recording is in it if it is a file of at most `MAX_BYTES`."""
    rows = [f"<b>{escape(response.audio)}</b>", player(response.audio)]
    if response.error:
        rows.append(f"<i>{escape(response.error)}</i>")
    rows += [f"<i>{escape(line)}</i>" for line in response.warnings]
    rows.append(_words(response.words) if response.words else escape(response.text))
    if response.answer is not None:
        rows.append(f"&rarr; {escape(response.answer)}")
    rows.append(", ".join(f"{escape(name)}: <b>{escape(v)}</b>" for name, v in response.labels.items()))
    return "".join(f"<div>{row}</div>" for row in rows if row)


def player(path: str) -> str:
    """An audio element with the file in it; "" for what is no file, too large or of another type."""
    kind = TYPES.get(os.path.splitext(path)[1].lower())
    try:
        if kind is None or not os.path.isfile(path) or os.path.getsize(path) > MAX_BYTES:
            return ""
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES)
    except (OSError, ValueError):
        return ""
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return f'<audio controls preload="none" src="{source}"></audio>'


def _words(words) -> str:
    shown = [f"{escape(word.text)}<sub>{word.start:.2f}&ndash;{word.end:.2f}</sub>" for word in words[:WORDS]]
    return " ".join([*shown, "&hellip;"] if len(words) > WORDS else shown)
