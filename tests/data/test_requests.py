"""The Intent-Instruction Set: counts, splits, meaning and the command."""

import functools
import json
import re
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.data.request_grammar import LANGUAGES, LONGEST, SPLITS, length, load_grammar, units
from mindspore_osum.data.requests import fold, generate, main, sample, vocabulary
from mindspore_osum.errors import UserError
from mindspore_osum.tasks import INTENT_KEY, TASK_KEYS, TASKS, tags_of, write_tags
from mindspore_osum.text.requests import task_requests

SLOT = re.compile(r"\{(\w+)\}")

# What makes a reader think of each tag; independent of the templates' structure.
KEYWORDS = {
    "asr": r"transcri|\btext\b|\bwords?\b|subtitles|\bsa(y|ys|id|ying)\b|\b(write|type|read the question)\b"
    r"|内容|文字|文本|转写|听写|逐字|写|说了|说的(?!人|风格)|讲了|讲的(?!人)|在说[什啥]|在讲|听到的话|记下|问题和"
    r"|question and (the|your) (answer|anser|anwser|reply)",
    "align": r"\btimes?\b|\btimed\b|timestamp|\bwhen\b|start and end|时间|时候|几秒|开始和结束",
    "chat": r"answer|\brepl(y|ies)|respond|\bchat\b|\btalk (to (?!a customer)|with)\b|答|回复|回应|聊(?!天)",
    "age": r"\b(age|old|young|child|adult)\b|年龄|年纪|岁|几岁|多大|小孩|大人|老人|年轻"
    r"|是老(还?是)小|老不老|老吗|很老",
    "gender": r"gender|\b(man|woman|male|female|a he)\b|性别|男|女",
    "emotion": r"emotion|\b(mood|feel|feels|feeling|happy|sad|angry|afraid|surprised)\b"
    r"|情绪|心情|情感|高兴|生气|难过|开心|害怕",
    "style": r"\b(style|news|story|fairy|poem|book|customer|daily)\b|风格|新闻|故事|童话|客服|有声书|诗歌",
    "caption": r"\bvocal\b|\bsound events?\b|sounds (that|besides)|not speech|besides (the )?speech"
    r"|\b(laugh|cough|cry|cries|sigh|sneez|scream)|声音事件|笑|咳嗽|哭|尖叫|叹气|喷嚏"
    r"|有..声音|除了说话(?![人者的])|说话[以之]外|清嗓子|别的声音|发生的事",
}
# What is said not to be wanted, and words of politeness that hold a keyword.
ASIDE = (
    r"no transcript( needed)?|do not transcribe|not (the|teh|th) words|never mind the words"
    r"|no text|no labels|take your time|no words|no time to listen"
    r"|(without|no|not|not need|never mind) (the|teh|th) (words|text|transcript|wrods|wordz)"
    r"|do not (write|wirte|rite) (the|teh|th) q"
    r"|do not (write|wirte|rite|want) (the|teh|th) (words|wrods|wordz)"
    r"|不用写[内字问文].|不要内[容溶]|内[容溶]不要|不要文[字子]|不用转写|不要转写|不用标签|有空的话"
)


def tags_read(text: str) -> set[str]:
    """Tags a reader takes from a request."""
    text = re.sub(ASIDE, " ", text.lower())
    return {tag for tag, pattern in KEYWORDS.items() if re.search(pattern, text)}


@pytest.fixture(scope="module")
def train():
    return generate("train", 6000, 1)


@pytest.fixture(scope="module")
def test():
    return generate("test", 1000, 1)


def test_counts_and_distinctness(train, test):
    assert len(train) == 6000 and len(test) == 1000
    for requests in (train, test):
        assert len({fold(r.text) for r in requests}) == len(requests)
    assert not {fold(r.text) for r in train} & {fold(r.text) for r in test}


def test_every_task_key_and_language_has_its_share(train, test):
    assert {TASKS[abbr].key for abbr in TASKS} <= set(TASK_KEYS)
    for requests in (train, test):
        shares = Counter((r.task_key, r.language) for r in requests)
        assert set(shares) == {(key, lang) for key in TASK_KEYS for lang in LANGUAGES}
        assert max(shares.values()) - min(shares.values()) <= 1
    assert all(r.tags == tags_of(r.task_key) for r in train)


def test_no_template_dominates_its_task(train):
    for cell, group in group_by(train, lambda r: (r.task_key, r.language)).items():
        ids = Counter(r.template_id for r in group)
        assert len(ids) >= 10, cell
        assert max(ids.values()) <= len(group) / 4, (cell, ids.most_common(1))


