"""Tags of a Whisper that was taught more tasks than it came with (OSUM, section 2.2); loads nothing heavy.

A task has one token in the prompt, in the place of <|transcribe|>, and each of its labels is one token:

    <|startoftranscript|><|en|><|emotion|><|notimestamps|><SAD><|endoftext|>

Notable choices
- The published ids and spellings are unknown. Here tags are the last rows of the token embedding, in the
  order of `tags` in config.json; a label that two sets have (OTHER) is one token.
- One task a pass, as published: the transcript and every label is a request of its own.
"""

from collections.abc import Iterable, Mapping

from mindspore_osum.tasks import LABEL_SETS, TASK_KEYS, tags_of

LABELS = tuple(LABEL_SETS)
"""Names of the tasks whose answer is a label."""


def tags_for(tasks: Iterable[str]) -> tuple[str, ...]:
    """The tags that label tasks need, each once."""
    found = [tag for task in tasks for tag in (task_tag(task), *label_tags(task))]
    return tuple(dict.fromkeys(found))


def task_tag(task: str) -> str:
    """The tag of a label task."""
    return f"<|{task}|>"


def is_task(tag: str) -> bool:
    """Whether a tag is a task's, and no label."""
    return tag.startswith("<|")


def label_tags(task: str) -> tuple[str, ...]:
    """The tags of the labels of a task."""
    return tuple(f"<{value}>" for value in LABEL_SETS[task].values)


def label_task(key: str | None) -> str:
    """The label task with this published key, "" if it is of another kind, or of several."""
    tags = tags_of(key) if key in TASK_KEYS else ()  # others have no tags: text without a recording
    return tags[0] if len(tags) == 1 and tags[0] in LABEL_SETS else ""


def known_tasks(tags: Mapping[str, int]) -> list[str]:
    """The label tasks that a model with these tags has."""
    return [task for task in LABELS if {task_tag(task), *label_tags(task)} <= tags.keys()]
