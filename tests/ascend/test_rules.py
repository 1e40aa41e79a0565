"""What Ascend's documentation allows of operators: the table, and the rules of shapes."""

import re

import pytest

from mindspore_osum.ascend import rules
from mindspore_osum.models.graph_nodes import Node, Value

TYPE = re.compile(r"(bfloat16|float\d+|u?int\d+|bool)$")


def tensor(text: str) -> Value:
    """A tensor by "bfloat16[2, 3]"."""
    dtype, _, shape = text.partition("[")
    return Value(dtype, tuple(map(int, filter(None, shape.rstrip("]").split(", ")))))


def node(name: str, *inputs, outputs=()) -> Node:
    """An operator of tensors by their text, constants, and tuples of tensors."""

    def value(given) -> Value:
        if isinstance(given, str):
            return tensor(given)
        if isinstance(given, tuple):
            return Value("tuple", items=tuple(map(tensor, given)))
        return Value("int64", value=given, is_constant=True)

    scope = "Default/model-Decoder/layers-CellList/1-DecoderLayer"
    return Node(name, scope, tuple(map(value, inputs)), tuple(map(tensor, outputs)))


def attention(q: str, k: str, mask: str, heads: int, sparse_mode: int, layout: int = 3) -> Node:
    """FlashAttentionScore with its inputs at their positions."""
    numbers = heads, 1, 1, 0, 0, 0, layout, sparse_mode
    return node("FlashAttentionScore", q, k, k, *[None] * 3, mask, *[None] * 3, *numbers)


def increment(q: str, k: str, mask: str, heads: int, key_heads: int) -> Node:
    """IncreFlashAttention with its inputs at their positions."""
    return node("IncreFlashAttention", q, (k,), (k,), mask, *[None] * 11, heads, 0, 1, key_heads, 0, 0)


def rotary(x: str, angles: str) -> Node:
    return node("RotaryPositionEmbedding", x, angles, angles, 0, outputs=(x,))


FINE = [
    node("Mul", "bfloat16[8, 4096]", "bfloat16[]", outputs=("bfloat16[8, 4096]",)),
    rotary("float32[8, 1, 32, 128]", "float32[8, 1, 1, 128]"),
    rotary("float32[1, 1, 32, 128]", "float32[1, 1, 1, 128]"),
    rotary("float32[2, 32, 527, 128]", "float32[2, 1, 527, 128]"),
    attention("bfloat16[2, 500, 16, 64]", "bfloat16[2, 500, 16, 64]", "bool[2, 1, 500, 500]", 16, 0),
    attention("bfloat16[8, 448, 32, 128]", "bfloat16[8, 448, 8, 128]", "uint8[2048, 2048]", 32, 2),
    increment("float16[8, 1, 4096]", "float16[8, 896, 1024]", "bool[8, 1, 1, 896]", 32, 8),
    node("DropoutDoMaskExt", "bfloat16[3, 50]", "uint8[32]", 0.1, outputs=("bfloat16[3, 50]",)),
    node("KVCacheScatterUpdate", "bfloat16[8, 1, 64, 1024]", "int32[8]", "bfloat16[8, 1, 5, 1024]", -2, 3),
    node("RmsNorm", "float16[2, 4]", "float16[4]", 1e-6, outputs=("float16[2, 4]", "float32[2, 1]")),
    node("Reshape", "uint32[4]", 1, outputs=("uint32[2, 2]",)),  # starts no kernel
]
WRONG = {
    "input 0 is uint32": node("Mul", "uint32[1]", "uint32[]", outputs=("uint32[1]",)),
    "input 1 is uint32": node("BitwiseXor", "int32[1]", "uint32[]"),
    "output 0 is int32": node("Sqrt", "float32[1]", outputs=("int32[1]",)),
    "input 0 has 9 axes": node("Exp", "float32[1, 1, 1, 1, 1, 1, 1, 1, 2]"),
    "input 0 is int32": node("ArgMaxWithValue", "int32[2, 3]", 1, False),
    "types bfloat16, float32 are mixed": node("MatMul", "bfloat16[2, 3]", "float32[3, 2]"),
    "batch * heads is 256, allowed is 8 * positions = 8": rotary(
        "float32[8, 32, 1, 128]", "float32[8, 1, 1, 128]"
    ),
    "do not fit x": rotary("float32[8, 7, 32, 128]", "float32[8, 5, 1, 128]"),
    "head size 897": rotary("float32[8, 7, 2, 897]", "float32[8, 7, 1, 897]"),
    "head size 40": attention("bfloat16[1, 9, 2, 40]", "bfloat16[1, 9, 2, 40]", "bool[1, 1, 9, 9]", 2, 0),
    "5 heads for 2 of keys": attention("bfloat16[1, 9, 5, 16]", "bfloat16[1, 9, 2, 16]", "bool[9, 9]", 5, 0),
    "must be one of [2048, 2048]": attention(
        "bfloat16[1, 9, 2, 16]", "bfloat16[1, 9, 2, 16]", "bool[9, 9]", 2, 2
    ),
    "2 queries": increment("float16[8, 2, 64]", "float16[8, 896, 64]", "bool[8, 1, 1, 896]", 4, 4),
    "mask bool[8, 1, 1, 64]": increment(
        "float16[8, 1, 64]", "float16[8, 896, 64]", "bool[8, 1, 1, 64]", 4, 4
    ),
    "a mask of 19 bytes for 150": node("DropoutDoMaskExt", "bfloat16[3, 50]", "uint8[19]", 0.1),
    "seed, offset computed": node("DropoutExt", "bfloat16[4]", 0.1, "int64[]", "int64[]"),
    "does not fit": node(
        "KVCacheScatterUpdate", "bfloat16[8, 1, 64, 32]", "int32[8]", "bfloat16[8, 1, 5, 16]", -2
    ),
    "weight of float16": node("RmsNorm", "bfloat16[2, 4]", "float16[4]", 1e-6),
    "has no rule": node("Unheard", "float32[1]"),
}


@pytest.mark.parametrize("given", FINE, ids=str)
def test_what_is_allowed(given):
    assert rules.check("graph", [given]) == []


@pytest.mark.parametrize("problem", WRONG)
def test_what_is_not(problem):
    (found,) = rules.check("graph", [WRONG[problem]])
    assert problem in found.problem


def test_a_finding_is_one_line_with_all_that_is_needed():
    mul = WRONG["input 0 is uint32"]
    (found,) = rules.check("training step, 2 rows", [mul, mul])
    line = str(found)
    assert "\n" not in line
    for part in ("training step, 2 rows: Mul: ", "(2 such)", "Mul(uint32[1], uint32[])", "1-DecoderLayer"):
        assert part in line
    assert "aclnnMul" in line and "https://gitcode.com/cann/ops-math" in line


def test_every_row_has_types_and_a_document():
    assert len(rules.rules()) > 80
    for name, rule in rules.rules().items():
        sets = [rule.types, *rule.inputs.values(), *rule.outputs.values()]
        assert all(map(TYPE.match, set().union(*sets))) and all(sets), name
        assert set(rule.shapes) <= rules.SHAPES.keys(), name
        assert re.fullmatch(r".{10,} \[.+\]", rule.source), name
