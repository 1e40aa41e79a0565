"""Combines phrases and templates of one language to requests; the data is in ``request_templates/``.

Notable choices
- A template has slots in braces: neutral words (``{audio}``), a form of the requested things (``{q}``), a
  form of one thing by its tag (``{asr_do}``), or the bare names of everything (``{all}``).
- A neutral slot keeps its words throughout a request; later phrases say "it" or omit them.
- Forms that are divided by split make the splits differ in wording, not only in sentences.
"""

import re
from functools import lru_cache
from pathlib import Path

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.tasks import LABEL_SETS, tags_of

LANGUAGES = ("en", "zh")
SPLITS = ("train", "valid", "test")
LONGEST = {"en": 22, "zh": 34}  # English words plus Chinese characters; longer draws are discarded
JOIN_OF_FORM = {"short": "name", "mix": "name", "np": "name", "q": "question"}  # other forms: clauses

# share of the requests that get each of these
OPENER, CLOSER, TYPO = 0.25, 0.12, 0.12
LOWER_CASE, NO_END_MARK, NO_COMMAS = 0.3, 0.3, 0.1

_SLOT = re.compile(r"\{(\w+)\}")
_UNIT = re.compile(r"[A-Za-z]+|[^\x00-\x7f\s]")


def length(text: str) -> int:
    """Return the number of English words plus Chinese characters of a text."""
    return sum(unit.isalnum() for unit in units(text))


def units(text: str) -> list[str]:
    """Return the words of Latin letters and the other characters beyond ASCII of a text, in order."""
    return _UNIT.findall(text)


