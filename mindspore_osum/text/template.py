"""The layout of a system's sequences as data: order of the spans, which begin with <s>, which are targets.

    forms:                       # a turn of a conversation, by name; its spans in order
      ask: [[user, request], audio, assistant, [answer, turn_end]]
    texts: {user: "<|user|>", assistant: "<|assistant|>", turn_end: "<|end|>"}

Each entry of a form is a span; a list joins texts to one span, which is tokenized as a whole. `audio` is the
recording and `answer` the text the model should write. Names that are not in `texts` are words given by the
caller, such as the user's request.

    system: {left: ["<|system|>", "<|end|>"]}

says between which marks the text `left` has the system text. Another one can take its place, and turns after
the first have only what follows it, from the second mark on.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mindspore_osum.config import did_you_mean, read_yaml
from mindspore_osum.errors import UserError
from mindspore_osum.text.sequence import Audio, HybridSequence, Parts, Span, Target, Text, lay_out, text_ids
from mindspore_osum.text.tokenizer import Tokenizer

AUDIO, ANSWER = "audio", "answer"

Names = tuple[str, ...]


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    Attributes
    ----------
    form : name of the template's form.
    words : the caller's words by name; the form uses those it needs.
    speech : number of speech tokens of its recording, for a form with audio.
    answer : (name of the loss, words) of each part of the answer, see `Target`; None if the model should
        write it: the sequence ends there.
    opening : tokens that an answer is to begin with, which the model continues; without `answer` only.
    """

    form: str
    words: Mapping[str, str | None] = field(default_factory=dict)
    speech: int | None = None
    answer: Parts | None = None
    opening: Sequence[int] = ()


