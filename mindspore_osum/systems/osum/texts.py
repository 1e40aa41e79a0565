"""The texts of an utterance: request, label, CTC target, hybrid sequence.

Notable choices
- Labels follow the published data pipeline: the task's tags, then the text; of a prompt set without tags
  (OSUM with Qwen2) the text alone, in lower case.
- A request is the task's tag string, or one of the wordings that the prompt set has instead; or a sentence:
  one of the Intent-Instruction Set, drawn once for each task key from the job's seed, or a published one.
  `extra.question` and `extra.intent` replace it.
- Each kind of request has the same share, so that the single tag string is not outnumbered by the sentences.
- Spoken chat is trained without a request (published) and with one, so that users can request it too.
- The intent span of a label is its tags; for intent classification the whole label (OSUM-Pangu eq. 5).
"""

import re
from bisect import bisect_right
from dataclasses import dataclass

from mindspore_osum.data.formats.manifest import TEXT_TASKS, Utterance, key_of
from mindspore_osum.data.requests import generate
from mindspore_osum.data.words import words_of
from mindspore_osum.errors import UserError
from mindspore_osum.systems.osum.alignment import frame_classes
from mindspore_osum.systems.osum.template import OsumTemplate
from mindspore_osum.tasks import (
    ANSWER_MARK,
    CHAT,
    INTENT_KEY,
    LABEL_SETS,
    TEXT2TEXT,
    parse_answer,
    tags_of,
    task_of_tags,
    write_tags,
)
from mindspore_osum.text.normalize import normalize_label, process_text2
from mindspore_osum.text.requests import intent_instructions, intent_request, task_requests
from mindspore_osum.text.sequence import IGNORE, HybridSequence, Parts
from mindspore_osum.text.template import Turn
from mindspore_osum.text.tokenizer import Tokenizer

POOL = 1200  # sentences drawn for a task key, half of them Chinese: 26,400 for the 22 published keys
_ANGLES = re.compile(r"<[^<>]*>")


@dataclass
class Pool:
    """Request sentences of one task key, the shortest first."""

    sentences: list[str]
    tokens: list[int]  # of each
    fewest: int  # smallest number that fitted beside an answer so far
    most: int = 0


