"""What cost.py writes down, against what MindSpore compiles of the real cells, operator by operator."""

from collections import Counter
from dataclasses import replace
from itertools import cycle, islice

import pytest

pytest.importorskip("mindspore")

from mindspore_osum.data.batches.batching import bucket_shapes  # noqa: E402
from mindspore_osum.models.adapters.config import AdapterConfig  # noqa: E402
from mindspore_osum.models.adapters.kinds import kinds  # noqa: E402
from mindspore_osum.models.aligner.config import AlignerConfig  # noqa: E402
from mindspore_osum.models.firered.config import FireRedConfig  # noqa: E402
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig  # noqa: E402
from mindspore_osum.models.projector.config import ProjectorConfig  # noqa: E402
from mindspore_osum.models.whisper.config import EncoderConfig, TextDecoderConfig  # noqa: E402
from mindspore_osum.planning.job import Batch, Job  # noqa: E402
from mindspore_osum.planning.programs import decoding, prefill, training  # noqa: E402
from mindspore_osum.systems.linear_aligner.config import LinearAlignerConfig  # noqa: E402
from mindspore_osum.systems.linear_aligner.job import Sections as AlignerSections  # noqa: E402
from mindspore_osum.systems.osum.config import ModelConfig  # noqa: E402
from mindspore_osum.systems.touch_asu import job as asu_job  # noqa: E402
from mindspore_osum.systems.touch_asu.config import TouchAsuConfig  # noqa: E402
from mindspore_osum.systems.whisper_asr import job as whisper_job  # noqa: E402
from mindspore_osum.systems.whisper_asr.config import WhisperConfig  # noqa: E402
from tests.planning.compiled import answering, objective_products, products  # noqa: E402

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


ENCODER = EncoderConfig(d_model=24, n_layers=1, n_heads=3, d_ff=40)
LORA = LoraConfig(rank=3, dropout=0.0)
ASU = TouchAsuConfig(
    encoder=ENCODER,
    positions=50,
    adapter=ProjectorConfig(stride=4, d_hidden=28),
    decoder=BARE.decoder,
    lora=LORA,
    eos_ids=(2,),
    max_speech_frames=100,
)
FIRERED = replace(
    ASU,
    encoder=FireRedConfig(n_mels=31, d_model=24, n_layers=2, n_heads=3, d_ff=40, conv_channels=5, kernel=7),
    adapter=ProjectorConfig(stride=2, d_hidden=28),
)
ALIGNER = LinearAlignerConfig(
    encoder=ENCODER, adapter=AlignerConfig(frames_per_token=8, dims=20), decoder=DECODER, lora=LORA
)


def whisper_asr(losses: dict):
    return whisper_job.Sections(loss=whisper_job.Loss(0.1 if losses else 0.0))


def touch_asu(losses: dict):
    return asu_job.Sections(loss=asu_job.Loss(bool(losses)))


def linear_aligner(losses: dict):
    return AlignerSections()


OBJECTIVES = {
    "whisper, smoothed": (WHISPER, ["encoder", "decoder"], {"smoothing": True}, whisper_asr),
    "whisper, decoder": (WHISPER, ["decoder"], {}, whisper_asr),
    "touch_asu, all text": (ASU, ["adapter", "lora"], {"all_text": True}, touch_asu),
    "touch_asu, answers": (ASU, ["encoder", "adapter", "decoder"], {}, touch_asu),
    "firered, frozen": (FIRERED, ["adapter", "lora"], {"all_text": True}, touch_asu),
    "firered": (FIRERED, ["encoder", "adapter", "decoder"], {}, touch_asu),
    "linear_aligner": (ALIGNER, ["adapter", "lora"], {}, linear_aligner),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_other_systems_train_with_the_products_of_their_graphs(name):
    cfg, learn, losses, sections = OBJECTIVES[name]
    rows, frames, text = shape = [3, 44, 9]
    (found,) = bucket_shapes(cfg, rows, [frames], text)
    tape = training(
        Job(cfg, frozenset(learn), fused=False, **losses), Batch(rows, rows, frames, found.length, text)
    )
    want = Counter(objective_products(cfg, learn, shape, sections(losses)))
    got = Counter(step.flops for step in tape.steps if step.flops)
    assert got == want, f"more: {got - want}, missing: {want - got}"


ENGLISH = replace(WHISPER, decoder=replace(WHISPER.decoder, vocab_size=51864, eos_id=50256), languages=99)


ANSWERS = {"multilingual": WHISPER, "English": ENGLISH, "touch_asu": ASU, "linear_aligner": ALIGNER}
ANSWERS["firered"] = FIRERED


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_of_other_systems_have_the_products_of_their_graphs(name):
    """A Whisper's prompt has the detection of its language; long prompts are read in blocks."""
    cfg = ANSWERS[name]
    rows, length, slots = 4, {"English": 256, "linear_aligner": 448}.get(name, 64), 512
    job, batch = Job(cfg, frozenset(), fused=False), Batch(rows, rows, cfg.most_frames, length, 1)
    graphs = answering(cfg, rows, length, slots)
    for name, tape in {"prefill": prefill(job, batch), "step": decoding(job, rows, slots)}.items():
        want, got = Counter(graphs[name]), Counter(step.flops for step in tape.steps if step.flops)
        assert got == want, f"{name}: more: {got - want}, missing: {want - got}"
