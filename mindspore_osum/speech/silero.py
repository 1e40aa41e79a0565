"""Silero's voice activity (github.com/snakers4/silero-vad): a small network that hears voices.

    pip install "mindspore_osum[silero]"        # which brings PyTorch; speech/vad.py needs neither

Its probabilities take the place of the energy thresholds of speech/vad.py; spans are made of them there.
"""

import importlib.util

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE
from mindspore_osum.speech.vad import FRAME, Span, VadSettings, VoiceActivity

WINDOW = 512  # samples that the network takes at once
SURE, STILL = 0.5, 0.35  # probabilities that begin and keep speech: the package's own


def check_installed() -> None:
    """Say how to get what is missing."""
    if importlib.util.find_spec("silero_vad") is None:
        raise UserError('vad silero: silero-vad is not installed: pip install "mindspore_osum[silero]"')


class SileroActivity(VoiceActivity):
    """As `VoiceActivity`, by a network; levels and floors in `settings` do not count."""

    def __init__(self, settings: VadSettings | None = None):
        super().__init__(settings)
        from silero_vad import load_silero_vad

        self._network = load_silero_vad()  # it has a state, so each recording has its own
        self._unheard_N = np.empty(0, np.float32)  # samples that do not fill a window yet
        self._forgotten = 0  # windows before the first of
        self._voice_W = np.empty(0)  # probabilities

    def push(self, wave_N: np.ndarray) -> list[Span]:
        """As the parent's."""
        self._hear(wave_N)
        return super().push(wave_N)

    def flush(self) -> list[Span]:
        """As the parent's."""
        self._hear(np.zeros(-len(self._unheard_N) % WINDOW, np.float32))
        return super().flush()

    def _hear(self, wave_N: np.ndarray) -> None:
        import torch

        wave_N = np.concatenate([self._unheard_N, wave_N])
        whole = len(wave_N) // WINDOW * WINDOW
        self._unheard_N = wave_N[whole:].copy()
        with torch.no_grad():
            windows = torch.from_numpy(wave_N[:whole]).split(WINDOW) if whole else ()
            new = [self._network(window, SAMPLE_RATE).item() for window in windows]
        self._voice_W = np.concatenate([self._voice_W, new])

    def _decide(self, final: bool) -> None:
        """A frame is what the window around its middle is."""
        start, known = self._first + len(self._speech_T), self._first + len(self._level_T)
        if not final:
            known = min(known, self._measured)  # the parent forgets no frame of an open block
        window_T = (np.arange(start, known) * FRAME + FRAME // 2) // WINDOW - self._forgotten
        if final:
            window_T = np.minimum(window_T, len(self._voice_W) - 1)
        window_T = window_T[window_T < len(self._voice_W)]
        if len(window_T):
            voice_T = self._voice_W[window_T]
            self._speech_T = np.concatenate([self._speech_T, voice_T > STILL])
            self._sure_T = np.concatenate([self._sure_T, voice_T > SURE])
            self._voice_W = self._voice_W[window_T[-1] :]  # the next frame may be in the same window
            self._forgotten += window_T[-1]