@dataclass(frozen=True)
class Template:
    """The forms of a system's sequences.

    Attributes
    ----------
    forms : name -> spans in order, each the names of the texts that are joined in it.
    texts : name -> fixed text, or form -> fixed text.
    losses : names of the losses in the order of their numbers, see `text.sequence.lay_out`.
    bos : names of the texts that begin with ``<s>``.
    bos_unanswered : form -> as `bos`, for a last turn without answer; other forms use `bos`.
    text_loss : name of the loss that texts outside the answer are targets of; "" for none.
    end : whether the end piece follows an answer.
    control : names of the caller's words whose special pieces count, such as the role of a turn; in all
        others they are text.
    marks : whether a recording is between the model's speech BOS and EOS.
    system : name of a text -> the marks around the system text in it; see the top of the file.
    """

    forms: dict[str, tuple[Names, ...]]
    texts: dict[str, str | dict[str, str]]
    losses: Names
    bos: Names = ()
    bos_unanswered: dict[str, Names] = field(default_factory=dict)
    text_loss: str = ""
    end: bool = True
    control: Names = ()
    marks: bool = True
    system: dict[str, tuple[str, str]] = field(default_factory=dict)

    def needs(self, form: str) -> set[str]:
        """What a turn of this form needs from the caller: names of words, and AUDIO for a recording.

        Raises
        ------
        UserError
            An unknown form.
        """
        if form not in self.forms:
            raise UserError(f"output type {form!r}: choose one of {', '.join(self.forms)}")
        return {name for span in self.forms[form] for name in span} - self.texts.keys() - {ANSWER}

    def sequence(self, tokenizer: Tokenizer, *turns: Turn, system: str | None = None) -> HybridSequence:
        """The arrays of a conversation; its last turn has an answer in training and none in inference.

        Parameters
        ----------
        system : takes the place of the template's system text.

        Raises
        ------
        UserError
            An unknown form, missing words or speech, speech for a form without audio, or no place for a
            system text or for further turns.
        """
        return lay_out(tokenizer, self.spans(*turns, system=system), self.losses)

    def spans(self, *turns: Turn, system: str | None = None) -> list[Span]:
        """The spans of a conversation."""
        if system is not None and not self.system:
            raise UserError("a system message: sequences of this model have no place for one; leave it out")
        answered, spans = turns[-1].answer is not None, []
        # the system text is that of the turn with the recording: the model is to listen, also in other turns
        leading = next((turn for turn in turns if turn.speech), turns[0])
        for n, turn in enumerate(turns):
            self._check(turn)
            bos = self.bos if answered else self.bos_unanswered.get(turn.form, self.bos)
            for names in self.forms[turn.form]:
                if names[0] == AUDIO:
                    spans.append(Audio(turn.speech, self.marks))
                elif names[0] != ANSWER:
                    words, plain = self._joined(turn, names, None if n else leading, system)
                    spans.append(Text(words, names[0] in bos, self.text_loss, plain))
                elif turn.answer is None:
                    spans += [Text(turn.opening)] if turn.opening else []
                    break
                else:
                    rest = "".join(self._words(turn, name) for name in names[1:])
                    # in inference, answers that are there already come from whoever asks
                    plain = () if answered else (range(sum(len(words) for _, words in turn.answer)),)
                    spans.append(Target(_extended(turn.answer, rest), self.end, plain))
        return spans

    def around(self, tokenizer: Tokenizer, form: str) -> int:
        """Number of tokens before the answer in a turn of this form with empty words."""
        words = dict.fromkeys(self.needs(form), "")
        turn = Turn(form, words, speech=1 if AUDIO in words else None, answer=[("", "")])
        return sum(len(text_ids(tokenizer, span)) for span in self.spans(turn) if isinstance(span, Text))

    def _joined(
        self, turn: Turn, names: Names, leading: Turn | None, system: str | None
    ) -> tuple[str, tuple[range, ...]]:
        """The words of a span, and the ranges of those that a user wrote."""
        words, plain = "", []
        for name in names:
            for piece, users in self._pieces(turn, name, leading, system):
                start, words = len(words), words + piece
                plain += [range(start, len(words))] if users else []
        return words, tuple(plain)

    def _pieces(
        self, turn: Turn, name: str, leading: Turn | None, system: str | None
    ) -> list[tuple[str, bool]]:
        """The words of a name, each with whether a user wrote them.

        `leading` is the turn whose system text the first turn has, None in further turns.
        """
        if name not in self.system or leading is turn and system is None:
            users = name not in self.texts and name not in self.control
            return [(self._words(turn, name), users)]
        before, own, after = self._around_system(leading or turn, name)
        if leading is None:
            return [(after, False)]
        return [(before, False), (own, False) if system is None else (system, True), (after, False)]

    def _around_system(self, turn: Turn, name: str) -> tuple[str, str, str]:
        """A text of a turn in three: before, in and after its system text."""
        words, (begin, end) = self._words(turn, name), self.system[name]
        start = words.find(begin) + len(begin)
        stop = words.find(end, start)
        if begin not in words or stop < 0:
            raise UserError(
                f"output type {turn.form}: its prompt has no system text between {begin!r} and {end!r}, so "
                "it takes neither a system message nor several turns; leave them out"
            )
        return words[:start], words[start:stop], words[stop:]

    def _words(self, turn: Turn, name: str) -> str:
        words = self.texts.get(name, turn.words.get(name))
        return words if isinstance(words, str) else words[turn.form]

    def _check(self, turn: Turn) -> None:
        needs, where = self.needs(turn.form), f"output type {turn.form}"
        for name in sorted(needs - {AUDIO}):
            if turn.words.get(name) is None:
                raise UserError(f"{where}: the {name} is needed, in words")
        if AUDIO in needs and not turn.speech:
            raise UserError(f"{where}: speech is needed, but there are no speech tokens")
        if AUDIO not in needs and turn.speech is not None:
            raise UserError(f"{where} holds no speech: leave the recording out")


def _extended(parts: Parts, words: str) -> Parts:
    """The parts of an answer, followed by fixed words."""
    *before, (loss, last) = parts
    return (*before, (loss, last + words))


def read_prompts(path: str) -> dict:
    """The plain values of a user's file of prompts, the `prompts` of a model's config.json.

    Raises
    ------
    UserError : not there, or not YAML; a path that is not whole begins where the command runs.
    """
    if not os.path.isabs(path) and not os.path.isfile(path):
        raise UserError(
            f"prompts {path!r}: no such file in {os.getcwd()}, where this command runs; give its whole path "
            "(model.overrides.prompts of a job, prompts of config.json)"
        )
    return read_yaml(path)


