"""config.json of an exported folder as transformers reads it."""

from transformers import PretrainedConfig

from mindspore_osum.config import from_dict, merge
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.osum.vllm import MODEL_TYPE, stated


class OsumConfig(PretrainedConfig):
    """The decoder's settings as attributes, where vLLM and its LlamaModel look for them.

    Parameters
    ----------
    speech : settings of encoder and adapter, the rows of the speech table and the prompt set.
    audio_token_id : at every position of a recording in a prompt.
    """

    model_type = MODEL_TYPE

    def __init__(self, speech: dict | None = None, audio_token_id: int = 0, **values):
        self.speech, self.audio_token_id = speech or {}, audio_token_id
        super().__init__(**values)

    @property
    def model(self) -> ModelConfig:
        """The same as our own description.

        Raises
        ------
        UserError : a value is missing or wrong; the key is named.
        """
        return from_dict(ModelConfig, merge({}, stated(vars(self), "config.json")), "config.json")
