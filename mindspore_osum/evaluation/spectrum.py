"""What a decoder needs of a linear aligner's embeddings: only the k largest singular values are kept.

    A = U S V'  (tokens x width),  A_k = U S_k V' = A V_k V_k'   (arXiv 2406.13357, eq. 2 and Table 2)

Notable choices
- A is made by one linear layer, A = X W' + 1 b', so A_k is what the layer makes with V_k V_k' W and
  V_k V_k' b: the weights are changed, and no graph is compiled anew.
- The paper defines A as the embeddings of an utterance (section 2.3.3) and speaks of the layer itself in
  section 3.3: either can be analysed. The layer's V is that of its weights and bias together.
- An utterance of n tokens has at most n singular values, and A no more than the encoder's width and one: with
  as many, nothing changes.

Legend: Z speech tokens, D decoder width, E encoder width, K singular values.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.error_rate import error_rates
from mindspore_osum.evaluation.replies import translation_scores
from mindspore_osum.inference.engine import Engine
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.inference.sampling import Sampling

UTTERANCE, LAYER = "utterance", "layer"
KINDS = (UTTERANCE, LAYER)
# task of a line -> whether it is translated
TASKS = {"<TRANSCRIBE>": False, "asr": False, "<TRANSLATE>": True, "st": True}


@dataclass(frozen=True)
class Kept:
    """Scores with some singular values kept; None where no line asks for it.

    Attributes
    ----------
    top : singular values that are kept; None for all.
    wer : over words and Chinese characters, so the CER of a Chinese set.
    rouge_l : of translations.
    """

    top: int | None
    wer: float | None
    rouge_l: float | None


class Spectrum:
    """The analysis of one model.

    Parameters
    ----------
    folder : of a model whose system has a linear layer (`System.linear`).
    of : whose singular values, UTTERANCE or LAYER.
    device : as of `Engine`.

    Raises
    ------
    UserError : a model without such a layer.
    """

    def __init__(self, folder: str | os.PathLike, of: str = UTTERANCE, device: str = "auto"):
        from mindspore import Tensor

        self.engine = engine = Engine(folder, device)
        self.of, layer = of, engine.system.linear
        if not layer:
            kind = engine.cfg.model_type
            raise UserError(f"{folder}: {kind} has no single layer between encoder and decoder")
        params = dict(engine.generator.model.parameters_and_names())
        self.params = params[f"{layer}.weight"], params[f"{layer}.bias"]
        self.weight_DE, self.bias_D = (p.float().asnumpy().astype(np.float64) for p in self.params)
        for param, value in zip(self.params, (self.weight_DE, self.bias_D), strict=True):
            param.set_data(Tensor(value.astype(np.float32)).astype(param.dtype))  # memory that may be written

    def embeddings(self, utt: Utterance, request: Request) -> np.ndarray:
        """Speech embeddings (Z, D) of a recording, as far as the layer reaches; float64."""
        prompt, _ = self.engine.prompt(utt, request)
        generator = self.engine.generator
        parts, columns = generator.parts, generator.parts.columns([prompt])
        outputs = generator.compute(parts.encode, [columns[name] for name in parts.encode_columns])
        found = dict(zip(parts.encode_names, outputs, strict=True))
        z_ZD = found["adapter_BZD"][0, : int(found["adapter_len_B"][0])]
        return z_ZD[:, : len(self.bias_D)].astype(np.float64)

    def directions(self, z_ZD: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(K,) singular values, largest first, and V' (K, D); of embeddings, or of the layer."""
        if z_ZD is None:
            z_ZD = np.column_stack((self.weight_DE, self.bias_D)).T
        return np.linalg.svd(z_ZD, full_matrices=False)[1:]

    def keep(self, rows_KD: np.ndarray | None) -> None:
        """Let the layer give only what lies in these directions; None: everything, as before."""
        from mindspore import Tensor, ops

        values = self.weight_DE, self.bias_D
        if rows_KD is not None:
            values = (rows_KD.T @ (rows_KD @ value) for value in values)
        for param, value in zip(self.params, values, strict=True):
            ops.assign(param, Tensor(value.astype(np.float32)).astype(param.dtype))

    def answers(
        self, utterances: Sequence[Utterance], tops: Sequence[int | None], sampling: Sampling
    ) -> Iterator[tuple[Utterance, np.ndarray, list[str]]]:
        """Each utterance with its singular values and the text for each of `tops`.

        Raises
        ------
        UserError : a recording that cannot be answered.
        """
        layer = self.directions() if self.of == LAYER else None
        try:
            for utt in utterances:
                request = make_request("asr", translate=TASKS[utt.task])
                self.keep(None)
                values_K, rows_KD = layer or self.directions(self.embeddings(utt, request))
                texts = []
                for top in tops:
                    self.keep(None if top is None else rows_KD[:top])
                    (response,) = self.engine.answer([utt], requests=[request], sampling=sampling)
                    if response.error:
                        raise UserError(response.error)
                    texts.append(response.text)
                yield utt, values_K, texts
        finally:
            self.keep(None)


def scores(tops: Sequence[int | None], said: Sequence[tuple[Utterance, np.ndarray, list[str]]]) -> list[Kept]:
    """The scores of each of `tops`, of what `Spectrum.answers` gave."""
    found = []
    for n, top in enumerate(tops):
        pairs = {kind: [(u.txt, t[n]) for u, _, t in said if TASKS[u.task] is kind] for kind in (False, True)}
        wer = error_rates(*zip(*pairs[False], strict=True))["wer"] if pairs[False] else None
        texts = [text for _, text in pairs[True]]
        rouge = translation_scores(texts, [[txt] for txt, _ in pairs[True]])["rouge_l"] if texts else None
        found.append(Kept(top, wer, rouge))
    return found


def mean_spectrum(said: Sequence[tuple[Utterance, np.ndarray, list[str]]]) -> np.ndarray:
    """The mean of each singular value over the utterances that have so many."""
    longest = max(len(values_K) for _, values_K, _ in said)
    sums_K, counts_K = np.zeros(longest), np.zeros(longest)
    for _, values_K, _ in said:
        sums_K[: len(values_K)] += values_K
        counts_K[: len(values_K)] += 1
    return sums_K / counts_K


def draw(path, values_K: np.ndarray, kept: Sequence[Kept]) -> str:
    """The singular values, and the scores over how many are kept, as PNG; returns its file name."""
    from mindspore_osum.figures import new_figure, save_png

    figure, (above, below) = new_figure(6.0, 6.0, 2)
    above.semilogy(np.arange(1, len(values_K) + 1), np.maximum(values_K, 1e-12))
    above.set(xlabel="number", ylabel="singular value")
    some = [one for one in kept if one.top is not None]
    for name, title in (("wer", "WER/CER"), ("rouge_l", "ROUGE-L")):
        shown = [(one.top, 100 * value) for one in some if (value := getattr(one, name)) is not None]
        if shown:
            below.plot(*zip(*sorted(shown), strict=True), marker="o", label=f"{title}, %")
    below.set(xlabel="singular values kept", xscale="log")
    if below.lines:
        below.legend()
    return save_png(figure, path)
