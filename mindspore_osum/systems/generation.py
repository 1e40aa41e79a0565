"""The interface of generation: what inference/ needs of a system's models."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from mindspore_osum.models.buckets import SMALLEST_LENGTH, bucket
from mindspore_osum.results import Answer
from mindspore_osum.systems.prompt import Prompt


class Generation:
    """Interface for inference/generate.py: generation with a model, and its intermediate results.

    Attributes
    ----------
    embed : a cell from the values of `inputs` to input embeddings (B, L, D) of the decoder; where that reads
        more than these, to a tuple that begins with them.
    decoder : a cell like that of models/llama/network.py: `embed`, `logits`, and the properties of its cache
        (`new_cache`, `n_layers`, `vocab_size`, `dtype`).
    rules : a cell that changes scores by what was written so far, and keeps `width` numbers of a sequence for
        it (systems/whisper_asr/generation.py `Rules`); None if any token may follow.
    log_probabilities : whether those of an answer's tokens are always computed.
    beams : whose beam search it is, one of inference/beams.py `RULES`.
    eos_ids : tokens that end an answer.
    positions : maximum length of prompt and answer together.
    encode : a cell from the columns of a recording to the model's outputs before the decoder; None if there
        are none.
    encode_columns, encode_names : names of its inputs and of its outputs.
    """

    embed: Any
    decoder: Any
    eos_ids: Sequence[int]
    positions: int
    rules: Any = None
    log_probabilities: bool = False
    beams: str = "transformers"
    encode: Any = None
    encode_columns: tuple[str, ...] = ()
    encode_names: tuple[str, ...] = ()

    def states(self, batch: int) -> Sequence[tuple[str, tuple[int, ...], Any]]:
        """(name, shape, type) of what `batch` rows keep between steps, after the caches."""
        return ()

    def facts(self, values: Sequence[float]) -> dict[str, Any]:
        """What the rules say of a recording before its answer, by name, from their numbers."""
        return {}

    def settings(self, sampling: Any) -> Any:
        """The settings of generation (`Sampling`) as the model needs them, or was published with where they
        are open (`Sampling.is_open`)."""
        return sampling

    def length(self, longest: int) -> int:
        """The static length of prompts of which the longest has so many positions."""
        return bucket(longest, SMALLEST_LENGTH)

    def inputs(self, prompts: Sequence[Prompt], rows: int, length: int) -> dict[str, Any]:
        """Named inputs of `embed` in their order, arrays or None, for `rows` >= len(prompts) rows of `length`
        positions.

        Prompts are padded on the right; static shapes come from models/buckets.py.
        """
        raise NotImplementedError

    def columns(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """`inputs` with one prompt per row, followed by `positions_BL` and `segments_BL` (int32) as in a
        training batch."""
        length = bucket(max(map(len, prompts)), SMALLEST_LENGTH)
        found = self.inputs(prompts, len(prompts), length)
        place_L, lengths_B1 = np.arange(length, dtype=np.int32), np.array([[len(p)] for p in prompts])
        inside_BL = place_L < lengths_B1
        found["positions_BL"] = np.where(inside_BL, place_L, 0).astype(np.int32)
        return found | {"segments_BL": inside_BL.astype(np.int32)}


class Seeking(Protocol):
    """The windows of a recording, one after the other.

    Attributes
    ----------
    at, frames : the first mel frame of the next window, and how many it has; 0 after the last one.
    request : the `Request` about it.
    """

    at: int
    frames: int
    request: Any

    def take(self, answer: Answer, written: Any, words: Any) -> None:
        """What the model said about the window; the answer is changed, and the next window chosen.

        Parameters
        ----------
        answer : as it is of any recording; times from the beginning of the window.
        written : the `Generated` tokens.
        words : of the system's aligner; None unless they were asked for.
        """
        ...
