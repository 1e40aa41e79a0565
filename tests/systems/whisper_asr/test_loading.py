"""`OSUM.load("openai/whisper-base")`: from a hub or a Hugging Face folder, converted once; refusals."""

import json
import shutil

import pytest

from ckpt_convert.convert import convert
from mindspore_osum import hub
from mindspore_osum.api import OSUM
from mindspore_osum.cli import main
from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED
from tests.hub_server import serving
from tests.systems.whisper_asr.common import word_errors

NAME = "openai/whisper-base"
RECORDING = sorted((BUNDLED.parent / "recordings").glob("*.wav"))[0]


@pytest.fixture(scope="module")
def published(folder, tmp_path_factory):
    """The golden model as a folder of Hugging Face."""
    target = tmp_path_factory.mktemp("published") / "whisper"
    convert(folder, target, form="hf_whisper")
    return target


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Empty caches."""
    for name, place in {"OSUM_CACHE": "osum", "HF_HUB_CACHE": "hf"}.items():
        monkeypatch.setenv(name, str(tmp_path / place))
    for name in ("HF_HUB_OFFLINE", "OSUM_HUB"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def counted(monkeypatch) -> list:
    """What is converted from now on."""
    import ckpt_convert.convert as module

    found, real = [], module.convert
    monkeypatch.setattr(
        module,
        "convert",
        lambda source, *args, **more: (found.append(source), real(source, *args, **more))[1],
    )
    return found


def test_a_published_whisper_is_fetched_and_converted_once(published, home, monkeypatch):
    converted = counted(monkeypatch)
    files = {path.name: path.read_bytes() for path in published.iterdir()}
    with serving({NAME: files | {"tf_model.h5": b"x", "README.md": b"#"}}) as site:
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        model = OSUM.load(NAME, device="CPU")
        fetched = [path for _, path, _ in site.asked if "safetensors" in path]
        assert model.transcribe(RECORDING).language
        again = OSUM.load(NAME, device="CPU")
        assert [path for _, path, _ in site.asked if "safetensors" in path] == fetched
    assert len(converted) == 1 and again.engine.folder == model.engine.folder
    assert not any("tf_model" in path or "README" in path for _, path, _ in site.asked if "/resolve/" in path)


@pytest.mark.slow
def test_the_real_parts_are_fetched_by_their_names(real_part, home, monkeypatch, capsys):
    """As a newcomer does it: the names of the hub, a recording of a person, subtitles."""
    people = real_part("recordings")
    lines = (people / "asterisk_dev.jsonl").read_text("utf-8").splitlines()
    spoken = [json.loads(line) for line in lines][3:40:9]
    wavs, texts = [str(people / one["wav"]) for one in spoken], [one["txt"] for one in spoken]
    repos = {
        f"openai/{name}": {path.name: path.read_bytes() for path in real_part(name).iterdir()}
        for name in ("whisper-base", "whisper-tiny.en")
    }
    with serving(repos) as site:
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        for name in repos:
            how = ["--model", name, "--format", "srt", "--device", "CPU", "--output", str(home / name)]
            assert main(["transcribe", *wavs, *how]) == 0
            cues = [path.read_text("utf-8").split("\n") for path in sorted((home / name).glob("*.srt"))]
            assert len(cues) == len(wavs) and all(" --> " in one[1] for one in cues)
            said = [" ".join(cue[2::4]) for cue in cues]
            order = sorted(range(len(wavs)), key=lambda n: wavs[n].rsplit("/", 1)[-1])
            wrong = [word_errors(texts[n], text) for n, text in zip(order, said, strict=True)]
            assert sum(errors for errors, _ in wrong) <= 0.2 * sum(count for _, count in wrong), said
        capsys.readouterr()
        english = ["--model", "openai/whisper-tiny.en", "--language", "de", "--device", "CPU"]
        assert main(["transcribe", wavs[0], *english]) == 1
    assert "English" in capsys.readouterr().err


def test_a_local_folder_is_converted_once(published, home, monkeypatch):
    converted = counted(monkeypatch)
    first = hub.model_folder(published)
    assert hub.model_folder(published) == first and len(converted) == 1


def damaged(name: str, **values):
    """Changes values of a JSON file."""

    def damage(folder):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")

    return damage


def other_tokenizer(folder) -> None:
    """One with more pieces than this Whisper has before its special tokens."""
    values = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    vocab = values["model"]["vocab"]
    vocab |= {f"more{n}": len(vocab) + n + 1 for n in range(99)}
    (folder / "tokenizer.json").write_text(json.dumps(values), "utf-8")


DAMAGES = {
    "cut weights": (lambda f: cut(f / "model.safetensors"), "model.safetensors"),
    "other width": (damaged("config.json", d_model=32), "(found (1500, 16), expected (1500, 32))"),
    "other layers": (damaged("config.json", decoder_layers=3), "missing: decoder.decoders.2."),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "safetensors"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
    "other tokenizer": (other_tokenizer, "tokenizer.json"),
    "other model": (damaged("config.json", model_type="bert"), "bert"),
}


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_or_foreign_is_refused_in_a_line(published, home, tmp_path, capfd, name):
    """In Python and at the command line alike, and nothing is left in the cache."""
    damage, about = DAMAGES[name]
    shutil.copytree(published, tmp_path / "whisper")
    damage(tmp_path / "whisper")
    with pytest.raises(UserError) as refused:
        OSUM.load(tmp_path / "whisper", device="CPU")
    message = str(refused.value)
    assert about in message and "\n" not in message
    assert main(["transcribe", str(RECORDING), "--model", str(tmp_path / "whisper"), "--device", "CPU"]) == 1
    *_, last = capfd.readouterr().err.splitlines()
    assert about in last and "Traceback" not in last
    assert not [path for path in (home / "osum").rglob("config.json")]
