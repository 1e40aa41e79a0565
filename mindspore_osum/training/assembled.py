"""A training step put together without MindFormers' Trainer, as the Trainer does it from a job's config."""

from mindspore_osum.training.adamw import MasterAdamW, OsumAdamW
from mindspore_osum.training.network import TrainingNetwork
from mindspore_osum.training.schedule import WarmupLR
from mindspore_osum.training.step import TrainStep


def assemble(
    network: TrainingNetwork, rate: WarmupLR, decay: float, clip: float, accumulation: int = 1, **adam
) -> TrainStep:
    """The step of a network, in training mode.

    Parameters
    ----------
    decay : weight decay; norms and biases have none.
    clip : largest norm of a gradient.
    accumulation : micro-batches of a step.
    adam : `betas`, `eps`, and of `part_rates.arguments`.
    """
    weights = [p for p in network.get_parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if len(p.shape) > 1], "weight_decay": decay},
        {"params": [p for p in weights if len(p.shape) == 1], "weight_decay": 0.0},
    ]
    optimizer = OsumAdamW if network.model.cfg.dtype == "float32" else MasterAdamW
    step = TrainStep(
        network,
        optimizer([group for group in groups if group["params"]], learning_rate=rate, **adam),
        use_clip_grad=True,
        max_grad_norm=clip,
        scale_sense=1.0,
        accumulation=accumulation,
    )
    return step.set_train(True)
