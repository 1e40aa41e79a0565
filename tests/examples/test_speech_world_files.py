"""What generate.py writes: manifests, audio, texts; it is repeatable, restarts, and says what is wrong."""

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import espeak
import generate
import grammar
import manifests
import numpy as np
import plan as planning
import pytest
import questions
import soundfile
import voices

from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.errors import UserError
from mindspore_osum.inference import passes
from mindspore_osum.tasks import (
    INTENT_KEY,
    LABEL_SETS,
    TASK_KEYS,
    TASKS,
    format_answer,
    parse_answer,
    tags_of,
    write_tags,
)
from tests.examples.common import COUNTS, digest, run_generate

FIELDS = {"gender": "gender", "age": "age", "emotion": "emotion", "style": "style", "event": "event"}


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def lines(corpus) -> dict[str, list[dict]]:
    return {split: read(corpus / f"{split}.jsonl") for split in COUNTS}


def parsed(line: dict):
    """The answer as a model would write it, read back."""
    return parse_answer(write_tags(tags_of(line["task"])) + line["txt"])


# manifests of speech


def test_manifests_have_the_published_form(corpus, lines):
    for split, some in lines.items():
        utterances, problems = read_manifest(corpus / f"{split}.jsonl", strict=True)
        assert len(utterances) == len(some) and not problems
        assert len({line["key"] for line in some}) == len(some)
        for line in some:
            assert set(line) == {"key", "wav", "txt", "task", "extra"}
            assert line["task"] in TASK_KEYS and line["extra"]["dataset"] == "speech_world"
            assert not line["txt"].startswith(write_tags(tags_of(line["task"])))


def test_lines_say_what_was_planned(lines):
    for split, some in lines.items():
        plans = {line.key: line for line in planning.plan(split, COUNTS[split], seed=1)}
        assert {Path(line["wav"]).stem for line in some} == set(plans)
        for line in some:
            planned, extra, answer = plans[Path(line["wav"]).stem], line["extra"], parsed(line)
            assert line["key"].rpartition("_")[0] == planned.key and extra["voice"] == planned.voice
            assert (extra["gender"], extra["age"]) == (planned.speaker.gender, planned.speaker.age)
            for name in ("kind", "lang", "emotion", "style", "event"):
                assert extra[name] == getattr(planned, name)
            if "<TRANSCRIBE>" in line["task"]:
                assert answer.text == planned.text
            if "<S2TCHAT>" in line["task"]:
                assert answer.answer == planned.answer


def test_labels_are_read_back(lines):
    for line in (line for some in lines.values() for line in some):
        answer = parsed(line)
        announced = [LABEL_SETS[tag].field for tag in tags_of(line["task"]) if tag in LABEL_SETS]
        assert answer.labels == {field: line["extra"][field] for field in announced} and not answer.unknown
        assert ("align" in answer.tags) == bool(answer.words)
        again = format_answer(
            line["task"], text=answer.text, labels=answer.labels, words=answer.words, answer=answer.answer
        )
        assert again == write_tags(answer.tags) + line["txt"]


def test_word_times_are_in_order_and_in_the_recording(lines):
    timed = [(split, line) for split, some in lines.items() for line in some if "<ALIGN>" in line["task"]]
    assert {split for split, _ in timed} >= {"train"}
    for split, line in timed:
        words = parsed(line).words
        assert "".join(word for word, _, _ in words) == "".join(re.sub(r"<[^>]*>", "", line["txt"]).split())
        edges = [time for _, start, end in words for time in (start, end)]
        assert edges == sorted(edges) and 0 < edges[0] and edges[-1] < line["extra"]["seconds"]
        step = manifests.STEP if split == "train" else 0.01
        assert all(time / step == pytest.approx(round(time / step), abs=1e-6) for time in edges)


