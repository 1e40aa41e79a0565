"""One training step: loss and gradients, accumulation, reduction over ranks, clipping, AdamW.

Notable choices
- A subclass of MindFormers' MFTrainOneStepCell, whose overflow check, loss scale and clipping are used on
  Ascend. CPU lacks the overflow operators; there a step whose gradient norm is not finite is not applied.
- Loss and gradients come from one value_and_grad: the two calls of the parent run the forward pass twice
  (1.5x slower on CPU).
- The returned losses are reduced over all ranks, so that every rank decides and logs the same.
- Gradients of micro-batches are summed in parameters; the last one of a step reduces and applies them. One
  graph serves all micro-batches.
- Sums over micro-batches and ranks, and clipping, are in float32 whatever the weights' type: in bfloat16 a
  term below 1/512 of the sum so far is lost.

Legend: K reported losses, J counts (training/network.py).
"""

from collections.abc import Iterable

import mindspore as ms
from mindformers.wrapper import MFTrainOneStepCell
from mindspore import Parameter, ParameterTuple, Tensor, ops
from mindspore.common.initializer import initializer

from mindspore_osum.models.target import target

_accumulate = ops.MultitypeFuncGraph("accumulate")
_widen = ops.MultitypeFuncGraph("widen")
_mean_and_clear = ops.MultitypeFuncGraph("mean_and_clear")
_square_sum = ops.MultitypeFuncGraph("square_sum")
_scale = ops.MultitypeFuncGraph("scale")
_l2_loss = ops.L2Loss()


@_accumulate.register("Tensor", "Tensor")
def _add(total, grad):
    return ops.assign_add(total, ops.cast(grad, ms.float32))


@_widen.register("Tensor")
def _to_float32(grad):
    return ops.cast(grad, ms.float32)


@_square_sum.register("Tensor")
def _half_square(grad):
    return _l2_loss(ops.cast(grad, ms.float32)).reshape((1,))


@_scale.register("Tensor", "Tensor")
def _times(factor, grad):
    return grad * ops.cast(factor, grad.dtype)


@_mean_and_clear.register("Tensor", "Tensor", "Tensor")
def _take(share, total, grad):
    mean = total * share
    return ops.depend(mean, ops.assign(total, ops.depend(ops.zeros_like(grad), mean)))


def float32_zeros(weights: Iterable[Parameter], prefix: str) -> ParameterTuple:
    """A parameter of float32 zeros for each weight, named `prefix`.NAME and sharded as the weight is."""
    sums = []
    for weight in weights:
        total = Parameter(initializer("zeros", weight.shape, ms.float32))
        total.param_info = weight.param_info.clone()  # MindSpore shards what was cloned as its origin
        if not hasattr(weight.param_info, "cloned_obj"):
            weight.param_info.cloned_obj = []
        weight.param_info.cloned_obj.append(total)
        total.name = f"{prefix}.{weight.name}"
        sums.append(total)
    return ParameterTuple(sums)


class TrainStep(MFTrainOneStepCell):
    """(loss, not finite, loss scale, learning rate, gradient norm, values_K, counts_J) of one micro-batch.

    values_K and counts_J are those of the network's `losses`; they are reported only.

    Parameters
    ----------
    accumulation : micro-batches of an optimizer step; the gradient is their mean.
    others : as in MFTrainOneStepCell.
    """

    def __init__(self, network, optimizer, accumulation=1, **kwargs):
        super().__init__(network, optimizer, **kwargs)
        self.max_norm = self.clip_grad_norm.clip_norm.reshape(())
        self.on_cpu = target() == "CPU"
        self.value_and_grad = ops.value_and_grad(self.network.losses, None, self.weights, has_aux=True)
        self.draw = getattr(self.network, "draw", None)
        self.accumulation = accumulation
        self.share = Tensor(1.0 / accumulation, ms.float32)
        self.sums = ()  # gradient sums over the micro-batches of a step so far
        if accumulation > 1:
            self.micro = Parameter(Tensor(0, ms.int32), name="micro", requires_grad=False)
            self.totals = float32_zeros(self.weights, "accumulated")
            self.sums = (self.micro, *self.totals)
        self.sum_over_ranks = ops.AllReduce() if self.reducer_flag else None

    def start_overflow_check(self, pre_cond, compute_input):
        """Clear the overflow flag before the step, on devices that have one."""
        if self.on_cpu:
            return pre_cond, compute_input
        return super().start_overflow_check(pre_cond, compute_input)

    def __call__(self, *inputs):
        """Choose dropout's masks, then run; the host makes them (models/dropout.py)."""
        if self.draw is not None:
            self.draw(inputs)
        return super().__call__(*inputs)

    def clip(self, grads):
        """As the parent's clip_grad_norm, with two operators per gradient instead of ten."""
        norm = ops.sqrt(2.0 * ops.reduce_sum(ops.concat(self.hyper_map(_square_sum, grads))))
        factor = self.max_norm / (ops.maximum(norm, self.max_norm) + 1e-6)
        return self.hyper_map(ops.partial(_scale, ops.minimum(factor, 1.0)), grads), norm

    def construct(self, *inputs):
        """Run one micro-batch; the optimizer steps with the last one of a step."""
        status = Tensor([0] * 8, ms.int32)
        if self.accumulation == 1:  # else keep the flag over micro-batches; reading clears it
            status, inputs = self.start_overflow_check(self.scale_sense, inputs)
        (loss, values_K, counts_J), grads = self.value_and_grad(*inputs)
        if self.sum_over_ranks is not None:
            shown = self.sum_over_ranks(ops.concat((loss.reshape((1,)), values_K, counts_J))) / self.degree
            behind = 1 + values_K.shape[0]
            loss, values_K, counts_J = shown[0], shown[1:behind], shown[behind:]
        if self.accumulation == 1:
            return self.update(status, loss, values_K, counts_J, grads)
        added = self.hyper_map(_accumulate, self.totals, grads)
        micro = ops.assign_add(self.micro, Tensor(1, ms.int32))
        nothing = Tensor(0.0, ms.float32)
        result = (loss, Tensor(False), self.scale_sense, nothing, nothing, values_K, counts_J)
        if micro >= self.accumulation:
            grads = self.hyper_map(ops.partial(_mean_and_clear, self.share), self.totals, added)
            loss = ops.depend(loss, ops.assign(self.micro, Tensor(0, ms.int32)))
            result = self.update(status, loss, values_K, counts_J, grads)
        return result

    def update(self, status, loss, values_K, counts_J, grads):
        """Reduce, check, clip, step."""
        grads = self.grad_reducer(self.hyper_map(_widen, grads))
        clipped, norm = self.clip(grads) if self.on_cpu else self.clip_grad_norm(grads)
        norm = norm.reshape(())
        if self.on_cpu:
            bad = ops.logical_not(ops.isfinite(norm + loss))
        else:
            bad = self.process_loss_scale(self.get_overflow_status(status, grads))
        rate = self.learning_rate(self.optimizer.global_step).reshape(())
        if not bad:
            loss = ops.depend(loss, self.optimizer(clipped))
        return loss, bad, self.scale_sense, rate, norm, values_K, counts_J
