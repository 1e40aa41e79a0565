"""The readers of files and bodies from strangers: what each is fed, and what it does with it.

Every reader is called as the verbs call it, up to where a model would be needed.
"""

import asyncio
import copy
import gzip
import io
import json
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from mindspore_osum.errors import UserError, is_plain
from mindspore_osum.folder import BUNDLED
from tests.fuzz import seeds
from tests.fuzz.mutate import LENGTHS, changed, changed_json

SHOWN_TENSORS = 8  # whose bytes are read
MAX_SECONDS = 60.0  # of a recording


class Broken(Exception):
    """What a reader returned breaks a promise: it would end in a file, a table or a terminal."""


class Reader(NamedTuple):
    """A reader.

    Attributes
    ----------
    name, what : for the table.
    target : inputs of a long run.
    write : (folder, rng, n) writes one input into a folder of its own; n counts them.
    read : (folder) reads it; UserError if it is refused.
    """

    name: str
    what: str
    target: int
    write: Callable[[Path, random.Random, int], None]
    read: Callable[[Path], object]


def _torch_write(folder: Path, rng: random.Random, n: int) -> None:
    good, evil = _once(seeds.torch_file), _once(seeds.payloads)
    if n % 3 == 0:
        data = changed(good, rng)
    else:
        entries = dict(_entries(good))
        pickle = entries["archive/data.pkl"]
        kind = rng.randrange(4)
        if kind == 0:
            pickle = changed(pickle, rng, evil)
        elif kind == 1:
            pickle = _renamed(pickle, rng)
        elif kind == 2:
            pickle = rng.choice(evil) if rng.random() < 0.3 else _repeated(pickle, rng)
        else:
            pickle = changed(rng.choice(evil), rng, [pickle])
        entries["archive/data.pkl"] = pickle
        if rng.random() < 0.2:
            name = rng.choice(list(entries))
            entries[rng.choice((name, "archive/x\n\x1b[2J", "../../x", "a\0b", "data.pkl"))] = changed(
                entries[name], rng
            )
        data = _zip(entries)
        data = changed(data, rng) if rng.random() < 0.1 else data
    (folder / "x.pt").write_bytes(data)


def _torch_read(folder: Path) -> None:
    from ckpt_convert.torch_reader import open_torch

    with open_torch(folder / "x.pt") as weights:
        for name in list(weights.infos)[:SHOWN_TENSORS]:
            weights.read(name)


def _entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            yield name, archive.read(name)


def _zip(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return stream.getvalue()


def _renamed(pickle: bytes, rng: random.Random) -> bytes:
    """A name that the pickle asks for becomes another one, which would do harm where it is called."""
    harm = (
        b"posix\nsystem",
        b"builtins\neval",
        b"builtins\ngetattr",
        b"os\nsystem",
        b"torch\nSize",
        b"torch\nload",
    )
    for name in (b"torch._utils\n_rebuild_tensor_v2", b"collections\nOrderedDict", b"torch\nFloatStorage"):
        if name in pickle and rng.random() < 0.7:
            return pickle.replace(name, rng.choice(harm), rng.choice((1, -1)))
    return changed(pickle, rng)


def _repeated(pickle: bytes, rng: random.Random) -> bytes:
    """Opcodes in many copies: marks, memo, tuples, calls."""
    ops = (
        b"}",
        b"]",
        b"(",
        b")",
        b"N",
        b"0",
        b"1",
        b"2",
        b"q\x00h\x00\x86",
        b"\x85",
        b"h\x01",
        b"\x94",
        b"R",
        b"tR",
        b"t",
    )
    piece = b"".join(rng.choices(ops, k=rng.choice((1, 2, 4)))) * rng.choice((3, 300, 100_000))
    at = rng.randrange(2, len(pickle))
    return (pickle[:at] + piece + pickle[at:])[: 9 << 20]


def _tensors_write(folder: Path, rng: random.Random, n: int) -> None:
    good = _once(seeds.safetensors_file)
    if n % 2:
        data = changed(good, rng)
    else:
        length = struct.unpack_from("<Q", good)[0]
        header = changed_json(json.loads(good[8 : 8 + length]), rng).encode("utf-8", "surrogatepass")
        stated = rng.choice(LENGTHS) if rng.random() < 0.05 else len(header)
        data = struct.pack("<Q", stated) + header + good[8 + length :]
    (folder / "model.safetensors").write_bytes(data)


def _tensors_read(folder: Path) -> None:
    from mindspore_osum.weights_io import open_weights

    with open_weights(folder) as weights:
        for name in list(weights.infos)[:SHOWN_TENSORS]:
            weights.read(name)
        _check_lines(weights.infos)


def _index_write(folder: Path, rng: random.Random, n: int) -> None:
    name = "model-00001-of-00001.safetensors"
    (folder / name).write_bytes(_once(seeds.safetensors_file))
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(seeds.TENSORS, name)}
    text = changed_json(index, rng).encode("utf-8", "surrogatepass")
    (folder / "model.safetensors.index.json").write_bytes(changed(text, rng) if n % 3 == 0 else text)


