"""Batches as a function of the step: what is in them, their order, shares, and what is left out."""

import json
from collections import Counter

import numpy as np
import pytest

from mindspore_osum.data.augment import Augment, SpecAugment, WaveAugment
from mindspore_osum.data.batches import batching
from mindspore_osum.data.batches import corpus as corpus_module
from mindspore_osum.data.batches.batching import (
    bucket_shapes,
    features,
    frames_of,
    recording_of,
)
from mindspore_osum.data.batches.corpus import Corpus
from mindspore_osum.data.batches.loader import Loader
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.systems.osum.extractor import OsumExtractor
from mindspore_osum.systems.osum.template import load_template
from mindspore_osum.systems.osum.texts import Texts
from mindspore_osum.systems.registry import preset
from mindspore_osum.text.sentence_piece import SentencePieceTokenizer
from mindspore_osum.text.sequence import IGNORE
from mindspore_osum.text.tokenizer import open_tokenizer
from tests.training.tones import add_texts, extractor, make_world, random_words, shape

SHAPES = [shape(2, 36, 24), shape(2, 64, 24)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), random_words(21))


def corpus(world, weight=1.0, shapes=SHAPES, requests="tag", ctc="", pad_to_seconds=0.0, **over):
    sources = [("words", world / "words.jsonl", weight)]
    return Corpus(sources, extractor(world, requests, ctc, pad_to_seconds), shapes, **over)


def numbers_of(loader, epoch: int) -> list[int]:
    """Numbers of all utterances of an epoch in their order."""
    plan = loader.plan(epoch)
    items = [i for place in range(len(plan.steps)) for row in plan.rows(place)[1] for i in row.items]
    return plan.numbers_N[items].tolist()


def same(one: dict, other: dict) -> bool:
    """Whether two batches have the same columns in the same order and the same bits."""
    return list(one) == list(other) and all(np.array_equal(one[name], other[name]) for name in one)


