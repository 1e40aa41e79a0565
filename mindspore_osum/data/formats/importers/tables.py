"""Corpora described by a table with a header (csv or tsv): each row has a recording, its text and its labels.

SpeechIO, Common Voice (as published and as on Kaggle), MELD, MER2023, ESC-50, the spoken questions of
OpenAudioBench (LLaMA Questions, TriviaQA, Web Questions), and "own" for a table of your own recordings.

A template may use the row's columns, {split}, {folder} (of the split), {here} (the table's folder, relative
to ROOT) and, in keys, {stem} (name of the recording without suffix).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter

from mindspore_osum.data.formats.importers.corpus import Corpus, Place, Problem, Record, table_rows
from mindspore_osum.data.formats.importers.labels import FIELDS

OWN_NAMES = {"split", "folder", "here", "stem"}


@dataclass(frozen=True, kw_only=True)
class TableCorpus(Corpus):
    """A corpus of tables."""

    wavs: tuple[str, ...]  # templates of possible paths of the recording, relative to ROOT
    key: str = "{stem}"  # template
    text: str = ""  # column
    texts: tuple[str, str, str] | None = None  # or: table under ROOT, its key column, its text column
    labels: dict[str, str] = field(default_factory=dict)  # field -> column
    answers: dict[str, str] = field(default_factory=dict)  # column -> separator; "" for one answer
    folders: dict[str, str] = field(default_factory=dict)  # split -> {folder}

    def read(self, place: Place) -> Iterator[Record | Problem]:
        """See `Corpus.read`."""
        labels = {name: column for name, column in self.labels.items() if name in place.wanted}
        texts = {}
        if self.texts and "text" in place.wanted:
            texts = yield from self._texts(place)
        own = {
            "split": place.split,
            "folder": self.folders.get(place.split, ""),
            "here": os.path.relpath(place.path.parent, place.root),
        }
        for item in table_rows(place.path, self._columns(labels)):
            if isinstance(item, Problem):
                yield item
                continue
            where, row = item
            values = row | own
            wavs = tuple(Path(os.path.normpath(place.root / t.format_map(values))) for t in self.wavs)
            key = self.key.format_map(values | {"stem": wavs[0].stem})
            yield Record(
                key,
                wavs,
                where,
                row[self.text] if self.text else texts.get(key, ""),
                {name: row[column] for name, column in labels.items()},
                self._answers(row),
            )

    def _columns(self, labels: dict[str, str]) -> set[str]:
        templates = [*self.wavs, self.key]
        names = {name for t in templates for _, name, _, _ in Formatter().parse(t) if name}
        return (names - OWN_NAMES) | {*labels.values(), *self.answers} | ({self.text} if self.text else set())

    def _answers(self, row: dict[str, str]) -> tuple[str, ...]:
        parts = [
            p.strip()
            for column, separator in self.answers.items()
            for p in (row[column].split(separator) if separator else [row[column]])
        ]
        return tuple(dict.fromkeys(p for p in parts if p))

    def _texts(self, place: Place):
        """Generator of problems; its value is key -> text."""
        path, key, text = self.texts
        found = {}
        for item in table_rows(place.root / path, {key, text}):
            if isinstance(item, Problem):
                yield item
            else:
                found[item[1][key]] = item[1][text]
        return found


def _questions(name: str, folder: str, text: str, answers: dict[str, str]) -> TableCorpus:
    """A set of OpenAudioBench; the sets differ in their columns."""
    table = f"{folder}/{folder}.csv"
    return TableCorpus(
        name=name,
        tasks=("sttc",),
        offers=("text", "answers"),
        needs=f"eval_datas/{table} and eval_datas/{folder}/audios/, as in OpenAudioBench",
        source="baichuan-inc/OpenAudioBench file list; columns as espnet and two evaluations read them",
        splits={"test": (f"eval_datas/{table}", table, f"{folder}.csv")},
        wavs=("{here}/audios/{audio_filename}",),
        text=text,
        answers=answers,
    )


_COMMON_VOICE = {"gender": "gender", "age": "age"}

TABLES = (
    TableCorpus(
        name="own",
        tasks=("asr",),
        offers=("text", *FIELDS),
        needs="<split>.tsv or .csv for train, valid, test: columns audio (a path from the table), text, and "
        f"of {', '.join(FIELDS)} those that --task asks for",
        source="this project: docs/TUTORIAL.md",
        splits={s: (f"{s}.tsv", f"{s}.csv") for s in ("train", "valid", "test")},
        wavs=("{here}/{audio}",),
        text="text",
        labels={field: field for field in FIELDS},
    ),
    TableCorpus(
        name="speechio",
        tasks=("asr",),
        offers=("text",),
        needs="SPEECHIO_ASR_ZH000<00-26>/metadata.tsv (ID, AUDIO, TEXT) and the recordings it names",
        source="lhotse recipes/speechio.py, speechio/speechio README",
        splits={f"SPEECHIO_ASR_ZH{n:05d}": (f"SPEECHIO_ASR_ZH{n:05d}/metadata.tsv",) for n in range(27)},
        wavs=("{here}/{AUDIO}",),
        key="{ID}",
        text="TEXT",
    ),
    TableCorpus(
        name="commonvoice",
        tasks=("sgc", "sap"),
        offers=("text", "gender", "age"),
        needs="<split>.tsv and clips/ of one language",
        source="lhotse recipes/commonvoice.py; spellings of gender and age from published lists",
        splits={s: (f"{s}.tsv",) for s in ("train", "dev", "test", "validated", "other", "invalidated")},
        wavs=("{here}/clips/{path}",),
        text="sentence",
        labels=_COMMON_VOICE,
    ),
    TableCorpus(
        name="commonvoice-kaggle",
        tasks=("sgc", "sap"),
        offers=("text", "gender", "age"),
        needs="<split>.csv and <split>/[<split>/]*.mp3, as in Kaggle's Common Voice of 2017",
        source="header and file names as several public scripts read them",
        splits={
            f"cv-{s}": (f"cv-{s}.csv",)
            for s in (
                "valid-train",
                "valid-dev",
                "valid-test",
                "other-train",
                "other-dev",
                "other-test",
                "invalid",
            )
        },
        wavs=("{here}/{filename}", "{here}/{split}/{filename}"),
        key="{split}-{stem}",
        text="text",
        labels=_COMMON_VOICE,
    ),
    TableCorpus(
        name="meld",
        tasks=("ser",),
        offers=("text", "emotion"),
        needs="<split>_sent_emo.csv, and the sound of the films as dia<N>_utt<M>.wav in train_splits, "
        "dev_splits_complete, output_repeated_splits_test beside it",
        source="EmoBox preprocess/scripts/meld.py, declare-lab/MELD data/MELD/dev_sent_emo.csv",
        splits={s: (f"{s}_sent_emo.csv", f"{s}/{s}_sent_emo.csv") for s in ("train", "dev", "test")},
        folders={
            "train": "train_splits",
            "dev": "dev_splits_complete",
            "test": "output_repeated_splits_test",
        },
        wavs=("{here}/{folder}/dia{Dialogue_ID}_utt{Utterance_ID}.wav",),
        key="{split}-{stem}",
        text="Utterance",
        labels={"emotion": "Emotion"},
        video=(".mp4",),
    ),
    TableCorpus(
        name="mer2023",
        tasks=("ser",),
        offers=("text", "emotion"),
        needs="<split>-label.csv (name, discrete) in ROOT, test-labels/ or mer2023train/, the films' sound "
        "as <split>/<name>.wav or audio/<name>.wav; transcription-engchi-polish.csv for transcripts",
        source="EmoBox preprocess/scripts/mer2023.py, zeroQiaoba/MERTools MER2024 (transcripts, audio/)",
        splits={
            s: (f"{s}-label.csv", f"test-labels/{s}-label.csv", f"mer2023train/{s}-label.csv")
            for s in ("train", "test1", "test2", "test3")
        },
        wavs=(
            "{here}/{split}/{name}.wav",
            "{split}/{name}.wav",
            "mer2023train/{split}/{name}.wav",
            "audio/{name}.wav",
        ),
        key="{name}",
        texts=("transcription-engchi-polish.csv", "name", "chinese"),
        labels={"emotion": "discrete"},
        video=(".avi", ".mp4"),
    ),
    TableCorpus(
        name="esc50",
        tasks=("ved",),
        offers=("event",),
        needs="meta/esc50.csv and audio/",
        source="meta/esc50.csv's header and the 50 categories as several public scripts have them",
        splits={"all": ("meta/esc50.csv", "ESC-50-master/meta/esc50.csv")},
        wavs=("{here}/../audio/{filename}",),
        labels={"event": "category"},
        wordless=True,
    ),
    _questions("llama-questions", "llama_questions", "Questions", {"Answer": ""}),
    _questions(
        "triviaqa", "trivia_qa", "question", {"answer_normalized_value": "", "answer_normalized_aliases": ","}
    ),
    _questions("web-questions", "web_questions", "question", {"answers": ";"}),
)
