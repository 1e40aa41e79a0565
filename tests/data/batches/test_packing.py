"""Packing: efficiency, and that nothing is lost, split, doubled or put where there is no room."""

import json
from collections import Counter

import numpy as np
import pytest

from mindspore_osum import cli
from mindspore_osum.data.batches.corpus import Corpus
from mindspore_osum.data.batches.loader import Loader
from mindspore_osum.data.batches.packing import Room, aishell_like, efficiency, pack_items, room_for
from mindspore_osum.systems.registry import preset
from mindspore_osum.text.sequence import IGNORE
from tests.training.tones import extractor, make_world, random_words, shape


def check(packs, tokens_N, speech_N, room: Room):
    """Every item once, and within each budget; recordings do not meet."""
    assert sorted(i for pack in packs for i in pack.items) == list(range(len(tokens_N)))
    for pack in packs:
        items = list(pack.items)
        assert 0 < len(items) <= room.items and len(items) == len(pack.starts)
        assert tokens_N[items].sum() <= room.tokens
        ends = [-1] * room.audio_rows  # last speech token taken in each row
        for start, speech in sorted(zip(pack.starts, speech_N[items].tolist(), strict=True)):
            if not speech:
                assert start == -1
                continue
            row, place = divmod(start, room.speech)
            assert place == 0 if ends[row] == -1 else place > ends[row] + 1  # an empty one in between
            ends[row] = place + speech - 1
            assert ends[row] < room.speech


def random_cases(cases: int, most: int):
    """Items of random sizes, a room they fit one by one, and a length of the queue, many times."""
    rng = np.random.default_rng(most)
    speech = (rng.random((cases, most)) * rng.integers(1, 40, (cases, 1))).astype(np.int64)
    speech *= rng.random((cases, most)) < 0.9
    tokens = speech + rng.integers(1, 30, (cases, most))
    settings = zip(
        rng.integers(1, most + 1, cases),
        rng.uniform(1, 4, cases),
        rng.uniform(1, 2, cases),
        rng.integers(1, 4, cases),
        rng.integers(1, 9, cases),
        rng.integers(1, 2 * most, cases),
    )
    for case, (count, wide, long, rows, items, queue) in enumerate(settings):
        tokens_N, speech_N = tokens[case, :count], speech[case, :count]
        room = Room(int(tokens_N.max() * wide), int(rows), int(speech_N.max() * long) + 1, int(items), 8)
        yield tokens_N, speech_N, room, int(queue)


@pytest.mark.parametrize(
    ("cases", "most"), [(20_000, 4), (100, 300), pytest.param(200_000, 4, marks=pytest.mark.slow)]
)
def test_nothing_is_lost_split_doubled_or_over_budget(cases, most):
    for tokens_N, speech_N, room, queue in random_cases(cases, most):
        check(pack_items(tokens_N, speech_N, room, queue), tokens_N, speech_N, room)


