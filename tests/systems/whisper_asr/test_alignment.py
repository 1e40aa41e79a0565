"""Word times against openai-whisper's (golden/whisper_decoder), and the graph in batches of other lengths."""

import json

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import load_audio
from mindspore_osum.speech.features import log_mel
from mindspore_osum.systems.whisper_asr.warping import alignment_matrix, median_filter, warping_path


@pytest.fixture(scope="module")
def arrays(golden):
    with np.load(golden / "golden_wav4.npz") as npz:
        return dict(npz)


@pytest.fixture(scope="module")
def told(golden):
    return json.loads((golden / "config.json").read_text("utf-8"))["words"]["wav4"]


class Spelling:
    """A tokenizer that spells the golden words, each of which is one token."""

    def __init__(self, words):
        self.texts = {word["tokens"][0]: word["word"] for word in words}

    def decode(self, ids):
        return "".join(self.texts[i] for i in ids)

    def encode(self, text, plain):
        assert plain == [range(len(text))]  # special pieces in it are text
        ids, pieces = [], {piece: i for i, piece in self.texts.items()}
        while text:
            piece = max((piece for piece in pieces if text.startswith(piece)), key=len)
            ids, text = [*ids, pieces[piece]], text[len(piece) :]
        return ids


@pytest.fixture(scope="module")
def aligner(folder, told):
    pytest.importorskip("mindspore")
    from mindspore_osum.device import use_device
    from mindspore_osum.folder import load_folder
    from mindspore_osum.inference.generate import Generator
    from mindspore_osum.systems.whisper_asr.alignment import Aligner

    use_device("CPU")
    generator = Generator(load_folder(folder))
    return Aligner(generator.model, Spelling(told["words"]), generator.compute)


@pytest.fixture(scope="module")
def transcript(golden, aligner, told):
    from mindspore_osum.systems.whisper_asr.alignment import Transcript

    mel_TF = log_mel(load_audio(golden / "wav4.wav"), aligner.cfg.features)
    return Transcript(told["text_tokens"], mel_TF, told["num_frames"], "en", False)


def test_matrix_and_path(arrays):
    frames = arrays["alignment_matrix"].shape[1]
    matrix_LU = alignment_matrix(arrays["cross_qk_layer1"][:, :, :frames])[3:-1]
    assert np.abs(matrix_LU - arrays["alignment_matrix"]).max() < 1e-5
    for matrix in (matrix_LU, arrays["alignment_matrix"]):
        tokens_P, frames_P = warping_path(-matrix)
        assert np.array_equal(tokens_P, arrays["dtw_text_indices"])
        assert np.array_equal(frames_P, arrays["dtw_time_indices"])


def test_words(aligner, transcript, told, arrays, monkeypatch):
    """Words, times and probabilities of the golden data; the cross-attention that they come from."""
    seen = []
    monkeypatch.setattr(
        aligner, "compute", lambda *given, compute=aligner.compute: seen.append(compute(*given)) or seen[-1]
    )
    (found,) = aligner.align([transcript])
    assert [(word.text, word.tokens) for word in found] == [(w["word"], w["tokens"]) for w in told["words"]]
    for word, expected in zip(found, told["words"], strict=True):
        assert (word.start, word.end) == (expected["start"], expected["end"])
        assert word.probability == pytest.approx(expected["probability"], rel=1e-3)
    scores_AL, frames = seen[0][0][0], arrays["cross_qk_layer1"].shape[2]
    length = arrays["cross_qk_layer1"].shape[1]
    assert np.abs(scores_AL[:, :length, :frames] - arrays["cross_qk_layer1"]).max() < 1e-4
    p_ALU = np.exp(scores_AL[:, :length])
    p_ALU /= p_ALU.sum(-1, keepdims=True)
    assert np.abs(p_ALU[:, :, :frames] - arrays["cross_attention_layer1"]).max() < 1e-5


