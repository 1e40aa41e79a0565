"""OSUM speech understanding models, native in MindSpore.

Importing the package loads none of the heavy libraries; its modules do, when they are asked to.
"""

__version__ = "0.1.0"
