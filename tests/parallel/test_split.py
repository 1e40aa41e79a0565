"""Parts a model cannot be cut into, by name."""

from dataclasses import replace

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.models.sharding import ParallelConfig, check_split
from mindspore_osum.systems.osum.config import ModelConfig

CFG = ModelConfig()


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"model_parallel": 3}, "decoder.n_heads 32 is not divisible by 3"),
        ({"model_parallel": 16}, "decoder.n_kv_heads 8 is not divisible by 16"),
        ({"pipeline_stage": 35}, "35 stages for 34 decoder layers"),
    ],
)
def test_what_does_not_divide_is_named(parts, says):
    with pytest.raises(UserError, match=says):
        check_split(CFG.decoder, ParallelConfig(**parts))


def test_a_vocabulary_is_cut_only_where_it_is_asked_for():
    odd = replace(CFG, decoder=replace(CFG.decoder, vocab_size=153377))
    check_split(odd.decoder, ParallelConfig(model_parallel=8))
    with pytest.raises(UserError, match="decoder.vocab_size 153377 is not divisible by 8"):
        check_split(odd.decoder, ParallelConfig(model_parallel=8, vocab_emb_dp=False))


def test_a_tied_head_is_in_one_stage_with_the_embedding():
    tied = replace(CFG, decoder=replace(CFG.decoder, tie_embeddings=True))
    check_split(tied.decoder, ParallelConfig(model_parallel=2))
    with pytest.raises(UserError, match="shares the embedding's weight"):
        check_split(tied.decoder, ParallelConfig(pipeline_stage=2))


def test_norms_of_heads_are_refused():
    with pytest.raises(UserError, match="qk_norm"):
        check_split(replace(CFG.decoder, qk_norm=True), ParallelConfig(data_parallel=2))


def test_the_7b_model_is_cut_over_eight_devices():
    for parts in (
        {"model_parallel": 8, "vocab_emb_dp": False},
        {"data_parallel": 2, "model_parallel": 4},
        {"pipeline_stage": 2, "model_parallel": 4},
    ):
        check_split(CFG.decoder, ParallelConfig(**parts))


def test_rows_are_cut_further_for_norms_of_the_decoder_alone():
    p = ParallelConfig(data_parallel=2, model_parallel=8, context_parallel=3, use_seq_parallel=True)
    assert (p.rows, p.norm_rows) == (6, 48)
    frames = p.of_frames(CFG.adapter.n_heads, CFG.adapter.d_ff)
    assert (frames.rows, frames.norm_rows, frames.model_parallel) == (2, 2, 4)  # the adapter has 4 heads
    assert p.of_frames(CFG.encoder.n_heads, CFG.encoder.d_ff).model_parallel == 8