def _config_write(folder: Path, rng: random.Random, n: int) -> None:
    kinds = [(name, values) for name, all_values in _once(seeds.configs).items() for values in all_values]
    name, values = kinds[n % len(kinds)]
    text = changed_json(values, rng).encode("utf-8", "surrogatepass")
    (folder / name).write_bytes(changed(text, rng) if rng.random() < 0.2 else text)
    if name == "config.json" and "encoder" in values:
        (folder / "model.safetensors").symlink_to(BUNDLED / "model.safetensors")
    else:
        weights = "adapter_model.safetensors" if name.startswith("adapter") else "model.safetensors"
        (folder / weights).write_bytes(_once(seeds.safetensors_file))


def _config_read(folder: Path) -> None:
    from ckpt_convert.plan import make_plan
    from ckpt_convert.report import Report
    from ckpt_convert.settle import Settings
    from ckpt_convert.sources import open_sources

    part = "adapters" if (folder / "adapter_config.json").exists() else "model"
    system, parts = open_sources({part: folder})
    try:
        make_plan(system, parts, Settings(), Report(str(folder), ""))
    finally:
        for opened in parts.values():
            opened.close()


def _yaml_write(folder: Path, rng: random.Random, n: int) -> None:
    jobs = _once(_jobs)
    text = rng.choice(jobs)
    if n % 2:
        import yaml

        text = changed_json(yaml.safe_load(text), rng)  # JSON is YAML, too
    data = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        width = rng.choice((2, 10, 100))
        lines = [
            f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * width)}]"
            for i in range(rng.randrange(12))
        ]
        data = "\n".join(lines).encode() + b"\n" + data
    (folder / "job.yaml").write_bytes(
        changed(data, rng, [job.encode() for job in jobs]) if n % 2 == 0 else data
    )


def _jobs() -> list[str]:
    from mindspore_osum.training.config import read_job

    paths = sorted((seeds.ROOT / "configs").rglob("*.yaml"))
    for path in paths:  # the class of each system's jobs is made once, which executes text
        read_job(str(path))
    return [path.read_text("utf-8") for path in paths]


def _yaml_read(folder: Path) -> None:
    from mindspore_osum.training.config import read_job

    read_job(str(folder / "job.yaml"))


def _manifest_write(folder: Path, rng: random.Random, n: int) -> None:
    lines = _once(seeds.lines)
    (folder / "a.wav").symlink_to(_once(_wave_file))
    text = changed_json(lines[n % len(lines)], rng).encode("utf-8", "surrogatepass") + b"\n"
    if rng.random() < 0.3:
        text = changed(text, rng, [json.dumps(line).encode() for line in lines])
    name = rng.choice(("m.jsonl", "m.jsonl", "m.json", "m.list"))
    if name == "m.json":
        text = b"[" + text + rng.choice((b"]", b",]", b""))
    if rng.random() < 0.1:
        name, text = (
            name + ".gz",
            changed(gzip.compress(text), rng) if rng.random() < 0.7 else gzip.compress(text),
        )
    (folder / name).write_bytes(text)


