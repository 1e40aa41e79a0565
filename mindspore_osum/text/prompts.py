"""Prompt sets and requests, read from the data file ``prompts.yaml`` beside this module."""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from mindspore_osum.errors import UserError

# Output types by whether the sequence holds speech, and whether it holds the user's request
# (OSUM-Pangu trains spoken chat without one).
OUTPUT_TYPES = {
    "text": (True, True),
    "s2t_chat": (True, False),
    "text2text": (False, True),
    "intent_classification": (False, True),
}
DEFAULT_SET = "osum_pangu"


@dataclass(frozen=True)
class PromptSet:
    """The fixed text around request and speech.

    Attributes
    ----------
    name : str
        Name in ``prompts.yaml`` or the path of the user's own file.
    left : dict[str, str]
        Output type -> text before the request (system text and user header).
    assistant : str
        Text between the speech (or the request) and the answer.
    """

    name: str
    left: dict[str, str]
    assistant: str


def load_prompt_set(name: str = DEFAULT_SET) -> PromptSet:
    """Return a prompt set of ``prompts.yaml``, or the one in a YAML file if ``name`` ends in ``.yaml``.

    A user's file holds one set: ``left`` (a text per output type) and ``assistant``.

    Raises
    ------
    UserError
        No such set or file, broken YAML, missing or unknown keys, or a value that is not text.
    """
    if str(name).endswith((".yaml", ".yml")):
        return _checked(str(name), _read_yaml(Path(name)))
    sets = _data()["sets"]
    if name not in sets:
        raise UserError(
            f"prompt set {name!r}: no such set{_hint(name, sets)}; "
            f"choose one of {', '.join(sets)} or give a .yaml file"
        )
    return _checked(name, sets[name])


def task_requests(abbr: str) -> tuple[str, ...]:
    """Return the published natural-language requests of a task (``"asr"``...)."""
    return tuple(_data()["requests"][abbr])


def intent_instructions() -> tuple[str, ...]:
    """Return the published instructions for intent classification that are known."""
    return tuple(_data()["intent_instructions"])


def intent_request(words: str, instruction: str | None = None) -> str:
    """Return the request that asks for the tags of a user's words: ``instruction:words``."""
    return f"{intent_instructions()[0] if instruction is None else instruction}:{words}"


@lru_cache(maxsize=1)
def _data() -> dict:
    return _read_yaml(Path(__file__).with_name("prompts.yaml"))


def _read_yaml(path: Path):
    import yaml

    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except OSError as e:
        raise UserError(f"{path}: cannot read the prompt file ({e.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        where = f":{e.problem_mark.line + 1}" if getattr(e, "problem_mark", None) else ""
        raise UserError(f"{path}{where}: broken YAML; compare text/prompts.yaml") from None


def _checked(name: str, data) -> PromptSet:
    _check_keys(name, data, ("left", "assistant"))
    _check_keys(f"{name}: left", data["left"], tuple(OUTPUT_TYPES))
    for key, text in [("assistant", data["assistant"]), *data["left"].items()]:
        if not isinstance(text, str):
            raise UserError(f"{name}: {key}: expected a text in quotes, got {type(text).__name__}")
    return PromptSet(name, dict(data["left"]), data["assistant"])


def _check_keys(where: str, data, keys: tuple[str, ...]) -> None:
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected the keys {', '.join(keys)}")
    for key in data:
        if key not in keys:
            raise UserError(f"{where}: unknown key {key!r}{_hint(key, keys)}; known: {', '.join(keys)}")
    if missing := [k for k in keys if k not in data]:
        raise UserError(f"{where}: missing {', '.join(missing)}; add it (an empty text is allowed)")


def _hint(word, known) -> str:
    close = get_close_matches(str(word), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
