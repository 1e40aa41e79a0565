"""Whether Ascend's documentation allows what a graph's operators are given: operators.yaml, rules of shapes.

Notable choices
- The table names the document of every row. An operator without a row is a finding, too: nobody has looked.
- Written for Atlas A2 (910B). What documents call a matter of speed, or leave to a test on a device, is no
  rule.

Legend: B batch, L queries, S keys or cache slots, N heads, D head size.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from pathlib import Path

from mindspore_osum.config import read_yaml

TABLE = Path(__file__).with_name("operators.yaml")
MOST_AXES = 8
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
BNSD_PER_SLOT = 8  # half mode, heads before positions: at most this many rows of heads for each position
LAYOUTS = ("BSH", "BNSD", "SBH", "BSND", "TND")  # MindSpore's numbers
COMPRESSED = (2, 3, 4)  # sparse modes whose mask is the triangle of 2048


@dataclass(frozen=True)
class Rule:
    """What an operator may be given.

    Attributes
    ----------
    types : of its tensors.
    inputs, outputs : of those at a position.
    shapes : names of the functions in `SHAPES`.
    source : the document.
    """

    types: frozenset[str]
    inputs: dict[int, frozenset[str]]
    outputs: dict[int, frozenset[str]]
    shapes: tuple[str, ...]
    source: str

    def violation(self, node) -> str:
        """The first thing of an operator's tensors that is not allowed; "" if there is none."""
        return next(self._violations(node), "")

    def _violations(self, node) -> Iterator[str]:
        for what, values, special in (
            ("input", node.inputs, self.inputs),
            ("output", node.outputs, self.outputs),
        ):
            for i, value in enumerate(values):
                allowed = special.get(i, self.types)
                for tensor in value.tensors:
                    if tensor.dtype not in allowed:
                        known = ", ".join(sorted(allowed))
                        yield f"{what} {i} is {tensor.dtype}, allowed are {known}"
                    if len(tensor.shape) > MOST_AXES:
                        yield f"{what} {i} has {len(tensor.shape)} axes, allowed are {MOST_AXES}"
        for name in self.shapes:
            if wrong := SHAPES[name](node):
                yield wrong


@dataclass(frozen=True)
class Finding:
    """An operator outside its rule, or without one, in a graph."""

    graph: str
    node: object
    problem: str
    source: str
    count: int = 1

    def __str__(self) -> str:
        where = self.node.scope.removeprefix("Default/") or "the graph itself"
        more = f" ({self.count} such)" if self.count > 1 else ""
        said = f"; {self.source}" if self.source else ""
        return f"{self.graph}: {self.node.name}: {self.problem}{more}: {self.node} in {where}{said}"


@cache
def rules() -> dict[str, Rule]:
    """The table, by operator."""
    table = read_yaml(str(TABLE))

    def types(names: Iterable[str]) -> frozenset[str]:
        return frozenset(name for entry in names for name in table["groups"].get(entry, [entry]))

    found = {}
    for operator, row in table["operators"].items():
        ((document, section),) = row["from"].items()
        found[operator] = Rule(
            types(row["types"]),
            {i: types(names) for i, names in row.get("inputs", {}).items()},
            {i: types(names) for i, names in row.get("outputs", {}).items()},
            tuple(row.get("rules", ())),
            f"{section} [{table['documents'][document]}]",
        )
    return found


def check(graph: str, nodes: Iterable) -> list[Finding]:
    """The operators of a graph that are outside their rule or have none, each kind of problem once.

    Parameters
    ----------
    graph : its name.
    nodes : models/graph_nodes.py `Node`s.
    """
    found: dict[tuple, Finding] = {}
    for node in nodes:
        if not node.has_kernel:
            continue
        rule = rules().get(node.name)
        problem = "has no rule" if rule is None else rule.violation(node)
        if problem:
            key = node.name, problem
            before = found.get(key) or Finding(graph, node, problem, rule.source if rule else "", 0)
            found[key] = replace(before, count=before.count + 1)
    return list(found.values())


def same_type(node) -> str:
    """All tensors have one type."""
    types = sorted({t.dtype for value in node.inputs for t in value.tensors if t.dtype in BYTES})
    return f"types {', '.join(types)} are mixed" if len(types) > 1 else ""


def same_shape(node) -> str:
    """The first two tensors have one shape."""
    a, b = node.inputs[0].shape, node.inputs[1].shape
    return "" if a == b else f"shapes {list(a)} and {list(b)} differ"


def halves(node) -> str:
    """The split axis is even."""
    x, axis = node.inputs[0], node.inputs[1].value
    return f"axis {axis} of {x} is odd" if x.shape[axis] % 2 else ""


def norm_weight(node) -> str:
    """The weight has x's type, or is float32."""
    x, weight = node.inputs[:2]
    if weight.dtype not in (x.dtype, "float32"):
        return f"weight of {weight.dtype} for x of {x.dtype}"
    return ""


