"""Columns of a made-up system, whose names nothing in data/ knows: padded, packed, and what does not fit."""

import numpy as np
import pytest

from mindspore_osum.data.batches.batching import Shape, packed_batch, padded_batch, step_columns
from mindspore_osum.data.batches.columns import BATCHED, EXTENT, OFFSET, PACKED, Axis, Column, stack
from mindspore_osum.data.batches.packing import Room
from mindspore_osum.errors import UserError

COLUMNS = (
    Column("pitch_BT", PACKED, "frames", dtype=np.float32),
    Column("vowel_BL", PACKED, "tokens", fill=-7),
    Column("heard_BL", OFFSET, "tokens", of="speech", base=10, fill=-1),
    Column("which_BL", OFFSET, "tokens", of="sequences", base=1),
    Column("pitch_len_B", EXTENT, "frames", fill=3),
    Column("mood_B", BATCHED, fill=9),
    Column("words_BS", BATCHED, shape=("text_tokens",), fill=-2),
    Column("face_B34", BATCHED, shape=("width", 4), dtype=np.float32),
)
SIZES = {"width": 3}


def spoken(first: int, count: int, frames: int) -> dict:
    """An utterance of `count` tokens, of which the second hears its first speech token."""
    heard_L = np.full(count, 2)
    heard_L[1] = 10
    return {
        "pitch_BT": np.arange(first, first + frames),
        "vowel_BL": np.arange(first, first + count),
        "heard_BL": heard_L,
        "which_BL": np.ones(count, int),
        "pitch_len_B": frames,
        "mood_B": first,
        "words_BS": np.arange(first, first + 2),
        "face_B34": np.full((1, 4), first),
    }


WRITTEN = {"vowel_BL": np.array([50, 51]), "which_BL": np.array([1, 0]), "heard_BL": np.array([0, 0])}


def test_a_padded_batch_has_a_row_for_each():
    shape = Shape(4, 16, 2, 3)  # 2 speech tokens, 7 positions
    batch = padded_batch(COLUMNS, SIZES, shape, [spoken(100, 4, 9), None, WRITTEN])
    assert list(batch) == [column.name for column in COLUMNS]
    assert all(batch[column.name].dtype == column.dtype for column in COLUMNS)
    assert batch["pitch_BT"].shape == (4, 16) and batch["pitch_BT"][0, :10].tolist() == [*range(100, 109), 0]
    assert not batch["pitch_BT"][1:].any() and batch["pitch_len_B"].tolist() == [9, 3, 3, 3]
    assert batch["vowel_BL"][:3].tolist() == [[100, 101, 102, 103] + [-7] * 3, [-7] * 7, [50, 51] + [-7] * 5]
    assert batch["heard_BL"][0].tolist() == [2, 10, 2, 2, -1, -1, -1]
    assert (
        batch["which_BL"][0].tolist() == [1] * 4 + [0] * 3 and batch["which_BL"][2].tolist() == [1] + [0] * 6
    )
    assert batch["mood_B"].tolist() == [100, 9, 9, 9]
    assert batch["words_BS"].tolist() == [[100, 101, -2], *[[-2] * 3] * 3]
    assert batch["face_B34"].shape == (4, 3, 4) and batch["face_B34"].sum() == 400
    later = padded_batch(COLUMNS, SIZES, shape, [None, None, None, spoken(7, 4, 9)])
    assert later["heard_BL"][3].tolist() == [2, 10 + 3 * 2, 2, 2, -1, -1, -1]


def test_a_pack_lays_them_end_to_end():
    room = Room(tokens=10, audio_rows=2, speech=3, items=3, frames_per_token=8)
    rows = [[spoken(100, 3, 5), WRITTEN], [], [spoken(200, 4, 8), spoken(300, 3, 24), WRITTEN]]
    batch = packed_batch(COLUMNS, SIZES, room, 3, rows, [[1, -1], [], [0, 3, -1]])
    assert batch["vowel_BL"].tolist() == [
        [100, 101, 102, 50, 51] + [-7] * 5,
        [-7] * 10,
        [200, 201, 202, 203, 300, 301, 302, 50, 51, -7],
    ]
    assert batch["which_BL"].tolist() == [
        [1, 1, 1, 2, 0] + [0] * 5,
        [0] * 10,
        [1, 1, 1, 1, 2, 2, 2, 3, 0, 0],
    ]
    # positions are counted over the speech of all packs: 2 x 3 tokens each
    assert batch["heard_BL"][0, 1] == 10 + 1
    assert batch["heard_BL"][2, [1, 5]].tolist() == [10 + 12, 10 + 12 + 3]
    assert batch["pitch_BT"].shape == (6, 24)
    extents = batch["pitch_len_B"].tolist()
    assert extents == [[8, 5], [0, 0], [0, 0], *[[0, 0]] * 3, [96, 8], [120, 24], [0, 0]]
    flat = batch["pitch_BT"].reshape(-1)
    assert flat[8:13].tolist() == [*range(100, 105)] and flat[120:144].tolist() == [*range(300, 324)]
    assert np.count_nonzero(flat) == 5 + 8 + 24
    assert batch["mood_B"].tolist() == [100, 9, 9, 9, 9, 9, 200, 300, 9]


@pytest.mark.parametrize(
    ("name", "shape", "free"),
    [("pitch_BT", 17, 16), ("vowel_BL", 8, 7), ("words_BS", 4, 3), ("face_B34", (5, 4), 3)],
)
def test_what_does_not_fit_is_named(name, shape, free):
    utterance = {**spoken(1, 2, 2), name: np.zeros(shape)}
    with pytest.raises(
        UserError, match=f"^{name}: [0-9]+ values of an utterance do not fit {free} positions$"
    ):
        padded_batch(COLUMNS, SIZES, Shape(1, 16, 2, 3), [utterance])


def test_an_utterance_does_not_run_into_the_next_row():
    axes = {"tokens": Axis(2, 4, [2])}
    with pytest.raises(UserError, match="^vowel_BL: 3 values of an utterance do not fit 2 positions$"):
        stack(COLUMNS[1:2], [{"vowel_BL": np.arange(3)}], axes, {}, packed=True)


def test_the_numbers_of_a_step_stand_in_every_row():
    columns = step_columns(3, 2**31 - 1, 4.5, 6.25)
    assert columns["draws_B"].tolist() == [2**31 - 1, 0, 1] and columns["draws_B"].dtype == np.int32
    assert columns["utterances_B"].tolist() == [4.5] * 3 and columns["targets_B"].tolist() == [6.25] * 3
