"""Training jobs of a linear aligner; loads neither MindSpore nor PyTorch."""

from dataclasses import dataclass, field

from mindspore_osum.errors import UserError
from mindspore_osum.systems.job import JobRules
from mindspore_osum.systems.linear_aligner.config import LinearAlignerConfig


@dataclass(frozen=True)
class Sections:
    """The sections of a job that belong to the linear aligner."""

    # parts that learn: the paper trains the adapter (its one linear layer), then lora
    learn: list[str] = field(default_factory=lambda: ["adapter"])


class AlignerJob(JobRules):
    """The rules of a job."""

    Sections = Sections
    parts = ("encoder", "adapter", "lora", "decoder")
    speech_parts = ("encoder", "adapter")

    def part_of(self, parameter: str) -> str:
        """The part that a parameter belongs to."""
        return "lora" if "lora_" in parameter else parameter.removeprefix("model.").partition(".")[0]

    def check(self, job) -> None:
        """Refuse values that cannot work, naming the key."""
        if job.data.other_requests:
            raise UserError("data.other_requests: a linear aligner has one request for each task; leave it 0")
        if job.is_sharded:
            raise UserError(
                "parallel.parallel_mode: 1 shards OSUM models only; a linear aligner trains with 0"
            )

    def check_model(self, job, model: LinearAlignerConfig, tokenizer=None) -> None:
        """Refuse what does not fit the model."""
        wanted = "float32" if job.device == "CPU" else "bfloat16 (or float32)"
        if model.dtype not in wanted:
            raise UserError(
                f"model.start: it is in {model.dtype}; train in {wanted} on {job.device}: "
                f"model.overrides.dtype={wanted.split()[0]}"
            )
        if "lora" in job.learn and not model.lora.rank:
            raise UserError(
                "learn: names lora, but the model's lora.rank is 0; set model.overrides.lora.rank"
            )
        longest, padded = max(job.batch.seconds, default=0.0), model.encoder.pad_to_seconds
        if 0 < longest < padded:
            raise UserError(
                f"batch.seconds: {longest:g}, but the model pads recordings to {padded:g}; give that, or "
                "train and use it without padding: model.overrides.encoder.pad_to_seconds=0"
            )
        if tokenizer is None:
            return
        if tokenizer.vocab_size > model.decoder.vocab_size:
            raise UserError(
                f"{tokenizer.path}: {tokenizer.vocab_size} pieces, but the model's decoder.vocab_size is "
                f"{model.decoder.vocab_size}; give the model's own tokenizer"
            )
        if tokenizer.eos_id != model.decoder.eos_id:
            raise UserError(
                f"{tokenizer.path}: eos_id is {tokenizer.eos_id}, the model's decoder.eos_id is "
                f"{model.decoder.eos_id}; set that in model.overrides, or give the model's own tokenizer"
            )


JOB = AlignerJob()
