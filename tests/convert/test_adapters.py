"""PEFT's settings against the library's own merged weights, names of other wrappers, and what is refused."""

import json
import re
import shutil

import numpy as np
import pytest

from ckpt_convert.convert import convert
from ckpt_convert.settle import Settings
from mindspore_osum.errors import UserError
from mindspore_osum.folder import read_config
from mindspore_osum.models.llama.peft import read_settings
from tests.convert.common import torch
from tests.convert.test_hf import START, make_decoder, whisper  # noqa: F401
from tests.convert.test_peft import read, write

MERGE = Settings(merge_lora=True)
FILE = "adapter_model.safetensors"
TWO = {"target_modules": ["q_proj", "v_proj"]}
RANKS = {"rank_pattern": {"q_proj": 4, "layers.1.self_attn.v_proj": 1}, "alpha_pattern": {"v_proj": 3}}
# what our LoRA holds, with its rank
HELD = {
    "plain": (TWO, 2),
    "ranks": (TWO | RANKS, 4),
    "ranks, stabilised": (TWO | RANKS | {"use_rslora": True}, 4),
    "excluded": (TWO | {"target_modules": ["q_proj", "k_proj", "v_proj"], "exclude_modules": ["k_proj"]}, 2),
    "excluded in a layer": (TWO | {"exclude_modules": r".*layers\.0\.self_attn\.q_proj"}, 2),
    "some layers": (TWO | {"layers_to_transform": [1]}, 2),
    "expression": ({"target_modules": r".*\.(up|down)_proj"}, 2),
}
# what only weights hold
BEYOND = {"DoRA": TWO | {"use_dora": True}, "head": {"target_modules": ["q_proj", "lm_head"]}}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_decoder(tmp_path_factory.mktemp("base") / "hf", "openpangu")


@pytest.fixture(scope="module")
def model(base, whisper, tmp_path_factory):  # noqa: F811
    """A model folder with that decoder and no LoRA."""
    folder = tmp_path_factory.mktemp("model") / "m"
    settings = Settings(overrides={**START.overrides, "lora": {"rank": 0}})
    convert(None, folder, encoder=whisper, decoder=base, settings=settings)
    return folder


@pytest.fixture(scope="module")
def adapters(base, tmp_path_factory):
    """adapters(settings) -> a folder the library wrote, and the weights it has after merging them."""
    peft = pytest.importorskip("peft", reason="needs peft (extra dev)")
    from transformers import AutoModelForCausalLM

    def make(settings: dict):
        torch.manual_seed(0)
        lora = {"r": 2, "lora_alpha": 6, "init_lora_weights": False, "task_type": "CAUSAL_LM", **settings}
        model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), peft.LoraConfig(**lora))
        with torch.no_grad():
            for name, values in model.named_parameters():
                if "magnitude" in name:  # made so that it changes nothing
                    values.mul_(torch.rand_like(values) + 0.5)
        folder = tmp_path_factory.mktemp("adapters")
        model.save_pretrained(folder)
        return folder, {k: v.numpy() for k, v in model.merge_and_unload().state_dict().items()}

    return make


@pytest.fixture(scope="module")
def plain(adapters):
    return adapters(TWO)[0]


@pytest.fixture
def changed(plain, tmp_path):
    """changed(settings, key -> another key or None) -> a copy of plain adapters."""

    def make(settings: dict | None = None, rename=None):
        folder = tmp_path / "changed"
        shutil.copytree(plain, folder)
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | (settings or {})))
        if rename:
            arrays = {rename(key): values for key, values in read(folder / FILE).items()}
            arrays.pop(None, None)
            write(folder / FILE, arrays)
        return folder

    return make


def close(found: dict, expected: dict) -> None:
    for name, values in expected.items():
        if "inv_freq" not in name:
            assert np.abs(found[f"decoder.{name}"] - values).max() <= 1e-6 * np.abs(values).max(), name


@pytest.mark.parametrize("name", [*HELD, *BEYOND])
def test_merged_weights_are_those_of_the_library(model, adapters, tmp_path, name):
    settings = HELD[name][0] if name in HELD else BEYOND[name]
    folder, expected = adapters(settings)
    report = convert(model, tmp_path / "merged", adapters=folder, settings=MERGE)
    assert read_config(tmp_path / "merged").lora.rank == 0 and report.merged
    close(read(tmp_path / "merged"), expected)
    if name in BEYOND:
        with pytest.raises(UserError, match="has no place beside our weights; add --merge-lora"):
            convert(model, tmp_path / "beside", adapters=folder)
        return
    convert(model, tmp_path / "beside", adapters=folder)
    lora, arrays = read_config(tmp_path / "beside").lora, read(tmp_path / "beside")
    assert lora.rank == HELD[name][1]
    for key in [key for key in arrays if key.endswith(".lora_A.weight")]:
        module = key.removesuffix(".lora_A.weight")
        arrays[f"{module}.weight"] += lora.scale * arrays[f"{module}.lora_B.weight"] @ arrays[key]
    close(arrays, expected)


