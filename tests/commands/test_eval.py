"""`osum eval` on answers that are there: what is written, counted, refused and judged."""

import json
import os
import sys

import pytest

from mindspore_osum.cli import main

ASR, SGC, SRWT, CHAT = "<TRANSCRIBE>", "<TRANSCRIBE> <GENDER>", "<TRANSCRIBE> <ALIGN>", "<S2TCHAT>"


def line(key, task, txt, **extra):
    return {"key": key, "wav": f"{key}.wav", "txt": txt, "task": task, "extra": extra}


def text(key, task, txt, **extra):
    return {"key": key, "wav": None, "txt": txt, "task": task, "extra": extra}


def said(key, raw, prompts="fixed", **more):
    return {
        "key": key,
        "prompts": prompts,
        "raw": raw,
        "seconds": 2.0,
        "compute_seconds": 0.5,
        "request": "?",
    } | more


@pytest.fixture
def evaluate(write_lines, tmp_path, capsys):
    """evaluate(manifest, answers, *arguments) -> (exit status, metrics or None, report, standard error)."""

    def run(manifest, answers, *arguments):
        out = tmp_path / "out"
        status = main(
            [
                "eval",
                "--manifest",
                str(write_lines("m.jsonl", manifest)),
                "--predictions",
                str(write_lines("p.jsonl", answers)),
                "--output",
                str(out),
                "--no-plots",
                *arguments,
            ]
        )
        metrics = (
            json.loads((out / "metrics.json").read_text("utf-8")) if (out / "metrics.json").exists() else None
        )
        report = (out / "report.md").read_text("utf-8") if metrics else ""
        return status, metrics, report, capsys.readouterr().err

    return run


MANIFEST = [
    line("a1", ASR, "turn on the light"),
    line("a2", ASR, "打开灯"),
    line("g1", SGC, "hello<MALE>"),
    line("g2", SGC, "hello<FEMALE>"),
    line("t1", SRWT, "<0.10>父<0.40> <0.40>母<0.80>"),
    line("c1", CHAT, "Paris", answers=["Paris", "City of Light"], transcript="capital of France?"),
    line("c2", CHAT, "Rome", transcript="capital of Italy?"),
]
FIXED = [
    said("a1", "<asr>turn on a light"),
    said("a2", "<asr>打开灯"),
    said("g1", "<asr><gender>hello<male>"),
    said("g2", "<asr><gender>hello<MALE>"),
    said("t1", "<asr><align><0.12>父<0.40> <0.40>母<0.86>"),
    said("c1", "<chat>The City of Light."),
    said("c2", "<chat>Milan"),
]
NATURAL = [
    said("a1", "<asr>turn on the light", "natural"),
    said("a2", "<asr>打开", "natural"),
    said("g1", "<asr>hello", "natural"),
    said("g2", "<asr><gender>hello<FEMALE>", "natural"),
    said("t1", "<asr><align><0.10>父<0.40> <0.40>母<0.80>", "natural"),
    said("c1", "<chat>Paris", "natural"),
    said("c2", "<chat>Rome", "natural"),
]


def test_every_task_is_measured(evaluate):
    status, metrics, report, _ = evaluate(MANIFEST, FIXED)
    fixed = metrics["fixed"]
    assert status == 0
    assert fixed["asr"]["wer"] == pytest.approx(1 / 7)
    assert fixed["sgc"]["accuracy"] == 1 / 2
    assert fixed["sgc"]["transcript"]["wer"] == 0
    assert fixed["srwt"]["aas_ms"] == pytest.approx((10 + 30) / 2)
    assert fixed["srwt"]["transcript"]["wer"] == fixed["srwt"]["transcript"]["cer"] == 0
    assert fixed["sttc"]["accuracy"] == 1 / 2
    assert metrics["speed"] == {"rtf": 0.25, "audio_seconds": 14, "compute_seconds": 3.5, "answers": 7}
    assert "ifr" not in metrics
    assert "natural" not in metrics
    assert "| asr | fixed | WER/CER | 14.29% |" in report
    assert "| srwt | fixed | AAS | 20.00 ms |" in report
    assert "None: every line" in report


