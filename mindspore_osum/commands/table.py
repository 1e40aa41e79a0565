"""Results as a small table for people, with a mark where a reference is known."""

from mindspore_osum.commands.console import align
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.inference.request import Request
from mindspore_osum.results import Answer, Response
from mindspore_osum.speech.long import Track
from mindspore_osum.tasks import LABEL_SETS, parse_answer, tags_of, write_tags

SECONDS = "s"  # the column of numbers


def table(pairs: list[tuple[object, Response]], request: Request | None) -> str:
    """A line for each (source, response): file, seconds, transcript.

    With manifest lines among them also ok or X, and the reference. `request` is the one asked of all; None:
    each line has its own task, which is shown too.
    """
    referenced = any(isinstance(source, Utterance) for source, _ in pairs)
    rows = [("file", SECONDS, "", "heard", "reference") if referenced else ("file", SECONDS, "heard")]
    for source, response in pairs:
        known = isinstance(source, Utterance)
        seconds = "" if response.error else f"{response.seconds:.1f}"
        channel = f" {source.name}" if isinstance(source, Track) and source.name else ""
        start = (source.key if known else response.audio + channel, seconds)
        heard = (f"error: {response.error}" if response.error else written(response),)
        if referenced:
            mark = ("" if not known else "ok" if agrees(response, source, request) else "X",)
            rows.append((*start, *mark, *heard, written(_reference(source, request)) if known else ""))
        else:
            rows.append((*start, *heard))
    if referenced and request is None:
        asked = (write_tags(tags_of(s.task)) if isinstance(s, Utterance) else "<asr>" for s, _ in pairs)
        rows = [(first, task, *rest) for (first, *rest), task in zip(rows, ("task", *asked), strict=True)]
    return align(rows, right=SECONDS)


def written(parts: Answer | Response) -> str:
    """The text, or its words with the times they start at (s), reply and labels on one line."""
    text = " ".join(f"{start:.2f} {word}" for word, start, _ in parts.words) or parts.text
    text = text if parts.answer is None else f"{text} {parts.answer}"
    return " ".join([*text.split(), *(f"<{value}>" for value in parts.labels.values())])


def agrees(response: Response, utterance: Utterance, request: Request | None) -> bool:
    """Whether text (but for case, spaces and punctuation) and labels are those of the manifest."""
    if response.error:
        return False
    reference = _reference(utterance, request)
    asked = request.task if request else utterance.task
    if asked is None:
        fields = list(response.labels)
    else:
        fields = [LABEL_SETS[tag].field for tag in tags_of(asked) if tag in LABEL_SETS]
    same_labels = all(response.labels.get(name) == reference.labels.get(name) for name in fields)
    return same_labels and _letters(response) == _letters(reference)


def _reference(utterance: Utterance, request: Request | None) -> Answer:
    return parse_answer(utterance.txt, request.task if request and request.task else utterance.task)


def _letters(parts) -> str:
    """Letters and digits of text and reply."""
    return "".join(c for c in (parts.text + (parts.answer or "")).casefold() if c.isalnum())
