"""Utterances in little memory are those that were put in."""

import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.data.formats.store import Utterances
from mindspore_osum.speech.opening import FilePart

ODD = ["", ":", "a:1", "a:007", "/", "a/b", "//x/", "\ud800", "m.tar:k:2"]
TEXT = st.text(max_size=8) | st.sampled_from(ODD)
WAV = st.none() | TEXT | st.builds(FilePart, TEXT, st.integers(0, 2**60), st.integers(0, 2**40), TEXT)
SECONDS = st.none() | st.floats(0, 1e6)
EXTRA = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=2))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.builds(Utterance, TEXT, WAV, TEXT, TEXT, EXTRA, SECONDS, SECONDS, TEXT), max_size=5))
def test_what_comes_out_went_in(utterances):
    store = Utterances()
    for utt in utterances:
        store.append(utt)
    assert list(store) == utterances and len(store) == len(utterances)
    assert [store[i] for i in range(-len(utterances), 0)] == utterances


UTT = Utterance("k", "/a/1.wav", "abc", "<TRANSCRIBE>", {"age": "ADULT"}, 0.5, 1.5, "/a/m.jsonl:1")


def digest(*utterances) -> str:
    store = Utterances()
    for utt in utterances:
        store.append(utt)
    return store.digest


@pytest.mark.parametrize(
    "over",
    [
        {"key": "l"},
        {"txt": "abd"},
        {"task": "<AGE>"},
        {"extra": {"age": "OLD"}},
        {"start": None},
        {"end": 1.25},
    ],
)
def test_the_digest_tells_what_is_said(over):
    assert digest(UTT) == digest(UTT) and len(digest(UTT)) == 16
    assert digest(replace(UTT, **over)) not in (digest(UTT), digest(), digest(UTT, UTT))


def test_the_digest_is_of_the_order_and_not_of_the_place():
    other = replace(UTT, key="l")
    assert digest(UTT, other) != digest(other, UTT)
    moved = replace(UTT, wav=FilePart("/b/x.tar", 512, 80, "k.wav"), where="/b/x.tar:k")
    assert digest(moved, other) == digest(UTT, other)
    assert digest(replace(UTT, txt="\ud800")) != digest(replace(UTT, txt="\ud801"))


def test_beyond_its_end_there_is_nothing():
    store = Utterances()
    for index in (0, -1):
        with pytest.raises(IndexError):
            store[index]


def test_an_utterance_takes_a_few_hundred_bytes():
    def utterance(i):
        key, tar = f"BAC009S{i // 400:04d}W{i:06d}", f"/data/corpora/shards/aishell/shard_{i // 1000:05d}.tar"
        extra = {"dataset": "aishell1", "age": "ADULT", "speaker": f"S{i // 400:04d}"}
        txt = "".join(chr(0x4E00 + (7 * i + 13 * k) % 3000) for k in range(15)) + "<ADULT>"
        part = FilePart(tar, 512 * i, 160044, f"{key}.wav")
        return Utterance(key, part, txt, "<TRANSCRIBE> <AGE>", extra, where=f"{tar}:{key}")

    tracemalloc.start()
    store = Utterances()
    for i in range(2000):
        store.append(utterance(i))
    used = tracemalloc.get_traced_memory()[0] / len(store)
    tracemalloc.stop()
    assert used < 300, used