def test_number_words_as_digits(evaluate):
    """Where asked for, in transcripts and replies, by task, set and pair; the report says so."""
    pytest.importorskip("cn2an", reason="needs cn2an (extra numbers)")
    manifest = [
        line("a1", ASR, "turn on twenty one lights", dataset="x"),
        line("a2", ASR, "打开二十一号灯"),
        line("c1", CHAT, "ninety nine"),
    ]
    answers = [
        said("a1", "<asr>turn on 21 lights"),
        said("a2", "<asr>打开21号灯"),
        said("c1", "<chat>It is 99."),
    ]
    answers += [answer | {"prompts": "natural"} for answer in answers]
    status, metrics, report, _ = evaluate(manifest, answers, "--prompts", "both")
    assert status == 0 and metrics["fixed"]["asr"]["wer"] > 0.4 and metrics["fixed"]["sttc"]["accuracy"] == 0
    assert metrics["run"]["numbers"] is False and "--numbers" not in report
    _, metrics, report, _ = evaluate(manifest, answers, "--prompts", "both", "--numbers")
    assert metrics["fixed"]["asr"]["wer"] == metrics["fixed"]["asr"]["cer"] == 0
    assert metrics["fixed"]["asr"]["keys"][ASR]["wer"] == metrics["sets"]["x"]["natural"]["asr"]["wer"] == 0
    assert metrics["difference"]["asr"]["fixed"] == 0 and metrics["fixed"]["sttc"]["accuracy"] == 1
    assert metrics["run"]["numbers"] is True and "(`--numbers`)" in report


def test_both_ways_of_asking_are_compared_in_pairs(evaluate):
    status, metrics, report, _ = evaluate(MANIFEST, FIXED + NATURAL, "--prompts", "both")
    assert status == 0
    difference = metrics["difference"]
    assert difference["asr"]["difference"] == pytest.approx(1 / 7 - 1 / 7)
    assert difference["sgc"] | {"interval": None} == {
        "metric": "accuracy",
        "fixed": 0.5,
        "natural": 0.5,
        "difference": 0,
        "interval": None,
        "pairs": 2,
    }
    assert difference["srwt"]["difference"] == pytest.approx(-20)
    assert difference["sttc"]["difference"] == pytest.approx(0.5)
    # g1 has no gender in it and begins with other tags
    assert metrics["ifr"]["rule"] == pytest.approx(6 / 7)
    by_task = metrics["ifr"]["by_task"]
    assert {name: some["rule"] for name, some in by_task.items()} == {
        "asr": 1,
        "sgc": 0.5,
        "srwt": 1,
        "sttc": 1,
    }
    assert by_task["sgc"]["items"] == 2 and by_task["sgc"]["rule_interval"] == [0, 1]
    assert metrics["ifr"]["faults"] == {"other tags": 1}
    assert "| srwt | AAS | 20.00 ms | 0.00 ms | -20.00 ms |" in report


def test_answers_to_several_things_at_once(evaluate):
    """Whole only with every label and nothing else; each label and the transcript count by themselves."""
    key = "<TRANSCRIBE> <AGE> <GENDER>"
    manifest = [*MANIFEST, *(line(f"m{i}", key, "hello there<ADULT><MALE>") for i in range(4))]
    tags = "<asr><age><gender>"
    raws = ["hello there<ADULT><MALE>", "hello<OLD><MALE>", "hello there<MALE>"]
    raws.append("hello there<ADULT><MALE><NEUTRAL>")
    answers = [said(f"m{i}", tags + raw) for i, raw in enumerate(raws)]
    _, metrics, report, _ = evaluate(manifest, FIXED + answers)
    assert metrics["combined"] == {
        "fixed": {key: {"utterances": 4, "whole": 0.5, "asr": 1 / 8, "sgc": 1, "sap": 0.5}}
    }
    shown = "| &lt;TRANSCRIBE> &lt;AGE> &lt;GENDER> | fixed | 4 | 50.00% | 12.50% | sgc 100.00%, sap 50.00% |"
    assert shown in report
    assert evaluate(MANIFEST, FIXED)[1]["combined"] == {}


