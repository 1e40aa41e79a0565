"""OSUM speech understanding models, native in MindSpore.

Importing the package loads none of the heavy libraries; its modules do, when they are asked to.
"""

__version__ = "0.1.0"
__all__ = ["OSUM", "__version__"]


def __getattr__(name: str):
    if name == "OSUM":
        from mindspore_osum.api import OSUM

        return OSUM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
