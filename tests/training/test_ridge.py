"""A linear aligner in closed form: the solution, words and their times, and the folder that it leaves."""

import json

import numpy as np
import pytest

from mindspore_osum.cli import main
from mindspore_osum.training.ridge import fitted, loud, ranks, shared_out, solved
from mindspore_osum.weights_io import open_weights
from tests.training.tones import LETTERS, TONE_SECONDS, make_world


@pytest.mark.parametrize("ridge", [0.3, 20.0])
def test_solution_is_that_of_least_squares_with_rows_for_the_ridge(ridge):
    rng = np.random.default_rng(0)
    x_NE, y_ND = rng.standard_normal((40, 7)) + 2, rng.standard_normal((40, 3)) - 1
    weight, bias = solved(x_NE, y_ND, ridge)
    rows_NE = np.concatenate((np.hstack((x_NE, np.ones((40, 1)))), np.zeros((7, 8))))
    rows_NE[40:, :7] = np.sqrt(ridge) * np.eye(7)
    want = np.linalg.lstsq(rows_NE, np.concatenate((y_ND, np.zeros((7, 3)))), rcond=None)[0]
    assert np.allclose(np.column_stack((weight, bias)), want.T)


def test_ranks():
    targets = np.array([[1.0, 0], [0, 2], [-1, 0]])
    assert ranks(np.array([[3.0, 1], [3, 1], [3, 1]]), targets, np.array([0, 1, 2])).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "text, want",
    [
        ("Ab, cdef!", [("Ab", 1.0, 2.0), ("cdef", 2.0, 4.0)]),
        ("我x你", [("我", 1.0, 2.0), ("x", 2.0, 3.0), ("你", 3.0, 4.0)]),
        ("it's -- so", [("it's", 1.0, 3.0), ("so", 3.0, 4.0)]),
        ("...", []),
    ],
)
def test_time_is_shared_out_by_letters(text, want):
    found = shared_out(text, 1.0, 4.0)
    assert [word for word, *_ in found] == [word for word, *_ in want]
    assert np.allclose([times for _, *times in found], [times for _, *times in want])


