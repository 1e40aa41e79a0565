"""`osum data intersect`: what two annotators agree on, with scikit-learn as reference of kappa."""

import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from mindspore_osum import cli
from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.tasks import LABEL_SETS
from tests.data.formats.tars import sample, sound, write_tar

SER = "<TRANSCRIBE> <EMOTION>"
EMOTIONS = LABEL_SETS["emotion"].values


def lines(labels, task=SER, text="hi "):
    return [
        {"key": f"u{n}", "wav": "a.wav", "txt": f"{text}{n}<{label}>", "task": task, "extra": {"n": n}}
        for n, label in enumerate(labels)
    ]


@pytest.fixture
def osum(tmp_path, capsys):
    """osum(first lines, second lines, *options) -> (status, stdout, stderr)."""
    (tmp_path / "a.wav").write_bytes(sound())

    def run(first, second, *options):
        for name, values in (("one", first), ("two", second)):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in values)
            (tmp_path / f"{name}.jsonl").write_text(text, "utf-8")
        paths = [str(tmp_path / f"{name}.jsonl") for name in ("one", "two")]
        status = cli.main(["data", "intersect", *paths, "--output", str(tmp_path / "o/out.jsonl"), *options])
        return (status, *capsys.readouterr())

    return run


def test_agreeing_lines_are_kept_and_counted(osum, tmp_path):
    rng = np.random.default_rng(0)
    one = rng.choice(EMOTIONS, 300)
    two = np.where(rng.random(300) < 0.6, one, rng.choice(EMOTIONS, 300))
    second = lines([str(label).lower() for label in two], text="<other words> ")
    order = rng.permutation(300)
    extra = [f"--{name}={tmp_path / name}" for name in ("rest", "report")]
    status, out, err = osum(lines(one), [second[n] for n in order if n % 10], *extra)
    assert status == 0, err
    compared = [n for n in range(300) if n % 10]
    equal = [n for n in compared if one[n] == two[n]]
    kept, problems = read_manifest(tmp_path / "o/out.jsonl")
    assert [utt.key for utt in kept] == [f"u{n}" for n in equal] and not problems
    assert kept[0].txt == f"hi {equal[0]}<{one[equal[0]]}>" and kept[0].extra == {"n": equal[0]}
    report = json.loads((tmp_path / "report").read_text())
    kappa = cohen_kappa_score(one[compared], two[compared])
    assert report["fields"]["emotion"]["kappa"] == pytest.approx(kappa, abs=1e-12)
    assert report["fields"]["emotion"]["agreement"] == pytest.approx(len(equal) / len(compared))
    assert (report["kept"], report["differ"]) == (len(equal), len(compared) - len(equal))
    assert (report["only in the first"], report["only in the second"]) == (30, 0)
    rest = [json.loads(line) for line in (tmp_path / "rest").read_text().splitlines()]
    assert [line["key"] for line in rest] == [f"u{n}" for n in compared if one[n] != two[n]]
    first = next(n for n in compared if one[n] != two[n])
    assert rest[0]["labels"] == {"emotion": [one[first], two[first]]}
    assert f"kappa {kappa:.3f}" in out and "30 only in the first" in out


def test_all_labels_that_both_have_must_agree(osum, tmp_path):
    both = "<TRANSCRIBE> <AGE> <GENDER>"
    first = lines(["OLD><MALE", "OLD><MALE", "ADULT><MALE"], both)
    second = lines(["OLD><FEMALE", "YOUTH><MALE", "MIDDLE_AGE><MALE"], both)
    assert osum(first, second)[0] == 0
    assert [utt.key for utt in read_manifest(tmp_path / "o/out.jsonl")[0]] == ["u2"]
    assert osum(first, lines(["FEMALE", "MALE", "FEMALE"], "<GENDER>", ""))[0] == 0  # only gender is compared
    assert [utt.key for utt in read_manifest(tmp_path / "o/out.jsonl")[0]] == ["u1"]


def test_shards_become_a_list_of_the_samples_that_agree(tmp_path, capsys):
    for name, keys in (("a", "pq"), ("b", "rs")):
        members = [m for key in keys for m in sample(key, f"{key}<SAD>", SER, {"k": key})]
        write_tar(tmp_path / f"{name}.tar", members)
    (tmp_path / "s.list").write_text("a.tar\nb.tar\n")
    other = [
        {"key": k, "wav": "x.wav", "txt": f"<{e}>", "task": "<EMOTION>"} for k, e in zip("pqrs", EMOTIONS)
    ]
    other[2]["txt"] = "<SAD>"
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(line) + "\n" for line in other))
    command = ["data", "intersect", str(tmp_path / "s.list"), str(tmp_path / "two.jsonl"), "--output"]
    assert cli.main([*command, str(tmp_path / "out/o.list")]) == 0
    found, problems = read_manifest(tmp_path / "out/o.list")
    assert [(u.key, u.txt, u.extra) for u in found] == [(k, f"{k}<SAD>", {"k": k}) for k in "pr"]
    assert all("only in the list" not in p for p in problems) and len(problems) == 2  # q and s, by rule
    capsys.readouterr()
    assert cli.main([*command, str(tmp_path / "out/o.jsonl")]) == 1
    assert "give --output a name that ends in .list" in capsys.readouterr().err
    assert not (tmp_path / "out/o.jsonl").exists()


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (lines(["SAD"]), lines(["HAPPY"]), "nothing to write"),
        (lines(["SAD"]), lines(["MALE"], "<GENDER>", ""), "no line in common with the same kind of label"),
        (lines(["SAD"]), lines(["BORED"]), "two.jsonl:1: no emotion in 'hi 0<BORED>'"),
        (lines(["SAD"]) * 2, lines(["SAD"]), "one.jsonl:2: key 'u0' is there twice"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_writes_nothing(osum, tmp_path, first, second, says):
    status, _, err = osum(first, second, "--rest", str(tmp_path / "o/rest.jsonl"))
    assert status == 1 and says in err and err.count("\n") == 1
    assert not [p for p in (tmp_path / "o").iterdir()]


def test_wrong_lines_can_be_left_out(osum):
    status, out, _ = osum(lines(["SAD", "BORED"]), lines(["SAD", "SAD"]), "--max-errors", "1")
    assert (
        status == 0 and "left out: " in out and "1 utterances with equal labels; 1 only in the second" in out
    )
