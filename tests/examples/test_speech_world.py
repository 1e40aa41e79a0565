"""The speech world: what is drawn, what is spoken, what is written, and its tokenizer."""

import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindspore_osum import tasks
from mindspore_osum.errors import UserError
from mindspore_osum.text.tokenizer import Tokenizer

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "speech_world"
sys.path.insert(0, str(FOLDER))

pytest.importorskip("pypinyin", reason="needs pypinyin (extra dev)")
import espeak  # noqa: E402
import generate  # noqa: E402
import grammar  # noqa: E402
import make_tokenizer  # noqa: E402
import voices  # noqa: E402

COUNTS = {"train": 24, "valid": 6, "test": 8}
def run(script: str, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, FOLDER / script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=FOLDER.parents[1])


def run_generate(output: Path, *more) -> subprocess.CompletedProcess:
    sizes = [item for split, count in COUNTS.items() for item in (f"--{split}", count)]
    return run("generate.py", "--output", output, *sizes, *more)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def plans() -> dict[str, list]:
    return {s: generate.plan(s, n, seed=1) for s, n in zip(grammar.SPLITS, (12000, 300, 600))}


@pytest.fixture(scope="module")
def installed() -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip(f"needs espeak-ng: {espeak.INSTALL}")


@pytest.fixture(scope="module")
def corpus(installed, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("world")
    done = run_generate(output, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="module")
def data(installed, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("espeak")
    espeak.link_data(espeak.installation()[1], folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory, plans) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    manifest, model = folder / "train.jsonl", folder / "tokenizer.model"
    manifest.write_text("".join(json.dumps({"txt": line.text}) + "\n" for line in plans["train"]))
    done = run("make_tokenizer.py", "--manifest", manifest, "--output", model)
    assert done.returncode == 0, done.stderr
    assert model.stat().st_size < 32 * 1024
    return Tokenizer(model)


# what is drawn


def test_splits_share_no_sentence_and_no_speaker(plans):
    texts = {split: {line.text for line in lines} for split, lines in plans.items()}
    speakers = {split: {line.voice.split("+")[1] for line in lines} for split, lines in plans.items()}
    for a, b in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not texts[a] & texts[b]
        assert not speakers[a] & speakers[b]
    for lines in plans.values():
        assert {(line.lang, line.gender) for line in lines} == {
            (lang, gender) for lang in ("en", "zh") for gender in ("MALE", "FEMALE")
        }
    assert len(texts["test"]) == 600 and len(texts["valid"]) == 300
    assert len(texts["train"]) > 5000


def test_unseen_sentences_are_made_of_words_seen_often(plans):
    seen = Counter(word for line in plans["train"] for word in grammar.words(line.text, line.lang))
    lines = plans["valid"] + plans["test"]
    unseen = {word for line in lines for word in grammar.words(line.text, line.lang)}
    assert min(seen[word] for word in unseen) >= 20
    assert set(seen) == set(grammar.vocabulary("en")) | set(grammar.vocabulary("zh"))
    assert 100 <= len(grammar.vocabulary("en")) <= 130
    assert 120 <= len(grammar.vocabulary("zh")) <= 160


def test_sentences_are_short_and_include_digit_strings(plans):
    for lang, limit in (("en", 7), ("zh", 9)):
        lines = [line for line in plans["train"] if line.lang == lang]
        assert max(len(grammar.words(line.text, lang)) for line in lines) <= limit
        digits = [line for line in lines if set(grammar.words(line.text, lang)) <= set(grammar.DIGITS[lang])]
        assert {len(grammar.words(line.text, lang)) for line in digits} == {3, 4, 5, 6}
        assert 0.15 < len(digits) / len(lines) < 0.25


def test_a_plan_depends_on_its_seed_alone_and_grows_at_its_end(plans):
    assert generate.plan("test", 50, seed=1) == plans["test"][:50]
    assert generate.plan("test", 50, seed=2) != plans["test"][:50]


def test_a_split_with_too_few_sentences_is_refused(monkeypatch):
    monkeypatch.setattr(grammar, "DIGIT_SHARE", 0)  # digit strings alone would give millions
    with pytest.raises(UserError, match="--valid 400: the grammar gives only about"):
        generate.plan("valid", 400, seed=1)


def test_voices_exist_once():
    names = " ".join(n for genders in voices.VARIANTS.values() for n in genders.values()).split()
    assert len(names) == len(set(names)) >= 30


# what is spoken


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("从银行到车站怎么走", "cong2 yin2 hang2 dao4 che1 zhan4 zen3 me5 zou3"),
        ("播放音乐", "bo1 fang4 yin1 yue4"),
        ("一点叫我睡觉", "yi1 dian3 jiao4 wo3 shui4 jiao4"),
        ("把厨房的空调打开", "ba3 chu2 fang2 de5 kong1 tiao2 da3 kai1"),
        ("三五一", "san1 wu3 yi1"),
    ],
)
def test_readings(text, reading):
    assert grammar.pinyin(text) == reading


