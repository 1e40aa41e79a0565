"""A Whisper on Ascend's fused operators against the plain ones, on CPU: whisper_worker.py runs it."""

import functools

import pytest

from tests.ascend.test_fused import FLOAT32, NARROW, count

ENCODER, DECODER, STEPS = 1, 2, 4  # layers, and tokens decoded


DTYPES = ["bfloat16", *(pytest.param(name, marks=pytest.mark.slow) for name in ("float16", "float32"))]


@pytest.fixture(scope="module")
def measured(run_worker):
    """measured(dtype) -> what whisper_worker.py measured."""
    return functools.cache(lambda dtype: run_worker("whisper_worker", dtype)[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_frames_scores_and_facts_are_those_of_plain_operators(measured, dtype):
    found = {key: value for key, value in measured(dtype).items() if "calls" not in key}
    assert found.keys() == {"frames", "scores", "facts"}
    assert all(value <= NARROW.get(dtype, FLOAT32) for value in found.values()), found


@pytest.mark.parametrize("dtype", DTYPES[:2])
def test_self_attention_writes_a_static_cache_and_frames_are_read_from_memory(measured, dtype):
    prefill, steps = measured(dtype)["prefill calls"], measured(dtype)["calls"]
    # of the encoder, of self-attention in the detection of the language and in the prompt, of its frames
    assert count(prefill, "FlashAttentionScore", dtype) == ENCODER + 3 * DECODER
    assert count(prefill, "IncreFlashAttention", dtype) == DECODER  # the detection is of one token
    assert count(prefill, "KVCacheScatterUpdate", dtype) == 2 * DECODER
    assert count(steps, "KVCacheScatterUpdate", dtype) == STEPS * 2 * DECODER
    assert count(steps, "IncreFlashAttention", dtype) == STEPS * 2 * DECODER  # of tokens and of frames
    assert not count(steps, "FlashAttentionScore", dtype)


@pytest.mark.slow
def test_float32_decodes_with_the_plain_cache(measured):
    steps = measured("float32")["calls"]
    assert count(steps, "FlashAttentionScore", "float32") == STEPS * DECODER  # of frames
    assert not [key for key in steps if key.startswith(("IncreFlash", "KVCache"))]