SPELLINGS = {
    "with its name": lambda key: re.sub(r"(lora_[AB])\.", r"\1.default.", key),
    "compiled": lambda key: key.replace("model.model.model.", "model.model._orig_mod.model."),
    "compiled outside": lambda key: f"_orig_mod.{key}",
    "part of a larger model": lambda key: key.replace("model.model.", "model.language_model.model.", 1),
    "part of its body": lambda key: key.replace("model.layers", "model.language_model.layers"),
    "wrapped twice": lambda key: f"base_model.model.{key}",
    "no prefix": lambda key: key.removeprefix("base_model.model."),
    "without the head": lambda key: key.replace("model.model.model.", "model.model."),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_other_prefixes_are_understood(model, plain, changed, tmp_path, name):
    folder = changed(rename=SPELLINGS[name])
    assert read(folder / FILE).keys() != read(plain / FILE).keys()
    for target, source in (("a", plain), ("b", folder)):
        convert(model, tmp_path / target, adapters=source)
    files = [(tmp_path / target / "model.safetensors").read_bytes() for target in "ab"]
    assert files[0] == files[1]


def test_adapters_that_torch_saved(model, plain, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    shutil.copy(plain / "adapter_config.json", folder)
    state = {key: torch.from_numpy(values) for key, values in read(plain / FILE).items()}
    torch.save(state, folder / "adapter_model.bin")
    for target, source in (("a", plain), ("b", folder)):
        convert(model, tmp_path / target, adapters=source)
    files = [(tmp_path / target / "model.safetensors").read_bytes() for target in "ab"]
    assert files[0] == files[1]


def test_copies_of_the_base_are_recognised(model, adapters, tmp_path):
    """The library saves the whole head beside adapters on it."""
    folder, _ = adapters(BEYOND["head"])
    report = convert(model, tmp_path / "m", adapters=folder, settings=MERGE)
    assert "adapters:base_model.model.lm_head.base_layer.weight" in report.ignored
    arrays = read(folder / FILE)
    arrays["base_model.model.lm_head.base_layer.weight"][0] += 1
    write(folder / FILE, arrays)
    with pytest.raises(UserError, match=r"1 unexpected: adapters:base_model.model.lm_head.base_layer.weight"):
        convert(model, tmp_path / "n", adapters=folder, settings=MERGE)


Q1 = "base_model.model.model.layers.1.self_attn.q_proj"
REFUSED = {
    "invocation": ({"alora_invocation_tokens": [1, 2]}, None, "alora_invocation_tokens = '.1, 2.' is not"),
    "qalora": ({"use_qalora": True}, None, "use_qalora = 'True' is not supported"),
    "later": ({"some_scaling": "cubic"}, None, "setting 'some_scaling' = 'cubic' is not known"),
    "arrow": ({"arrow_config": {"top_k": 2}}, None, "setting 'arrow_config' .* is not known"),
    "no magnitudes": ({"use_dora": True}, None, "use_dora is True, but .*q_proj has no magnitudes"),
    "another rank": ({"rank_pattern": {"q_proj": 3}}, None, "lora_A.weight has the shape .* rank is 3"),
    "bad rank": ({"rank_pattern": {"q_proj": "x"}}, None, "q_proj should be of type int"),
    "not named": ({"target_modules": ["q_proj"]}, None, "v_proj has adapters, but is no target module"),
    "not all": ({"target_modules": ["q_proj", "v_proj", "k_proj"]}, None, "k_proj is a target module, but"),
    "bad expression": ({"exclude_modules": "("}, None, "exclude_modules: '.' is no regular expression"),
    "endless expression": ({"exclude_modules": r"(\w|\w)*!"}, None, "repeats too much"),
    "layer lost": (None, lambda key: None if key.startswith(Q1) else key, "layers.1.self_attn.q_proj is a"),
    "half lost": (None, lambda key: None if key == f"{Q1}.lora_B.weight" else key, "1 missing: .*lora_B"),
    "encoder": (None, lambda key: key.replace("model.layers", "ear.layers"), "8 unexpected: .*ear.layers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_by_name(model, changed, tmp_path, name):
    settings, rename, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as caught:
        convert(model, tmp_path / "out", adapters=changed(settings, rename))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_settings_that_are_off_do_no_harm(model, changed, tmp_path):
    off = {
        "alora_invocation_tokens": None,
        "use_qalora": False,
        "later": None,
        "other": {},
        "peft_version": "9",
    }
    convert(model, tmp_path / "out", adapters=changed(off | {"qalora_group_size": 16, "loftq_config": {}}))


def test_modules_of_the_settings_are_those_of_the_library():
    peft = pytest.importorskip("peft", reason="needs peft (extra dev)")
    from peft.tuners.tuners_utils import check_target_module_exists

    for values in (
        {"target_modules": ["q_proj", "mlp.up_proj"], "exclude_modules": ["layers.1.mlp.up_proj"]},
        {"target_modules": r".*\.[01]\.self_attn\.(q|k)_proj", "exclude_modules": r".*1.*k_proj"},
        {"target_modules": ["q_proj"], "layers_to_transform": [0, 2], "layers_pattern": "layers"},
        {"target_modules": ["v_proj"], "layers_to_transform": 1},
    ):
        library, ours = peft.LoraConfig(**values), read_settings({"r": 1, "lora_alpha": 1, **values}, "x")
        for layer in range(3):
            for module in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.up_proj"):
                name = f"model.layers.{layer}.{module}"
                found = check_target_module_exists(library, name)
                assert ours.adapts(name) == (type(found).__name__ != "_ExcludedModule" and bool(found)), name