def group_by(items, key):
    groups = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def test_a_seed_is_a_list():
    assert generate("valid", 88, 5) == generate("valid", 88, 5)
    assert {r.text for r in generate("valid", 88, 5)} != {r.text for r in generate("valid", 88, 6)}
    one, two = np.random.default_rng(3), np.random.default_rng(3)
    assert [sample(one, "sap", "train") for _ in range(5)] == [sample(two, "sap", "train") for _ in range(5)]


def test_selection_by_task_and_language():
    requests = generate("train", 31, 2, tasks=["asr", "<AGE>"], language="zh")
    assert Counter(r.task_key for r in requests) in (
        {"<TRANSCRIBE>": 16, "<AGE>": 15},
        {"<TRANSCRIBE>": 15, "<AGE>": 16},
    )
    assert {r.language for r in requests} == {"zh"}
    drawn = sample(np.random.default_rng(0), "srwt", "test")
    assert drawn.tags == ("asr", "align") and ".test." in drawn.template_id


@pytest.mark.parametrize("language", LANGUAGES)
def test_splits_share_no_template_and_no_wording(language):
    grammar = load_grammar(language)
    for key in TASK_KEYS:
        texts = {split: {fold(text) for _, text in grammar.templates(key, split)} for split in SPLITS}
        assert all(texts.values()), key
        for a, b in combinations(SPLITS, 2):
            assert not texts[a] & texts[b], key
    for tag, forms in grammar.aspects.items():
        divided = {form: by_split for form, by_split in forms.items() if form in ("do", "np", "cl", "q")}
        divided |= {"what": forms["what"]} if language == "zh" else {}  # in English what is np or cl
        assert len(divided) == (3 if language == "zh" else 4)
        for form, by_split in divided.items():
            for a, b in combinations(SPLITS, 2):
                assert not set(by_split[a]) & set(by_split[b]), (tag, form)


@functools.cache
def parts_of(template: str) -> list[str]:
    """Folded text and names of slots by turns."""
    return [part if i % 2 else fold(part) for i, part in enumerate(SLOT.split(template))]


