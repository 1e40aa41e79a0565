"""The interface of a published system, through which the rest of the package uses it.

Notable choices
- A system is a folder of `systems/` (or another package, see `registry`) whose `system.py` defines `SYSTEM`,
  an instance of a subclass of `System`. Importing that file does not load MindSpore: methods import what they
  need.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np

from mindspore_osum.data.batches.extractor import Hearing
from mindspore_osum.errors import UserError
from mindspore_osum.models.buckets import SMALLEST_LENGTH, bucket
from mindspore_osum.models.forms import Form
from mindspore_osum.models.table import Shapes, Table, shapes
from mindspore_osum.results import Answer
from mindspore_osum.speech.long import PAUSES
from mindspore_osum.text.sequence import Audio, HybridSequence, Text, denied_ids, lay_out, opening_ids
from mindspore_osum.text.template import AUDIO, Turn
from mindspore_osum.text.tokenizer import Tokenizer, check_ids

SETTINGS = ("language", "translate", "prompt", "word_times")  # of a `Request`, that few models have


class Config(Hearing, Protocol):
    """A model as described in config.json: a frozen dataclass that validates itself.

    Attributes
    ----------
    seconds_per_token : duration of a speech token.
    most_frames : mel frames of the longest recording that the model takes at once.
    decoder : sizes of the decoder, including `vocab_size`, `max_positions` and `eos_id`.
    dtype : of the weights and activations: float32, bfloat16 or float16.
    """

    model_type: ClassVar[str]
    seconds_per_token: float
    most_frames: int
    decoder: Any
    dtype: str

    def to_dict(self) -> dict:
        """Plain dictionaries and lists, without `model_type`."""
        ...


@dataclass(frozen=True)
class Prompt:
    """Input of generation.

    Attributes
    ----------
    sequence : the hybrid sequence.
    mel_TF : log-mel of its speech, float32, if any.
    opening : the last tokens of the sequence, if they are the beginning of the answer.
    first : the only tokens that may follow them; any may if empty.
    denied : tokens that may not.
    """

    sequence: HybridSequence
    mel_TF: np.ndarray | None = None
    opening: tuple[int, ...] = ()
    first: tuple[int, ...] = ()
    denied: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.sequence)

    def __str__(self) -> str:
        return f"prompt of {len(self)} positions ({self.sequence.n_speech} of speech)"


class Prompts:
    """Makes the prompts of one model whose sequences a template lays out.

    Parameters
    ----------
    system : the `System`.
    """

    def __init__(self, system: Any, cfg: Config, tokenizer: Tokenizer):
        self.system, self.cfg, self.tokenizer = system, cfg, tokenizer
        self.template = system.template(cfg)
        self._openings: dict[str, tuple] = {}

    def hears(self, request) -> bool:
        """Whether a `Request`, or a turn before it, is about a recording."""
        forms = [request.output_type, *(turn.output_type for turn in request.history)]
        return any(AUDIO in self.template.needs(form) for form in forms)

    def prompt(self, request, speech: int | None, mel_TF: np.ndarray | None = None) -> Prompt:
        """The prompt of a `Request` after the turns before it.

        Parameters
        ----------
        speech : tokens of the recording, None without one.
        mel_TF : its log-mel; without it the prompt has the right length, and cannot be answered.
        """
        forced = request.task and request.force_tags
        opening, first, denied = self._opening(request.task) if forced else ((), (), ())
        words = request.words
        if request.hotwords:
            words = self.system.with_hotwords(words, request.task, request.hotwords)

        def turn(form: str, words: str | None, **more) -> Turn:
            heard = speech if AUDIO in self.template.needs(form) else None
            return Turn(form, {"request": words}, heard, **more)

        turns = [turn(form, said, answer=[("", reply)]) for form, said, reply in request.history]
        turns.append(turn(request.output_type, words, opening=opening))
        sequence = self.template.sequence(self.tokenizer, *turns, system=request.system)
        return Prompt(sequence, mel_TF, opening, first, denied)

    def _opening(self, task: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """The tokens that every answer to a task begins with, those that may follow (empty: any), and not."""
        if task not in self._openings:
            opening, texts = self.system.openings(task)
            ids, first = opening_ids(self.tokenizer, opening, texts)
            denied = denied_ids(self.tokenizer, ids, texts, self.system.other_openings(task))
            self._openings[task] = ids, first, denied
        return self._openings[task]


class Generation:
    """Interface for inference/generate.py: generation with a model, and its intermediate results.

    Attributes
    ----------
    embed : a cell from the values of `inputs` to input embeddings (B, L, D) of the decoder; where that reads
        more than these, to a tuple that begins with them.
    decoder : a cell like that of models/llama/network.py: `embed`, `logits`, and the properties of its cache
        (`new_cache`, `n_layers`, `vocab_size`, `dtype`).
    rules : a cell that changes scores by what was written so far, and keeps `width` numbers of a sequence for
        it (systems/whisper_asr/generation.py `Rules`); None if any token may follow.
    log_probabilities : whether those of an answer's tokens are always computed.
    beams : whose beam search it is, one of inference/beams.py `RULES`.
    eos_ids : tokens that end an answer.
    positions : maximum length of prompt and answer together.
    encode : a cell from the columns of a recording to the model's outputs before the decoder; None if there
        are none.
    encode_columns, encode_names : names of its inputs and of its outputs.
    """

    embed: Any
    decoder: Any
    eos_ids: Sequence[int]
    positions: int
    rules: Any = None
    log_probabilities: bool = False
    beams: str = "transformers"
    encode: Any = None
    encode_columns: tuple[str, ...] = ()
    encode_names: tuple[str, ...] = ()

    def states(self, batch: int) -> Sequence[tuple[str, tuple[int, ...], Any]]:
        """(name, shape, type) of what `batch` rows keep between steps, after the caches."""
        return ()

    def facts(self, values: Sequence[float]) -> dict[str, Any]:
        """What the rules say of a recording before its answer, by name, from their numbers."""
        return {}

    def settings(self, sampling: Any) -> Any:
        """The settings of generation (`Sampling`) as the model needs them."""
        return sampling

    def length(self, longest: int) -> int:
        """The static length of prompts of which the longest has so many positions."""
        return bucket(longest, SMALLEST_LENGTH)

    def inputs(self, prompts: Sequence[Prompt], rows: int, length: int) -> dict[str, Any]:
        """Named inputs of `embed` in their order, arrays or None, for `rows` >= len(prompts) rows of `length`
        positions.

        Prompts are padded on the right; static shapes come from models/buckets.py.
        """
        raise NotImplementedError

    def columns(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """`inputs` with one prompt per row, followed by `positions_BL` and `segments_BL` (int32) as in a
        training batch."""
        length = bucket(max(map(len, prompts)), SMALLEST_LENGTH)
        found = self.inputs(prompts, len(prompts), length)
        place_L, lengths_B1 = np.arange(length, dtype=np.int32), np.array([[len(p)] for p in prompts])
        inside_BL = place_L < lengths_B1
        found["positions_BL"] = np.where(inside_BL, place_L, 0).astype(np.int32)
        return found | {"segments_BL": inside_BL.astype(np.int32)}


class Seeking(Protocol):
    """The windows of a recording, one after the other.

    Attributes
    ----------
    at, frames : the first mel frame of the next window, and how many it has; 0 after the last one.
    request : the `Request` about it.
    """

    at: int
    frames: int
    request: Any

    def take(self, answer: Answer, written: Any, words: Any) -> None:
        """What the model said about the window; the answer is changed, and the next window chosen.

        Parameters
        ----------
        answer : as it is of any recording; times from the beginning of the window.
        written : the `Generated` tokens.
        words : of the system's aligner; None unless they were asked for.
        """
        ...


@dataclass(frozen=True)
class NamedLoss:
    """A loss that a run reports, by its name in metrics.jsonl.

    Parameters
    ----------
    over : the count that the loss is averaged over, "targets_B" or "utterances_B"; "" where the objective
        returns a sum and its count.
    """

    name: str
    over: str = ""


class JobRules:
    """Rules for training jobs of a system's models; does not load MindSpore.

    Attributes
    ----------
    Sections : dataclass of the sections of a job's YAML that belong to the system, including `learn`.
    parts : names allowed in `learn`.
    speech_parts : the parts unused by a job without recordings, as attributes of the model.
    """

    Sections: type
    parts: tuple[str, ...]
    speech_parts: tuple[str, ...] = ()

    def part_of(self, parameter: str) -> str:
        """The part that a parameter of the objective belongs to; the prefix "model." is optional."""
        raise NotImplementedError

    def check(self, job: Any) -> None:
        """Refuse sections that cannot work, naming the key."""

    def model(self, job: Any, model: Config) -> Config:
        """The model that a job trains, of the one that it starts from."""
        return model

    def check_model(self, job: Any, model: Config, tokenizer: Any = None) -> None:
        """Refuse a model that does not fit the job or the tokenizer."""

    def unsharded(self, job: Any) -> list[str]:
        """Keys of requested features that a sharded model does not support."""
        return []

    def needs_speech(self, job: Any) -> list[str]:
        """Requested sections that need recordings."""
        return []


class System:
    """A published system.

    Attributes
    ----------
    model_type : its name in config.json.
    Config : dataclass of the other values in config.json.
    presets : name -> Config of its published sizes; the first is the default for conversion.
    growing : names of tables to which a training job may add rows; `added_rows` gives these.
    temperatures : of the draws that replace a doubtful answer, one after the other.
    takes : settings of a `Request` that its models heed, of `SETTINGS`.
    long_forms : how its models read recordings that they do not take at once, the usual way first.
    """

    temperatures: tuple[float, ...] = ()
    takes: tuple[str, ...] = ()
    long_forms: tuple[str, ...] = (PAUSES,)
    growing: tuple[str, ...] = ()
    model_type: str
    Config: type[Config]
    presets: dict[str, Config]

    @property
    def job(self) -> JobRules:
        """Rules for training jobs of its models; UserError if they cannot be trained."""
        raise UserError(f"{self.model_type}: models of this system cannot be trained")

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

    def seeking(self, prompts: Any, request: Any, frames: int, previous_text: bool) -> "Seeking":
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
        compute : runs a cell as a graph (`Generator.compute`).
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

    def other_task(self, task: str, answer: Answer) -> str:
        """One line if an answer is of another task than it should be, else ""."""
        return ""

    def openings(self, task: str) -> tuple[str, Sequence[str]]:
        """The text that answers to a task open with, and answers as training has them that differ after it.

        The opening is given to the decoder in the tokens that these have in common. "" if there is none.
        """
        return "", ()

    def other_openings(self, task: str) -> Sequence[str]:
        """Openings of other tasks that begin with this one's; the next token may not lead to them."""
        return ()

    def generation(self, model: Any) -> Generation:
        """The generation interface of a network."""
        raise NotImplementedError

    def label_scorer(self, model: Any, tokenizer: Any) -> Any:
        """An object for the labels of answers, or None: systems/osum/label_scores.py `LabelScorer` has its
        methods."""
        return None

    def export(self) -> Any:
        """The module for `osum export`: builds the graphs of a network and runs them; imports MindSpore.

        It has the functions and classes of systems/osum/export.py.

        Raises
        ------
        UserError : not supported by the system.
        """
        raise UserError(f"{self.model_type}: models of this system cannot be exported")

    def cost(self) -> Any:
        """The module for `osum plan`, which does not import MindSpore.

        `loss`, `prefill` and `step` write the network on a tape; the other functions give the model's memory
        and the sizes that can be divided among devices. systems/osum/cost.py has all of them.

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
        """Our side of `osum convert --verify`: a module that imports MindSpore only where it computes.

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
