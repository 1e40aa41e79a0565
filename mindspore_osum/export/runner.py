"""Answers from an exported folder: the code a deployment needs around the three graphs.

    model = Exported("deploy")
    response = model.answer("a.wav", make_request("asr"))

Legend: B batch, N prompts, V vocabulary.

Notable choices
- None of the model's cells are used: the graphs are all there is.
- The code around them is that of a model folder: a recording longer than the export takes is split at
  pauses, and its parts are answered as one batch.
"""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mindspore_osum.config import from_dict
from mindspore_osum.device import use_device
from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json
from mindspore_osum.folder import CONFIG
from mindspore_osum.inference.answering import Answerer
from mindspore_osum.inference.engine import tokenizer_for
from mindspore_osum.inference.request import Request
from mindspore_osum.inference.respond import respond
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.inference.tokens import ENDED, Tokens, drawn, log_probabilities, no_beams, restricted
from mindspore_osum.results import Response
from mindspore_osum.speech.long import LONGEST_CHUNK
from mindspore_osum.systems.registry import from_values, system_of
from mindspore_osum.text.tokenizer import BYTE_PAIRS, SENTENCE_PIECE

DESCRIPTION, VERSION = "export.json", 1


class Exported:
    """An exported folder, ready to answer; the graphs compile when they are first used.

    Parameters
    ----------
    folder : what `osum export` wrote.
    device : "CPU" or "Ascend".

    Raises
    ------
    UserError : not such a folder, an incomplete one, or an unavailable device.
    """

    def __init__(self, folder: str | os.PathLike, device: str = "CPU"):
        self.folder = Path(folder)
        facts, where = read_description(self.folder), self.folder / DESCRIPTION
        self.cfg = from_values(facts.get("model"), f"{where}: model")
        exports = system_of(self.cfg.model_type).export()
        self.sizes = from_dict(exports.Sizes, facts.get("sizes"), f"{where}: sizes")
        use_device(device)
        tokenizer = tokenizer_for(self.cfg, self.folder)
        if absent := [name for name in exports.GRAPHS if name not in facts["graphs"]]:
            raise UserError(f"{where}: names no graph {absent[0]}; export the model again")
        self.graphs = {name: load_graph(self.folder / facts["graphs"][name]) for name in exports.GRAPHS}
        generator = ExportedTokens(exports, self.graphs, self.cfg, self.sizes, self.folder)
        self.answerer = Answerer(self.cfg, tokenizer, generator)

    def answer(self, source, request: Request, sampling: Sampling | None = None) -> Response:
        """The response to a request about a recording of any length.

        Parameters
        ----------
        source : what `load_audio` takes.
        request : of `make_request`.
        sampling : by default greedy.

        Raises
        ------
        UserError : a recording that cannot be read, or a request longer than the export takes.
        """
        longest = min(self.cfg.features.seconds(self.sizes.frames), LONGEST_CHUNK)
        how = {"sampling": sampling, "batch_size": self.sizes.batch, "max_seconds": longest}
        (response,) = respond(self.answerer, [source], [request], **how)
        if response.error:
            raise UserError(response.error)
        return response


class ExportedTokens(Tokens):
    """Tokens from exported graphs, in batches of their size.

    Parameters
    ----------
    exports : the system's `export`.
    sizes : its `Sizes`.
    """

    def __init__(self, exports, graphs: dict, cfg, sizes, folder: Path):
        self.exports, self.graphs, self.cfg, self.sizes, self.folder = exports, graphs, cfg, sizes, folder
        self.eos_ids = frozenset(exports.eos_ids(cfg))
        self._ran: set[str] = set()

    def room(self, prompt) -> int:
        if prompt.mel_TF is None:
            raise UserError("words alone: an exported model answers recordings")
        if len(prompt) > self.sizes.prompt:
            raise UserError(
                f"prompt of {len(prompt)} positions: {self.folder} takes {self.sizes.prompt}; shorten the "
                "request, or export with a larger --request-tokens"
            )
        return self.sizes.new_tokens

    def stream(
        self, prompts: Sequence, sampling: Sampling | None = None, rows: int = 1
    ) -> Iterator[np.ndarray]:
        from mindspore import Tensor

        sizes, sampling = self.sizes, self.exports.settings(self.cfg, sampling or Sampling())
        no_beams(sampling)
        limits = self.limits(prompts, sampling)
        streams = [np.random.default_rng(sampling.seed) for _ in prompts]
        filled = self._filled(prompts)
        position_B = np.array([len(prompt) for prompt in filled], np.int32)
        scores, state, kept, facts = self.exports.prefill(self._run, self.cfg, sizes, filled, position_B)
        self.facts_N = facts[: len(prompts)]
        scores = Tensor(restricted(scores.asnumpy(), prompts))
        penalty_BV = np.ones(scores.shape, np.float32)
        for row_V, prompt in zip(penalty_BV, prompts, strict=False):
            row_V[list(prompt.opening)] = sampling.repetition_penalty
        while True:
            scores_BV = scores.asnumpy()
            scores_BV = np.where(scores_BV < 0, scores_BV * penalty_BV, scores_BV / penalty_BV)
            if sampling.greedy:
                tokens_N = scores_BV[: len(prompts)].argmax(-1).astype(np.int32)
            else:
                tokens_N = drawn(scores_BV[:, : self.pieces], sampling, streams, limits)
            if sampling.confidence or self.facts_N:
                self.log_p_N = log_probabilities(scores_BV, tokens_N)
            tokens_N[limits.ended_N] = ENDED
            yield tokens_N
            if limits.take(tokens_N):
                return
            token_B = np.zeros(sizes.batch, np.int32)
            token_B[: len(prompts)] = np.maximum(tokens_N, 0)
            penalty_BV[np.arange(sizes.batch), token_B] = sampling.repetition_penalty
            scores, *state = self._run("decode", Tensor(token_B), Tensor(position_B), *state, *kept)
            # a finished sequence keeps rewriting its own last slot
            position_B = np.minimum(position_B + 1, np.int32(sizes.places - 1))

    def _filled(self, prompts: Sequence) -> list:
        """The prompts of a whole batch: the last one is repeated."""
        return [prompts[min(row, len(prompts) - 1)] for row in range(self.sizes.batch)]

    def _run(self, name: str, *inputs):
        if name not in self._ran:
            start = time.perf_counter()
            self.graphs[name](*inputs)  # compiles; nothing is modified in place
            self.compile_seconds += time.perf_counter() - start
            self._ran.add(name)
        return self.graphs[name](*inputs)


def read_description(folder: Path) -> dict:
    """export.json of a folder; UserError if any of the files it lists is missing."""
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
        pieces = BYTE_PAIRS if BYTE_PAIRS in facts["files"] else SENTENCE_PIECE
        names = [pieces, *facts["graphs"].values(), *facts["files"]]
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