def test_a_training_recording_has_three_lines_of_different_tasks(lines):
    tasks: dict[str, list[str]] = {}
    for line in lines["train"]:
        tasks.setdefault(line["wav"], []).append(line["task"])
    assert len(tasks) == COUNTS["train"]
    assert all(len(some) == len(set(some)) == 3 for some in tasks.values())


def test_training_tasks_suit_what_is_said(plans):
    found = Counter()
    for line in plans["train"]:
        keys = manifests.training_keys(line)
        assert len(set(keys)) == 3 and keys == manifests.training_keys(line)
        assert not any("<CAPTION>" in key for key in keys) or line.event
        assert not any("<S2TCHAT>" in key for key in keys) or line.kind == "question"
        special = set(manifests.SPECIAL[line.kind]) | (
            set(manifests.SPECIAL["event"]) if line.event else set()
        )
        assert keys[0] in special
        found.update(keys)
    assert set(found) == set(TASK_KEYS)  # every published combination
    assert min(found.values()) >= 50
    for task in TASKS.values():
        assert found[task.key] >= 1000, task.abbr


def test_checked_tasks_are_the_eight_and_suit_what_is_said(plans):
    found = Counter()
    for line in plans["test"]:
        keys = manifests.checked_keys(line)
        assert len(set(keys)) == len(keys) and set(keys) <= {task.key for task in TASKS.values()}
        assert (TASKS["sttc"].key in keys) == (line.kind == "question")
        assert (TASKS["ved"].key in keys) == bool(line.event)
        assert (TASKS["ser"].key in keys) == (line.kind == "feeling")
        assert (TASKS["ssr"].key in keys) == (line.kind == "style")
        found.update((key, line.lang) for key in keys)
    assert len(found) == 16 and min(found.values()) >= 30  # each task in each language


def test_the_warm_up_has_every_recording_once_with_all_its_labels(corpus, lines):
    assert not (corpus / "test_all.jsonl").exists()
    for split in ("train", "valid"):
        some = read(corpus / f"{split}_all.jsonl")
        plans = planning.plan(split, COUNTS[split], seed=1)
        for line, plan in zip(some, plans, strict=True):
            answer = parse_answer(line["txt"], line["task"])
            event = {"event": plan.event} if plan.event else {}
            who = {"gender": plan.speaker.gender, "age": plan.speaker.age}
            assert answer.text == plan.text
            assert answer.labels == who | event | {"emotion": plan.emotion, "style": plan.style}
        assert [line["wav"] for line in some] == sorted({line["wav"] for line in lines[split]})


def test_several_labels_at_once_are_asked_of_any_recording(plans):
    """Every key that an annotation can take, whatever kind of sentence it is and whether a sound is heard."""
    names = ["asr", *LABEL_SETS]
    choices = (choice for size in range(2, len(names) + 1) for choice in combinations(names, size))
    asked = {frozenset(tags_of(request.task)) for choice in choices for request in passes.plan(choice)}
    several = {tags for tags in asked if len(tags & set(LABEL_SETS)) > 1}
    found = Counter()
    for line in plans["train"]:
        (key,) = manifests.combined_keys(line)
        assert [key] == manifests.combined_keys(line)
        found.update((frozenset(tags_of(key)), group) for group in (line.kind, bool(line.event)))
    for group in (*planning.KINDS, True, False):
        assert {tags for tags, of in found if of == group} >= several
    every = sum(count for (_, group), count in found.items() if group in planning.KINDS)
    whole = sum(found[frozenset(tags_of(manifests.ALL_WITH_EVENT)), kind] for kind in planning.KINDS)
    assert whole / every > 0.25
    for split in ("valid", "test"):
        checked = [manifests.combined_keys(line) for line in plans[split]]
        assert {frozenset(tags_of(key)) for keys in checked for key in keys} == several
        assert all(keys[0] == manifests.ALL_WITH_EVENT != keys[1] for keys in checked)


