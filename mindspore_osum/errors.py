"""The one error type that is meant for the person at the keyboard."""


class UserError(Exception):
    """Bad input from the user: a file, a key, a checkpoint.

    ``str(error)`` is a single line that says what is wrong, where (file:line, config key,
    tensor name) and how to mend it. The command line prints that line and exits non-zero;
    a traceback is never shown for it.
    """
