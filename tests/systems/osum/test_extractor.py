"""What an utterance is by column, and that rows of batches and packs hold what it is alone."""

import numpy as np

from mindspore_osum.data.batches.batching import packed_batch
from mindspore_osum.data.batches.corpus import Corpus
from mindspore_osum.data.batches.loader import Loader
from mindspore_osum.data.batches.packing import Room
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.systems.osum.extractor import needed_frames
from mindspore_osum.systems.osum.template import CONTENT, INTENT
from mindspore_osum.text.sequence import NOT_LEARNED
from tests.training.tones import LETTERS, extractor, make_world, shape


def test_ctc_labels_that_no_path_fits_are_left_out(tmp_path):
    assert needed_frames([1, 1, 2, 2, 2]) == 8 and needed_frames([]) == 0
    world = make_world(tmp_path, ["ab"])
    path = world / "words.jsonl"
    path.write_text(path.read_text().replace('"ab"', f'"{LETTERS}"'), "utf-8")
    sources, ids = [("words", path, 1.0)], extractor(world).texts.tokenizer.encode(LETTERS)
    for at, kept in (("encoder", True), ("adapter", False), ("", False)):
        loader = Loader(Corpus(sources, extractor(world, ctc=at), [shape(1, 64, 24)]), 0)
        example, batch = loader.example(0, 0), loader.micro_batch(0, 0)
        assert ("ctc_labels_BS" in example) == kept == bool(batch["ctc_len_B"][0])
        assert batch["ctc_labels_BS"][0, : len(ids)].tolist() == (ids if kept else [0] * len(ids))


def test_a_pack_holds_what_its_utterances_are_alone(tmp_path):
    """Ids, labels and positions are the same wherever a sequence lies; speech tokens are its own."""
    world = make_world(tmp_path, ["ab", "cdefg", "bcd"])
    made = extractor(world, ctc="adapter")
    texts = Utterance("t", None, "ab", "<TEXT2TEXT>", {"question": "cd"}, where="m:1")
    spoken = Corpus([("words", world / "words.jsonl", 1.0)], made, [shape(1, 64, 24)]).utterances
    utterances = [*spoken, texts]
    alone = [made.example(u, "<asr>", made.features(u) if u.wav else None) for u in utterances]
    tokens = [len(example["token_ids_BL"]) for example in alone]
    room = Room(max(tokens[0] + tokens[1], tokens[2] + tokens[3]) + 3, 1, 16, 3, 8)
    batch = packed_batch(made.columns, made.sizes, room, 24, [alone[:2], alone[2:]], [[0, 5], [2, -1]])
    for (row, item), n in {(0, 0): 0, (0, 1): 1, (1, 0): 2, (1, 1): 3}.items():
        mine = batch["segments_BL"][row] == item + 1
        assert mine.sum() == tokens[n]
        for name in ("token_ids_BL", "labels_BL", "positions_BL", "spans_BL"):
            assert np.array_equal(batch[name][row][mine], alone[n][name]), name
        rows, start = batch["speech_row_BL"][row][mine], (0, 5, 16 + 2, 0)[n]
        own = alone[n]["speech_row_BL"]
        assert np.array_equal(rows, np.where(own >= 2, own + start, own))
        place = row * room.items + item
        assert batch["ctc_len_B"][place] == len(alone[n].get("ctc_labels_BS", ()))
        assert np.array_equal(batch["classes_BC"][place], alone[n]["classes_BC"])
    assert not batch["segments_BL"][1, sum(tokens[2:]) :].any()


def test_without_the_intent_only_the_content_is_a_target(tmp_path):
    world = make_world(tmp_path, ["abc"])
    made = extractor(world)
    utt = Utterance("u", str(world / "0.wav"), "abc", "<TRANSCRIBE>", where="m:1")
    whole, content = (made.example(utt, "<asr>", made.features(utt), only) for only in (False, True))
    left = whole["labels_BL"] != content["labels_BL"]
    assert set(whole["spans_BL"][left]) == {INTENT} and set(content["spans_BL"]) == {NOT_LEARNED, CONTENT}
    same = set(whole) - {"labels_BL", "spans_BL"}
    assert all(np.array_equal(whole[name], content[name]) for name in same)
