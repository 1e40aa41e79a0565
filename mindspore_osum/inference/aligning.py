"""Times of the words of known transcripts, by a model that has an aligner: forced alignment.

Legend: N samples.
"""

from collections.abc import Callable, Iterable, Iterator

from mindspore_osum.data.batches.batching import samples
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.inference.answering import Answerer
from mindspore_osum.results import Word
from mindspore_osum.speech.audio import SAMPLE_RATE
from mindspore_osum.speech.features import log_mel
from mindspore_osum.tasks import parse_answer

LANGUAGE = ("lang", "language")  # keys of `extra`
Failed = Callable[[UserError], None]


def check_aligner(engine: Answerer) -> None:
    """UserError for a model that has none."""
    if not hasattr(engine.aligner, "known_words"):
        raise UserError(f"{engine.cfg.model_type}: this model finds no word times; give --model a Whisper")


def align(
    engine: Answerer, utterances: Iterable[Utterance], language: str, rows: int, failed: Failed
) -> Iterator[tuple[Utterance, list[Word]]]:
    """Utterances with the words of their transcripts, in order.

    Parameters
    ----------
    language : of lines without `extra.lang`; "" if each of them must have it.
    rows : utterances computed together.
    failed : called with the error of an utterance that cannot be aligned; it may raise.
    """
    batch: list[tuple] = []
    for utt in utterances:
        try:
            batch.append((utt, _transcript(engine, utt, language)))
        except UserError as error:
            failed(error)
        if len(batch) == rows:
            yield from _times(engine, batch, rows)
            batch = []
    yield from _times(engine, batch, rows)


def _times(engine: Answerer, batch: list[tuple], rows: int) -> Iterator[tuple[Utterance, list[Word]]]:
    found = engine.aligner.known_words([transcript for _, transcript in batch], rows) if batch else []
    for (utt, _), words in zip(batch, found, strict=True):
        yield utt, words


def _transcript(engine: Answerer, utt: Utterance, language: str):
    """What the aligner is asked; errors begin with the utterance's place."""
    cfg, wave_N = engine.cfg, samples(utt)
    text = parse_answer(utt.txt, utt.task).text
    spoken = next((utt.extra[key] for key in LANGUAGE if isinstance(utt.extra.get(key), str)), language)
    try:
        if not text:
            raise UserError("no transcript, so no words")
        if not spoken and engine.aligner.needs_language:
            raise UserError("extra.lang is missing; give --language, a code like en or zh")
        if cfg.features.frames(len(wave_N)) > cfg.most_frames:
            most = cfg.features.seconds(cfg.most_frames)
            raise UserError(
                f"{len(wave_N) / SAMPLE_RATE:.2f} s of audio, the model takes at most {most:g} s at once"
            )
        mel_TF = log_mel(wave_N, cfg.features)
        return engine.aligner.transcript(text, spoken, mel_TF, len(wave_N) / SAMPLE_RATE)
    except UserError as error:
        raise UserError(f"{utt.where}: {error}") from None