def test_silence_around_words_is_left_out():
    mel_TF = np.full((10, 3), -0.5)
    mel_TF[3:7, 1] = 1.2
    assert loud(mel_TF, 1.0) == (0.3, 0.7)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A linear aligner of random weights, and recordings of words of one tone each."""
    pytest.importorskip("mindspore")
    from dataclasses import replace

    from mindspore_osum.folder import save_folder
    from mindspore_osum.systems.registry import preset, system_of

    rng = np.random.default_rng(3)
    spoken = [" ".join(rng.permutation(list(LETTERS))[: 3 + i % 4]) for i in range(24)]
    folder = make_world(tmp_path_factory.mktemp("world"), [text.replace(" ", "") for text in spoken])
    lines = [json.loads(line) for line in (folder / "words.jsonl").read_text("utf-8").splitlines()]
    for name, timed in (("plain", False), ("timed", True)):
        for line, text in zip(lines, spoken, strict=True):
            line["txt"] = text
            places = enumerate(text.split())
            times = [(word, n * TONE_SECONDS, (n + 1) * TONE_SECONDS) for n, word in places]
            line["extra"] = {"words": times} if timed else {}
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    cfg = preset("tiny_aligner")
    cfg = replace(cfg, adapter=replace(cfg.adapter, dims=40))
    model = system_of("linear_aligner").build(cfg)
    system_of("linear_aligner").init_weights(model, 7)
    save_folder(folder / "parts", model, folder / "tokenizer.model")
    return folder


@pytest.mark.parametrize("name", ["plain", "timed"])
def test_words_are_found_again(parts, name, tmp_path, capsys):
    asked = ["fit-aligner", str(parts / "parts"), "--manifest", str(parts / f"{name}.jsonl"), "--ridge", "1"]
    assert main([*asked, "--output", str(tmp_path / "start")]) == 0
    out = capsys.readouterr().out
    assert f"of 24 recordings, {'24 with times' if name == 'timed' else 'words shared out'}" in out
    assert "the right one of 8 words is nearest for 100.0%" in out
    with open_weights(parts / "parts") as before, open_weights(tmp_path / "start") as after:
        assert before.infos == after.infos
        changed = [n for n in before.infos if before.raw(n).tobytes() != after.raw(n).tobytes()]
        assert sorted(changed) == ["adapter.proj.bias", "adapter.proj.weight"]
        assert after.infos["adapter.proj.bias"].shape == (40,)
    for file in ("config.json", "tokenizer.model"):
        assert (tmp_path / "start" / file).read_bytes() == (parts / "parts" / file).read_bytes()


def test_the_layer_is_that_of_the_encoder_s_frames(parts, tmp_path):
    """Recomputed one by one with the engine's own encoder output."""
    from mindspore_osum.data.formats.sources import read_manifest
    from mindspore_osum.folder import load_folder
    from mindspore_osum.text.tokenizer import open_tokenizer
    from mindspore_osum.training.ridge import Words, embeddings, encoded

    model = load_folder(parts / "parts")
    utterances, _ = read_manifest(parts / "timed.jsonl")
    together = {utt.key: x_UE for utt, _, x_UE in encoded(model, utterances)}
    (_, mel_TF, alone_UE), *_ = encoded(model, utterances[5:6])
    assert np.abs(together["u5"] - alone_UE).max() <= 1e-5 * np.abs(alone_UE).max()
    words = Words()
    words.add(utterances[5], mel_TF, alone_UE, 0.02)
    word, start, end = utterances[5].extra["words"][1]
    want_E = alone_UE[int(start / 0.02 + 1e-9) : int(np.ceil(end / 0.02 - 1e-9))].mean(0)
    assert np.allclose(words.frames[1], want_E) and list(words.vocabulary)[1] == word
    tokenizer = open_tokenizer(parts / "parts")
    table = model.decoder.model.embed_tokens.weight.asnumpy()
    (row_D,) = embeddings(model, tokenizer, ["cab"])
    assert np.allclose(row_D, table[tokenizer.encode(" cab")].mean(0))
    assert np.isfinite(fitted(words, embeddings(model, tokenizer, words.vocabulary), 1.0).weight).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": "tiny"}, "a osum model has no single layer"),
        ({"--ridge": "0"}, "ridge 0: must be above 0 and finite"),
        ({"--ridge": "inf"}, "ridge inf: must be above 0 and finite"),
        ({"--manifest": "late.jsonl"}, "late.jsonl:1: a word ends at 99 s, the recording at "),
        ({"--manifest": "qa.jsonl"}, "no recording of the task <TRANSCRIBE>"),
        ({"--output": "parts"}, "parts: exists already"),
        ({"--output": "plain.jsonl/new"}, "plain.jsonl/new: cannot write in "),
    ],
)
def test_refusals(parts, change, message, monkeypatch, capsys):
    monkeypatch.chdir(parts)
    (parts / "qa.jsonl").write_text(
        '{"key": "q", "txt": "a", "task": "<TEXT2TEXT>", "extra": {"question": "b"}}\n'
    )
    late = json.loads((parts / "timed.jsonl").read_text("utf-8").splitlines()[0])
    late["extra"]["words"][-1][2] = 99
    (parts / "late.jsonl").write_text(json.dumps(late) + "\n")
    given = {"model": "parts", "--manifest": "plain.jsonl", "--output": "new", "--ridge": "1"} | change
    if given["model"] == "tiny":
        from mindspore_osum.folder import BUNDLED

        given["model"] = str(BUNDLED)
    words = [given.pop("model"), *(word for pair in given.items() for word in pair)]
    assert main(["fit-aligner", *words]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (parts / "new").exists()