def read_template(where: str, data: Mapping, losses: Sequence[str]) -> Template:
    """A template from the plain values of a YAML file.

    Parameters
    ----------
    where : the file, for errors.
    data : see the attributes of `Template`.
    losses : names of the system's losses, which are defined in its code.

    Raises
    ------
    UserError
        Missing or unknown keys, or an invalid value.
    """
    options = ("bos", "bos_unanswered", "text_loss", "end", "control", "marks", "system")
    check_keys(where, data, ("forms", "texts"), options)
    values = {key: data[key] for key in options if key in data}
    forms = {form: _spans(f"{where}: {form}", spans) for form, spans in data["forms"].items()}
    _check_texts(where, data["texts"], tuple(forms))
    if (loss := values.get("text_loss", "")) not in ("", *losses):
        raise UserError(f"{where}: text_loss {loss!r}{did_you_mean(str(loss), losses)}")
    for key in values.keys() & {"end", "marks"}:
        if not isinstance(values[key], bool):
            raise UserError(f"{where}: {key}: expected true or false, found {values[key]!r}")
    known = {name for spans in forms.values() for span in spans for name in span} - {AUDIO, ANSWER}
    for key in values.keys() & {"bos", "control"}:
        values[key] = _names(f"{where}: {key}", values[key], known)
    if "bos_unanswered" in values:
        unanswered = values["bos_unanswered"]
        check_keys(f"{where}: bos_unanswered", unanswered, (), tuple(forms))
        values["bos_unanswered"] = {
            form: _names(f"{where}: bos_unanswered: {form}", names, known)
            for form, names in unanswered.items()
        }
    if "system" in values:
        marks = values["system"]
        check_keys(f"{where}: system", marks, (), tuple(data["texts"]))
        values["system"] = {name: _names(f"{where}: system: {name}", pair) for name, pair in marks.items()}
        if wrong := [name for name, pair in values["system"].items() if len(pair) != 2]:
            raise UserError(f"{where}: system: {wrong[0]}: expected two marks, one before and one after it")
    return Template(forms, dict(data["texts"]), tuple(losses), **values)


def check_keys(where: str, data, keys: Sequence[str], options: Sequence[str] = ()) -> None:
    """UserError if `data` is not a mapping with all of `keys` and no others except `options`."""
    known = (*keys, *options)
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: expected the keys {', '.join(known)}")
    for key in data:
        if key not in known:
            raise UserError(f"{where}: unknown key {key!r}{did_you_mean(str(key), known)}")
    if missing := [key for key in keys if key not in data]:
        raise UserError(f"{where}: missing {', '.join(missing)}; add it (an empty text is allowed)")


def _check_texts(where: str, texts: Mapping, forms: Names) -> None:
    for name, text in texts.items():
        if isinstance(text, Mapping):
            check_keys(f"{where}: {name}", text, forms)
        for key, words in text.items() if isinstance(text, Mapping) else [(name, text)]:
            if not isinstance(words, str):
                raise UserError(f"{where}: {key}: expected a text in quotes, got {type(words).__name__}")


def _spans(where: str, spans) -> tuple[Names, ...]:
    """The spans of a form."""
    if not isinstance(spans, list | tuple):
        raise UserError(f"{where}: expected a list of spans, found {spans!r}")
    spans = tuple(_names(where, span) for span in spans)
    for names in spans:
        if AUDIO in names and names != (AUDIO,):
            raise UserError(f"{where}: {AUDIO!r} is a span of its own, not a part of {list(names)}")
        if ANSWER in names[1:]:
            raise UserError(f"{where}: {ANSWER!r} begins its span, unlike in {list(names)}")
    return spans


def _names(where: str, names, known: Iterable[str] | None = None) -> Names:
    """The names of a list, or a single name; if `known` is given, only those are allowed."""
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}: expected a list of names, found {names!r}")
    for name in names if known is not None else ():
        if name not in known:
            raise UserError(f"{where}: unknown text {name!r}{did_you_mean(name, known)}")
    return tuple(names)
