"""AdamW (Loshchilov & Hutter 2019) of MindFormers, with one kernel per parameter on CPU and float32 master
copies of 16-bit weights.

Notable choices
- State, names and results are those of MindFormers. On CPU one AdamWeightDecay operator replaces its 25 small
  operators per parameter; it lacks bias correction, which is folded into rate, epsilon and decay (below).
- One schedule serves all parameters; those with a peak of their own have a factor of its rate.
- A bfloat16 weight has 8 significant bits, so an update below 1/512 of the weight is lost, and most are that
  small (Micikevicius et al. 2018, section 3.1). DeepSpeed, which trained the published model, keeps float32
  copies too.
"""

import mindspore as ms
from mindformers.core.optim.adamw import AdamW
from mindspore import ops

from mindspore_osum.models.target import target
from mindspore_osum.training import part_rates

_adam_weight_decay = ops.AdamWeightDecay()
_fused = ops.MultitypeFuncGraph("fused_adamw")
_round_into = ops.MultitypeFuncGraph("round_into")


@_fused.register(*["Tensor"] * 10)
def _update(beta1, beta2, eps, ratio, rate, decay, param, grad, mean, square):
    grad = ops.cast(grad, ms.float32)
    return _adam_weight_decay(param, mean, square, rate, beta1, beta2, eps, decay * ratio, grad)


@_round_into.register("Tensor", "Tensor")
def _assign(weight, master):
    return ops.assign(weight, ops.cast(master, weight.dtype))


class OsumAdamW(AdamW):
    """MindFormers' AdamW for float32 parameters, with its arguments and one more.

    Parameters
    ----------
    factors : of the learning rate, by keys of part_rates.py; None where all learn at one rate.
    system : model_type of the network, which knows the parts.
    """

    # in a graph super() means the parent of the object's own class, here of MasterAdamW: this method again
    small_operators = AdamW.construct

    def __init__(self, *args, factors=None, system="", **kwargs):
        super().__init__(*args, **kwargs)
        self.on_cpu = target() == "CPU"
        self.factors = ()
        if factors:
            self.factors = tuple(part_rates.factor(p.name, factors, system) for p in self._parameters)
            self.is_group_lr = True  # one rate for each parameter, by `get_lr`

    def get_lr(self):
        """The rate of the current step, float32, or a tuple of one for each parameter."""
        rate = self.learning_rate(self.global_step) if self.dynamic_lr else self.learning_rate
        rate = rate.reshape(())
        if not self.factors:
            return rate
        rates = ()
        for factor in self.factors:
            rates += (rate * factor,)
        return rates

    def construct(self, gradients):
        """Update the parameters by their gradients."""
        if not self.on_cpu:
            return self.small_operators(gradients)
        decay, rate = self.get_weight_decay(), self.get_lr()
        if not self.is_group:  # then it is one number
            decay = (decay,) * len(self._parameters)
        step = self.assignadd(self.global_step, self.global_step_increase_tensor)
        step = ops.cast(step, ms.float32).reshape(())
        beta1, beta2 = self.beta1.reshape(()), self.beta2.reshape(())
        # rate * m/c1 / (sqrt(v/c2) + eps) = r * m / (sqrt(v) + eps sqrt(c2))  with  r = rate * sqrt(c2)/c1;
        # the operator adds decay * w inside of r (...), so decay is divided by sqrt(c2)/c1
        c1, root_c2 = 1.0 - ops.pow(beta1, step), ops.sqrt(1.0 - ops.pow(beta2, step))
        eps, ratio = self.eps.reshape(()) * root_c2, c1 / root_c2
        states = self._parameters, gradients, self.exp_avg, self.exp_avg_sq
        if not self.factors:
            update = ops.partial(_fused, beta1, beta2, eps, ratio, rate * root_c2 / c1)
            return self.hyper_map(update, decay, *states)
        rates = ()
        for one in rate:
            rates += (one * root_c2 / c1,)
        return self.hyper_map(ops.partial(_fused, beta1, beta2, eps, ratio), rates, decay, *states)


class MasterAdamW(OsumAdamW):
    """AdamW on float32 copies of the parameters, named master.*; the network gets the rounded values."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.rounded = self._parameters
        self.masters = self.clone_state(prefix="master", init="zeros")
        for master, weight in zip(self.masters, self.rounded, strict=True):
            master.set_data(weight.astype(ms.float32))
        self._parameters = self.masters  # what the parent updates

    def construct(self, gradients):
        """Update the copies, then the network's weights."""
        done = super().construct(gradients)
        masters = ops.depend(self.masters, done)
        return self.hyper_map(_round_into, self.rounded, masters)
