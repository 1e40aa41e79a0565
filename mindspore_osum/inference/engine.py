"""A model folder, ready to answer.

engine = Engine("mindspore_osum/assets/tiny")
response = engine.answer(["a.wav"], task="asr")[0]
responses = engine.answer(["a.wav", "b.wav"], requests=[make_request("sgc"), make_request(task="srwt")])
"""

import os
from pathlib import Path

from mindspore_osum.allocator import keep_freed_memory
from mindspore_osum.errors import UserError
from mindspore_osum.folder import CONFIG, TOKENIZER, load_folder
from mindspore_osum.hub import model_folder
from mindspore_osum.inference.answering import Answerer
from mindspore_osum.inference.generate import Generator
from mindspore_osum.systems.registry import system_of
from mindspore_osum.text.tokenizer import Tokenizer, check_ids

DEVICES = ("CPU", "Ascend")


class Engine(Answerer):
    """Answers of a model folder. The first use of each static shape compiles for some seconds.

    Parameters
    ----------
    folder : model folder (config.json, weights, tokenizer.model), "tiny" for the bundled one, or a name as in
        `hub.model_folder`.
    device : "CPU", which computes in float32, or "Ascend", in the type of config.json.

    Raises
    ------
    UserError : not a model folder or an incomplete one, or an unavailable device.
    """

    def __init__(self, folder: str | os.PathLike, device: str = "CPU"):
        use_device(device)
        folder = model_folder(folder)
        model = load_folder(folder)
        tokenizer = tokenizer_for(model.cfg, folder)
        labels = system_of(model.cfg.model_type).label_scorer(model, tokenizer)
        super().__init__(model.cfg, tokenizer, Generator(model), labels)


def tokenizer_for(cfg, folder: str | os.PathLike) -> Tokenizer:
    """The folder's tokenizer; UserError if it does not belong to the model."""
    tokenizer = Tokenizer(Path(folder) / TOKENIZER)
    check_ids(tokenizer, cfg.decoder.vocab_size, cfg.decoder.eos_id, str(Path(folder) / CONFIG))
    return tokenizer


def use_device(device: str) -> None:
    """Compute on "CPU" or "Ascend" from now on; UserError if it is unavailable."""
    import mindspore as ms

    if device not in DEVICES:
        raise UserError(f"device {device!r}: choose one of {', '.join(DEVICES)}")
    if device == "CPU":
        keep_freed_memory()
    if ms.get_context("device_target") == device:
        return  # it may be in use already, and cannot be set then
    try:
        ms.set_device(device)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"device {device}: not available here ({str(error).strip().splitlines()[0]})"
        ) from None
