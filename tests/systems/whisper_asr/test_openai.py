"""Seeking, and the words of sections, against openai-whisper itself: its `transcribe` with a model that
answers from a script, so that every branch is taken; no weights are needed, openai-whisper is."""

from types import SimpleNamespace

import numpy as np
import pytest

from mindspore_osum.inference.request import make_request
from mindspore_osum.inference.tokens import Generated
from mindspore_osum.systems.registry import preset, system_of
from mindspore_osum.systems.whisper_asr.prompts import WhisperPrompts
from mindspore_osum.systems.whisper_asr.words import spelled, timed

whisper = pytest.importorskip("whisper", reason="needs openai-whisper to compare with")
torch = pytest.importorskip("torch")

SYSTEM, BASE = system_of("whisper_asr"), preset("whisper_base")
WORDS = BASE.vocabulary
SAID = ' Well, this (or that) is it. 12-15 people\'s "words"... Ja, naïve 你好。 And so on - no?'


class Spelling:
    """openai-whisper's tokenizer as ours."""

    def __init__(self, language="en"):
        self.theirs = whisper.tokenizer.get_tokenizer(True, language=language, task="transcribe")

    def encode(self, text, plain=()):
        return self.theirs.encode(text)

    def decode(self, ids):
        return self.theirs.encoding.decode(list(ids))


class Script:
    """What a model writes about window after window, at random but as a Whisper does."""

    def __init__(self, seed: int):
        self.seed, self.texts = seed, Spelling().encode(SAID)

    def __call__(self, window: int, frames: int):
        """Tokens, no_speech_prob, avg_logprob, temperature."""
        rng = np.random.default_rng([self.seed, window])
        tokens, moment, most = [], int(rng.integers(0, 40)), frames // 2
        for _ in range(int(rng.integers(1, 5))):
            begin = rng.integers(0, len(self.texts) - 8)
            text = self.texts[begin : begin + int(rng.integers(0, 8))]
            end = min(most, moment + int(rng.integers(1, 500)))
            tokens += [WORDS.first_time + moment, *text, WORDS.first_time + end]
            moment = min(most, end + int(rng.choice([0, 0, 30])))
        if rng.random() < 0.4:
            tokens.pop()  # the end of the last text is not in the window
        elif rng.random() < 0.5:
            tokens.append(tokens[-1])  # nor is the text after a pair
        if rng.random() < 0.1:
            tokens = [WORDS.first_time, *self.texts[:5]]
        temperature = float(rng.choice([0.0, 0.0, 0.0, 0.4, 0.6, 1.0]))
        return tokens, float(rng.choice([0.1, 0.7])), float(rng.choice([-0.5, -1.5])), temperature

    def alignment(self, tokens, language="en"):
        """(text, tokens, start, end, probability) of words at random times, some far too long."""
        rng = np.random.default_rng([self.seed, len(tokens), sum(tokens)])
        count, spoken = len(tokens) + 1, Spelling(language)
        steps = rng.choice([0, 2, 5, 9, 20, 150], count, p=[0.1, 0.3, 0.3, 0.2, 0.07, 0.03])
        path = np.arange(count), np.minimum(np.cumsum(steps), 1499)
        spelling = spelled(tokens, spoken.decode, spaces=language != "zh")
        theirs, _ = spoken.theirs.split_to_word_tokens([*tokens, WORDS.eot])
        assert [text for text, _ in spelling] == theirs[:-1]
        return timed(spelling, path, rng.random(len(tokens)), 50.0)


class Model:
    """The script as a model of openai-whisper; it notes what it was asked."""

    dims = SimpleNamespace(n_mels=80, n_audio_ctx=1500, n_text_ctx=448)
    device, is_multilingual, num_languages = torch.device("cpu"), True, 99

    def __init__(self, script: Script, frames):
        self.script, self.frames, self.prompts = script, frames, []

    def detect_language(self, mel):
        return None, {"en": 1.0}

    def decode(self, mel, options):
        """Each window is decoded once: nothing is doubtful."""
        tokens, silence, log_p, temperature = self.script(len(self.prompts), self.frames(len(self.prompts)))
        self.prompts.append(list(options.prompt or ())[-223:])
        return whisper.decoding.DecodingResult(
            audio_features=None,
            language="en",
            tokens=tokens,
            no_speech_prob=silence,
            avg_logprob=log_p,
            temperature=temperature,
            compression_ratio=1.0,
        )