def _source_read(folder: Path) -> None:
    """As `osum data validate` and `osum data stats`."""
    from mindspore_osum.data.checks import LeftOut
    from mindspore_osum.data.formats.manifest import Skipped
    from mindspore_osum.data.formats.sources import open_source
    from mindspore_osum.data.stats import Stats, describe
    from mindspore_osum.data.validate import validate_source

    (path,) = (path for path in folder.iterdir() if path.suffix != ".wav")
    report = validate_source(str(path), decode=True, say=lambda line: None)
    _check_lines(report.problems)
    stats, left = Stats(), LeftOut()
    for item in open_source(path):
        if isinstance(item, Skipped):
            left.add(item)
        else:
            stats.add(item)
    _check_lines(describe(stats))
    _check_lines(left.lines())
    if report.problems and not report.utterances:
        raise UserError(report.problems[0])


def _gzip_write(folder: Path, rng: random.Random, n: int) -> None:
    """Manifests and lists in gzip: damaged, several members, and what becomes long."""
    lines = [json.dumps(line).encode() + b"\n" for line in _once(seeds.lines)]
    (folder / "a.wav").symlink_to(_once(_wave_file))
    name = rng.choice(("m.jsonl.gz", "m.jsonl.gz", "m.json.gz", "m.list.gz"))
    piece = rng.choice(
        (rng.choice(lines), b"\n", b" ", b"{}\n", b"[", b"[],", b"a.tar\n", b"\0", rng.randbytes(9))
    )
    before = b"[" if name == "m.json.gz" and n % 2 else b""
    text = (
        before + rng.choice(lines) + piece * rng.choice((1, 1, 30, 1000, 300_000 if len(piece) < 4 else 1000))
    )
    data = gzip.compress(text, 1)
    data = data * rng.choice((1, 1, 1, 2)) if len(data) < 1 << 16 else data
    (folder / name).write_bytes(changed(data, rng, lines) if rng.random() < 0.5 else data)


def _tar_write(folder: Path, rng: random.Random, n: int) -> None:
    all_tars = _once(seeds.tars)
    data = bytearray(all_tars[n % len(all_tars)])
    if rng.random() < 0.7:  # fields of headers, with the checksum that belongs to them
        heads = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
        for at in rng.sample(heads, rng.choice((1, 1, 3))):
            start, size = rng.choice(((0, 100), (124, 12), (124, 12), (156, 1), (257, 8), (345, 155)))
            values = (
                b"\0" * size,
                b"7" * size,
                b"\x80" + rng.randbytes(size),
                b"\xff" * size,
                b"a\n\x1b[2J.wav\0",
                rng.randbytes(size),
            )
            data[at + start : at + start + size] = rng.choice(values)[:size].ljust(size, b"\0")
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    if rng.random() < 0.5:
        data = changed(bytes(data), rng, all_tars)
    (folder / "x.tar").write_bytes(data)


def _tokenizer_write(folder: Path, rng: random.Random, n: int) -> None:
    from tests.attacks.attacks import charsmap, message

    good = (BUNDLED / "tokenizer.model").read_bytes()
    texts = (b"", b"a", b"\xff", b"<s>", b"[unused10]", b"x\n\x1b[2J", b"\xe2\x96\x81" * 99, rng.randbytes(9))
    kind = rng.randrange(4)
    if kind == 0:
        data = changed(good, rng)
    elif kind == 1:  # its last bytes say how texts are normalised and what the special pieces are
        data = good[:-200] + changed(good[-200:], rng)
    elif kind == 2:
        data = good + message(b"\x1a", changed(charsmap(rng.choice(texts)), rng))
    else:
        score = rng.choice((0.0, float("nan"), float("-inf"), 3e38))
        pieces = [
            message(b"\x0a", rng.choice(texts) + b"%d" % i) + struct.pack("<Bf", 0x15, score)
            for i in range(9)
        ]
        kinds = [piece + bytes((0x18, rng.randrange(8))) for piece in pieces]
        data = good + b"".join(message(b"\x0a", piece) for piece in kinds)
        data = changed(data, rng) if rng.random() < 0.5 else data
    (folder / "x.model").write_bytes(data)


def _tokenizer_read(folder: Path) -> None:
    from mindspore_osum.text.tokenizer import open_tokenizer

    tokenizer = open_tokenizer(folder / "x.model")
    ids = tokenizer.encode("Well, a [unused10] banana <s> 20\u4e2d\U0001f600", bos=True, plain=[range(0, 20)])
    tokenizer.decode(
        [*ids, *range(min(300, tokenizer.vocab_size)), tokenizer.vocab_size - 1, tokenizer.pad_id]
    )


