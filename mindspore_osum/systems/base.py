"""The interface of a published system, through which the rest of the package uses it.

Notable choices
- A system is a folder of `systems/` (or another package, see `registry`) whose `system.py` defines `SYSTEM`,
  an instance of a subclass of `System`. Importing that file does not load MindSpore: methods import what they
  need.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.models.forms import Form
from mindspore_osum.models.table import Shapes, Table, shapes
from mindspore_osum.results import Answer
from mindspore_osum.speech.long import PAUSES
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.generation import Generation, Seeking
from mindspore_osum.systems.job import JobRules
from mindspore_osum.systems.prompt import Prompt, Prompts
from mindspore_osum.text.sequence import Audio, Text, lay_out
from mindspore_osum.text.tokenizer import Tokenizer, check_ids

SETTINGS = ("language", "translate", "prompt", "word_times")  # of a `Request`, that few models have


class System:
    """A published system.

    Attributes
    ----------
    model_type : its name in config.json.
    Config : dataclass of the other values in config.json.
    presets : name -> Config of its published sizes; the first is the default for conversion.
    conversations : whether its models are asked whole conversations of a test set, else first turns.
    growing : names of tables to which a training job may add rows; `added_rows` gives these.
    temperatures : of the draws that replace a doubtful answer, one after the other.
    takes : settings of a `Request` that its models heed, of `SETTINGS`.
    linear : name of the linear layer that alone maps encoder frames to the decoder's embeddings; "" if there
        is none.
    long_forms : how its models read recordings that they do not take at once, the usual way first.
    """

    temperatures: tuple[float, ...] = ()
    takes: tuple[str, ...] = ()
    long_forms: tuple[str, ...] = (PAUSES,)
    growing: tuple[str, ...] = ()
    linear: str = ""
    conversations: bool = False
    model_type: str
    Config: type[Config]
    presets: dict[str, Config]

    @property
    def job(self) -> JobRules:
        """Rules for training jobs of its models; UserError if they cannot be trained."""
        raise UserError(f"{self.model_type}: models of this system cannot be trained")

    def own_values(self, values: dict, where: str) -> dict:
        """The values of `Config` in a description, which may also be of the published code.

        Parameters
        ----------
        where : file of the description.

        Raises
        ------
        UserError : a description of the published code that is not enough.
        """
        return values

    def part_of(self, parameter: str) -> str:
        """The part of the network that a parameter belongs to."""
        return self.job.part_of(parameter)

    def shallow(self, cfg: Config, layers: int) -> Config:
        """The same widths with at most `layers` layers in each stack: to look at graphs."""
        return _shallow(cfg, layers)

    def build(self, cfg: Config) -> Any:
        """The network, a `mindspore.nn.Cell` with attribute `cfg`; its weights are not initialised yet.

        It has `shard(p)`, `stages(count)` and `recompute_layers(config)` where `job` allows these features.
        """
        raise NotImplementedError

    def init_weights(self, model: Any, seed: int, known: Container[str] = ()) -> None:
        """Initialise the parameters of a network for training from scratch.

        Under MindSpore's no_init_parameters it keeps shapes without values: such a network is only looked at.

        Parameters
        ----------
        known : names of parameters that have their values already; drawing them would take minutes for
            billions of numbers. The others get the same numbers either way.
        """
        from mindspore import Tensor

        from mindspore_osum.models.target import has_values

        if not has_values():
            return
        for name, param in model.parameters_and_names():
            if name not in known:
                value = self.initial_value(model.cfg, name, param.shape, seed)
                param.set_data(Tensor(value, param.dtype))

    def added_rows(self, cfg: Config, name: str, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
        """The initial values of `count` rows behind those of a table of `growing`."""
        raise NotImplementedError

    def fit_tokenizer(self, tokenizer: Tokenizer, cfg: Config, where: str) -> None:
        """Refuse a tokenizer that does not belong to a model; may add pieces that its file does not list.

        Parameters
        ----------
        where : description of the model, for the error.
        """
        check_ids(tokenizer, cfg.decoder.vocab_size, cfg.decoder.eos_id, where)

    def template(self, cfg: Config) -> Any:
        """The layout of its sequences, a `text.template.Template`."""
        raise NotImplementedError

    def prompts(self, cfg: Config, tokenizer: Tokenizer) -> Any:
        """What makes prompts of accepted requests, with the methods of `Prompts`."""
        return Prompts(self, cfg, tokenizer)

    def example(self, cfg: Config, frames: int, request: int) -> Prompt:
        """A silent recording of so many mel frames with a request of so many tokens: to look at graphs and
        their sizes, which needs no tokenizer."""
        half = [0] * (request // 2)
        sequence = lay_out(None, [Text(half), Audio(cfg.tokens(frames)), Text(half)])
        return Prompt(sequence, np.zeros((frames, cfg.features.n_mels), np.float32))

    def check_request(self, request: Any, cfg: Config) -> None:
        """Refuse a `Request` that no recording could be asked."""
        for what in SETTINGS:
            if what not in self.takes and getattr(request, what):
                raise UserError(f"{what}: a model of {self.model_type} has no such setting; ask without")

    def language_name(self, code: str) -> str:
        """English name, in lower case, of a language that answers are in; "" if there is none."""
        return code

    def answer(self, raw: str, task: str | None) -> Answer:
        """Parse the text that a model generated; `task` is the requested key, where it is known."""
        raise NotImplementedError

    def describe(self, answer: Answer, facts: dict[str, Any], log_p: float | None) -> None:
        """Add what a model says beside the answer.

        Parameters
        ----------
        facts : `Generation.facts` of the recording; {} if there are none.
        log_p : mean log-probability of the tokens and the end, where they are always computed.
        """

    def doubtful(self, text: str, facts: dict[str, Any], log_p: float | None) -> bool:
        """Whether an answer should be generated anew, at the next of `temperatures`.

        Parameters
        ----------
        text : of the generated tokens.
        facts, log_p : as in `describe`.
        """
        return False

    def seeking(self, prompts: Any, request: Any, frames: int, previous_text: bool) -> Seeking:
        """The windows of a recording, where each says where the next one begins.

        Parameters
        ----------
        prompts, request : of `System.prompts`, and about the recording.
        frames : mel frames of the recording.
        previous_text : whether the model reads what it wrote before a window.

        Raises
        ------
        UserError : not supported by the system.
        """
        raise UserError(f"{self.model_type}: this system reads recordings in parts that do not overlap")

    def aligner(self, model: Any, tokenizer: Tokenizer, compute: Any) -> Any:
        """What finds times of words that a model does not write, or None: systems/whisper_asr/alignment.py
        `Aligner` has its methods.

        Parameters
        ----------
        compute : runs a cell as a graph (`Generator.compute`); None to look at its cell.
        """
        return None

    def with_hotwords(self, words: str | None, task: str | None, hotwords: Sequence[str]) -> str:
        """The words of a request that mentions names and terms which may be said.

        Parameters
        ----------
        words, task : of the request; `words` are the task's tags where the user gave only the task.

        Raises
        ------
        UserError : not supported by the system.
        """
        raise UserError(f"hotwords: a model of {self.model_type} has no place for them; ask without")

    def labels_of(self, task: str) -> list[str]:
        """Names of the labels that an answer to a task has: keys of `Answer.labels`."""
        return []

    def asked(self, request: Any, cfg: Config) -> Any:
        """A `Request` in the words that a model was trained with, where only the task was given.

        Raises
        ------
        UserError : a task that the model has no words for.
        """
        return request

    def passes(self, request: Any, cfg: Config) -> list[Any]:
        """The `Request`s that together ask for what one does: more where the model answers less at once."""
        return [request]

    def other_task(self, task: str, answer: Answer, cfg: Config) -> str:
        """One line if an answer is of another task than it should be, else ""."""
        return ""

    def openings(self, task: str, cfg: Config) -> tuple[str, Sequence[str]]:
        """The text that answers to a task open with, and answers as training has them that differ after it.

        The opening is given to the decoder in the tokens that these have in common. "" if there is none.
        """
        return "", ()

    def other_openings(self, task: str, cfg: Config) -> Sequence[str]:
        """Openings of other tasks that begin with this one's; the next token may not lead to them."""
        return ()

    def generation(self, model: Any) -> Generation:
        """The generation interface of a network."""
        raise NotImplementedError

    def label_scorer(self, model: Any, tokenizer: Any, compute: Any) -> Any:
        """An object for the labels of answers, or None: systems/osum/label_scores.py `LabelScorer` has its
        methods.

        Parameters
        ----------
        compute : as in `aligner`.
        """
        return None

    def export(self) -> Any:
        """The module or object for `osum export`: builds the graphs of a network and runs them; imports
        MindSpore.

        It has what `SpeechExport` of systems/speech_export.py has.

        Raises
        ------
        UserError : not supported by the system.
        """
        raise UserError(f"{self.model_type}: models of this system cannot be exported")

    def cost(self) -> Any:
        """The module or object for `osum plan`, which does not import MindSpore.

        `loss`, `prefill` and `step` write the network on a tape; the other functions give the model's memory
        and the sizes that can be divided among devices. systems/speech_cost.py has all of them.

        Raises
        ------
        UserError : not supported by the system.
        """
        raise UserError(f"{self.model_type}: what this system costs is not known, so it cannot be planned")

    @property
    def columns(self) -> tuple:
        """The columns that its extractor makes of an utterance: data/batches/columns.py `Column`s."""
        raise NotImplementedError

    def extractor(self, cfg: Config, tokenizer: Any, job: Any = None, **asked: Any) -> Any:
        """The object that computes `columns` of utterances: data/batches/extractor.py `Extractor`.

        Parameters
        ----------
        job : the training job; None for defaults.
        asked : requests (tag, natural or both), room (token budget without speech), seed, split (train,
            valid).
        """
        raise NotImplementedError

    def objective(self, model: Any, sections: Any, vocab: int, seed: int, speech: bool) -> Any:
        """A cell that owns the model (attribute `model`) and the heads of its losses.

        It has `losses`, the reported `NamedLoss`es, and computes (loss, values, counts) from a dict of
        columns: values by the losses' names, counts of those without `over`. If the model can be sharded,
        `sharded(p)` returns a cell that computes the same as one vector.

        Parameters
        ----------
        sections : the job's `JobRules.Sections`.
        vocab : vocabulary size of the tokenizer.
        seed : of random weights.
        speech : whether any example of the job has a recording.
        """
        raise NotImplementedError

    # checkpoints: used by the converter

    def tables(self, cfg: Config | None = None) -> tuple[Table, ...]:
        """The network's parameters by part, in the order of files.

        Without `cfg` only names, for all networks of the system.
        """
        raise NotImplementedError

    def published_forms(self) -> Iterable[Form]:
        """The checkpoint forms of the network or its parts, without their rows."""
        raise NotImplementedError

    def forms(self, cfg: Config | None = None) -> dict[str, Form]:
        """Name -> form, with the names of the tables."""
        tables = self.tables(cfg)
        return {form.name: form.of(tables) for form in self.published_forms()}

    def check_form(self, cfg: Config, form: Form) -> None:
        """Refuse a model that cannot be written in one of its forms."""

    def shapes(self, cfg: Config) -> Shapes:
        """Every parameter of the network: name -> shape, in the order of files. Nothing is allocated."""
        return shapes(self.tables(cfg))

    def base(self, preset: Config, found: Shapes) -> Config:
        """The preset that completes a checkpoint with the tensors `found` (our names -> shapes); `preset` is
        the one that was chosen."""
        return preset

    def infer(self, found: Shapes, base: Config, given: dict, assumed: str) -> tuple[dict, list[str]]:
        """Infer a configuration from tensors.

        Parameters
        ----------
        found : our names -> shapes, of a full model or of some parts.
        base : source of values that no tensor shows, if the related sizes are equal.
        given : nested values from the user or a source's own description; they take precedence.
        assumed : name of the preset `base`, if the user did not choose it.

        Returns
        -------
        The inferred values, nested as in `Config`, and a line for each value that cannot be determined.

        Raises
        ------
        UserError : a tensor that is needed is missing or has a wrong rank.
        """
        raise NotImplementedError

    def verification(self) -> Any:
        """Our side of `osum convert --verify`: a module or object that imports MindSpore only where it
        computes.

        `first_layers(cfg, layers)` is the config of a smaller model, `inputs(cfg, frames, tokens, rng)` gives
        random arrays by name, `stages(model, inputs, wanted)` the network's outputs for them, with the stages
        of the reference.

        Raises
        ------
        UserError : not supported by the system.
        """
        raise UserError(f"{self.model_type}: this system has nothing to verify a conversion with")

    def initial_value(self, cfg: Config, name: str, shape: tuple[int, ...], seed: int) -> Any:
        """Initial value of a parameter for training from scratch: float32, the same on every machine."""
        raise NotImplementedError

    def reference(self) -> Any:
        """The module with the network in PyTorch, which shares no code with ours; imports torch.

        `stages` is for `osum convert --verify`, `from_folder` for the benchmark.

        Raises
        ------
        UserError : not supported by the system.
        """
        raise UserError(f"{self.model_type}: this system has no reference in PyTorch to compare with")


def _shallow(cfg: Any, layers: int) -> Any:
    changed = {}
    for field in fields(cfg):
        value = getattr(cfg, field.name)
        if field.name == "n_layers":
            changed[field.name] = min(value, layers)
        elif is_dataclass(value):
            changed[field.name] = _shallow(value, layers)
    return replace(cfg, **changed)
