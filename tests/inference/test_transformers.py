"""Token for token what transformers' `generate` gives for the same weights (LlamaForCausalLM with biases)."""

from dataclasses import replace

import numpy as np
import pytest

from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from tests.inference.common import SMALL, fill, random_prompt

torch = pytest.importorskip("torch", reason="needs torch, the reference: pip install -e .[dev]")
NEW, PENALTY = 40, 1.05
ENDS = [7, 60, 201, 399, 480]
DECODER = DecoderConfig(
    vocab_size=512, d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, d_ff=96, max_positions=256
)


def llama(cfg: DecoderConfig, values: dict[str, np.ndarray]):
    """transformers' model with our decoder's weights, under the same names."""
    from mindspore_osum.models.llama.reference import language_model

    module = language_model(cfg)
    ours = {
        n.removeprefix("decoder."): torch.from_numpy(v) for n, v in values.items() if n.startswith("decoder.")
    }
    module.load_state_dict(ours, strict=True)
    return module


@torch.no_grad()
def reference(module, ids_L: np.ndarray, **how) -> tuple[list[int], float]:
    """New tokens up to the end token, and the smallest distance from the best to the second score."""
    embeds = module.get_input_embeddings()(torch.from_numpy(ids_L.astype(np.int64))[None])
    out = module.generate(
        inputs_embeds=embeds,
        attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
        do_sample=False,
        max_new_tokens=NEW,
        repetition_penalty=PENALTY,
        eos_token_id=ENDS,
        pad_token_id=0,
        output_scores=True,
        return_dict_in_generate=True,
        **how,
    )
    tokens = out.sequences[0].tolist()
    best = torch.stack(out.scores)[:, 0].topk(2).values
    if tokens[-1] in ENDS:
        tokens = tokens[:-1]
    return tokens, float((best[:, 0] - best[:, 1]).min())


@pytest.fixture(scope="module")
def both():
    """Our generator, and transformers' model."""
    from mindspore_osum.inference.generate import Generator
    from mindspore_osum.systems.osum.network import OsumModel

    model = OsumModel(replace(SMALL, decoder=DECODER, lora=LoraConfig(rank=0)))
    module = llama(DECODER, fill(model, seed=8))
    return Generator(model, ENDS), module


def prompts_of(generator, count: int) -> list:
    """Random prompts.

    From two tokens on: transformers gives something else than its own forward pass after a single embedding.
    """
    rng = np.random.default_rng(11)
    return [random_prompt(generator.cfg, rng, text=int(rng.integers(2, 64))) for _ in range(count)]


@pytest.mark.parametrize("beams, length_penalty", [(4, None), (4, -1.0)])
def test_beams(both, beams, length_penalty):
    """`num_beams`, with several end tokens and the penalty, which is of log-probabilities there."""
    generator, module = both
    prompts = prompts_of(generator, 16)
    how = {"max_new_tokens": NEW, "repetition_penalty": PENALTY}
    sampling = Sampling(**how, beams=beams, length_penalty=length_penalty)
    ours = [answer for i in range(0, 16, 8) for answer in generator.generate(prompts[i : i + 8], sampling)]
    theirs = {"num_beams": beams, "length_penalty": 1.0 if length_penalty is None else length_penalty}
    cut = 0
    for prompt, answer in zip(prompts, ours, strict=True):
        tokens, _ = reference(module, prompt.sequence.ids_L, **theirs)
        assert answer.tokens == tokens
        cut += answer.cut
    assert cut < 16


def test_fifty_prompts(both, record_property):
    generator, module = both
    sampling = Sampling(max_new_tokens=NEW, repetition_penalty=PENALTY)
    prompts = prompts_of(generator, 50)
    ours = [answer for i in range(0, 50, 8) for answer in generator.generate(prompts[i : i + 8], sampling)]
    margins, ended = [], 0
    for prompt, answer in zip(prompts, ours, strict=True):
        tokens, margin = reference(module, prompt.sequence.ids_L)
        margins.append(margin)
        ended += len(tokens) < NEW
        assert answer.tokens == tokens
        assert answer.cut == (len(tokens) == NEW)
    record_property("smallest_margin", min(margins))
    assert min(margins) > 1e-4, "at the mercy of rounding: take other weights"
    assert 5 < ended < 45, "both ways to end must be seen"
