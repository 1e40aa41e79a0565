"""The registry: every system by its name in config.json, those of other packages too."""

import json
import subprocess
import sys

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED, read_config, write_config
from mindspore_osum.systems.registry import all_systems, from_values, preset, presets, system_of, to_values

TOY = """
from dataclasses import asdict, dataclass
from typing import ClassVar
from mindspore_osum.systems.base import System

@dataclass(frozen=True)
class ToyConfig:
    model_type: ClassVar[str] = "toy"
    width: int = 4
    dtype: str = "float32"

    def to_dict(self):
        return asdict(self)

class ToySystem(System):
    model_type, Config, presets = "toy", ToyConfig, {"toy_xs": ToyConfig(2)}

SYSTEM = ToySystem()
"""


def test_own_systems():
    for name, system in all_systems().items():
        assert system_of(name) is system and system.Config.model_type == system.model_type == name
        for cfg in system.presets.values():
            assert isinstance(cfg, system.Config) and from_values(to_values(cfg), "here") == cfg
    assert preset("tiny") is presets()["tiny"]


def test_a_folder_says_its_system_first(tmp_path):
    values = json.loads((BUNDLED / "config.json").read_text())
    del values["model_type"]  # as before there was one
    (tmp_path / "config.json").write_text(json.dumps(values))
    cfg = read_config(tmp_path)
    assert cfg.model_type == "osum" and cfg == read_config(BUNDLED)
    write_config(tmp_path, cfg)
    values = json.loads((tmp_path / "config.json").read_text())
    assert next(iter(values.items())) == ("model_type", "osum") and read_config(tmp_path) == cfg


def test_a_key_of_before_is_left_out():
    """config.json had decoder.pad_id, which nothing read."""
    values = to_values(preset("tiny"))
    assert "pad_id" not in values["decoder"]
    values["decoder"]["pad_id"] = 3
    assert from_values(values, "config.json") == preset("tiny")
    values["decoder"]["pad"] = 3
    with pytest.raises(UserError, match="config.json: decoder: unknown key 'pad'"):
        from_values(values, "config.json")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "osumm"}, r"model_type 'osumm' is unknown; did you mean 'osum'\? if .*Hugging Face"),
        ({"model_type": "qwen2"}, "model_type 'qwen2' is unknown; known: .*osum.*; if .*`osum convert`"),
        ({"model_type": ["osum"]}, "unknown"),
        ({"architectures": ["Qwen2ForCausalLM"]}, "a Hugging Face folder.*`osum convert`"),
        ({"architectures": ["X"], "model_type": "osum"}, "a Hugging Face folder"),
    ],
)
def test_others_are_refused(tmp_path, change, message):
    values = json.loads((BUNDLED / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=message) as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)


def run(code: str, path) -> str:
    start = f"import sys; sys.path.insert(0, {str(path)!r}); from mindspore_osum.systems.registry import *"
    code = f"{start}\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def package(tmp_path):
    """A folder with an installed package that brings the system "toy"."""
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mindspore_osum.systems]\ntoy = toy_system:SYSTEM\n")
    (tmp_path / "toy_system.py").write_text(TOY)
    return tmp_path


def test_another_package_brings_a_system(package):
    shown = run("print(to_values(preset('toy_xs')), from_values({'model_type': 'toy'}, '').width)", package)
    assert shown == "{'model_type': 'toy', 'width': 2, 'dtype': 'float32'} 4\n"


def test_systems_load_no_mindspore(package):
    assert run("all_systems(); print('mindspore' in sys.modules)", package) == "False\n"


def test_a_system_that_cannot_be_loaded(package):
    (package / "toy_system.py").write_text("import nothing_of_this_name")
    code = "try: all_systems()\nexcept Exception as error: print(type(error).__name__, error)"
    shown = run(code, package)
    assert shown.startswith("UserError toy_system:SYSTEM: this system cannot be loaded (ModuleNotFound")
    assert shown.count("\n") == 1
