"""Ablation of stage 2 and ASR+X: short training runs with and without them, after run.py, in its folder.

    python examples/speech_world/ablation.py --output output/speech_world [--steps 600] [--limit N]

Notable choices
- Stage 2: stage 3 is trained for `--steps` steps from the model of stage 2 and from that of stage 1. Both are
  evaluated with tags and with natural requests.
- ASR+X (OSUM 2.2): from the model of the warm-up, stage 1 is trained for `--steps` steps on the same
  recordings and labels, once with the transcript before the label and once with the label alone; each model
  is evaluated on its own task.
- Everything else is as in configs/tiny. It can be restarted like run.py; a folder with other settings is
  refused.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import run as road
from notes import is_noted, write_note

from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text
from mindspore_osum.tasks import TASKS

LABELLED = ("ser", "ssr", "ved", "sgc", "sap")
TABLE, NOTE = "ablation/report.md", "ablation/settings.json"
SHORT = ("data.valid=[]", "schedule.warmup_steps=50", "save_every=200")


def label_lines(manifest: Path, transcript: bool) -> list[dict]:
    """A line for each recording and label in the manifest, with or without the transcript."""
    alone = {TASKS[task].key: TASKS[task].key.replace("<TRANSCRIBE> ", "") for task in LABELLED}
    found = []
    for text in manifest.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if line["task"] in alone:
            if not transcript:
                label = line["txt"][line["txt"].rindex("<") :]
                line |= {"task": alone[line["task"]], "txt": label}
            found.append(line | {"wav": str(manifest.parent / line["wav"])})
    return found


def write_variants(output: Path) -> None:
    """Write the manifests of ASR+X and of labels alone, for training and test."""
    (output / "ablation").mkdir(exist_ok=True)
    for name in ("asr_x", "x_alone"):
        for split in ("train", "test"):
            lines = label_lines(output / road.CORPUS / f"{split}.jsonl", name == "asr_x")
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            write_text(output / f"ablation/{name}_{split}.jsonl", text)


def steps(output: Path, count: int, limit: int | None = None) -> list[road.Step]:
    """Training (`count` steps) and evaluation (`limit` lines, or all) of each variant."""
    osum, config = ["python", "-m", "mindspore_osum"], os.path.relpath(road.ROOT / "configs/tiny", output)
    found = []

    def variant(name: str, stage: str, start: str, manifest: str, prompts: str, *settings: str) -> None:
        folder = f"ablation/{name}"
        train = [*osum, "train", "--config", f"{config}/{stage}.yaml"]
        for setting in (f"output_dir={folder}", f"model.start={start}", f"steps={count}", *SHORT, *settings):
            train += ["--set", setting]
        found.append(road.Step(f"training, {name}", train, f"{folder}/model/config.json"))
        evaluate = [*osum, "eval", "--model", f"{folder}/model", "--manifest", manifest, "--prompts", prompts]
        evaluate += ["--output", f"{folder}/eval", "--no-plots"]
        evaluate += ["--limit", str(limit)] if limit else []
        found.append(road.Step(f"evaluation, {name}", evaluate, f"{folder}/eval/metrics.json"))

    test = f"{road.CORPUS}/test.jsonl"
    variant("with_stage2", "stage3", "output/tiny_stage2/model", test, "both")
    variant("without_stage2", "stage3", "output/tiny_stage1/model", test, "both")
    for name in ("asr_x", "x_alone"):
        sources = f"data.train=[{{name: labels, path: ablation/{name}_train.jsonl}}]"
        start = "output/tiny_warm_up/model"
        variant(name, "stage1", start, f"ablation/{name}_test.jsonl", "fixed", sources)
    return found


def table(output: Path) -> str:
    """The comparison as Markdown: a row for each task, with the paper's metric."""
    measures = {"asr": "wer", "srwt": "match_rate"} | dict.fromkeys((*LABELLED, "sttc"), "accuracy")

    def metrics(name: str) -> dict:
        return json.loads((output / f"ablation/{name}/eval/metrics.json").read_text(encoding="utf-8"))

    def cell(result: dict, task: str) -> str:
        return f"{100 * result[task][measures[task]]:.1f} %" if task in result else "-"

    two, one = metrics("with_stage2"), metrics("without_stage2")
    lines = ["| task | with stage 2: tags | words | without: tags | words |", "|---|---|---|---|---|"]
    for task, measure in measures.items():
        cells = [cell(result[mode], task) for result in (two, one) for mode in ("fixed", "natural")]
        lines.append(f"| {task}, {measure} | {' | '.join(cells)} |")
    followed = [f"{100 * result['ifr']['rule']:.1f} %" for result in (two, one)]
    lines.append(f"| requests followed | | {' | | '.join(followed)} |")
    both, alone = metrics("asr_x")["fixed"], metrics("x_alone")["fixed"]
    lines += ["", "| task, accuracy | transcript, then label (ASR+X) | label alone |", "|---|---|---|"]
    lines += [f"| {task} | {cell(both, task)} | {cell(alone, task)} |" for task in LABELLED]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(), help="run.py's folder (default: here)")
    parser.add_argument("--steps", type=int, default=600, help="of each training (default 600)")
    parser.add_argument("--limit", type=int, metavar="N", help="lines of each test set (default: all)")
    options = parser.parse_args(arguments)
    output = options.output.resolve()

    def work() -> int:
        if not (output / road.MODEL).is_dir():
            raise UserError(f"{output}: has no {road.MODEL}; let run.py finish first")
        with road.locked(output) as lock:
            settings = {"steps": options.steps, "limit": options.limit}
            is_noted(output / NOTE, settings, f"delete {output / 'ablation'} to train anew")
            write_variants(output)
            write_note(output / NOTE, settings)
            status = road.run(steps(output, options.steps, options.limit), output, lock)
            if status == 0:
                write_text(output / TABLE, table(output))
                print("\n" + (output / TABLE).read_text(encoding="utf-8"))
            return status

    return road.guarded("ablation.py", work)


if __name__ == "__main__":
    sys.exit(main())
