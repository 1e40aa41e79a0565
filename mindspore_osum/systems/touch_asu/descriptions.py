"""WEST's config.json of a TouchASU, and the parts that it names <-> our configuration.

Notable choices
- WEST's file has no sizes: they are those of the folders it names, `config.json` of the LLM and `train.yaml`
  of the encoder, which are looked for beside the file, beside its folder, and where the command runs; the
  sizes of some published parts are known by their names.
- What our cells lack is refused by name, never ignored.
"""

import re
from dataclasses import fields
from pathlib import Path

from mindspore_osum.config import Reader, merge, read_yaml
from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json
from mindspore_osum.models.firered.config import ENCODERS as FIRERED_ENCODERS
from mindspore_osum.models.firered.config import MAX_FRAMES
from mindspore_osum.models.firered.config import STRIDE as FIRERED_STRIDE
from mindspore_osum.models.firered.wenet import encoder_values
from mindspore_osum.models.llama import peft
from mindspore_osum.models.llama.config import DECODERS
from mindspore_osum.models.llama.hugging_face import decoder_values
from mindspore_osum.models.whisper.config import ENCODERS
from mindspore_osum.models.whisper.config import STRIDE as WHISPER_STRIDE
from mindspore_osum.systems.touch_asu.config import IM_END, TouchAsuConfig

LLM, WENET = "llm_model_name_or_path", "wenet_model_name_or_path"
GENERATION = "generation_config.json"
_WEST = {"architectures": ["TouchASU"], "transformers_version": "4.52.3"}
_FIRERED = {"firered": FIRERED_ENCODERS["firered-l"]}
_LORA = {"inference_mode": False, "task_type": "CAUSAL_LM"}


def described(cfg: TouchAsuConfig) -> dict:
    """WEST's config.json."""
    lora = {
        "lora_alpha": int(cfg.lora.alpha) if cfg.lora.alpha == int(cfg.lora.alpha) else cfg.lora.alpha,
        "lora_dropout": cfg.lora.dropout,
        "r": cfg.lora.rank,
        "target_modules": list(cfg.lora.targets),
    }
    return {
        **_WEST,
        "model_type": cfg.model_type,
        LLM: cfg.llm,
        WENET: cfg.wenet,
        "encoder_ds_rate": cfg.frames_per_token // cfg.adapter.stride,
        "encoder_projector_ds_rate": cfg.adapter.stride,
        "projector_hidden_size": cfg.adapter.d_hidden,
        "hidden_size": cfg.decoder.d_model,
        "lora_config": _LORA | lora if cfg.lora.rank else None,
        "min_speech_frames": cfg.min_speech_frames,
        "max_speech_frames": cfg.max_speech_frames,
        "torch_dtype": cfg.dtype,
    }


def generation(cfg: TouchAsuConfig) -> dict:
    """The generation_config.json that WEST's recipes put beside it."""
    return {
        "do_sample": False,
        "eos_token_id": list(cfg.eos_ids),
        "max_new_tokens": 50,
        "transformers_version": "4.37.0",
    }


def stated(values: dict, where: str) -> dict:
    """Values of our configuration that WEST's file and the parts it names state.

    Parameters
    ----------
    where : the file.
    """
    read = Reader(values, where)
    llm, wenet = read.get(LLM, str, TouchAsuConfig.llm), read.get(WENET, str, TouchAsuConfig.wenet)
    found = {
        "llm": llm,
        "wenet": wenet,
        "adapter": {
            "stride": read.get("encoder_projector_ds_rate", int, 2),
            "d_hidden": read.get("projector_hidden_size", int, 2048),
        },
        "min_speech_frames": read.get("min_speech_frames", int, 20),
        "max_speech_frames": read.get("max_speech_frames", int, 2000),
        "encoder": _encoder(wenet, where),
        "lora": _lora(read.get("lora_config", dict, {}), f"{where}: lora_config"),
        "decoder": _decoder(llm, where),
    }
    rates = {WHISPER_STRIDE} if found["encoder"] else {WHISPER_STRIDE, FIRERED_STRIDE}
    if "kind" in found["encoder"]:
        rates = {FIRERED_STRIDE}
    read.refuse(
        "encoder_ds_rate", tuple(rates), f"the encoder {wenet!r} has {' or '.join(map(str, sorted(rates)))}"
    )
    file = _beside(llm, GENERATION, where)
    ends = values.get(GENERATION) or (read_json(file) if file else {})
    ends = ends.get("eos_token_id") if isinstance(ends, dict) else None
    if ends is not None:
        found["eos_ids"] = ends if isinstance(ends, list) else [ends]
    return {key: value for key, value in found.items() if value != {}}


