"""Run several `osum` commands in this process: TASK.json (name -> arguments) -> ANSWER.json."""

import contextlib
import io
import json
import sys

from mindspore_osum.cli import main

with open(sys.argv[1], encoding="utf-8") as file:
    commands = json.load(file)
answers = {}
for name, arguments in commands.items():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    answers[name] = {"status": status, "out": out.getvalue()}
    if status:
        sys.exit(f"osum {' '.join(arguments)}: status {status}: {err.getvalue().strip()}")
with open(sys.argv[2], "w", encoding="utf-8") as file:
    json.dump(answers, file)
