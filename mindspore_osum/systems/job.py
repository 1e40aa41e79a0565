"""The interface of training jobs: what training/ needs of a system."""

from dataclasses import dataclass
from typing import Any

from mindspore_osum.systems.config import Config


@dataclass(frozen=True)
class NamedLoss:
    """A loss that a run reports, by its name in metrics.jsonl.

    Parameters
    ----------
    over : the count that the loss is averaged over, "targets_B" or "utterances_B"; "" where the objective
        returns a sum and its count.
    """

    name: str
    over: str = ""


class JobRules:
    """Rules for training jobs of a system's models; does not load MindSpore.

    Attributes
    ----------
    Sections : dataclass of the sections of a job's YAML that belong to the system, including `learn`.
    parts : names allowed in `learn`.
    speech_parts : the parts unused by a job without recordings, as attributes of the model.
    """

    Sections: type
    parts: tuple[str, ...]
    speech_parts: tuple[str, ...] = ()

    def part_of(self, parameter: str) -> str:
        """The part that a parameter of the objective belongs to; the prefix "model." is optional."""
        raise NotImplementedError

    def check(self, job: Any) -> None:
        """Refuse sections that cannot work, naming the key."""

    def model(self, job: Any, model: Config) -> Config:
        """The model that a job trains, of the one that it starts from."""
        return model

    def check_model(self, job: Any, model: Config, tokenizer: Any = None) -> None:
        """Refuse a model that does not fit the job or the tokenizer."""

    def unsharded(self, job: Any) -> list[str]:
        """Keys of requested features that a sharded model does not support."""
        return []

    def needs_speech(self, job: Any) -> list[str]:
        """Requested sections that need recordings."""
        return []
