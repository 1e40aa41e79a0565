"""The sequence of a TouchASU: messages, of which only the user's last one may have a recording."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from mindspore_osum.config import read_yaml
from mindspore_osum.errors import UserError
from mindspore_osum.text.sequence import Span
from mindspore_osum.text.template import AUDIO, Template, Turn, read_template

PROMPT, ANSWER = 1, 2  # numbers of the spans
LOSSES = ("prompt", "answer")
END = "<|im_end|>"
_SYSTEM = "<|im_start|>system\n"


class MessageTemplate(Template):
    """As `Template`; a system text and earlier turns are joined with the beginning of the last one and
    tokenized together, as in the published code."""

    def spans(self, *turns: Turn, system: str | None = None) -> list[Span]:
        *earlier, last = turns
        first, *rest = super().spans(last)
        before, plain = self._before(earlier, system)
        plain += [range(part.start + len(before), part.stop + len(before)) for part in first.plain]
        return [replace(first, words=before + first.words, plain=tuple(plain)), *rest]

    def _before(self, earlier: Sequence[Turn], system: str | None) -> tuple[str, list[range]]:
        """The messages before the last turn, and the parts of them that people wrote."""
        words, plain = "", []
        pieces = [] if system is None else [(_SYSTEM, system)]
        for turn in earlier:
            if AUDIO in self.needs(turn.form):
                raise UserError(
                    "a recording in an earlier turn: this model hears only the one in the last message of "
                    "the user; ask about it there"
                )
            self._check(turn)
            reply = "".join(text for _, text in turn.answer or ())
            pieces += [(self.texts["user"], turn.words["request"] or "")]
            pieces += [(self.texts["assistant"].removeprefix(self.texts["turn_end"]), reply)]
        for begin, said in pieces:
            plain.append(range(len(words) + len(begin), len(words) + len(begin) + len(said)))
            words += begin + said + self.texts["turn_end"]
        return words, plain


@lru_cache(maxsize=2)
def load_template(learns_prompt: bool = True) -> MessageTemplate:
    """The template of ``template.yaml``.

    Parameters
    ----------
    learns_prompt : whether all text is a target, as in the published code; else the last answer alone.
    """
    path = str(Path(__file__).with_name("template.yaml"))
    read = read_template(path, read_yaml(path) | {"text_loss": LOSSES[0] if learns_prompt else ""}, LOSSES)
    return MessageTemplate(**vars(read))
