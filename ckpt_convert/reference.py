"""The reference side of a verification: runs a checkpoint by PyTorch and transformers, in a separate process.

``python -m ckpt_convert.reference SOURCE PART CONFIG LAYERS INPUT.npz OUTPUT.npz REFERENCE`` saves what the
reference of the model's system (`System.reference`) computes, which shares no code with our cells and key
tables. LAYERS is a number of first layers, or "all". Without PyTorch, MindNLP's replacement runs the same
code on MindSpore; it replaces `torch` in the whole process, hence the separate process.
"""

import importlib.util
import sys

import numpy as np

from ckpt_convert.sources import open_source
from mindspore_osum.files import read_json
from mindspore_osum.folder import CONFIG
from mindspore_osum.systems.registry import from_values, system_of

REFERENCES = ("auto", "torch", "mindnlp")  # auto: torch where it is installed


def import_torch(by: str) -> str:
    """Make `import torch` find the backend `by`, one of `REFERENCES`; returns its display name."""
    if by == "auto":
        by = "torch" if importlib.util.find_spec("torch") else "mindnlp"
    if by == "mindnlp":
        import mindnlp  # from here on, `import torch` finds its replacement
    import torch

    return f"mindnlp {mindnlp.__version__}" if by == "mindnlp" else f"torch {torch.__version__}"


def main(argv: list[str]) -> int:
    """SOURCE PART CONFIG LAYERS INPUT OUTPUT BY; see the module's docstring."""
    path, part, config, layers, given, output, by = argv
    layers = None if layers == "all" else int(layers)
    cfg = from_values(read_json(config, "a model description"), config)
    system = system_of(cfg.model_type)
    source, name = open_source(path, system), import_torch(by)
    is_folder = source.form.holds == "decoder"
    description = read_json(source.path / CONFIG, "a model description") if is_folder else None
    cfg = system.verification().first_layers(cfg, layers)
    with np.load(given) as inputs:
        results = system.reference().stages(source.weights, cfg, description, dict(inputs), part, layers)
    np.savez(output, by=np.array(name), **results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
