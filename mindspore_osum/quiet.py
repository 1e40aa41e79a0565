"""Reduces the logging of MindSpore and CANN."""

import os

# by default both log to standard output and error; they read these variables on import
QUIET = {"GLOG_v": "3", "ASCEND_GLOBAL_LOG_LEVEL": "3", "ASCEND_SLOG_PRINT_TO_STDOUT": "0"}


def quiet_libraries() -> None:
    """Log errors only, unless the environment has other settings; call before importing MindSpore."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
