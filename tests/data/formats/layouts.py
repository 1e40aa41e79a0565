"""Miniature copies of the corpora's layouts, each with missing files and bad lines, and what they come to."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

from mindspore_osum.data.formats.sources import read_manifest

RATE = 16_000
SOUND = object()  # a file of 0.1 s


def lay_out(root: Path, files: dict) -> Path:
    """Write {path: text, bytes or SOUND} under root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is SOUND:
            soundfile.write(path, np.zeros(RATE // 10, np.float32), RATE)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")
    return root


def lines(out: Path, stem: str) -> dict[str, str]:
    """key -> txt of a manifest that the project's own reader accepts, with recordings that are there."""
    utterances, problems = read_manifest(out / f"{stem}.jsonl", strict=True)
    assert not problems
    assert all(Path(utt.wav).is_file() for utt in utterances)
    return {utt.key: utt.txt for utt in utterances}


def left_out(out: Path, stem: str) -> Counter:
    """Kind -> number in the list of problems."""
    path = out / f"{stem}.problems.txt"
    if not path.exists():
        return Counter()
    return Counter(line.split(": ")[0] for line in path.read_text(encoding="utf-8").splitlines())


LIBRISPEECH = {
    "LibriSpeech/SPEAKERS.TXT": ";ID  |SEX| SUBSET           |MINUTES| NAME\n"
    "61   | M | test-clean       | 8.0   | A B\n"
    "121  | F | test-clean       | 8.1   | |CBW|C\n",
    "LibriSpeech/test-clean/61/70968/61-70968.trans.txt": "61-70968-0000 HE BEGAN A CONFUSED COMPLAINT\n61-70968-0001\n61-70968-0002 GIVE NOT SO EARNEST\n",
    "LibriSpeech/test-clean/61/70968/61-70968-0000.flac": SOUND,
    "LibriSpeech/test-clean/61/70968/61-70968-0001.flac": SOUND,
    "LibriSpeech/test-clean/121/121726/121-121726.trans.txt": "121-121726-0000 ALSO A POPULAR CONTRIVANCE\n",
    "LibriSpeech/test-clean/121/121726/121-121726-0000.flac": SOUND,
    "LibriSpeech/test-clean/121/121726/121-121726-0009.flac": SOUND,
}
AISHELL1 = {
    "data_aishell/transcript/aishell_transcript_v0.8.txt": "BAC009S0002W0122 而 对 楼市\nBAC009S0724W0121 广州市 房地产\nBAC009S0724W0122 没有\n",
    "data_aishell/wav/train/S0002/BAC009S0002W0122.wav": SOUND,
    "data_aishell/wav/test/S0724/BAC009S0724W0121.wav": SOUND,
    "data_aishell/wav/test/S0724/BAC009S0724W0125.wav": SOUND,
    "resource_aishell/speaker.info": "0002 F\n0724 M\nbroken\n",
}
AISHELL2 = {
    "iOS/data/trans.txt": "IC0001W0001\t厨房用品\nIC0002W0001\t电视\n",
    "iOS/data/wav.scp": "IC0001W0001\twav/C0001/IC0001W0001.wav\n"
    "IC0002W0001\twav/C0002/IC0002W0001.wav\nbad\n",
    "iOS/data/spk_info.txt": "C0001\t23\t女\t北方\nC0002\t31\t男\t南方\n",
    "iOS/data/wav/C0001/IC0001W0001.wav": SOUND,
    "iOS/data/wav/C0002/IC0002W0001.wav": SOUND,
    "AISHELL-DEV-TEST-SET/Mic/test/trans.txt": "MT0011W0001\t换一首歌\nMT0011W0002\t没有\nMT0011W0003\t没有\n",
    "AISHELL-DEV-TEST-SET/Mic/test/wav.scp": "MT0011W0001\twav/T0011/MT0011W0001.wav\n"
    "MT0011W0002\twav/T0011/MT0011W0002.wav\n",
    "AISHELL-DEV-TEST-SET/Mic/test/wav/T0011/MT0011W0001.wav": SOUND,
}
KESPEECH = {
    "Tasks/ASR/test/text": "1000001_a <SPOKEN_NOISE>你好\n1000002_b 再见\n1000003_c 谢谢\n1000004_d 早\n",
    "Tasks/ASR/test/wav.scp": "".join(
        f"{key} Audio/{key[:7]}/phase1/{key}.wav\n"
        for key in ("1000001_a", "1000002_b", "1000003_c", "1000004_d")
    ),
    "Metadata/spk2gender": "1000001 Female\n1000002 Male\n1000003 Unknown\n",
    "Metadata/spk2age": "1000001 12\n1000002 59\n1000003 60\n1000004 unknown\n",
    **{
        f"Audio/{key[:7]}/phase1/{key}.wav": SOUND
        for key in ("1000001_a", "1000002_b", "1000003_c", "1000004_d")
    },
}
ESD = {
    "0001/0001.txt": "0001_000001\t打远一看，很是美丽。\t中立\n0001_000351\t打远一看\t生气\n",
    "0011/0011.txt": "0011_000001\tThe nine the eggs, I keep.\tNeutral\n0011_000701\tI did go.\tHappy\n"
    "0011_001051 no tabs Sad\n0011_001401\tNever.\tSurprise\n0011_001402\tCalm.\tCalm\n",
    "0001/Neutral/0001_000001.wav": SOUND,
    "0001/Angry/0001_000351.wav": SOUND,
    "0011/Neutral/evaluation/0011_000001.wav": SOUND,
    "0011/Happy/train/0011_000701.wav": SOUND,
    "0011/Surprise/0011_001402.wav": SOUND,
}
IEMOCAP = {
    "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
    "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\nC-E2:\tNeutral;\t()\n\n"
    "[10.0100 - 11.3925]\tSes01F_impro01_F001\texc\t[2.5000, 2.5000, 2.5000]\n"
    "[14.8872 - 18.0175]\tSes01F_impro01_F002\txxx\t[2.5000, 2.5000, 2.5000]\n"
    "[19.2900 - 20.7875]\tSes01F_impro01_M001\tang\t[2.0000, 2.5000, 2.5000]\n[21.3257 damaged\n",
    "Session1/dialog/transcriptions/Ses01F_impro01.txt": "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\nF: [BREATHING]\n"
    "Ses01F_impro01_F001 [010.0100-011.3925]: Yeah.\n"
    "Ses01F_impro01_F002 [014.8872-018.0175]: Is there?\n",
    **{
        f"Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_{turn}.wav": SOUND
        for turn in ("F000", "F001", "F002", "M001")
    },
}
OWN = {
    "train.tsv": "audio\ttext\tstyle\nwav/1.wav\t好\t客服\nwav/2.wav\t\t客服\nwav/3.wav\ta b\tloud\n",
    "test.csv": 'text,audio\n"well, well",wav/1.wav\n',
    **{f"wav/{n}.wav": SOUND for n in range(1, 4)},
}
SPEECHIO = {
    "SPEECHIO_ASR_ZH00001/metadata.tsv": 'ID\tAUDIO\tTEXT\nY1\twav/Y1.wav\t他说"好\nY2\twav/Y2.wav\nY3\twav/Y3.wav\t三\n',
    "SPEECHIO_ASR_ZH00001/wav/Y1.wav": SOUND,
    "SPEECHIO_ASR_ZH00001/wav/Y2.wav": SOUND,
}
COMMON_VOICE_HEADER = (
    "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tlocale\tsegment\n"
)
COMMON_VOICE = {
    "test.tsv": COMMON_VOICE_HEADER
    + 's1\tcommon_voice_en_1.mp3\tHe said "stay\t2\t0\tteens\tmale\t\ten\t\n'
    + "s2\tcommon_voice_en_2.mp3\tThird time lucky.\t2\t0\tseventies\tfemale_feminine\t\ten\t\n"
    + "s3\tcommon_voice_en_3.mp3\tBlue.\t2\t0\tfourties\tnon-binary\t\ten\t\n"
    + "s4\tcommon_voice_en_4.mp3\tRed.\t2\t0\t\t\t\ten\t\n",
    **{f"clips/common_voice_en_{n}.mp3": SOUND for n in range(1, 5)},
}
KAGGLE_HEADER = "filename,text,up_votes,down_votes,age,gender,accent,duration\n"
KAGGLE = {
    "cv-valid-test.csv": KAGGLE_HEADER
    + "cv-valid-test/sample-000000.mp3,without the dataset,1,0,,,,\n"
    + 'cv-valid-test/sample-000001.mp3,"well, well",1,0,twenties,male,us,\n'
    + "cv-valid-test/sample-000002.mp3,who is it,1,0,sixties,female,,\n"
    + "cv-valid-test/sample-000003.mp3,gone,1,0,sixties,female,,\n",
    "cv-valid-test/cv-valid-test/sample-000000.mp3": SOUND,
    "cv-valid-test/cv-valid-test/sample-000001.mp3": SOUND,
    "cv-valid-test/sample-000002.mp3": SOUND,
}
MELD = {
    "test_sent_emo.csv": "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"
    '1,"Oh my God, he’s lost it.",Phoebe,sadness,negative,0,0\n'
    "2,What?,Monica,surprise,negative,0,1\n"
    "3,Hey!,All,joy,positive,1,5\n4,a < b,All,joy,positive,1,6\n",
    "output_repeated_splits_test/dia0_utt0.wav": SOUND,
    "output_repeated_splits_test/dia0_utt1.mp4": b"film",
    "output_repeated_splits_test/dia1_utt5.wav": SOUND,
    "output_repeated_splits_test/dia1_utt6.wav": SOUND,
    "train_splits/dia0_utt1.wav": SOUND,  # another dialogue of the same number
}
MER2023 = {
    "test-labels/test1-label.csv": "name,discrete\nsample_1,happy\nsample_2,worried\nsample_3,angry\nsample_4,sad\n",
    "transcription-engchi-polish.csv": "name,english,chinese\nsample_1,hi,你好\nsample_2,no,不\nsample_3,go,走\n",
    "test1/sample_1.wav": SOUND,
    "test1/sample_2.wav": SOUND,
    "test1/sample_3.avi": b"film",
    "audio/sample_4.wav": SOUND,
}
ESC50 = {
    "meta/esc50.csv": "filename,fold,target,category,esc10,src_file,take\n"
    "1-100032-A-0.wav,1,0,dog,True,100032,A\n"
    "1-187207-A-20.wav,1,20,crying_baby,True,187207,A\n"
    "1-1-A-24.wav,1,24,coughing,False,1,A\n"
    "1-2-A-99.wav,1,99,spaceship,False,2,A\n",
    **{f"audio/{name}.wav": SOUND for name in ("1-100032-A-0", "1-187207-A-20", "1-1-A-24", "1-2-A-99")},
}
VOCALSOUND = {
    "datafiles/te.json": json.dumps(
        {
            "data": [
                {"wav": f"/data/sls/vs/audio_16k/f0003_0_{event}.wav", "labels": "/m/vs0"}
                for event in ("cough", "laughter", "sniff", "throatclearing", "sigh")
            ]
            + [{"labels": "/m/vs0"}]
        },
        indent=1,
    ),
    **{f"audio_16k/f0003_0_{event}.wav": SOUND for event in ("cough", "laughter", "sniff")},
    "audio_44k/f0003_0_throatclearing.wav": SOUND,
}
QUESTIONS = {
    "eval_datas/trivia_qa/trivia_qa.csv": "question,answer_normalized_value,answer_normalized_aliases,audio_filename\n"
    'Who wrote Hamlet?,shakespeare,"shakespeare,william shakespeare, bard",trivia_qa_0.mp3\n'
    "And this?,,,trivia_qa_1.mp3\n",
    "eval_datas/trivia_qa/audios/trivia_qa_0.mp3": SOUND,
    "eval_datas/trivia_qa/audios/trivia_qa_1.mp3": SOUND,
    "eval_datas/web_questions/web_questions.csv": "question,answers,audio_filename\nwhat do jamaicans speak?,Jamaican English; Patois,web_0.mp3\n",
    "eval_datas/web_questions/audios/web_0.mp3": SOUND,
    "eval_datas/llama_questions/llama_questions.csv": "Questions,Answer,audio_filename\nWhat is the capital of France?,Paris,llama_0.mp3\n",
    "eval_datas/llama_questions/audios/llama_0.mp3": SOUND,
}

# corpus, layout, manifest -> ({key: txt}, {kind of problem: number})
LAYOUTS = [
    (
        "librispeech",
        LIBRISPEECH,
        {
            "librispeech-test-clean-asr": (
                {
                    "61-70968-0000": "he began a confused complaint",
                    "121-121726-0000": "also a popular contrivance",
                },
                {"no transcript": 2, "no recording": 1},
            )
        },
    ),
    (
        "AISHELL-1",
        AISHELL1,
        {
            "aishell1-train-asr": ({"BAC009S0002W0122": "而对楼市"}, {"malformed": 1}),
            "aishell1-test-asr": (
                {"BAC009S0724W0121": "广州市房地产"},
                {"malformed": 1, "no recording": 1, "no transcript": 1},
            ),
            "aishell1-test-sgc": (
                {"BAC009S0724W0121": "广州市房地产<MALE>"},
                {"malformed": 1, "no recording": 1, "no transcript": 1},
            ),
        },
    ),
    (
        "aishell2",
        AISHELL2,
        {
            "aishell2-train-asr": ({"IC0001W0001": "厨房用品", "IC0002W0001": "电视"}, {"malformed": 1}),
            "aishell2-test-mic-asr": ({"MT0011W0001": "换一首歌"}, {"no recording": 2}),
        },
    ),
    (
        "kespeech",
        KESPEECH,
        {
            "kespeech-test-sgc": (
                {"1000001_a": "你好<FEMALE>", "1000002_b": "再见<MALE>"},
                {"gender 'Unknown' is outside the label set": 1, "no gender": 1},
            ),
            "kespeech-test-sap": (
                {"1000001_a": "你好<CHILD>", "1000002_b": "再见<ADULT>", "1000003_c": "谢谢<OLD>"},
                {"age 'unknown' is outside the label set": 1},
            ),
        },
    ),
    (
        "esd",
        ESD,
        {
            "esd-all-ser": (
                {
                    "0001_000001": "打远一看，很是美丽。<NEUTRAL>",
                    "0001_000351": "打远一看<ANGER>",
                    "0011_000001": "The nine the eggs, I keep.<NEUTRAL>",
                    "0011_000701": "I did go.<HAPPY>",
                },
                {"malformed": 1, "no recording": 1, "emotion 'Calm' is outside the label set": 1},
            )
        },
    ),
    (
        "iemocap",
        IEMOCAP,
        {
            "iemocap-Session1-ser": (
                {"Ses01F_impro01_F000": "Excuse me.<NEUTRAL>", "Ses01F_impro01_F001": "Yeah.<HAPPY>"},
                {"malformed": 1, "no transcript": 1, "emotion 'xxx' is outside the label set": 1},
            )
        },
    ),
    (
        "own",
        OWN,
        {
            "own-train-asr": ({"1": "好", "3": "a b"}, {"no transcript": 1}),
            "own-test-asr": ({"1": "well, well"}, {}),
        },
    ),
    (
        "speechio",
        SPEECHIO,
        {"speechio-SPEECHIO_ASR_ZH00001-asr": ({"Y1": '他说"好'}, {"malformed": 1, "no recording": 1})},
    ),
    (
        "commonvoice",
        COMMON_VOICE,
        {
            "commonvoice-test-sgc": (
                {
                    "common_voice_en_1": 'He said "stay<MALE>',
                    "common_voice_en_2": "Third time lucky.<FEMALE>",
                },
                {"gender 'non-binary' is outside the label set": 1, "no gender": 1},
            ),
            "commonvoice-test-sap": (
                {
                    "common_voice_en_1": 'He said "stay<ADULT>',
                    "common_voice_en_2": "Third time lucky.<OLD>",
                    "common_voice_en_3": "Blue.<ADULT>",
                },
                {"no age": 1},
            ),
        },
    ),
    (
        "commonvoice-kaggle",
        KAGGLE,
        {
            "commonvoice-kaggle-cv-valid-test-sgc": (
                {
                    "cv-valid-test-sample-000001": "well, well<MALE>",
                    "cv-valid-test-sample-000002": "who is it<FEMALE>",
                },
                {"no gender": 1, "no recording": 1},
            ),
            "commonvoice-kaggle-cv-valid-test-sap": (
                {
                    "cv-valid-test-sample-000001": "well, well<ADULT>",
                    "cv-valid-test-sample-000002": "who is it<OLD>",
                },
                {"no age": 1, "no recording": 1},
            ),
        },
    ),
    (
        "meld",
        MELD,
        {
            "meld-test-ser": (
                {"test-dia0_utt0": "Oh my God, he’s lost it.<SAD>", "test-dia1_utt5": "Hey!<HAPPY>"},
                {"only the film": 1, "malformed": 1},
            )
        },
    ),
    (
        "mer2023",
        MER2023,
        {
            "mer2023-test1-ser": (
                {"sample_1": "你好<HAPPY>"},
                {"emotion 'worried' is outside the label set": 1, "only the film": 1, "no transcript": 1},
            )
        },
    ),
    (
        "ESC-50",
        ESC50,
        {
            "esc50-all-ved": (
                {"1-100032-A-0": "<OTHER>", "1-187207-A-20": "<CRY>", "1-1-A-24": "<COUGH>"},
                {"event 'spaceship' is outside the label set": 1},
            )
        },
    ),
    (
        "vocalsound",
        VOCALSOUND,
        {
            "vocalsound-test-ved": (
                {
                    "f0003_0_cough": "<COUGH>",
                    "f0003_0_laughter": "<LAUGH>",
                    "f0003_0_throatclearing": "<THROAT CLEARING>",
                },
                {"event 'sniff' is outside the label set": 1, "no recording": 1, "malformed": 1},
            )
        },
    ),
    ("triviaqa", QUESTIONS, {"triviaqa-test-sttc": ({"trivia_qa_0": "shakespeare"}, {"no answer": 1})}),
    ("web questions", QUESTIONS, {"web-questions-test-sttc": ({"web_0": "Jamaican English"}, {})}),
    ("llama_questions", QUESTIONS, {"llama-questions-test-sttc": ({"llama_0": "Paris"}, {})}),
]
