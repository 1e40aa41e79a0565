"""A TouchASU with a FireRed encoder: trained, asked, written in WEST's form and read again.

scripts/test.sh tests/systems/touch_asu/test_firered.py -m slow    # the training: 20 s
"""

import json
from dataclasses import replace

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
pytest.importorskip("mindformers", reason="needs mindformers")

from ckpt_convert.convert import convert  # noqa: E402
from ckpt_convert.settle import Settings  # noqa: E402
from mindspore_osum.cli import main  # noqa: E402
from mindspore_osum.errors import UserError  # noqa: E402
from mindspore_osum.folder import read_config, save_folder  # noqa: E402
from mindspore_osum.models.firered.config import FireRedConfig  # noqa: E402
from mindspore_osum.models.positions import relative_sinusoids  # noqa: E402
from mindspore_osum.speech.config import FBANK  # noqa: E402
from mindspore_osum.systems.registry import preset, system_of  # noqa: E402
from mindspore_osum.systems.touch_asu.descriptions import own_values, stated  # noqa: E402
from mindspore_osum.training.run import run_job  # noqa: E402
from mindspore_osum.weights_io import TensorInfo, WeightsWriter, open_weights  # noqa: E402
from tests.models.common import fill  # noqa: E402
from tests.systems.touch_asu.common import make_world  # noqa: E402
from tests.training.test_touch_asu import job, losses  # noqa: E402

SYSTEM, CFG = system_of("touch_asu"), preset("touch_asu_firered_tiny")
START = {"start": "touch_asu_firered_tiny"}
TRAIN_YAML = """\
model: firered
input_dim: 80
encoder_conf:
  input_layer: firered_conv2d4
  pos_enc_layer_type: rel_pos_firered
  output_size: 32
  num_blocks: 2
  attention_heads: 2
  linear_units: 64
  cnn_module_kernel: 7
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    """A model folder with random weights, its constants too."""
    model = SYSTEM.build(CFG)
    fill(model, seed=4)
    found = tmp_path_factory.mktemp("models") / "model"
    found.mkdir()
    save_folder(found, model, world)
    return found


@pytest.mark.slow
def test_it_learns_and_answers(world, tmp_path):
    """Adapter, LoRA and LLM, behind a frozen encoder."""
    trained, more = tmp_path / "run", {"learn": ["adapter", "lora", "decoder"], "loss": {"prompt": False}}
    assert run_job(job(world, trained, model=START, steps=60, log_every=20, **more)) == 0
    assert losses(trained, "answer_loss")[-1] < 0.5 * losses(trained, "answer_loss")[0]
    start = SYSTEM.build(CFG)
    SYSTEM.init_weights(start, 3)
    with open_weights(trained / "model") as after:
        for name, param in start.encoder.parameters_and_names():
            assert np.array_equal(after.read(f"encoder.{name}"), param.asnumpy()), name
    asked = ["transcribe", str(world / "0.wav"), "--model", str(trained / "model")]
    assert main([*asked, "--output", str(tmp_path / "t"), "--format", "txt"]) == 0
    assert [path.read_text().strip() for path in (tmp_path / "t").iterdir()] == ["abc"]


def test_to_the_published_form_and_back(folder, tmp_path):
    convert(folder, tmp_path / "west", form="published")
    (tmp_path / "wenet").mkdir()
    (tmp_path / "wenet/train.yaml").write_text(TRAIN_YAML)
    described = json.loads((tmp_path / "west/config.json").read_text())
    assert (described["encoder_ds_rate"], described["encoder_projector_ds_rate"]) == (4, 2)
    with open_weights(tmp_path / "west") as west:
        prefix = "encoder.encoder."
        assert west.infos[f"{prefix}embed.pos_enc.pe"].shape == (1, 599, 32)
        assert west.infos[f"{prefix}encoders.1.self_attn.pos_bias_u"].shape == (2, 16)
        assert west.infos[f"{prefix}global_cmvn.istd"].shape == (80,)
    told = {"n_heads": 4, "eos_id": 599, "bos_id": 599, "max_positions": 1024}
    tiny = Settings(preset="touch_asu_tiny", overrides={"decoder": told, "eos_ids": [599, 597]})
    convert(tmp_path / "west", tmp_path / "again", settings=tiny)
    first, again = read_config(folder), read_config(tmp_path / "again")
    assert again == replace(first, positions=again.positions) and again.positions == 300
    with open_weights(folder) as one, open_weights(tmp_path / "again") as other:
        assert one.infos == other.infos
        for name in one.infos:
            assert np.array_equal(one.raw(name), other.raw(name)), name


def test_the_encoder_alone(folder, tmp_path):
    """By WeNet's names, as a part again, and refused without the statistics of its features."""
    convert(folder, tmp_path / "encoder.safetensors", form="wenet_firered")
    with open_weights(folder) as ours, open_weights(tmp_path / "encoder.safetensors") as written:
        values = {name: written.read(name) for name in written.infos}
        assert len(values) == sum(name.startswith("encoder.") for name in ours.infos)
        for name in ("encoder.encoders.1.conv_module.depthwise_conv.weight", "encoder.global_cmvn.mean"):
            assert np.array_equal(values[name], ours.read(name))
    parts = {"encoder": tmp_path / "encoder.safetensors", "decoder": folder}
    tiny = Settings(preset="touch_asu_firered_tiny")
    convert(None, tmp_path / "joined", settings=tiny, tokenizer=folder, **parts)
    with open_weights(tmp_path / "joined") as joined, open_weights(folder) as ours:
        assert all(np.array_equal(joined.raw(n), ours.raw(n)) for n in ours.infos if n.startswith("encoder."))
    bare = {name: value for name, value in values.items() if "cmvn" not in name}
    infos = {name: TensorInfo("F32", value.shape) for name, value in bare.items()}
    (tmp_path / "bare").mkdir()
    with WeightsWriter(tmp_path / "bare", infos, {"format": "pt"}) as writer:
        for name, value in bare.items():
            writer.write(name, value)
    parts["encoder"] = tmp_path / "bare/model.safetensors"
    with pytest.raises(UserError, match="encoder.global_cmvn") as caught:
        convert(None, tmp_path / "x", settings=tiny, tokenizer=folder, **parts)
    assert "\n" not in str(caught.value) and not (tmp_path / "x").exists()
    # WeNet's converter and FireRedASR have them in a file beside the weights
    mean, istd = (values[f"encoder.global_cmvn.{name}"].astype(np.float64) for name in ("mean", "istd"))
    stats = {"mean_stat": list(8 * mean), "var_stat": list(8 * (istd**-2.0 + mean**2)), "frame_num": 8}
    (tmp_path / "bare" / "global_cmvn").write_text(json.dumps(stats))
    convert(None, tmp_path / "beside", settings=tiny, tokenizer=folder, **parts)
    convert(tmp_path / "beside", tmp_path / "again.safetensors", form="wenet_firered")
    with open_weights(tmp_path / "again.safetensors") as again:
        assert again.infos.keys() == values.keys()
        for name in values.keys() - {"encoder.global_cmvn.mean", "encoder.global_cmvn.istd"}:
            assert np.array_equal(again.read(name), values[name]), name
        np.testing.assert_allclose(again.read("encoder.global_cmvn.mean"), mean, rtol=1e-6)
        np.testing.assert_allclose(again.read("encoder.global_cmvn.istd"), np.abs(istd), rtol=1e-6)


