"""The published tables as data."""

import re

import pytest

from mindspore_osum.data.formats.importers.importing import CORPORA
from mindspore_osum.evaluation.published import by_table, figures, find_set, metrics, obstacle, published_sets
from mindspore_osum.tasks import TASKS


def value(task, set_, system, source, prompts=None):
    (found,) = [
        f.value
        for f in figures()
        if (f.task, f.set, f.system, f.source, f.prompts) == (task, set_, system, source, prompts)
    ]
    return found


def test_figures_of_each_table():
    assert value("asr", "wenetspeech_test_meeting", "OSUM-Pangu", "OSUM-Pangu Table 1") == 10.49
    assert value("sap", "common_voice", "Qwen2-Audio", "OSUM-Pangu Table 1") == 35.53
    assert value("ifr", "iis_test", "OSUM-Pangu", "OSUM-Pangu Table 2", "natural") == 90.2
    assert value("srwt", "pangu_align", "OSUM-Pangu", "OSUM-Pangu Table 3", "natural") == 17.52
    assert value("sttc", "web_questions", "GLM-4-Voice", "OSUM-Pangu Table 4") == 15.9
    assert value("asr", "librispeech_test_other", "SenseVoice-L", "OSUM Table 4") == 4.28
    assert value("srwt", "osum_srwt", "GMM-HMM", "OSUM Table 5") == 7.55
    aligner = [f for f in figures() if f.source.startswith("linear aligner ")]
    assert len(aligner) == 38
    swapped = "Yi-6B-Chat swapped in, data 2"
    assert value("sttc", "aligner_wmt19", swapped, "linear aligner Table 1") == 33.844
    assert value("asr", "aligner_aishell2", "Yi-6B, data 2, top 100", "linear aligner Table 2") == 11.7


def test_every_row_is_sound():
    assert len(figures()) == len(set(figures()))
    for f in figures():
        assert f.task in {*TASKS, "ifr"}
        assert f.metric in metrics()
        assert f.set in published_sets()
        assert f.prompts in (None, "fixed", "natural")
        assert re.fullmatch(r"(OSUM(-Pangu)?|linear aligner) (Table [1-5]|section 3\.3)", f.source)


def test_tables_that_print_the_same_agree():
    """OSUM-Pangu repeats some of OSUM: the same task, set, system and way of asking must have one value."""
    seen = {}
    for f in figures():
        if f.source != "OSUM-Pangu Table 3":
            seen.setdefault((f.task, f.set, f.metric, f.system), set()).add(f.value)
    assert all(len(values) == 1 for values in seen.values())


@pytest.mark.parametrize(
    ("paper", "file"),
    [("OSUM-Pangu ", "000_*.txt"), ("OSUM ", "003_*.txt"), ("linear aligner ", "004_*.txt")],
)
def test_every_value_stands_in_the_paper(shared, paper, file):
    (path,) = (shared / "papers").glob(file)
    numbers = {float(n) for n in re.findall(r"\d+(?:\.\d+)?", path.read_text("utf-8"))}
    values = {f.value for f in figures() if f.source.startswith(paper)}
    assert len(values) > 30 and not values - numbers


def test_no_set_has_the_name_of_another():
    names = [find_set(name) for s in published_sets().values() for name in s.names]
    assert len(names) == len(set(names))
    assert None not in names


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("librispeech test-clean", "librispeech_test_clean"),
        ("LibriSpeech_Test_Clean", "librispeech_test_clean"),
        ("wenetspeech TEST_NET", "wenetspeech_test_net"),
        ("aishell2 test-ios", "aishell2_ios"),
        ("commonvoice-kaggle cv-valid-test", "common_voice"),
        ("llama-questions test", "llama_questions"),
        ("librispeech", None),
        ("librispeech dev-clean", None),
        ("speech_world", None),
        ("", None),
    ],
)
def test_names_of_sets(name, found):
    assert find_set(name) == found


def test_importers_name_the_published_sets():
    """What `osum data import` writes into extra leads every public set to its figures."""
    names = [(corpus, split) for corpus in CORPORA.values() for split in corpus.splits]
    found = [find_set(f"{corpus.name} {split}") for corpus, split in names]
    public = {name for name, known in published_sets().items() if not known.private}
    assert {name for name in found if name} == public - {"asru_code_switching", "airbench_speech"}
    assert len([name for name in found if name]) == len(set(found) - {None})


def test_what_may_be_compared():
    clean = next(f for f in figures() if f.set == "librispeech_test_clean")
    assert obstacle(clean, True, 2620, False) == "yes"
    assert obstacle(clean, True, 2619, False) == "no: only 2619 of 2620 utterances"
    assert obstacle(clean, True, 2620, True).startswith("no: only")
    assert obstacle(clean, False, 2620, False) == "no: other test set"
    private = next(f for f in figures() if f.set == "iis_test")
    assert obstacle(private, False, 4000, False) == "no: other test set (theirs was not released)"
    unknown = next(f for f in figures() if f.set == "common_voice")
    assert obstacle(unknown, True, 7, False).startswith("yes, if")
    judged = next(f for f in figures() if f.metric == "judge_score")
    assert obstacle(judged, True, 200, False) == "no: another judge"


def test_systems_of_a_table_stand_together():
    words = {(f.set, f.source): text for f, text in by_table()}
    assert words["llama_questions", "OSUM-Pangu Table 4"] == (
        "ChatGPT-4o 71.7, GLM-4-Voice 50.7, DeepTalk 59.7, OSUM-EChat 55.3, OSUM-Pangu 44.6"
    )