def test_combined_lines_have_all_labels_that_are_asked_for(corpus, lines):
    """Without a sound beside the words the event is OTHER; no key is that of another line."""
    for split, count in COUNTS.items():
        some = read(corpus / f"combined_{split}.jsonl")
        plans = {line.key: line for line in planning.plan(split, count, seed=1)}
        assert not {line["key"] for line in some} & {line["key"] for line in lines[split]}
        assert Counter(Path(line["wav"]).stem for line in some) == dict.fromkeys(plans, len(some) // count)
        for line in some:
            planned, answer = plans[Path(line["wav"]).stem], parsed(line)
            labels = {"gender": planned.speaker.gender, "age": planned.speaker.age, "style": planned.style}
            labels |= {"emotion": planned.emotion, "event": planned.event or "OTHER"}
            announced = [LABEL_SETS[tag].field for tag in answer.tags if tag in LABEL_SETS]
            assert answer.labels == {field: labels[field] for field in announced} and not answer.unknown
            assert answer.text == (planned.text if "asr" in answer.tags else "")


# audio


def test_recordings_are_pcm_of_the_length_told(corpus, lines):
    for split, some in lines.items():
        files = {f"wav/{split}/{path.name}" for path in (corpus / "wav" / split).iterdir()}
        assert files == {line["wav"] for line in some}
        for line in some:
            info = soundfile.info(corpus / line["wav"])
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert 1.0 <= info.duration <= manifests.LONGEST_TIME - 0.1
            assert line["extra"]["seconds"] == pytest.approx(info.duration, abs=1e-3)


def test_audio_is_sound_between_quiet_ends(corpus, lines):
    for line in (line for some in lines.values() for line in some):
        wave, _ = soundfile.read(corpus / line["wav"])
        assert 0.1 < np.abs(wave).max() < 0.95
        end = 480  # 30 ms
        assert max(wave[:end].std(), wave[-end:].std()) < 0.5 * wave.std()


# manifests of text


def test_questions_of_valid_and_test_are_not_in_the_texts(corpus, plans):
    pairs = read(corpus / "text_qa.jsonl")
    asked = {line["extra"]["question"] for line in pairs}
    held_out = {line.text for line in plans["valid"] + plans["test"] if line.kind == "question"}
    assert held_out and not asked & held_out
    answers = {lang: dict(questions.facts(lang)) for lang in grammar.LANGUAGES}
    for line in pairs:
        assert line["task"] == "<TEXT2TEXT>" and "wav" not in line
        assert answers[line["extra"]["lang"]][line["extra"]["question"]] == line["txt"]
    every = {question for lang in grammar.LANGUAGES for question in answers[lang]}
    assert asked == {question for question in every if grammar.split_of(question, 1) == "train"}
    assert read_manifest(corpus / "text_qa.jsonl", strict=True)


def test_requests_ask_for_the_tags_they_are_answered_with(corpus):
    intents = {}
    for split, count in (("train", 120), ("valid", 6), ("test", 20)):
        some = read(corpus / f"intent_{split}.jsonl")
        assert len(some) == count == len({line["key"] for line in some})
        for line in some:
            assert line["task"] == INTENT_KEY
            assert line["txt"] == write_tags(tags_of(line["extra"]["task_key"]))
        intents[split] = {line["extra"]["intent"] for line in some}
        assert {line["extra"]["lang"] for line in some} == {"en", "zh"}
    assert not intents["train"] & (intents["valid"] | intents["test"])


# runs


def test_the_same_command_keeps_what_is_finished(corpus):
    before = digest(corpus)
    done = run_generate(corpus)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("complete and made by the same settings, kept") == 3
    assert digest(corpus) == before


def test_other_settings_are_not_mixed_in(corpus):
    before = digest(corpus)
    done = run_generate(corpus, "--seed", 2)
    assert done.returncode == 1 and "choose another --output" in done.stderr
    assert done.stderr.count("\n") == 1
    assert digest(corpus) == before


def test_requests_of_other_settings_are_never_overwritten(tmp_path):
    generate.write_texts(tmp_path, 1, 40)
    before, note = digest(tmp_path), tmp_path / "texts.settings.json"
    generate.write_texts(tmp_path, 1, 40)
    for seed, requests in ((1, 60), (2, 40)):
        with pytest.raises(UserError, match="texts.settings.json is not of .* choose another --output"):
            generate.write_texts(tmp_path, seed, requests)
    assert digest(tmp_path) == before
    noted = note.read_bytes()
    note.unlink()  # as a corpus was left before there was a note
    generate.write_texts(tmp_path, 1, 60)
    assert digest(tmp_path) == {name: value for name, value in before.items() if name != note.name}
    (tmp_path / "intent_valid.jsonl").unlink()
    generate.write_texts(tmp_path, 1, 40)  # unfinished: made anew
    assert digest(tmp_path) == before and note.read_bytes() == noted
    (tmp_path / "intent_valid.jsonl").unlink()
    with pytest.raises(UserError, match="the manifests of text have lost files; delete "):
        generate.write_texts(tmp_path, 1, 40)


def test_one_job_makes_the_same_and_unfinished_parts_are_made_anew(corpus, tmp_path):
    leftover = tmp_path / "wav" / "valid.part" / "old.wav"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    done = run_generate(tmp_path, "--jobs", 1)
    assert done.returncode == 0 and "valid.part of an unfinished run" in done.stdout
    assert digest(tmp_path) == digest(corpus)

    (tmp_path / "wav" / "test" / "test_000003.wav").unlink()
    note = tmp_path / "test.settings.json"
    with pytest.raises(UserError, match="the finished test part has lost files"):
        generate.is_done(tmp_path, json.loads(note.read_text()))
    note.unlink()
    assert run_generate(tmp_path).returncode == 0
    assert digest(tmp_path) == digest(corpus)


@pytest.mark.parametrize("name", ["split", "count", "seed", "version", "espeak"])
def test_every_setting_of_a_part_counts(name, corpus, tmp_path):
    """A finished part of this name that was made otherwise is never taken for this one."""
    note = "train.settings.json"
    settings = json.loads((corpus / note).read_text())
    assert generate.is_done(corpus, settings)
    (tmp_path / note).write_text(json.dumps(settings | {name: "other"}) + "\n")
    with pytest.raises(UserError, match="choose another --output"):
        generate.is_done(tmp_path, settings)


@pytest.mark.usefixtures("installed")
def test_a_smaller_part_is_the_beginning_of_a_larger_one(corpus, tmp_path):
    some = planning.plan("train", 3, seed=1)
    made = generate.make(some, tmp_path, 1, espeak.installation()[1])
    for path in sorted(tmp_path.iterdir()):
        assert path.read_bytes() == (corpus / "wav" / "train" / path.name).read_bytes()
    assert generate.records(some, made) == read(corpus / "train.jsonl")[:9]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
@pytest.mark.usefixtures("installed")
def test_a_full_disk_is_reported(tmp_path):
    line = planning.plan("test", 1, seed=1)[0]
    (tmp_path / f"{line.key}.wav").symlink_to("/dev/full")
    with pytest.raises(UserError, match="is the disk full"):
        generate.make([line], tmp_path, 1, espeak.installation()[1])


def test_missing_espeak_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("pypinyin", reason="needs pypinyin (extra dev)")
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run_generate(tmp_path / "world")
    assert done.returncode == 1
    assert done.stderr == f"generate.py: espeak-ng is not installed; run `{espeak.INSTALL}`\n"


def test_missing_voices_are_named(tmp_path):
    (tmp_path / "lang").mkdir()
    with pytest.raises(UserError, match=f"lang/{voices.LANGUAGE_FAMILIES[0]} is missing"):
        espeak.link_data(tmp_path, tmp_path / "out")
