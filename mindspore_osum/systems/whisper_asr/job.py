"""Training jobs of a Whisper: what learns, and the tasks that get tags; loads nothing heavy."""

from dataclasses import dataclass, field, replace

from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError
from mindspore_osum.systems.job import JobRules
from mindspore_osum.systems.whisper_asr.config import WhisperConfig
from mindspore_osum.systems.whisper_asr.tags import LABELS, tags_for


@dataclass(frozen=True)
class Loss:
    """Cross-entropy of the prompt's tokens after the first, of the answer and its end."""

    # share of each target that is spread over all other tokens (Szegedy et al. 2016); published: 0.1
    smoothing: float = 0.1


@dataclass(frozen=True)
class Sections:
    """The sections of a job that belong to Whisper."""

    learn: list[str] = field(default_factory=lambda: ["encoder", "decoder"])  # parts that learn
    # label tasks that the model gets tags for, where it has none: caption, emotion, style, gender, age
    labels: list[str] = field(default_factory=lambda: list(LABELS))
    loss: Loss = field(default_factory=Loss)


class WhisperJob(JobRules):
    """The rules of a job for a Whisper."""

    Sections = Sections
    parts = ("encoder", "decoder")

    def part_of(self, parameter: str) -> str:
        """The part a parameter belongs to; the encoder's positions, as published, are none that learns."""
        name = parameter.removeprefix("model.")
        return "positions" if name == "encoder.embed_positions.weight" else name.split(".")[0]

    def check(self, job) -> None:
        """Refuse values that cannot work, naming the key."""
        for name in job.labels:
            if name not in LABELS:
                raise UserError(f"labels: {name!r} is unknown{did_you_mean(str(name), LABELS)}")
        if not 0 <= job.loss.smoothing < 1:
            raise UserError(f"loss.smoothing: {job.loss.smoothing} is a share, from 0 to below 1")
        if job.batch.pack:
            raise UserError("batch.pack: the recordings of a Whisper are padded; leave it 0")
        if not job.batch.seconds:
            raise UserError("batch.seconds: a Whisper learns from recordings; give their longest length")
        if job.data.other_requests:
            raise UserError("data.other_requests: a Whisper has no requests in words; leave it 0")
        if job.is_sharded:
            raise UserError("parallel.parallel_mode: 1 shards OSUM models only; a Whisper trains with 0")

    def model(self, job, model: WhisperConfig) -> WhisperConfig:
        """The model with tags for the job's labels behind those that it has."""
        more = tuple(tag for tag in tags_for(job.labels) if tag not in model.tags)
        rows = model.decoder.vocab_size + len(more)
        return replace(model, tags=model.tags + more, decoder=replace(model.decoder, vocab_size=rows))

    def check_model(self, job, model: WhisperConfig, tokenizer=None) -> None:
        """Refuse what does not fit the model, and give the tokenizer the tags."""
        from mindspore_osum.systems.whisper_asr.tokenizer import fit_tokenizer

        wanted = "float32" if job.device == "CPU" else "bfloat16 (or float32)"
        if model.dtype not in wanted:
            raise UserError(
                f"model.start: it is in {model.dtype}; train in {wanted} on {job.device}: "
                f"model.overrides.dtype={wanted.split()[0]}"
            )
        longest, most = job.batch.seconds[-1], model.features.seconds(model.most_frames)
        if longest > most:
            raise UserError(
                f"batch.seconds: {longest:g} is more than the {most:g} that this Whisper reads at once"
            )
        padded = model.encoder.pad_to_seconds
        if longest < padded:
            raise UserError(
                f"batch.seconds: {longest:g}, but the model pads recordings to {padded:g}; give that, or "
                "train and use it without padding: model.overrides.encoder.pad_to_seconds=0"
            )
        if job.batch.text_tokens > model.decoder.max_positions:
            raise UserError(
                f"batch.text_tokens: {job.batch.text_tokens}, but the decoder has "
                f"{model.decoder.max_positions} positions"
            )
        if tokenizer is not None:
            fit_tokenizer(tokenizer, model, job.model.start)


JOB = WhisperJob()