@pytest.mark.parametrize("around", [10, 100])
def test_packs_of_4096_are_98_percent_full_on_aishell(around):
    frames_N, tokens_N = aishell_like(preset("tiny"), 20_000, seed=around, around=around)
    assert frames_N.mean() == pytest.approx(450, rel=0.02) and frames_N.min() >= 120
    assert frames_N.max() <= 1450
    speech_N = -(-frames_N // 8)
    room = room_for(preset("tiny"), tokens_N, speech_N, 4096)
    packs = pack_items(tokens_N, speech_N, room)
    check(packs, tokens_N, speech_N, room)
    of_tokens, of_frames = efficiency(packs, tokens_N, frames_N, room)
    assert of_tokens >= 0.98 and of_frames >= 0.9
    assert frames_N.mean() / frames_N.max() < 0.35  # what slots of the longest length would reach
    # nobody waits for more than a queue's length, and packs are samples of the data, not of one length
    assert max(max(pack.items) - min(pack.items) for pack in packs) < 3 * 1024
    means = np.array([frames_N[list(pack.items)].mean() for pack in packs[:-60]])
    spread = frames_N.std() / np.sqrt(np.mean([len(pack.items) for pack in packs]))
    assert means.std() < 1.5 * spread
    halves = [
        frames_N[[i for pack in part for i in pack.items]].mean()
        for part in (packs[: len(packs) // 2], packs[len(packs) // 2 :])
    ]
    assert halves[0] == pytest.approx(halves[1], rel=0.03)


def test_the_command_compares_the_forms(capsys):
    assert cli.main(["data", "batches", "--count", "3000", "--tokens", "2048"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    shares = {line[:14].strip(): [float(x.strip("%")) for x in line[14:].split()] for line in lines}
    assert head.split()[-1] == "shapes" and list(shares) == ["static", "buckets", "sorted dynamic", "packed"]
    positions = [share[0] for share in shares.values()]
    assert positions == sorted(positions) and positions[-1] > 97
    assert shares["packed"][2] == shares["static"][2] == 1 < shares["buckets"][2] <= 6
    assert shares["sorted dynamic"][2] > 100


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--count", "0"], "--count 0: must be 1 or more"),
        (["--around", "-1"], "--around -1: must be 0 or more"),
        (["--count", "9", "--tokens", "100"], "--tokens 100: the longest sequence has "),
    ],
)
def test_sizes_that_make_no_batches_are_refused(capsys, options, says):
    assert cli.main(["data", "batches", *options]) == 1
    out, err = capsys.readouterr()
    assert not out and err.startswith(f"osum: {says}") and err.count("\n") == 1
    assert cli.main(["data", "batches", "--count", "1"]) == 0


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), random_words(60))


def loader(world, size=2, pack=100, seed=3, weight=1.0, **over):
    sources = [("words", world / "words.jsonl", weight)]
    corpus = Corpus(sources, extractor(world), [shape(size, 64, 24)])
    return Loader(corpus, seed, pack=pack, **over)


def test_ranks_and_micro_batches_take_disjoint_parts_that_are_all(world):
    parts = [loader(world, accumulation=2, rank=rank, ranks=2) for rank in (0, 1)]
    whole = loader(world, size=8)
    assert whole.room == parts[0].room == parts[1].room
    seen = Counter()
    for step in range(whole.steps_per_epoch):
        keys = whole.keys(step)
        assert keys == parts[0].keys(step) == parts[1].keys(step)
        seen.update(keys)
        rows = [part.micro_batch(step, micro) for micro in (0, 1) for part in parts]
        for name, one in whole.micro_batch(step, 0).items():
            others = [row[name] for row in rows]
            if name in ("utterances_B", "targets_B"):
                assert one[0] == pytest.approx(4 * others[0][0])
            elif name not in ("speech_row_BL", "mel_len_B"):  # these count within the micro-batch
                assert np.array_equal(one, np.concatenate(others)), name
        labels = sum((row["labels_BL"] != IGNORE).sum() for row in rows)
        assert whole.counts(step) == {"utterances_B": len(keys), "targets_B": labels}
    assert seen == Counter(f"u{i}" for i in range(60))


def test_a_step_is_the_same_however_one_gets_there(world):
    straight, jumped, resumed = (loader(world, weight=0.7) for _ in range(3))
    batches = [straight.micro_batch(step, 0) for step in range(3 * straight.steps_per_epoch)]
    last = len(batches) - 1
    resumed.resume_at(last, *straight.position(last))
    for other in (jumped, resumed):
        assert other.position(last) == straight.position(last) and straight.position(last)[0] >= 2
        again = other.micro_batch(last, 0)
        assert all(np.array_equal(column, again[name]) for name, column in batches[last].items())
    assert len({batch["mel_BTF"].shape for batch in batches}) == 1  # one shape, one graph


def test_a_pack_says_what_its_utterances_say(world):
    packed = loader(world)
    batch = packed.micro_batch(0, 0)
    plan, _, rows = packed.rows(0)
    room, z = packed.room, packed.room.speech
    flat_XF = batch["mel_BTF"].reshape(-1, 80)
    for b, row in enumerate(rows):
        place = 0
        for i, item in enumerate(row.items):
            example, segment = packed.example(0, item), batch["segments_BL"][b] == i + 1
            length = len(example["token_ids_BL"])
            assert np.array_equal(np.flatnonzero(segment), np.arange(place, place + length))
            place += length
            for name in ("labels", "positions", "spans"):
                assert np.array_equal(batch[f"{name}_BL"][b][segment], example[f"{name}_BL"])
            first, frames = batch["mel_len_B"][b * room.items + i]
            assert np.array_equal(flat_XF[first : first + frames], example["mel_BTF"])
            assert (
                not flat_XF[first + frames : first + -(-frames // 8) * 8 + 8].any()
                or (first + -(-frames // 8) * 8) % (8 * z) == 0
            )
            speech_row = batch["speech_row_BL"][b][segment]
            assert np.array_equal(speech_row[speech_row >= 2] - 2, first // 8 + np.arange(-(-frames // 8)))
        assert (batch["labels_BL"][b][place:] == IGNORE).all() and not batch["segments_BL"][b][place:].any()
        assert place > 0.8 * room.tokens
    # the first label of a sequence is never a target of the sequence before it
    starts = np.argwhere(np.diff(batch["segments_BL"], axis=1) > 0)
    assert len(starts) and all(batch["labels_BL"][b, at + 1] == IGNORE for b, at in starts)


def test_text_alone_is_packed_too(tmp_path, world):
    lines = [
        json.dumps(
            {
                "key": f"t{i}",
                "task": "<TEXT2TEXT>",
                "txt": "a" * (1 + i % 7),
                "extra": {"question": "b" * (1 + i % 5)},
            }
        )
        for i in range(30)
    ]
    (tmp_path / "words.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (tmp_path / "tokenizer.model").write_bytes((world / "tokenizer.model").read_bytes())
    packed = loader(tmp_path)
    steps = range(packed.steps_per_epoch)
    batches = [packed.micro_batch(step, 0) for step in steps]
    assert sum((b["labels_BL"] != IGNORE).sum() for b in batches) == sum(packed.corpus.labels)
    assert all((b["speech_row_BL"] == -1).all() and not b["mel_len_B"].any() for b in batches)
    assert "0.0% of frames in use" in packed.report()
