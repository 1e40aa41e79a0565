"""A model folder, ready to answer.

engine = Engine("mindspore_osum/assets/tiny")
response = engine.answer(["a.wav"], task="asr")[0]
responses = engine.answer(["a.wav", "b.wav"], requests=[make_request("sgc"), make_request(task="srwt")])
"""

import os
from pathlib import Path

from mindspore_osum.device import use_device
from mindspore_osum.folder import CONFIG, load_folder
from mindspore_osum.hub import model_folder
from mindspore_osum.inference.answering import Answerer
from mindspore_osum.inference.generate import Generator
from mindspore_osum.interrupts import steady
from mindspore_osum.models.joined import prepare
from mindspore_osum.systems.registry import system_of
from mindspore_osum.text.tokenizer import Tokenizer, open_tokenizer


class Engine(Answerer):
    """Answers of a model folder. The first use of each static shape compiles for some seconds.

    Parameters
    ----------
    folder : model folder (config.json, weights, tokenizer), "tiny" for the bundled one, or a name as in
        `hub.model_folder`.
    device : "CPU", which computes in float32, "Ascend", in the type of config.json, or "auto": Ascend if
        there is one.
    waiting : called before what takes long with "weights" and bytes read and in all, or "graph", its number
        and how many are needed by now (see `Generator`); with "" when it is over.
    merge_lora : add adapters to their weights, which answers faster; files are not changed.

    Attributes
    ----------
    folder : Path of the model.
    device : "CPU" or "Ascend".

    Raises
    ------
    UserError : not a model folder or an incomplete one, or an unavailable device.
    """

    def __init__(
        self, folder: str | os.PathLike, device: str = "auto", waiting=None, merge_lora: bool = True
    ):
        with steady():
            self.device = use_device(device)
        self.folder = folder = model_folder(folder)
        with steady():
            model = prepare(load_folder(folder, waiting=waiting), merge_lora)
            tokenizer = tokenizer_for(model.cfg, folder)
            system, generator = system_of(model.cfg.model_type), Generator(model, waiting=waiting)
            labels = system.label_scorer(model, tokenizer, generator.compute)
            aligner = system.aligner(model, tokenizer, generator.compute)
            super().__init__(model.cfg, tokenizer, generator, labels, aligner)
        if waiting:
            waiting("", 0, 0)


def tokenizer_for(cfg, folder: str | os.PathLike) -> Tokenizer:
    """The folder's tokenizer; UserError if it does not belong to the model."""
    tokenizer = open_tokenizer(folder)
    system_of(cfg.model_type).fit_tokenizer(tokenizer, cfg, str(Path(folder) / CONFIG))
    return tokenizer
