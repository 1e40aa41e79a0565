"""Commands and snippets as a document shows them."""

import re
import shlex
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^\n((?:^ {4}\S.*\n)(?:^ {4}.*\n)*)", re.MULTILINE)
BRACES = re.compile(r"^(.*)\{([^{}]+,[^{}]+)\}(.*)$")
PUNCTUATION = set("();<>|&")


class Block(NamedTuple):
    """A piece of code in a document."""

    path: Path
    line: int
    language: str
    text: str

    @property
    def id(self) -> str:
        """Where it stands."""
        return f"{self.path.name}:{self.line}"


def documents() -> list[Path]:
    """Every page for users."""
    patterns = ("README.md", "README.zh-CN.md", "docs/*.md", "examples/*/README.md")
    return [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def blocks(path: Path, *languages: str) -> list[Block]:
    """Fenced code of these languages; "" stands for text that is indented by four places."""
    text = path.read_text(encoding="utf-8")
    found = [(m.start(), m[1] or "text", m[2]) for m in FENCE.finditer(text)]
    outside = FENCE.sub(lambda m: re.sub(r"[^\n]", "x", m[0]), text)
    found += [(m.start(1), "", textwrap.dedent(m[1])) for m in INDENTED.finditer(outside)]
    return [
        Block(path, text.count("\n", 0, place) + 1, language, code)
        for place, language, code in sorted(found)
        if language in languages
    ]


def commands(text: str) -> list[list[str]]:
    """The simple commands of shell text, in order: pipes taken apart, braces expanded, no comments."""
    found = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split, lexer.commenters = True, "#"
        command: list[str] = []
        into_file = False
        for token in [*lexer, "&"]:
            if set(token) <= PUNCTUATION:
                into_file = set(token) == {">"}
                if command and not into_file:
                    found.append(command)
                    command = []
            elif not into_file:
                command += expanded(token)
            else:
                into_file = False
    return [without_settings(command) for command in found]


def expanded(word: str) -> list[str]:
    """A word with braces as the words a shell makes of it."""
    match = BRACES.match(word)
    if not match or "=" in match[1] or ":" in match[2]:  # a value in YAML's flow form
        return [word]
    return [out for part in match[2].split(",") for out in expanded(match[1] + part + match[3])]


def without_settings(command: list[str]) -> list[str]:
    """Without the assignments to the environment in front."""
    first = next((n for n, word in enumerate(command) if not re.match(r"\w+=", word)), len(command))
    return command[first:]