def test_every_chinese_sentence_has_a_syllable_per_character():
    rng = random.Random(0)
    for _ in range(500):
        text = grammar.sentence("zh", rng)
        assert re.fullmatch(r"[a-z]+[1-5]( [a-z]+[1-5])*", grammar.pinyin(text)), text


def test_a_character_without_a_reading_is_refused():
    with pytest.raises(UserError, match="pinyin"):
        grammar.pinyin("你好ok")


@pytest.mark.usefixtures("installed")
def test_every_syllable_is_spoken_as_mandarin():
    for syllable in sorted({grammar.pinyin(char) for char in grammar.vocabulary("zh")}):
        command = ["espeak-ng", "-v", "cmn-latn-pinyin", "-q", "-x", syllable]
        phonemes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        tone = {"1": "55", "2": "35", "3": "214", "4": "51", "5": "11"}[syllable[-1]]
        assert re.fullmatch(rf"\D+{tone}[nN]?_\|", phonemes), f"{syllable} is spoken {phonemes}"


def pitch(wave: np.ndarray, at: int) -> float:
    """Fundamental frequency (Hz) of 50 ms at 22.05 kHz, by autocorrelation between 60 and 300 Hz."""
    part = wave[at : at + 1102].astype(float)
    correlation = np.correlate(part, part, "full")[len(part) - 1 :]
    return 22050 / (73 + np.argmax(correlation[73:367]))


@pytest.mark.parametrize("variant", ["f3", "m7"])
def test_tones_are_heard(data, variant):
    change = {}
    for tone in "124":
        wave, rate = espeak.speak(f"ma{tone}", f"cmn-latn-pinyin+{variant}", 130, 50, data)
        assert rate == 22050
        loud = np.flatnonzero(np.abs(wave.astype(int)) > 0.2 * np.abs(wave.astype(int)).max())
        last = loud[-1] - 1102
        early = loud[0] + (last - loud[0]) * 2 // 7  # after the consonant
        change[tone] = pitch(wave, last) / pitch(wave, early)
    assert change["2"] > 1.08  # rising
    assert 0.95 < change["1"] < 1.06  # level
    assert change["4"] < 0.85  # falling


@pytest.mark.parametrize("voice", ["en-us+f3", "en-gb-scotland+Mike", "cmn-latn-pinyin+belinda"])
def test_linked_data_changes_no_sample(voice, data):
    command = ["espeak-ng", "--stdout", "-v", voice, "-s150", "-p40", "ni3 hao3 five"]
    plain = subprocess.run(command, capture_output=True)
    wave, _ = espeak.speak("ni3 hao3 five", voice, 150, 40, data)
    assert wave.tobytes() == plain.stdout[espeak.HEADER_BYTES :]


def test_an_unknown_voice_is_an_error(data):
    with pytest.raises(UserError, match="espeak-ng failed.*no-such"):
        espeak.speak("five", "no-such", 150, 50, data)


def test_too_long_a_sentence_is_read_faster_or_refused(data):
    text = "turn on the kitchen light please " * 2
    line = generate.Line("train", 0, "en", text.strip(), "en-us+m1", "MALE", 130, 50)
    assert len(generate.say(line, 130, data)) > generate.LONGEST
    assert generate.SHORTEST <= len(generate.render(line, 1, data)) <= generate.LONGEST
    with pytest.raises(UserError, match="is longer than 3.2 s"):
        generate.render(generate.Line("train", 0, "en", text * 3, "en-us+m1", "MALE", 130, 50), 1, data)


# what is written


def test_manifests_and_audio(corpus):
    for split, count in COUNTS.items():
        text = (corpus / f"{split}.jsonl").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        files = [f"wav/{split}/{path.name}" for path in sorted((corpus / "wav" / split).iterdir())]
        assert len(lines) == len({line["key"] for line in lines}) == count
        assert [line["wav"] for line in lines] == files
        for line, planned in zip(lines, generate.plan(split, count, seed=1)):
            assert set(line) == {"key", "wav", "txt", "task", "extra"}
            assert (line["txt"], line["task"]) == (planned.text, "<TRANSCRIBE>")
            assert line["extra"]["dataset"] == "speech_world"
            assert line["extra"]["voice"] == planned.voice
            assert line["extra"]["gender"] in ("MALE", "FEMALE") and line["extra"]["lang"] in ("en", "zh")
            info = soundfile.info(corpus / line["wav"])
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert 1.0 <= info.duration <= 3.2
            assert line["extra"]["seconds"] == pytest.approx(info.duration, abs=1e-3)


def test_audio_is_speech_between_quiet_ends(corpus):
    for path in sorted((corpus / "wav").rglob("*.wav")):
        wave, _ = soundfile.read(path)
        peak, end = np.abs(wave).max(), 800  # 50 ms
        assert 0.1 < peak < 0.95
        assert max(wave[:end].std(), wave[-end:].std()) < 0.5 * wave.std()