def pick(rng: np.random.Generator, options):
    """Return one of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


@lru_cache(maxsize=len(LANGUAGES))
def load_grammar(language: str) -> "Grammar":
    """Return the phrases and templates of a language, read once.

    Raises
    ------
    UserError
        A template names a slot that does not exist.
    """
    return Grammar(language)


class Grammar:
    """Phrases and templates of one language, and the ways they combine."""

    def __init__(self, language: str):
        import yaml

        folder = Path(__file__).with_name("request_templates") / language
        data = {}
        for part in ("phrases", "templates", "tasks"):
            data |= yaml.safe_load((folder / f"{part}.yaml").read_text("utf-8"))
        self.language = language
        self.openers, self.closers = _texts(data["openers"]), _texts(data["closers"])
        self.opener_end, self.joins, self.again = data["opener_end"], data["joins"], data["again"]
        self._templates: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self.labels = {name: _texts(block) for name, block in data["labels"].items()}
        self.slots = {name: _texts(block) for name, block in data["slots"].items()} | self.labels
        self.typos = {right: _texts(block) for right, block in data["typos"].items()}
        self.aspects = {
            tag: {form: _by_split(block) for form, block in forms.items()}
            for tag, forms in data["aspects"].items()
        }
        self.frames = {name: _by_split(block) for name, block in data["frames"].items()}
        self.requests = {key: _by_split(block) for key, block in data["requests"].items()}
        self._check_slots()

    def templates(self, key: str, split: str) -> list[tuple[str, str]]:
        """Return (id, template) of all sentences for a task key."""
        if (key, split) not in self._templates:
            groups = [(name, self.frames[name]) for name in _frame_names(key)]
            if key in self.requests:
                groups.append(("+".join(tags_of(key)), self.requests[key]))
            self._templates[key, split] = [
                (f"{self.language}.{name}.{split}.{i}", text)
                for name, texts in groups
                for i, text in enumerate(texts[split])
            ]
        return self._templates[key, split]

    def compose(self, rng: np.random.Generator, key: str, split: str) -> tuple[str, str]:
        """Draw a request without typing mistakes; returns (template id, text)."""
        templates = self.templates(key, split)
        for _ in range(1000):
            template_id, template = pick(rng, templates)
            text = _Filling(self, rng, key, split).fill(template)
            if rng.random() < OPENER:
                text = pick(rng, self.openers) + self.opener_end + text
            if rng.random() < CLOSER:
                text = re.sub(r"\w$", r"\g<0>" + ("。" if self.language == "zh" else "."), text)
                text = f"{text} {pick(rng, self.closers)}"
            text = self._tidy(text)
            if length(text) <= LONGEST[self.language]:
                return template_id, text
        raise UserError(f"requests: every {split} template of {key} ({self.language}) is too long")

    def disturb(self, rng: np.random.Generator, text: str) -> str:
        """Make a request look hastily typed: lower case, no full stop, a typing mistake."""
        small, bare, loose, wrong = rng.random(4)
        if self.language == "en" and small < LOWER_CASE:
            text = text.lower()
        if bare < NO_END_MARK:
            text = text.rstrip("。.")
        if self.language == "zh" and loose < NO_COMMAS:
            text = text.replace("，", " ")
        return self.mistype(rng, text) if wrong < TYPO else text

    def mistype(self, rng: np.random.Generator, text: str) -> str:
        """Put one typing mistake into a text, if it has a word with known mistypings."""
        edge = r"\b" if self.language == "en" else ""
        spots = [m for right in self.typos for m in re.finditer(edge + right + edge, text)]
        if not spots:
            return text
        spot = pick(rng, spots)
        return text[: spot.start()] + pick(rng, self.typos[spot[0]]) + text[spot.end() :]

    def vocabulary(self) -> set[str]:
        """All words and characters that can occur in a request."""
        texts = {_SLOT.sub("\0", text) for text in self._all_texts()}
        found = {unit for text in texts for unit in units(text)}
        if self.language == "zh":
            return found
        # any word after a slot or a mark may begin a sentence; labels do not
        texts -= {text for block in self.labels.values() for text in block}
        firsts = {word for text in texts for word in re.findall(r"(?:^|[\0.?!:,])\s*([a-z]+)", text)}
        return found | {word.lower() for word in found} | {word.capitalize() for word in firsts}

    def _all_texts(self):
        yield from (*self.openers, *self.closers, self.opener_end)
        yield from (mark for joins in self.joins.values() for join in joins for mark in join)
        yield from (new for changes in self.again.values() for _, new in changes)
        for table in (self.slots, self.typos):
            yield from (text for texts in table.values() for text in texts)
        for table in (*self.aspects.values(), self.frames, self.requests):
            yield from (text for by_split in table.values() for texts in by_split.values() for text in texts)

    def _check_slots(self) -> None:
        known = {"all", *self.slots}
        for tag, forms in self.aspects.items():
            known |= {*forms, *(f"{tag}_{form}" for form in forms)}
        for text in self._all_texts():
            if unknown := set(_SLOT.findall(text)) - known:
                raise UserError(
                    f"request_templates/{self.language}: {text!r} has the unknown slots "
                    f"{', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}"
                )

    def _tidy(self, text: str) -> str:
        text = re.sub(r"\s+", " ", text).strip()
        if self.language == "en":
            text = re.sub(r" ([,.?!:])", r"\1", text)
            return re.sub(r"(^|[.?!] )([a-z])", lambda match: match[0].upper(), text)
        return re.sub(r"(?<=[^\x00-\x7f]) (?=[^\x00-\x7f])", "", text)


class _Filling:
    """Fills the slots of one request: a repeated slot gets the same words, or is omitted."""

    def __init__(self, grammar: Grammar, rng: np.random.Generator, key: str, split: str):
        self.grammar, self.rng, self.split = grammar, rng, split
        self.tags = tags_of(key)
        self.chosen: dict[str, str] = {}

    def fill(self, template: str) -> str:
        return _SLOT.sub(lambda match: self._slot(match[1]), template)

    def _slot(self, name: str) -> str:
        if name in self.grammar.slots:
            if name not in self.chosen:
                self.chosen[name] = self.fill(pick(self.rng, self.grammar.slots[name]))
            return self.chosen[name]
        if name == "all":
            return self._list("short", self.tags)
        tag, _, form = name.rpartition("_")
        return self._list(form, (tag,) if tag else [t for t in self.tags if t != "asr"])

    def _list(self, form: str, tags) -> str:
        items = [self._phrase(tags[i], form) for i in self.rng.permutation(len(tags))]
        between, last = pick(self.rng, self.grammar.joins[JOIN_OF_FORM.get(form, "clause")])
        return between.join(items[:-1]) + last + items[-1] if len(items) > 1 else items[0]

    def _phrase(self, tag: str, form: str) -> str:
        forms = self.grammar.aspects[tag]
        text = pick(self.rng, forms[form][self.split])
        if inner := _SLOT.fullmatch(text):
            if inner[1] in forms:
                return self._phrase(tag, inner[1])
        for slot, changes in self.grammar.again.items():
            for old, new in changes if slot in self.chosen else ():
                text = text.replace(old, new)
        return self.fill(text)


def _frame_names(key: str) -> list[str]:
    """The groups of sentence frames that fit a task key; none for the transcript alone."""
    tags = tags_of(key)
    others = [tag for tag in tags if tag != "asr"]
    if not others:
        return []
    name = ("text_" if "asr" in tags else "") + ("one" if len(others) == 1 else "many")
    return [name, f"{name}_label"] if len(others) == 1 and others[0] in LABEL_SETS else [name]


def _texts(block: str) -> list[str]:
    """The texts of a block: one per line, or several separated by slashes; "-" stands for an empty one."""
    return [
        "" if text.strip() == "-" else text.strip()
        for line in block.splitlines()
        for text in line.split(" / ")
        if text.strip()
    ]


def _by_split(block) -> dict[str, list[str]]:
    """A block for each split; a single block serves all splits, and a missing split is empty."""
    if isinstance(block, str):
        return dict.fromkeys(SPLITS, _texts(block))
    return {split: _texts(block.get(split, "")) for split in SPLITS}
