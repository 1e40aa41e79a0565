"""Another decoder in the place of a model's own, nothing trained (arXiv 2406.13357, section 2.3.2).

Encoder and aligner stay. What the aligner gives are embeddings of the decoder that it was trained with, so
the other one must be of the same width and family: the tokens have to mean the same.
"""

from pathlib import Path

from ckpt_convert.report import Report
from ckpt_convert.sources import Source, is_ours
from mindspore_osum.errors import UserError
from mindspore_osum.folder import read_config
from mindspore_osum.systems.base import System
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.registry import system_of
from mindspore_osum.text.tokenizer import Tokenizer, open_tokenizer

MOST_OTHER = 0.01  # share of tokens that may be spelled otherwise, such as pieces that a chat model adds
_SHOWN = 3


def check_replaceable(path: Path) -> None:
    """Refuse a model folder of a system whose decoder is no language model of its own."""
    if not is_ours(path):
        return
    system = system_of(read_config(path).model_type)
    if all(form.holds != "decoder" for form in system.published_forms()):
        raise UserError(
            f"{path}: the decoder of a {system.model_type} model is no LLM, it reads the encoder's frames in "
            "every layer; no other can take its place"
        )


def check_widths(model: Source, decoder: Source) -> None:
    """Refuse a decoder of another width, and a model that does not say which it has."""
    if model.config is None:
        raise UserError(f"{model.path}: not a model folder; convert it first, then give the folder")
    stated = decoder.config.to_dict() if decoder.config else decoder.stated
    own, width = model.config.decoder.d_model, stated.get("decoder", {}).get("d_model")
    if width not in (None, own):
        raise UserError(
            f"{decoder.path}: its embeddings have {width} values, those that {model.path} makes of speech "
            f"{own}; swap in a decoder of the same family, or train anew"
        )


def check_swap(system: System, model: Source, after: Config, tokenizer: Path | None, report: Report) -> None:
    """Refuse a decoder to which the model's speech embeddings mean nothing; `report` gets what differs.

    Parameters
    ----------
    after : description of the model with the other decoder.
    tokenizer : of the other decoder.

    Raises
    ------
    UserError : no tokenizer, or one whose tokens are others.
    """
    before = model.config
    if tokenizer is None:
        raise UserError("--decoder: no tokenizer beside it; give it with --tokenizer")
    own, other = open_tokenizer(model.path), open_tokenizer(tokenizer)
    differ = _other_tokens(own, other)
    if len(differ) > MOST_OTHER * own.vocab_size:
        raise UserError(
            f"{other.path}: {len(differ)} of {own.vocab_size} tokens are others than in {own.path}, so "
            "speech would mean other words to this decoder; swap in one of the same family, or train anew"
        )
    if differ:
        some = ", ".join(f"{i} {own.decode([i], False)!r}" for i in differ[:_SHOWN])
        report.notes.append(f"{len(differ)} tokens are spelled otherwise: {some}")
    if lost := _lost_pieces(system, after, own, other):
        report.notes.append(
            f"the prompts have {', '.join(lost)}, which are no pieces of this decoder's tokenizer"
        )
    if before.lora.rank and not after.lora.rank:
        report.notes.append(f"LoRA of rank {before.lora.rank} belonged to the other decoder and is left out")


def _other_tokens(own: Tokenizer, other: Tokenizer) -> list[int]:
    """Ids that the tokenizers spell differently, or that only one of them has."""
    common = min(own.vocab_size, other.vocab_size)
    differ = [i for i in range(common) if own.decode([i], False) != other.decode([i], False)]
    return differ + list(range(common, max(own.vocab_size, other.vocab_size)))


def _lost_pieces(system: System, cfg: Config, own: Tokenizer, other: Tokenizer) -> list[str]:
    """Special pieces in the template's texts that the other tokenizer spells by several tokens."""
    texts = [
        words if isinstance(words, str) else "".join(words.values())
        for words in system.template(cfg).texts.values()
    ]
    joined = "\n".join(texts)
    return sorted(set(own.special_in(joined)) - set(other.special_in(joined)))
