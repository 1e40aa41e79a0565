"""OSUM-Pangu on vLLM-MindSpore, as a plugin: folders that `osum export --format vllm` wrote.

`register` is the entry point of the group `vllm.general_plugins`. vLLM calls it in every process that it
starts, before it reads a model's config.json.
"""

import sys
import warnings

from mindspore_osum.systems.osum.vllm import ARCHITECTURE, MODEL_TYPE

__version__ = "0.1.0"


def register() -> None:
    """Tell transformers the description and the tokenizer, vLLM-MindSpore the model; again is harmless."""
    if "vllm_mindspore" not in sys.modules:
        warnings.warn(
            "osum_vllm: this process did not start with vllm_mindspore, so OSUM is not registered; start it "
            "with `vllm-mindspore serve`, or `import vllm_mindspore` before vllm",
            stacklevel=2,
        )
        return
    from transformers import AutoConfig, AutoTokenizer
    from vllm_mindspore.model_executor.models.registry import MindSporeModelRegistry

    from osum_vllm.config import OsumConfig
    from osum_vllm.tokenizer import OsumTokenizer

    AutoConfig.register(MODEL_TYPE, OsumConfig, exist_ok=True)
    AutoTokenizer.register(OsumConfig, slow_tokenizer_class=OsumTokenizer, exist_ok=True)
    if ARCHITECTURE not in MindSporeModelRegistry.models:
        MindSporeModelRegistry.register_model(ARCHITECTURE, f"osum_vllm.model:{ARCHITECTURE}")
