"""The error type whose message is shown to the user."""

import re

_MOST = 2000  # characters of a message
# what would break the line or steer a terminal: control characters, line separators, changes of direction
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class UserError(Exception):
    """Bad input from the user: a file, a key, a checkpoint.

    ``str(error)`` is a single line that says what is wrong, where (file:line, config key, tensor name) and
    how to fix it. The command line prints this line, without a traceback, and exits with a non-zero status.
    """

    def __init__(self, message: object = ""):
        super().__init__(one_line(str(message)))


def one_line(text: str) -> str:
    """A message as one line of bounded length: names from files may hold line ends and escape codes."""
    text = _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
    return text if len(text) <= _MOST else f"{text[: _MOST // 2]} ... {text[-_MOST // 2 :]}"
