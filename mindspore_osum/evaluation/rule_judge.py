"""Instruction following by rule: does the answer perform the requested task, in the trained notation?

    IFR = answers that match the requested task / answers          (OSUM-Pangu, equation 6)

An answer follows its request if it begins with exactly the tags of the task and contains what each tag
announces and nothing else: a transcript for <asr>, word timestamps for <align>, a label of the set for
<gender> and other label tags, a reply for <chat>. Whether it is correct is measured by other metrics.
"""

from collections.abc import Sequence

from mindspore_osum.evaluation.tokens import score_tokens
from mindspore_osum.results import Answer
from mindspore_osum.tasks import LABEL_SETS


def fault(answer: Answer, tags: Sequence[str], spoken: bool = True) -> str | None:
    """Return why an answer does not follow a request for `tags`, None if it does.

    If nothing is `spoken` (a vocal event alone), no transcript is required.
    """
    if tuple(answer.tags) != tuple(tags):
        return "other tags"
    announced = {LABEL_SETS[tag].field for tag in tags if tag in LABEL_SETS}
    if missing := announced - answer.labels.keys():
        return f"no {min(missing)} label"
    if surplus := answer.labels.keys() - announced:
        return f"unasked {min(surplus)} label"
    if "align" in tags and not answer.words:
        return "no word times"
    if "chat" in tags and not score_tokens(answer.answer or ""):
        return "no reply"
    if "chat" not in tags and answer.answer is not None:
        return "unasked reply"
    if "asr" in tags and spoken and not score_tokens(answer.text):
        return "no transcript"
    if "asr" not in tags and score_tokens(answer.text):
        return "unasked transcript"
    return "unreadable tags or labels" if answer.unknown else None
