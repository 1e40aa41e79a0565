"""`osum plan --serve` and `--annotate`: devices and hours of a load, against arithmetic by hand."""

import json

import pytest

from mindspore_osum.cli import main
from mindspore_osum.errors import UserError
from mindspore_osum.planning.hardware import DEVICES
from mindspore_osum.planning.load import BUSY, Batch, Load, labelling, measured, serving


def plan(capsys, *words) -> dict:
    assert main(["plan", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_hours_of_a_measured_factor(capsys):
    """1,000 h at 0.02 in three passes are 60 device hours."""
    found = plan(capsys, "--annotate", "1000", "--rtf", "0.02", "--devices", "8")
    assert found["passes"] == 3 and found["device_hours"] == pytest.approx(60) and found["hosts"] == 1
    assert found["hours"] == pytest.approx(7.5) and found["rtf"] == pytest.approx(0.06)
    found = plan(
        capsys, "--annotate", "1000", "--rtf", "0.02", "--tasks", "asr,gender,age", "--within", "1.9"
    )
    assert found["passes"] == 1 and found["devices"] == 11 and found["hosts"] == 2
    assert found["hours"] == pytest.approx(20 / 11) and found["tokens"] is None


def test_devices_of_a_measured_factor(capsys):
    """A batch of 8 recordings of 10 s at 0.02 takes 1.6 s: 5 a second, 3.5 if busy 70 % of the time."""
    found = plan(capsys, "--serve", "50", "--rtf", "0.02")
    assert found["devices"] == 15 and found["latency"] == pytest.approx(3.2)
    assert BUSY == 0.7 and any("70%" in line for line in found["assumptions"])
    assert plan(capsys, "--serve", "0.01", "--rtf", "0.02")["devices"] == 1


@pytest.mark.parametrize(
    ("report", "rtf"),
    [({"speed": {"rtf": 0.25, "answers": 3}}, 0.25), ({"figures": {"whisper_8_ours": 20.0}}, 0.05)],
)
def test_a_report_has_the_factor(capsys, tmp_path, report, rtf):
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report))
    found = plan(capsys, "--annotate", "10", "--tasks", "asr", "--rtf", str(file))
    assert found["rtf"] == pytest.approx(rtf) and str(file) in found["assumptions"][0]


def test_the_larger_batch_where_there_is_time_for_it():
    batches = [Batch(1, 1.0), Batch(2, 1.2), Batch(4, 3.0)]  # the last is slower a recording than the second
    assert serving(batches, Load(10, 5), 10, None)["devices"] == 9  # 10 / (0.7 * 2 / 1.2)
    tight = serving(batches, Load(10, 5), 10, 2.1)
    assert tight["devices"] == 15 and tight["batch"]["rows"] == 1 and tight["latency"] == 2.0
    with pytest.raises(UserError, match="--latency 1.9: a request can take 2.00 s"):
        serving(batches, Load(10, 5), 10, 1.9)
    assert labelling(batches, Load(10, 5), 1, 1, None)["batch"]["rows"] == 2
    assert measured(0.5, Load(4, None), 8) == [Batch(8, 16.0)]


def test_the_roofline_of_a_small_model(capsys):
    """Its time is that of the prompts and of as many steps as the longest answer has tokens."""
    words = ("--model", "tiny", "--device", "910B2", "--seconds", "3.7", "--answers", "5")
    found = plan(capsys, "--serve", "3", "--tokens", "7", *words)
    more = plan(capsys, "--serve", "3", "--tokens", "8", *words)
    assert [row["batch"]["rows"] for row in found["choices"]] == [1, 2, 4]  # never more than --answers
    for row, longer in zip(found["choices"], more["choices"], strict=True):
        batch, step = row["batch"], longer["batch"]["seconds"] - row["batch"]["seconds"]
        assert 0 < batch["least"] < batch["seconds"] and batch["memory"] < found["limit"]
        assert (
            7 * step < batch["seconds"] < 12 * step
        )  # small models are bound by launches, a prompt is some steps
        # by launches alone: 28 operators a layer and token at least, 20 us each
        assert step > DEVICES["910B2"].launch * 4 * 10
    assert any("nothing of it was measured" in line for line in found["assumptions"])
    assert any("7 tokens" in line and "assumption" not in line for line in found["assumptions"])


def test_the_text(capsys):
    assert main(["plan", "--annotate", "5", "--model", "tiny", "--within", "2", "--seconds", "4"]) == 0
    out = capsys.readouterr().out
    for shown in (
        "5 h of audio",
        "devices    1 (1 host)",
        "real-time factor",
        "20 tokens: 5 a second",
        "3 answers",
    ):
        assert shown in out
    assert main(["plan", "--serve", "2", "--rtf", "0.1", "--latency", "20", "--seconds", "5"]) == 0
    out = capsys.readouterr().out
    assert "devices    2 (1 host), batches of 8: answered within 8.00 s" in out and "assumed" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--latency 3", "--latency: goes with --serve"),
        ("--annotate 3 --latency 3", "--latency: goes with --serve"),
        ("--serve 3 --within 3", "--within: goes with --annotate"),
        ("--rtf 0.1", "--rtf: goes with --serve or --annotate"),
        ("--serve 1 --annotate 1 --rtf 1", "plan one load at a time"),
        ("--serve 0 --rtf 1", "--serve 0: must be a finite number above 0"),
        ("--annotate nan --rtf 1", "--annotate nan: must be a finite number above 0"),
        ("--annotate 1 --rtf 1 --within -2", "--within -2: must be a finite number above 0"),
        ("--annotate 1 --rtf 1 --within 2 --devices 3", "--devices: follow from the load"),
        ("--serve 1 --rtf 1 --devices 3", "--devices: follow from the load"),
        ("--annotate 1 --rtf 1 --seconds 31", "split at pauses into chunks of at most 30 s"),
        ("--annotate 1 --rtf 0", "--rtf 0: must be a finite number above 0"),
        ("--annotate 1 --rtf inf", "--rtf inf: must be a finite number above 0"),
        ("--annotate 1 --rtf gone.json", "gone.json"),
        ("--annotate 1 --rtf 1 --model tiny", "--model: an RTF is measured with it"),
        ("--annotate 1 --rtf 1 --tasks singing", "singing"),
        ("--annotate 1", "give --model NAME for the roofline"),
        ("--annotate 1 --model whisper_tiny", "Whisper"),
        ("--annotate 1 --model tiny --config job.yaml", "--config: plans a job"),
        ("--serve 1 --model whisper_tiny --tokens 300", "--tokens 300: this model writes at most 224"),
        ("--serve 1 --model osum_pangu_7b --dtype float32 --memory 20GB", "one recording needs"),
    ],
)
def test_refusals(capsys, words, said):
    assert main(["plan", *words.split()]) == 1
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1 and not captured.out


def test_a_report_without_the_factor(capsys, tmp_path):
    for content in (
        {},
        {"speed": {"rtf": None}},
        {"figures": {"whisper_8_ours": 0}},
        {"speed": 1, "figures": 2},
    ):
        (tmp_path / "a.json").write_text(json.dumps(content))
        assert main(["plan", "--annotate", "1", "--rtf", str(tmp_path / "a.json")]) == 1
        assert "has no real-time factor; give the metrics.json" in capsys.readouterr().err
