import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
pytest.importorskip("mindformers", reason="needs mindformers")

from mindspore import Parameter, Tensor  # noqa: E402

from mindspore_osum.training.adamw import MasterAdamW, OsumAdamW  # noqa: E402

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


def test_on_ascend_the_copies_are_updated_by_mindformers_operators():
    """Compiled, not run: a graph once called itself without end, which no CPU showed."""
    from mindspore_osum.models.graph_nodes import nodes
    from mindspore_osum.models.target import made_for

    with made_for("Ascend"):
        param = Parameter(Tensor(np.ones((3, 4)), ms.bfloat16), name="ascend")
        optimizer = MasterAdamW([param], learning_rate=1e-4)
    found = [node.name for node in nodes(optimizer, (Tensor(np.ones((3, 4)), ms.bfloat16),))]
    assert "Addcmul" in found and "AdamWeightDecay" not in found
