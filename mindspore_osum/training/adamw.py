"""AdamW for weights of 16 bits: it keeps them in float32 and gives the network rounded copies.

A bfloat16 weight has 8 significant bits, so a step below 1/512 of the weight would be lost, and most are
(Micikevicius et al. 2018, section 3.1; DeepSpeed, which trained the published model, keeps such copies too).
"""

import mindspore as ms
from mindformers.core.optim.adamw import AdamW
from mindspore import ops

_round_into = ops.MultitypeFuncGraph("round_into")


@_round_into.register("Tensor", "Tensor")
def _assign(weight, master):
    return ops.assign(weight, ops.cast(master, weight.dtype))


class MasterAdamW(AdamW):
    """MindFormers' AdamW on float32 copies of the parameters, named master.*; the arguments are the same."""

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