def test_pairs_need_both_answers(evaluate):
    _, metrics, _, _ = evaluate(MANIFEST, FIXED + NATURAL[1:], "--prompts", "both")
    assert metrics["difference"]["asr"]["pairs"] == 1
    assert metrics["difference"]["asr"]["fixed"] == 0
    assert metrics["difference"]["asr"]["natural"] == pytest.approx(1 / 3)


def test_bad_input_is_counted_and_told(evaluate):
    manifest = [
        *MANIFEST[:3],
        MANIFEST[0],
        "{broken",
        line("x", "<DANCE>", "a"),
        line("e", ASR, "。"),
        line("r", SGC, "hello<ROBOT>"),
        line("lost", ASR, "hello"),
        line("s", CHAT, "a", scoring="odd"),
        text("i", "<TEXT2TEXT>", "Rome"),
    ]
    answers = [
        *FIXED[:3],
        FIXED[0] | {"raw": "<asr>other"},
        said("who", "x"),
        said("e", "<asr>um"),
        said("r", "<asr><gender>hello<MALE>", cut=True),
    ]
    status, metrics, report, _ = evaluate(manifest, answers)
    assert status == 1
    assert metrics["counts"] == {
        "utterances": 6,
        "malformed_lines": 1,
        "duplicate_keys": 1,
        "unusable_lines": 3,
        "without_request": 0,
        "empty_references": 1,
        "labels_outside_set": 1,
        "missing_predictions": 1,
        "duplicate_predictions": 1,
        "unknown_predictions": 1,
        "cut_answers": 1,
    }
    assert metrics["fixed"]["asr"]["utterances"] == 3
    assert metrics["fixed"]["asr"]["wer"] == pytest.approx(2 / 7)
    assert metrics["fixed"]["sgc"]["items"] == 1
    for words in (
        "m.jsonl:9: lost (fixed)",
        "'hello&lt;ROBOT>'",
        "key 'a1' is there twice",
        "who (fixed)",
        "task '&lt;DANCE>'",
        "extra.scoring 'odd'",
        "r (fixed)",
        "the user's words in extra.question",
    ):
        assert words in report, words
    assert "unusable_lines: 3" in report


def test_many_problems_are_all_kept(evaluate, tmp_path):
    manifest = [*MANIFEST, *(line(f"n{i}", ASR, "x") for i in range(30))]
    _, metrics, report, _ = evaluate(manifest, FIXED)
    assert metrics["counts"]["missing_predictions"] == 30
    assert "and 10 more, see problems.txt" in report
    assert (tmp_path / "out" / "problems.txt").read_text().count("missing_predictions: ") == 30


def test_order_and_limit(evaluate):
    _, first, _, _ = evaluate(MANIFEST, FIXED)
    _, second, _, _ = evaluate(MANIFEST[::-1], FIXED[::-1])
    assert second["fixed"] == first["fixed"]
    status, metrics, _, _ = evaluate(MANIFEST, FIXED, "--limit", "2")
    assert status == 0
    assert list(metrics["fixed"]) == ["asr"]
    assert metrics["counts"]["utterances"] == 2
    assert metrics["counts"]["unknown_predictions"] == 0


def test_sets_stand_beside_the_published_figures(evaluate):
    name = {"dataset": "librispeech", "split": "test-clean"}
    manifest = [
        line("a", ASR, "a b", **name),
        line("b", ASR, "打开", dataset="own"),
        line("c", SGC, "hi<MALE>"),
    ]
    answers = [said("a", "<asr>a c"), said("b", "<asr>打开"), said("c", "<asr><gender>hi<MALE>")]
    _, metrics, report, _ = evaluate(manifest, answers)
    assert metrics["sets"]["librispeech test-clean"]["fixed"]["asr"]["wer"] == 1 / 2
    assert metrics["sets"]["own"]["fixed"]["asr"]["wer"] == 0
    assert "| own | asr | fixed | WER/CER | 0.00% |" in report
    rows = [row for row in report.splitlines() if "OSUM-Pangu Table 1" in row]
    clean = next(row for row in rows if "test-clean" in row)
    assert clean == (
        "| asr | LibriSpeech test-clean | WER/CER, % | Qwen2-Audio 1.6, OSUM 2.19, OSUM-Pangu 3.51 "
        "(OSUM-Pangu Table 1) | 50.00 |  | no: only 1 of 2620 utterances |"
    )
    other = next(row for row in rows if "test-other" in row)
    assert other.endswith("| 25.00 |  | no: other test set |")
    assert any("Common Voice" in row and row.endswith("| 100.00 |  | no: other test set |") for row in rows)
    assert not any("VocalSound" in row for row in rows)  # events were not measured


