"""scripts/equal.py finds what has changed between two recordings, and says where."""

import json

import numpy as np
import pytest

from tests.equal.checkout import CannotRecord
from tests.equal.recording import SUBJECTS, chosen, compare
from tests.equal.values import LEFT_OUT, flat, of_array, of_safetensors

LOSSES = [7.5, 7.25, 7.0]


def run_values(losses=LOSSES, words: str = "3 tensors copied", **more) -> dict:
    """A recorded subject with the things that recordings hold."""
    metrics = [{"step": i, "loss": loss, "seconds": i / 7} for i, loss in enumerate(losses)]
    weights = of_array(np.arange(12, dtype=np.float32).reshape(3, 4))
    nested = {"lora": {"metrics": metrics, "weights": weights, "prose": words} | more, "text": {"none": []}}
    return dict(flat(nested, LEFT_OUT["training"]))


@pytest.fixture
def compared(tmp_path, capsys):
    """compared(before, after, only=, but=): exit status and the lines that are printed."""

    def run(
        before: dict, after: dict, only: str = "training", but: set = frozenset()
    ) -> tuple[int, list[str]]:
        for name, values in (("before", before), ("after", after)):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "training.json").write_text(json.dumps(values), "utf-8")
        status = compare(tmp_path / "before", tmp_path / "after", chosen([only]), but)
        return status, capsys.readouterr().out.splitlines()

    return run


def test_the_same_is_equal(compared):
    status, lines = compared(run_values(), run_values())
    assert status == 0 and lines == [f"training: equal, {len(run_values())} values"]


def test_a_changed_bit_is_found_and_named(compared):
    last = float(np.nextafter(np.float32(7.0), np.float32(8)))
    status, lines = compared(run_values(), run_values([7.5, 7.25, last]))
    assert status == 1 and len(lines) == 1
    assert lines[0].startswith(
        f"training: lora/.../loss: 1 of 3 differ; lora/metrics/2/loss: 7.0 -> {last}; by"
    )


def test_an_array_that_differs_between_its_recorded_values_is_found(compared):
    array = np.zeros(1000, np.float32)
    array[1] = 1e-30
    before, after = (run_values(bias=of_array(a)) for a in (np.zeros(1000, np.float32), array))
    status, lines = compared(before, after)
    assert status == 1 and any("lora/bias/sha256" in line for line in lines)


def test_text_for_people_counts_by_its_numbers(compared):
    status, lines = compared(run_values(), run_values(words="copied: 3"))
    assert status == 0 and lines[0].endswith("1 texts have other words around the same numbers")
    assert compared(run_values(), run_values(words="4 tensors copied"))[0] == 1


def test_keys_of_one_side_alone_are_told(compared):
    status, lines = compared(run_values(before=1), run_values(after=1))
    assert status == 1
    assert lines == [
        "training: lora/before: gone in 1 places; lora/before: 1",
        "training: lora/after: new in 1 places; lora/after: 1",
    ]


def test_what_differs_on_purpose_does_not_count(compared):
    before, after = run_values(), run_values(about={"model_type": "osum"})
    assert compared(before, after)[0] == 1
    assert compared(before, after, but={"model_type"}) == (0, [f"training: equal, {len(before)} values"])


def test_parts_that_were_not_asked_for_or_not_recorded_do_not_count(compared):
    changed = run_values([1.0])
    assert compared(run_values(), changed, "training:text")[0] == 0
    status, lines = compared(run_values(), {"lora/skipped": "no tool", "text/none": []})
    assert status == 0 and lines[0] == "training: lora is left out, no tool"


def test_a_recording_without_the_subject_is_a_difference(compared, tmp_path):
    compared(run_values(), run_values())
    (tmp_path / "after" / "training.json").unlink()
    assert compare(tmp_path / "before", tmp_path / "after", {"training": set()}, set()) == 1


def test_subjects_are_chosen_by_name():
    assert chosen(None).keys() == SUBJECTS.keys() == LEFT_OUT.keys()
    assert chosen(["plan", "training:lora,text"]) == {"plan": set(), "training": {"lora", "text"}}
    with pytest.raises(CannotRecord, match="no such subject"):
        chosen(["trainig"])


def test_tensors_of_a_file_are_told_apart(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    found = []
    for value in (0.0, -0.0):
        tensors = {"a": np.full(3, value, np.float32), "b": np.arange(4, dtype=np.int32)}
        safetensors.save_file(tensors, tmp_path / "x.safetensors")
        found.append(of_safetensors(tmp_path / "x.safetensors"))
    assert found[0]["a"]["sha256"] != found[1]["a"]["sha256"] and found[0]["b"] == found[1]["b"]
    assert (found[0]["b"]["form"], found[0]["a"]["form"]) == ("I32 [4]", "F32 [3]")
