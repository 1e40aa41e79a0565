"""The error type whose message is shown to the user."""

import re

_MOST = 2000  # characters of a message
# what would break the line or steer a terminal: control characters, line separators, changes of direction;
# and halves of characters, which cannot be written
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
NAME = 80  # characters of a name in a table


class UserError(Exception):
    """Bad input from the user: a file, a key, a checkpoint.

    ``str(error)`` is a single line that says what is wrong, where (file:line, config key, tensor name) and
    how to fix it. The command line prints this line, without a traceback, and exits with a non-zero status.
    """

    def __init__(self, message: object = ""):
        super().__init__(one_line(str(message)))


class Unreachable(Exception):
    """An object store does not answer, or refuses to; one line, as `UserError`.

    It is none: what is wrong with a recording leaves out the recording, this ends the job.
    """

    def __init__(self, message: object = ""):
        super().__init__(one_line(str(message)))


def is_plain(name: str) -> bool:
    """Whether a name has nothing in it that `one_line` would escape."""
    return not _CONTROL.search(name)


def one_line(text: str, most: int = _MOST) -> str:
    """A message or a name as one line of bounded length, whatever file it is from.

    Parameters
    ----------
    most : characters; of what is longer its beginning and its end are shown.
    """
    if len(text) > 2 * most:  # first, so that 10 MB take no time; what is escaped only becomes longer
        text = f"{text[:most]}{text[-most:]}"
    text = _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
    half = (most - 5) // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"
