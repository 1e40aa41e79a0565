"""The other side of a verification: a checkpoint run by PyTorch and transformers, in a process of its own.

``python -m ckpt_convert.reference SOURCE PART CONFIG LAYERS INPUT.npz OUTPUT.npz REFERENCE`` builds the
source's model from classes of transformers (and the adapter in plain torch), not from our cells or key
tables, and saves what it computes. LAYERS is a number of first layers, or "all". Where PyTorch is absent,
MindNLP's stand-in for it runs the same code on MindSpore; it replaces `torch` in the process that imports it,
which is why this is a process of its own.

Legend: T mel frames, F mel bins, U encoder frames, Z speech tokens, D width, L positions, V vocabulary.
"""

import importlib.util
import re
import sys

import numpy as np

from ckpt_convert.sources import Source, open_source
from mindspore_osum.files import read_json
from mindspore_osum.folder import CONFIG
from mindspore_osum.models.llama.hugging_face import decoder_hf_config
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.registry import from_values, system_of

# pieces of a published or openai encoder key -> transformers' piece
_TO_TRANSFORMERS = (
    (r"^embed\.conv\.0\.", "conv1."),
    (r"^embed\.conv\.2\.", "conv2."),
    (r"^(encoders|blocks)\.", "layers."),
    (r"^(after_norm|ln_post)\.", "layer_norm."),
    (r"(norm1|attn_ln)\.", "self_attn_layer_norm."),
    (r"(norm2|mlp_ln)\.", "final_layer_norm."),
    (r"self_attn\.linear_out", "self_attn.out_proj"),
    (r"self_attn\.linear_([qkv])", r"self_attn.\1_proj"),
    (r"\.attn\.out\.", ".self_attn.out_proj."),
    (r"\.attn\.([qkv])(uery|ey|alue)\.", r".self_attn.\1_proj."),
    (r"feed_forward\.w_([12])", r"fc\1"),
    (r"\.mlp\.0\.", ".fc1."),
    (r"\.mlp\.2\.", ".fc2."),
)


REFERENCES = ("auto", "torch", "mindnlp")  # auto: torch where it is installed


def import_torch(by: str):
    """The torch to compute with and what to call it; `by` is one of `REFERENCES`."""
    if by == "auto":
        by = "torch" if importlib.util.find_spec("torch") else "mindnlp"
    if by == "mindnlp":
        import mindnlp  # from here on, `import torch` finds its stand-in
    import torch

    return torch, f"mindnlp {mindnlp.__version__}" if by == "mindnlp" else f"torch {torch.__version__}"


