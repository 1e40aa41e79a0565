"""Writes a manifest and its recordings as published shards.

Notable choices
- OUT gets `shard_00000.tar`, ... and `shards.list`; the folder appears only when all files are complete.
- The same manifest gives the same bytes: members have fixed times and owners.
- Recordings are stored unchanged. Only parts of recordings (`start`, `end`), which shards do not support, and
  formats without a published suffix are converted to wav files of 16 kHz and 16 bit.
- Other keys of a line (lang, speaker, ...) become separate members, key.lang and so on, as published.
"""

import io
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mindspore_osum.data.batches.batching import samples, seconds_of
from mindspore_osum.data.checks import UNUSABLE, Errors, flaws
from mindspore_osum.data.formats.conversations import KEYS as CONVERSATION
from mindspore_osum.data.formats.line_formats import PAIR, PUBLISHED, format_of
from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.shards import FIELDS
from mindspore_osum.data.formats.sources import check_kind, line_items, once
from mindspore_osum.data.formats.text_files import json_objects
from mindspore_osum.errors import UserError, one_line
from mindspore_osum.files import write_text
from mindspore_osum.interrupts import steady
from mindspore_osum.speech.audio import SAMPLE_RATE
from mindspore_osum.stores import place

LIST = "shards.list"
_AUDIO = ("wav", "flac", "mp3", "ogg", "opus")  # stored unchanged
_OWN = {"key", "wav", "start", "end", *FIELDS, *CONVERSATION}
_PART = re.compile(r"(?!\.)[^/\\\x00-\x1f\x7f]+")  # a part of a key: any tool may unpack the tar
_FIELD = re.compile(r"[A-Za-z_]\w{0,31}")


class Sample(NamedTuple):
    """The content of a shard for one utterance."""

    utt: Utterance
    others: dict  # the other keys of its line
    wav: io.BytesIO | None  # converted recording; None if it is stored unchanged or absent


def pack(manifest: Path, out: Path, per_shard: int, errors: Errors) -> tuple[int, int]:
    """Write the shards of a manifest.

    Returns
    -------
    Numbers of utterances and of shards.

    Raises
    ------
    UserError : more errors in the data than `errors` accepts, nothing to pack, or OUT exists already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is there already and not an empty folder; remove it or give another one")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".pack-") as temporary:
            folder = Path(temporary) / "shards"
            folder.mkdir()
            counts = _write(_packable(manifest, errors), folder, per_shard)
            if not counts:
                problem = errors.first or "it is empty"
                raise UserError(f"{manifest}: no usable line; the first problem: {problem}")
            names = [f"{_name(i)}\n" for i in range(len(counts))]
            write_text(folder / LIST, "".join(names))
            os.replace(folder, out)
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}") from None
    return sum(counts), len(counts)


def _name(index: int) -> str:
    return f"shard_{index:05d}.tar"


def _write(packable: Iterator[Sample], folder: Path, per_shard: int) -> list[int]:
    """Write the shards; returns the number of utterances of each."""
    counts, tar = [], None
    try:
        for sample in packable:
            if not counts or counts[-1] == per_shard:
                if tar:
                    tar.close()
                tar = tarfile.open(folder / _name(len(counts)), "w", format=tarfile.GNU_FORMAT)
                counts.append(0)
            _add(tar, sample)
            counts[-1] += 1
    finally:
        if tar:
            tar.close()
    return counts


def _packable(manifest: Path, errors: Errors) -> Iterator[Sample]:
    """The usable lines."""
    seen: set[bytes] = set()
    check_kind(manifest)
    for where, values in json_objects(manifest):
        for item in line_items(values, manifest.parent, where):
            item = once(item, seen) if isinstance(item, Utterance) else item
            item = _sample(item, _others(values)) if isinstance(item, Utterance) else item
            if isinstance(item, Sample):
                yield item
                continue
            errors.take(item)
            print(f"left out: {one_line(item.text)}")


def _others(values: dict) -> dict:
    """The keys of a line that become members of their own."""
    form = format_of(values).name
    known = form in (PUBLISHED, PAIR) or "messages" in values
    return {name: value for name, value in values.items() if known and name not in _OWN}


def _sample(utt: Utterance, others: dict) -> Sample | Skipped:
    """The content for a line, or why it cannot be packed."""
    try:
        flaw = _flaw(utt, others)
        wav = None if flaw or not utt.wav or _is_kept(utt) else _wav(utt)
    except UserError as error:
        flaw = str(error)
    if flaw:
        return Skipped(UNUSABLE, flaw)
    return Sample(utt, others, wav)


def _is_kept(utt: Utterance) -> bool:
    """Whether the utterance's recording is stored unchanged."""
    return _suffix(utt) in _AUDIO and utt.start is None and utt.end is None


def _suffix(utt: Utterance) -> str:
    return Path(utt.wav).suffix[1:].lower()


def _flaw(utt: Utterance, others: dict) -> str | None:
    """An error in an utterance or in the other keys of its line; None if there is none."""
    seconds = seconds_of(utt)
    flaw = next(flaws(utt, seconds if utt.wav else None), None)
    if not flaw and not all(_PART.fullmatch(part) for part in utt.key.split("/")):
        flaw = f"{utt.where}: key {utt.key!r} cannot name files in a tar; begin none with a dot"
    bad = [name for name in others if not _FIELD.fullmatch(name) or name in _AUDIO]
    if not flaw and bad:
        flaw = f"{utt.where}: {bad[0]!r} cannot be the name of a member, key.name; rename it"
    return flaw


def _add(tar: tarfile.TarFile, sample: Sample) -> None:
    utt, others, wav = sample
    if wav:
        _member(tar, f"{utt.key}.wav", wav, wav.getbuffer().nbytes)
    elif utt.wav:
        with place(utt.wav).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            _member(tar, f"{utt.key}.{_suffix(utt)}", file, size)
    texts = {"txt": utt.txt, "task": utt.task, "extra": _json(utt.extra)}
    texts |= {name: value if isinstance(value, str) else _json(value) for name, value in others.items()}
    for name, text in texts.items():
        data = text.encode("utf-8")
        _member(tar, f"{utt.key}.{name}", io.BytesIO(data), len(data))


def _json(value) -> str:
    return json.dumps(value, ensure_ascii=False)


def _member(tar: tarfile.TarFile, name: str, file, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    tar.addfile(info, file)


def _wav(utt: Utterance) -> io.BytesIO:
    """The utterance's part of a recording as a wav file."""
    import soundfile

    stream = io.BytesIO()
    wave_N = samples(utt)
    with steady():  # it writes through callbacks, in which the exception of a signal would be lost
        soundfile.write(stream, wave_N, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    stream.seek(0)
    return stream
