"""The error type whose message is shown to the user."""


class UserError(Exception):
    """Bad input from the user: a file, a key, a checkpoint.

    ``str(error)`` is a single line that says what is wrong, where (file:line, config key, tensor name) and
    how to fix it. The command line prints this line, without a traceback, and exits with a non-zero status.
    """
