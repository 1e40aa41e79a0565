"""Training jobs of a TouchASU; loads neither MindSpore nor PyTorch."""

from dataclasses import dataclass, field

from mindspore_osum.errors import UserError
from mindspore_osum.models.firered.config import FireRedConfig
from mindspore_osum.systems.job import JobRules
from mindspore_osum.systems.touch_asu.config import TouchAsuConfig


@dataclass(frozen=True)
class Loss:
    """Cross-entropy, a mean over all labels of a step."""

    # whether all text is learned, requests, earlier turns and marks too, as published; else the last answer
    prompt: bool = True


@dataclass(frozen=True)
class Sections:
    """The sections of a job that belong to TouchASU."""

    # parts that learn; published: adapter (WEST's projector), and lora if the model has any
    learn: list[str] = field(default_factory=lambda: ["adapter", "lora"])
    loss: Loss = field(default_factory=Loss)


class TouchAsuJob(JobRules):
    """The rules of a job."""

    Sections = Sections
    parts = ("encoder", "adapter", "lora", "decoder")
    speech_parts = ("encoder", "adapter")

    def part_of(self, parameter: str) -> str:
        """The part that a parameter belongs to; positions and statistics of features are none that learns."""
        name = parameter.removeprefix("model.")
        if name == "encoder.embed_positions.weight" or name.startswith("encoder.global_cmvn."):
            return "constants"
        return "lora" if "lora_" in name else name.partition(".")[0]

    def check(self, job) -> None:
        """Refuse values that cannot work, naming the key."""
        if job.data.other_requests:
            raise UserError("data.other_requests: an utterance of a TouchASU has one request; leave it 0")
        if job.is_sharded:
            raise UserError("parallel.parallel_mode: 1 shards OSUM models only; a TouchASU trains with 0")

    def check_model(self, job, model: TouchAsuConfig, tokenizer=None) -> None:
        """Refuse what does not fit the model."""
        if job.batch.pack and isinstance(model.encoder, FireRedConfig):
            raise UserError(
                "batch.pack: the convolutions of a FireRed encoder would mix the recordings of a row; use "
                "batch.max_tokens"
            )
        if "lora" in job.learn and not model.lora.rank:
            raise UserError(
                "learn: names lora, but the model's lora.rank is 0; set model.overrides.lora.rank, or leave "
                "lora out of learn"
            )
        longest, most = max(job.batch.seconds, default=0.0), model.features.seconds(model.most_frames)
        if longest > most:
            raise UserError(
                f"batch.seconds: {longest:g} is more than the {most:g} that this model hears at once "
                "(max_speech_frames)"
            )
        if tokenizer is not None:
            check_tokenizer(tokenizer, model, job.model.start)


def check_tokenizer(tokenizer, model: TouchAsuConfig, where: str) -> None:
    """Refuse a tokenizer that does not belong to a model, or that has another end of a message."""
    from mindspore_osum.systems.touch_asu.template import END
    from mindspore_osum.text.tokenizer import check_ids

    check_ids(tokenizer, model.decoder.vocab_size, model.decoder.eos_id, where)
    end = tokenizer.encode(END)
    if len(end) != 1 or end[0] not in model.eos_ids:
        raise UserError(
            f"{tokenizer.path}: {END} is {end}, none of the model's eos_ids {list(model.eos_ids)}, so no "
            f"answer would end; give the tokenizer of {where}, or set eos_ids"
        )


JOB = TouchAsuJob()
