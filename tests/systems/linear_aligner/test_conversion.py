"""A linear aligner in and out: its parts and the whole, to the byte; what does not fit is one line."""

import numpy as np
import pytest

from ckpt_convert.convert import convert
from ckpt_convert.settle import Settings
from mindspore_osum.errors import UserError
from mindspore_osum.folder import read_config
from mindspore_osum.models.table import shapes
from mindspore_osum.systems.registry import system_of
from mindspore_osum.weights_io import TensorInfo, WeightsWriter, open_weights
from tests.systems.linear_aligner.common import converted

SYSTEM = system_of("linear_aligner")
POSITIONS = "encoder.embed_positions.weight"


@pytest.fixture(scope="module")
def golden(shared):
    return shared / "golden" / "linear_aligner"


@pytest.fixture(scope="module")
def folder(golden, tmp_path_factory):
    return converted(golden, tmp_path_factory.mktemp("converted") / "model")


def contents(path) -> dict[str, tuple]:
    """Name -> type, shape and bytes of every tensor."""
    with open_weights(path) as weights:
        infos = dict(weights.infos)
        return {name: (i.dtype, i.shape, weights.raw(name).tobytes()) for name, i in infos.items()}


def plain(found: dict) -> dict:
    """Without the optional prefix of transformers' keys."""
    return {name.removeprefix("model."): one for name, one in found.items()}


@pytest.mark.parametrize(
    "form, part, gone",
    [
        ("aligner", "aligner.safetensors", ("-",)),
        ("hf_decoder", "llm", ("-",)),
        ("hf_whisper", "whisper", ("decoder.", "proj_out.")),
    ],
)
def test_parts_come_back(golden, folder, tmp_path, form, part, gone):
    out = tmp_path / part
    convert(folder, out, form=form)
    got, want = plain(contents(out)), plain(contents(golden / part))
    want = {name: one for name, one in want.items() if not name.startswith(gone)}
    if form == "hf_whisper":  # positions are computed, and rounded as numpy rounds
        computed, stored = (np.frombuffer(one.pop(POSITIONS)[2], np.float32) for one in (got, want))
        assert np.abs(computed - stored).max() <= 1e-6
    assert got == want


@pytest.mark.parametrize("name", ["whole.pt", "whole.safetensors"])
def test_the_whole_in_one_file(folder, tmp_path, name):
    convert(folder, tmp_path / name)
    settings = Settings(config=str(folder / "config.json"))
    convert(tmp_path / name, tmp_path / "again", settings=settings, tokenizer=folder)
    assert contents(tmp_path / "again") == contents(folder)
    assert read_config(tmp_path / "again") == read_config(folder)


def test_its_sizes_are_those_of_its_tensors(folder, golden):
    cfg = read_config(folder)
    assert (cfg.encoder.d_model, cfg.decoder.d_model, cfg.adapter.dims) == (16, 48, None)
    assert (cfg.encoder.n_mels, cfg.encoder.pad_to_seconds, cfg.decoder.rope_theta) == (128, 30.0, 5e6)


@pytest.mark.parametrize("dims", [None, 5])
@pytest.mark.parametrize("name", SYSTEM.presets)
def test_tables_are_those_of_the_cells(name, dims):
    pytest.importorskip("mindspore")
    from dataclasses import replace

    from mindspore.nn.utils import no_init_parameters

    cfg = SYSTEM.presets[name]
    cfg = replace(cfg, adapter=replace(cfg.adapter, dims=dims), lora=replace(cfg.lora, rank=2))
    with no_init_parameters():
        cells = {n: tuple(p.shape) for n, p in SYSTEM.build(cfg).parameters_and_names()}
    assert SYSTEM.shapes(cfg) == cells
    read, needs = SYSTEM.infer(cells, cfg, {}, "")
    assert read["adapter"] == {"dims": dims} and read["lora"]["rank"] == 2 and not needs


def test_the_paper_s_sizes():
    table = next(t for t in SYSTEM.tables(SYSTEM.presets["yi_6b_aligner"]) if t.part == "adapter")
    assert sum(int(np.prod(shape)) for shape in shapes([table]).values()) == 5_246_976


def test_an_aligner_of_other_widths_is_named(golden, tmp_path):
    other = tmp_path / "aligner.safetensors"
    infos = {"weight": TensorInfo("F32", (48, 20)), "bias": TensorInfo("F32", (48,))}
    with WeightsWriter(other, infos) as writer:
        for name, info in infos.items():
            writer.write(name, np.zeros(info.shape, np.float32))
    parts = {"encoder": golden / "whisper", "decoder": golden / "llm", "aligner": other}
    with pytest.raises(UserError, match=r"adapter.proj.weight.*\(48, 20\), expected \(48, 16\)"):
        convert(None, tmp_path / "out", **parts, tokenizer=golden / "tokenizer.model")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("prompts", "says"), [("no", "'no': no such set; known: "), ("no.yaml", "no.yaml': no such file")]
)
def test_prompts_that_there_are_not_are_refused_at_once(golden, tmp_path, prompts, says):
    settings = Settings(preset="yi_6b_aligner", overrides={"prompts": prompts})
    parts = {"encoder": golden / "whisper", "decoder": golden / "llm"}
    with pytest.raises(UserError, match=says):
        convert(None, tmp_path / "out", settings=settings, **parts)
    assert not (tmp_path / "out").exists()


def test_without_an_aligner_one_is_drawn(golden, tmp_path):
    settings = Settings(preset="yi_6b_aligner")
    parts = {
        "encoder": golden / "whisper",
        "decoder": golden / "llm",
        "tokenizer": golden / "tokenizer.model",
    }
    report = convert(None, tmp_path / "out", settings=settings, **parts)
    assert report.initialised == ["adapter.proj.weight", "adapter.proj.bias"]
