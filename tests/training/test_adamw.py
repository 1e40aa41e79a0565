import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
pytest.importorskip("mindformers", reason="needs mindformers")

from mindspore import Parameter, Tensor  # noqa: E402

from mindspore_osum.training import part_rates  # noqa: E402
from mindspore_osum.training.adamw import MasterAdamW, OsumAdamW  # noqa: E402
from mindspore_osum.training.config import Optimizer  # noqa: E402
from mindspore_osum.training.schedule import WarmupLR  # noqa: E402

STEPS = 40


@pytest.mark.parametrize(
    ("dtype", "kind", "decays"),
    [("float16", MasterAdamW, (0.1, 0.0)), ("float32", OsumAdamW, (0.1, 0.0)), ("float32", OsumAdamW, None)],
)
def test_it_is_adamw_and_small_steps_add_up(dtype, kind, decays):
    torch = pytest.importorskip("torch", reason="needs torch (extra: reference)")
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    start = {"a": np.full((3, 4), 8.0, np.float32), "b": np.full(5, -4.0, np.float32)}
    params = [Parameter(Tensor(v, getattr(ms, dtype)), name=n) for n, v in start.items()]

    def grouped(parameters):  # one group has no dictionary, and one decay for all
        if decays is None:
            return parameters
        return [{"params": [p], "weight_decay": d} for p, d in zip(parameters, decays, strict=True)]

    optimizer = kind(grouped(params), learning_rate=1e-4, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.1)
    theirs = [torch.tensor(v, requires_grad=True) for v in start.values()]
    reference = torch.optim.AdamW(grouped(theirs), lr=1e-4, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.1)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        grads = [np.abs(rng.standard_normal(v.shape)).astype(np.float16) for v in start.values()]
        optimizer(tuple(Tensor(g, getattr(ms, dtype)) for g in grads))
        for param, grad in zip(theirs, grads, strict=True):
            param.grad = torch.tensor(grad.astype(np.float32))
        reference.step()
    exact = optimizer.masters if kind is MasterAdamW else params
    for ours, master, want in zip(params, exact, theirs, strict=True):
        want = want.detach().numpy()
        assert np.abs(master.asnumpy() - want).max() < 2e-6 * np.abs(want).max()
        assert ours.dtype == getattr(ms, dtype)
        assert np.array_equal(ours.asnumpy(), master.asnumpy().astype(dtype))
    moved = np.abs(params[1].asnumpy() + 4)
    assert moved.max() > 2e-3  # though one step, 1e-4, is far below half of float16's spacing at 4, 0.0039
    names = [p.name for p in optimizer.get_parameters()]
    assert {"adam_m.a", "adam_v.b", "global_step"} < set(names)
    assert ({"master.a", "master.b"} < set(names)) == (kind is MasterAdamW)


RATES = {"adapter": 5e-4, "decoder.norm": 1e-5, "decoder": 4e-4}


@pytest.mark.parametrize(
    ("dtype", "kind", "on_cpu"),
    [("float32", OsumAdamW, True), ("float32", OsumAdamW, False), ("float16", MasterAdamW, True)],
    ids=["one kernel", "MindFormers' operators", "float32 copies"],
)
def test_parts_learn_at_their_own_rates(dtype, kind, on_cpu):
    """As torch's AdamW with a group for each rate, under a schedule."""
    torch = pytest.importorskip("torch", reason="needs torch (extra: reference)")
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    rng, warmup = np.random.default_rng(1), 3
    peaks = {  # where each of these parameters should fall; the rest has lr
        "model.encoder.conv1.weight": 2e-4,
        "model.adapter.weight": 5e-4,
        "model.decoder.q_proj.weight": 4e-4,
        "model.decoder.q_proj.lora_A.weight": 2e-4,
        "model.decoder.norm.weight": 1e-5,
    }
    start = {name: rng.standard_normal((3, 5)[: 1 + i % 2]).astype(dtype) for i, name in enumerate(peaks)}
    params = [Parameter(Tensor(v, getattr(ms, dtype)), name=n) for n, v in start.items()]
    groups = [{"params": params[::2], "weight_decay": 0.1}, {"params": params[1::2], "weight_decay": 0.0}]
    job = Optimizer(lr=2e-4, lr_of=RATES)
    extra = part_rates.arguments(job, "linear_aligner")
    rate = WarmupLR(job.lr, warmup, 100, "linear")
    optimizer = kind(groups, learning_rate=rate, betas=(0.9, 0.99), eps=1e-6, **extra)
    optimizer.on_cpu = on_cpu
    theirs = {name: torch.tensor(v.astype(np.float32), requires_grad=True) for name, v in start.items()}
    names = list(peaks)
    reference = torch.optim.AdamW(
        [
            {"params": [theirs[n]], "lr": peaks[n], "weight_decay": (0.1, 0.0)[i % 2]}
            for i, n in enumerate(names)
        ],
        betas=(0.9, 0.99),
        eps=1e-6,
    )
    scale = torch.optim.lr_scheduler.LambdaLR(
        reference, lambda s: min((s + 1) / warmup, (100 - s - 1) / (100 - warmup))
    )
    order = names[::2] + names[1::2]
    for _ in range(8):
        grads = {name: rng.standard_normal(v.shape).astype(np.float16) for name, v in start.items()}
        optimizer(tuple(Tensor(grads[n], getattr(ms, dtype)) for n in order))
        for name, param in theirs.items():
            param.grad = torch.tensor(grads[name].astype(np.float32))
        reference.step()
        scale.step()
    ours = (
        dict(zip(order, optimizer.masters, strict=True))
        if kind is MasterAdamW
        else dict(zip(names, params, strict=True))
    )
    for name, want in theirs.items():
        want, moved = (
            want.detach().numpy(),
            np.abs(want.detach().numpy() - start[name].astype(np.float32)).max(),
        )
        assert np.abs(ours[name].asnumpy() - want).max() < 2e-6
        assert moved > 2 * peaks[name]  # all have moved, as far as their rate lets them


def test_a_key_is_a_part_or_the_longest_name_of_a_cell():
    keys = ["adapter", "decoder", "decoder.layers.1", "decoder.layers.1.norm.weight"]
    cases = {
        ("model.decoder.layers.1.norm.weight", "decoder"): keys[3],
        ("decoder.layers.1.mlp.weight", "decoder"): keys[2],
        ("decoder.layers.1.q.lora_A.weight", "lora"): keys[2],
        ("decoder.layers.10.mlp.weight", "decoder"): keys[1],
        ("decoder.layers.10.q.lora_A.weight", "lora"): "",
        ("ctc.weight", "encoder"): "",
        ("speech_embedding", "adapter"): keys[0],
    }
    assert {case: part_rates.key_of(case[0], keys, case[1]) for case in cases} == cases


def test_on_ascend_the_copies_are_updated_by_mindformers_operators():
    """Compiled, not run: a graph once called itself without end, which no CPU showed."""
    from mindspore_osum.models.graph_nodes import nodes
    from mindspore_osum.models.target import made_for

    with made_for("Ascend"):
        param = Parameter(Tensor(np.ones((3, 4)), ms.bfloat16), name="ascend")
        optimizer = MasterAdamW([param], learning_rate=1e-4)
    found = [node.name for node in nodes(optimizer, (Tensor(np.ones((3, 4)), ms.bfloat16),))]
    assert "Addcmul" in found and "AdamWeightDecay" not in found
