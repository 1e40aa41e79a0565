"""Many utterances in little memory.

Notable choices
- Utterances are stored as lines of JSON in one buffer and decoded on access. This takes about a quarter of
  the memory of Python objects: a corpus of ten million fits beside the model.
- Repeated strings are stored once: folders and tars of recordings, manifests, tasks.
- A digest of the contents is kept up to date. It excludes paths, so that a corpus may be moved.
"""

import hashlib
import json
from array import array
from bisect import bisect_right
from collections.abc import Sequence

import xxhash

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.speech.opening import FilePart

_line = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # json.dumps makes one per line


def line_digest(utt: Utterance) -> bytes:
    """A digest of 8 bytes of what is learned from an utterance: all but its paths."""
    return _digest_of(_said(utt))


def _said(utt: Utterance) -> bytes:
    said = _line([utt.key, utt.txt, utt.task, utt.extra, utt.start, utt.end])
    return said.encode("utf-8", "surrogatepass")


def _digest_of(said: bytes) -> bytes:
    return xxhash.xxh3_64(said).digest()[::-1]  # as a little-endian number


class Utterances(Sequence):
    """A growing list of utterances; items equal the utterances that were added.

    Attributes
    ----------
    lines : a hash of the `line_digest`s of the utterances in their order.
    """

    def __init__(self):
        self._data, self._ends = bytearray(), array("Q")
        self._texts: list[str] = []  # repeated strings
        self._numbers: dict[str, int] = {}  # their indices
        self._said, self.lines = hashlib.sha256(), hashlib.sha256()
        # from the number in `_firsts` on: the utterances of an index, or records from this one on
        self._firsts, self._parts = [0], [0]
        self._length = 0

    def append(self, utt: Utterance) -> None:
        """Add one at the end."""
        where, wav = self._pack_where(utt.where), self._pack_wav(utt.wav)
        record = [utt.key, utt.txt, self._number(utt.task), where, wav]
        if utt.extra or utt.start is not None or utt.end is not None:
            record += [utt.extra, utt.start, utt.end]
        self._data += _line(record).encode("utf-8", "surrogatepass")
        self._ends.append(len(self._data))
        self._length += 1
        said = _said(utt)
        self._said.update(said)
        self.lines.update(_digest_of(said))

    def extend_by(self, utterances: Sequence[Utterance], digests: bytes) -> None:
        """Add utterances that stay where they are, in an index.

        Parameters
        ----------
        digests : their `line_digest`s, one after the other.
        """
        self._firsts += [self._length, self._length + len(utterances)]
        self._parts += [utterances, len(self._ends)]
        self._length += len(utterances)
        self.lines.update(digests)

    @property
    def digest(self) -> str | None:
        """A hash of the utterances and their order; None if some are in an index."""
        return self._said.hexdigest()[:16] if len(self._ends) == self._length else None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index) -> Utterance:
        index = range(len(self))[index]
        part = bisect_right(self._firsts, index) - 1
        index -= self._firsts[part]
        if not isinstance(self._parts[part], int):
            return self._parts[part][index]
        index += self._parts[part]
        text = self._data[self._ends[index - 1] if index else 0 : self._ends[index]]
        key, txt, task, where, wav, *rest = json.loads(text.decode("utf-8", "surrogatepass"))
        extra, start, end = rest or ({}, None, None)
        place = self._unpack_wav(wav), txt, self._texts[task], extra, start, end
        return Utterance(key, *place, ":".join([self._texts[where[0]], *map(str, where[1:])]))

    def _number(self, text: str) -> int:
        if text not in self._numbers:
            self._numbers[text] = len(self._texts)
            self._texts.append(text)
        return self._numbers[text]

    def _pack_where(self, where: str) -> list:
        file, colon, line = where.rpartition(":")
        return [self._number(file), line] if colon else [self._number(where)]

    def _pack_wav(self, wav: str | FilePart | None) -> list | None:
        if isinstance(wav, FilePart):
            return [self._number(wav.path), wav.offset, wav.size, wav.name]
        if wav is None:
            return None
        folder, slash, name = wav.rpartition("/")
        return [self._number(folder), name] if slash else [wav]

    def _unpack_wav(self, wav: list | None) -> str | FilePart | None:
        if wav is None:
            return None
        if len(wav) == 4:
            return FilePart(self._texts[wav[0]], *wav[1:])
        return wav[0] if len(wav) == 1 else f"{self._texts[wav[0]]}/{wav[1]}"
