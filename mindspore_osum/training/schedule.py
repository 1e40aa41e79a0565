"""Learning rate by optimizer step: linear warm-up, then inverse square root, linear or cosine."""

import mindspore as ms
from mindspore import ops
from mindspore.nn.learning_rate_schedule import LearningRateSchedule


class WarmupLR(LearningRateSchedule):
    """The rate of optimizer step s = 1, 2, ...

    inverse_sqrt : lr * w^0.5 * min(s^-0.5, s * w^-1.5), WeNet's WarmupLR that OSUM-Pangu was trained with;
    linear, cosine : lr * s / w up to w, then down to 0 at `total_steps`.

    Parameters
    ----------
    learning_rate : the peak, reached at s = w.
    warmup_steps : w, at least 1.
    total_steps : of the job; not used by inverse_sqrt.
    kind : inverse_sqrt, linear or cosine.
    """

    def __init__(self, learning_rate: float, warmup_steps: int, total_steps: int, kind: str = "inverse_sqrt"):
        super().__init__()
        self.learning_rate, self.warmup, self.kind = learning_rate, float(warmup_steps), kind
        self.decay_steps = float(max(total_steps - warmup_steps, 1))

    def construct(self, global_step):
        """Rate, float32, for the number of steps already taken (0 before the first)."""
        step = ops.cast(global_step, ms.float32) + 1.0
        rise = step / self.warmup
        if self.kind == "inverse_sqrt":
            return self.learning_rate * ops.minimum(rise, ops.sqrt(self.warmup / step))
        done = ops.clamp((step - self.warmup) / self.decay_steps, 0.0, 1.0)
        fall = 1.0 - done
        if self.kind == "cosine":
            fall = 0.5 * (1.0 + ops.cos(done * 3.141592653589793))
        return self.learning_rate * ops.minimum(rise, fall)
