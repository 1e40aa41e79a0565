"""Small valid files of every kind that a reader takes; the fuzz changes them."""

import io
import json
import pickle
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from ckpt_convert.torch_writer import TorchWriter
from mindspore_osum.folder import BUNDLED
from mindspore_osum.weights_io import TensorInfo, WeightsWriter
from tests.data.formats.tars import sample, write_tar
from tests.speech.encode import KINDS, encoded

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary"  # made by a payload that runs
TENSORS = {"a.weight": ("F32", (3, 4)), "b": ("BF16", (5,)), "c": ("I64", (2, 1)), "none": ("F16", (0, 3))}


class _Payload:
    """Runs a command where it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def payloads() -> list[bytes]:
    """Pickles that make a file, each in another way and protocol."""
    command = f"touch {CANARY}"
    calls = [(__import__("os").system, command), (open, CANARY, "w"), (exec, f"open({CANARY!r}, 'w')")]
    calls += [(__import__("subprocess").getoutput, command), (getattr, {}, "clear")]
    return [
        pickle.dumps(value, protocol)
        for call in calls
        for protocol in (0, 2, 4)
        for value in (_Payload(*call), {"a": _Payload(*call)})
    ]


def _weights(make, name: str) -> bytes:
    infos = {key: TensorInfo(*facts) for key, facts in TENSORS.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with make(path, infos) as writer:
            for key, info in infos.items():
                writer.write_raw(key, np.arange(info.nbytes, dtype=np.uint8))
        return path.read_bytes()


def torch_file() -> bytes:
    """A `.pt`."""
    return _weights(lambda path, infos: TorchWriter(path, infos, {"d": "b"}), "x.pt")


def safetensors_file() -> bytes:
    """A safetensors file."""
    return _weights(WeightsWriter, "x.safetensors")


def configs() -> dict[str, list[dict]]:
    """Name of a description -> valid ones: ours, of Hugging Face, and of PEFT."""
    llama = dict(model_type="llama", architectures=["LlamaForCausalLM"], vocab_size=61, hidden_size=40)
    llama |= dict(intermediate_size=56, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2)
    llama |= dict(rms_norm_eps=1e-5, rope_theta=1e4, head_dim=8, hidden_act="silu", tie_word_embeddings=False)
    llama |= dict(max_position_embeddings=512, bos_token_id=1, eos_token_id=2, attention_bias=True)
    whisper = dict(model_type="whisper", architectures=["WhisperModel"], d_model=36, encoder_layers=2)
    whisper |= dict(
        encoder_attention_heads=3, encoder_ffn_dim=52, num_mel_bins=80, activation_function="gelu"
    )
    peft = dict(
        peft_type="LORA", r=4, lora_alpha=8, target_modules=["q_proj"], bias="none", task_type="CAUSAL_LM"
    )
    peft |= dict(
        rank_pattern={"layers.0.q_proj": 2}, alpha_pattern={}, layers_to_transform=[0], use_dora=False
    )
    ours = json.loads((BUNDLED / "config.json").read_text("utf-8"))
    return {"config.json": [ours, ours, llama, whisper], "adapter_config.json": [peft]}


def lines() -> list[dict]:
    """Lines of manifests of every format."""
    audio = {
        "key": "a",
        "wav": "a.wav",
        "txt": "hello <CHILD>",
        "task": "<TRANSCRIBE> <AGE>",
        "extra": {"age": "x"},
    }
    turns = [{"role": "user", "content": "<audio>what?"}, {"role": "assistant", "content": "well"}]
    return [
        audio,
        audio | {"start": 0.0, "end": 0.2},
        {"key": "t", "wav": None, "txt": "yes", "task": "<TEXT2TEXT>", "extra": {"question": "so?"}},
        {"key": "w", "wav": "a.wav", "txt": "<0.10>one<0.20>", "task": "<TRANSCRIBE> <TIMESTAMP>"},
        {"wav": "a.wav", "txt": "one two"},
        {"audio_filepath": "a.wav", "text": "one", "offset": 0.1, "duration": 0.1},
        {"source": "a.wav", "target": "one"},
        {"messages": turns, "audios": ["a.wav"]},
        {
            "conversations": [{"from": "human", "value": "<audio>"}, {"from": "gpt", "value": "x"}],
            "audios": "a.wav",
        },
        {"messages": [{"role": "user", "content": [{"type": "audio", "audio": "a.wav"}]}, turns[1]]},
        {
            "id": "c",
            "start": 0,
            "duration": 0.3,
            "channel": 0,
            "supervisions": [{"id": "s", "start": 0, "duration": 0.2, "text": "one"}],
            "recording": {
                "id": "r",
                "sources": [{"type": "file", "channels": [0], "source": "a.wav"}],
                "sampling_rate": 16000,
                "num_samples": 4800,
                "duration": 0.3,
            },
        },
    ]


def tars() -> list[bytes]:
    """Shards: GNU, pax and version 7 names, a link, a folder."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
            path = Path(folder) / "x.tar"
            long = "d/" + "n" * (90 if form == tarfile.USTAR_FORMAT else 120)
            write_tar(path, [*sample("a"), *sample(long, extra={"age": "x"}), *sample("c", audio=None)], form)
            with tarfile.open(path, "a", format=form) as tar:
                for kind in (tarfile.SYMTYPE, tarfile.DIRTYPE):
                    info = tarfile.TarInfo("other")
                    info.type, info.linkname = kind, "a.wav"
                    tar.addfile(info)
            found.append(path.read_bytes())
    return found


def wave() -> np.ndarray:
    """wave_N, 0.3 s at 16 kHz."""
    return (0.3 * np.sin(np.arange(4800) / 9)).astype(np.float32)


def recordings() -> list[bytes]:
    """Recordings in every format that can be written here."""
    kinds = [("WAV", s) for s in ("PCM_16", "PCM_U8", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM", "MS_ADPCM")]
    kinds += [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("AIFF", "PCM_16"), ("AU", "PCM_16")]
    kinds += [
        ("CAF", "ALAC_16"),
        ("W64", "PCM_16"),
        ("RF64", "PCM_16"),
        ("WAVEX", "PCM_16"),
        ("NIST", "PCM_16"),
    ]
    found = []
    for form, subtype in kinds:
        stream = io.BytesIO()
        x_SC = np.stack([wave()] * 2, axis=1) if form in ("FLAC", "WAVEX") else wave()
        soundfile.write(stream, x_SC, 16_000, format=form, subtype=subtype)
        found.append(stream.getvalue())
    return found + [encoded(wave(), kind) for kind in KINDS]


def form(fields: dict[str, str], file: bytes, boundary: str = "x") -> bytes:
    """The body of a multipart form with a file."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'
        for k, v in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return "".join([*parts, head]).encode() + file + f"\r\n--{boundary}--\r\n".encode()


def chat() -> dict:
    """A chat completion's body."""
    audio = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    content = [audio, {"type": "text", "text": "what is said?"}]
    return {
        "model": "tiny",
        "messages": [{"role": "user", "content": content}],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 10,
        "stop": [],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
