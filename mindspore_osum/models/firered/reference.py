"""The encoder in PyTorch, as a reference for our cells; it shares no code with them.

One recording at a time, without padding; the positional term by the definition (Dai et al. 2019, eq. 9): a
vector for the difference of every pair of frames.

Legend: T fbank frames, U encoder frames, F bins, D width, H heads, E head size.
"""

import torch
from torch import Tensor
from torch.nn import functional


def encode(cfg, weights: dict[str, Tensor], fbank_TF: Tensor) -> Tensor:
    """(T, F) -> (U, D) with weights by WeNet's names; with its table of positions, from the largest
    difference to the smallest, where they have one."""
    w, table = weights, weights.get("embed.pos_enc.pe")
    stored = {} if table is None else {"table": table.reshape(-1, table.shape[-1])}
    x_TF = (fbank_TF - w["global_cmvn.mean"]) * w["global_cmvn.istd"]
    x_TF = torch.cat([x_TF, torch.zeros(6, x_TF.shape[1])])
    x = functional.relu(functional.conv2d(x_TF[None, None], *_affine(w, "embed.conv.0"), stride=2))
    x = functional.relu(functional.conv2d(x, *_affine(w, "embed.conv.2"), stride=2))
    x_UD = functional.linear(x[0].transpose(0, 1).flatten(1), *_affine(w, "embed.out.0"))
    for i in range(cfg.n_layers):
        prefix = f"encoders.{i}."
        own = {k[len(prefix) :]: v for k, v in w.items() if k.startswith(prefix)}
        x_UD = _layer(cfg, own | stored, x_UD)
    return x_UD


def _affine(w, name: str):
    return w[f"{name}.weight"], w.get(f"{name}.bias")


def _norm(cfg, w, name: str, x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], *_affine(w, name), cfg.norm_eps)


def _layer(cfg, w, x: Tensor) -> Tensor:
    def feed_forward(name: str, norm: str) -> Tensor:
        y = functional.linear(_norm(cfg, w, norm, x), *_affine(w, f"{name}.w_1"))
        return functional.linear(functional.silu(y), *_affine(w, f"{name}.w_2"))

    x = x + feed_forward("feed_forward_macaron", "norm_ff_macaron") / 2
    x = x + _attention(cfg, w, x)
    y_DU = _norm(cfg, w, "norm_conv", x).T
    y_CU = functional.glu(functional.conv1d(y_DU, w["conv_module.pointwise_conv1.weight"]), 0)
    depthwise = w["conv_module.depthwise_conv.weight"]
    y_CU = functional.conv1d(y_CU, depthwise, padding=depthwise.shape[2] // 2, groups=len(depthwise))
    y_UC = functional.silu(_norm(cfg, w, "conv_module.norm", y_CU.T))
    x = x + functional.conv1d(y_UC.T, w["conv_module.pointwise_conv2.weight"]).T
    return _norm(cfg, w, "norm_final", x + feed_forward("feed_forward", "norm_ff") / 2)


def _attention(cfg, w, x_UD: Tensor) -> Tensor:
    u, d = x_UD.shape

    def projected(name: str) -> Tensor:
        y = _norm(cfg, w, f"self_attn.layer_norm_{name}", x_UD)
        return functional.linear(y, w[f"self_attn.linear_{name}.weight"]).reshape(u, cfg.n_heads, -1)

    q_UHE, k_UHE, v_UHE = map(projected, "qkv")
    difference_UU = torch.arange(u)[:, None] - torch.arange(u)
    if (table_RD := w.get("table")) is not None:
        position_UUD = table_RD[len(table_RD) // 2 - difference_UU]
    else:
        angle = difference_UU[..., None] * 10000 ** (-torch.arange(0, d, 2) / d)
        position_UUD = torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)
    p_UUHE = functional.linear(position_UUD, w["self_attn.linear_pos.weight"]).reshape(u, u, cfg.n_heads, -1)
    score_HUU = torch.einsum("ihe,jhe->hij", q_UHE + w["self_attn.pos_bias_u"], k_UHE)
    score_HUU = score_HUU + torch.einsum("ihe,ijhe->hij", q_UHE + w["self_attn.pos_bias_v"], p_UUHE)
    weight_HUU = (score_HUU / (d // cfg.n_heads) ** 0.5).softmax(-1)
    mixed_UD = torch.einsum("hij,jhe->ihe", weight_HUU, v_UHE).flatten(1)
    return functional.linear(mixed_UD, w["self_attn.linear_out.weight"])