def test_an_epoch_has_every_utterance_once(world):
    loader = Loader(corpus(world), seed=1)
    for epoch in range(2):
        assert sorted(numbers_of(loader, epoch)) == list(range(21))
        assert loader.steps_per_epoch == 11
    orders = [numbers_of(loader, epoch) for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert orders == [numbers_of(Loader(corpus(world), seed=1), epoch) for epoch in (0, 1)]
    assert orders[0] != numbers_of(Loader(corpus(world), seed=2), 0)


def test_groups_are_of_one_bucket_and_fit_it(world):
    loader = Loader(corpus(world), seed=1)
    used = set()
    for step in range(loader.steps_per_epoch):
        _, shape, rows = loader.rows(step)
        used.add(shape.frames)
        assert len(rows) == 2
        assert all(loader.corpus.frames[n] <= shape.frames for n in loader.numbers(step))
    assert used == {36, 64}


def test_a_batch_says_what_the_manifest_says(world):
    loader = Loader(corpus(world, ctc="encoder"), seed=1)
    tokenizer = loader.corpus.extractor.texts.tokenizer
    for step in range(3):
        batch = loader.micro_batch(step, 0)
        total = 0
        for row, number in enumerate(loader.numbers(step)):
            utt = loader.corpus.utterances[number]
            mel = features(utt)
            assert batch["mel_len_B"][row] == len(mel)
            assert np.array_equal(batch["mel_BTF"][row, : len(mel)], mel)
            assert not batch["mel_BTF"][row, len(mel) :].any()
            labels = batch["labels_BL"][row]
            answer = labels[labels != IGNORE]
            assert answer[-1] == tokenizer.eos_id and tokenizer.decode(answer) == f"<asr>{utt.txt}"
            assert np.array_equal(answer, batch["token_ids_BL"][row][labels != IGNORE])
            ctc = batch["ctc_labels_BS"][row, : batch["ctc_len_B"][row]]
            assert list(ctc) == tokenizer.encode(utt.txt)
            speech = batch["speech_row_BL"][row]
            n = -(-len(mel) // 8)
            shape = loader.rows(step)[1]
            assert list(speech[speech >= 2]) == [2 + row * shape.speech + z for z in range(n)]
            total += len(answer)
        assert (batch["targets_B"] == total).all() and (batch["utterances_B"] == 2).all()


def test_ranks_and_micro_batches_share_the_group(world):
    big = [shape(8, 64, 24)]
    whole = Loader(corpus(world, shapes=big), 5)
    small = corpus(world, shapes=[shape(2, 64, 24)])
    parts = [Loader(small, 5, accumulation=2, rank=rank, ranks=2) for rank in (0, 1)]
    assert whole.keys(1) == parts[0].keys(1) == parts[1].keys(1)
    batch = whole.micro_batch(1, 0)
    shares = [parts[rank].micro_batch(1, micro) for micro in (0, 1) for rank in (0, 1)]
    for name, column in batch.items():
        if name not in ("speech_row_BL", "utterances_B", "targets_B"):  # slots are counted in the micro-batch
            assert np.array_equal(column, np.concatenate([share[name] for share in shares])), name
    for name, count in whole.counts(1).items():
        assert batch[name][0] == 4 * shares[0][name][0] == count


def write_lines(world, *lines):
    """The manifest of `world`: one line each of (recording or None, task, text, extra)."""
    texts = [
        json.dumps({"key": f"k{i}", "wav": wav, "task": task, "txt": txt, "extra": extra})
        for i, (wav, task, txt, extra) in enumerate(lines)
    ]
    (world / "words.jsonl").write_text("\n".join(texts) + "\n", "utf-8")


def test_lines_about_one_recording_share_its_features(tmp_path, monkeypatch):
    world = make_world(tmp_path, ["abc", "defgh"])
    tasks = {"<TRANSCRIBE>": "ab", "<AGE>": "<OLD>", "<GENDER>": "<MALE>", "<STYLE>": "<客服>"}
    write_lines(world, *[(f"{i}.wav", task, txt, {}) for task, txt in tasks.items() for i in (0, 1)])

    def counted(module, name):
        seen, real = [], getattr(module, name)
        monkeypatch.setattr(module, name, lambda utt, *a: (seen.append(recording_of(utt)), real(utt, *a))[1])
        return seen

    opened, computed = counted(corpus_module, "frames_of"), counted(batching, "features")
    loader = Loader(corpus(world, shapes=[shape(3, 64, 80)]), 1, cache=True)
    first = [loader.micro_batch(step, 0) for step in range(loader.steps_per_epoch)]
    assert len(opened) == len(set(opened)) == 2 and len(computed) == len(set(computed)) == 2
    assert len(loader.cache) == 2
    again = Loader(corpus(world, shapes=[shape(3, 64, 80)]), 1, cache=True)
    for step in reversed(range(loader.steps_per_epoch)):  # whoever comes first, all see the same numbers
        assert same(first[step], again.micro_batch(step, 0))


def test_the_scan_knows_the_length_with_every_request(tmp_path):
    world = make_world(tmp_path, ["abc", "defgh"])
    write_lines(
        world,
        ("0.wav", "<TRANSCRIBE>", "abc", {}),
        ("1.wav", "<TRANSCRIBE> <AGE>", "ab<ADULT>", {}),
        ("1.wav", "<S2TCHAT>", "fine", {}),
        ("1.wav", "<S2TCHAT>", "fine", {"question": "how"}),
        (None, "<INTENT_CLASSIFICATION>", "<asr>", {"intent": "write it"}),
        (None, "<TEXT2TEXT>", "Paris", {"question": "capital of France?"}),
    )
    for prompts in ("compact", "osum_pangu"):
        texts = Texts(open_tokenizer(world / "tokenizer.model"), load_template(prompts), "both")
        made = OsumExtractor(preset("tiny"), texts)
        scanned = Corpus([("w", world / "words.jsonl", 1.0)], made, [shape(2, 64, 900)])
        assert len(scanned.utterances) == 6
        for number, utt in enumerate(scanned.utterances):
            choice = scanned.choices[number]
            requests, tokens = scanned.requests.sets[choice], scanned.requests.tokens[choice]
            assert list(requests) == texts.requests(utt)
            n_speech = scanned.model.tokens(scanned.frames[number]) if utt.wav else None
            for request, added in [*zip(requests, tokens, strict=True)][:: max(1, len(requests) // 20)]:
                sequence = texts.sequence(utt, request, n_speech)
                assert len(sequence) == scanned.others[number] + added
                assert (sequence.labels_L[1:] != IGNORE).sum() == scanned.labels[number]


def test_the_scan_tokenizes_a_request_once(tmp_path, monkeypatch):
    world = make_world(tmp_path, random_words(40))
    seen = Counter()
    real = SentencePieceTokenizer.encode
    monkeypatch.setattr(
        SentencePieceTokenizer,
        "encode",
        lambda self, text, **how: (seen.update([text]), real(self, text, **how))[1],
    )
    scanned = corpus(world, shapes=[shape(2, 64, 200)], requests="both")
    requests = set(scanned.requests.sets[0])
    assert len(requests) > 100 and len(scanned.utterances) == 40
    assert sum(seen[text] for text in requests) < 3 * len(requests)  # its pool is drawn, its set is measured
    assert sum(seen.values()) < 3 * len(requests) + 5 * 40


def test_augmentation_is_seeded_and_masks_zeros(world):
    loader = Loader(corpus(world), 1, augment=Augment(SpecAugment(2, 5, 2, 10, subs=0)), cache=True)
    first, again = loader.micro_batch(0, 0), loader.micro_batch(0, 0)
    assert same(first, again)
    plain = Loader(corpus(world), 1, cache=True).micro_batch(0, 0)
    changed = first["mel_BTF"] != plain["mel_BTF"]
    assert changed.any() and (first["mel_BTF"][changed] == 0).all()


def test_weights_repeat_and_sample(world):
    twice = Loader(corpus(world, weight=2.0), 1)
    assert sorted(numbers_of(twice, 0)) == sorted(list(range(21)) * 2)
    part = Loader(corpus(world, weight=0.5), 1)
    drawn = [set(numbers_of(part, epoch)) for epoch in range(3)]
    assert all(len(d) == 10 for d in drawn) and drawn[0] != drawn[1]


def test_buckets_may_have_as_many_rows_as_hold_the_tokens(world):
    model = preset("tiny")
    shapes = bucket_shapes(model, 1, [36, 64], 24, max_tokens=120)
    assert [shape.size for shape in shapes] == [120 // 31, 120 // 34] == [3, 3]
    shapes = bucket_shapes(model, 1, [20, 36, 64], 24, max_tokens=64)  # (3 + 26, 5 + 26, 8 + 26 positions)
    assert [shape.size for shape in shapes] == [2, 2, 1] and bucket_shapes(model, 4, [64], 24)[0].size == 4
    parts = [Loader(corpus(world, shapes=shapes), 1, rank=rank, ranks=2) for rank in (0, 1)]
    assert sorted(numbers_of(parts[0], 0)) == list(range(21))
    sizes = set()
    for step in range(parts[0].steps_per_epoch):
        batches = [part.micro_batch(step, 0) for part in parts]
        assert sum((b["segments_BL"].max(1) > 0).sum() for b in batches) == len(parts[0].numbers(step))
        sizes |= {b["token_ids_BL"].shape for b in batches}
    assert sizes == {(2, 31), (1, 34)} and all(rows * length <= 64 for rows, length in sizes)


def test_the_report_says_how_full_batches_are(world):
    one = Loader(corpus(world, shapes=[shape(2, 64, 24)]), 1)
    text = one.report()
    batches = [one.micro_batch(s, 0) for s in range(one.steps_per_epoch)]
    used = sum((b["segments_BL"] > 0).sum() for b in batches) / sum(b["segments_BL"].size for b in batches)
    assert text.startswith(f"batches of 2 x 64 mel frames; {used:.1%} of positions and ")
    assert text.endswith("% of frames in use, 11 steps an epoch")


def test_what_does_not_fit_is_counted_and_named(world):
    kept = corpus(world, shapes=[shape(2, 40, 24)])
    assert len(kept.utterances) == sum(f <= 40 for f in corpus(world).frames) < 21
    assert "left out, longer than 0.4 s (first: " in kept.report[0] and "words.jsonl:" in kept.report[0]
    with pytest.raises(UserError, match="more than 5 text tokens.*nothing is left to train on"):
        corpus(world, shapes=[shape(2, 64, 5)])


def test_what_an_encoder_pads_is_judged_by_the_recording(tmp_path):
    world = make_world(tmp_path, ["a", *random_words(60)])  # "a" is 0.12 s
    timed = {"key": "t", "wav": "1.wav", "txt": "<0.00>a<9.00>", "task": "<TRANSCRIBE> <ALIGN>"}
    with open(world / "words.jsonl", "a") as file:
        file.write(json.dumps(timed))
    shapes, wave = [shape(2, 3000, 24)], WaveAugment(speeds=[0.9, 1.0])
    kept = corpus(world, shapes=shapes, pad_to_seconds=30.0, wave=wave)
    assert [u.key for u in kept.utterances] == [f"u{i}" for i in range(1, 61)]
    assert set(kept.frames) == {3000} and kept.report[0].startswith("words: 60 utterances, 0.01 h; ")
    assert "1 left out, shorter than 0.2 s" in kept.report[0]
    assert kept.errors.count == 1 and "'a' ends at 9.0 s, the recording at " in kept.errors.first
    loader = Loader(kept, 0, augment=Augment(SpecAugment(0, 1, 0, 1, 0, 1), wave))
    assert len(loader.example(0, 0)["mel_BTF"]) == 3000


def test_a_recording_beside_a_task_without_speech_is_left_out_and_counted(tmp_path):
    world = make_world(tmp_path, ["ab"])
    write_lines(
        world,
        ("0.wav", "<TEXT2TEXT>", "ab", {"question": "cd"}),
        ("0.wav", "<intent_classification>", "<asr>", {"intent": "cd"}),
        ("0.wav", "asr", "ab", {}),
    )
    kept = corpus(world)
    assert [utt.key for utt in kept.utterances] == ["k2"] and kept.errors.count == 2
    assert "words.jsonl:1: task <TEXT2TEXT> holds no speech" in kept.errors.first


def test_text_only_rows_lie_beside_spoken_ones(tmp_path):
    world = make_world(tmp_path, ["ab", "cd"])
    lines = (world / "words.jsonl").read_text().splitlines()
    text = {"key": "t", "txt": "<asr>", "task": "<INTENT_CLASSIFICATION>", "extra": {"intent": "abc"}}
    (world / "words.jsonl").write_text("\n".join([lines[0], json.dumps(text), lines[1]]), "utf-8")
    loader = Loader(corpus(world, shapes=[shape(3, 64, 80)]), 0)
    batch = loader.micro_batch(0, 0)
    for row, number in enumerate(loader.numbers(0)):
        speech = batch["speech_row_BL"][row]
        if number == 1:
            assert (speech == -1).all() and (batch["labels_BL"][row] != IGNORE).sum() > 1
        else:  # the row reads its own audio slot, whatever rows stand before it
            assert (speech[speech >= 2] - 2).min() == row * 8


def asked_by(loader, item: int) -> tuple[str, list[int]]:
    """What the user says in an item of epoch 0, and the item's targets."""
    example, texts = loader.example(0, item), loader.corpus.extractor.texts
    left = len(texts.tokenizer.encode(texts.template.texts["left"]["text"], bos=True))
    words = example["token_ids_BL"][left : np.flatnonzero(example["speech_row_BL"] >= 0)[0]]
    labels_L = example["labels_BL"]
    return texts.tokenizer.decode(words.tolist()).strip(), labels_L[labels_L != IGNORE].tolist()


def tokens_of(loader, text: str) -> list[int]:
    return loader.corpus.extractor.texts.tokenizer.encode(text)


@pytest.mark.parametrize("pack", [0, 160])
def test_of_another_requests_answer_only_the_content_is_learned(tmp_path, pack):
    make_world(tmp_path, words := random_words(40))
    tasks = ("<TRANSCRIBE>", ""), ("<TRANSCRIBE> <GENDER>", "<MALE>")
    lines = [(f"{i}.wav", tasks[i % 2][0], word + tasks[i % 2][1], {}) for i, word in enumerate(words)]
    write_lines(tmp_path, *lines)
    data = corpus(tmp_path, shapes=[shape(2, 36, 64), shape(2, 64, 64)])
    plain = Loader(data, seed=1, pack=pack)
    mixed = Loader(data, seed=1, pack=pack, other_requests=0.6)
    others, taken = 0, 0
    for item in range(40):
        (own, labels), (request, left) = asked_by(plain, item), asked_by(mixed, item)
        others += own != request
        taken += left != labels
        if left == labels:
            assert own == request
            continue
        tags = tokens_of(plain, own)
        assert labels[: len(tags)] == tags and left == labels[len(tags) :]
    # of 0.6 x 40; half of them meet a request of the other task, a pack has no room for the longer one
    assert 10 <= taken <= 32 and others >= 4
    for step in range(mixed.steps_per_epoch):
        mixed.micro_batch(step, 0)


def test_other_requests_leave_an_example_s_own_question_alone(tmp_path):
    make_world(tmp_path, ["abc", "de"])
    own = {"question": "ab"}
    write_lines(tmp_path, *[("0.wav", "<TRANSCRIBE>", "abc", own)] * 4, ("1.wav", "<TRANSCRIBE>", "de", {}))
    mixed = Loader(corpus(tmp_path), seed=1, other_requests=1.0)
    asked = [asked_by(mixed, item) for item in range(5)]
    numbers = mixed.plan(0).numbers_N.tolist()
    end, tags = [mixed.corpus.extractor.texts.tokenizer.eos_id], len(tokens_of(mixed, "<asr>"))
    kept = tokens_of(mixed, "<asr>abc") + end
    assert [asked[numbers.index(n)] for n in range(4)] == [("ab", kept)] * 4
    assert asked[numbers.index(4)][1] == tokens_of(mixed, "<asr>de")[tags:] + end


def test_other_requests_leave_texts_and_spoken_chat_alone(tmp_path):
    make_world(tmp_path, ["abc"])
    add_texts(tmp_path)
    write_lines(tmp_path, ("0.wav", "<S2TCHAT>", "abc", {}))
    sources = [(name, tmp_path / f"{name}.jsonl", 8.0) for name in ("words", "qa", "intent")]
    both = Corpus(sources, extractor(tmp_path), SHAPES)
    plain, mixed = Loader(both, seed=1), Loader(both, seed=1, other_requests=1.0)
    plan, changed, without = plain.plan(0), [], 0
    for item, number in enumerate(plan.numbers_N):
        utt, request = both.utterances[int(number)], plan.requests_N[item]
        without += both.requests.sets[both.choices[number]][request] is None
        if not np.array_equal(*(loader.example(0, item)["labels_BL"] for loader in (plain, mixed))):
            changed.append((utt.task, both.requests.sets[both.choices[number]][request]))
    assert set(changed) == {("<S2TCHAT>", "<chat>")} and len(changed) + without <= 8 and without > 0


def test_wrong_word_times_are_left_out_and_counted(tmp_path):
    world = make_world(tmp_path, ["ab", "cd"])
    path = world / "words.jsonl"
    wrong, right = map(json.loads, path.read_text("utf-8").splitlines())
    wrong["extra"], right["extra"] = {"words": [["ab", 0.1]]}, {"words": [["cd", 0.1, 0.3]]}
    path.write_text(json.dumps(wrong) + "\n" + json.dumps(right), "utf-8")
    kept = corpus(world, ctc="adapter")
    assert [utt.key for utt in kept.utterances] == [right["key"]]
    assert kept.errors.count == 1 and "words.jsonl:1: extra.words is no list of" in kept.errors.first
    assert IGNORE not in Loader(kept, 0).example(0, 0)["frames_BZ"]


def test_parts_of_a_recording(world):
    (utt, *_), whole = corpus(world).utterances, None
    whole = features(utt)
    part = Utterance(utt.key, utt.wav, utt.txt, utt.task, {}, 0.0, 0.2, utt.where)
    assert len(features(part)) == 20 < len(whole)
    beyond = Utterance(utt.key, utt.wav, utt.txt, utt.task, {}, 0.1, 99.0, utt.where)
    with pytest.raises(UserError, match="words.jsonl:1: start 0.1 and end 99.0 do not fit"):
        features(beyond)


@pytest.mark.parametrize("rate", [8000, 44100, 22050])
def test_frames_are_known_before_decoding_at_any_rate(world, tmp_path, rate):
    import soundfile

    rng = np.random.default_rng(rate)
    for samples in rng.integers(rate // 2, rate, 8):
        soundfile.write(tmp_path / "x.wav", rng.uniform(-0.5, 0.5, samples), rate)
        utt = Utterance("x", str(tmp_path / "x.wav"), "x", "<TRANSCRIBE>", {}, where="m:1")
        assert frames_of(utt) == len(features(utt))


def test_a_recording_longer_than_its_header_said_is_named(world):
    loader = Loader(corpus(world, shapes=[shape(2, 64, 24)]), 0)
    utt = loader.corpus.utterances[0]
    loader.corpus.shapes[:] = [shape(2, 20, 24)]
    with pytest.raises(UserError, match=f"words.jsonl:1: {utt.wav} has .* frames, its header said 20"):
        loader.mel(0)
