"""What replicas do in the tests of bulk work, without a model."""

import os
import signal
import time
from dataclasses import dataclass

from mindspore_osum.errors import UserError

ITEMS = list(range(20))


def doubled(found) -> list[int]:
    """The answers in the order of their items; each part has to be there once."""
    found = list(found)
    assert sorted(number for number, _ in found) == list(range(len(found)))
    return [double for _, answers in sorted(found) for double, _ in answers]


@dataclass(frozen=True)
class Doubling:
    """Answers numbers with their doubles.

    Attributes
    ----------
    mark : a file; where it is missing, the part with 7 makes it and ends its replica.
    always : end the replica in any case.
    refused : what opening raises.
    seconds : that a part takes.
    """

    mark: str = ""
    always: bool = False
    refused: str = ""
    seconds: float = 0.0

    def open(self):
        if self.refused:
            raise UserError(self.refused)
        return self._answer

    def _answer(self, numbers):
        time.sleep(self.seconds)
        if 7 in numbers and self.mark and (self.always or not os.path.exists(self.mark)):
            open(self.mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return [(2 * number, os.getpid()) for number in numbers]
