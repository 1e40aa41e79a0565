"""Models by name, from hubs on this machine, through the hubs' own libraries."""

import json

import pytest

from mindspore_osum import hub
from mindspore_osum.cli import main
from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED
from tests.hub_server import COMMIT, serving

FILES = {path.name: path.read_bytes() for path in BUNDLED.iterdir()}
SETTINGS = (
    "HF_ENDPOINT HF_HUB_CACHE HF_HUB_OFFLINE MODELSCOPE_ENDPOINT MODELSCOPE_CACHE OSUM_CACHE OSUM_HUB".split()
)


@pytest.fixture(scope="module")
def published():
    """The bundled model as a published checkpoint."""
    import tempfile
    from pathlib import Path

    from ckpt_convert.convert import convert

    with tempfile.TemporaryDirectory() as folder:
        convert(BUNDLED, Path(folder) / "step_1.pt")
        yield (Path(folder) / "step_1.pt").read_bytes()


@pytest.fixture
def site(tmp_path, monkeypatch, published):
    """A running hub with empty caches; `site.repos` may be changed."""
    repos = {
        "someone/tiny": FILES
        | {"README.md": b"#", "modeling.py": b"x", "model.onnx": b"x", "old/model.safetensors": b"x"},
        "someone/published": {"step_1.pt": published}
        | {n: FILES[n] for n in ("tokenizer.model", "config.json")},
        "someone/several": {"a.pt": b"x", "b.pt": b"x"},
        "someone/nothing": {"README.md": b"#"},
    }
    for name in (*SETTINGS, "OSUM_HUB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with serving(repos) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", running.url)
        monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
        monkeypatch.setenv("OSUM_CACHE", str(tmp_path / "osum"))
        yield running


def gets(site) -> list[str]:
    return [path for method, path, _ in site.asked if method == "GET"]


@pytest.mark.parametrize("name", ["someone/tiny", "someone/tiny@v1", "modelscope:someone/tiny"])
def test_a_model_folder_is_downloaded_once(site, name):
    folder = hub.model_folder(name)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in FILES} == FILES
    assert not {"README.md", "modeling.py", "model.onnx", "old"} & {path.name for path in folder.iterdir()}
    fetched = [path for path in gets(site) if "safetensors" in path]
    assert len(fetched) == 1
    assert hub.model_folder(name) == folder
    assert [path for path in gets(site) if "safetensors" in path] == fetched


@pytest.mark.parametrize("name", ["someone/tiny", "modelscope:someone/tiny"])
def test_without_a_network_the_cache_is_taken(site, name, monkeypatch):
    with pytest.raises(UserError, match="someone/other on .*: no such model"):
        hub.model_folder(name.replace("tiny", "other"))
    folder = hub.model_folder(name)
    asked = len(site.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if ":" not in name:
        assert hub.model_folder(name) == folder
        assert len(site.asked) == asked
        with pytest.raises(UserError, match="someone/published .*not in the cache, and HF_HUB_OFFLINE"):
            hub.model_folder("someone/published")
        monkeypatch.delenv("HF_HUB_OFFLINE")
    for setting in ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT"):
        monkeypatch.setenv(setting, "http://127.0.0.1:9")  # nobody listens there
    assert hub.model_folder(name) == folder
    with pytest.raises(UserError, match="someone/published on") as refused:
        hub.model_folder(name.replace("tiny", "published"))
    assert len(str(refused.value).splitlines()) == 1


def test_a_broken_download_goes_on_where_it_ended(site, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 20)
    site.limit = 3 << 20
    with pytest.raises(UserError, match="cannot be fetched .*; run it again to continue"):
        hub.model_folder("someone/tiny")
    site.limit = None
    hub.model_folder("someone/tiny")
    ranges = [span for _, path, span in site.asked if "safetensors" in path and span]
    assert any(int(span[6:].split("-")[0]) >= 3 << 20 for span in ranges)
    (whole,) = tmp_path.glob("hf/*/snapshots/*/model.safetensors")
    assert whole.read_bytes() == FILES["model.safetensors"]


def test_a_published_checkpoint_is_converted_once(site, monkeypatch):
    folder = hub.model_folder("someone/published")
    assert (folder / "model.safetensors").stat().st_size > 1e6
    assert (folder / "tokenizer.model").read_bytes() == FILES["tokenizer.model"]
    when = (folder / "config.json").stat().st_mtime_ns
    assert hub.model_folder("someone/published") == folder
    assert (folder / "config.json").stat().st_mtime_ns == when


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("someone/else", "someone/else on huggingface.co: no such model there, and no such folder here"),
        ("someone/tiny@v9", "someone/tiny@v9 on huggingface.co: no such revision there"),
        ("modelscope:someone/else", "someone/else on modelscope.cn: no such model"),
        ("someone/several", r"several checkpoints \(a.pt, b.pt\); name one: someone/several/a.pt"),
        ("someone/nothing", "holds no weights that can be read"),
        ("someone/tiny/no.pt", "no such file; it has README.md, config.json"),
    ],
)
def test_refused(site, name, message):
    with pytest.raises(UserError, match=message):
        hub.model_folder(name)