class Maker:
    """Whether the templates of one split can make a text: where a part of it can end, for each start.

    Parts are looked up once for a text, however many templates have them.
    """

    def __init__(self, grammar, key, split):
        self.grammar, self.tags, self.split = grammar, tags_of(key), split
        self.marks = {mark for joins in grammar.joins.values() for join in joins for mark in join}
        self.text, self.known = "", {}

    def makes(self, template: str, text: str) -> bool:
        """Whether folding some request of the template gives `text`."""
        if text != self.text:
            self.text, self.known = text, {}
        starts = {0} | self.any("opener", self.grammar.openers, 0)
        ends = {end for start in starts for end in self.ends(template, start)}
        return len(text) in ends | {e for end in ends for e in self.any("closer", self.grammar.closers, end)}

    def ends(self, text: str, start: int) -> set[int]:
        """Where `text`, its slots filled in every way, can end."""
        ends = {start}
        for i, part in enumerate(parts_of(text)):
            if i % 2:
                ends = {end for place in ends for end in self.slot(part, place)}
            else:
                ends = {place + len(part) for place in ends if self.text.startswith(part, place)}
            if not ends:
                break
        return ends

    def any(self, name: str, texts, start: int) -> set[int]:
        """Where one of the texts can end; `name` stands for them."""
        if (name, start) not in self.known:
            self.known[name, start] = {end for text in texts for end in self.ends(text, start)}
        return self.known[name, start]

    def slot(self, name: str, start: int) -> set[int]:
        """Where what fills a slot can end."""
        if name in self.grammar.slots:
            return self.any(name, self.grammar.slots[name], start)
        several, items = self.items(name)
        found = new = self.any(name, items, start)
        while several and new:  # more of them, with marks in between
            marked = {end for place in new for end in self.any("mark", self.marks, place)}
            new = {end for place in marked for end in self.any(name, items, place)} - found
            found = found | new
        return found

    @functools.cache  # noqa: B019 a maker is gone with its test
    def items(self, name: str) -> tuple[bool, list[str]]:
        """Whether a slot takes several items, and what each can be."""
        tag, _, form = name.rpartition("_")
        form = "short" if name == "all" else form
        tags = [tag] if tag else [t for t in self.tags if t != "asr" or name == "all"]
        return len(tags) > 1, [text for t in tags for text in self.phrases(t, form)]

    def phrases(self, tag: str, form: str) -> list[str]:
        found = []
        for text in self.grammar.aspects[tag][form][self.split]:
            inner = SLOT.fullmatch(text)
            if inner and inner[1] in self.grammar.aspects[tag]:
                found += self.phrases(tag, inner[1])
                continue
            changed = [text]
            for changes in self.grammar.again.values():
                changed += [self.replaced(t, changes) for t in changed]
            found += changed
        return found

    @staticmethod
    def replaced(text: str, changes) -> str:
        for old, new in changes:
            text = text.replace(old, new)
        return text


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_training_template_can_make_a_test_request(language):
    grammar, rng = load_grammar(language), np.random.default_rng(7)
    for key in TASK_KEYS:
        maker, templates = Maker(grammar, key, "train"), dict(grammar.templates(key, "train"))
        for _ in range(10):
            template_id, text = grammar.compose(rng, key, "train")
            assert maker.makes(templates[template_id], fold(text)), (template_id, text)  # the maker is right
        for _ in range(20):
            _, text = grammar.compose(rng, key, "test")
            assert not [i for i, t in templates.items() if maker.makes(t, fold(text))], text


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_request_asks_for_its_tags_and_nothing_else(language, split):
    grammar, rng = load_grammar(language), np.random.default_rng(11)
    for key in TASK_KEYS:
        for _ in range(40):
            template_id, text = grammar.compose(rng, key, split)
            assert tags_read(text) == set(tags_of(key)), (template_id, text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_typing_mistake_does_not_change_the_task(language):
    grammar, rng, changed = load_grammar(language), np.random.default_rng(13), 0
    for right, wrongs in grammar.typos.items():
        assert all(tags_read(wrong) <= tags_read(right) for wrong in wrongs), right
    for key in TASK_KEYS:
        for _ in range(30):
            _, text = grammar.compose(rng, key, "train")
            typed = grammar.mistype(rng, text.lower())
            assert tags_read(typed) <= set(tags_of(key)), typed
            assert abs(len(typed) - len(text)) <= 3  # please -> plz
            changed += typed != text.lower()
    assert changed > 22 * 30 / 2


def test_written_as_people_type(train):
    english = [r.text for r in train if r.language == "en"]
    chinese = [r.text for r in train if r.language == "zh"]
    assert 0.2 < np.mean([t == t.lower() for t in english]) < 0.5
    assert 0.1 < np.mean(["?" in t for t in english]) < 0.6
    assert 0.1 < np.mean(["？" in t for t in chinese]) < 0.6
    assert 0.01 < np.mean([bool(re.search("[A-Za-z]", t)) for t in chinese]) < 0.15  # code-switched
    assert 0.002 < np.mean([bool(re.search("[\u4e00-\u9fff]", t)) for t in english]) < 0.15


def test_published_requests_are_known_in_training():
    grammar = load_grammar("zh")
    for abbr, task in TASKS.items():
        known = {text for _, text in grammar.templates(task.key, "train")}
        assert task_requests(abbr)[0] in known, abbr


def test_no_slot_is_left_and_lengths_are_kept(train, test):
    for r in (*train, *test):
        assert not re.search(r"[{}_\0]|  |^\s|\s$", r.text), r.text
        assert 1 <= length(r.text) <= LONGEST[r.language] + 1, r.text  # "time stamps" for timestamps
    for language, low, high in (("en", 4, 16), ("zh", 6, 24)):
        lengths = np.array([length(r.text) for r in train if r.language == language])
        assert np.mean((lengths >= low) & (lengths <= high)) > 0.75


def test_vocabulary_is_complete_and_modest(train, test):
    known = set(vocabulary())
    assert {unit for r in (*train, *test) for unit in units(r.text)} <= known
    assert known == set(vocabulary("en")) | set(vocabulary("zh"))
    assert len({word.lower() for word in known if word.isascii()}) < 400
    assert len([unit for unit in known if not unit.isascii()]) < 400


@pytest.mark.parametrize("language", LANGUAGES)
def test_test_requests_have_no_words_that_training_never_shows(language):
    grammar = load_grammar(language)
    words = {}
    for split in ("train", "test"):
        texts = [text for key in TASK_KEYS for _, text in grammar.templates(key, split)]
        texts += [t for forms in grammar.aspects.values() for form in forms.values() for t in form[split]]
        texts += [t for slot in grammar.slots.values() for t in slot]
        words[split] = {unit.lower() for t in texts for unit in units(SLOT.sub(" ", t))}
    assert sorted(words["test"] - words["train"]) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_test_line_is_a_new_wording_of_a_meaning_that_training_has(language):
    """It shares two fifths of its words and slots with a training line of its group."""
    grammar = load_grammar(language)
    groups = [*grammar.frames.values(), *grammar.requests.values()]
    groups += [
        by_split
        for forms in grammar.aspects.values()
        for form, by_split in forms.items()
        if form in ("do", "np", "cl", "q") or (form == "what" and language == "zh")
    ]
    for by_split in groups:
        train = [words_and_slots(text) for text in by_split["train"]]
        for text in by_split.get("test", ()):
            words = words_and_slots(text)
            assert max(len(words & other) / len(words | other) for other in train) >= 0.4, text


def words_and_slots(text: str) -> set[str]:
    return {*SLOT.findall(text), *(unit.lower() for unit in units(SLOT.sub(" ", text)) if unit.isalnum())}


def ngrams(texts, size=4093) -> np.ndarray:
    """Unit vectors of hashed character 2- and 3-gram counts, (texts, size) float32."""
    rows = np.zeros((len(texts), size), np.float32)
    for row, text in zip(rows, texts):
        codes = np.frombuffer(f" {text.lower()} ".encode("utf-32-le"), np.uint32).astype(np.int64)
        pairs = codes[:-1] * 131 + codes[1:]
        np.add.at(row, pairs % size, 1)
        np.add.at(row, (pairs[:-1] * 131 + codes[2:]) % size, 1)
    rows = np.sqrt(rows)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_task_can_be_learned_but_not_looked_up(train, test):
    """Nearest neighbour on character n-grams: far above chance (1 of 22), far from a copy of the answers."""
    train, test = train[:2500], test[:400]
    nearest = (ngrams([r.text for r in test]) @ ngrams([r.text for r in train]).T).argmax(axis=1)
    right = np.mean([train[j].task_key == r.task_key for r, j in zip(test, nearest)])
    print(f"\nnearest neighbour: {right:.1%} of {len(test)} test requests, chance {1 / len(TASK_KEYS):.1%}")
    assert 0.3 < right < 0.95


def test_command_writes_the_published_format(tmp_path, capsys):
    path = tmp_path / "requests.jsonl"
    assert main(["--split", "test", "--count", "50", "--seed", "4", "--output", str(path)]) == 0
    utterances, problems = read_manifest(path)
    assert not problems and len(utterances) == 50
    assert [p.name for p in tmp_path.iterdir()] == ["requests.jsonl"]
    expected = generate("test", 50, 4)
    for u, r in zip(utterances, expected):
        assert u.task == INTENT_KEY and u.wav is None and u.txt == write_tags(r.tags)
        assert (u.extra["intent"], u.extra["task_key"]) == (r.text, r.task_key)
        assert u.extra["language"] == r.language
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert set(first) == {"key", "txt", "task", "extra"}
    assert main(["--vocabulary", "--language", "zh"]) == 0
    assert capsys.readouterr().out.split() == vocabulary("zh")


def test_command_refuses_in_one_line(tmp_path, capsys):
    wrong = (["--tasks", "nonsense"], ["--tasks", INTENT_KEY], ["--count", "-1"], ["--seed", "-1"])
    for arguments in wrong:
        assert main([*arguments, "--output", str(tmp_path / "x.jsonl")]) == 1
    assert main(["--count", "3", "--output", str(tmp_path / "none" / "x.jsonl")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(wrong) + 1 and not any("Traceback" in line for line in lines)
    assert not list(tmp_path.iterdir())


def test_api_refuses_what_it_does_not_know():
    rng = np.random.default_rng(0)
    for call in (
        lambda: sample(rng, "asr", "dev"),
        lambda: sample(rng, "asr", "train", "fr"),
        lambda: generate("dev", 3, 0),
        lambda: generate("train", 3, 0, tasks=[]),
        lambda: vocabulary("fr"),
    ):
        with pytest.raises(UserError):
            call()


def test_more_than_the_templates_make_is_refused(monkeypatch):
    grammar = load_grammar("en")
    monkeypatch.setattr(grammar, "templates", lambda key, split: [("en.only", "words please")])
    monkeypatch.setattr("mindspore_osum.data.requests.PATIENCE", 300)
    with pytest.raises(UserError, match="ask for fewer"):
        generate("train", 5000, 0, tasks=["asr"], language="en")