@pytest.mark.parametrize("name", ["touch_asu_qwen2_7b_firered", "touch_asu_qwen3_1.7b_firered"])
def test_presets_are_those_of_the_recipes(name):
    cfg = preset(name)
    assert (cfg.encoder, cfg.frames_per_token, cfg.seconds_per_token) == (FireRedConfig(), 8, 0.08)
    assert cfg.features.kind == FBANK and cfg.most_frames == 2000
    shapes = SYSTEM.shapes(cfg)
    projector = sum(int(np.prod(shape)) for key, shape in shapes.items() if key.startswith("adapter."))
    assert projector == {3584: 13_245_184, 2048: 10_097_920}[cfg.decoder.d_model]


def test_slots_and_whole_tokens_are_the_published_ones():
    """Slots ceil(T / 8), of which floor(ceil(T / 4) / 2) get frames; the rest are WEST's placeholders."""
    lengths, slots, whole = [9, 13, 16, 100, 101], [2, 2, 2, 13, 13], [1, 2, 2, 12, 13]
    assert [CFG.tokens(n) for n in lengths] == slots
    model = SYSTEM.build(CFG)
    SYSTEM.init_weights(model, 1)
    x_BTF = np.random.default_rng(2).standard_normal((5, 104, 80)).astype(np.float32)
    z_BZD, len_B = model.encode_speech(ms.Tensor(x_BTF), ms.Tensor(lengths, ms.int32))
    assert z_BZD.shape[1] == 13 and len_B.asnumpy().tolist() == whole
    assert np.array_equal(z_BZD.asnumpy()[0, 1], model.decoder.model.embed_tokens.weight.asnumpy()[0])


def test_constants_of_a_new_model():
    model = SYSTEM.build(CFG)
    SYSTEM.init_weights(model, 1)
    table = model.encoder.embed_positions.weight.asnumpy()
    assert np.array_equal(table, relative_sinusoids(300, 32))


def test_west_s_json_names_the_encoder(tmp_path):
    west = {"model_type": "touch_asu", "wenet_model_name_or_path": "firered", "encoder_ds_rate": 4}
    west |= {"llm_model_name_or_path": "Qwen/Qwen2-7B-Instruct"}
    found = own_values(west, str(tmp_path / "config.json"))
    assert found["encoder"] == vars(FireRedConfig()) and found["positions"] == 5000
    (tmp_path / "wenet").mkdir()
    (tmp_path / "wenet/train.yaml").write_text(TRAIN_YAML)
    west |= {"wenet_model_name_or_path": "wenet"}
    sizes = stated(west, str(tmp_path / "config.json"))["encoder"]
    assert FireRedConfig(**sizes) == FireRedConfig(d_model=32, n_layers=2, n_heads=2, d_ff=64, kernel=7)
    with pytest.raises(UserError, match="encoder_ds_rate = '2' is not supported: the encoder 'wenet' has 4"):
        stated(west | {"encoder_ds_rate": 2}, str(tmp_path / "config.json"))
    (tmp_path / "wenet/train.yaml").write_text(TRAIN_YAML.replace("rel_pos_firered", "rel_pos"))
    with pytest.raises(UserError, match="pos_enc_layer_type = 'rel_pos' is not supported"):
        stated(west, str(tmp_path / "config.json"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"batch": {"size": 1, "seconds": [0.64], "pack": 300}}, "batch.pack: the convolutions of a FireRed"),
        ({"model": START | {"overrides": {"encoder": {"kernel": 8}}}}, "encoder.kernel must be odd, not 8"),
        ({"model": START | {"overrides": {"encoder": {"kind": "fired"}}}}, "encoder.kind 'fired' is unknown"),
    ],
)
def test_what_cannot_work_is_refused(world, tmp_path, more, said):
    with pytest.raises(UserError, match=said):
        run_job(job(world, tmp_path / "run", **{"model": START} | more))
