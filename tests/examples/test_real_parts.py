"""The corpus of a speech language model of real parts; its whole run takes hours (examples/real_parts)."""

import argparse
import json
import sys

import numpy as np
import pytest
import soundfile as sf

from tests.conftest import ROOT

HOME = ROOT / "examples/real_parts"


@pytest.fixture(scope="module")
def example():
    """Its modules by name, out of the way of other examples' modules of these names."""
    names = ("sentences", "written", "corpus", "notes", "run")
    kept = {name: sys.modules.pop(name, None) for name in names}
    sys.path.insert(0, str(HOME))
    try:
        import corpus
        import sentences
        import written

        yield argparse.Namespace(corpus=corpus, sentences=sentences, written=written)
    finally:
        sys.path.remove(str(HOME))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update({name: module for name, module in kept.items() if module})


def test_sentences_are_different_and_the_same_again(example):
    found = example.sentences.drawn("phone", 500, "1")
    assert len(set(found)) == 500 and found == example.sentences.drawn("phone", 500, "1")
    assert not any("{" in text or "|" in text for text in found)
    assert found != example.sentences.drawn("phone", 500, "2")


STORM = "A storm came over the coast, and it broke the old ships, the nets, and the long piers."
ENDLESS = "One endless sentence without any comma goes on and on until nobody can say it any more."


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        ("In my opinion, books are good. More of it", "In my opinion, books are good."),
        (STORM, "A storm came over the coast, and it broke the old ships."),
        ("No.", ""),
        ("It costs 20 dollars a day.", ""),
        ("words without an end", ""),
        (ENDLESS, ""),
    ],
)
def test_what_can_be_said_at_once(example, reply, sentence):
    assert example.written.sentence_of(reply) == sentence


def test_lists_go_through_all_words(example):
    words = [f"word{chr(97 + n)}" for n in range(13)]
    lists = example.corpus.word_lists(words, 5)
    said = [word for text in lists for word in text.lower().rstrip(".").split(", ")]
    assert len(said) == 25 and sorted(said[:13]) == words and len(set(said[13:25])) >= 12


def test_lines_of_what_was_spoken(example, tmp_path):
    """Every recording has its words, questions their answers, the test part its speakers, of other voices."""
    seen = {voice[:2] for voice in example.corpus.VOICES}
    assert not seen & {voice[:2] for voice in example.corpus.UNSEEN}
    for split in example.corpus.SIZES:
        folder = tmp_path / f"{split}_spoken"
        (folder / "wav").mkdir(parents=True)
        for n in range(40):
            sf.write(folder / f"wav/{n}.wav", np.full(4000 if n else 13 * 16000, 0.5), 16000)
        lines = [
            {
                "key": f"{split}_{n}",
                "wav": f"wav/{n}.wav",
                "txt": "Paris." if kind == "question" else "Hello there.",
                "task": "<S2TCHAT>",
                "extra": {"kind": kind, "lang": "en", "transcript": str(n), "voice": {"gender": "woman"}},
            }
            for n, kind in enumerate(["question", "sentence"] * 20)
        ]
        (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    example.corpus.lines(argparse.Namespace(output=tmp_path))
    read = {
        path.stem: [json.loads(x) for x in path.read_text().splitlines()] for path in tmp_path.glob("*.jsonl")
    }
    train = read["train"]
    words = [line for line in train if line["task"] == "<TRANSCRIBE>" and line["extra"]["kind"] != "joined"]
    assert len(words) == 40
    assert {line["txt"] for line in train if line["key"].endswith("answer")} == {"Paris."}
    asked = [line for line in train if line["key"].endswith("speaker")]
    assert 8 < len(asked) < 32 and {line["txt"] for line in asked} == {"A woman."}
    joined = [line for line in train if line["extra"]["kind"] == "joined"]
    said = [number for line in joined for number in line["txt"].split()]
    assert len(set(said)) == len(said) and 12 < len(joined) < 20  # the recording of 13 s is in none
    for line in joined:
        spoken, pauses = 0.25 * len(line["txt"].split()), len(line["txt"].split()) - 1
        assert spoken + 0.15 * pauses <= sf.info(line["wav"]).duration + 0.001 <= spoken + 0.6 * pauses + 0.01
    assert len(read["test_words"]) == len(read["test_speaker"]) == 40
    assert all(line["wav"].startswith(str(tmp_path)) for line in train)
