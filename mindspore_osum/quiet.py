"""Keeps MindSpore and CANN from logging between our lines."""

import os

# both log to standard output and error by default; they read these when they are imported
QUIET = {"GLOG_v": "3", "ASCEND_GLOBAL_LOG_LEVEL": "3", "ASCEND_SLOG_PRINT_TO_STDOUT": "0"}


def quiet_libraries() -> None:
    """Errors only, unless the environment says otherwise; call before MindSpore is imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