def test_each_label_counts_for_its_own_task(evaluate):
    """Combined and label-only keys: by hand, 3 of 4 ages and 2 of 4 genders."""
    both, age, only = "<TRANSCRIBE> <AGE> <GENDER>", "<TRANSCRIBE> <AGE>", "<AGE> <GENDER>"
    manifest = [
        line("a", both, "hi<ADULT><MALE>", request="?"),
        line("b", both, "ho<OLD><FEMALE>", request="?"),
        line("c", age, "hey you<CHILD>", request="?"),
        line("d", only, "<OLD><MALE>", request="?"),
        line("e", "<GENDER>", "<MALE>", request="?"),
    ]
    answers = [
        said("a", "<asr><age><gender>hi<ADULT><FEMALE>", "natural"),
        said("b", "<asr><age><gender>hi<OLD><FEMALE>", "natural"),
        said("c", "<asr><age>hey you<ADULT>", "natural"),
        said("d", "<age><gender><OLD><MALE>", "natural"),
        said("e", "<gender>hi<FEMALE>", "natural"),
    ]
    status, metrics, report, _ = evaluate(manifest, answers, "--prompts", "natural")
    scores = metrics["natural"]
    assert status == 0 and list(scores) == ["sap", "sgc"]
    assert scores["sap"]["keys"] == {
        age: {"utterances": 1, "accuracy": 0},
        only: {"utterances": 1, "accuracy": 1},
        both: {"utterances": 2, "accuracy": 1},
    }
    assert scores["sgc"]["keys"] == {
        "<GENDER>": {"utterances": 1, "accuracy": 0},
        only: {"utterances": 1, "accuracy": 1},
        both: {"utterances": 2, "accuracy": 0.5},
    }
    assert (scores["sap"]["accuracy"], scores["sgc"]["accuracy"]) == (3 / 4, 2 / 4)
    assert scores["sap"]["transcript"]["wer"] == 1 / 4  # "hi" for "ho" among hi, ho, hey, you
    assert scores["sgc"]["transcript"]["wer"] == 1 / 2
    assert "| sgc | natural | &lt;AGE> &lt;GENDER> | 1 | accuracy | 100.00% |" in report
    assert metrics["ifr"]["faults"] == {"unasked transcript": 1}
    assert metrics["ifr"]["by_task"][both]["rule"] == metrics["ifr"]["by_task"]["sap"]["rule"] == 1
    assert metrics["ifr"]["by_task"]["<GENDER>"]["rule"] == 0


def test_a_transcript_before_a_spoken_reply(evaluate):
    task = "<TRANSCRIBE> <S2TCHAT>"
    manifest = [line("a", task, "capital of france<开始回答>paris", answers=["Paris"])]
    _, metrics, _, _ = evaluate(manifest, [said("a", "<asr><chat>capitol of france<开始回答>Paris it is")])
    assert metrics["fixed"]["sttc"]["accuracy"] == 1
    assert metrics["fixed"]["sttc"]["transcript"]["wer"] == pytest.approx(1 / 3)


