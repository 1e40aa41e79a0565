"""The available voice activity detectors: by energy (vad.py) or by a network (silero.py)."""

from mindspore_osum.errors import UserError
from mindspore_osum.speech import silero
from mindspore_osum.speech.vad import VadSettings, VoiceActivity

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