def own_values(values: dict, where: str) -> dict:
    """A description of ours, also of a file of WEST, whose parts must be found."""
    if LLM not in values and WENET not in values:
        return values
    found = stated(values, where)
    for part, key in (("decoder", LLM), ("encoder", WENET)):
        if part not in found:
            raise UserError(
                f"{where}: {key} {values.get(key)!r} is neither a folder with a description nor a name "
                "whose sizes are known; name the folder"
            )
    ours = {field.name for field in fields(TouchAsuConfig)} - found.keys()
    base = TouchAsuConfig().to_dict()
    if "kind" in found["encoder"]:
        base |= {"encoder": {}, "positions": MAX_FRAMES}
    return merge(base, found) | {key: values[key] for key in ours & values.keys()}


def _lora(values: dict, where: str) -> dict:
    if not values:
        return {"rank": 0}
    read = Reader(values, where)
    settings = peft.read_settings({"peft_type": "LORA", **values}, where)
    targets = values.get("target_modules")
    read.refuse("use_dora", (False,), "only LoRA is")
    read.refuse("use_rslora", (False,), "the scale is alpha / rank")
    read.refuse("rank_pattern", ({},), "all modules have one rank")
    read.refuse("alpha_pattern", ({},), "all modules have one alpha")
    known = {"rank": settings.rank, "alpha": settings.alpha, "dropout": settings.dropout}
    return known | ({"targets": targets} if isinstance(targets, list) else {})


def _decoder(name: str, where: str) -> dict:
    file = _beside(name, "config.json", where)
    if file is not None:
        return decoder_values(read_json(file), str(file))
    known = name.rpartition("/")[2].lower()
    base = DECODERS.get(known.removesuffix("-instruct"))
    if base is None or not known.startswith("qwen"):
        return {}
    return vars(base) | ({"eos_id": IM_END} if known.endswith("-instruct") else {})


def _encoder(name: str, where: str) -> dict:
    file = _beside(name, "train.yaml", where)
    if file is None:
        known = re.sub("^whisp?er-|-turbo$", "", name.rpartition("/")[2])  # WeNet has one without p
        return dict(vars((ENCODERS | _FIRERED)[known])) if known in ENCODERS | _FIRERED else {}
    values = read_yaml(str(file))
    Reader(values, str(file)).refuse("model", ("whisper", "firered"), "its encoder is neither of the two")
    read = Reader(Reader(values, str(file)).get("encoder_conf", dict), f"{file}: encoder_conf")
    if values.get("model") == "firered":
        n_mels = Reader(values, str(file)).get("input_dim", int)
        return {"n_mels": n_mels} | encoder_values(read)
    read.refuse("activation_type", ("gelu",), "the encoder uses the exact GELU")
    read.refuse("input_layer", ("conv1d2",), "the encoder's convolutions are Whisper's")
    read.refuse("pos_enc_layer_type", ("abs_pos_whisper",), "its positions are Whisper's")
    return {
        "n_mels": Reader(values, str(file)).get("input_dim", int),
        "d_model": read.get("output_size", int),
        "n_layers": read.get("num_blocks", int),
        "n_heads": read.get("attention_heads", int),
        "d_ff": read.get("linear_units", int),
    }


def _beside(name: str, file: str, where: str) -> Path | None:
    """The file of a folder that is named in the file `where`; None if there is none."""
    folder = Path(where).parent
    places = (folder / name, folder.parent / name, Path(name)) if name else ()
    return next((place / file for place in places if (place / file).is_file()), None)
