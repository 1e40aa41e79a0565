"""The system that the registry finds; loads nothing heavy."""

from pathlib import Path

import numpy as np

from mindspore_osum.config import read_yaml
from mindspore_osum.results import Answer
from mindspore_osum.systems.base import System
from mindspore_osum.text.template import read_template
from toy_ear import keys
from toy_ear.config import PRESETS, EarConfig
from toy_ear.job import EarJob


class EarSystem(System):
    """All that the rooms ask of it."""

    model_type, Config, presets, job = EarConfig.model_type, EarConfig, PRESETS, EarJob()

    def build(self, cfg):
        from toy_ear.network import ToyEar

        return ToyEar(cfg)

    def initial_value(self, cfg, name, shape, seed):
        if len(shape) == 1:
            return np.full(shape, 0 if name.endswith("bias") else 1, np.float32)
        noise = np.random.default_rng([seed, *name.encode()]).standard_normal(shape, np.float32)
        return noise * np.float32(shape[-1] ** -0.5)

    def template(self, cfg):
        path = str(Path(__file__).with_name("template.yaml"))
        return read_template(path, read_yaml(path), ("ce",))

    def answer(self, raw: str, task: str | None) -> Answer:
        return Answer(text=raw.replace("_", " ").strip(), raw=raw)

    def generation(self, model):
        from toy_ear.network import EarGeneration

        return EarGeneration(model)

    @property
    def columns(self):
        from toy_ear.extractor import COLUMNS

        return COLUMNS

    def extractor(self, cfg, tokenizer, job=None, **asked):
        from toy_ear.extractor import EarExtractor

        return EarExtractor(cfg, self.template(cfg), tokenizer)

    def objective(self, model, sections, vocab, seed, speech):
        from toy_ear.objective import EarObjective

        return EarObjective(model)

    def tables(self, cfg=None):
        return keys.tables(cfg)

    def published_forms(self):
        return (keys.PUBLISHED,)

    def infer(self, found, base, given, assumed):
        return keys.infer(found, base, given)


SYSTEM = EarSystem()
