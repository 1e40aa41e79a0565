"""What an utterance says to the model: request, label, CTC target, hybrid sequence.

Notable choices
- Labels and requests follow the published data pipeline: the task's tags in front of the text; the request is
  the tag string or one of the published sentences; `extra.question` and `extra.intent` replace it.
"""

import re

from mindspore_osum.data.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.tasks import ANSWER_MARK, INTENT_KEY, TASKS, tags_of, task_key, task_of_tags, write_tags
from mindspore_osum.text.normalize import normalize_label
from mindspore_osum.text.prompts import intent_instructions, intent_request, task_requests
from mindspore_osum.text.sequence import HybridSequence, build_sequence

TEXT2TEXT = "<TEXT2TEXT>"
_ANGLES = re.compile(r"<[^<>]*>")


class Texts:
    """What an utterance says to the model: request, label, CTC target."""

    def __init__(self, tokenizer, prompts, kind: str = "both"):
        self.tokenizer, self.prompts, self.kind = tokenizer, prompts, kind

    def label(self, utt: Utterance) -> str:
        """The full answer: tags of the task, then the text, normalised as published."""
        if key_of(utt) == TEXT2TEXT:
            return utt.txt
        key = key_of(utt)
        return normalize_label(write_tags(tags_of(key)) + utt.txt, key)

    def requests(self, utt: Utterance) -> list[str | None]:
        """The requests this utterance may be trained with; [None] for spoken chat, which has none."""
        kind = output_type(utt)
        if kind == "s2t_chat":
            return [None]
        question, intent = utt.extra.get("question"), utt.extra.get("intent")
        if isinstance(question, str) and question:
            return [question]
        if kind == "intent_classification":
            if not isinstance(intent, str) or not intent:
                raise UserError(f"{utt.where}: task {INTENT_KEY} needs the user's words in extra.intent")
            return [intent_request(intent, i) for i in intent_instructions()]
        if kind == "text2text":
            raise UserError(f"{utt.where}: task {TEXT2TEXT} needs the user's words in extra.question")
        tags = tags_of(key_of(utt))
        abbr = task_of_tags(tags)
        natural = list(task_requests(abbr)) if abbr in TASKS else []
        wanted = {"tag": [], "natural": natural, "both": natural}[self.kind]
        return wanted + ([write_tags(tags)] if self.kind != "natural" or not natural else [])

    def ctc_ids(self, utt: Utterance) -> list[int]:
        """Token ids of the transcript, without tags, labels and end; [] where the text is no transcript."""
        if utt.wav is None or "asr" not in tags_of(key_of(utt)):
            return []
        transcript = _ANGLES.sub(" ", normalize_label(utt.txt.split(ANSWER_MARK)[0], key_of(utt)))
        return self.tokenizer.encode(" ".join(transcript.split()))

    def sequence(self, utt: Utterance, request: str | None, n_speech: int | None) -> HybridSequence:
        """The hybrid sequence with label."""
        return build_sequence(
            self.tokenizer,
            self.prompts,
            output_type(utt),
            request=request,
            n_speech=n_speech,
            label=self.label(utt),
        )


def key_of(utt: Utterance) -> str:
    """The published key of the utterance's task, which may be given by abbreviation or with other spaces."""
    try:
        return TEXT2TEXT if utt.task == TEXT2TEXT else task_key(utt.task)
    except UserError as error:
        raise UserError(f"{utt.where}: {error}") from None


def output_type(utt: Utterance) -> str:
    """The sequence form of a task (published rule: only these three differ from "text")."""
    forms = {TEXT2TEXT: "text2text", INTENT_KEY: "intent_classification", TASKS["sttc"].key: "s2t_chat"}
    return forms.get(key_of(utt), "text")
