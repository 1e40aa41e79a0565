"""`osum analyze svd`: truncated embeddings against NumPy's, identity at full rank, scores, refusals."""

import json

import numpy as np
import pytest

pytest.importorskip("mindspore")

from mindspore_osum.cli import main  # noqa: E402
from mindspore_osum.data.formats.sources import read_manifest  # noqa: E402
from mindspore_osum.evaluation.spectrum import Spectrum, mean_spectrum, scores  # noqa: E402
from mindspore_osum.inference.engine import Engine  # noqa: E402
from mindspore_osum.inference.request import make_request  # noqa: E402
from mindspore_osum.inference.sampling import Sampling  # noqa: E402
from mindspore_osum.text.tokenizer import open_tokenizer  # noqa: E402
from tests.training.tones import make_world  # noqa: E402

ASKED = make_request("asr")
SAMPLING = Sampling(max_new_tokens=4)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model of random weights and four recordings, of which two are to be translated."""
    from dataclasses import replace

    from mindspore_osum.folder import save_folder
    from mindspore_osum.systems.registry import preset, system_of

    folder = make_world(tmp_path_factory.mktemp("world"), ["abcdefgh", "hgfedcba", "aabbccdd", "hhee"])
    lines = [json.loads(line) for line in (folder / "words.jsonl").read_text("utf-8").splitlines()]
    for line in lines[2:]:
        line["task"] = "<TRANSLATE>"
    (folder / "both.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    cfg = preset("tiny_aligner")
    pieces = open_tokenizer(folder / "tokenizer.model").vocab_size
    decoder = replace(cfg.decoder, vocab_size=pieces)
    cfg = replace(cfg, adapter=replace(cfg.adapter, dims=40), decoder=decoder)
    model = system_of("linear_aligner").build(cfg)
    system_of("linear_aligner").init_weights(model, 7)
    save_folder(folder / "model", model, folder / "tokenizer.model")
    return folder


@pytest.fixture(scope="module")
def spectrum(world):
    return Spectrum(world / "model")


@pytest.fixture(scope="module")
def utterances(world):
    return read_manifest(world / "both.jsonl")[0]


def test_truncated_embeddings_are_numpy_s(spectrum, utterances):
    z_ZD = spectrum.embeddings(utterances[0], ASKED)
    u_ZK, s_K, v_KD = np.linalg.svd(z_ZD, full_matrices=False)
    values_K, rows_KD = spectrum.directions(z_ZD)
    assert z_ZD.shape[1] == 40 and np.allclose(values_K, s_K)
    for top in (1, 3, len(s_K)):
        spectrum.keep(rows_KD[:top])
        want_ZD = (u_ZK[:, :top] * s_K[:top]) @ v_KD[:top]
        got_ZD = spectrum.embeddings(utterances[0], ASKED)
        assert np.abs(got_ZD - want_ZD).max() <= 1e-5 * np.abs(z_ZD).max()
    spectrum.keep(None)
    assert np.array_equal(spectrum.embeddings(utterances[0], ASKED), z_ZD)


def test_the_layer_at_full_rank_changes_nothing(spectrum, utterances):
    z_ZD = spectrum.embeddings(utterances[1], ASKED)
    _, rows_KD = spectrum.directions()
    assert len(rows_KD) == 33  # the encoder's width, and the bias
    spectrum.keep(rows_KD[:33])
    assert np.abs(spectrum.embeddings(utterances[1], ASKED) - z_ZD).max() <= 1e-5 * np.abs(z_ZD).max()
    spectrum.keep(rows_KD[:2])
    assert np.linalg.matrix_rank(spectrum.embeddings(utterances[1], ASKED), tol=1e-4) <= 2
    spectrum.keep(None)


def test_answers_and_no_graph_is_compiled_for_them(world, spectrum, utterances):
    engine = Engine(world / "model")
    list(spectrum.answers(utterances, [None], SAMPLING))
    compiled = spectrum.engine.generator.compiles
    said = list(spectrum.answers(utterances, [None, 500, 1], SAMPLING))
    assert spectrum.engine.generator.compiles == compiled
    plain = engine.answer([u.wav for u in utterances[:2]], requests=[ASKED] * 2, sampling=SAMPLING)
    assert [texts[0] for _, _, texts in said[:2]] == [response.text for response in plain]
    assert all(texts[0] == texts[1] for _, _, texts in said)  # more than there are: all
    assert any(texts[0] != texts[2] for _, _, texts in said)
    found = scores([None, 500, 1], said)
    assert found[0].wer == found[1].wer is not None and found[0].rouge_l == found[1].rouge_l is not None
    longest = max(len(values_K) for _, values_K, _ in said)
    assert len(mean_spectrum(said)) == longest


def test_the_verb(world, tmp_path, capsys):
    asked = ["analyze", "svd", str(world / "model"), "--manifest", str(world / "both.jsonl"), "--limit", "3"]
    more = ["--top", "8,2", "--max-new-tokens", "4", "--output", str(tmp_path / "svd")]
    assert main([*asked, *more, "--of", "layer"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["kept", "all", "8", "2"]
    about = json.loads((tmp_path / "svd" / "svd.json").read_text("utf-8"))
    assert [one["top"] for one in about["scores"]] == [None, 8, 2] and about["recordings"] == 3
    assert len(about["singular_values"]) == 33 and about["of"] == "layer"
    assert (tmp_path / "svd" / "svd.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"--top": "3,x"}, "--top '3,x': give numbers above 0"),
        ({"--manifest": "qa.jsonl"}, "no recording of the tasks <TRANSCRIBE>"),
        ({"--output": "model"}, "model: exists already"),
        ({"--output": "both.jsonl/new"}, "both.jsonl/new: cannot write in "),
        ({"model": "tiny"}, "osum has no single layer"),
    ],
)
def test_refusals(world, change, message, monkeypatch, capsys):
    from mindspore_osum.folder import BUNDLED

    monkeypatch.chdir(world)
    line = {"key": "q", "txt": "a", "task": "<TEXT2TEXT>", "extra": {"question": "b"}}
    (world / "qa.jsonl").write_text(json.dumps(line) + "\n")
    given = {"model": "model", "--manifest": "both.jsonl", "--output": "new", "--top": "3"} | change
    model = str(BUNDLED) if given.pop("model") == "tiny" else "model"
    assert main(["analyze", "svd", model, *(word for pair in given.items() for word in pair)]) == 1
    error = capsys.readouterr().err.splitlines()
    assert message in error[-1] and not (world / "new").exists()
