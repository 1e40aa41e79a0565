"""What every published system says of itself: the one way for the rest of the package to reach it.

Notable choices
- A system is a folder of `systems/` (or a package elsewhere, see `registry`) whose `system.py` has an
  instance of a subclass of `System`, named `SYSTEM`. Importing that file loads no MindSpore: methods import
  what they need.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from mindspore_osum.data.batches.extractor import Hearing
from mindspore_osum.errors import UserError
from mindspore_osum.models.buckets import SMALLEST_LENGTH, bucket
from mindspore_osum.models.forms import Form
from mindspore_osum.models.table import Shapes, Table, shapes
from mindspore_osum.results import Answer
from mindspore_osum.text.sequence import HybridSequence


class Config(Hearing, Protocol):
    """A model as config.json describes it: a frozen dataclass that checks itself.

    Attributes
    ----------
    seconds_per_token : how long a speech token lasts.
    most_frames : mel frames of the longest recording it takes at once.
    decoder : the sizes of what writes, `vocab_size`, `max_positions` and `eos_id` among them.
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
    """What an answer starts from: the hybrid sequence, and the log-mel of its speech, float32, if any."""

    sequence: HybridSequence
    mel_TF: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.sequence)

    def __str__(self) -> str:
        return f"prompt of {len(self)} positions ({self.sequence.n_speech} of speech)"


