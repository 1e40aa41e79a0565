"""Many utterances in little memory.

Notable choices
- An utterance is a line of JSON in a growing buffer, about a quarter of what Python objects take, and is made
  when asked for: a corpus of ten million fits beside the model.
- What repeats is in a table: folders and tars of recordings, manifests, tasks.
- A digest grows with them, of what they say and not of where they lie: a corpus may move.
"""

import hashlib
import json
from array import array
from collections.abc import Sequence

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.speech.audio import FilePart

_line = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # json.dumps would make one a line


class Utterances(Sequence):
    """A list of utterances that can grow; what it gives equals what was appended."""

    def __init__(self):
        self._data, self._ends = bytearray(), array("Q")
        self._texts: list[str] = []  # what repeats
        self._numbers: dict[str, int] = {}  # their indices
        self._said = hashlib.sha256()

    def append(self, utt: Utterance) -> None:
        """Add one at the end."""
        where, wav = self._pack_where(utt.where), self._pack_wav(utt.wav)
        record = [utt.key, utt.txt, self._number(utt.task), where, wav]
        if utt.extra or utt.start is not None or utt.end is not None:
            record += [utt.extra, utt.start, utt.end]
        self._data += _line(record).encode("utf-8", "surrogatepass")
        self._ends.append(len(self._data))
        said = _line([utt.key, utt.txt, utt.task, utt.extra, utt.start, utt.end])
        self._said.update(said.encode("utf-8", "surrogatepass"))

    @property
    def digest(self) -> str:
        """A text that is another one for other utterances, or another order of them."""
        return self._said.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index) -> Utterance:
        index = range(len(self))[index]
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