def test_words_without_recordings(evaluate):
    """Intent by the exact tags, questions by containment; they are no requests about recordings."""
    manifest = [
        *MANIFEST[:1],
        text("i1", "<INTENT_CLASSIFICATION>", "<asr><age>", intent="how old is she"),
        text("i2", "<INTENT_CLASSIFICATION>", "<asr>", intent="write it down"),
        text("i3", "<INTENT_CLASSIFICATION>", "<asr><sing>", intent="sing along"),
        text("i4", "<INTENT_CLASSIFICATION>", "<asr>"),
        text("q1", "<TEXT2TEXT>", "Rome", question="capital of Italy?", answers=["Rome", "Roma"]),
        text("q2", "<TEXT2TEXT>", "Bern", question="capital of Switzerland?"),
        text("q3", "<TEXT2TEXT>", "Oslo"),
    ]
    answers = [
        FIXED[0],
        said("i1", "<asr> <AGE>"),
        said("i2", "<asr><age>"),
        said("i3", "<asr><sing>"),
        said("q1", "It is <b>roma</b>."),
        said("q2", "Zurich"),
    ]
    natural = [said("a1", "<asr>turn on the light", "natural")]
    status, metrics, report, _ = evaluate(manifest, answers + natural, "--prompts", "both")
    assert status == 1
    assert metrics["counts"]["unusable_lines"] == 2
    assert metrics["counts"]["labels_outside_set"] == 1
    assert metrics["counts"]["missing_predictions"] == 0
    scores = metrics["fixed"]["intent"]
    assert (scores["accuracy"], scores["items"], scores["references_outside_set"]) == (1 / 2, 2, 1)
    assert scores["recall"]["<asr><age>"]["recall"] == 1 and scores["recall"]["<asr>"]["recall"] == 0
    assert metrics["fixed"]["text2text"]["accuracy"] == 1 / 2
    assert list(metrics["natural"]) == ["asr"] and metrics["ifr"]["items"] == 1
    assert list(metrics["difference"]) == ["asr"]
    for words in ("words in extra.intent", "words in extra.question", "'&lt;asr>&lt;sing>' are not"):
        assert words in report, words


def test_translations_and_open_replies(evaluate):
    manifest = [
        line("a", CHAT, "今天天气很好", scoring="translation"),
        line("b", CHAT, "你好", scoring="judge"),
    ]
    _, metrics, _, _ = evaluate(manifest, [said("a", "<chat>今天天气很好"), said("b", "<chat>")])
    scores = metrics["fixed"]["sttc"]
    assert (scores["rouge_l"], scores["bleu"], scores["items"]) == (1, pytest.approx(1), 1)
    assert "accuracy" not in scores
    assert scores["empty_replies"] == 1


def test_events_without_words_need_no_transcript(evaluate):
    task = "<TRANSCRIBE> <CAPTION>"
    manifest = [
        line("a", task, "<LAUGH>", request="what happens?"),
        line("b", task, "ha<COUGH>", request="what?"),
    ]
    answers = [
        said("a", "<asr><caption><laughter>", "natural"),
        said("b", "<asr><caption>ha<COUGH>", "natural"),
    ]
    status, metrics, _, _ = evaluate(manifest, answers, "--prompts", "natural")
    assert status == 0
    assert metrics["natural"]["ved"]["accuracy"] == 1
    assert metrics["natural"]["ved"]["transcript"]["utterances"] == 1
    assert metrics["ifr"]["rule"] == 1


def test_a_judge_over_http(evaluate, chat_server, monkeypatch, tmp_path):
    def reply(prompt):
        if "Rate two answers" in prompt:
            return json.dumps({"answer_1": 9, "answer_2": 8 if "Answer 2: Paris" in prompt else 5})
        return json.dumps({"followed": "Response: <asr>hello\n" not in prompt and "<asr>打开" not in prompt})

    chat_server.reply = reply
    monkeypatch.setenv("OSUM_JUDGE_KEY", "sk-secret-of-mine")
    judge = ("--prompts", "natural", "--judge-url", chat_server.url, "--judge-model", "judge-1")
    status, metrics, report, _ = evaluate(MANIFEST, NATURAL, *judge)
    assert status == 0
    assert metrics["ifr"]["llm"] == pytest.approx(5 / 7)
    assert metrics["ifr"]["rule"] == pytest.approx(6 / 7)
    assert metrics["ifr"]["agreement"] == pytest.approx(6 / 7)
    assert metrics["natural"]["sttc"]["judge_score"] == pytest.approx(6.5)
    assert metrics["natural"]["sttc"]["judge_reference_score"] == 9
    assert "| judge-1 | 71.43% |" in report
    assert len(chat_server.requests) == 9
    assert any("Instruction: ?\n" not in p and "capital of Italy?" in p for p in chat_server.prompts())
    evaluate(MANIFEST, NATURAL, *judge)
    assert len(chat_server.requests) == 9
    for path in (tmp_path / "out").iterdir():
        assert "sk-secret" not in path.read_text("utf-8")


