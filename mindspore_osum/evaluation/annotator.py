"""A language model as annotator of transcripts: emotion, style, or a reply (OSUM, section 2.4).

Notable choices
- It reads words and hears nothing, so it is asked only for what words can tell: not gender, age or events.
- Each reply is kept at once, so that the same command asks for the missing ones alone.
- A reply without a label of the set is asked for again, then it is an error; nothing is put in its place.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from mindspore_osum.data.checks import LeftOut
from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.pipeline.journal import Journal
from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.asking import GIVE_UP, JOBS, Matter, ask_all, object_in
from mindspore_osum.evaluation.endpoint import Endpoint
from mindspore_osum.files import read_text
from mindspore_osum.tasks import TASKS, format_answer, parse_answer, tags_of, write_tags

ANSWER, UNSUITABLE = "answer", "not suitable as a question"
FIELDS = {"ser": "emotion", "ssr": "style", "sttc": ANSWER}  # task -> what is asked
GROUP = 64  # utterances whose replies are waited for at a time
MOST_TEXT, MOST_ANSWER = 8000, 8000  # characters of a transcript, and of a reply that is kept
_TEXT, _LABELS = "{text}", "{labels}"


def prompt_for(task: str, path: Path | None = None) -> str:
    """The prompt of a task, or the one in a file; UserError if that does not name the transcript."""
    if path:
        prompt = read_text(path, "a prompt")
        if _TEXT not in prompt:
            raise UserError(f"{path}: no {_TEXT} in it, where the transcript belongs")
        return prompt
    import yaml

    return yaml.safe_load(Path(__file__).with_name("annotator_prompts.yaml").read_text("utf-8"))[FIELDS[task]]


def matter(task: str, prompt: str, text: str) -> Matter:
    """What is asked about a transcript; the verdict has the value of the task's field."""
    labels = TASKS[task].label_set
    named = ", ".join(labels.values) if labels and FIELDS[task] != ANSWER else ""
    pieces = prompt.replace(_LABELS, named).split(_TEXT)  # braces in a transcript stay as they are
    return Matter(text.join(pieces), partial(_value, task))


def _value(task: str, reply: str) -> dict:
    """The value in a reply; ValueError if there is none."""
    name = FIELDS[task]
    values = object_in(reply)
    if name not in values:
        raise ValueError(f"no {name}")
    value = values[name]
    if name == ANSWER and value is None:
        return {name: None}
    if not isinstance(value, str) or not value.strip() or len(value) > MOST_ANSWER:
        raise ValueError("no text")
    if name != ANSWER:
        value = TASKS[task].label_set.read(value.strip().strip("<>"))
        if value is None:
            raise ValueError("outside the label set")
    elif "<" in value or ">" in value:
        raise ValueError("signs that would read as labels")
    return {name: value}


def annotate(
    endpoint: Endpoint,
    utterances: Iterable[Utterance],
    task: str,
    prompt: str,
    journal: Journal,
    failed: Callable[[UserError], None],
    left_out: LeftOut,
) -> Iterator[Utterance]:
    """The utterances as examples of a task, in order, with what the model says about their transcripts.

    Parameters
    ----------
    task : a key of `FIELDS`.
    journal : keeps the replies; what it has is not asked again.
    failed : called with the error of an utterance without a reply that can be used; it may raise.
    left_out : counts what the model finds unsuitable.

    Raises
    ------
    UserError : the server refuses requests or answers no more; replies so far are in the journal.
    """
    utterances = iter(utterances)
    with ThreadPoolExecutor(JOBS) as pool:
        asking = _Asking(endpoint, pool, journal, failed)
        try:
            while group := list(islice(utterances, GROUP)):
                texts = dict(_texts(group, failed))
                asking.ask([(utt, matter(task, prompt, texts[utt.key])) for utt in group if utt.key in texts])
                for utt in group:
                    if utt.key not in texts or utt.key not in journal:
                        continue
                    if (value := journal[utt.key][FIELDS[task]]) is None:
                        left_out.add(Skipped(UNSUITABLE, f"{utt.where}: {texts[utt.key]}", False))
                    else:
                        yield _example(utt, task, texts[utt.key], value, endpoint.model)
        except BaseException:  # refused, too many errors, interrupted: what has not begun is not asked
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Asking:
    """Asks what a journal does not have, until too many replies in a row cannot be used."""

    def __init__(self, endpoint: Endpoint, pool: ThreadPoolExecutor, journal: Journal, failed):
        self.endpoint, self.pool, self.journal, self.failed = endpoint, pool, journal, failed
        self.missed = 0

    def ask(self, matters: Sequence[tuple[Utterance, Matter]]) -> None:
        """Ask about a group."""
        todo, sources = {}, {utt.key: utt for utt, _ in matters}
        for utt, one in matters:
            if utt.key in self.journal:
                self.journal.check(utt.key, utt)
            else:
                todo[utt.key] = one
        places = {utt.key: f"{utt.where}: {self.endpoint.role} {self.endpoint.model}" for utt, _ in matters}
        for key, verdict, trouble in ask_all(self.pool, self.endpoint, todo):
            self.missed = 0 if verdict else self.missed + 1
            if verdict:
                self.journal.add({"key": key, **verdict}, sources[key])
            elif self.missed == GIVE_UP:
                raise UserError(
                    f"{places[key]}: {self.missed} unusable replies in a row, the last: {trouble}; the "
                    "same command asks for the rest"
                )
            else:
                self.failed(UserError(f"{places[key]}: {trouble}"))


def _texts(group: Sequence[Utterance], failed) -> Iterator[tuple[str, str]]:
    """Key -> transcript."""
    for utt in group:
        try:
            yield utt.key, _text(utt)
        except UserError as error:
            failed(error)


def _text(utt: Utterance) -> str:
    text = parse_answer(utt.txt, utt.task).text
    if not text:
        raise UserError(f"{utt.where}: no transcript, which is what the annotator reads")
    if len(text) > MOST_TEXT:
        raise UserError(f"{utt.where}: {len(text)} characters of transcript; at most {MOST_TEXT} are sent")
    return text


def _example(utt: Utterance, task: str, text: str, value: str, model: str) -> Utterance:
    key, name, extra = TASKS[task].key, FIELDS[task], utt.extra | {"annotator": model}
    if name == ANSWER:
        answer = format_answer(key, answer=" ".join(value.split()))
        extra["transcript"] = text
    else:
        answer = format_answer(key, text=text, labels={name: value})
        extra[name] = value
    return replace(utt, txt=answer.removeprefix(write_tags(tags_of(key))), task=key, extra=extra)
