"""The special tokens of Whisper's vocabularies, by their ids; data in ``vocabulary.yaml`` of this folder.

    eot sot <languages> translate transcribe startoflm startofprev nospeech notimestamps <|0.00|> ...

Sources: openai-whisper's tokenizer.py, transformers' generation_config.json of the published models.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mindspore_osum.config import did_you_mean, read_yaml
from mindspore_osum.errors import UserError

TIME_STEP = 0.02  # seconds from one timestamp token to the next
_SPACE = 220  # token of a space alone
_TIMES = 1501  # timestamp tokens: 0 to 30 s
DETECT = -1  # in the ids of a prompt: the language that is detected
ENGLISH_END, MULTILINGUAL_END = 50256, 50257  # ids of eot
# rows of the token embedding -> id of eot, languages
PUBLISHED = {51864: (ENGLISH_END, 99), 51865: (MULTILINGUAL_END, 99), 51866: (MULTILINGUAL_END, 100)}


@dataclass(frozen=True)
class Vocabulary:
    """Ids of the special tokens.

    Parameters
    ----------
    eot : that of the first one, which ends an answer.
    languages : number of languages; an English model has their tokens, too, and uses none.
    """

    eot: int
    languages: int

    @property
    def multilingual(self) -> bool:
        """Whether the model chooses among languages and tasks."""
        return self.eot != ENGLISH_END

    @property
    def sot(self) -> int:
        """Begins a transcript."""
        return self.eot + 1

    @property
    def first_language(self) -> int:
        """Id of the first language, English."""
        return self.eot + 2

    @property
    def translate(self) -> int:
        """The task of translating to English."""
        return self.first_language + self.languages

    @property
    def transcribe(self) -> int:
        """The task of writing what is said."""
        return self.translate + 1

    @property
    def start_of_lm(self) -> int:
        """Not used by the published models."""
        return self.translate + 2

    @property
    def start_of_previous(self) -> int:
        """Begins the text before a recording."""
        return self.translate + 3

    @property
    def no_speech(self) -> int:
        """Stands for a recording in which nobody speaks."""
        return self.translate + 4

    @property
    def no_timestamps(self) -> int:
        """Ends the prompt of a transcript without times."""
        return self.translate + 5

    @property
    def first_time(self) -> int:
        """The timestamp of 0 s."""
        return self.translate + 6

    @property
    def last_time(self) -> int:
        """The timestamp of 30 s."""
        return self.first_time + _TIMES - 1

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the languages in the order of their tokens."""
        return tuple(_data()["languages"])[: self.languages]

    @property
    def never(self) -> tuple[int, ...]:
        """Tokens that an answer never has: symbols that nobody says, and what belongs into a prompt."""
        symbols = _data()["non_speech"]["multilingual" if self.multilingual else "english"]
        own = (self.sot, self.translate, self.transcribe, self.start_of_lm, self.start_of_previous)
        return tuple(sorted((*symbols, *own, self.no_speech)))

    @property
    def never_first(self) -> tuple[int, ...]:
        """Tokens that no answer begins with: a space alone, and the end."""
        return (_SPACE, self.eot)

    def language(self, name: str) -> int:
        """The token of a language by its code or English name; UserError if there is none."""
        wanted, names = (
            name.strip().lower(),
            dict(zip(self.codes, _data()["languages"].values(), strict=False)),
        )
        for number, (code, english) in enumerate(names.items()):
            if wanted in (code, english):
                return self.first_language + number
        known = [*names, *names.values()]
        raise UserError(f"language {name!r} is unknown{did_you_mean(wanted, known)}")

    def code(self, token: int) -> str:
        """The code of a language's token; "" if it is none."""
        number = token - self.first_language
        return self.codes[number] if 0 <= number < len(self.codes) else ""

    def pieces(self) -> Iterator[tuple[str, int]]:
        """(text, id) of the special tokens with one text everywhere; codes of languages have changed."""
        yield from {"<|endoftext|>": self.eot, "<|startoftranscript|>": self.sot}.items()
        yield from {"<|translate|>": self.translate, "<|transcribe|>": self.transcribe}.items()
        yield from {"<|startoflm|>": self.start_of_lm, "<|startofprev|>": self.start_of_previous}.items()
        yield "<|notimestamps|>", self.no_timestamps
        yield from ((f"<|{n * TIME_STEP:.2f}|>", self.first_time + n) for n in range(_TIMES))


def names() -> dict[str, str]:
    """Code -> English name of all languages."""
    return _data()["languages"]


@lru_cache(maxsize=1)
def _data() -> dict:
    return read_yaml(str(Path(__file__).with_name("vocabulary.yaml")))
