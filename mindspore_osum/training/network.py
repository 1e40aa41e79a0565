"""The training network: a system's objective, in the form MindFormers builds from a config.

Notable choices
- It is independent of columns and losses, which the system defines. A graph's inputs have no names, so
  columns arrive in the order in which the extractor declares them, then the loader's own; they are passed on
  by name.
- Parameters have the names of the objective: "model." for the model, all others are heads.

Legend: K reported losses, J counts of those that are sums.
"""

import os

import mindspore as ms
from mindformers.models import PretrainedConfig, PreTrainedModel
from mindspore import nn, ops

from mindspore_osum.config import from_dict
from mindspore_osum.data.batches.batching import DRAWS, STEP_COLUMNS
from mindspore_osum.models.dropout import count_by_stage, count_dropout
from mindspore_osum.models.sharding import ParallelConfig
from mindspore_osum.systems.registry import from_values, system_of
from mindspore_osum.training.checkpoint import load_heads, load_start
from mindspore_osum.training.encoded import GivenFrames


class NetworkConfig(PretrainedConfig):
    """Config that MindFormers passes to the network: the model's description and the job's settings for it.

    Parameters
    ----------
    model : `registry.to_values` of its Config.
    start : model folder, or "" for random weights.
    learn : parts that learn.
    sections : fields of the other sections of the job that are the system's own.
    vocab : vocabulary size of the job's tokenizer.
    seed : of random weights.
    speech : whether any example of the job has a recording.
    encoded : whether the features are frames of the encoder (encoded.py).
    kwargs : keys that MindFormers adds.
    """

    def __init__(
        self,
        model=None,
        start="",
        learn=(),
        sections=None,
        vocab=0,
        seed=0,
        speech=True,
        encoded=False,
        **kwargs,
    ):
        self.model, self.start, self.learn, self.encoded = model or {}, start, list(learn), encoded
        self.sections, self.vocab = sections or {}, vocab
        self.seed, self.speech = seed, speech
        super().__init__(**kwargs)


class TrainingNetwork(PreTrainedModel):
    """The losses of a batch.

    Attributes
    ----------
    columns : names of the inputs, in their order.
    shown : names of the K reported losses; `over` what each is a mean over.
    counted : names of the J losses that are sums.
    objective : of the system; contains the model.
    """

    config_class = NetworkConfig
    base_model_prefix = "objective"

    def __init__(self, config: NetworkConfig):
        super().__init__(config, auto_prefix=False)
        cfg = from_values(config.model, "model")
        system = system_of(cfg.model_type)
        self.columns = (*(column.name for column in system.columns), *STEP_COLUMNS)
        model = system.build(cfg)
        system.init_weights(
            model, config.seed, load_start(model, config.start, config.seed) if config.start else ()
        )
        if config.encoded:
            model.encoder = GivenFrames(getattr(ms, cfg.dtype))
        sections = from_dict(system.job.Sections, config.sections, "job")
        self.objective = system.objective(model, sections, config.vocab, config.seed, config.speech)
        self.shown = tuple(loss.name for loss in self.objective.losses)
        self.over = tuple(loss.over for loss in self.objective.losses)
        self.counted = tuple(loss.name for loss in self.objective.losses if not loss.over)
        if config.start:
            load_heads(self.objective, config.start)
        for name, param in self.objective.parameters_and_names():
            param.requires_grad = system.job.part_of(name) in config.learn
        is_sharded = ms.get_auto_parallel_context("parallel_mode") == "semi_auto_parallel"
        parallel = getattr(config, "parallel_config", None)  # MindFormers adds it
        self.sharded = self._shard(ParallelConfig.of(parallel)) if is_sharded else None
        # a sharded mask is the same for all processes
        rank = 0 if is_sharded else int(os.environ.get("RANK_ID", "0"))
        self.draws = count_dropout(model, config.seed, rank)
        if self.draws is not None:
            if is_sharded and parallel.pipeline_stage > 1:
                count_by_stage(self.draws, model.stages(parallel.pipeline_stage))
            self.drawn = self.draws.parameters
        if parallel is not None and parallel.recompute.recompute:
            model.recompute_layers(parallel.recompute)

    @property
    def model(self) -> nn.Cell:
        """The system's network."""
        return self.objective.model

    def _shard(self, p: ParallelConfig) -> nn.Cell:
        """Shard the model over devices; its losses."""
        self.model.shard(p)
        return self.objective.sharded(p)

    def check_pipeline_stage(self):
        """Required by MindFormers; models/sharding.py `check_split` has checked the stages."""

    def named(self, batch):
        """The columns by name; a graph loses shapes and types with `dict(zip(...))`."""
        return {name: column for name, column in zip(self.columns, batch)}  # noqa: C416

    def draw(self, batch: tuple) -> None:
        """Choose the dropout masks of a batch; called before its step, outside of the graph."""
        if self.draws is not None:
            self.draws.begin(int(batch[self.columns.index(DRAWS)].asnumpy()[0]))

    def losses(self, *batch):
        """(loss, values_K, counts_J) of the objective, float32, in the order of `shown`."""
        columns = self.named(batch)
        loss, values, counts = self.objective(columns)
        values_K = ops.stack([values[name] for name in self.shown])
        if not self.counted:
            return loss, values_K, ops.zeros((1,), ms.float32)
        return loss, values_K, ops.stack([counts[name] for name in self.counted])

    def construct(self, *batch):
        """The loss; of a sharded network one vector of loss, values_K and counts_J."""
        return self.losses(*batch)[0] if self.sharded is None else self.sharded(self.named(batch))


class Evaluation(nn.Cell):
    """Evaluation: sums over a batch, (values_K, counts_J); means are multiplied by their counts."""

    def __init__(self, network: TrainingNetwork):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, *batch):
        _, values_K, counts_J = self.network.losses(*batch)
        columns = self.network.named(batch)
        one = ops.ones((), ms.float32)
        times_K = ops.stack([ops.mean(columns[name]) if name else one for name in self.network.over])
        return values_K * times_K, counts_J