def test_the_same_command_keeps_what_is_finished(corpus):
    before = digest(corpus)
    done = run_generate(corpus)
    assert done.returncode == 0 and done.stdout.count("complete and made by the same settings, kept") == 3
    assert digest(corpus) == before


def test_other_settings_are_not_mixed_in(corpus):
    before = digest(corpus)
    done = run_generate(corpus, "--seed", 2)
    assert done.returncode == 1 and "choose another --output" in done.stderr
    assert done.stderr.count("\n") == 1
    assert digest(corpus) == before


def test_one_job_makes_the_same_and_unfinished_parts_are_made_anew(corpus, tmp_path):
    leftover = tmp_path / "wav" / "valid.part" / "old.wav"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    done = run_generate(tmp_path, "--jobs", 1)
    assert done.returncode == 0 and "valid.part of an unfinished run" in done.stdout
    assert digest(tmp_path) == digest(corpus)

    (tmp_path / "wav" / "test" / "test_000003.wav").unlink()
    done = run_generate(tmp_path)
    assert done.returncode == 1 and "the finished test part has lost files" in done.stderr
    (tmp_path / "test.settings.json").unlink()
    assert run_generate(tmp_path).returncode == 0
    assert digest(tmp_path) == digest(corpus)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_reported(tmp_path, data):
    line = generate.plan("test", 1, seed=1)[0]
    (tmp_path / f"{line.key}.wav").symlink_to("/dev/full")
    with pytest.raises(UserError, match="is the disk full"):
        generate.make([line], tmp_path, 1, data)


def test_missing_espeak_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run_generate(tmp_path / "world")
    assert done.returncode == 1
    assert done.stderr == f"generate.py: espeak-ng is not installed; run `{espeak.INSTALL}`\n"


# the tokenizer


def test_reserved_ids_are_those_of_the_openpangu_kind(tokenizer):
    assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 4)
    ids = [tokenizer.encode(piece) for piece in make_tokenizer.RESERVED]
    assert ids == [[3], [4], [5], [6]]
    assert 600 <= tokenizer.vocab_size <= 1000


def test_model_settings_agree_with_the_golden_one(tokenizer, shared):
    from sentencepiece import sentencepiece_model_pb2 as proto

    ours, golden = proto.ModelProto(), proto.ModelProto()
    ours.ParseFromString(Path(tokenizer.path).read_bytes())
    golden.ParseFromString((shared / "golden" / "tokenizer.model").read_bytes())
    assert [(p.piece, p.type) for p in ours.pieces[:263]] == [(p.piece, p.type) for p in golden.pieces[:263]]
    for field in ("name", "add_dummy_prefix", "remove_extra_whitespaces", "escape_whitespaces"):
        assert getattr(ours.normalizer_spec, field) == getattr(golden.normalizer_spec, field), field
    for field in ("byte_fallback", "unk_id", "bos_id", "eos_id", "pad_id"):
        assert getattr(ours.trainer_spec, field) == getattr(golden.trainer_spec, field), field


def test_all_sentences_come_back_and_take_a_piece_per_word(tokenizer, plans):
    for line in {line.text: line for lines in plans.values() for line in lines}.values():
        for tags, extra in (("", line.lang == "zh"), ("<asr>", 2)):  # "▁" before Chinese; "▁" and the tag
            ids = tokenizer.encode(tags + line.text)
            assert tokenizer.decode(ids) == tags + line.text
            assert len(ids) == len(grammar.words(line.text, line.lang)) + extra


def test_tags_and_labels_are_one_piece(tokenizer):
    names = [f"<{tag}>" for tag in tasks.TAG_OF_KEY_PART.values()] + [tasks.ANSWER_MARK]
    names += [f"<{value}>" for labels in tasks.LABEL_SETS.values() for value in labels.values]
    names += ["<|im_start|>", "<|im_end|>"]
    assert len({tuple(tokenizer.encode("你" + name)[2:]) for name in names}) == len(set(names))
    for name in names:
        ids = tokenizer.encode("你" + name)
        assert len(ids) == 3 and tokenizer.decode(ids) == "你" + name, name


@pytest.mark.parametrize(
    "text",
    [
        "<asr><align><0.21>turn<0.47> <0.46>on<0.60>",
        "".join(map(chr, range(0x20, 0x7F))),
        "龘 🙂 ﬁ 2024\t\n",
        "  two  spaces  ",
        "sandwich Kitchen",
    ],
)
def test_any_text_comes_back(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_id not in ids


def test_digits_stay_single(tokenizer):
    assert len(tokenizer.encode("<0.21>")) == 1 + len("<0.21>")


@pytest.mark.parametrize("line", ["{", "[]", '{"text": "x"}', '{"txt": 3}'])
def test_a_bad_manifest_line_is_named(tmp_path, line):
    manifest = tmp_path / "bad.jsonl"
    manifest.write_text('{"txt": "five"}\n' + line + "\n")
    done = run("make_tokenizer.py", "--manifest", manifest, "--output", tmp_path / "t.model")
    assert done.returncode == 1 and f"{manifest}:2" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "t.model").exists()
