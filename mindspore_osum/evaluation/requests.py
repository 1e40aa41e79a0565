"""The requests of an evaluation: the task's tags ("fixed") or a sentence ("natural").

OSUM-Pangu, section 4.4: the same recordings with fixed instructions (FI) and natural language (NL). The
sentences are from the test split of the Intent-Instruction Set (`data.requests`), whose wording does not
occur in training.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from mindspore_osum.config import parse_yaml
from mindspore_osum.data.formats.manifest import Utterance, key_of
from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.data.formats.west import conversation_of
from mindspore_osum.data.requests import sample
from mindspore_osum.errors import UserError
from mindspore_osum.files import read_text
from mindspore_osum.inference.conversation import exchange
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.tasks import (
    CHAT,
    INTENT_KEY,
    TASK_KEYS,
    TASKS,
    TEXT2TEXT,
    TRANSLATE,
    is_translation,
    tags_of,
    task_key,
    write_tags,
)
from mindspore_osum.text.requests import intent_request, task_requests

FIXED, NATURAL = "fixed", "natural"
PUBLISHED = "published"  # use the requests of the released inference scripts instead of a file
_MAX_FILE = 2**24  # bytes of a file of requests
Pools = Mapping[tuple[str, ...], Sequence[str]]  # tags of a task -> requests


def published_pools() -> Pools:
    """Return the requests of the released inference scripts (`text/requests.yaml`)."""
    return {task.tags: task_requests(abbr) for abbr, task in TASKS.items()}


def read_pools(path: str) -> Pools:
    """Read requests from a file.

    Parameters
    ----------
    path : "published"; or a YAML file with a list of requests per task (abbreviation or published key); or a
        .jsonl manifest of <INTENT_CLASSIFICATION> examples with the request in extra.intent and its tags in
        txt

    Raises
    ------
    UserError : not readable, of another form, or an unknown task.
    """
    if path == PUBLISHED:
        return published_pools()
    if path.endswith(".jsonl"):
        return _from_intents(path)
    values = parse_yaml(read_text(path, "a file of requests", _MAX_FILE), path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a list of requests per task, 'asr: [...]'")
    pools = {}
    for task, requests in values.items():
        if not (isinstance(requests, list) and requests and all(_is_text(r) for r in requests)):
            raise UserError(f"{path}: {task}: expected a list of requests that are not empty")
        pools[tags_of(_task(path, str(task)))] = requests
    return pools


def key_for(utterance: Utterance) -> str:
    """The published key of an utterance's task, or <TRANSLATE>."""
    return TRANSLATE if is_translation(utterance.task) else key_of(utterance)


def request_of(utterance: Utterance, prompts: str, pools: Pools | None) -> Request | None:
    """Return the request for an utterance; None if no natural request of its task is known.

    A whole conversation has its own request, and without a recording the utterance's words are it, in both
    prompt modes. In natural language, the request of the manifest (extra.request or, as in training,
    extra.question) comes first. Otherwise a hash of the key selects one from `pools` or, without them, from
    all requests of the test split: the choice depends on neither order nor limit. There are none of those for
    translation, which is transcription with `translate`.
    """
    key = key_for(utterance)
    if talk := conversation_of(utterance):
        form = "text2text" if utterance.wav is None else "text" if talk.words else "s2t_chat"
        history = tuple(exchange(said, reply, False) for said, reply in talk.history)
        return Request(talk.words, form, key, system=talk.system, history=history)
    if key in (TEXT2TEXT, INTENT_KEY):
        return _text_request(utterance, key)
    translate = key == TRANSLATE
    key = TASKS["asr"].key if translate else key
    if prompts == FIXED:
        return make_request(task=key, translate=translate)
    for name in ("request",) if key == CHAT else ("request", "question"):  # the question of a chat is spoken
        if _is_text(own := utterance.extra.get(name)):
            return Request(own, "text", key, translate=translate)
    if translate:
        return None
    seed = int.from_bytes(hashlib.sha256(utterance.key.encode()).digest()[:8], "big")
    if pools is None:
        return Request(sample(np.random.default_rng(seed), key, "test").text, "text", key)
    pool = pools.get(tags_of(key))
    return Request(pool[seed % len(pool)], "text", key) if pool else None


def _text_request(utterance: Utterance, key: str) -> Request | None:
    """The request of a line without recording, as in training: its question, or the words to classify."""
    kind = "text2text" if key == TEXT2TEXT else "intent_classification"
    question, intent = (utterance.extra.get(name) for name in ("question", "intent"))
    if _is_text(question):
        return Request(question, kind, key)
    return Request(intent_request(intent), kind, key) if key == INTENT_KEY and _is_text(intent) else None


def _from_intents(path: str) -> Pools:
    keys = {write_tags(tags_of(key)): key for key in TASK_KEYS}
    pools: dict[tuple[str, ...], list[str]] = {}
    for utterance in read_manifest(path, strict=True)[0]:
        words = utterance.extra.get("intent")
        if utterance.task != INTENT_KEY or not _is_text(words):
            raise UserError(f"{utterance.where}: expected task {INTENT_KEY} and the request in extra.intent")
        if utterance.txt not in keys:
            raise UserError(f"{utterance.where}: {utterance.txt!r} are not the tags of a task")
        pools.setdefault(tags_of(keys[utterance.txt]), []).append(words)
    return pools


def _is_text(value) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _task(path: str, task: str) -> str:
    try:
        return task_key(task)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
