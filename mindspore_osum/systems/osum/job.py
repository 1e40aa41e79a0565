"""Training jobs of OSUM models: sections of the YAML, parts that learn, checks of combinations.

Imports neither MindSpore nor PyTorch.
"""

from dataclasses import dataclass, field

from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError
from mindspore_osum.systems.job import JobRules
from mindspore_osum.systems.osum.config import ModelConfig


@dataclass(frozen=True)
class Loss:
    """Weights of the two spans of an answer (OSUM-Pangu eq. 5: L_intent + L_speech on one sequence)."""

    intent: float = 1.0  # of each label of the tags; of all labels of intent classification
    content: float = 1.0  # of each label after the tags, the end included


@dataclass(frozen=True)
class Ctc:
    """Auxiliary CTC loss (Graves et al. 2006), which teaches an untrained encoder to align."""

    weight: float = 0.0  # of the CTC loss added to the cross-entropy; 0 = off
    at: str = "encoder"  # its input: "encoder" frames (20 ms) or "adapter" speech tokens (80 ms)
    # weight of an additional frame-wise cross-entropy, where word times are known (extra.words, or an answer
    # with times): an untrained encoder learns to align much faster; at the adapter only, and
    # not together with wave_augment.speeds
    aligned: float = 0.0
    only: bool = False  # no cross-entropy and no decoder: warms encoder (and adapter) up


@dataclass(frozen=True)
class Classify:
    """Auxiliary classifiers of event, emotion, style, gender and age on the mean speech token: with CTC the
    multi-task warm-up of OSUM's encoder (OSUM 3.2). Labels are those of `extra`, or of the answer."""

    weight: float = 0.0  # of their summed cross-entropies; 0 = off


@dataclass(frozen=True)
class Sections:
    """The sections of a job that belong to OSUM."""

    # parts that learn: encoder, adapter (with the speech embeddings), lora, decoder (without lora)
    learn: list[str] = field(default_factory=lambda: ["encoder", "adapter", "lora"])
    loss: Loss = field(default_factory=Loss)
    ctc: Ctc = field(default_factory=Ctc)
    classify: Classify = field(default_factory=Classify)


class OsumJob(JobRules):
    """The rules of a job for an OSUM model."""

    Sections = Sections
    parts = ("encoder", "adapter", "lora", "decoder")
    speech_parts = ("encoder", "adapter")

    def part_of(self, parameter: str) -> str:
        """The part a parameter of the model, or of the objective's heads, belongs to."""
        if "lora_" in parameter:
            return "lora"
        name = parameter.removeprefix("model.")
        if name.startswith(("adapter.", "speech_token_embed.", "classify.")):
            return "adapter"
        return "decoder" if name.startswith("decoder.") else "encoder"  # the CTC head learns with the encoder

    def check(self, job) -> None:
        """Refuse values that cannot work, naming the key."""
        loss, ctc, classify = job.loss, job.ctc, job.classify

        def need(ok: bool, what: str):
            if not ok:
                raise UserError(what)

        places = ("encoder", "adapter")
        need(ctc.at in places, f"ctc.at: {ctc.at!r} is unknown{did_you_mean(str(ctc.at), places)}")
        weights = {
            "loss.intent": loss.intent,
            "loss.content": loss.content,
            "ctc.weight": ctc.weight,
            "ctc.aligned": ctc.aligned,
            "classify.weight": classify.weight,
        }
        for name, weight in weights.items():
            need(weight >= 0, f"{name}: {weight} must not be negative")
        need(not ctc.only or ctc.weight > 0, "ctc.only: needs ctc.weight above 0")
        alone = ctc.aligned == 0 or (ctc.weight > 0 and ctc.at == "adapter")
        need(alone, "ctc.aligned: needs ctc.weight above 0 and ctc.at: adapter")
        still = ctc.aligned == 0 or set(job.wave_augment.speeds) == {1.0}
        need(still, "ctc.aligned: the times of words do not follow wave_augment.speeds; give one of them up")
        learned = loss.intent + loss.content + ctc.weight + classify.weight
        need(learned > 0, "loss, ctc, classify: all weights are 0")

    def check_model(self, job, model: ModelConfig, tokenizer=None) -> None:
        """Refuse a model that does not fit the job or its tokenizer."""
        if tokenizer is not None:
            check_tokenizer(model, tokenizer)
        if "lora" in job.learn and not model.lora.rank:
            raise UserError(
                "learn: names lora, but the model's lora.rank is 0; set model.overrides.lora.rank"
            )

    def unsharded(self, job) -> list[str]:
        """Keys of requested features that a sharded model does not support."""
        weights = {"ctc.weight": job.ctc.weight, "classify.weight": job.classify.weight}
        return [key for key, weight in weights.items() if weight > 0]

    def needs_speech(self, job) -> list[str]:
        """Requested sections that need recordings."""
        return [name for name in ("ctc", "classify") if getattr(job, name).weight]


def check_tokenizer(model: ModelConfig, tokenizer) -> None:
    """Refuse a tokenizer with more pieces than the model has embeddings, or with other special tokens."""
    if tokenizer.vocab_size > model.decoder.vocab_size:
        raise UserError(
            f"{tokenizer.path}: {tokenizer.vocab_size} pieces, but the model's decoder.vocab_size is "
            f"{model.decoder.vocab_size}; set model.overrides.decoder.vocab_size"
        )
    for name in ("bos_id", "eos_id"):
        ours, theirs = getattr(model.decoder, name), getattr(tokenizer, name)
        if theirs is not None and ours != theirs:  # None: byte-level BPE without a beginning, as Qwen2's
            raise UserError(
                f"{tokenizer.path}: {name} is {theirs}, the model's decoder.{name} is {ours}; set it in "
                "model.overrides.decoder, or give the model's own tokenizer"
            )


JOB = OsumJob()
