"""Requests as our own engine words them, as input for vLLM's `LLM.generate`, and its answers read.

requests = Requests("deploy")
asked = requests.prompt("a.wav", task="asr")
(output,) = llm.generate([asked.inputs], SamplingParams(temperature=0, max_tokens=400))
print(requests.answer(asked, output.outputs[0].token_ids).text)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindspore_osum.files import read_json
from mindspore_osum.inference.request import make_request
from mindspore_osum.results import Answer
from mindspore_osum.speech.audio import load_audio
from mindspore_osum.systems.osum.system import SYSTEM
from mindspore_osum.text.sequence import SPEECH_BOS, SPEECH_EOS, SPEECH_FRAME
from mindspore_osum.text.tokenizer import open_tokenizer
from osum_vllm.config import OsumConfig


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes
    ----------
    inputs : for `LLM.generate`: prompt_token_ids, and the samples under multi_modal_data.
    opening : tokens of the answer that the prompt ends with.
    task : published key, where it is known.
    """

    inputs: dict
    opening: tuple[int, ...] = ()
    task: str | None = None


class Requests:
    """Prompts and answers of one exported folder."""

    def __init__(self, folder: str | Path):
        self.config = OsumConfig(**read_json(Path(folder) / "config.json", "a model description"))
        self.cfg = self.config.model
        self.tokenizer = open_tokenizer(folder)
        self._prompts = SYSTEM.prompts(self.cfg, self.tokenizer)

    def prompt(
        self,
        audio: str | Path | np.ndarray,
        task: str | None = None,
        instruction: str | None = None,
        hotwords: str | Sequence[str] = (),
    ) -> Asked:
        """A request about a recording.

        Parameters
        ----------
        audio : file, or samples at 16 kHz, float, (N,).
        task, instruction, hotwords : as of `osum infer`.

        Raises
        ------
        UserError : as `osum infer`.
        """
        request = SYSTEM.asked(make_request(task, instruction, hotwords), self.cfg)
        wave_N = audio if isinstance(audio, np.ndarray) else load_audio(audio)
        prompt = self._prompts.prompt(request, speech=1)
        ids = [i for i in prompt.sequence.ids_L.tolist() if i not in (SPEECH_BOS, SPEECH_EOS)]
        ids = [self.config.audio_token_id if i == SPEECH_FRAME else i for i in ids]
        inputs = {"prompt_token_ids": ids, "multi_modal_data": {"audio": wave_N}}
        return Asked(inputs, prompt.opening, request.task)

    def answer(self, asked: Asked, token_ids: Sequence[int]) -> Answer:
        """What the model said: tags, labels and words of the generated tokens."""
        return SYSTEM.answer(self.tokenizer.decode([*asked.opening, *token_ids]), asked.task)
