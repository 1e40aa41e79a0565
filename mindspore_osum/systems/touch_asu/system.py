"""TouchASU as a system, found by the registry; imports neither MindSpore nor PyTorch."""

from mindspore_osum.models.firered.config import FireRedConfig
from mindspore_osum.results import Answer
from mindspore_osum.systems.base import System
from mindspore_osum.systems.touch_asu import descriptions, keys
from mindspore_osum.systems.touch_asu.config import TouchAsuConfig
from mindspore_osum.systems.touch_asu.job import JOB, check_tokenizer
from mindspore_osum.systems.touch_asu.presets import PRESETS
from mindspore_osum.tasks import CHAT, TEXT2TEXT


class TouchAsuSystem(System):
    """Encoder, projector and decoder with LoRA; see `network`."""

    model_type = TouchAsuConfig.model_type
    Config = TouchAsuConfig
    presets = PRESETS
    job = JOB
    conversations = True

    def own_values(self, values: dict, where: str) -> dict:
        return descriptions.own_values(values, where)

    def tables(self, cfg: TouchAsuConfig | None = None):
        return keys.tables(cfg)

    def published_forms(self):
        return keys.FORMS

    def base(self, preset, found):
        if isinstance(preset.encoder, FireRedConfig) or not keys.has_firered(found):
            return preset
        return keys.with_firered(preset)

    def infer(self, found, base, given, assumed):
        return keys.infer(found, base, given, assumed)

    def initial_value(self, cfg, name, shape, seed):
        from mindspore_osum.models.firered import keys as firered
        from mindspore_osum.systems.init import depth_of, initial_value

        if isinstance(cfg.encoder, FireRedConfig):
            value = firered.constant(name.removeprefix("encoder."), shape)
            if value is not None:
                return value
        return initial_value(name, shape, depth_of(cfg, name), seed)

    def build(self, cfg: TouchAsuConfig):
        from mindspore_osum.systems.touch_asu.network import TouchAsuModel

        return TouchAsuModel(cfg)

    def fit_tokenizer(self, tokenizer, cfg: TouchAsuConfig, where: str) -> None:
        check_tokenizer(tokenizer, cfg, where)

    def template(self, cfg: TouchAsuConfig):
        from mindspore_osum.systems.touch_asu.template import load_template

        return load_template()

    def prompts(self, cfg: TouchAsuConfig, tokenizer):
        from mindspore_osum.systems.touch_asu.requests import TouchAsuPrompts

        return TouchAsuPrompts(self, cfg, tokenizer)

    def check_request(self, request, cfg: TouchAsuConfig) -> None:
        from mindspore_osum.systems.touch_asu.requests import check

        super().check_request(request, cfg)
        check(request)

    def answer(self, raw: str, task: str | None) -> Answer:
        text = raw.strip()
        return Answer(answer=text, raw=raw) if task in (CHAT, TEXT2TEXT) else Answer(text=text, raw=raw)

    def generation(self, model):
        from mindspore_osum.systems.touch_asu.generation import TouchAsuGeneration

        return TouchAsuGeneration(model)

    def export(self):
        from mindspore_osum.systems.touch_asu.export import TouchAsuExport

        return TouchAsuExport()

    def verification(self):
        from mindspore_osum.systems.speech_verify import SpeechVerification

        return SpeechVerification(marks=False, frames_less=6)  # the last speech token is not whole

    def reference(self):
        from mindspore_osum.systems.touch_asu import reference

        return reference

    def cost(self):
        from mindspore_osum.systems.touch_asu.cost import COST

        return COST

    @property
    def columns(self):
        from mindspore_osum.systems.speech_extractor import COLUMNS

        return COLUMNS

    def extractor(self, cfg: TouchAsuConfig, tokenizer, job=None, **asked):
        from mindspore_osum.systems.touch_asu.extractor import TouchAsuExtractor
        from mindspore_osum.systems.touch_asu.template import load_template

        return TouchAsuExtractor(cfg, load_template(job is None or job.loss.prompt), tokenizer)

    def objective(self, model, sections, vocab: int, seed: int, speech: bool):
        from mindspore_osum.systems.speech_objective import SpeechObjective
        from mindspore_osum.systems.touch_asu.template import ANSWER, PROMPT

        spans = {"answer_loss": ANSWER} | ({"prompt_loss": PROMPT} if sections.loss.prompt else {})
        return SpeechObjective(model, speech, spans, near_end=not sections.loss.prompt)


SYSTEM = TouchAsuSystem()
