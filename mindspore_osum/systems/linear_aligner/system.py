"""The linear aligner as a system, found by the registry; imports neither MindSpore nor PyTorch."""

from mindspore_osum.results import Answer
from mindspore_osum.systems.base import System
from mindspore_osum.systems.linear_aligner import keys
from mindspore_osum.systems.linear_aligner.config import LinearAlignerConfig
from mindspore_osum.systems.linear_aligner.job import JOB
from mindspore_osum.systems.linear_aligner.presets import PRESETS
from mindspore_osum.tasks import CHAT


class LinearAlignerSystem(System):
    """Encoder, linear layer and decoder with LoRA; see `network`."""

    model_type = LinearAlignerConfig.model_type
    Config = LinearAlignerConfig
    presets = PRESETS
    takes = ("translate",)
    linear = "adapter.proj"
    job = JOB

    def tables(self, cfg: LinearAlignerConfig | None = None):
        return keys.tables(cfg)

    def published_forms(self):
        return keys.FORMS

    def infer(self, found, base, given, assumed):
        return keys.infer(found, base, given)

    def initial_value(self, cfg, name, shape, seed):
        from mindspore_osum.systems.init import depth_of, initial_value

        return initial_value(name, shape, depth_of(cfg, name), seed)

    def build(self, cfg: LinearAlignerConfig):
        from mindspore_osum.systems.linear_aligner.network import LinearAlignerModel

        return LinearAlignerModel(cfg)

    def template(self, cfg: LinearAlignerConfig):
        from mindspore_osum.systems.linear_aligner.template import load_layout

        return load_layout(cfg.prompts).template

    def prompts(self, cfg: LinearAlignerConfig, tokenizer):
        from mindspore_osum.systems.linear_aligner.requests import AlignerPrompts

        return AlignerPrompts(self, cfg, tokenizer)

    def check_request(self, request, cfg: LinearAlignerConfig) -> None:
        from mindspore_osum.systems.linear_aligner.requests import check

        super().check_request(request, cfg)
        check(request)

    def answer(self, raw: str, task: str | None) -> Answer:
        text = raw.strip()
        return Answer(answer=text, raw=raw) if task == CHAT else Answer(text=text, raw=raw)

    def generation(self, model):
        from mindspore_osum.systems.speech_generation import SpeechGeneration

        return SpeechGeneration(model)

    def export(self):
        from mindspore_osum.systems.linear_aligner.export import AlignerExport

        return AlignerExport()

    def verification(self):
        from mindspore_osum.systems.speech_verify import SpeechVerification

        return SpeechVerification(marks=False)

    def reference(self):
        from mindspore_osum.systems.linear_aligner import reference

        return reference

    def cost(self):
        from mindspore_osum.systems.linear_aligner.cost import COST

        return COST

    @property
    def columns(self):
        from mindspore_osum.systems.speech_extractor import COLUMNS

        return COLUMNS

    def extractor(self, cfg: LinearAlignerConfig, tokenizer, job=None, **asked):
        from mindspore_osum.systems.linear_aligner.extractor import AlignerExtractor
        from mindspore_osum.systems.linear_aligner.template import load_layout

        return AlignerExtractor(cfg, load_layout(cfg.prompts), tokenizer)

    def objective(self, model, sections, vocab: int, seed: int, speech: bool):
        from mindspore_osum.systems.speech_objective import SpeechObjective

        return SpeechObjective(model, speech)


SYSTEM = LinearAlignerSystem()