def rotary(node) -> str:
    """Half mode: (B, S, N, D) with angles (1 or B, S, 1, D), or heads before positions and few of them."""
    x, cos, sin = node.inputs[:3]
    mode = node.inputs[-1].value
    if mode != 0:
        return f"mode {mode}: only 0 (half) is looked at here"
    if len(x.shape) != 4 or cos.shape != sin.shape or len(cos.shape) != 4:
        return "x, cos and sin need 4 axes, and cos that of sin"
    b, first, second, d = x.shape
    if d % 2 or d >= 896 or cos.shape[3] != d:
        return f"head size {d}: must be even, below 896 and that of the angles ({cos.shape[3]})"
    if max(b, first, second if cos.shape[2] == 1 else 0) >= 1000 and b >= 1000:
        return f"batch {b}: must be below 1000"
    if cos.shape[0] not in (1, b):
        return f"angles of {cos.shape[0]} sequences for {b}"
    if cos.shape[1] == first and cos.shape[2] in (1, second):  # positions before heads
        return f"{second} heads: must be below 1000" if second >= 1000 else ""
    if cos.shape[1] in (1, first) and cos.shape[2] == second:
        rows, most = b * first, BNSD_PER_SLOT * second
        if d // 2 % (32 // BYTES[x.dtype]) == 0 and rows > most:
            return f"heads before positions: batch * heads is {rows}, allowed is 8 * positions = {most}"
        return ""
    return f"angles {cos} do not fit x {x}"


def rotary_gradient(node) -> str:
    """Angles of each sequence need more positions than sequences."""
    x, cos = node.inputs[:2]
    positions = x.shape[1] if cos.shape[2] == 1 else x.shape[2]
    if cos.shape[0] > 1 and cos.shape != x.shape and x.shape[0] >= positions:
        return f"angles of each of {x.shape[0]} sequences, of only {positions} positions"
    return ""


def _heads(x, layout: str, heads: int) -> tuple[int, int, int, int]:
    """B, S, N, D of a tensor."""
    if layout == "BSND":
        return x.shape
    if layout == "BNSD":
        b, n, s, d = x.shape
        return b, s, n, d
    b, s, h = x.shape
    return b, s, heads, h // heads


def attention(node) -> str:
    """Heads, their sizes, and the mask of FlashAttentionScore."""
    q, k, v = node.inputs[:3]
    heads, layout, mode = node.inputs[10].value, LAYOUTS[node.inputs[16].value], node.inputs[17].value
    if layout not in ("BSND", "BNSD", "BSH"):
        return f"layout {layout}: only BSND, BNSD and BSH are looked at here"
    b, length, n, d = _heads(q, layout, heads)
    key_heads = k.shape[2] if layout == "BSND" else k.shape[1] if layout == "BNSD" else k.shape[2] // d
    _, slots, kn, _ = _heads(k, layout, key_heads)
    if len({q.dtype, k.dtype, v.dtype}) > 1:
        return f"types {q.dtype}, {k.dtype} and {v.dtype} of query, key and value differ"
    if d % 16 or d > 512:
        return f"head size {d}: must be a multiple of 16, at most 512"
    if not 1 <= n <= 256 or n % kn:
        return f"{n} heads for {kn} of keys: must be a multiple, at most 256"
    mask = node.inputs[6]
    if mask.shape is None:
        return ""
    full = (length, slots), (b, 1, length, slots), (b, n, length, slots), (1, 1, length, slots)
    allowed = ((2048, 2048),) if mode in COMPRESSED else full
    if mask.shape not in allowed:
        return f"mask {mask} in sparse mode {mode}: must be one of {', '.join(map(str, map(list, allowed)))}"
    return ""


def one_query(node) -> str:
    """IncreFlashAttention: one query, heads, and a mask of the keys."""
    q, (k,), mask = node.inputs[0], node.inputs[1].tensors, node.inputs[3]
    heads, layout, kv_heads = node.inputs[15].value, LAYOUTS[node.inputs[16].value], node.inputs[18].value
    b, length, n, d = _heads(q, layout, heads)
    _, slots, kn, _ = _heads(k, layout, kv_heads or heads)
    if length != 1:
        return f"{length} queries: must be 1"
    if b > 65536 or n > 256 or d > 512 or n % kn or n // kn > 64:
        return f"batch {b}, {n} heads for {kn} of keys, head size {d}: at most 65536, 256, 64 to 1, 512"
    if mask.shape is not None and mask.shape not in ((b, slots), (b, 1, slots), (b, 1, 1, slots)):
        return f"mask {mask}: must be [{b}, {slots}], [{b}, 1, {slots}] or [{b}, 1, 1, {slots}]"
    return ""


def cache_update(node) -> str:
    """New rows fit the cache in all axes but the one they are written along; an index for each sequence."""
    data, indices, new = node.inputs[:3]
    axis = node.inputs[3].value % len(data.shape)
    sizes = enumerate(zip(data.shape, new.shape, strict=True))
    if any(a != b for i, (a, b) in sizes if i not in (0, axis)) or new.shape[0] > data.shape[0]:
        return f"{new} does not fit {data} along axis {axis}"
    if indices.shape not in ((new.shape[0],), (new.shape[0], 2)):
        return f"indices {indices} for {new.shape[0]} sequences"
    return ""


def mask_bits(node) -> str:
    """A bit for each element, in whole 128s."""
    x, mask = node.inputs[:2]
    wanted = -(-prod(x.shape) // 128) * 128 // 8
    got = prod(mask.shape)
    return "" if got == wanted else f"a mask of {got} bytes for {prod(x.shape)} elements: must be {wanted}"


def host_seed(node) -> str:
    """Seed and offset are known when the graph is compiled."""
    computed = [name for name, i in (("seed", 2), ("offset", 3)) if not node.inputs[i].is_constant]
    return f"{', '.join(computed)} computed on the device: the host reads it and waits" if computed else ""


SHAPES: dict[str, Callable[[object], str]] = {
    function.__name__: function
    for function in (
        same_type,
        same_shape,
        halves,
        norm_weight,
        rotary,
        rotary_gradient,
        attention,
        one_query,
        cache_update,
        mask_bits,
        host_seed,
    )
}
