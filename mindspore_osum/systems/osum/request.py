"""A request for a task in the words that a model was trained with."""

from dataclasses import replace
from typing import Any

from mindspore_osum.errors import UserError
from mindspore_osum.systems.osum.template import OsumTemplate
from mindspore_osum.tasks import TASK_KEYS, tags_of, write_tags

WRITTEN = "text2text"  # the form of words alone, which further turns about a recording have, too


def asked(request: Any, template: OsumTemplate) -> Any:
    """A `Request` as the model's prompt set words it; others and free words as they are.

    A task that the model was not trained for alone is asked as the shortest that includes it: OSUM's spoken
    chat is `<TRANSCRIBE> <S2TCHAT>`.

    Raises
    ------
    UserError : a task that no wording of the set is for, or a question in writing or further turns where the
        set has recordings only.
    """
    if WRITTEN not in template.forms and (request.history or request.output_type == WRITTEN):
        raise UserError(
            "this model was trained for one request about one recording: it answers no question in writing "
            "and no further turn"
        )
    if not _is_for_set(request, template):
        return request
    key = template.key_for(request.task)
    if key is None:
        raise UserError(
            f"task {request.task}: this model was trained for {', '.join(template.requests)}; ask for one of "
            "these, or in your own words"
        )
    return replace(request, words=template.wording(key), output_type="text", task=key)


def passes(request: Any, template: OsumTemplate) -> list[Any]:
    """The requests that together ask for a task: several where the set has no wording for it."""
    if not _is_for_set(request, template) or template.key_for(request.task) is not None:
        return [request]
    missing, found = set(request.task.split()), []
    while missing:
        key = max(template.requests, key=lambda one: (len(missing & set(one.split())), -len(one)))
        if not missing & set(key.split()):
            return [request]
        missing -= set(key.split())
        found.append(replace(request, words=template.wording(key), output_type="text", task=key))
    return found


def _is_for_set(request: Any, template: OsumTemplate) -> bool:
    """Whether only the task was given, to a model that has words of its own for tasks."""
    task = request.task
    return bool(template.requests) and task in TASK_KEYS and request.words == write_tags(tags_of(task))