def _audio_write(folder: Path, rng: random.Random, n: int) -> None:
    sounds = _once(seeds.recordings)
    (folder / "x.wav").write_bytes(changed(sounds[n % len(sounds)], rng, sounds))


def _audio_read(folder: Path) -> None:
    from mindspore_osum.speech.audio import audio_blocks, duration_seconds, load_audio

    path = str(folder / "x.wav")
    errors = []
    readers = (lambda: duration_seconds(path), lambda: load_audio(path, max_seconds=MAX_SECONDS))
    for read in (*readers, lambda: [len(block) for block, _ in zip(audio_blocks(path), range(200))]):
        try:
            read()
        except UserError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _http_write(folder: Path, rng: random.Random, n: int) -> None:
    kind = "multipart/form-data; boundary=x"
    if n % 2:
        fields = {"model": "tiny", "response_format": "verbose_json", "temperature": "0.5", "language": "en"}
        fields |= {"timestamp_granularities[]": "word", "prompt": "names", "stream": "false"}
        name = rng.choice(list(fields))
        fields[name] = rng.choice(("", "nan", "1e999", "x" * 70_000, "a\nb", "9" * 5000, "true", "\x1b[2J"))
        body = changed(seeds.form(fields, _once(seeds.recordings)[0]), rng)
        kind = changed(kind.encode(), rng).decode("latin-1") if rng.random() < 0.2 else kind
    else:
        body = changed_json(_once(seeds.chat), rng).encode("utf-8", "surrogatepass")
        body, kind = (changed(body, rng) if rng.random() < 0.3 else body), "application/json"
    (folder / "kind").write_text(kind, "latin-1", newline="")
    (folder / "body").write_bytes(body)


def _http_read(folder: Path) -> None:
    """As the server's routes, up to the job for its model."""
    from starlette.requests import Request

    from mindspore_osum.serving.bodies import ApiError, Limits, read_upload
    from mindspore_osum.serving.chats import ChatRequest
    from mindspore_osum.serving.fields import read_json, read_model
    from mindspore_osum.serving.transcriptions import read_form
    from tests.serving.common import engine

    body, kind = (folder / "body").read_bytes(), (folder / "kind").read_bytes()
    parts = [body[at : at + 5000] for at in range(0, len(body), 5000)] or [b""]

    async def receive():
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    try:
        if b"json" in kind:
            read_model(ChatRequest, read_json(body)).job(100)
        else:
            scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", kind)]}
            fields, audio = asyncio.run(read_upload(Request(scope, receive), Limits()))
            read_form(fields).job(audio, 100, engine("tiny"))
    except ApiError as error:
        error.response()  # its message can be sent
        raise UserError(error) from None


def _check_lines(lines) -> None:
    """Broken if a line is none: it would be printed as several, or steer a terminal."""
    for line in lines:
        if not is_plain(line):
            raise Broken(f"not one line: {line[:200]!r}")


_made: dict[Callable, object] = {}


def _once(make: Callable):
    """What `make` returns, made once."""
    if make not in _made:
        _made[make] = make()
    return copy.copy(_made[make])


def _wave_file() -> Path:
    path = Path("seed.wav").resolve()  # the child's own folder
    path.write_bytes(seeds.recordings()[0])
    return path


READERS = {
    reader.name: reader
    for reader in (
        Reader("pt", "`.pt` checkpoints", 20_000, _torch_write, _torch_read),
        Reader("safetensors", "safetensors headers", 5_000, _tensors_write, _tensors_read),
        Reader("config", "config.json, adapter_config.json", 2_000, _config_write, _config_read),
        Reader("index", "indexes of sharded weights", 2_000, _index_write, _tensors_read),
        Reader("yaml", "jobs in YAML", 2_000, _yaml_write, _yaml_read),
        Reader("manifest", "lines of manifests", 10_000, _manifest_write, _source_read),
        Reader("gzip", "manifests and lists in gzip", 2_000, _gzip_write, _source_read),
        Reader("tokenizer", "tokenizers", 2_000, _tokenizer_write, _tokenizer_read),
        Reader("tar", "shards", 5_000, _tar_write, _source_read),
        Reader("audio", "recordings, 28 formats", 10_000, _audio_write, _audio_read),
        Reader("http", "HTTP bodies", 5_000, _http_write, _http_read),
    )
}
