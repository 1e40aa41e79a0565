"""The PyTorch reference of the package over weights in our names, so that gradients come in our names too.

Each takes one utterance without padding: that is what a padded batch has to reproduce.

Legend: T mel frames, F mel bins, U encoder frames, Z speech tokens, L positions, D width, V vocabulary.
"""

import numpy as np
import pytest

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.systems.osum.config import ModelConfig

torch = pytest.importorskip("torch", reason="needs torch, the reference: pip install -e .[dev]")

from mindspore_osum.models.adapters import reference as adapters  # noqa: E402
from mindspore_osum.models.llama import reference as llama  # noqa: E402
from mindspore_osum.models.whisper import reference as whisper  # noqa: E402
from mindspore_osum.systems.osum.reference import Osum, module_name  # noqa: E402

F = torch.nn.functional
Weights = dict[str, "torch.Tensor"]


def tensors(values: dict[str, np.ndarray], grad: bool = False) -> Weights:
    """Arrays by name -> tensors that share their memory."""
    return {name: torch.from_numpy(value).requires_grad_(grad) for name, value in values.items()}


def part(weights: Weights, prefix: str) -> Weights:
    """The entries below `prefix.`, without it."""
    return {
        name[len(prefix) + 1 :]: value for name, value in weights.items() if name.startswith(prefix + ".")
    }


def _call(module, weights: Weights, *args, own: tuple[str, ...] = (), **kwargs):
    """module(*args) with `weights`, which must be all its parameters but those in `own`."""
    missing = {name for name, _ in module.named_parameters()} ^ (set(weights) | set(own))
    assert not missing, sorted(missing)
    return torch.func.functional_call(module.eval(), weights, args, kwargs)


def whisper_encoder(cfg: EncoderConfig, weights: Weights, mel_TF):
    """(T, F) -> (U, D)."""
    named = {whisper.name_of(name): value for name, value in weights.items()}
    return _call(whisper.Encoder(cfg), named, mel_TF[None], own=(whisper.POSITIONS,))[0]


def adapter(cfg: AdapterConfig, weights: Weights, x_UD):
    """(U, D) encoder frames -> (Z, d_out) speech tokens."""
    module = adapters.adapter(cfg, x_UD.shape[1], len(weights["proj.bias"]))
    return _call(module, weights, x_UD[None])[0]


def decoder(cfg: DecoderConfig, lora: LoraConfig, weights: Weights, x_LD, first_position: int = 0):
    """Hidden states after the last norm (L, D), and logits (L, V)."""
    positions_1L = torch.arange(len(x_LD))[None] + first_position
    out = _call(
        llama.add_lora(llama.language_model(cfg), lora),
        weights,
        inputs_embeds=x_LD[None],
        position_ids=positions_1L,
        output_hidden_states=True,
        use_cache=False,
    )
    return out.hidden_states[-1][0], out.logits[0]


def merged(weights: Weights, lora: LoraConfig) -> Weights:
    """LoRA merged: W + alpha/r B A."""
    out = {name: value for name, value in weights.items() if "lora_" not in name}
    for name in [n for n in weights if n.endswith(".lora_A.weight")]:
        base = name.removesuffix(".lora_A.weight")
        low = weights[f"{base}.lora_B.weight"] @ weights[name]
        out[f"{base}.weight"] = weights[f"{base}.weight"] + lora.alpha / lora.rank * low
    return out


def logits(cfg: ModelConfig, weights: Weights, mel_TF, ids: list[int]):
    """Speech tokens (Z, D), input embeddings (L, D) and logits (L, V) of one utterance.

    Parameters
    ----------
    ids : the hybrid sequence: -2 speech begin, -1 a speech token, -3 speech end, else text.
    """
    ids_L = torch.tensor(ids)
    row_L = torch.where(ids_L == -1, 1 + (ids_L == -1).cumsum(0), -1)
    row_L = torch.where(ids_L == -2, 0, torch.where(ids_L == -3, 1, row_L))
    named = {module_name(name): value for name, value in weights.items()}
    inputs = mel_TF[None], ids_L.clamp(min=0)[None], row_L[None]
    z_1ZD, x_1LD, logits_1LV = _call(Osum(cfg), named, *inputs, own=(f"encoder.{whisper.POSITIONS}",))
    assert int((ids_L == -1).sum()) == z_1ZD.shape[1], "the sequence must use every speech token"
    return z_1ZD[0], x_1LD[0], logits_1LV[0]


def loss(cfg: ModelConfig, weights: Weights, items):
    """Mean cross-entropy over all labels of the items (with .mel_TF, .ids, .labels), each computed alone."""
    total, count = 0.0, 0
    for item in items:
        scores_LV = logits(cfg, weights, torch.from_numpy(item.mel_TF), item.ids)[2]
        labels_L = torch.tensor(item.labels)
        total = total + F.cross_entropy(scores_LV[:-1], labels_L[1:], ignore_index=-100, reduction="sum")
        count += int((labels_L[1:] != -100).sum())
    return total / count
