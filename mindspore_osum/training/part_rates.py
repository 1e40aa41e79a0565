"""Learning rates of parts and cells: which key of a job's `optimizer.lr_of` a parameter falls under.

Notable choices
- A key is a part (the names of `learn`) or the dotted name of a cell or parameter. The longest name that
  contains a parameter counts, then its part; so a part has a rate and a cell within it another.
- MindFormers' grouped_lr_schedule is not used: it matches parts of names, which would give a key
  "decoder" LoRA's matrices too, and needs a schedule for each group.
"""

from collections.abc import Iterable, Mapping

from mindspore_osum.errors import UserError
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.registry import system_of


def arguments(optimizer, model_type: str) -> dict:
    """The arguments of OsumAdamW for a job's Optimizer: none where all parameters learn at one rate."""
    if not optimizer.lr_of:
        return {}
    factors = {key: rate / optimizer.lr for key, rate in optimizer.lr_of.items()}
    return {"factors": factors, "system": model_type}


def key_of(name: str, keys: Iterable[str], part: str) -> str:
    """The key that a parameter of this name and part falls under, "" if none.

    Parameters
    ----------
    name : in the objective; the prefix "model." is optional.
    """
    plain = name.removeprefix("model.")
    cells = [key for key in keys if "." in key and f"{plain}.".startswith(f"{key}.")]
    return max(cells, key=len, default=part if part in keys else "")


def factor(name: str, factors: Mapping[str, float], model_type: str) -> float:
    """What the learning rate of a parameter is multiplied by."""
    key = key_of(name, factors, system_of(model_type).job.part_of(name))
    return factors[key] if key else 1.0


def report(optimizer, learn: list[str], model: Config) -> list[str]:
    """A line for a run's report that counts the learned parameters of each rate; none for one rate.

    Raises
    ------
    UserError : a key that no learned parameter falls under.
    """
    if not optimizer.lr_of:
        return []
    system, counts = system_of(model.model_type), dict.fromkeys((*optimizer.lr_of, ""), 0)
    for name in system.shapes(model):
        part = system.job.part_of(name)
        if part in learn:
            counts[key_of(name, optimizer.lr_of, part)] += 1
    for key in (key for key in optimizer.lr_of if not counts[key]):
        raise UserError(
            f"optimizer.lr_of: no parameter that learns is in {key!r} or left for it; names are those of the "
            "model folder's model.safetensors, such as decoder.embed_tokens"
        )
    rates = [f"{key} {rate:g} ({counts[key]} tensors)" for key, rate in optimizer.lr_of.items()]
    rest = [f"all others {optimizer.lr:g} ({counts['']} tensors)"] if counts[""] else []
    return ["peaks of the learning rate: " + ", ".join(rates + rest)]