class Texts:
    """Request, label and CTC target of utterances.

    Parameters
    ----------
    tokenizer, template : the model's.
    requests : the user's words: "tag" (<asr>, or the set's wordings), "natural" (sentences), or "both".
    room : token budget of a sequence without speech and its two marks; longer sentences are not drawn.
    seed : of the sentences.
    split : "train", or "valid" for sentences that are held out from training.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: OsumTemplate,
        requests: str = "both",
        room: int = 10**9,
        seed: int = 0,
        split: str = "train",
    ):
        self.tokenizer, self.template, self.kind = tokenizer, template, requests
        self.room, self.seed, self.split = room, seed, split
        self.around = template.around(tokenizer, "text") + 1  # 1: the end
        self.pools: dict[str, Pool] = {}
        self._words: dict[str, list[int]] = {}
        self._lists: dict[tuple[str, int], list[str | None]] = {}  # by task key and sentences

    def requests(self, utt: Utterance) -> list[str | None]:
        """The requests to choose from for this utterance; None means no request (spoken chat)."""
        key = key_of(utt)
        if output_type(utt, "") not in self.template.forms:
            raise UserError(f"{utt.where}: task {key}: the model's prompt set is for recordings alone")
        known = self.template.requests
        if known and self.kind != "natural" and key not in known and not self.brings_request(utt):
            raise UserError(
                f"{utt.where}: task {key}: the model's prompt set has no request for it, only for "
                f"{', '.join(known)}"
            )
        if key in TEXT_TASKS or self.brings_request(utt):
            return self._given(utt, key)
        fit = self._fit(utt, key) if self.kind != "tag" else 0
        if (key, fit) not in self._lists:
            self._lists[key, fit] = self._list(key, fit)
        return self._lists[key, fit]

    def brings_request(self, utt: Utterance) -> bool:
        """Whether a spoken utterance has its own request, `extra.question`; chat has none."""
        return key_of(utt) != CHAT and bool(_words_of(utt, "question"))

    def _list(self, key: str, fit: int) -> list[str | None]:
        """All requests of a task key with the first `fit` sentences; each kind has the same share of them."""
        kinds: list[list] = [self.pools[key].sentences[:fit]] if fit else []
        if self.kind != "natural":
            kinds.append(list(self.template.requests.get(key, [write_tags(tags_of(key))])))
        if key == CHAT:
            kinds.append([None])
        longest = max(map(len, kinds))
        return [request for kind in kinds for request in kind * (longest // len(kind))]

    def _given(self, utt: Utterance, key: str) -> list[str]:
        """The requests given by the utterance itself."""
        name = "intent" if key == INTENT_KEY else "question"
        words = _words_of(utt, name)
        if not words:
            raise UserError(f"{utt.where}: task {key} needs the user's words in extra.{name}")
        return [intent_request(words, i) for i in intent_instructions()] if name == "intent" else [words]

    def _fit(self, utt: Utterance, key: str) -> int:
        """How many sentences fit beside the utterance's answer; at least 1 if a sentence is required."""
        if key not in self.pools:
            self.pools[key] = self._draw(key)
        pool = self.pools[key]
        left = self.room - self.around - len(self.tokenizer.encode(self.label(utt)))
        fit = bisect_right(pool.tokens, left)
        pool.fewest, pool.most = min(pool.fewest, fit), max(pool.most, fit)
        return max(fit, 1) if self.kind == "natural" else fit

    def _draw(self, key: str) -> Pool:
        abbr = task_of_tags(tags_of(key))
        published = task_requests(abbr) if abbr and self.split == "train" else ()
        sentences = [*published, *(r.text for r in generate(self.split, POOL, self.seed, [key]))]
        tokens = {text: len(self.tokenizer.encode(text)) for text in sentences}
        sentences = sorted(tokens, key=tokens.get)
        return Pool(sentences, [tokens[text] for text in sentences], len(sentences))

    def report(self) -> list[str]:
        """A line about the drawn sentences, after the scan of a corpus."""
        pools = self.pools.values()
        if not pools:
            return []
        line = f"requests: {sum(p.most for p in pools)} sentences for {len(pools)} task keys"
        if none := sum(len(p.sentences) - p.most for p in pools):
            line += f"; {none} left out, they do not fit {self.room} text tokens"
        if some := sum(p.most - p.fewest for p in pools):
            line += f"; {some} only used beside short answers"
        return [line]

    def ctc_ids(self, utt: Utterance) -> list[int]:
        """Token ids of the spoken words: no tags, labels, times, replies or end; [] if none are left."""
        key = key_of(utt)
        if utt.wav is None or "chat" in (tags := tags_of(key)) and "asr" not in tags:
            return []
        heard = normalize_label(utt.txt.split(ANSWER_MARK)[0], key)
        heard = process_text2(" ".join(_ANGLES.sub(" ", heard).split()), "")
        return self.tokenizer.encode(heard) if heard else []

    def classes(self, utt: Utterance) -> list[int]:
        """Index of the utterance's label in each of tasks.LABEL_SETS; IGNORE where it is not known.

        A label in `extra` (event, emotion, style, gender, age) is used for any task; else that of the answer.
        """
        if utt.wav is None:
            return [IGNORE] * len(LABEL_SETS)
        said = parse_answer(self.label(utt), key_of(utt)).labels if "<" in utt.txt else {}
        found = (
            labels.read(str(utt.extra.get(labels.field, ""))) or said.get(labels.field)
            for labels in LABEL_SETS.values()
        )
        return [
            labels.values.index(label) if label else IGNORE
            for labels, label in zip(LABEL_SETS.values(), found, strict=True)
        ]

    def frames(self, utt: Utterance, n_speech: int, seconds_per_token: float) -> list[int]:
        """Class of the CTC head at each speech token, by `times`."""
        return frame_classes(self.times(utt), n_speech, seconds_per_token, self._word_ids)

    def times(self, utt: Utterance) -> list[tuple[str, float, float]]:
        """(word, start, end) in seconds of `extra.words`, or of the answer; [] if neither has times."""
        return words_of(utt, self.label(utt))

    def _word_ids(self, word: str) -> list[int]:
        """Token ids of a word within a transcript, without pieces that are only a space."""
        if word not in self._words:
            ids = self.tokenizer.encode(process_text2(word, ""))
            self._words[word] = [i for i in ids if self.tokenizer.decode([i]).strip()]
        return self._words[word]

    def label(self, utt: Utterance) -> str:
        """The full answer, as the prompt set has it."""
        return label_of(utt, self.template.tags)

    def answer(self, utt: Utterance, intent_loss: str = "intent") -> Parts:
        """The full answer in the parts that are weighted separately: its tags, and the text after them."""
        label = self.label(utt)
        tags = label if key_of(utt) == INTENT_KEY else intent_of(utt) if self.template.tags else ""
        parts = ((intent_loss, label[: len(tags)]), ("content", label[len(tags) :]))
        return [(loss, words) for loss, words in parts if words]

    def sequence(
        self, utt: Utterance, request: str | None, n_speech: int | None, learn_intent: bool = True
    ) -> HybridSequence:
        """The sequence with its answer; with `learn_intent` the tags are targets too."""
        answer = self.answer(utt, "intent" if learn_intent else "")
        turn = Turn(output_type(utt, request), {"request": request}, n_speech, answer)
        return self.template.sequence(self.tokenizer, turn)


def _words_of(utt: Utterance, name: str) -> str:
    """The user's words in `extra`; "" where there are none."""
    words = utt.extra.get(name)
    return words if isinstance(words, str) and words.strip() else ""


def label_of(utt: Utterance, tags: bool = True) -> str:
    """The full answer, normalised as published: tags of the task, then the text.

    Parameters
    ----------
    tags : False for the text alone, in lower case.
    """
    key = key_of(utt)
    if key == TEXT2TEXT:
        return utt.txt
    return normalize_label(intent_of(utt) + utt.txt, key) if tags else normalize_label(utt.txt, key, True)


def intent_of(utt: Utterance) -> str:
    """The tags an answer starts with; "" for the tasks without speech."""
    key = key_of(utt)
    return "" if key == TEXT2TEXT else write_tags(tags_of(key))


def output_type(utt: Utterance, request: str | None) -> str:
    """The sequence form; chat without a request and the tasks without speech have their own forms."""
    key = key_of(utt)
    forms = {TEXT2TEXT: "text2text", INTENT_KEY: "intent_classification"}
    return forms.get(key, "s2t_chat" if key == CHAT and request is None else "text")
