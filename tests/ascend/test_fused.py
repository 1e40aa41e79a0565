"""The model on Ascend's fused operators against the plain ones, run on CPU by kernels of those operators.

worker.py runs it; see there for the model and the batches.
"""

import pytest

from mindspore_osum.errors import UserError

ENCODER, ADAPTER, DECODER, STEPS = 1, 1, 2, 4  # layers, and tokens decoded
LAYERS = ENCODER + ADAPTER + DECODER
TRAINING = ("padded", "packed")
CASES = (*TRAINING, "recordings", "answers")
FLOAT32 = 1e-5
# of the largest value: eight, eleven bits of mantissa through some twenty roundings
NARROW = {"bfloat16": 6e-2, "float16": 8e-3}
NAMES = {"float32": "Float32", "float16": "Float16", "bfloat16": "BFloat16"}
SLOW = [pytest.param(dtype, marks=pytest.mark.slow) for dtype in NARROW]
narrow = pytest.mark.parametrize("dtype", SLOW)
every = pytest.mark.parametrize("dtype", ["float32", *SLOW])


def errors(case: dict) -> dict[str, float]:
    """The quantities of a case that are errors."""
    return {key: value for key, value in case.items() if "calls" not in key}


@pytest.mark.parametrize("case", CASES)
def test_float32_is_the_plain_path(measured, case):
    found = errors(measured("float32")[f"float32 fused {case}"])
    assert found
    assert not {key: value for key, value in found.items() if not value <= FLOAT32}


@pytest.mark.parametrize("case", CASES)
@narrow
def test_narrow_types_are_it_within_their_rounding(measured, dtype, case):
    fused = errors(measured(dtype)[f"{dtype} fused {case}"])
    plain = errors(measured(dtype)[f"{dtype} plain {case}"])
    assert fused.keys() == plain.keys()
    for key, value in fused.items():
        assert value <= NARROW[dtype], key
        # the plain path rounds in more places
        assert value <= 2 * plain[key] + NARROW[dtype] / 10, f"{key}: plain {plain[key]}"


def count(calls: dict[str, int], operator: str, dtype: str) -> int:
    """How often the kernel ran in this type."""
    return calls.get(f"{operator} {NAMES[dtype]}", 0)


@pytest.mark.parametrize("case", TRAINING)
@every
def test_training_calls_the_fused_operators(measured, dtype, case):
    calls = measured(dtype)[f"{dtype} fused {case}"]["calls"]
    for grad in ("", "Grad"):
        assert count(calls, f"FlashAttentionScore{grad}", dtype) == LAYERS
        assert count(calls, f"RmsNorm{grad}", dtype) == 2 * DECODER + 1
        assert count(calls, f"Swiglu{grad}", dtype) == DECODER
        # of queries and of keys, always with float32 angles
        assert count(calls, f"RotaryPositionEmbedding{grad}", "float32") == 2 * DECODER


@every
def test_packed_recordings_call_flash_attention(measured, dtype):
    calls = measured(dtype)[f"{dtype} fused recordings"]["calls"]
    assert count(calls, "FlashAttentionScore", dtype) == ENCODER + ADAPTER


# the first as a model answers, adapters merged and products joined; the second as it is trained
@pytest.mark.parametrize("what", ["bfloat16:answers", SLOW[1]])
def test_decoding_writes_a_static_cache(measured, what):
    dtype = what.partition(":")[0]
    case = measured(what)[f"{dtype} fused answers"]
    assert all(value <= NARROW[dtype] for value in errors(case).values())
    prefill, steps = case["prefill calls"], case["calls"]
    assert count(prefill, "FlashAttentionScore", dtype) == LAYERS
    assert count(prefill, "KVCacheScatterUpdate", dtype) == 2 * DECODER  # keys and values
    assert count(steps, "KVCacheScatterUpdate", dtype) == 2 * STEPS * DECODER
    assert count(steps, "IncreFlashAttention", dtype) == STEPS * DECODER
    assert count(steps, "RmsNorm", dtype) == STEPS  # the first; all others follow a sum
    assert count(steps, "AddRmsNorm", dtype) == STEPS * 2 * DECODER


def test_rows_of_a_beam_search_are_moved_in_a_static_cache(measured):
    """The plain path in float32 makes the same moves."""
    case = measured("bfloat16:answers")["bfloat16 fused beams"]
    assert errors(case) and all(value <= NARROW["bfloat16"] for value in errors(case).values())
    assert count(case["calls"], "IncreFlashAttention", "bfloat16") == STEPS * DECODER


def test_float32_decodes_with_the_plain_cache(measured):
    case = measured("float32")["float32 fused answers"]
    assert count(case["prefill calls"], "FlashAttentionScore", "float32") == LAYERS
    assert not [key for key in case["calls"] if key.startswith(("IncreFlash", "KVCache"))]
    assert count(case["calls"], "AddRmsNorm", "float32") == STEPS * 2 * DECODER


@narrow
def test_the_plain_path_calls_none_of_them(measured, dtype):
    fused = ("FlashAttention", "RmsNorm", "Rotary", "Swiglu", "IncreFlash", "KVCache")
    for case in CASES:
        calls = measured(dtype)[f"{dtype} plain {case}"]["calls"]
        assert not [key for key in calls if key.startswith(fused)], case


def test_auto_is_plain_on_cpu_and_words_are_checked(monkeypatch):
    """Needs no kernels: nothing is run."""
    import mindspore as ms

    from mindspore_osum.models import ops as device_ops
    from mindspore_osum.models.ops import fused, plain

    monkeypatch.delenv("OSUM_OPS", raising=False)
    monkeypatch.setattr(device_ops, "_path", None)
    assert device_ops.cells(ms.bfloat16) is plain
    device_ops.use("fused")
    assert device_ops.cells(ms.bfloat16) is fused.CELLS
    assert device_ops.cells(ms.float32) is fused.CELLS_FLOAT32
    device_ops.use(None)
    monkeypatch.setenv("OSUM_OPS", "fused")
    assert device_ops.cells(ms.float16) is fused.CELLS
    device_ops.use("plain")
    assert device_ops.cells(ms.float16) is plain
    with pytest.raises(UserError, match="'fast' is unknown; known: auto, fused, plain"):
        device_ops.use("fast")
    monkeypatch.setenv("OSUM_OPS", "slow")
    device_ops.use(None)
    with pytest.raises(UserError, match="OSUM_OPS: 'slow'"):
        device_ops.cells(ms.float16)
    ascend = {"device_target": "Ascend"}
    monkeypatch.delenv("OSUM_OPS")
    monkeypatch.setattr(device_ops.ms, "get_context", ascend.get)
    assert device_ops.cells(ms.bfloat16) is fused.CELLS
    assert device_ops.cells(ms.float32) is plain
