import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
pytest.importorskip("mindformers", reason="needs mindformers")

from mindspore import Parameter, Tensor, nn  # noqa: E402

from mindspore_osum.training.adamw import MasterAdamW  # noqa: E402

STEPS = 40


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_small_steps_add_up(dtype):
    torch = pytest.importorskip("torch", reason="needs torch (extra: reference)")
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    start = {"a": np.full((3, 4), 8.0, np.float32), "b": np.full(5, -4.0, np.float32)}
    params = [Parameter(Tensor(v, getattr(ms, dtype)), name=n) for n, v in start.items()]
    groups = [{"params": params[:1], "weight_decay": 0.1}, {"params": params[1:], "weight_decay": 0.0}]
    optimizer = MasterAdamW(groups, learning_rate=1e-4, betas=(0.9, 0.99), eps=1e-6)
    theirs = [torch.tensor(v, requires_grad=True) for v in start.values()]
    groups = [{"params": theirs[:1], "weight_decay": 0.1}, {"params": theirs[1:], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.99), eps=1e-6)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        grads = [np.abs(rng.standard_normal(v.shape)).astype(np.float16) for v in start.values()]
        optimizer(tuple(Tensor(g, getattr(ms, dtype)) for g in grads))
        for param, grad in zip(theirs, grads, strict=True):
            param.grad = torch.tensor(grad.astype(np.float32))
        reference.step()
    for ours, master, want in zip(params, optimizer.masters, theirs, strict=True):
        want = want.detach().numpy()
        assert np.abs(master.asnumpy() - want).max() < 2e-6 * np.abs(want).max()
        assert ours.dtype == getattr(ms, dtype)
        assert np.array_equal(ours.asnumpy(), master.asnumpy().astype(dtype))
        assert np.abs(ours.asnumpy().astype(np.float32) - want).max() < 5e-3  # 40 steps of 1e-4, rounded once
    assert [p.name for p in optimizer.masters] == ["master.a", "master.b"]
    moved = np.abs(params[1].asnumpy() + 4)
    assert moved.max() > 2e-3  # though one step, 1e-4, is far below half of float16's spacing at 4, 0.0039
    assert isinstance(optimizer, nn.Optimizer)
