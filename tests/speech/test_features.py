"""log_mel against the formula written a second time (float64, direct DFT, librosa's filters), and torch."""

import io
import time

import numpy as np
import pytest
import soundfile

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE, load_audio
from mindspore_osum.speech.config import FeatureConfig
from mindspore_osum.speech.features import log_mel, mel_filters

SECOND = SAMPLE_RATE


def reference(wave_N: np.ndarray, n_mels: int = 80) -> np.ndarray:
    """The published formula, plainly: every frame from an index, DFT by its matrix, filters of librosa."""
    librosa = pytest.importorskip("librosa")
    wave_N = wave_N.astype(np.float64)
    n = np.arange(400)
    cycle_N = np.concatenate([wave_N, wave_N[-2:0:-1]])  # a waveform and its mirror, without the ends twice
    window_W = np.sin(np.pi * n / 400) ** 2
    dft_WQ = np.exp(-2j * np.pi * np.outer(n, np.arange(201)) / 400)
    filters_FQ = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=n_mels, dtype=np.float64)
    rows = []
    for t in range(1 + len(wave_N) // 160):
        frame_W = np.take(cycle_N, t * 160 - 200 + n, mode="wrap")
        rows.append(filters_FQ @ np.abs((frame_W * window_W) @ dft_WQ) ** 2)
    mel_TF = np.log10(np.maximum(np.array(rows[:-1] or rows), 1e-10))  # a lone frame is kept
    return (np.maximum(mel_TF, mel_TF.max() - 8) + 4) / 4


def noise(samples, scale=0.1, seed=0):
    return scale * np.random.default_rng(seed).standard_normal(samples)


def tone(hertz, seconds=1.0, rate=SAMPLE_RATE, scale=0.5):
    return scale * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def chirp(seconds=2.0):
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return 0.5 * np.sin(2 * np.pi * (50 * t + (7900 - 50) / (2 * seconds) * t**2))


def impulse(samples=SECOND, at=5000):
    x = np.zeros(samples)
    x[at] = 1.0
    return x


def decoded(x, rate=SAMPLE_RATE, **kind):
    stream = io.BytesIO()
    soundfile.write(stream, x, rate, **{"format": "WAV", **kind})
    return load_audio(stream.getvalue())


SIGNALS = {
    "silence": lambda: np.zeros(SECOND),
    "one sample": lambda: np.array([0.3]),
    "two samples": lambda: np.array([0.3, -0.2]),
    "0.01 s": lambda: noise(160),
    "200 samples": lambda: noise(200),
    "201 samples": lambda: noise(201),
    "0.1 s": lambda: noise(1600),
    "0.1 s less one": lambda: noise(1599),
    "40 s": lambda: noise(40 * SECOND) * np.linspace(0, 1, 40 * SECOND) ** 4,
    "chunk end": lambda: noise(512 * 160 + 1),
    "noise": lambda: noise(SECOND),
    "faint noise": lambda: noise(SECOND, 5e-6),  # around the floor
    "tone": lambda: tone(1000),
    "low tone over faint noise": lambda: tone(60) + noise(SECOND, 1e-5),
    "chirp": chirp,
    "impulse": impulse,
    "impulse at the start": lambda: impulse(at=0),
    "impulse at the end": lambda: impulse(at=SECOND - 1),
    "clipped": lambda: np.clip(tone(300, scale=4.0), -1, 1),
    "constant": lambda: np.full(SECOND, 0.25),
    "float beyond 1": lambda: decoded(noise(SECOND, 5.0), subtype="FLOAT"),
    "speech after silence": lambda: np.concatenate([np.zeros(SECOND), noise(SECOND, 0.3)]),
    "44.1 kHz stereo": lambda: decoded(np.stack([tone(440, 1, 44_100), noise(44_100)], 1), 44_100),
    "8 kHz": lambda: decoded(tone(440, 1, 8_000), 8_000),
    "int16 wav": lambda: decoded(chirp(), subtype="PCM_16"),
    "int24 wav": lambda: decoded(chirp(), subtype="PCM_24"),
    "float wav": lambda: decoded(chirp(), subtype="FLOAT"),
    "flac": lambda: decoded(chirp(), format="FLAC"),
    "24-bit flac at 48 kHz": lambda: decoded(noise(48_000), 48_000, format="FLAC", subtype="PCM_24"),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_log_mel_is_the_published_formula(name):
    wave_N = SIGNALS[name]().astype(np.float32)
    mel_TF = log_mel(wave_N)
    assert mel_TF.dtype == np.float32 and mel_TF.shape == (max(1, len(wave_N) // 160), 80)
    assert np.abs(mel_TF - reference(wave_N)).max() <= 1e-6


@pytest.mark.parametrize("name", ["chirp", "noise", "0.1 s", "one sample"])
def test_128_mels(name):
    wave_N = SIGNALS[name]().astype(np.float32)
    mel_TF = log_mel(wave_N, FeatureConfig(n_mels=128))
    assert mel_TF.shape[1] == 128
    assert np.abs(mel_TF - reference(wave_N, 128)).max() <= 1e-6


@pytest.mark.parametrize("n_mels", [20, 40, 80, 128])
def test_filters_are_those_of_librosa(n_mels):
    librosa = pytest.importorskip("librosa")
    expected_FQ = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=n_mels, dtype=np.float64)
    np.testing.assert_allclose(mel_filters(n_mels, 16_000, 400), expected_FQ, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["chirp", "noise", "201 samples", "40 s", "44.1 kHz stereo"])
def test_log_mel_is_what_torch_computes(name):
    """The published code's own calls, in float64."""
    torch = pytest.importorskip("torch", reason="needs torch, the published code's library")
    librosa = pytest.importorskip("librosa")
    wave_N = SIGNALS[name]().astype(np.float32)
    window_W = torch.hann_window(400, dtype=torch.float64)
    stft_QT = torch.stft(torch.from_numpy(wave_N).double(), 400, 160, window=window_W, return_complex=True)
    filters_FQ = torch.from_numpy(librosa.filters.mel(sr=16_000, n_fft=400, n_mels=80)).double()
    mel_FT = torch.clamp(filters_FQ @ stft_QT[:, :-1].abs() ** 2, min=1e-10).log10()
    mel_FT = (torch.maximum(mel_FT, mel_FT.max() - 8.0) + 4.0) / 4.0
    assert np.abs(log_mel(wave_N) - mel_FT.numpy().T).max() <= 1e-6


def test_golden_recording(shared):
    expected_TF = np.load(shared / "golden" / "golden_wav1.npz")["feats"][0]
    mel_TF = log_mel(load_audio(shared / "golden" / "wav1.wav"))
    assert mel_TF.shape == expected_TF.shape
    assert np.abs(mel_TF - expected_TF).max() <= 1e-4


def test_silence_is_exactly_minus_one_and_a_half():
    assert (log_mel(np.zeros(SECOND, np.float32)) == -1.5).all()


def test_padding_to_30_s_is_that_of_whisper():
    """Same as zeros appended by hand, and as the feature extractor of a stock Whisper."""
    wave_N = SIGNALS["chirp"]().astype(np.float32)
    mel_TF = log_mel(wave_N, FeatureConfig(pad_to_seconds=30))
    assert mel_TF.shape == (3000, 80)
    by_hand_N = np.concatenate([wave_N, np.zeros(28 * SECOND, np.float32)])
    np.testing.assert_array_equal(mel_TF, log_mel(by_hand_N))
    transformers = pytest.importorskip("transformers", reason="needs transformers, for Whisper's extractor")
    theirs_FT = transformers.WhisperFeatureExtractor()(wave_N, sampling_rate=SAMPLE_RATE)["input_features"][0]
    # theirs computes in float32, which shows in the quiet bands beside the tone
    assert np.abs(mel_TF - theirs_FT.T).max() <= 1e-4


def test_padding_never_shortens():
    wave_N = noise(2 * SECOND).astype(np.float32)
    np.testing.assert_array_equal(log_mel(wave_N, FeatureConfig(pad_to_seconds=1)), log_mel(wave_N))


def test_input_is_not_changed_and_float64_is_taken():
    wave_N = noise(5000)
    before = wave_N.copy()
    np.testing.assert_allclose(log_mel(wave_N), log_mel(wave_N.astype(np.float32)), atol=1e-5)
    np.testing.assert_array_equal(wave_N, before)


def test_long_recordings_take_little_memory():
    """Ten minutes: beside the result only a few megabytes, not the 190 MB of all windows in float64."""
    import tracemalloc

    wave_N = noise(600 * SECOND).astype(np.float32)
    tracemalloc.start()
    mel_TF = log_mel(wave_N)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < mel_TF.nbytes + 16 * 2**20


def test_speed():
    """It takes about 0.5 ms for a second of audio; 50 ms means a fault, on any machine."""
    wave_N = noise(60 * SECOND).astype(np.float32)
    start = time.process_time()
    log_mel(wave_N)
    assert time.process_time() - start < 3.0


@pytest.mark.parametrize(
    "wave_N",
    [
        np.zeros(0, np.float32),
        np.zeros((2, 400), np.float32),
        np.zeros(400, np.int16),
        np.float32(0),
        np.array([0, np.nan, 0] * 100),
        np.array([0, np.inf, 0] * 100),
        np.array([np.nan]),
    ],
    ids=["empty", "2-D", "int16", "scalar", "NaN", "Inf", "one NaN"],
)
@pytest.mark.filterwarnings("error")
def test_bad_waveforms(wave_N):
    with pytest.raises(UserError, match="^waveform.*load_audio$"):
        log_mel(wave_N)


@pytest.mark.parametrize("n_mels", [0, -1, 300])
def test_bad_n_mels(n_mels):
    with pytest.raises(UserError, match=f"n_mels {n_mels}.*80 or 128"):
        log_mel(np.zeros(400, np.float32), FeatureConfig(n_mels=n_mels))
