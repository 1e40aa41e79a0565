"""The published natural-language requests, from the data file ``requests.yaml`` in this folder."""

from functools import lru_cache
from pathlib import Path

from mindspore_osum.config import read_yaml


def task_requests(abbr: str) -> tuple[str, ...]:
    """Return the published natural-language requests of a task (``"asr"``...)."""
    return tuple(_data()["requests"][abbr])


def intent_instructions() -> tuple[str, ...]:
    """Return the known published instructions for intent classification."""
    return tuple(_data()["intent_instructions"])


def intent_request(words: str, instruction: str | None = None) -> str:
    """Return the request for intent classification of a user's words: ``instruction:words``."""
    return f"{intent_instructions()[0] if instruction is None else instruction}:{words}"


@lru_cache(maxsize=1)
def _data() -> dict:
    return read_yaml(str(Path(__file__).with_name("requests.yaml")))
