"""The available voice activity detectors: by energy (vad.py) or by a network (silero.py)."""

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.speech import silero
from mindspore_osum.speech.vad import VadSettings, VoiceActivity, stands_out

DETECTORS = {"energy": VoiceActivity, "silero": silero.SileroActivity}


def check_detector(detector: str) -> None:
    """UserError if the detector does not exist or is not installed."""
    if detector not in DETECTORS:
        raise UserError(f"vad {detector!r}: must be {' or '.join(DETECTORS)}")
    if detector == "silero":
        silero.check_installed()


def voice_activity(detector: str, settings: VadSettings) -> VoiceActivity:
    """A detector for one recording; `detector` is one of `DETECTORS`."""
    check_detector(detector)
    return DETECTORS[detector](settings)


def speaks(wave_N: np.ndarray, detector: str) -> bool:
    """Whether a short recording (N,), float32, 16 kHz, is worth a question; in doubt it is.

    Energy lets through all that stands out of silence and steady sound: quiet voices, coughs, laughs. A
    network decides as it does in long recordings.
    """
    if detector == "energy":
        return stands_out(wave_N)
    vad = voice_activity(detector, VadSettings())
    return bool(vad.push(wave_N) or vad.flush())
