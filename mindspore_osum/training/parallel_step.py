"""One training step of a sharded network, in semi-automatic parallel mode.

Notable choices
- A whole step is one graph, as MindSpore's sharding and pipelining need it: a step takes all its
  micro-batches at once, and PipelineCell or GradAccumulation splits them (step.py runs one micro-batch at a
  time).
- Sums over devices are not written here: MindSpore inserts them where the strategies need them. The gradient
  norm is MindFormers' ClipGradNorm, which MindSpore recognises and completes over slices and stages.
- Sums over micro-batches are in float32, and so are those over devices (`gradient_fp32_sync`).
- The micro-batches of a step share their dropout masks: MindSpore's schedule of micro-batches does not order
  an operator that changes a parameter within one of them.
"""

from pathlib import Path

import mindspore as ms
from mindformers.wrapper import MFTrainOneStepCell
from mindformers.wrapper.wrapper import get_real_models
from mindspore import ops
from mindspore.communication import create_group, get_group_size, get_rank
from mindspore.parallel._utils import _get_enable_parallel_optimizer

from mindspore_osum.errors import UserError
from mindspore_osum.models.target import target
from mindspore_osum.training import checkpoint, shards
from mindspore_osum.training.step import float32_zeros

_clear = ops.MultitypeFuncGraph("clear")


@_clear.register("Tensor", "Tensor")
def _to_zero(total, grad):
    # as in MindSpore's own steps: the gradient of a weight of another pipeline stage is the number 0
    total = ops.depend(total, grad)
    return ops.assign(total, ops.zeros_like(total))


class ParallelTrainStep(MFTrainOneStepCell):
    """A whole step, with the outputs of TrainStep.

    Parameters
    ----------
    micro_batch_num : micro-batches of a step, each divided by the labels of all; their losses are summed.
    stages : pipeline stages.
    others : as in MFTrainOneStepCell.
    """

    def __init__(self, network, optimizer, micro_batch_num=1, stages=1, **kwargs):
        super().__init__(network, optimizer, **kwargs)
        self.on_cpu = target() == "CPU"
        self.value_and_grad = ops.value_and_grad(self.network, None, self.weights)
        losses = get_real_models(network)
        self.values = len(losses.shown)
        self.shown = 1 + self.values + max(1, len(losses.counted))  # length: loss, its parts, their counts
        self.draw = losses.draw
        self.micros = micro_batch_num
        self.sums = ()  # gradient sums over the micro-batches of a step so far
        if micro_batch_num > 1:
            # MindSpore looks for this name to accumulate the gradients of micro-batches
            self.accu_grads = float32_zeros(self.weights, "accu_grads")
            self.sums = tuple(self.accu_grads)
        self.opt_shard = _get_enable_parallel_optimizer()
        self.stages, self.is_last = stages, True
        if stages > 1:
            size, rank = get_group_size() // stages, get_rank()
            self.is_last = rank // size == stages - 1
            group = f"stages_of_{rank % size}"
            create_group(group, [rank % size + i * size for i in range(stages)])
            self.sum_over_stages = ops.AllReduce(group=group)

    def start_overflow_check(self, pre_cond, compute_input):
        """Clear the overflow flag before the step, on devices that have one."""
        if self.on_cpu:
            return pre_cond, compute_input
        return super().start_overflow_check(pre_cond, compute_input)

    def __call__(self, *inputs):
        """Choose dropout's masks, then run; within a stage's graph the order would be undefined."""
        self.draw(inputs)
        return super().__call__(*inputs)

    def construct(self, *inputs):
        """Run one step; (loss, not finite, loss scale, learning rate, gradient norm, values_K, counts_J)."""
        status, inputs = self.start_overflow_check(self.scale_sense, inputs)
        shown, grads = self.value_and_grad(*inputs)
        totals = ops.depend(self.accu_grads, grads) if self.micros > 1 else grads
        # with optimizer parallel the gradients of the last micro-batch are already those of all
        shares = grads if self.opt_shard else totals
        clipped, norm = self.clip_grad_norm(shares)
        norm = norm.reshape(())
        if self.on_cpu:
            bad = ops.logical_not(ops.isfinite(norm))
        else:
            bad = self.process_loss_scale(self.get_overflow_status(status, shares))
        rate = self.learning_rate(self.optimizer.global_step).reshape(())
        if not bad:
            shown = ops.depend(shown, self.optimizer(clipped))
        if self.micros > 1:
            shown = ops.depend(shown, self.hyper_map(_clear, totals, grads))
        if self.stages > 1:
            none = ops.zeros((self.shown,), ms.float32)
            shown = self.sum_over_stages(shown if self.is_last else ops.depend(none, shown))
        values_K, counts_J = shown[1 : 1 + self.values], shown[1 + self.values :]
        return shown[0], bad, self.scale_sense, rate, norm, values_K, counts_J


class ShardedCheckpoint:
    """Saves a sharded network: every process writes its slices into one checkpoint.

    Parameters
    ----------
    step_cell : compiled; it has the layout of the parameters.
    rank : of this process.
    meet : waits for all processes and returns the sum of their numbers.
    """

    def __init__(self, step_cell: ParallelTrainStep, rank: int, meet):
        self.layouts, self.stages = step_cell.parameter_layout_dict, step_cell.stages
        self.rank, self.meet = rank, meet

    def save(self, folder: Path, step: int, arrays: dict, about: dict, keep_last: int) -> Path:
        """As checkpoint.save; all processes call it."""
        # weights of other stages exist in this process too, with their start values
        absent = {
            name
            for name, values in arrays.items()
            if self.stages > 1 and name not in self.layouts and values.size > 1
        }
        temp = folder / checkpoint.temporary_name(step)
        try:
            self._together(folder, lambda: checkpoint.begin(folder, step), True)
            self._together(folder, lambda: shards.write(temp, self.rank, arrays, self.layouts, absent))
            return self._together(folder, lambda: checkpoint.finish(folder, step, about, keep_last), True)
        finally:
            if self.rank == 0:
                checkpoint.sweep(folder)

    def _together(self, folder: Path, do, first: bool = False):
        """Run an action in all processes, or in the first alone; if one fails, all fail."""
        done, problem = None, None
        try:
            done = do() if self.rank == 0 or not first else None
        except OSError as error:
            problem = UserError(f"{folder}: cannot write the checkpoint ({error.strerror})")
        except UserError as error:
            problem = error
        if self.meet(int(problem is not None)):
            raise problem or UserError(f"{folder}: another process could not write the checkpoint")
        return done
