"""Voice activity by Silero VAD (github.com/snakers4/silero-vad), a small network.

    pip install "mindspore_osum[silero]"        # installs PyTorch, too; speech/vad.py needs neither

Its probabilities replace the energy thresholds of speech/vad.py, which makes spans from them.
"""

import importlib.util

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE
from mindspore_osum.speech.vad import FRAME, Span, VadSettings, VoiceActivity

WINDOW = 512  # samples per call of the network
SURE, STILL = 0.5, 0.35  # probabilities at which speech begins and continues: the package's defaults


def check_installed() -> None:
    """UserError with the command to install the package if it is missing."""
    if importlib.util.find_spec("silero_vad") is None:
        raise UserError('vad silero: silero-vad is not installed: pip install "mindspore_osum[silero]"')


class SileroActivity(VoiceActivity):
    """`VoiceActivity` by a network; levels and floors in `settings` are ignored."""

    def __init__(self, settings: VadSettings | None = None):
        super().__init__(settings)
        from silero_vad import load_silero_vad

        self._network = load_silero_vad()  # stateful, so each recording needs its own
        self._unheard_N = np.empty(0, np.float32)  # samples that do not fill a window yet
        self._forgotten = 0  # windows before the first of
        self._voice_W = np.empty(0)  # probabilities

    def push(self, wave_N: np.ndarray) -> list[Span]:
        """See `VoiceActivity.push`."""
        self._hear(wave_N)
        return super().push(wave_N)

    def flush(self) -> list[Span]:
        """See `VoiceActivity.flush`."""
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
        """Give each frame the probability of the window around its centre."""
        start, known = self._first + len(self._speech_T), self._first + len(self._level_T)
        if not final:
            known = min(known, self._measured)  # the parent keeps the frames of incomplete blocks
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
