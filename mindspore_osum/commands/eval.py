"""`osum eval`: measure a model folder on a manifest as the papers do, and compare.

Writes predictions.jsonl, metrics.json, report.md, problems.txt and plots into one folder. Killed and started
again, it resumes where it stopped. Exit status 1 if something could not be read, answered or judged.
"""

import argparse
import contextlib
import json
import os
from pathlib import Path

from mindspore_osum.commands import bulk
from mindspore_osum.commands.arguments import (
    add_beam_arguments,
    add_device,
    add_engine,
    add_new_tokens,
    beam_settings,
)
from mindspore_osum.commands.console import Progress, load_model, resumable, say
from mindspore_osum.errors import UserError

MODES = {"fixed": ("fixed",), "natural": ("natural",), "both": ("fixed", "natural")}
# kinds of problems that make the exit status 1
FAILURES = (
    "malformed_lines",
    "duplicate_keys",
    "unusable_lines",
    "without_request",
    "missing_predictions",
    "missing_verdicts",
)
JUDGE_MODEL = "deepseek-chat"  # DeepSeek-V3 at its maker's address (OSUM-Pangu, section 3.4)

EXAMPLES = """\
examples:
  osum eval --manifest mindspore_osum/assets/recordings/manifest.jsonl --output output/eval
  osum eval --model DIR --manifest set.jsonl --output output/eval --prompts both
  osum eval --model DIR --manifest set.jsonl --output output/eval --engine ray --replicas 8
  osum eval --predictions out.jsonl --manifest set.jsonl --output output/eval   # answers that are there
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `osum eval`."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--model", metavar="DIR", help="model folder (default: the bundled one)")
    source.add_argument("--predictions", metavar="FILE", help="score these answers instead (key, raw)")
    parser.add_argument("--manifest", metavar="FILE", required=True, help="test set (key, wav, txt, task)")
    parser.add_argument("--output", metavar="DIR", required=True, help="folder for all that is written")
    parser.add_argument(
        "--prompts",
        choices=MODES,
        default="fixed",
        help="ask by tags, in words, or both and compare (default: fixed)",
    )
    parser.add_argument(
        "--requests",
        metavar="FILE",
        help="the words (YAML, intents as .jsonl, or `published`: those of the released "
        "scripts; default: the Intent-Instruction Set's test split)",
    )
    parser.add_argument(
        "--force-tags",
        action="store_true",
        help="give the model its answers' opening tags (default: it writes them, as in the papers)",
    )
    parser.add_argument(
        "--numbers",
        action="store_true",
        help="number words count as their digits: twenty one, 二十一, 21 (needs the extra `numbers`)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N utterances")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="recordings at a time (16)")
    add_new_tokens(parser)
    add_beam_arguments(parser)
    add_device(parser)
    add_engine(parser)
    parser.add_argument("--no-plots", action="store_true", help="draw nothing (plots need the extra `plots`)")
    judge = parser.add_argument_group("a language model as judge of instruction following and of spoken chat")
    judge.add_argument(
        "--judge-url",
        metavar="URL",
        default=os.environ.get("OSUM_JUDGE_URL"),
        help="OpenAI-compatible address, as https://api.deepseek.com/v1 (or OSUM_JUDGE_URL)",
    )
    judge.add_argument(
        "--judge-model",
        metavar="NAME",
        default=os.environ.get("OSUM_JUDGE_MODEL", JUDGE_MODEL),
        help=f"its model (or OSUM_JUDGE_MODEL; default: {JUDGE_MODEL})",
    )
    judge.add_argument("--judge-key", metavar="KEY", help="its key (safer as OSUM_JUDGE_KEY)")


def run(args: argparse.Namespace) -> int:
    """Answer, score, judge, write; returns the exit status."""
    _check(args)
    from mindspore_osum.evaluation import plots
    from mindspore_osum.evaluation.evalset import read_eval_set
    from mindspore_osum.evaluation.judging import add_judgements
    from mindspore_osum.evaluation.measure import measure
    from mindspore_osum.evaluation.numbers import Numbers
    from mindspore_osum.figures import require_matplotlib

    if not args.no_plots:
        require_matplotlib("--no-plots")
    rewrite = Numbers() if args.numbers else str
    judge = _judge(args)
    asked = read_eval_set(
        args.manifest, MODES[args.prompts], args.requests, args.limit, args.force_tags, _whole(args)
    )
    folder = Path(args.output)
    predictions, failed = _predictions(args, asked, folder)
    cases, troubles = asked.join(predictions, failed, _reading(args), rewrite)
    problems = asked.problems | troubles
    if not any(cases.values()):
        raise UserError(f"{args.manifest}: nothing to score; the first problem: {_first(problems)}")
    result = measure(cases)
    if judge:
        problems["missing_verdicts"] = add_judgements(judge, cases, result, folder)
    result["counts"] = {"utterances": len(asked.utterances)}
    result["counts"] |= {kind: len(lines) for kind, lines in problems.items()}
    result["run"] = {
        "model": args.model,
        "predictions": args.predictions,
        "manifest": args.manifest,
        "prompts": MODES[args.prompts],
        "limit": args.limit,
        "force_tags": args.force_tags,
        "numbers": args.numbers,
    } | (beam_settings(args) if args.beams > 1 else {})
    _write(folder, result, problems, [] if args.no_plots else plots.draw_all(cases, result, folder))
    return 1 if any(problems[kind] for kind in FAILURES if kind in problems) else 0


def _check(args: argparse.Namespace) -> None:
    for name in ("limit", "batch_size", "max_new_tokens"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: must be 1 or more")
    if bulk.on_ray(args) and args.predictions:
        raise UserError("--predictions are answers that are there; leave out --engine")
    if not args.predictions:
        from mindspore_osum.folder import BUNDLED
        from mindspore_osum.hub import model_folder
        from mindspore_osum.inference.sampling import Sampling

        Sampling(**beam_settings(args))  # refused before the model is read
        args.model = str(model_folder(args.model) if args.model else BUNDLED)


def _judge(args: argparse.Namespace):
    from mindspore_osum.evaluation.endpoint import Endpoint

    key = args.judge_key or os.environ.get("OSUM_JUDGE_KEY")
    if not args.judge_url:
        return None
    return Endpoint(args.judge_url, args.judge_model, key)


def _predictions(args: argparse.Namespace, asked, folder: Path):
    """The answers to the test set, and what could not be answered."""
    from mindspore_osum.evaluation.predictions import open_run, read_predictions

    if args.predictions:
        found = read_predictions(args.predictions)
        folder.mkdir(parents=True, exist_ok=True)
        return found, {}
    from mindspore_osum.folder import read_config
    from mindspore_osum.quiet import quiet_libraries

    quiet_libraries()
    read_config(args.model)  # refuses what is no model folder
    known = open_run(folder, _settings(args, asked))
    words = {q.place: q.request.words for q in asked.questions}
    if any(words.get(p.place, p.request) != p.request for p in known):
        raise UserError(
            f"{folder}: holds answers to other requests; choose another --output, or delete the "
            "folder to start afresh"
        )
    done = {p.place for p in known}
    todo = [q for q in asked.questions if q.place not in done]
    if not todo:
        return known, {}
    say(f"{len(asked.questions) - len(todo)} of {len(asked.questions)} answers are there")
    from mindspore_osum.evaluation.run import answer_all
    from mindspore_osum.inference.sampling import KEEP, Sampling

    # what a loop inserts is counted
    sampling = Sampling(max_new_tokens=args.max_new_tokens, loops=KEEP, **beam_settings(args))
    if args.engine:
        new, failed = _on_ray(args, todo, folder, sampling)
        return known + new, failed
    with resumable():
        engine = load_model(args).engine
    with resumable(), Progress(len(todo)) as progress:
        new, failed = answer_all(engine, todo, folder, args.batch_size, sampling, progress)
    return known + new, failed


def _on_ray(args: argparse.Namespace, todo: list, folder: Path, sampling) -> tuple[list, dict]:
    """Answers of replicas, saved in the folder as they come."""
    from mindspore_osum.evaluation.run import in_order, save

    new, failed, ordered = [], {}, in_order(todo)
    work = bulk.Asking(args.model, args.device, sampling, args.batch_size)
    pairs = [(question.utterance, question.request) for question in ordered]
    size = bulk.size_of_parts(args, pairs)
    with resumable(), contextlib.closing(bulk.answered(args, work, pairs)) as replies:
        for number, _, responses in replies:
            asked = ordered[number * size : (number + 1) * size]
            new += save(folder, zip(asked, responses, strict=True), failed)
    return new, failed


def _whole(args: argparse.Namespace) -> bool:
    """Whether the model is asked whole conversations."""
    if args.predictions:
        return False
    from mindspore_osum.folder import read_config
    from mindspore_osum.systems.registry import system_of

    return system_of(read_config(args.model).model_type).conversations


def _reading(args: argparse.Namespace):
    """The parser of answers: the model's system, or without a model the one that knows the tasks."""
    if args.predictions:
        from mindspore_osum.tasks import parse_answer

        return parse_answer
    from mindspore_osum.folder import read_config
    from mindspore_osum.systems.registry import system_of

    return system_of(read_config(args.model).model_type).answer


def _settings(args: argparse.Namespace, asked) -> dict:
    """Everything that answers depend on; a run resumes only if all of it is the same."""
    return {
        "model": bulk.files_of(args.model),
        "recordings": asked.digest,
        "max_new_tokens": args.max_new_tokens,
        "device": args.device,
        "force_tags": args.force_tags,
    } | (beam_settings(args) if args.beams > 1 else {})


def _write(folder: Path, result: dict, problems: dict, plots: list[str]) -> None:
    from mindspore_osum.evaluation.report import summary, write_report
    from mindspore_osum.files import write_text

    report = write_report(result, problems, plots)
    write_text(folder / "metrics.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    lines = (f"{kind}: {line}\n" for kind, some in problems.items() for line in some)
    write_text(folder / "problems.txt", "".join(lines))
    write_text(folder / "report.md", report)
    print(summary(result, problems))
    print(f"written: {folder / 'report.md'}, and beside it metrics.json, problems.txt, {len(plots)} plots")


def _first(problems: dict) -> str:
    return next(line for lines in problems.values() for line in lines)
