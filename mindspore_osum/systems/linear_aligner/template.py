"""The sequence layouts of the linear aligner by prompt set: from ``prompts.yaml``, or a user's file."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mindspore_osum.config import did_you_mean, read_yaml
from mindspore_osum.errors import UserError
from mindspore_osum.text.template import Template, check_keys, read_prompts, read_template

TASKS = ("asr", "st", "qa", "text")
LOSSES = ("answer",)
_TEXTS = ("left", "right", "assistant", "turn_end")


@dataclass(frozen=True)
class Layout:
    """A template, and the words of a task in it.

    Attributes
    ----------
    tags : task -> what names it.
    requests : task -> the request where a person gives none; `text` has none.
    """

    template: Template
    tags: dict[str, str]
    requests: dict[str, str]

    def words(self, task: str, request: str | None) -> dict[str, str | None]:
        """The words of a turn: `tag` and `request`."""
        return {"tag": self.tags[task], "request": request or self.requests.get(task)}


@lru_cache(maxsize=8)
def load_layout(name: str) -> Layout:
    """The layout of a set of ``prompts.yaml``, or of a YAML file with one set if `name` ends in ``.yaml``.

    Raises
    ------
    UserError : no such set or file, missing or unknown keys, or a value that is not text.
    """
    data = read_yaml(str(Path(__file__).with_name("prompts.yaml")))
    if name.endswith((".yaml", ".yml")):
        chosen = read_prompts(name)
    elif name in data["sets"]:
        chosen = data["sets"][name]
    else:
        known = data["sets"]
        raise UserError(f"prompt set {name!r}: no such set{did_you_mean(name, known)}, or give a .yaml file")
    check_keys(name, chosen, (*_TEXTS, "tags", "requests", "end"))
    for key, tasks in (("tags", TASKS), ("requests", TASKS[:-1])):
        check_keys(f"{name}: {key}", chosen[key], tasks)
        for task, words in chosen[key].items():
            if not isinstance(words, str):
                raise UserError(f"{name}: {key}: {task}: expected a text in quotes, not {words!r}")
    values = data["template"] | {"texts": {key: chosen[key] for key in _TEXTS}, "end": chosen["end"]}
    return Layout(read_template(name, values, LOSSES), dict(chosen["tags"]), dict(chosen["requests"]))
