"""Times of words from the files of aligners: NIST's CTM, and TextGrid as of the Montreal Forced Aligner.

Notable choices
- A CTM is indexed once and read where it is asked for: a corpus of ten million utterances has a hundred
  million lines. So the lines of a recording must stand together, as programs write them.
- Silence is no word: empty intervals, and those of the usual marks.

CTM: `recording channel start duration word [confidence]` a line, `;;` before comments (NIST RT-09).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mindspore_osum.data.formats.textgrid import read_tiers
from mindspore_osum.errors import UserError, one_line
from mindspore_osum.files import as_text

Timed = tuple[str, float, float]  # word, start and end in seconds

SILENCE = {"", "<eps>", "<sil>", "<silence>", "sil", "sp", "[silence]"}
WORDS = "words"  # the tier of words, as aligners name it
_MAX_LINE = 1 << 12  # bytes
_MAX_SECONDS = 1e6


class _Block(NamedTuple):
    """The lines of a recording in a CTM."""

    path: Path
    offset: int  # bytes
    size: int
    line: int  # number of the first


class WordTimes:
    """The times of words in files of aligners, by the name of the recording or utterance.

    Parameters
    ----------
    paths : files .ctm and .TextGrid, or folders in and below which these are.
    tier : of TextGrids.

    Raises
    ------
    UserError : no such file, nothing in it, a wrong line, or two entries of one name.
    """

    def __init__(self, paths: Sequence[Path], tier: str = WORDS):
        self.tier = tier
        self._found: dict[str, _Block | Path] = {}
        for path in (file for given in paths for file in _files(given)):
            if path.suffix.lower() == ".textgrid":
                self._add(path.stem, path, str(path))
            else:
                for name, block in _blocks(path):
                    self._add(name, block, f"{path}:{block.line}")
        if not self._found:
            raise UserError(f"{', '.join(map(str, paths))}: no word in it")

    def _add(self, name: str, found: _Block | Path, where: str) -> None:
        if name in self._found:
            raise UserError(
                f"{where}: {name!r} is there a second time; the lines of a recording must stand together in "
                "one file (sort -s -k1,1)"
            )
        self._found[name] = found

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def __getitem__(self, name: str) -> list[Timed]:
        """The words of a recording in order of their start, without silence; UserError for wrong times."""
        found = self._found[name]
        words = self._of_tier(found) if isinstance(found, Path) else _of_block(found)
        words = [word for word in words if word[0].strip().casefold() not in SILENCE]
        return sorted(words, key=lambda word: word[1:])

    def _of_tier(self, path: Path) -> list[Timed]:
        tiers = read_tiers(path)
        chosen = [name for name in tiers if name.casefold() == self.tier.casefold()]
        chosen = chosen or [*tiers] if len(tiers) == 1 and self.tier == WORDS else chosen
        if len(chosen) != 1:
            known = ", ".join(map(repr, tiers)) or "no interval tier"
            raise UserError(f"{path}: no tier {self.tier!r}; it has {known}; choose one with --tier")
        return tiers[chosen[0]]


def _files(path: Path) -> list[Path]:
    """The files of a path, in a fixed order."""
    suffixes = (".ctm", ".textgrid")
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
        if not found:
            raise UserError(f"{path}: no .ctm or .TextGrid in this folder")
        return found
    if path.suffix.lower() not in suffixes:
        raise UserError(f"{path}: expected a .ctm, a .TextGrid or a folder of these")
    return [path]


def _blocks(path: Path) -> Iterator[tuple[str, _Block]]:
    """The recordings of a CTM; their lines are checked when they are asked for."""
    name, first, offset, at = None, 0, 0, 0
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(_MAX_LINE + 1), b""), 1):
                if len(raw) > _MAX_LINE:
                    raise UserError(f"{path}:{number}: a line of more than {_MAX_LINE} bytes, no CTM")
                if raw.strip() and not raw.startswith(b";;"):
                    own = as_text(raw, f"{path}:{number}").split(maxsplit=1)[0]
                    if own != name:
                        if name is not None:
                            yield name, _Block(path, offset, at - offset, first)
                        name, first, offset = own, number, at
                at += len(raw)
    except OSError as error:
        raise UserError(f"{path}: cannot read it ({error.strerror})") from None
    if name is not None:
        yield name, _Block(path, offset, at - offset, first)


def _of_block(block: _Block) -> list[Timed]:
    with open(block.path, "rb") as file:
        file.seek(block.offset)
        lines = file.read(block.size).splitlines()
    channels, words = set(), []
    for number, raw in enumerate(lines, block.line):
        where = f"{block.path}:{number}"
        line = as_text(raw, where)
        if not line.strip() or line.startswith(";;"):
            continue
        try:
            _, channel, start, duration, word, *_ = line.split()
            start, duration = float(start), float(duration)
            if not (0 <= start < _MAX_SECONDS and 0 <= duration < _MAX_SECONDS):
                raise ValueError
        except ValueError:
            raise UserError(
                f"{where}: {one_line(line, 60)}: expected `recording channel start duration word`, in seconds"
            ) from None
        channels.add(channel)
        words.append((word, start, start + duration))
    if len(channels) > 1:
        raise UserError(f"{block.path}:{block.line}: two channels of one recording; keep one")
    return words
