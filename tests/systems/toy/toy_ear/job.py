"""What a training job can say of it."""

from dataclasses import dataclass, field

from mindspore_osum.errors import UserError
from mindspore_osum.systems.job import JobRules


@dataclass(frozen=True)
class Sections:
    """The part of a job that is the system's own."""

    learn: list[str] = field(default_factory=lambda: ["ear", "decoder"])


class EarJob(JobRules):
    """Its rules."""

    Sections = Sections
    parts = ("ear", "decoder")
    speech_parts = ("ear",)

    def part_of(self, parameter: str) -> str:
        return parameter.removeprefix("model.").partition(".")[0]

    def check(self, job) -> None:
        if job.recompute_config.get("recompute"):
            raise UserError("recompute_config.recompute: a toy ear is too small for it; leave it out")

    def check_model(self, job, model, tokenizer=None) -> None:
        if tokenizer is not None and tokenizer.eos_id != model.decoder.eos_id:
            end = f"{tokenizer.path}: eos_id is {tokenizer.eos_id}"
            raise UserError(f"{end}; set model.overrides.decoder.eos_id")

    def unsharded(self, job) -> list[str]:
        return ["parallel.parallel_mode"]
