"""The sequence layouts of OSUM by prompt set: from ``prompts.yaml`` in this folder, or a user's file."""

from functools import lru_cache
from pathlib import Path

from mindspore_osum.config import did_you_mean, read_yaml
from mindspore_osum.errors import UserError
from mindspore_osum.text.template import Template, check_keys, read_template

DEFAULT_SET = "osum_pangu"
LOSSES = ("intent", "content")
"""Parts of an answer: the tags that name the task, and all after them."""

INTENT, CONTENT = 1, 2  # numbers of the spans


def load_template(name: str = DEFAULT_SET) -> Template:
    """The template with a prompt set of ``prompts.yaml``, or of a YAML file if `name` ends in ``.yaml``.

    A user's file holds one set: ``left`` (a text per output type) and ``assistant``; ``bos`` and
    ``bos_unanswered``, which say what begins with ``<s>``, and ``system`` (see prompts.yaml) may be left out.

    Raises
    ------
    UserError
        No such set or file, broken YAML, missing or unknown keys, or a value that is not text.
    """
    if str(name).endswith((".yaml", ".yml")):
        return _with(str(name), read_yaml(str(name)))
    sets = _data()["sets"]
    if name not in sets:
        raise UserError(f"prompt set {name!r}: no such set{did_you_mean(name, sets)}, or give a .yaml file")
    return _with(name, sets[name])


def prompt_sets() -> list[str]:
    """Names of the sets in ``prompts.yaml``."""
    return list(_data()["sets"])


def _with(where: str, chosen) -> Template:
    """The template with the texts of a prompt set."""
    texts, options = ("left", "assistant"), ("bos", "bos_unanswered", "system")
    check_keys(where, chosen, texts, options)
    data = _data()["template"] | {key: chosen[key] for key in options if key in chosen}
    return read_template(where, data | {"texts": {key: chosen[key] for key in texts}}, LOSSES)


@lru_cache(maxsize=1)
def _data() -> dict:
    return read_yaml(str(Path(__file__).with_name("prompts.yaml")))
