"""Label confidence: the probability of each label of its set, given the answer before it.

Legend: C labels of a set, L sequence positions, P tokens of a label, T mel frames, F mel bins, D width,
V vocabulary.

Notable choices
- A label may have several tokens, so its score is the sum of its tokens' log-probabilities. A softmax over
  these sums restricts the model's distribution to the set.
- All labels of a set are rows of one batch that shares one audio slot: the recording is encoded once.
- The repetition penalty of generation does not affect these probabilities.
"""

import os.path
import re
from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindspore_osum.models.buckets import SMALLEST_LENGTH, batch_bucket, bucket, frame_bucket
from mindspore_osum.systems.osum.network import OsumModel
from mindspore_osum.systems.osum.template import load_template
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.tasks import LABEL_SETS, LabelSet, label_sets_of, tags_of, write_tags
from mindspore_osum.text.sequence import stack_sequences
from mindspore_osum.text.tokenizer import Tokenizer

SMALLEST_LABEL = 8  # tokens
_BRACKET = re.compile(r"<([^<>]*)>")


class LogProbabilities(nn.Cell):
    """Sums (C,) of log-probabilities: of `token_CP` after the positions `place_CP`, where `real_CP` is 1."""

    def __init__(self, model: OsumModel):
        super().__init__(auto_prefix=False)
        self.model = model

    def construct(self, mel_1TF, mel_len_1, token_ids_CL, speech_row_CL, place_CP, token_CP, real_CP):
        rows, length = token_ids_CL.shape
        places_CL = ops.arange(0, length, dtype=ms.int32).expand_dims(0).broadcast_to((rows, length))
        hidden_CLD = self.model.hidden_states(
            mel_1TF, mel_len_1, token_ids_CL, speech_row_CL, places_CL, ops.ones_like(token_ids_CL)
        )
        first_C1 = (ops.arange(0, rows, dtype=ms.int32) * length).expand_dims(1)
        asked_CPD = ops.gather(hidden_CLD.reshape((rows * length, -1)), first_C1 + place_CP, 0)
        scores_CPV = ops.log_softmax(self.model.decoder.logits(asked_CPD), -1)
        chosen_CP = ops.gather_elements(scores_CPV, -1, token_CP.expand_dims(-1)).squeeze(-1)
        return ops.reduce_sum(chosen_CP * real_CP, -1)


class LabelScorer:
    """Label probabilities of one model.

    Parameters
    ----------
    compute : runs a cell as a graph, `Generator.compute`.

    Attributes
    ----------
    cell : what its graphs compute.
    """

    def __init__(self, model: OsumModel, tokenizer: Tokenizer, compute: Callable):
        self.model, self.tokenizer, self.compute = model, tokenizer, compute
        self.cell = LogProbabilities(model)

    def probabilities(self, prompt: Prompt, raw: str, labels: dict[str, str]) -> dict[str, dict[str, float]]:
        """Probability of each label.

        Parameters
        ----------
        prompt : the prompt.
        raw : the answer as the model generated it.
        labels : field -> value, as parsed from the answer.

        Returns
        -------
        dict field -> {value: probability}, over all values of the field's set; they sum to 1. The value in
        the answer need not be the most likely one, with sampling or a repetition penalty.
        """
        sets = [s for s in LABEL_SETS.values() if s.field in labels]
        return {s.field: self._written(prompt, raw, labels[s.field], s) for s in sets}

    def decide(
        self, prompt: Prompt, task: str, text: str, labels: dict[str, str]
    ) -> dict[str, dict[str, float]]:
        """Labels that the model has not written: the probability of each value of their sets.

        Parameters
        ----------
        prompt : the prompt.
        task : published key, whose labels are wanted.
        text : the transcript that the model wrote.
        labels : field -> value, what it wrote; the likeliest value of each other label is written after it.

        Returns
        -------
        dict field -> {value: probability} for each label of the task that is not in `labels`.
        """
        tags = load_template(self.model.cfg.prompts).tags
        before, spell = (write_tags(tags_of(task)) + text, str) if tags else (text, str.lower)
        found = {}
        for s in label_sets_of(task):
            value = labels.get(s.field)
            if value is None:
                p = found[s.field] = self._of_set(prompt, before, [f"<{spell(v)}>" for v in s.values], s)
                value = max(p, key=p.get)
            before += f"<{spell(value)}>"
        return found

    def _written(self, prompt: Prompt, raw: str, value: str, labels: LabelSet) -> dict[str, float]:
        written = [m for m in _BRACKET.finditer(raw) if labels.read(m[1]) == value][-1]
        spell = str.lower if written[1].islower() else str  # OSUM writes <male>
        texts = [written[0] if v == value else f"<{spell(v)}>" for v in labels.values]
        return self._of_set(prompt, raw[: written.start()], texts, labels)

    def _of_set(self, prompt: Prompt, before: str, texts: list[str], labels: LabelSet) -> dict[str, float]:
        ids = [self.tokenizer.encode(before + text) for text in texts]
        sums_C = self._score(prompt, ids, len(os.path.commonprefix(ids)))
        p_C = np.exp(sums_C - sums_C.max())
        return dict(zip(labels.values, (p_C / p_C.sum()).tolist(), strict=True))

    def _score(self, prompt: Prompt, ids: list[list[int]], shared: int) -> np.ndarray:
        """Log-probability of each answer's tokens after the first `shared` ones, which all have in common."""
        scores_C = self.compute(self.cell, self.inputs(prompt, ids, shared))
        return scores_C[: len(ids)].astype(np.float64)

    def inputs(self, prompt: Prompt, ids: list[list[int]], shared: int) -> tuple[np.ndarray, ...]:
        """The inputs of `cell` for these answers."""
        start = len(prompt.sequence) - len(prompt.opening)  # the answers begin with it
        rows, longest = batch_bucket(len(ids)), max(map(len, ids))
        length = bucket(max(start + longest, len(prompt.sequence)), SMALLEST_LENGTH)
        tokens = bucket(longest - shared, SMALLEST_LABEL)
        frames = frame_bucket(self.model.cfg, len(prompt.mel_TF))
        one = stack_sequences([prompt.sequence], length, self.model.cfg.tokens(frames), 1)
        token_ids_CL, speech_row_CL = (
            np.repeat(one[name], rows, axis=0) for name in ("token_ids_BL", "speech_row_BL")
        )
        place_CP, token_CP, real_CP = (np.zeros((rows, tokens), t) for t in (np.int32, np.int32, np.float32))
        for c, answer in enumerate(ids):
            label = answer[shared:]
            token_ids_CL[c, start : start + len(answer)] = answer
            place_CP[c, : len(label)] = np.arange(start + shared - 1, start + len(answer) - 1)
            token_CP[c, : len(label)] = label
            real_CP[c, : len(label)] = 1
        mel_1TF = np.zeros((1, frames, prompt.mel_TF.shape[1]), np.float32)
        mel_1TF[0, : len(prompt.mel_TF)] = prompt.mel_TF
        mel_len_1 = np.array([len(prompt.mel_TF)], np.int32)
        return mel_1TF, mel_len_1, token_ids_CL, speech_row_CL, place_CP, token_CP, real_CP
