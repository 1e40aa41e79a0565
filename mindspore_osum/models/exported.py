"""Exported models of any kind: their static shapes, and how their graphs are compared with the model."""

from dataclasses import asdict, dataclass

import numpy as np

from mindspore_osum.errors import UserError

STEPS = 4  # decode steps that are compared


@dataclass(frozen=True)
class Sizes:
    """The static shapes of an export."""

    batch: int  # B, recordings at a time
    frames: int  # T
    prompt: int  # L
    places: int  # S: the prompt and the longest answer

    @property
    def new_tokens(self) -> int:
        """Longest answer."""
        return self.places - self.prompt

    to_dict = asdict


def check_counts(longest: float, seconds: float, request_tokens: int, new_tokens: int, batch: int) -> None:
    """Refuse what no export can have; UserError.

    Parameters
    ----------
    longest : seconds that the model hears at once.
    """
    if not 1 <= seconds <= longest:  # recordings are not split into parts below a second
        raise UserError(f"--seconds {seconds:g}: recordings are 1 to {longest:g} seconds at most")
    counts = {"request-tokens": request_tokens, "max-new-tokens": new_tokens, "batch-size": batch}
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"--{name} {value}: must be 1 or more")


def difference(got, expected) -> float:
    """Largest difference of tensors over the largest value, in float32; masked scores do not count."""
    import mindspore as ms

    from mindspore_osum.models.ops import MASKED

    got, expected = (x.astype(ms.float32).asnumpy() for x in (got, expected))
    seen = got > MASKED / 2
    return float(np.abs(got - expected)[seen].max() / np.abs(expected[seen]).max())


def mels(cfg, sizes: Sizes, prompts) -> tuple:
    """Log-mel (B, T, F) float32 of a whole batch of prompts, and frames (B,) int32, as tensors."""
    from mindspore import Tensor

    mel_BTF = np.zeros((sizes.batch, sizes.frames, cfg.features.n_mels), np.float32)
    for mel_TF, prompt in zip(mel_BTF, prompts, strict=True):
        mel_TF[: len(prompt.mel_TF)] = prompt.mel_TF
    return Tensor(mel_BTF), Tensor(np.array([len(prompt.mel_TF) for prompt in prompts], np.int32))
