"""OSUM speech understanding models, native in MindSpore.

Importing the package loads no heavy library; its modules import them when needed.
"""

from mindspore_osum.quiet import quiet_libraries

quiet_libraries()  # they read their settings when they are imported

__version__ = "0.1.0"
__all__ = ["OSUM", "__version__"]


def __getattr__(name: str):
    if name == "OSUM":
        from mindspore_osum.api import OSUM

        return OSUM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
