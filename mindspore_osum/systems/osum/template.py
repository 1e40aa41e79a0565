"""The sequence layouts of OSUM by prompt set: from ``prompts.yaml`` in this folder, or a user's file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from mindspore_osum.config import did_you_mean, read_yaml
from mindspore_osum.errors import UserError
from mindspore_osum.tasks import TASK_KEYS
from mindspore_osum.text.template import Template, check_keys, read_prompts, read_template

DEFAULT_SET = "osum_pangu"
LOSSES = ("intent", "content")
"""Parts of an answer: the tags that name the task, and all after them."""

GENERATION = ("beams", "temperature", "top_k", "top_p")  # of inference/sampling.py

INTENT, CONTENT = 1, 2  # numbers of the spans


@dataclass(frozen=True)
class OsumTemplate(Template):
    """The layout of a prompt set's sequences, how its answers are written, and its requests.

    Attributes
    ----------
    tags : whether answers begin with the tags of their task; without, they are lower-cased throughout.
    requests : task key -> wordings that the model was trained with; empty where the tags are the request.
    asked : task key -> number, from 1, of the wording used in inference; the first of other keys.
    generation : settings of generation of the publication, for who gives none: keys of `GENERATION`.
    """

    tags: bool = True
    requests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    asked: Mapping[str, int] = field(default_factory=dict)
    generation: Mapping[str, float] = field(default_factory=dict)

    def key_for(self, key: str) -> str | None:
        """The key that the model was trained with: `key` or the shortest that includes it, or None."""
        if not self.requests or key in self.requests:
            return key
        wider = [one for one in self.requests if set(key.split()) <= set(one.split())]
        return min(wider, key=len, default=None)

    def wording(self, key: str) -> str:
        """The wording used in inference, of a key of `requests`."""
        return self.requests[key][self.asked.get(key, 1) - 1]


def load_template(name: str = DEFAULT_SET) -> OsumTemplate:
    """The template with a prompt set of ``prompts.yaml``, or of a YAML file if `name` ends in ``.yaml``.

    A user's file holds one set: ``left`` (a text per output type) and ``assistant``, or ``forms``. What else
    prompts.yaml describes may be left out.

    Raises
    ------
    UserError
        No such set or file, broken YAML, missing or unknown keys, or a value that is not text.
    """
    if str(name).endswith((".yaml", ".yml")):
        return _with(str(name), read_prompts(str(name)))
    sets = _data()["sets"]
    if name not in sets:
        raise UserError(f"prompt set {name!r}: no such set{did_you_mean(name, sets)}, or give a .yaml file")
    return _with(name, sets[name])


def prompt_sets() -> list[str]:
    """Names of the sets in ``prompts.yaml``."""
    return list(_data()["sets"])


def _with(where: str, chosen) -> OsumTemplate:
    """The template with what a prompt set says."""
    fixed = isinstance(chosen, Mapping) and "forms" in chosen
    texts, layout = (() if fixed else ("left", "assistant")), ("bos", "bos_unanswered", "system")
    words = ("tags", "requests", "asked", "generation")
    check_keys(where, chosen, texts, (*layout, *words, *(("forms",) if fixed else ())))
    if fixed:
        check_keys(f"{where}: forms", chosen["forms"], ("text",), tuple(_data()["template"]["forms"]))
    data = {"forms": chosen["forms"]} if fixed else _data()["template"]
    data = data | {key: chosen[key] for key in layout if key in chosen}
    template = read_template(where, data | {"texts": {key: chosen[key] for key in texts}}, LOSSES)
    return OsumTemplate(**vars(template), **_words(where, chosen))


def _words(where: str, chosen: Mapping) -> dict:
    """How answers are written, and the requests."""
    if not isinstance(tags := chosen.get("tags", True), bool):
        raise UserError(f"{where}: tags: expected true or false, found {tags!r}")
    requests, asked = chosen.get("requests", {}), chosen.get("asked", {})
    check_keys(f"{where}: requests", requests, (), TASK_KEYS)
    for key, wordings in requests.items():
        texts = isinstance(wordings, list) and wordings and all(isinstance(w, str) and w for w in wordings)
        if not texts:
            raise UserError(f"{where}: requests: {key}: expected a list of texts")
    check_keys(f"{where}: asked", asked, (), tuple(requests))
    for key, number in asked.items():
        if type(number) is not int or not 1 <= number <= len(requests[key]):
            raise UserError(f"{where}: asked: {key}: expected 1 to {len(requests[key])}, found {number!r}")
    wordings = {key: tuple(wordings) for key, wordings in requests.items()}
    generation = chosen.get("generation", {})
    check_keys(f"{where}: generation", generation, (), GENERATION)
    for key, value in generation.items():
        kinds = (int,) if key in ("beams", "top_k") else (int, float)
        if type(value) not in kinds:
            raise UserError(f"{where}: generation: {key}: expected a number, found {value!r}")
    return {"tags": tags, "requests": wordings, "asked": dict(asked), "generation": dict(generation)}


@lru_cache(maxsize=1)
def _data() -> dict:
    return read_yaml(str(Path(__file__).with_name("prompts.yaml")))
