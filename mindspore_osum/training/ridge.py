"""A linear aligner's start in closed form: ridge regression from words as they sound to words as written.

For each spoken word, the mean of its encoder frames is mapped to the mean embedding of the tokens of " word":
W = (X'X + ridge I)^-1 X'Y of centred X and Y, and the bias that carries one mean to the other. It takes one
pass of the encoder over the recordings and no gradients (Hoerl & Kennard 1970, eq. 2.1).

Notable choices
- Times of words come from the data where it has them (`extra.words`). Otherwise the recording, from its first
  to its last loud frame, is shared among the words by their letters.
- The words of every tenth recording are held out of a first fit, which tells how good the map is: how often
  the right one of all words is nearest (by the cosine). The result is of all recordings.

Legend: N words, V different words, B rows, T mel frames, F mel bins, U encoder frames, E encoder width,
D decoder width.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mindspore_osum.data.batches.batching import features, seconds_of
from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.sources import open_source
from mindspore_osum.data.words import words_within
from mindspore_osum.errors import UserError
from mindspore_osum.files import check_place
from mindspore_osum.folder import load_folder, read_config, replaced
from mindspore_osum.models.buckets import SMALLEST_FRAMES, frame_bucket
from mindspore_osum.models.whisper.config import STRIDE
from mindspore_osum.systems.registry import system_of
from mindspore_osum.text.tokenizer import open_tokenizer

RIDGE = 100.0
SPOKEN = ("<TRANSCRIBE>", "asr")  # tasks whose answer is what is said
HELD_OUT = 10  # of so many recordings one
_ROWS = 4  # recordings that are encoded together
_LOUD = 1.0  # log-mel below the loudest that is still speech: 40 dB, as Whisper scales it
_WORD = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")
_CHARACTER = re.compile(r"[\u3400-\u9fff]")  # written without a space in front
_EDGES = re.compile(r"^[^\w]+|[^\w]+$")


class Heard(NamedTuple):
    """A spoken word: number in the vocabulary, and whether it is held out."""

    number: int
    held_out: bool


@dataclass
class Words:
    """Spoken words, with what they sounded like."""

    vocabulary: dict[str, int] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)  # (E,) each
    recordings: int = 0
    timed: int = 0  # recordings whose times of words were given

    def add(self, utt: Utterance, mel_TF: np.ndarray, x_UE: np.ndarray, seconds: float) -> None:
        """The words of a recording with these encoder frames, of `seconds` each."""
        timed = [(spelled(word), start, end) for word, start, end in words_within(utt, seconds_of(utt))]
        self.timed += bool(timed)
        held_out = self.recordings % HELD_OUT == HELD_OUT - 1
        self.recordings += 1
        for word, start, end in timed or shared_out(utt.txt, *loud(mel_TF, len(x_UE) * seconds)):
            first = min(max(int(start / seconds), 0), len(x_UE) - 1)
            last = max(int(np.ceil(end / seconds)), first + 1)
            if word:
                number = self.vocabulary.setdefault(word, len(self.vocabulary))
                self.heard.append(Heard(number, held_out))
                self.frames.append(x_UE[first:last].mean(0))


@dataclass(frozen=True)
class Fit:
    """The linear layer, and how good it is.

    Attributes
    ----------
    weight, bias : (D, E), (D,) float32.
    words, different, recordings, timed : counts; `timed` recordings had times of words.
    held_out : words that were held out of the first fit.
    nearest, among_five : share of them whose word is nearest, or among the five nearest, of all `different`.
    """

    weight: np.ndarray
    bias: np.ndarray
    words: int
    different: int
    recordings: int
    timed: int
    held_out: int
    nearest: float
    among_five: float


def fit_aligner(
    folder: str | Path,
    output: str | Path,
    manifests: Iterable[str],
    ridge: float = RIDGE,
    progress: Callable[[int], None] | None = None,
) -> Fit:
    """Write a copy of a model folder with the linear layer of the closed form.

    Parameters
    ----------
    folder, output : the model, and a new folder.
    manifests : recordings with transcripts; lines of other tasks are left out.
    ridge : the larger, the smaller the weights.
    progress : called with the number of recordings encoded so far.

    Raises
    ------
    UserError : a model without such a layer, no words in the data, or an output that exists.
    """
    cfg = read_config(folder)
    layer = system_of(cfg.model_type).linear
    if not layer:
        raise UserError(f"{folder}: a {cfg.model_type} model has no single layer between encoder and decoder")
    if not 0 < ridge < float("inf"):
        raise UserError(f"ridge {ridge:g}: must be above 0 and finite")
    if Path(output).exists():
        raise UserError(f"{output}: exists already; name a new folder, or remove it")
    check_place(Path(output), str(output))
    utterances = list(spoken(manifests))
    import mindspore as ms

    ms.set_context(mode=ms.GRAPH_MODE)
    model, words = load_folder(folder), Words()
    seconds = cfg.features.seconds(STRIDE)
    for utt, mel_TF, x_UE in encoded(model, utterances):
        words.add(utt, mel_TF, x_UE, seconds)
        if progress:
            progress(words.recordings)
    if len(words.vocabulary) < 2:
        raise UserError(f"{', '.join(manifests)}: there are not two different words to fit the layer to")
    targets_VD = embeddings(model, open_tokenizer(folder), words.vocabulary)
    targets_VD = targets_VD[:, : dict(model.parameters_and_names())[f"{layer}.bias"].shape[0]]
    found = fitted(words, targets_VD, ridge)
    replaced(folder, output, {f"{layer}.weight": found.weight, f"{layer}.bias": found.bias})
    return found


def spoken(manifests: Iterable[str]) -> Iterator[Utterance]:
    """The transcribed recordings of manifests, in order; UserError where one has none, or a wrong line."""
    for path in manifests:
        count = 0
        for item in open_source(path):
            if isinstance(item, Skipped):
                if item.error:
                    raise UserError(f"{item.text}; fix it (`osum data validate` lists all)")
            elif item.wav is not None and item.task in SPOKEN:
                count += 1
                yield item
        if not count:
            raise UserError(f"{path}: no recording of the task {SPOKEN[0]}, whose words are said")


def encoded(model, utterances: list[Utterance]) -> Iterator[tuple[Utterance, np.ndarray, np.ndarray]]:
    """Each utterance with its log-mel (T, F) and encoder frames (U, E); in batches of equal shape."""
    waiting: dict[int, list] = {}
    for utt in utterances:
        mel_TF = features(utt, model.cfg.features)
        if len(mel_TF) > model.cfg.most_frames:
            most = model.cfg.features.seconds(model.cfg.most_frames)
            raise UserError(f"{utt.where}: longer than the {most:g} s that the model takes at once; split it")
        batch = waiting.setdefault(frame_bucket(model.cfg, len(mel_TF)), [])
        batch.append((utt, mel_TF))
        if len(batch) == _ROWS:
            yield from _encode(model, batch)
            batch.clear()
    for batch in filter(None, waiting.values()):
        yield from _encode(model, batch)


def _encode(model, batch: list) -> Iterator[tuple[Utterance, np.ndarray, np.ndarray]]:
    from mindspore import Tensor

    cfg = model.cfg
    mel_BTF = np.zeros((_ROWS, frame_bucket(cfg, len(batch[0][1])), cfg.features.n_mels), np.float32)
    mel_len_B = np.full(_ROWS, min(SMALLEST_FRAMES, mel_BTF.shape[1]), np.int32)
    for row, (_, mel_TF) in enumerate(batch):
        mel_BTF[row, : len(mel_TF)], mel_len_B[row] = mel_TF, len(mel_TF)
    x_BUE, len_B = model.encoder(Tensor(mel_BTF), Tensor(mel_len_B))
    x_BUE, len_B = x_BUE.float().asnumpy(), len_B.asnumpy()
    for row, (utt, mel_TF) in enumerate(batch):
        yield utt, mel_TF, x_BUE[row, : len_B[row]]


def loud(mel_TF: np.ndarray, longest: float) -> tuple[float, float]:
    """Seconds of the first and behind the last loud frame of a recording."""
    peak_T = mel_TF.max(1)
    (places,) = np.nonzero(peak_T >= peak_T.max() - _LOUD)
    return places[0] / len(mel_TF) * longest, (places[-1] + 1) / len(mel_TF) * longest


def spelled(word: str) -> str:
    """A word without the punctuation around it."""
    return _EDGES.sub("", word)


def shared_out(text: str, start: float, end: float) -> list[tuple[str, float, float]]:
    """(word, start, end) of the words of a text that is spoken from `start` to `end`, by their letters."""
    words = [word for word in map(spelled, _WORD.findall(text)) if word]
    ends = start + (end - start) * np.cumsum([len(word) for word in words]) / max(sum(map(len, words)), 1)
    return list(zip(words, [start, *ends[:-1]], ends, strict=True)) if words else []


def embeddings(model, tokenizer, vocabulary: Iterable[str]) -> np.ndarray:
    """The mean embedding of the tokens of each word (V, D), as it stands within a text."""
    rows = []
    weight_VD = model.decoder.model.embed_tokens.weight.float().asnumpy()
    for word in vocabulary:
        ids = tokenizer.encode(word if _CHARACTER.fullmatch(word) else f" {word}")
        rows.append(weight_VD[ids].mean(0))
    return np.stack(rows).astype(np.float64)


def fitted(words: Words, targets_VD: np.ndarray, ridge: float) -> Fit:
    """The closed form for all words, and how good one is without those that were held out."""
    x_NE = np.stack(words.frames).astype(np.float64)
    number_N = np.array([one.number for one in words.heard])
    out_N = np.array([one.held_out for one in words.heard])
    nearest = among_five = 0.0
    if out_N.any() and not out_N.all():
        weight, bias = solved(x_NE[~out_N], targets_VD[number_N[~out_N]], ridge)
        ranks_N = ranks(x_NE[out_N] @ weight.T + bias, targets_VD, number_N[out_N])
        nearest, among_five = float((ranks_N == 0).mean()), float((ranks_N < 5).mean())
    weight, bias = solved(x_NE, targets_VD[number_N], ridge)
    counts = len(x_NE), len(targets_VD), words.recordings, words.timed, int(out_N.sum())
    return Fit(weight.astype(np.float32), bias.astype(np.float32), *counts, nearest, among_five)


def solved(x_NE: np.ndarray, y_ND: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """(weight (D, E), bias (D,)) of the ridge regression of Y on X; the bias is not penalised."""
    x_E, y_D = x_NE.mean(0), y_ND.mean(0)
    x_NE = x_NE - x_E
    gram_EE = x_NE.T @ x_NE + ridge * np.eye(len(x_E))
    weight_ED = np.linalg.solve(gram_EE, x_NE.T @ (y_ND - y_D))
    return weight_ED.T, y_D - x_E @ weight_ED


def ranks(y_ND: np.ndarray, targets_VD: np.ndarray, number_N: np.ndarray) -> np.ndarray:
    """How many targets are nearer to each row, by the cosine, than its own."""
    unit_ND = y_ND / np.maximum(np.linalg.norm(y_ND, axis=1, keepdims=True), 1e-12)
    unit_VD = targets_VD / np.maximum(np.linalg.norm(targets_VD, axis=1, keepdims=True), 1e-12)
    near_NV = unit_ND @ unit_VD.T
    own_N1 = near_NV[np.arange(len(number_N)), number_N][:, None]
    return (near_NV > own_N1).sum(1)
