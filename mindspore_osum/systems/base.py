"""What every published system says of itself: the one way for the rest of the package to reach it.

Notable choices
- A system is a folder of `systems/` (or a package elsewhere, see `registry`) whose `system.py` has an
  instance of a subclass of `System`, named `SYSTEM`. Importing that file loads no MindSpore: methods import
  what they need.
"""

from typing import Any, ClassVar, Protocol


class Config(Protocol):
    """A model as config.json describes it: a frozen dataclass that checks itself."""

    model_type: ClassVar[str]
    dtype: str  # of the weights and activations: float32, bfloat16 or float16

    def to_dict(self) -> dict:
        """Plain dictionaries and lists, without `model_type`."""
        ...


class System:
    """A published system.

    Attributes
    ----------
    model_type : its name in config.json.
    Config : dataclass of what config.json says besides.
    presets : name -> Config of its published sizes.
    """

    model_type: str
    Config: type[Config]
    presets: dict[str, Config]

    def build(self, cfg: Config) -> Any:
        """The network, a `mindspore.nn.Cell` with `cfg`; its weights are those of no training yet."""
        raise NotImplementedError

    def init_weights(self, model: Any, seed: int) -> None:
        """Fill the parameters of a network with what training from scratch starts from."""
        raise NotImplementedError
