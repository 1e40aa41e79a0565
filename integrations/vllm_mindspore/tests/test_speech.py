"""What hears: the exported weights in the plugin's cells against the original model; no vLLM is needed."""

import pytest
from original_model import close, heard, mel
from osum_vllm.speech import PARTS, Recordings, SpeechTower, positions_of

from mindspore_osum.folder import read_config
from mindspore_osum.parameters import fill
from mindspore_osum.weights_io import open_weights

LENGTHS = (1, 130, 333)


@pytest.fixture(scope="module")
def recordings(folder, exported):
    tower = SpeechTower(read_config(folder))
    with open_weights(exported) as weights:
        assert {n for n in weights.infos if n.startswith(PARTS)} == {
            n for n, _ in tower.parameters_and_names()
        }
        fill(dict(tower.parameters_and_names()), weights)
    return Recordings(tower)


def test_embeddings_are_those_of_the_original_model(folder, recordings):
    found = recordings([mel(frames) for frames in LENGTHS])
    for frames, rows in zip(LENGTHS, found):
        assert len(rows) == positions_of(recordings.tower.cfg, frames)
        close(rows.asnumpy(), heard(folder, mel(frames)))


def test_a_recording_beyond_the_model_is_refused(recordings):
    with pytest.raises(ValueError, match="the recording has 60.0 s, this model takes at most 60 s; split it"):
        recordings([mel(6001)])
