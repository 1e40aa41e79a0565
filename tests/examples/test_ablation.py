"""examples/speech_world/ablation.py: its manifests and jobs, and the table it makes of results."""

import json

import ablation
import pytest
import run as road

from mindspore_osum.config import parse_overrides
from mindspore_osum.training.config import read_job
from tests.examples.test_run_all import options_of


@pytest.fixture
def corpus(tmp_path):
    """A folder as run.py leaves it, as far as the ablation reads it."""
    told = (
        ("a", "hi there<SAD>", "<TRANSCRIBE> <EMOTION>"),
        ("a", "hi there", "<TRANSCRIBE>"),
        ("b", "<OLD>", "<AGE>"),
        ("c", "好<THROAT CLEARING>", "<TRANSCRIBE> <CAPTION>"),
    )
    lines = [
        {"key": f"{name}_{i}", "wav": f"wav/{name}.wav", "txt": txt, "task": task}
        for i, (name, txt, task) in enumerate(told)
    ]
    folder = tmp_path / road.CORPUS
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return tmp_path


def test_variants_have_the_same_labels_with_and_without_the_transcript(corpus):
    ablation.write_variants(corpus)
    texts = [(corpus / f"ablation/{name}_train.jsonl").read_text("utf-8") for name in ("asr_x", "x_alone")]
    both, alone = ([json.loads(line) for line in text.splitlines()] for text in texts)
    assert [line["txt"] for line in both] == ["hi there<SAD>", "好<THROAT CLEARING>"]
    assert [(line["task"], line["txt"]) for line in alone] == [
        ("<EMOTION>", "<SAD>"),
        ("<CAPTION>", "<THROAT CLEARING>"),
    ]
    for a, b in zip(both, alone, strict=True):
        assert a["key"] == b["key"] and a["wav"] == b["wav"] == str(corpus / road.CORPUS / a["wav"][-9:])


def test_jobs_are_those_of_the_stages_but_for_start_length_and_data(corpus, monkeypatch):
    (corpus / road.MODEL).mkdir(parents=True)
    monkeypatch.chdir(corpus)
    plan = ablation.steps(corpus, 7)
    trainings = [options_of(step) for step in plan[::2]]
    jobs = [read_job(options.config[0], parse_overrides(options.overrides)) for options in trainings]
    assert [job.steps for job in jobs] == [7] * 4 and len({job.output_dir for job in jobs}) == 4
    assert [job.model.start.split("/")[1] for job in jobs] == [
        "tiny_stage2",
        "tiny_stage1",
        "tiny_warm_up",
        "tiny_warm_up",
    ]
    for step, job in zip(plan[1::2], jobs, strict=True):
        assert options_of(step).model == f"{job.output_dir}/model"


def finish(corpus) -> None:
    """Write what a finished ablation leaves."""
    tasks = {"asr": {"wer": 0.1}, "srwt": {"match_rate": 0.2}, "sttc": {"accuracy": 0.3}}
    tasks |= {task: {"accuracy": 0.5} for task in ablation.LABELLED}
    for name in ("with_stage2", "without_stage2", "asr_x", "x_alone"):
        folder = corpus / "ablation" / name / "eval"
        folder.mkdir(parents=True)
        found = {"fixed": tasks, "natural": tasks, "ifr": {"rule": 0.9}}
        (folder / "metrics.json").write_text(json.dumps(found), "utf-8")


def test_the_table_has_every_task(corpus):
    finish(corpus)
    lines = ablation.table(corpus).splitlines()
    assert "| asr, wer | 10.0 % | 10.0 % | 10.0 % | 10.0 % |" in lines
    assert "| requests followed | | 90.0 % | | 90.0 % |" in lines
    assert "| ser | 50.0 % | 50.0 % |" in lines and len(lines) == 2 + 9 + 1 + 2 + 5


def test_other_settings_are_refused_and_a_folder_without_a_note_goes_on(corpus, capsys):
    (corpus / road.MODEL).mkdir(parents=True)
    finish(corpus)
    for step in ablation.steps(corpus, 600):
        (corpus / step.result).parent.mkdir(exist_ok=True)
        (corpus / step.result).touch()
    asked = ["--output", str(corpus)]
    assert ablation.main(asked) == 0 and ablation.main([*asked, "--steps", "600"]) == 0
    capsys.readouterr()
    for other in (["--steps", "6"], ["--limit", "10"]):
        assert ablation.main([*asked, *other]) == 1
        out, err = capsys.readouterr()
        assert not out and err.count("\n") == 1 and f"delete {corpus / 'ablation'} to train anew" in err


def test_it_needs_a_finished_run(tmp_path, capsys):
    assert ablation.main(["--output", str(tmp_path)]) == 1
    assert "let run.py finish first" in capsys.readouterr().err
