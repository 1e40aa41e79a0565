"""The test set of an evaluation: utterances, their questions, and what cannot be asked or scored."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.data.formats.west import conversation_of
from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.predictions import Place, Prediction
from mindspore_osum.evaluation.requests import FIXED, Pools, key_for, read_pools, request_of
from mindspore_osum.evaluation.run import Question
from mindspore_osum.evaluation.scoring import INTENTS, SCORINGS, TEXT_KEYS, Case
from mindspore_osum.evaluation.tokens import score_tokens
from mindspore_osum.results import Answer
from mindspore_osum.tasks import INTENT_KEY, LABEL_SETS, parse_answer

Problems = dict[str, list[str]]  # kind -> one line for each


@dataclass(frozen=True)
class EvalSet:
    """The utterances of a manifest and the questions about them.

    Attributes
    ----------
    utterances : the utterances with questions, in the order of the manifest.
    questions : one for each utterance and prompt mode.
    modes : prompt modes, "fixed" and "natural".
    keys : keys of all usable utterances, including those beyond the limit.
    digest : hash of all recordings that may be given to a model; correcting references does not change it.
    problems : malformed_lines, duplicate_keys, unusable_lines, without_request (no natural request known),
        empty_references, labels_outside_set (neither can be scored).
    """

    utterances: tuple[Utterance, ...]
    questions: tuple[Question, ...]
    modes: Sequence[str]
    keys: frozenset[str]
    digest: str
    problems: Problems

    def join(
        self,
        predictions: Sequence[Prediction],
        failed: Mapping[Place, str],
        read: Callable[[str, str | None], Answer] = parse_answer,
        rewrite: Callable[[str], str] = str,
    ) -> tuple[dict[str, list[Case]], Problems]:
        """Pair utterances and answers.

        Parameters
        ----------
        failed : reasons for missing answers.
        read : parser of the model's answers (`Case.read`).
        rewrite : what is done to texts before they are compared (`Case.rewrite`).

        Returns
        -------
        The cases of each prompt mode, and the problems: missing_predictions, duplicate_predictions (the first
        is used), unknown_predictions (key not in the set), cut_answers (truncated at the token limit).
        """
        asked = {q.place: q for q in self.questions}
        cases: dict[str, list[Case]] = {mode: [] for mode in self.modes}
        seen, twice, unknown, cut = set(), [], [], []
        for prediction in predictions:
            name = f"{prediction.key} ({prediction.prompts})"
            if prediction.key not in self.keys:
                unknown.append(name)
            elif prediction.place in seen:
                twice.append(name)
            elif question := asked.get(prediction.place):  # else: beyond the limit, or of another prompt mode
                seen.add(prediction.place)
                words = question.request.words or ""
                cases[prediction.prompts].append(Case(question.utterance, prediction, words, read, rewrite))
                cut += [name] if prediction.cut else []
        missing = [
            failed.get(q.place) or f"{q.utterance.where}: {q.utterance.key} ({q.prompts}) is not there"
            for q in asked.values()
            if q.place not in seen
        ]
        return cases, {
            "missing_predictions": missing,
            "duplicate_predictions": twice,
            "unknown_predictions": unknown,
            "cut_answers": cut,
        }


def read_eval_set(
    manifest: str,
    modes: Sequence[str],
    requests: str | None = None,
    limit: int | None = None,
    force_tags: bool = False,
    whole: bool = False,
) -> EvalSet:
    """Read a manifest for an evaluation.

    Parameters
    ----------
    manifest : published jsonl; see `data.manifest`
    modes : prompt modes; lines without recording are asked in the first one only
    requests : natural requests (see `requests.read_pools`); by default those of the Intent-Instruction Set
    limit : use only the first `limit` utterances
    whole : whether the model is asked whole conversations; else their first turns
    force_tags : see `Request`; by default the model writes its answers' tags, as in the papers

    Raises
    ------
    UserError : no usable line, or an invalid requests file.
    """
    pools = read_pools(requests) if requests else None
    read, broken = read_manifest(manifest, whole=whole)
    unusable = {u.key: why for u in read if (why := _unusable(u))}
    usable = [u for u in read if u.key not in unusable]
    if not usable:
        raise UserError(f"{manifest}: no usable line; the first problem: {next(iter(unusable.values()))}")
    chosen = usable[:limit]
    questions, unasked = _questions(chosen, modes, pools, force_tags)
    twice = [line for line in broken if "there twice" in line]
    problems = {
        "malformed_lines": [line for line in broken if line not in twice],
        "duplicate_keys": twice,
        "unusable_lines": list(unusable.values()),
        "without_request": unasked,
        "empty_references": [f"{u.where}: {u.txt!r} holds nothing to compare" for u in chosen if _empty(u)],
        "labels_outside_set": [line for u in chosen for line in _bad_labels(u)],
    }
    keys = frozenset(u.key for u in usable)
    return EvalSet(tuple(chosen), tuple(questions), modes, keys, _digest(usable), problems)


def _questions(utterances: Iterable[Utterance], modes: Sequence[str], pools: Pools | None, force_tags: bool):
    """The questions, and a line for each utterance without a known request."""
    questions, unasked = [], []
    for utterance in utterances:
        for mode in modes[:1] if key_for(utterance) in TEXT_KEYS else modes:
            request = request_of(utterance, mode, pools)
            if request is None:
                unasked.append(
                    f"{utterance.where}: no natural request for {utterance.task}; add "
                    "extra.request, or --requests FILE"
                )
            else:
                questions.append(Question(utterance, mode, replace(request, force_tags=force_tags)))
    return questions, unasked


def _unusable(utterance: Utterance) -> str | None:
    try:
        key = key_for(utterance)
        conversation_of(utterance)
    except UserError as error:
        return str(error)
    if key in TEXT_KEYS and request_of(utterance, FIXED, None) is None:
        names = "extra.intent" if key == INTENT_KEY else "extra.question"
        return f"{utterance.where}: task {key} needs the user's words in {names}"
    if (scoring := utterance.extra.get("scoring", SCORINGS[0])) not in SCORINGS:
        return f"{utterance.where}: extra.scoring {scoring!r} is not one of {', '.join(SCORINGS)}"
    return None


def _empty(utterance: Utterance) -> bool:
    case = _case(utterance)
    if case.tags in (("asr",), ("asr", "align")):  # with a label it may be empty: a vocal event alone
        return not case.spoken
    return (case.replies or case.translates) and not any(score_tokens(a) for a in case.accepted)


def _bad_labels(utterance: Utterance) -> Iterable[str]:
    case = _case(utterance)
    if case.key == INTENT_KEY and case.intent(utterance.txt) is None:
        yield (
            f"{utterance.where}: {utterance.txt!r} are not the tags of a task; expected one of "
            f"{', '.join(INTENTS)}"
        )
    for labels in (LABEL_SETS[tag] for tag in case.tags if tag in LABEL_SETS):
        if labels.field not in case.reference.labels:
            yield (
                f"{utterance.where}: no {labels.field} in {utterance.txt!r}; expected one of "
                f"{', '.join(labels.values)}"
            )


def _case(utterance: Utterance) -> Case:
    return Case(utterance, Prediction(utterance.key, "", ""))


def _digest(utterances: Iterable[Utterance]) -> str:
    names = ("request", "question", "intent")  # keys of `extra` that hold a request
    shown = sorted(
        json.dumps(
            [u.key, u.wav, u.start, u.end, u.task, *map(u.extra.get, names), *(conversation_of(u) or ())],
            default=str,
        )
        for u in utterances
    )
    return hashlib.sha256("\n".join(shown).encode()).hexdigest()
