"""The Intent-Instruction Set: requests in plain Chinese and English for every published task key.

    python -m mindspore_osum.data.requests --split train --count 6000 --output requests.jsonl

Notable choices
- The language is data (``request_templates/<language>/``); `request_grammar` combines it, this module
  counts, balances and writes. docs/REQUESTS.md shows how the parts fit together.
- Each sentence, and each phrase that carries its meaning, belongs to one split: neither a test request nor
  its wording occurs in training. Neutral words (the recording, the speaker, greetings) are in all splits.
- Requests that differ only in case, spaces and punctuation count as the same.
- Everything is drawn from numpy generators: the same seed gives the same requests.

Source: OSUM-Pangu section 4.1 (Intent-Instruction Set, unpublished: over 80k training, 4k test requests).
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindspore_osum.data.request_grammar import LANGUAGES, SPLITS, load_grammar, pick
from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text
from mindspore_osum.tasks import INTENT_KEY, TASK_KEYS, tags_of, task_key, write_tags

PATIENCE = 2000  # draws in a row with nothing new before a task key counts as exhausted


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a user, and the task it asks for."""

    text: str
    task_key: str  # published, for example "<TRANSCRIBE> <AGE>"
    tags: tuple[str, ...]  # tags at the beginning of the answer, for example ("asr", "age")
    language: str  # of the sentence, "en" or "zh"; words of the other one may be mixed in
    template_id: str  # language, path in the data, split, number


def sample(rng: np.random.Generator, task: str, split: str, language: str | None = None) -> Request:
    """Draw one request.

    Parameters
    ----------
    rng : random generator; its state is advanced
    task : abbreviation (``"sap"``) or published key with tags
    split : train, valid or test
    language : en or zh; None draws one

    Raises
    ------
    UserError
        Unknown task, split or language.
    """
    key = _asked_key(task)
    _check("split", split, SPLITS)
    if language is None:
        language = pick(rng, LANGUAGES)
    _check("language", language, LANGUAGES)
    grammar = load_grammar(language)
    template_id, text = grammar.compose(rng, key, split)
    return Request(grammar.disturb(rng, text), key, tags_of(key), language, template_id)


def generate(split: str, n: int, seed: int, tasks=None, language: str | None = None) -> list[Request]:
    """Return ``n`` distinct requests, the same number (give or take one) for each task key and language.

    Parameters
    ----------
    split : train, valid or test
    n : how many
    seed : integer, 0 or more; the same seed gives the same list
    tasks : abbreviations or published keys; None for all published keys
    language : en or zh; None for both

    Raises
    ------
    UserError
        Unknown task, split or language, no task, a negative number, or more requests than the templates give.
    """
    keys = list(dict.fromkeys(_asked_key(t) for t in (TASK_KEYS if tasks is None else tasks)))
    cells = [(key, lang) for key in keys for lang in (LANGUAGES if language is None else (language,))]
    if not cells:
        raise UserError("requests: no task to ask for; name one")
    if n < 0 or seed < 0:
        raise UserError(f"requests: count {n}, seed {seed}: give numbers of 0 or more")
    _check("split", split, SPLITS)
    rng = np.random.default_rng([seed, *split.encode()])
    extra = set(rng.permutation(len(cells))[: n % len(cells)].tolist())
    found: dict[str, Request] = {}
    for i, (key, lang) in enumerate(cells):
        _draw_distinct(found, n // len(cells) + (i in extra), key, split, lang, seed)
    requests = list(found.values())
    return [requests[i] for i in rng.permutation(n)]


def _draw_distinct(found: dict[str, Request], n: int, key: str, split: str, language: str, seed: int) -> None:
    """Add ``n`` requests of one task key and language to ``found`` (folded text -> request)."""
    rng = np.random.default_rng([seed, *f"{split} {language} {key}".encode()])
    goal, fruitless = len(found) + n, 0
    while len(found) < goal:
        request, before = sample(rng, key, split, language), len(found)
        found.setdefault(fold(request.text), request)
        fruitless = 0 if len(found) > before else fruitless + 1
        if fruitless == PATIENCE:
            raise UserError(
                f"requests: {n} distinct {split} requests for {key} ({language}) are more than "
                f"its templates make, about {n - goal + len(found)}; ask for fewer"
            )


def fold(text: str) -> str:
    """Return the text without case, spaces and punctuation."""
    return re.sub(r"\W+", "", text).casefold()


def vocabulary(language: str | None = None) -> list[str]:
    """Return the sorted vocabulary of requests in one language or both, typing mistakes included.

    It has English words (capitalized forms are separate entries) and all characters beyond ASCII.
    """
    if language is not None:
        _check("language", language, LANGUAGES)
    languages = LANGUAGES if language is None else (language,)
    return sorted(set().union(*(load_grammar(lang).vocabulary() for lang in languages)))


def write_manifest(path: Path, requests: list[Request], split: str) -> None:
    """Write requests in the published form for intent classification: tags in ``txt``, request in ``extra``.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    lines = (
        {
            "key": f"request_{split}_{number:06d}",
            "txt": write_tags(r.tags),
            "task": INTENT_KEY,
            "extra": {
                "intent": r.text,
                "task_key": r.task_key,
                "language": r.language,
                "template": r.template_id,
            },
        }
        for number, r in enumerate(requests)
    )
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def main(argv: list[str] | None = None) -> int:
    """Write a manifest of requests, or list their vocabulary; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m mindspore_osum.data.requests",
        description="Write natural-language requests and the tags they ask for.",
    )
    parser.add_argument("--split", choices=SPLITS, default="train", help="default train")
    parser.add_argument("--count", type=int, default=6000, metavar="N", help="how many (default 6000)")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="abbreviations or keys (default: all)")
    parser.add_argument("--language", choices=LANGUAGES, help="default: both")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", type=Path, metavar="FILE.jsonl", help="the manifest to write")
    what.add_argument("--vocabulary", action="store_true", help="list words and characters of all requests")
    args = parser.parse_args(argv)
    try:
        if args.vocabulary:
            print("\n".join(vocabulary(args.language)))
        else:
            requests = generate(args.split, args.count, args.seed, args.tasks, args.language)
            write_manifest(args.output, requests, args.split)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _asked_key(task: str) -> str:
    key = task_key(task)
    if key == INTENT_KEY:
        raise UserError(f"task {task}: requests ask for the other tasks; choose one with tags of its own")
    return key


def _check(what: str, value: str, known) -> None:
    if value not in known:
        raise UserError(f"requests: {what} {value!r} does not exist; choose one of {', '.join(known)}")


if __name__ == "__main__":
    sys.exit(main())