class Generation:
    """What inference/generate.py needs of a system to generate with one of its models, and to look inside.

    Attributes
    ----------
    embed : a cell from the values of `inputs` to input embeddings (B, L, D) of the decoder.
    decoder : a cell as models/llama/network.py's: `embed`, `logits`, and the cache it needs (`new_cache`,
        `n_layers`, `vocab_size`, `dtype`).
    eos_ids : tokens that end an answer.
    positions : the most that a prompt and its answer may have together.
    encode : a cell from the columns of a recording to what the model makes of it before the decoder, one
        output after the other; None for nothing.
    encode_columns, encode_names : names of its inputs and of its outputs.
    """

    embed: Any
    decoder: Any
    eos_ids: Sequence[int]
    positions: int
    encode: Any = None
    encode_columns: tuple[str, ...] = ()
    encode_names: tuple[str, ...] = ()

    def inputs(self, prompts: Sequence[Prompt], rows: int, length: int) -> dict[str, Any]:
        """Named inputs of `embed`, in their order, arrays or None: `rows` >= len(prompts) rows of `length`
        positions.

        Prompts are padded on the right; static shapes come from models/buckets.py.
        """
        raise NotImplementedError

    def columns(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """`inputs` of a row each, and behind them, as a batch of training has them, `positions_BL` and
        `segments_BL`, int32."""
        length = bucket(max(map(len, prompts)), SMALLEST_LENGTH)
        found = self.inputs(prompts, len(prompts), length)
        place_L, lengths_B1 = np.arange(length, dtype=np.int32), np.array([[len(p)] for p in prompts])
        inside_BL = place_L < lengths_B1
        found["positions_BL"] = np.where(inside_BL, place_L, 0).astype(np.int32)
        return found | {"segments_BL": inside_BL.astype(np.int32)}


@dataclass(frozen=True)
class NamedLoss:
    """A loss that a run shows, by its name in metrics.jsonl.

    Parameters
    ----------
    over : the step's number that it is a mean over, "targets_B" or "utterances_B"; "" where the objective
        gives a sum and its count.
    """

    name: str
    over: str = ""


class JobRules:
    """What a training job can say of a system's models, and what it must not; loads no MindSpore.

    Attributes
    ----------
    Sections : dataclass of the parts of a job's YAML that are the system's own, `learn` among them.
    parts : names that `learn` may have.
    speech_parts : of them those that a job without recordings does not use, as attributes of the model.
    """

    Sections: type
    parts: tuple[str, ...]
    speech_parts: tuple[str, ...] = ()

    def part_of(self, parameter: str) -> str:
        """The part a parameter of the objective belongs to: of "model.", which may be left out, or a head."""
        raise NotImplementedError

    def check(self, job: Any) -> None:
        """Refuse sections that cannot work, naming the key."""

    def check_model(self, job: Any, model: Config, tokenizer: Any = None) -> None:
        """Refuse a model that the job, or the tokenizer, does not go with."""

    def unsharded(self, job: Any) -> list[str]:
        """Keys of what the job asks for and a model that is sharded over devices does not have."""
        return []

    def needs_speech(self, job: Any) -> list[str]:
        """Sections of what the job asks for that reads recordings."""
        return []


class System:
    """A published system.

    Attributes
    ----------
    model_type : its name in config.json.
    Config : dataclass of what config.json says besides.
    presets : name -> Config of its published sizes; conversion starts from the first unless told otherwise.
    job : what a training job can say of its models.
    """

    model_type: str
    Config: type[Config]
    presets: dict[str, Config]
    job: JobRules

    def build(self, cfg: Config) -> Any:
        """The network, a `mindspore.nn.Cell` with `cfg`; its weights are those of no training yet.

        It has `shard(p)`, `stages(count)` and `recompute_layers(config)` where jobs may ask for them (`job`).
        """
        raise NotImplementedError

    def init_weights(self, model: Any, seed: int) -> None:
        """Fill the parameters of a network with what training from scratch starts from."""
        from mindspore import Tensor

        for name, param in model.parameters_and_names():
            value = self.initial_value(model.cfg, name, param.shape, seed)
            param.set_data(Tensor(value, param.dtype))

    def template(self, cfg: Config) -> Any:
        """How its sequences are laid out, a `text.template.Template`."""
        raise NotImplementedError

    def answer(self, raw: str, task: str | None) -> Answer:
        """What a model wrote, taken apart; `task` is the key that was asked for, where it is known."""
        raise NotImplementedError

    def generation(self, model: Any) -> Generation:
        """What generation takes of a network."""
        raise NotImplementedError

    def label_scorer(self, model: Any, tokenizer: Any) -> Any:
        """What gives `probabilities(prompt, raw, labels)` of the labels in an answer; None for nothing."""
        return None

    def export(self) -> Any:
        """What `osum export` makes of a network, and how its graphs are run: a module that imports MindSpore.

        Its names are those of systems/osum/export.py.

        Raises
        ------
        UserError : the system has none.
        """
        raise UserError(f"{self.model_type}: models of this system cannot be exported")

    def cost(self) -> Any:
        """What `osum plan` asks, without MindSpore: a module with the names that `planning` uses of it.

        `loss`, `prefill` and `step` write the network on a tape; the others say what a model holds and what
        can be divided among devices. systems/osum/cost.py has them all.

        Raises
        ------
        UserError : the system has none.
        """
        raise UserError(f"{self.model_type}: what this system costs is not known, so it cannot be planned")

    @property
    def columns(self) -> tuple:
        """What its extractor says of an utterance: data/batches/columns.py `Column`s."""
        raise NotImplementedError

    def extractor(self, cfg: Config, tokenizer: Any, job: Any = None, **asked: Any) -> Any:
        """What makes `columns` of utterances: data/batches/extractor.py `Extractor`.

        Parameters
        ----------
        job : the training job; None for what no job decides.
        asked : requests (tag, natural or both), room (tokens beside the speech), seed, split (train, valid).
        """
        raise NotImplementedError

    def objective(self, model: Any, sections: Any, vocab: int, seed: int, speech: bool) -> Any:
        """A cell that owns `model` (as its attribute of this name) and the heads of its losses.

        It has `losses`, the `NamedLoss`es that are shown, and computes (loss, values, counts) of a dict of
        columns: values by the losses' names, counts of those without `over`. Where the model can be sharded,
        `sharded(p)` gives a cell that computes the same as one vector.

        Parameters
        ----------
        sections : the job's `JobRules.Sections`.
        vocab : of the tokenizer.
        seed : of random weights.
        speech : whether any example of the job has a recording.
        """
        raise NotImplementedError

    # checkpoints: what the converter asks for

    def tables(self, cfg: Config | None = None) -> tuple[Table, ...]:
        """The network's parameters part by part, in the order of files.

        Without `cfg` names alone, of every network that the system can have.
        """
        raise NotImplementedError

    def published_forms(self) -> Iterable[Form]:
        """The forms of checkpoints that hold the network or parts of it, without their rows."""
        raise NotImplementedError

    def forms(self, cfg: Config | None = None) -> dict[str, Form]:
        """Name -> form, with the names of the tables."""
        tables = self.tables(cfg)
        return {form.name: form.of(tables) for form in self.published_forms()}

    def shapes(self, cfg: Config) -> Shapes:
        """Every parameter of the network: name -> shape, in the order of files. Nothing is allocated."""
        return shapes(self.tables(cfg))

    def infer(self, found: Shapes, base: Config, given: dict, assumed: str) -> tuple[dict, list[str]]:
        """What tensors tell of a configuration.

        Parameters
        ----------
        found : our names -> shapes, of a whole model or of some parts.
        base : where values come from that no tensor has, if the sizes they go with are equal.
        given : nested values that the user or a source's own description states; they are not questioned.
        assumed : name of the preset that `base` is, if nobody chose it.

        Returns
        -------
        The values the tensors settle, nested as in `Config`, and a line for each value that nobody tells.

        Raises
        ------
        UserError : a tensor that sizes are read off is missing or has a wrong rank.
        """
        raise NotImplementedError

    def verification(self) -> Any:
        """Our side of `osum convert --verify`: a module that imports MindSpore only where it computes.

        `first_layers(cfg, layers)` is a smaller model, `inputs(cfg, frames, tokens, rng)` random arrays by
        name, `stages(model, inputs, wanted)` what the network computes of them: the stages of the reference.

        Raises
        ------
        UserError : the system has none.
        """
        raise UserError(f"{self.model_type}: this system has nothing to verify a conversion with")

    def initial_value(self, cfg: Config, name: str, shape: tuple[int, ...], seed: int) -> Any:
        """What training from scratch starts a parameter from: a float32 array, the same on every machine."""
        raise NotImplementedError

    def reference(self) -> Any:
        """The network in PyTorch, which shares no code with ours: a module that imports torch.

        `stages` is for `osum convert --verify`, `from_folder` for the benchmark.

        Raises
        ------
        UserError : the system has none.
        """
        raise UserError(f"{self.model_type}: this system has no reference in PyTorch to compare with")