def ours(script: Script, total: int, words: bool, previous: bool, prompt: str):
    """Windows (first frame, frames, prompt), and segments (start, end, text, words)."""
    request = make_request("asr", language="en", prompt=prompt, word_times=words)
    prompts = WhisperPrompts(BASE, Spelling())
    seeking, windows, segments = SYSTEM.seeking(prompts, request, total, previous), [], []
    while seeking.frames:
        start, frames = seeking.at, seeking.frames
        ids = prompts.prompt(seeking.request, 1500).sequence.ids_L.tolist()
        before = ids[1 : ids.index(WORDS.sot)] if ids[0] == WORDS.start_of_previous else []
        tokens, silence, log_p, temperature = script(len(windows), frames)
        windows.append((start, frames, before))
        facts = {"language": "en", "no_speech_probability": silence, "language_probability": 1.0}
        written = Generated(tokens, facts=facts, temperature=temperature, sum_log_p=log_p * (len(tokens) + 1))
        answer = SYSTEM.answer(Spelling().decode(tokens), "<TRANSCRIBE>")
        SYSTEM.describe(answer, facts, log_p)
        aligned = script.alignment(text_of(tokens, start, frames)) if words and not answer.no_speech else None
        seeking.take(answer, written, aligned)
        for one in answer.divided() if answer.sections else ():
            said = [(word.text, start / 100 + word.start, start / 100 + word.end) for word in one.words]
            segments.append((start / 100 + one.start, start / 100 + one.end, one.text, said))
    return windows, segments


def text_of(tokens, start: int, frames: int) -> list[int]:
    """The text tokens that belong to a window."""
    from mindspore_osum.systems.whisper_asr.sections import read, text_tokens

    return text_tokens(read(tokens, WORDS, start / 100, frames / 100).sections, WORDS)


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("previous, prompt", [(True, ""), (False, "Mr. Dashwood"), (True, "Norland " * 150)])
def test_transcribe(words, previous, prompt, monkeypatch):
    module = __import__("sys").modules["whisper.transcribe"]
    timing = __import__("sys").modules["whisper.timing"]
    monkeypatch.setattr(module, "log_mel_spectrogram", lambda audio, mels, padding: audio)
    counts = np.zeros(3, int)
    for seed in range(25):
        script, total = Script(seed), 1500 + 777 * seed
        windows, segments = ours(script, total, words, previous, prompt)

        def alignment(model, tokenizer, tokens, mel, frames, script=script):
            return [timing.WordTiming(*vars(word).values()) for word in script.alignment(tokens)]

        monkeypatch.setattr(timing, "find_alignment", alignment)
        model = Model(script, lambda n, windows=windows: windows[n][1] if n < len(windows) else 0)
        mel = torch.zeros(80, total + 3000)
        how = {"initial_prompt": prompt or None, "condition_on_previous_text": previous, "fp16": False}
        found = whisper.transcribe(model, mel, temperature=0.0, word_timestamps=words, language="en", **how)
        assert model.prompts == [before for *_, before in windows], seed
        expected = [one for one in found["segments"] if one["text"].strip()]
        assert [text for *_, text, _ in segments] == [one["text"].strip() for one in expected]
        for (start, end, *_), one in zip(segments, expected, strict=True):
            assert (start, end) == pytest.approx((one["start"], one["end"]), abs=1e-6)
        # there a word of two segments counts as the first one's, and may take the next one there, too
        said = [word for *_, words_of in segments for word in words_of]
        theirs = [word for one in expected for word in one.get("words", ()) if word["word"].strip()]
        assert [text for text, *_ in said] == [word["word"].strip() for word in theirs]
        for (_, *span), word in zip(said, theirs, strict=True):
            assert span == pytest.approx([word["start"], word["end"]], abs=1e-6)
        counts += len(windows), len(segments), len(said)
    assert (counts >= (100, 100, 200 * words)).all()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_words_of_any_text(language):
    """Tokens at random: broken characters, marks, spaces."""
    spelling, compared = Spelling(language), 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        tokens = rng.integers(0, WORDS.eot, int(rng.integers(1, 30))).tolist()
        if seed % 3 == 0:
            tokens = [
                int(i) for i in rng.choice([220, 11, 13, 12, 6, 357, 1, 162, 121, 40640, 318], len(tokens))
            ]
        texts, parts = spelling.theirs.split_to_word_tokens([*tokens, WORDS.eot])
        found = spelled(tokens, spelling.decode, spaces=language != "zh")
        assert [i for _, ids in found for i in ids] == tokens
        if parts[-1:] != [
            [WORDS.eot]
        ]:  # there the end swallows a broken character before it, or is lost itself
            continue
        compared += 1
        assert found == list(zip(texts, parts, strict=True))[:-1], seed
    assert compared > 200
