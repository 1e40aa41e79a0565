"""OSUM as a system, found by the registry; imports neither MindSpore nor PyTorch."""

from mindspore_osum.systems.base import System
from mindspore_osum.systems.osum import keys
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.osum.job import JOB
from mindspore_osum.systems.osum.presets import PRESETS


class OsumSystem(System):
    """Encoder, adapter and decoder with LoRA; see `network`."""

    model_type = ModelConfig.model_type
    Config = ModelConfig
    presets = PRESETS
    job = JOB

    def tables(self, cfg: ModelConfig | None = None):
        return keys.tables(cfg)

    def published_forms(self):
        return keys.FORMS

    def verification(self):
        from mindspore_osum.systems.speech_verify import SpeechVerification

        return SpeechVerification(marks=True)

    def infer(self, found, base, given, assumed):
        return keys.infer(found, base, given, assumed)

    def initial_value(self, cfg, name, shape, seed):
        from mindspore_osum.systems.init import depth_of, initial_value

        return initial_value(name, shape, depth_of(cfg, name), seed)

    def build(self, cfg: ModelConfig):
        from mindspore_osum.systems.osum.network import OsumModel

        return OsumModel(cfg)

    def template(self, cfg: ModelConfig):
        from mindspore_osum.systems.osum.template import load_template

        return load_template(cfg.prompts)

    def answer(self, raw: str, task: str | None):
        from mindspore_osum.tasks import parse_answer

        return parse_answer(raw, task)

    def with_hotwords(self, words, task: str | None, hotwords):
        from mindspore_osum.systems.osum.hotwords import with_hotwords

        return with_hotwords(words, task, hotwords)

    def labels_of(self, task: str):
        from mindspore_osum.tasks import label_sets_of

        return [labels.field for labels in label_sets_of(task)]

    def asked(self, request, cfg: ModelConfig):
        from mindspore_osum.systems.osum.request import asked

        return asked(request, self.template(cfg))

    def passes(self, request, cfg: ModelConfig):
        from mindspore_osum.systems.osum.request import passes

        return passes(request, self.template(cfg))

    def other_task(self, task: str, answer, cfg: ModelConfig):
        from mindspore_osum.tasks import other_tags

        return other_tags(task, answer.tags) if self.template(cfg).tags else ""

    def openings(self, task: str, cfg: ModelConfig):
        from mindspore_osum.tasks import answer_starts

        return answer_starts(task) if self.template(cfg).tags else ("", ())

    def other_openings(self, task: str, cfg: ModelConfig):
        from mindspore_osum.tasks import longer_openings

        return longer_openings(task) if self.template(cfg).tags else ()

    def generation(self, model):
        from mindspore_osum.systems.speech_generation import SpeechGeneration

        return SpeechGeneration(model, self.template(model.cfg).generation)

    def label_scorer(self, model, tokenizer, compute):
        from mindspore_osum.systems.osum.label_scores import LabelScorer

        return LabelScorer(model, tokenizer, compute)

    def export(self):
        from mindspore_osum.systems.osum.export import OsumExport

        return OsumExport()

    def cost(self):
        from mindspore_osum.systems.osum.cost import COST

        return COST

    @property
    def columns(self):
        from mindspore_osum.systems.osum.extractor import COLUMNS

        return COLUMNS

    def extractor(self, cfg: ModelConfig, tokenizer, job=None, **asked):
        from mindspore_osum.systems.osum.extractor import OsumExtractor
        from mindspore_osum.systems.osum.texts import Texts

        texts = Texts(tokenizer, self.template(cfg), **asked)
        return OsumExtractor(cfg, texts, job.ctc.at if job and job.ctc.weight > 0 else "")

    def objective(self, model, sections, vocab: int, seed: int, speech: bool):
        from mindspore_osum.systems.osum.objective import OsumObjective

        return OsumObjective(model, sections, vocab, seed, speech)

    def reference(self):
        from mindspore_osum.systems.osum import reference

        return reference


SYSTEM = OsumSystem()