class Reference:
    """The models of one source, in float32.

    Attributes
    ----------
    keys : key without `module.` -> key, of the layers that are run.
    """

    def __init__(self, torch, source: Source, cfg: ModelConfig, layers: int | None):
        self.torch, self.layers = torch, layers
        self.source, self.cfg = source, system_of(cfg.model_type).verification().first_layers(cfg, layers)
        keys = {key.removeprefix("module."): key for key in source.weights.infos}
        self.keys = {plain: key for plain, key in keys.items() if not _is_beyond(plain, layers)}

    def tensor(self, key: str):
        """One tensor of the source as float32."""
        values = self.source.weights.read(self.keys[key]).astype(np.float32)
        return self.torch.from_numpy(np.array(values))

    def encoder(self, mel_TF: np.ndarray):
        """Encoder frames (1, U, D) by transformers' WhisperEncoder, on the audio as it is (T even)."""
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        enc, frames = self.cfg.encoder, mel_TF.shape[0] // 2
        config = WhisperConfig(
            num_mel_bins=enc.n_mels,
            d_model=enc.d_model,
            encoder_layers=enc.n_layers,
            encoder_attention_heads=enc.n_heads,
            encoder_ffn_dim=enc.d_ff,
            max_source_positions=frames,
            vocab_size=8,
            pad_token_id=0,
        )
        model = WhisperEncoder(config).eval()
        state = {}
        for key in self.keys:
            tail = re.sub(r"^(model\.)?encoder\.", "", key)
            if tail == key or re.search("pos_enc|position", tail):
                continue
            for pattern, replacement in _TO_TRANSFORMERS if self.source.form.name != "hf_whisper" else ():
                tail = re.sub(pattern, replacement, tail)
            state[tail] = self.tensor(key)
        state["embed_positions.weight"] = self._positions(frames)
        model.load_state_dict(state)
        return model(self.torch.from_numpy(mel_TF.T[None].copy())).last_hidden_state

    def _carried(self, pattern: str):
        """A table of positions of the checkpoint, if it has one in float32; 16 bits would have rounded it."""
        keys = [k for k in self.keys if re.search(pattern, k)]
        if not keys or self.source.weights.infos[self.keys[keys[0]]].dtype != "F32":
            return None
        return self.tensor(keys[0]).reshape(-1, self.cfg.encoder.d_model)

    def _positions(self, rows: int):
        """The encoder's positions as the checkpoint carries them, else as transformers computes them."""
        from transformers.models.whisper.modeling_whisper import sinusoids

        table = self._carried(r"(^|\.)encoder\.(embed\.pos_enc\.pe|.*position.*)$")
        return sinusoids(rows, self.cfg.encoder.d_model) if table is None else table[:rows]

    def _adapter_positions(self, rows: int):
        """The same for the adapter: sin and cos interleaved (Vaswani et al. 2017)."""
        table = self._carried(r"^speech_transformer\.embed\.pos_enc\.pe$")
        if table is not None:
            return table[:rows]
        torch, d = self.torch, self.cfg.encoder.d_model
        angles = torch.arange(rows)[:, None] * torch.exp(torch.arange(0, d, 2) * (-np.log(10000.0) / d))
        return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(rows, d)

    def adapter(self, x_1UD):
        """Speech tokens (1, Z, D) by the released form: 3 causal Conv1d, Transformer layers, projection."""
        functional, t = self.torch.nn.functional, self.tensor
        x = x_1UD.transpose(1, 2)
        for place, stride in ((1, 1), (4, 2), (7, 2)):
            conv = f"down_sample_2.conv.{place}"
            x = functional.conv1d(
                functional.pad(x, (2, 0)), t(f"{conv}.weight"), t(f"{conv}.bias"), stride=stride
            )
            x = functional.gelu(x)
        prefix = "speech_transformer"
        x = self._norm(
            self._linear(x.transpose(1, 2), f"{prefix}.embed.out.0"), f"{prefix}.embed.out.1", 1e-5
        )
        x = x * x.shape[-1] ** 0.5 + self._adapter_positions(x.shape[1])
        eps = self.cfg.adapter.norm_eps
        for i in range(self.cfg.adapter.n_layers):
            layer = f"{prefix}.encoders.{i}"
            x = x + self._attention(self._norm(x, f"{layer}.norm1", eps), f"{layer}.self_attn")
            hidden = self._linear(self._norm(x, f"{layer}.norm2", eps), f"{layer}.feed_forward.w_1")
            x = x + self._linear(functional.relu(hidden), f"{layer}.feed_forward.w_2")
        return self._linear(self._norm(x, f"{prefix}.after_norm", eps), "speech_llama_proj")

    def _linear(self, x, module: str):
        return self.torch.nn.functional.linear(
            x, self.tensor(f"{module}.weight"), self.tensor(f"{module}.bias")
        )

    def _norm(self, x, module: str, eps: float):
        weight, bias = self.tensor(f"{module}.weight"), self.tensor(f"{module}.bias")
        return self.torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, eps)

    def _attention(self, x, module: str):
        b, length, d = x.shape
        heads = self.cfg.adapter.n_heads
        q, k, v = (
            self._linear(x, f"{module}.linear_{name}").reshape(b, length, heads, d // heads).transpose(1, 2)
            for name in "qkv"
        )
        weights = self.torch.softmax(q @ k.transpose(-1, -2) / (d // heads) ** 0.5, dim=-1)
        return self._linear((weights @ v).transpose(1, 2).reshape(b, length, d), f"{module}.linear_out")

    def decoder(self):
        """The causal language model of transformers, with LoRA added to its weights."""
        from transformers import AutoConfig, AutoModelForCausalLM

        if self.source.form.name == "hf_decoder":
            values = read_json(self.source.path / CONFIG)
            if self.layers is not None:
                values["num_hidden_layers"] = min(self.layers, values["num_hidden_layers"])
            if values["model_type"] == "PanguEmbedded":
                # the same computation as Llama's with biases on all four projections
                values |= {"model_type": "llama", "attention_bias": values["bias"]}
                values.pop("auto_map", None)  # no code of the checkpoint is run
        else:
            values = decoder_hf_config(self.cfg.decoder)
        config = AutoConfig.for_model(**values)
        model = AutoModelForCausalLM.from_config(config, dtype=self.torch.float32).eval()
        state = self._decoder_state()
        if config.tie_word_embeddings:
            state["lm_head.weight"] = state["model.embed_tokens.weight"]
        model.load_state_dict(state)
        return model

    def _decoder_state(self) -> dict:
        state = {}
        for key in self.keys:
            if self.source.form.name == "published":
                if not key.startswith("llama_model."):
                    continue
                name = key.removeprefix("llama_model.").removeprefix("base_model.model.")
            else:
                name = key
            if "lora_" in name or name.endswith("inv_freq"):
                continue
            value = self.tensor(key)
            module = re.sub(r"(\.base_layer)?\.weight$", "", key)
            if f"{module}.lora_A.default.weight" in self.keys:
                low, high = (self.tensor(f"{module}.lora_{x}.default.weight") for x in "AB")
                # a merged folder has kept alpha, but its rank is 0
                value = value + self.cfg.lora.alpha / low.shape[0] * (high @ low)
            state[name.replace(".base_layer.", ".")] = value
        return state

    def run(self, mel_TF: np.ndarray, ids_L: np.ndarray, part: str) -> dict[str, np.ndarray]:
        """The stages that the source has: `encoder` (U, D), `speech` (Z, D), `logits` (L, V).

        `part` is what was taken from the source: "model", or its "encoder" or "decoder" only.
        """
        torch, out = self.torch, {}
        speech, form = None, self.source.form.name
        with torch.no_grad():
            if form != "hf_decoder" and part != "decoder":
                frames = self.encoder(mel_TF)
                out["encoder"] = frames[0]
            if form == "published" and part == "model":
                speech = self.adapter(frames)
                out["speech"] = speech[0]
            if form in ("published", "hf_decoder") and part != "encoder":
                model = self.decoder()
                x = model.get_input_embeddings()(torch.from_numpy(ids_L)[None])
                if speech is not None:
                    marks = self.tensor("speech_token_emded.weight")[None, -2:]
                    half = x.shape[1] // 2
                    x = torch.cat([x[:, :half], marks[:, :1], speech, marks[:, 1:], x[:, half:]], dim=1)
                out["logits"] = model(inputs_embeds=x).logits[0]
        return {name: value.detach().numpy() for name, value in out.items()}


def _is_beyond(key: str, layers: int | None) -> bool:
    """Whether a key without `module.` is of a layer of encoder or decoder that is not run."""
    number = re.search(r"(?:^|\.)(?:encoders|blocks|layers)\.(\d+)\.", key)
    run = layers is None or number is None or key.startswith("speech_transformer.")
    return not run and int(number[1]) >= layers


def main(argv: list[str]) -> int:
    """SOURCE PART CONFIG LAYERS INPUT OUTPUT BY; see the module's text."""
    source, part, config, layers, given, output, by = argv
    cfg = from_values(read_json(config), config)
    inputs, opened = np.load(given), open_source(source, system_of(cfg.model_type))
    torch, name = import_torch(by)
    reference = Reference(torch, opened, cfg, None if layers == "all" else int(layers))
    results = reference.run(inputs["mel_TF"], inputs["ids_L"], part)
    np.savez(output, by=np.array(name), **results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
