"""Static shapes hold what they are for, and no more than a model takes."""

import pytest

from mindspore_osum.models.buckets import SMALLEST_FRAMES, bucket, frame_bucket
from mindspore_osum.systems.osum.presets import PRESETS


@pytest.mark.parametrize("n", [1, 127, 128, 129, 1024, 1025, 2999])
def test_a_bucket_holds_its_length(n):
    assert n <= bucket(n, SMALLEST_FRAMES) < n + max(SMALLEST_FRAMES, n / 4 + 1)


@pytest.mark.parametrize("frames", [3000, 5700, 5999, 6000])
def test_frames_are_at_most_those_of_the_model(frames):
    """A minute has 3,000 positions in the encoder; its bucket, without the limit, would have 3,072."""
    model = next(iter(PRESETS.values()))
    assert model.most_frames == 6000
    assert frames <= frame_bucket(model, frames) <= model.most_frames
    assert frame_bucket(model, frames) == min(bucket(frames, SMALLEST_FRAMES), 6000)
