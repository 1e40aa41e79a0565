"""Ask a model through the public class: TASK.json (recordings, calls) -> ANSWER.json."""

import json
import sys
from pathlib import Path

from mindspore_osum import OSUM

with open(sys.argv[1], encoding="utf-8") as file:
    task = json.load(file)
model = OSUM.load(task["model"])
answers = {}
for name, arguments in task["calls"].items():
    names = arguments.pop("recordings", task["recordings"])
    responses = model(names, **arguments)
    for path, response in zip(names, responses, strict=True):
        answers[f"{name}/{Path(path).stem}"] = response.to_dict()
with open(sys.argv[2], "w", encoding="utf-8") as file:
    json.dump(answers, file, ensure_ascii=False)
