"""A request for a task in the words that a model was trained with."""

from dataclasses import replace
from typing import Any

from mindspore_osum.errors import UserError
from mindspore_osum.systems.osum.template import OsumTemplate
from mindspore_osum.tasks import TASK_KEYS, tags_of, write_tags


def asked(request: Any, template: OsumTemplate) -> Any:
    """A `Request` as the model's prompt set words it; others and free words as they are.

    A task that the model was not trained for alone is asked as the shortest that includes it: OSUM's spoken
    chat is `<TRANSCRIBE> <S2TCHAT>`.

    Raises
    ------
    UserError : a task that no wording of the set is for.
    """
    task = request.task
    if not template.requests or task not in TASK_KEYS or request.words != write_tags(tags_of(task)):
        return request
    key = template.key_for(task)
    if key is None:
        raise UserError(
            f"task {task}: this model was trained for {', '.join(template.requests)}; ask for one of these, "
            "or in your own words"
        )
    return replace(request, words=template.wording(key), output_type="text", task=key)