def test_an_english_model_aligns_no_other_language(aligner, transcript, monkeypatch):
    monkeypatch.setattr(type(aligner.cfg.vocabulary), "multilingual", False)
    with pytest.raises(UserError, match="language 'de': this Whisper knows English only"):
        aligner.transcript("ja", "de", transcript.mel_TF, 1.0)


def test_a_known_transcript(aligner, transcript, told):
    """Its tokens, words and times are those of an answer with the same text."""
    text = "".join(word["word"] for word in told["words"])
    seconds = told["num_frames"] * aligner.cfg.features.seconds(1)
    given = aligner.transcript(f" {text.strip()} ", "English", transcript.mel_TF, seconds)
    assert given.tokens == transcript.tokens and given[2:] == transcript[2:]
    (words,) = aligner.known_words([given])
    golden = [(w["word"].strip(), w["start"], w["end"]) for w in told["words"]]
    assert "".join(word.text for word in words) == "".join(text.split())
    assert {word.text.rstrip(".") for word in words} == {text.rstrip(".") for text, *_ in golden} - {""}
    starts = {text: start for text, start, _ in golden}
    assert all(word.start == pytest.approx(starts[word.text.rstrip(".")], abs=0.011) for word in words[2:])
    assert aligner.needs_language
    with pytest.raises(UserError, match="language 'klingon' is unknown"):
        aligner.transcript("x", "klingon", transcript.mel_TF, seconds)
    with pytest.raises(UserError, match="the model takes 448; split the recording"):
        aligner.transcript(" please" * 500, "en", transcript.mel_TF, seconds)


def test_batches(aligner, transcript, monkeypatch):
    """A window's words do not depend on the others of its batch, nor on rows; one graph for each shape."""
    import mindspore_osum.systems.whisper_asr.alignment as alignment

    few, none = transcript._replace(tokens=transcript.tokens[:4], frames=101), transcript._replace(tokens=[])
    expected = [aligner.align([one])[0] for one in (transcript, few, none)]
    assert expected[2] == [] and expected[1][-1].end <= 1.0
    generator = aligner.compute.__self__
    graphs = generator.compiles
    for limit in (alignment.LARGEST, 0):
        monkeypatch.setattr(alignment, "LARGEST", limit)
        together = aligner.align([transcript, none, few], rows=2)
        for ours, alone in zip(together, (expected[0], expected[2], expected[1]), strict=True):
            assert [(w.text, w.start, w.end) for w in ours] == [(w.text, w.start, w.end) for w in alone]
    assert generator.compiles == graphs + 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 1), (3, 3), (5, 40)])
def test_path_is_the_cheapest(shape):
    """Against all cells one by one."""
    for seed in range(20):
        cost_LU = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        path = np.stack(warping_path(cost_LU))
        total = np.full(shape, np.inf)
        for i, j in np.ndindex(shape):
            before = [total[i - a, j - b] for a, b in ((1, 1), (1, 0), (0, 1)) if i >= a and j >= b]
            total[i, j] = cost_LU[i, j] + min(before, default=0.0)
        assert cost_LU[path[0], path[1]].sum() == pytest.approx(total[-1, -1], abs=1e-4)
        assert set(map(tuple, np.diff(path).T)) <= {(1, 1), (1, 0), (0, 1)}
        assert tuple(path[:, 0]) == (0, 0) and tuple(path[:, -1]) == (shape[0] - 1, shape[1] - 1)


@pytest.mark.parametrize("frames", [1, 3, 4, 7, 50])
def test_median(frames):
    x = np.random.default_rng(frames).normal(size=(2, 3, frames)).astype(np.float32)
    if frames <= 3:
        assert median_filter(x) is x
        return
    padded = np.pad(x, ((0, 0), (0, 0), (3, 3)), mode="reflect")
    expected = [np.median(padded[..., n : n + 7], axis=-1) for n in range(frames)]
    assert np.array_equal(median_filter(x), np.stack(expected, -1))
