"""Manifests with recordings, and `osum data` on them."""

import json

import numpy as np
import pytest
import soundfile

from mindspore_osum import cli


def noise_like(seconds: float, rate: int, seed: int, level: float = 0.1) -> np.ndarray:
    """Shaped noise whose level varies as that of speech does: (S,) float64."""
    rng = np.random.default_rng(seed)
    wave_S = rng.standard_normal(round(seconds * rate))
    wave_S *= np.interp(np.arange(len(wave_S)), np.linspace(0, len(wave_S), 9), rng.uniform(0.1, 1, 9))
    return np.clip(level * wave_S, -0.9, 0.9)


@pytest.fixture
def write_set(tmp_path):
    """write_set(name, lines, rate) -> a manifest; a line's recording, if it names one, is made."""

    def write(name, lines, rate=16000, channels=1):
        for n, line in enumerate(lines):
            wav = line.get("wav")
            if wav and not (tmp_path / wav).exists():
                wave = np.stack([noise_like(1.0 + 0.137 * n, rate, 100 * c + n) for c in range(channels)], 1)
                soundfile.write(tmp_path / wav, wave, rate, subtype="PCM_16")
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (tmp_path / name).write_text(text, "utf-8")
        return tmp_path / name

    return write


@pytest.fixture
def data(capsys):
    """data(*arguments) -> (status, stdout, stderr) of `osum data`."""

    def run(*arguments):
        status = cli.main(["data", *map(str, arguments)])
        return (status, *capsys.readouterr())

    return run
