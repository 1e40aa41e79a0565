"""Times of words by cross-attention: where the decoder looks when it reads its own transcript.

The transcript is read once more, without timestamps, as openai-whisper does (`timing.py`): one graph for each
number of rows and bucket of lengths.

Legend: B batch, T mel frames, U encoder frames, L positions, A alignment heads, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindspore_osum.errors import UserError
from mindspore_osum.models.buckets import batch_bucket
from mindspore_osum.models.whisper.config import STRIDE
from mindspore_osum.results import Answer, Word
from mindspore_osum.systems.whisper_asr.answer import fill, silent
from mindspore_osum.systems.whisper_asr.config import WhisperConfig
from mindspore_osum.systems.whisper_asr.network import WhisperModel
from mindspore_osum.systems.whisper_asr.sections import read, text_tokens
from mindspore_osum.systems.whisper_asr.warping import alignment_matrix, warping_path
from mindspore_osum.systems.whisper_asr.words import (
    WITHOUT_SPACES,
    Section,
    SpokenWord,
    place,
    spelled,
    timed,
)
from mindspore_osum.text.tokenizer import Tokenizer

# bytes of attention to frames, in one layer of the encoder and of alignment heads, that are computed at once;
# one row may have more
LARGEST = 1 << 28


class Align(nn.Cell):
    """Transcripts -> cross-attention of the alignment heads before its softmax, float32 (B, A, L, U), and the
    probability of each next token among those of text, float32 (B, L)."""

    def __init__(self, model: WhisperModel):
        super().__init__(auto_prefix=False)  # keeps parameter names
        self.encoder, self.decoder, self.eot = model.encoder, model.decoder, model.cfg.vocabulary.eot
        heads = alignment_heads(model.cfg)
        layers = range(model.cfg.decoder.n_layers)
        self.chosen = [[head for at, head in heads if at == layer] for layer in layers]
        self.sizes = [list(pair) for pair in heads]  # that neither inputs nor parameters tell

    def construct(self, mel_BTF, mel_len_B, ids_BL, next_BL):
        frames_BUD, frames_B = self.encoder(mel_BTF, mel_len_B)
        decoder, (b, length), found = self.decoder, ids_BL.shape, ()
        kept = decoder.memory(frames_BUD)
        mask = decoder.attention_mask(None, length)
        cross_mask = decoder.cross_mask(decoder.frames, frames_B, length)
        places_BL = ops.arange(0, length, dtype=ms.int32).expand_dims(0).broadcast_to((b, length))
        x = decoder.positioned(decoder.embed(ids_BL), places_BL)
        for i, layer in enumerate(decoder.decoders):
            attended = layer.self_attn(layer.norm1(x), mask)
            if len(self.chosen[i]) > 0:
                heads = Tensor(self.chosen[i], ms.int32)
                found += (layer.src_attn.scores(layer.norm2(x + attended), frames_BUD, heads),)
            x = layer.continued(x, attended, kept[2 * i], kept[2 * i + 1], cross_mask)
        p_BLV = ops.softmax(decoder.logits(decoder.after_norm(x))[:, :, : self.eot], -1)
        return ops.concat(found, 1), ops.gather_elements(p_BLV, 2, next_BL.expand_dims(2)).squeeze(2)


def alignment_heads(cfg: WhisperConfig) -> list[tuple[int, int]]:
    """(layer, head) of the cross-attention that follows the words, in the order of layers: those of the
    model's description, else all of the upper half."""
    layers, heads = cfg.decoder.n_layers, cfg.decoder.n_heads
    upper = [(layer, head) for layer in range(layers // 2, layers) for head in range(heads)]
    return sorted({(layer, head) for layer, head in cfg.alignment_heads}) or upper


class Transcript(NamedTuple):
    """What is aligned: text tokens that were written about a window of features (T, F), of which the first
    `frames` are the recording's."""

    tokens: Sequence[int]
    mel_TF: np.ndarray
    frames: int
    language: str  # code
    translate: bool


class Aligner:
    """Word times of one model.

    Parameters
    ----------
    compute : runs a cell as a graph, `Generator.compute`.
    """

    def __init__(self, model: WhisperModel, tokenizer: Tokenizer, compute: Callable):
        self.cfg, self.tokenizer, self.compute = model.cfg, tokenizer, compute
        self.cell, self.heads = Align(model), len(alignment_heads(model.cfg))

    def words(self, heard: Sequence[tuple], rows: int = 1) -> list[list[SpokenWord]]:
        """The words of each window, timed from its beginning, without those that the next window will have.

        Parameters
        ----------
        heard : `Request`, `Generated` tokens, the prompt's log-mel (T, F), seconds without padding.
        """
        return self.align([self._transcript(*one) for one in heard], rows)

    def _transcript(self, request, written, mel_TF: np.ndarray, seconds: float) -> Transcript:
        words, tokens = self.cfg.vocabulary, []
        if not silent(written.facts, written.mean_log_p):
            rest = request.earlier is None
            tokens = text_tokens(read(written.kept, words, 0.0, seconds, rest).sections, words)
        language = written.facts.get("language") or words.codes[0]
        frames = int(seconds / self.cfg.features.seconds(1) + 1e-6)
        return Transcript(tokens, mel_TF, frames, language, request.translate)

    @property
    def needs_language(self) -> bool:
        """Whether a transcript has a language for the model."""
        return self.cfg.vocabulary.multilingual

    def transcript(self, text: str, language: str, mel_TF: np.ndarray, seconds: float) -> Transcript:
        """A known transcript, for `known_words`.

        Parameters
        ----------
        language : of the text, a code or an English name; "" is English.
        mel_TF, seconds : log-mel of the recording, padded as for an answer, and its length without padding.

        Raises
        ------
        UserError : a language that the model does not know, or a text that is too long for the model.
        """
        words = self.cfg.vocabulary
        spoken = words.language(language) if language else words.first_language
        if not words.multilingual and spoken != words.first_language:
            raise UserError(f"language {language!r}: this Whisper knows English only; use a multilingual one")
        code = words.code(spoken)
        text = text.strip() if code in WITHOUT_SPACES else f" {text.strip()}"
        tokens = self.tokenizer.encode(text, plain=[range(len(text))])
        frames = int(seconds / self.cfg.features.seconds(1) + 1e-6)
        found = Transcript(tokens, mel_TF, frames, code, False)
        needed, most = len(self._ids(found)), self.cfg.decoder.max_positions
        if needed > most:
            raise UserError(
                f"a transcript of {needed} positions, the model takes {most}; split the recording"
            )
        return found

    def known_words(self, transcripts: Sequence[Transcript], rows: int = 1) -> list[list[Word]]:
        """The words of transcripts from `transcript` with their times, as of an answer with the same text."""
        found = []
        for one, words in zip(transcripts, self.align(transcripts, rows), strict=True):
            section = Section(0.0, one.frames * self.cfg.features.seconds(1), [*one.tokens])
            place([section], words, self.cfg.vocabulary.eot, 0.0, 0.0)
            spoken = [(word.text.strip(), word.start, word.end) for word in section.words]
            found.append([Word(*word) for word in spoken if word[0]])
        return found

    def add(self, answer: Answer, heard: tuple, words: list[SpokenWord]) -> None:
        """Give the answer about a recording its words, and its sections the times of these; see `words`."""
        if answer.no_speech:
            return
        vocabulary, timed = self.cfg.vocabulary, bool(answer.sections)
        _, written, _, seconds = heard
        sections = read(written.kept, vocabulary, 0.0, seconds, rest=True).sections
        place(sections, words, vocabulary.eot, 0.0, 0.0)
        sections = [one for one in sections if self._text(text_tokens([one], vocabulary)).strip()]
        fill(answer, sections, self.tokenizer, vocabulary, 0.0)
        answer.sections = answer.sections if timed else []

    def align(self, transcripts: Sequence[Transcript], rows: int = 1) -> list[list[SpokenWord]]:
        """The words of each, timed from the beginning of its window; none where there is no text.

        Parameters
        ----------
        rows : of the graph, at least; fewer where their attention would take too much memory.
        """
        found: list[list[SpokenWord]] = [[] for _ in transcripts]
        asked = [n for n, one in enumerate(transcripts) if one.tokens]
        length = self.cfg.static_length(max((len(self._ids(transcripts[n])) for n in asked), default=1))
        frames = self.cfg.positions
        row_bytes = 4 * frames * (self.heads * length + self.cfg.encoder.n_heads * frames)
        rows = batch_bucket(max(rows, len(asked)))
        while rows > 1 and rows * row_bytes > LARGEST:
            rows //= 2
        for first in range(0, len(asked), rows):
            batch = asked[first : first + rows]
            for n, words in zip(batch, self._batch([transcripts[n] for n in batch], rows, length)):
                found[n] = words
        return found

    def inputs(self, batch: Sequence[Transcript], rows: int, length: int) -> list[np.ndarray]:
        """The inputs of `cell` for these transcripts, of at most `length` positions each."""
        mel_BTF = np.zeros((rows, self.cfg.most_frames, self.cfg.encoder.n_mels), np.float32)
        mel_len_B = np.full(rows, self.cfg.most_frames, np.int32)
        ids_BL = np.full((rows, length), self.cfg.vocabulary.eot, np.int32)
        for row, one in enumerate(batch):
            ids, mel_len_B[row] = self._ids(one), len(one.mel_TF)
            ids_BL[row, : len(ids)], mel_BTF[row, : len(one.mel_TF)] = ids, one.mel_TF
        next_BL = np.minimum(np.roll(ids_BL, -1, 1), self.cfg.vocabulary.eot - 1)
        return [mel_BTF, mel_len_B, ids_BL, next_BL]

    def _batch(self, batch: Sequence[Transcript], rows: int, length: int) -> list[list[SpokenWord]]:
        scores_BALU, p_BL = self.compute(self.cell, self.inputs(batch, rows, length))
        return [self._words(one, scores_BALU[row], p_BL[row]) for row, one in enumerate(batch)]

    def _ids(self, one: Transcript) -> list[int]:
        words = self.cfg.vocabulary
        return [*self._begin(one), words.no_timestamps, *one.tokens, words.eot]

    def _begin(self, one: Transcript) -> list[int]:
        words = self.cfg.vocabulary
        if not words.multilingual:
            return [words.sot]
        task = words.translate if one.translate else words.transcribe
        return [words.sot, words.language(one.language), task]

    def _words(self, one: Transcript, scores_ALU: np.ndarray, p_L: np.ndarray) -> list[SpokenWord]:
        """The words of a row: the position before each token is where the decoder looks for it."""
        first, count = len(self._begin(one)), len(one.tokens)
        scores_ALU = scores_ALU[:, : first + count + 2, : max(1, one.frames // STRIDE)]
        matrix_LU = alignment_matrix(scores_ALU)[first:-1]
        spaces = one.language not in WITHOUT_SPACES
        spelling = spelled(one.tokens, self._text, spaces)
        path = warping_path(-matrix_LU)
        return timed(spelling, path, p_L[first : first + count], 1 / self.cfg.seconds_per_token)

    def _text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)
