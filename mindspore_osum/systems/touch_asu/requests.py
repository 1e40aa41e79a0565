"""What a TouchASU is asked, in training and afterwards: any words; transcription has WEST's own."""

from dataclasses import replace

import numpy as np

from mindspore_osum.data.formats.manifest import Utterance, key_of
from mindspore_osum.data.formats.west import DEFAULT_REQUEST, Conversation, conversation_of
from mindspore_osum.errors import UserError
from mindspore_osum.systems.prompt import Prompt, Prompts
from mindspore_osum.tasks import CHAT, INTENT_KEY, TASKS, TEXT2TEXT, tags_of, write_tags
from mindspore_osum.text.template import Turn

TRANSCRIBE = TASKS["asr"].key
_TAGS = TASKS["asr"].tag_string  # the words of a request that only names the task


def check(request) -> None:
    """Refuse a `Request` of a task that only other models have tags for; UserError in one line."""
    key, words = request.task, request.words
    if key in (None, TRANSCRIBE, TEXT2TEXT) or (key == CHAT and request.output_type != "text"):
        return
    if key == INTENT_KEY or words == write_tags(tags_of(key)):
        raise UserError(
            f"task {key}: this model has the tasks asr and sttc (a reply to what is said); ask for others in "
            "words"
        )


class TouchAsuPrompts(Prompts):
    """Makes the prompts of one model."""

    def prompt(self, request, speech: int | None, mel_TF: np.ndarray | None = None) -> Prompt:
        words = DEFAULT_REQUEST if request.words == _TAGS else request.words
        return super().prompt(replace(request, words=words, force_tags=False), speech, mel_TF)


def turns_of(utt: Utterance, n_speech: int | None, loss: str) -> tuple[list[Turn], str | None]:
    """The turns of an utterance, the last one with its recording and its answer, and its system text.

    Parameters
    ----------
    n_speech : speech tokens of its recording; None without one.
    loss : of the answer.

    Raises
    ------
    UserError : the request is not known.
    """
    talk = conversation_of(utt) or Conversation(utt.extra.get("question"))
    form, words = _asked(utt, talk.words)
    history = [Turn("text2text", {"request": said}, answer=[("", reply)]) for said, reply in talk.history]
    return [*history, Turn(form, {"request": words}, n_speech, [(loss, utt.txt)])], talk.system


def _asked(utt: Utterance, given: str | None) -> tuple[str, str | None]:
    """The form of an utterance's sequence, and the words of its request; `given` are its own, if any."""
    key = key_of(utt)
    words = given if isinstance(given, str) and given.strip() else None
    if utt.wav is None:
        if key != TEXT2TEXT or not words:
            raise UserError(
                f"{utt.where}: task {utt.task} without a recording: only {TEXT2TEXT} is learned, with the "
                "user's words in extra.question"
            )
        return "text2text", words
    if words:
        return "text", words
    if key == TRANSCRIBE:
        return "text", DEFAULT_REQUEST
    if key != CHAT:
        raise UserError(f"{utt.where}: task {utt.task} is not known to this model; ask in extra.question")
    return "s2t_chat", None
