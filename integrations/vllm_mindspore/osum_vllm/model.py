"""OSUM-Pangu as a model of vLLM-MindSpore: its LlamaModel decodes, our encoder and adapter hear.

Legend: P scheduled positions, T mel frames, F mel bins, D decoder width.

Notable choices
- LlamaModel with `qkv_bias` and `bias` is openPangu's decoder, so everything but hearing is inherited.
- On Ascend, vLLM-MindSpore's internal FlashAttention takes its lengths from inputs that only the decoder has.
  It is turned off while the encoder is called, as its own vision models do.
"""

import os
from collections.abc import Iterable
from contextlib import contextmanager

import mindspore as ms
import numpy as np
from mindspore import Tensor
from vllm.config import VllmConfig
from vllm.distributed import get_pp_group
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm_mindspore.model_executor.model_loader.weight_utils import default_weight_loader
from vllm_mindspore.model_executor.models.interfaces import SupportsMultiModal
from vllm_mindspore.model_executor.models.llama import LlamaForCausalLM
from vllm_mindspore.model_executor.models.utils import merge_multimodal_embeddings

from mindspore_osum.systems.osum.vllm_chat import PLACEHOLDER
from mindspore_osum.weights_io import CODES
from osum_vllm.processor import MEL, OsumDummyInputs, OsumProcessingInfo, OsumProcessor
from osum_vllm.speech import PARTS, Recordings, SpeechTower

_INTERNAL = "MS_DISABLE_INTERNAL_KERNELS_LIST"


@MULTIMODAL_REGISTRY.register_processor(OsumProcessor, info=OsumProcessingInfo, dummy_inputs=OsumDummyInputs)
class OsumForConditionalGeneration(LlamaForCausalLM, SupportsMultiModal):
    """The model class that config.json names; base classes add NativeModel and SupportsPP."""

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """What a recording is in the text of a message."""
        if modality.startswith("audio"):
            return PLACEHOLDER
        raise ValueError(f"{modality}: this model hears; it takes audio only")

    def __init__(self, vllm_config: VllmConfig, prefix: str = ""):
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.speech = None
        if get_pp_group().is_first_rank:
            self.speech = SpeechTower(self.config.model, _ms_type(self.model_config.dtype))
            self.set_modules({"speech": self.speech, "model": self.model, "lm_head": self.lm_head})
            self._recordings = Recordings(self.speech)

    def get_multimodal_embeddings(self, **kwargs: object) -> list[Tensor] | None:
        """The embeddings of each recording, (positions, D).

        Parameters
        ----------
        audio_mel : one (T, F) log-mel for each recording, a list or, of equal lengths, one tensor.
        """
        mels = kwargs.get(MEL)
        if mels is None:
            return None
        with _aclnn_attention():
            return self._recordings([_array(mel_TF) for mel_TF in mels])

    def get_input_embeddings(
        self, input_ids: Tensor, multimodal_embeddings: list[Tensor] | None = None
    ) -> Tensor:
        """(P, D) embeddings of the decoder's input: those of text, and the given ones of recordings."""
        audio_id = self.config.audio_token_id
        # the id of recordings is beyond the table
        text_P = input_ids * (input_ids != audio_id).astype(input_ids.dtype)
        embeds_PD = self.model.get_input_embeddings(text_P)
        if multimodal_embeddings is None or len(multimodal_embeddings) == 0:
            return embeds_PD
        return merge_multimodal_embeddings(input_ids, embeds_PD, multimodal_embeddings, audio_id)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Read an exported folder; the names of the parameters that have their values.

        Raises
        ------
        ValueError : a tensor that the model does not have, or a decoder whose type vLLM does not compute in.
        """
        params, loaded = self.get_params_dict(), set()
        for name, weight in weights:
            if name.startswith(PARTS):
                loaded |= self._load_speech(name, weight, params)
            else:
                loaded |= self._load_decoder(name, weight, params)
        if self.config.tie_word_embeddings:
            loaded.add("lm_head.weight")
        return loaded

    def _load_speech(self, name: str, weight, params: dict) -> set[str]:
        if self.speech is None:  # of another stage of the pipeline
            return set()
        if (own := f"speech.{name}") not in params:
            raise ValueError(f"{name}: no such tensor in this model's encoder and adapter")
        default_weight_loader(params[own], weight)
        return {own}

    def _load_decoder(self, name: str, weight, params: dict) -> set[str]:
        computed = str(_ms_type(self.model_config.dtype)).lower()
        stored = weight.get_dtype() if hasattr(weight, "get_dtype") else CODES[computed]
        if stored != CODES[computed]:  # vLLM-MindSpore's loaders copy bytes
            names = {code: name for name, code in CODES.items()}
            raise ValueError(
                f"{name} is {stored} in the folder and vLLM computes in {computed}: start it with "
                f"--dtype {names.get(stored, 'of the folder')}"
            )
        found = self.model.load_weights([(name, weight)], params)
        if not found and get_pp_group().world_size == 1:
            raise ValueError(f"{name}: no such tensor in LlamaModel; export the folder again")
        return found


def _ms_type(dtype):
    """MindSpore's type of vLLM's: with MSAdapter they are the same, but for the name."""
    return getattr(ms, str(dtype).rpartition(".")[2].lower())


def _array(tensor) -> np.ndarray:
    return tensor.asnumpy() if isinstance(tensor, Tensor) else np.asarray(tensor)


@contextmanager
def _aclnn_attention():
    before = os.environ.get(_INTERNAL)
    os.environ[_INTERNAL] = "FlashAttentionScore"
    try:
        yield
    finally:
        os.environ[_INTERNAL] = before or ""
