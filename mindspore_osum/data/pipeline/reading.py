"""The utterances that a step of the pipeline takes from its sources."""

from collections.abc import Callable, Iterator, Sequence

from mindspore_osum.data.checks import UNUSABLE, Errors, flaws
from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.sources import once, open_source
from mindspore_osum.errors import UserError, one_line

WORDS_ALONE = "words alone"


class Usable:
    """The utterances without errors of several sources, in order; each key occurs once.

    Parameters
    ----------
    paths : manifests, shards and lists of shards (`open_source`).
    errors : counts errors, and ends the run when there are too many.
    speech : leave out, by rule, what has no recording.
    say : called with a line for each item that is left out.
    """

    def __init__(
        self,
        paths: Sequence[str],
        errors: Errors,
        speech: bool = True,
        say: Callable[[str], None] = print,
    ):
        self.paths, self.errors, self.speech, self._say = paths, errors, speech, say

    def __iter__(self) -> Iterator[Utterance]:
        seen: set[bytes] = set()
        for path in self.paths:
            for item in open_source(path):
                item = once(item, seen) if isinstance(item, Utterance) else item
                flaw = next(flaws(item), None) if isinstance(item, Utterance) else None
                if isinstance(item, Skipped) or flaw:
                    self.leave_out(Skipped(UNUSABLE, flaw) if flaw else item)
                elif self.speech and item.wav is None:
                    self.leave_out(Skipped(WORDS_ALONE, f"{item.where}: words alone, no recording", False))
                else:
                    yield item

    def leave_out(self, problem: Skipped | UserError) -> None:
        """Report an item that cannot be used; UserError if there are now too many errors."""
        item = Skipped(UNUSABLE, str(problem)) if isinstance(problem, UserError) else problem
        self.errors.take(item)
        self._say(f"left out: {one_line(item.text)}")
