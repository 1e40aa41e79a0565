"""Recordings and prompts to what vLLM schedules: log-mels, and ids with a place for every embedding.

Legend: N samples, T mel frames, F mel bins.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch  # MSAdapter's, where vLLM-MindSpore runs
from transformers import BatchFeature
from vllm.multimodal.inputs import MultiModalDataDict, MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.parse import MultiModalDataItems, MultiModalDataParser
from vllm.multimodal.processing import (
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
    PromptUpdate,
)
from vllm.multimodal.profiling import BaseDummyInputsBuilder

from mindspore_osum.errors import UserError
from mindspore_osum.speech.features import features_of
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.osum.vllm_chat import PLACEHOLDER
from osum_vllm.config import OsumConfig
from osum_vllm.speech import check_frames, positions_of

MEL = "audio_mel"


class OsumProcessingInfo(BaseProcessingInfo):
    """What vLLM asks before it has a recording."""

    def get_hf_config(self) -> OsumConfig:
        """The folder's description."""
        return self.ctx.get_hf_config(OsumConfig)

    @property
    def model(self) -> ModelConfig:
        """Our own description of the model."""
        return self.get_hf_config().model

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        """One recording a conversation, as in training."""
        return {"audio": 1}

    def longest(self, seq_len: int) -> int:
        """Mel frames of the longest recording that the model takes and that fits `seq_len` positions."""
        cfg, marks = self.model, positions_of(self.model, 0)
        return max(1, min(cfg.most_frames, (seq_len - marks) * cfg.frames_per_token))

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        """Positions of the longest recording."""
        return {"audio": positions_of(self.model, self.longest(seq_len))}


class OsumDummyInputs(BaseDummyInputsBuilder[OsumProcessingInfo]):
    """The longest recording, for vLLM's measurement of memory."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        """A text with as many recordings."""
        return PLACEHOLDER * mm_counts.get("audio", 0)

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options=None
    ) -> MultiModalDataDict:
        """Silence of the longest length."""
        samples = self.info.longest(seq_len) * self.info.model.features.hop
        return {"audio": self._get_dummy_audios(length=samples, num_audios=mm_counts.get("audio", 0))}


class OsumProcessor(BaseMultiModalProcessor[OsumProcessingInfo]):
    """Log-mels by our own front end, and PLACEHOLDER replaced by one id for each embedding."""

    def _get_data_parser(self) -> MultiModalDataParser:
        return MultiModalDataParser(target_sr=self.info.model.features.sample_rate)

    def _call_hf_processor(self, prompt: str, mm_data, mm_kwargs, tok_kwargs) -> BatchFeature:
        ids = self.info.get_tokenizer().encode(prompt, add_special_tokens=False)
        values = {"input_ids": torch.tensor([ids])}
        if waves := mm_data.get("audios", []):
            values[MEL] = [torch.from_numpy(self._mel(wave_N)) for wave_N in waves]
        return BatchFeature(values)

    def _mel(self, wave_N) -> np.ndarray:
        """(T, F) float32; ValueError for a recording that the model does not take."""
        cfg = self.info.model
        check_frames(cfg, cfg.features.frames(len(wave_N)))
        try:
            return features_of(np.asarray(wave_N, np.float32), cfg.features)
        except UserError as error:
            raise ValueError(str(error)) from None

    def _hf_processor_applies_updates(self, *args, **kwargs) -> bool:
        return False

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        return {MEL: MultiModalFieldConfig.batched("audio")}

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, object],
        out_mm_kwargs: MultiModalKwargsItems,
    ) -> Sequence[PromptUpdate]:
        cfg, audio_id = self.info.model, self.info.get_hf_config().audio_token_id

        def positions(item: int) -> list[int]:
            mel_TF = out_mm_kwargs["audio"][item][MEL].data
            return [audio_id] * positions_of(cfg, len(mel_TF))

        return [PromptReplacement(modality="audio", target=[audio_id], replacement=positions)]
