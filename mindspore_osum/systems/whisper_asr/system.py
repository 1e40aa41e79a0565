"""Whisper as a system, found by the registry; imports neither MindSpore nor PyTorch."""

from dataclasses import replace

from mindspore_osum.errors import UserError
from mindspore_osum.speech.long import PAUSES, SEEK
from mindspore_osum.systems.base import SETTINGS, System
from mindspore_osum.systems.whisper_asr import keys
from mindspore_osum.systems.whisper_asr.answer import TEMPERATURES
from mindspore_osum.systems.whisper_asr.config import WhisperConfig
from mindspore_osum.systems.whisper_asr.presets import PRESETS
from mindspore_osum.systems.whisper_asr.vocabulary import names


class WhisperSystem(System):
    """Encoder and text decoder; see `network`."""

    model_type = WhisperConfig.model_type
    Config = WhisperConfig
    presets = PRESETS
    temperatures = TEMPERATURES
    takes = SETTINGS
    long_forms = (SEEK, PAUSES)

    def tables(self, cfg: WhisperConfig | None = None):
        return keys.tables(cfg)

    def published_forms(self):
        return keys.FORMS

    def infer(self, found, base, given, assumed):
        return keys.infer(found, base, given)

    def initial_value(self, cfg, name, shape, seed):
        raise UserError(f"{name}: Whisper is not made from nothing; convert published weights that have it")

    def shallow(self, cfg: WhisperConfig, layers: int) -> WhisperConfig:
        return super().shallow(replace(cfg, alignment_heads=()), layers)

    def build(self, cfg: WhisperConfig):
        from mindspore_osum.systems.whisper_asr.network import WhisperModel

        return WhisperModel(cfg)

    def template(self, cfg: WhisperConfig):
        from mindspore_osum.text.template import ANSWER, AUDIO, Template

        return Template({"text": ((AUDIO,), (ANSWER,))}, {}, ("text",), marks=False)

    def fit_tokenizer(self, tokenizer, cfg: WhisperConfig, where: str) -> None:
        from mindspore_osum.text.byte_pairs import BytePairTokenizer

        if not isinstance(tokenizer, BytePairTokenizer):
            raise UserError(f"{tokenizer.path}: a Whisper has byte-level BPE; give its tokenizer.json")
        super().fit_tokenizer(tokenizer, cfg, where)
        tokenizer.extend(cfg.vocabulary.pieces())

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
        from mindspore_osum.systems.whisper_asr.answer import parse

        return parse(raw)

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
