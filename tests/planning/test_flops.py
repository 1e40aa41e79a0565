"""What cost.py writes down, against what MindSpore compiles of the real cells, operator by operator."""

from collections import Counter
from dataclasses import replace
from itertools import cycle, islice

import pytest

pytest.importorskip("mindspore")

from mindspore_osum.data.batches.batching import bucket_shapes  # noqa: E402
from mindspore_osum.models.adapters.config import AdapterConfig  # noqa: E402
from mindspore_osum.models.adapters.kinds import kinds  # noqa: E402
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig  # noqa: E402
from mindspore_osum.models.whisper.config import EncoderConfig, TextDecoderConfig  # noqa: E402
from mindspore_osum.planning.job import Batch, Job  # noqa: E402
from mindspore_osum.planning.programs import decoding, prefill, training  # noqa: E402
from mindspore_osum.systems.osum.config import ModelConfig  # noqa: E402
from mindspore_osum.systems.whisper_asr.config import WhisperConfig  # noqa: E402
from tests.planning.compiled import answering, products, whisper_products  # noqa: E402

# every width another, so that no product can be taken for another one
DECODER = DecoderConfig(vocab_size=53, d_model=32, n_layers=1, n_heads=4, n_kv_heads=2, head_dim=10, d_ff=36)
CFG = ModelConfig(
    encoder=EncoderConfig(d_model=24, n_layers=1, n_heads=3, d_ff=40),
    adapter=AdapterConfig(n_layers=1, n_heads=2, d_ff=28, conv_channels=5),
    decoder=DECODER,
    lora=LoraConfig(rank=3, dropout=0.0),
    speech_token_num=3,
)
BARE = replace(
    CFG,
    decoder=replace(DECODER, qkv_bias=False, o_bias=False, qk_norm=True, tie_embeddings=True),
    lora=LoraConfig(rank=0),
)
SHAPE = [2, 44, 9]  # rows, frames, text tokens
ALL = ["encoder", "adapter", "lora", "decoder"]
FORMS = {
    "biases, LoRA": (CFG, ALL),
    "norms of heads, tied": (BARE, ALL),
    "LoRA alone learns": (CFG, ["lora"]),
}
COUNT = max(len(kinds()), len(FORMS))  # every form and every kind of adapter at least once
CASES = [
    (f"{form}, {kind}", replace(cfg, adapter=replace(cfg.adapter, kind=kind)), learn)
    for (form, (cfg, learn)), kind in islice(zip(cycle(FORMS.items()), cycle(kinds()), strict=True), COUNT)
]


@pytest.mark.parametrize(("cfg", "learn"), [case for _, *case in CASES], ids=[name for name, *_ in CASES])
def test_products_are_those_of_the_compiled_graph(cfg, learn):
    """As many of every size, forward and backward; what does not learn has none for its weights."""
    rows, frames, text = SHAPE
    (shape,) = bucket_shapes(cfg, rows, [frames], text)
    tape = training(
        Job(cfg, frozenset(learn), fused=False), Batch(rows, rows, frames, shape.length, shape.length - 1)
    )
    want, got = Counter(products(cfg, learn, SHAPE)), Counter(step.flops for step in tape.steps if step.flops)
    assert got == want, f"more: {got - want}, missing: {want - got}"
    assert sum(want.values()) > 50


WHISPER = WhisperConfig(
    encoder=EncoderConfig(d_model=24, n_layers=1, n_heads=3, d_ff=40),
    decoder=TextDecoderConfig(
        vocab_size=1531, d_model=24, n_layers=2, n_heads=4, d_ff=36, max_positions=448, eos_id=20
    ),
    languages=2,
    positions=23,
    suppressed=(),
    suppressed_first=(),
)


@pytest.mark.parametrize(("learn", "smoothing"), [(["encoder", "decoder"], 0.1), (["decoder"], 0.0)])
def test_training_of_a_whisper_has_the_products_of_its_graph(learn, smoothing):
    rows, frames, tokens = 3, 44, 9
    job = Job(WHISPER, frozenset(learn), fused=False, smoothing=smoothing > 0)
    tape = training(job, Batch(rows, rows, frames, 99, tokens))
    want = Counter(whisper_products(WHISPER, learn, [rows, frames, tokens], smoothing))
    got = Counter(step.flops for step in tape.steps if step.flops)
    assert got == want, f"more: {got - want}, missing: {want - got}"


ENGLISH = replace(WHISPER, decoder=replace(WHISPER.decoder, vocab_size=51864, eos_id=50256), languages=99)


@pytest.mark.parametrize("cfg", [WHISPER, ENGLISH], ids=["multilingual", "English"])
def test_answers_of_a_whisper_have_the_products_of_their_graphs(cfg):
    """The prompt with the detection of its language, and a step; long prompts are read in blocks."""
    rows, length, slots = 4, 64 if cfg is WHISPER else 256, 320
    job, batch = Job(cfg, frozenset(), fused=False), Batch(rows, rows, cfg.most_frames, length, 1)
    graphs = answering(cfg, rows, length, slots)
    for name, tape in {"prefill": prefill(job, batch), "step": decoding(job, rows, slots)}.items():
        want, got = Counter(graphs[name]), Counter(step.flops for step in tape.steps if step.flops)
        assert got == want, f"{name}: more: {got - want}, missing: {want - got}"
