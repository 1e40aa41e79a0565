"""Whisper as a system, found by the registry; imports neither MindSpore nor PyTorch."""

from dataclasses import replace

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.speech.long import PAUSES, SEEK
from mindspore_osum.systems.base import SETTINGS, System
from mindspore_osum.systems.whisper_asr import keys
from mindspore_osum.systems.whisper_asr.answer import TEMPERATURES
from mindspore_osum.systems.whisper_asr.config import WhisperConfig
from mindspore_osum.systems.whisper_asr.job import JOB
from mindspore_osum.systems.whisper_asr.presets import PRESETS
from mindspore_osum.systems.whisper_asr.vocabulary import names

GROWING, NOISE = "decoder.embed_tokens.weight", 0.005  # a quarter of a published row's deviation


class WhisperSystem(System):
    """Encoder and text decoder; see `network`."""

    model_type = WhisperConfig.model_type
    Config = WhisperConfig
    presets = PRESETS
    temperatures = TEMPERATURES
    takes = SETTINGS
    long_forms = (SEEK, PAUSES)
    job = JOB
    growing = (GROWING,)

    def tables(self, cfg: WhisperConfig | None = None):
        return keys.tables(cfg)

    def published_forms(self):
        return keys.FORMS

    def check_form(self, cfg: WhisperConfig, form) -> None:
        if cfg.tags:
            raise UserError(
                f"tags: a model with {len(cfg.tags)} tags of its own has more tokens than {form.title} "
                "knows; only its encoder can go on, with osum convert --encoder"
            )

    def infer(self, found, base, given, assumed):
        return keys.infer(found, base, given)

    def initial_value(self, cfg, name, shape, seed):
        raise UserError(f"{name}: Whisper is not made from nothing; convert published weights that have it")

    def shallow(self, cfg: WhisperConfig, layers: int) -> WhisperConfig:
        return super().shallow(replace(cfg, alignment_heads=()), layers)

    def added_rows(self, cfg, name, rows, count, seed):
        """Tags begin as <|transcribe|>, with noise that tells them apart: random rows would be 10 to 20 nats
        less likely than any text, and catching up moves the whole model."""
        noise = np.random.default_rng(seed).standard_normal((count, rows.shape[1])) * NOISE
        return (rows[cfg.vocabulary.transcribe] + noise).astype(np.float32)

    def build(self, cfg: WhisperConfig):
        from mindspore_osum.systems.whisper_asr.network import WhisperModel

        return WhisperModel(cfg)

    def template(self, cfg: WhisperConfig):
        from mindspore_osum.text.template import ANSWER, AUDIO, Template

        return Template({"text": ((AUDIO,), (ANSWER,))}, {}, ("text",), marks=False)

    def fit_tokenizer(self, tokenizer, cfg: WhisperConfig, where: str) -> None:
        from mindspore_osum.systems.whisper_asr.tokenizer import fit_tokenizer

        fit_tokenizer(tokenizer, cfg, where)

    def prompts(self, cfg: WhisperConfig, tokenizer):
        from mindspore_osum.systems.whisper_asr.prompts import WhisperPrompts

        return WhisperPrompts(cfg, tokenizer)

    def example(self, cfg: WhisperConfig, frames: int, request: int):
        from mindspore_osum.systems.whisper_asr.prompts import example

        return example(cfg, frames)

    def check_request(self, request, cfg: WhisperConfig) -> None:
        from mindspore_osum.systems.whisper_asr.prompts import check

        check(request, cfg)

    def seeking(self, prompts, request, frames, previous_text):
        from mindspore_osum.systems.whisper_asr.seeking import Seeking

        return Seeking(prompts, request, frames, previous_text)

    def aligner(self, model, tokenizer, compute):
        from mindspore_osum.systems.whisper_asr.alignment import Aligner

        return Aligner(model, tokenizer, compute)

    def language_name(self, code):
        return names().get(code, code)

    def answer(self, raw: str, task: str | None):
        from mindspore_osum.systems.whisper_asr.answer import is_label, parse
        from mindspore_osum.tasks import parse_answer

        return parse_answer(raw, task) if is_label(raw) else parse(raw)

    def labels_of(self, task: str):
        from mindspore_osum.tasks import label_sets_of

        return [labels.field for labels in label_sets_of(task)]

    def describe(self, answer, facts, log_p) -> None:
        from mindspore_osum.systems.whisper_asr.answer import describe

        describe(answer, facts, log_p)

    def doubtful(self, text, facts, log_p) -> bool:
        from mindspore_osum.systems.whisper_asr.answer import doubtful

        return doubtful(text, facts, log_p)

    def part_of(self, parameter: str) -> str:
        return parameter.split(".")[0]

    def export(self):
        from mindspore_osum.systems.whisper_asr import export

        return export

    def cost(self):
        from mindspore_osum.systems.whisper_asr import cost

        return cost

    @property
    def columns(self):
        from mindspore_osum.systems.whisper_asr.extractor import COLUMNS

        return COLUMNS

    def extractor(self, cfg: WhisperConfig, tokenizer, job=None, **asked):
        from mindspore_osum.systems.whisper_asr.extractor import WhisperExtractor

        return WhisperExtractor(cfg, tokenizer)

    def objective(self, model, sections, vocab: int, seed: int, speech: bool):
        from mindspore_osum.systems.whisper_asr.objective import WhisperObjective

        return WhisperObjective(model, sections.loss)

    def verification(self):
        from mindspore_osum.systems.whisper_asr import verify

        return verify

    def reference(self):
        from mindspore_osum.systems.whisper_asr import reference

        return reference

    def generation(self, model):
        from mindspore_osum.systems.whisper_asr.generation import WhisperGeneration

        return WhisperGeneration(model)


SYSTEM = WhisperSystem()
