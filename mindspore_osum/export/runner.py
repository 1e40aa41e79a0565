"""Answers from an exported folder: what a deployment does around the three graphs.

    model = Exported("deploy")
    response = model.answer("a.wav", make_request("asr"))

Legend: B batch, T mel frames, F mel bins, Z speech tokens, L prompt positions, V vocabulary.

Notable choices
- Of this package only features, text and tasks are used, not the model's cells: the graphs are all there is.
- A recording longer than the export takes is cut at pauses, as everywhere.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mindspore_osum.config import from_dict
from mindspore_osum.errors import UserError
from mindspore_osum.export.graphs import Sizes
from mindspore_osum.files import read_json
from mindspore_osum.folder import CONFIG, TOKENIZER
from mindspore_osum.inference.engine import tokenizer_for, use_device
from mindspore_osum.inference.inquiry import name_of
from mindspore_osum.inference.passes import merge
from mindspore_osum.inference.request import Request
from mindspore_osum.inference.sampling import Sampling, draw
from mindspore_osum.results import Response
from mindspore_osum.speech.audio import duration_seconds
from mindspore_osum.speech.features import log_mel
from mindspore_osum.speech.long import LONGEST_CHUNK, chunks
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.registry import system_of
from mindspore_osum.tasks import parse_answer
from mindspore_osum.text.sequence import stack_sequences
from mindspore_osum.text.template import Turn

DESCRIPTION, VERSION = "export.json", 1
GRAPHS = ("speech", "prefill", "decode")


class Exported:
    """An exported folder, ready to answer; the graphs compile when they are first used.

    Parameters
    ----------
    folder : what `osum export` wrote.
    device : "CPU" or "Ascend".

    Raises
    ------
    UserError : not such a folder, an incomplete one, or a device that is not there.
    """

    def __init__(self, folder: str | os.PathLike, device: str = "CPU"):
        self.folder = Path(folder)
        facts = read_description(self.folder)
        self.cfg = from_dict(ModelConfig, facts.get("model"), f"{self.folder / DESCRIPTION}: model")
        self.sizes = from_dict(Sizes, facts.get("sizes"), f"{self.folder / DESCRIPTION}: sizes")
        use_device(device)
        self.tokenizer = tokenizer_for(self.cfg, self.folder)
        self.template = system_of(self.cfg.model_type).template(self.cfg)
        self.graphs = {name: load_graph(self.folder / facts["graphs"][name]) for name in GRAPHS}

    def answer(self, source, request: Request, sampling: Sampling | None = None) -> Response:
        """What a recording of any length answers.

        Parameters
        ----------
        source : what `load_audio` takes.
        request : of `make_request`.
        sampling : by default greedy.

        Raises
        ------
        UserError : a recording that cannot be read, or a request longer than the export takes.
        """
        response = Response(name_of(source), duration_seconds(source))
        for chunk in chunks(source, min(self.cfg.features.seconds(self.sizes.frames), LONGEST_CHUNK)):
            ids = list(self.tokens(chunk.wave_N, request, sampling or Sampling()))
            cut = not ids or ids[-1] != self.cfg.decoder.eos_id
            answer = parse_answer(self.tokenizer.decode(ids if cut else ids[:-1]), request.task)
            answer.cut = cut
            response.segments.append(merge([answer], chunk.start, chunk.end))
        return response

    def tokens(self, wave_N: np.ndarray, request: Request, sampling: Sampling) -> Iterator[int]:
        """The answer to a waveform, float32 (N,) at 16 kHz, token by token, its end token included."""
        from mindspore import Tensor

        rng, sizes = np.random.default_rng(sampling.seed), self.sizes
        inputs, length = self._prompt(wave_N, request)
        scores, keys, values = self.graphs["prefill"](*inputs)
        seen_V = np.ones(scores.shape[-1], np.float32)  # each token's penalty
        for place in range(length, length + min(sampling.max_new_tokens, sizes.new_tokens)):
            scores_V = scores.asnumpy()[0]
            scores_V = np.where(scores_V < 0, scores_V * seen_V, scores_V / seen_V)
            token = int(scores_V.argmax()) if sampling.greedy else draw(scores_V, sampling, rng)
            yield token
            if token == self.cfg.decoder.eos_id:
                return
            seen_V[token] = sampling.repetition_penalty
            now = (Tensor(np.full(sizes.batch, value, np.int32)) for value in (token, place))
            scores, keys, values = self.graphs["decode"](*now, keys, values)

    def _prompt(self, wave_N: np.ndarray, request: Request):
        """The prefill's inputs, all rows of the batch alike, and the prompt's length."""
        from mindspore import Tensor

        sizes, cfg = self.sizes, self.cfg.features
        mel_TF = log_mel(wave_N, cfg)
        turn = Turn(request.output_type, {"request": request.words}, self.cfg.tokens(len(mel_TF)))
        sequence = self.template.sequence(self.tokenizer, turn)
        if len(sequence) > sizes.prompt:
            raise UserError(
                f"prompt of {len(sequence)} positions: {self.folder} takes {sizes.prompt}; shorten the "
                "request, or export with a larger --request-tokens"
            )
        mel_BTF = np.zeros((sizes.batch, sizes.frames, cfg.n_mels), np.float32)
        mel_BTF[:, : len(mel_TF)] = mel_TF
        z_BZD = self.graphs["speech"](Tensor(mel_BTF), Tensor(np.full(sizes.batch, len(mel_TF), np.int32)))
        zmax = self.cfg.tokens(sizes.frames)
        row = stack_sequences([sequence] * sizes.batch, sizes.prompt, zmax, sizes.batch)
        length_B = np.full(sizes.batch, len(sequence), np.int32)
        texts = Tensor(row["token_ids_BL"]), Tensor(row["speech_row_BL"])
        return (*texts, z_BZD, Tensor(length_B)), len(sequence)


def read_description(folder: Path) -> dict:
    """export.json of a folder, with all its files there; UserError if they are not."""
    path = folder / DESCRIPTION
    try:
        if not path.is_file():
            is_model = (folder / CONFIG).is_file()
            what = "a model folder, not an export" if is_model else "not an exported folder"
            raise UserError(f"{folder}: {what} (no {DESCRIPTION}); make one with `osum export`")
        facts = read_json(path, "a description of `osum export`")
        if (version := facts["version"]) != VERSION:
            raise UserError(
                f"{path}: version {version}, this program reads {VERSION}; export the model again"
            )
        names = [TOKENIZER, *(facts["graphs"][graph] for graph in GRAPHS), *facts["files"]]
        missing = [name for name in names if _size(folder / name) != facts["files"][name]]
    except OSError as error:
        raise UserError(f"{path}: cannot read the export ({error.strerror})") from None
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a description of `osum export` ({error})") from None
    if missing:
        raise UserError(f"{folder / missing[0]}: missing, or not of the size it was written with; copy again")
    return facts


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def load_graph(path: Path):
    """A MindIR file as a callable; UserError if MindSpore cannot read it."""
    import mindspore as ms
    from mindspore import nn

    try:
        return nn.GraphCell(ms.load(str(path)))
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: MindSpore cannot load the graph ({reason}); export it again") from None