def test_what_the_network_said_is_told_without_the_libraries_around_it(site, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        UserError, match=r"not in the cache, and the hub cannot be reached \(.*refused\)*$"
    ) as error:
        hub.model_folder("someone/tiny")
    assert "Pool" not in str(error.value)


def test_what_is_here_is_no_name_of_a_hub(site, tmp_path):
    (tmp_path / "output").mkdir()
    for name in ("output/model", "./a/b", "a/b/", "/a/b", "tiny", "a.wav", "~/x"):
        assert hub.parse(name) is None
    assert hub.parse("modelscope:output/model").name == "output/model"
    assert not site.asked


def test_the_other_hub_can_be_the_default(site, monkeypatch):
    monkeypatch.setenv("OSUM_HUB", "modelscope")
    assert hub.parse("a/b").hub == "modelscope"
    monkeypatch.setenv("OSUM_HUB", "nothub")
    with pytest.raises(UserError, match="OSUM_HUB=nothub: choose one of huggingface, modelscope"):
        hub.parse("a/b")


def test_no_space_is_said_before_anything_is_fetched(site, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Usage())
    with pytest.raises(UserError, match=r"needs 0.3 GB, .* has 0.0 GB free; make space there"):
        hub.model_folder("someone/tiny")
    assert not [path for path in gets(site) if "resolve" in path]


class _Usage:
    free = 0


def test_the_verbs(site, tmp_path, capsys):
    assert main(["download", "someone/tiny", "--output", str(tmp_path / "here")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "here")
    assert (tmp_path / "here" / "config.json").is_file()
    assert main(["download", "tiny"]) == 1
    assert "tiny: not a name on a hub" in capsys.readouterr().err
    (tmp_path / "tiny.json").write_bytes(FILES["config.json"])
    args = ["--config", str(tmp_path / "tiny.json"), "--output", str(tmp_path / "model")]
    assert main(["convert", "someone/published/step_1.pt", "--tokenizer", "someone/tiny", *args]) == 0
    assert (tmp_path / "model" / "tokenizer.model").read_bytes() == FILES["tokenizer.model"]
    assert main(["info", "someone/tiny", "--json", "--no-hashes"]) == 0
    assert hub.title("someone/tiny@v1") == "someone/tiny"
    assert COMMIT in json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]))["folder"]


def test_a_full_disk_does_not_hinder_what_is_in_the_cache(site, monkeypatch):
    folder = hub.model_folder("someone/tiny")
    monkeypatch.setattr("shutil.disk_usage", lambda path: _Usage())
    assert hub.model_folder("someone/tiny") == folder
