"""Data folders of Kaldi and WeNet: `wav.scp`, `text`, and `segments`, `utt2spk`, `spk2gender` if present."""

from collections.abc import Iterator
from pathlib import Path

from mindspore_osum.data.formats.importers.corpus import MALFORMED, Corpus, Place, Problem, Record, text_lines


class KaldiFolders(Corpus):
    """Paths in `wav.scp` may be relative to the folder, to ROOT or to the folder around it."""

    def read(self, place: Place) -> Iterator[Record | Problem]:
        """See `Corpus.read`."""
        folder = place.path.parent
        around = (folder, place.root, place.root.parent)
        wavs = yield from _table(folder / "wav.scp")
        commands = {key for key, path in wavs.items() if path.endswith("|")}
        segments = (yield from _table(folder / "segments")) if (folder / "segments").exists() else None
        speakers = (yield from _table(folder / "utt2spk")) if (folder / "utt2spk").exists() else {}
        genders = (yield from _table(folder / "spk2gender")) if "gender" in place.wanted else {}
        for where, line in text_lines(folder / "text"):
            key, *words = line.split(maxsplit=1)
            part = _part(key, segments)
            if part is None or part[0] not in wavs:
                yield Problem(MALFORMED, f"{where}: {key[:80]!r} has no recording or no segment")
                continue
            recording, start, end = part
            if recording in commands:
                yield Problem("command instead of a file", f"{folder / 'wav.scp'}: {recording[:80]!r}")
                continue
            speaker = speakers.get(key, "")
            paths = tuple(base / wavs[recording] for base in around)
            labels = {"gender": genders.get(speaker, "")} if "gender" in place.wanted else {}
            yield Record(key, paths, where, "".join(words), labels, speaker=speaker, start=start, end=end)


def _part(key: str, segments: dict[str, str] | None) -> tuple[str, float | None, float | None] | None:
    """Recording, start and end of an utterance; None if its segment is missing or wrong."""
    if segments is None:
        return key, None, None
    try:
        recording, start, end = segments[key].split()
        start, end = float(start), float(end)
    except (KeyError, ValueError):
        return None
    return (recording, start, end) if 0 <= start < end < 1e9 else None


def _table(path: Path):
    """Generator of problems; its value is the rest of each line by its first word."""
    table = {}
    for where, line in text_lines(path):
        key, *rest = line.split(maxsplit=1)
        if rest:
            table[key] = rest[0].strip()
        else:
            yield Problem(MALFORMED, f"{where}: {line[:80]!r} has one column, expected two")
    return table


KALDI = (
    KaldiFolders(
        name="kaldi",
        tasks=("asr",),
        offers=("text", "gender"),
        needs="wav.scp and text, segments for parts, utt2spk and spk2gender for gender; or folders train, "
        "dev, valid and test with these",
        source="kaldi-asr.org/doc/data_prep.html; wenet tools/make_raw_list.py",
        segments=True,
        splits={
            "all": ("wav.scp",),
            **{split: (f"{split}/wav.scp",) for split in ("train", "dev", "valid", "test")},
        },
    ),
)