def test_missing_verdicts_forbid_a_rate(evaluate, chat_server):
    chat_server.reply = lambda p: (
        "well..." if "打开" in p or "Italy" in p else '{"followed": true, "answer_1": 9, "answer_2": 7}'
    )
    status, metrics, report, _ = evaluate(
        MANIFEST, NATURAL, "--prompts", "natural", "--judge-url", chat_server.url
    )
    assert status == 1
    assert metrics["ifr"]["llm"] is None
    assert metrics["ifr"]["missing_verdicts"] == 1
    assert metrics["natural"]["sttc"]["judge_score"] is None
    assert metrics["counts"]["missing_verdicts"] == 2
    assert "not reported: 1 verdicts are missing" in report


def test_replies_are_not_judged_without_their_question(evaluate, chat_server):
    manifest = [line("c", CHAT, "Rome")]
    status, metrics, report, _ = evaluate(manifest, [said("c", "<chat>Rome")], "--judge-url", chat_server.url)
    assert status == 1
    assert metrics["fixed"]["sttc"]["judge_score"] is None
    assert "extra.transcript" in report
    assert chat_server.requests == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "0"], "--limit 0: must be 1 or more"),
        (["--batch-size", "0"], "--batch-size 0"),
        (["--max-new-tokens", "-1"], "--max-new-tokens -1"),
        (["--judge-url", "nowhere"], "judge address 'nowhere'"),
        (["--requests", "none.yaml"], "none.yaml: cannot read"),
    ],
)
def test_impossible_arguments_are_one_line(evaluate, arguments, message):
    status, metrics, _, err = evaluate(MANIFEST, FIXED, *arguments)
    assert status == 1
    assert metrics is None
    assert message in err
    assert err.count("\n") == 1


def test_nothing_to_score_is_said(evaluate):
    status, metrics, _, err = evaluate(MANIFEST, [said("zz", "x")])
    assert (status, metrics) == (1, None)
    assert "nothing to score" in err
    assert evaluate([text("i", "<TEXT2TEXT>", "x")], FIXED)[0] == 1


def test_plots_are_drawn(write_lines, tmp_path, capsys):
    Image = pytest.importorskip("PIL.Image", reason="needs pillow (comes with matplotlib)")
    pytest.importorskip("matplotlib", reason="needs matplotlib (extra plots)")
    style = line("s1", "<TRANSCRIBE> <STYLE>", "你好<童话故事>")
    status = main(
        [
            "eval",
            "--manifest",
            str(write_lines("m.jsonl", [*MANIFEST, style])),
            "--predictions",
            str(write_lines("p.jsonl", [*FIXED, said("s1", "<asr><style>你好")])),
            "--output",
            str(tmp_path / "out"),
        ]
    )
    assert status == 0
    assert "missing from font" not in capsys.readouterr().err
    names = {p.name for p in (tmp_path / "out").glob("*.png")}
    assert names == {
        "fixed_asr_wer_by_duration.png",
        "fixed_sgc_gender_confusion.png",
        "fixed_sgc_wer_by_duration.png",
        "fixed_srwt_alignment_error.png",
        "fixed_ssr_style_confusion.png",
        "fixed_ssr_wer_by_duration.png",
    }
    report = (tmp_path / "out" / "report.md").read_text("utf-8")
    for name in names:
        with Image.open(tmp_path / "out" / name) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert len(picture.convert("L").getcolors(256) or range(257)) > 2, f"{name} is blank"
        assert f"({name})" in report


def test_without_matplotlib_nothing_begins(write_lines, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    arguments = [
        "eval",
        "--manifest",
        str(write_lines("m.jsonl", MANIFEST)),
        "--predictions",
        str(write_lines("p.jsonl", FIXED)),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 1
    assert "mindspore-osum[plots]" in capsys.readouterr().err
    assert not os.path.exists(tmp_path / "out")
    assert main([*arguments, "--no-plots"]) == 0
