"""What FFmpeg reads: whole, by its content, and nothing that it could be talked into opening."""

import io

import av
import numpy as np
import pytest
import soundfile

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE, audio_blocks, duration_seconds, load_audio
from mindspore_osum.speech.opening import Nameless
from tests.speech.encode import KINDS, encoded
from tests.speech.voices import noise, row, voice

WAVE, LONGER = voice(2.5), row([voice(2.0), 0.5, voice(1.0, pitch=200.0)])[0]
PADDED = 0.15  # seconds that codecs add: their delay and the rest of the last packet


def seconds(source) -> float:
    return len(load_audio(source)) / SAMPLE_RATE


def same_sound(got_N: np.ndarray, wave_N: np.ndarray) -> float:
    """The correlation at the best shift within the padding, in a middle part."""
    middle = wave_N[8000:24_000]
    shifts = range(-2000, 2000)
    return max(float(np.corrcoef(got_N[8000 + n : 24_000 + n], middle)[0, 1]) for n in shifts[::8])


@pytest.mark.parametrize("kind", KINDS)
def test_formats(kind, tmp_path):
    """Read whole under any name, and as long as said before decoding."""
    data = encoded(WAVE, kind, stereo=kind in ("m4a", "webm", "mp3"))
    path = tmp_path / "speech.wav"
    path.write_bytes(data)
    got_N = load_audio(path)
    assert abs(len(got_N) / SAMPLE_RATE - 2.5) < PADDED
    assert abs(duration_seconds(data) - len(got_N) / SAMPLE_RATE) < 0.06
    assert kind == "amr" or same_sound(got_N, WAVE) > 0.9  # a telephone's sound differs more
    assert abs(sum(map(len, audio_blocks(io.BytesIO(data)))) - len(got_N)) <= 1


@pytest.mark.parametrize("kind", ["ts", "mka", "avi"])
def test_the_sound_of_a_film(kind):
    data = encoded(WAVE, kind, film=True)
    assert abs(seconds(data) - 2.5) < PADDED and abs(duration_seconds(data) - 2.5) < PADDED


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("samples", [700, 3456, 60_000])
def test_mp3_as_libsndfile_hears_it(rate, mode, samples):
    """To the sample in length, before decoding, too; within 1e-5 of full scale."""
    stream = io.BytesIO()
    with soundfile.SoundFile(stream, "w", rate, 1, format="MP3", bitrate_mode=mode) as file:
        file.write(noise(samples / SAMPLE_RATE, 0.1)[:samples])
    expected = load_audio(soundfile.read(io.BytesIO(stream.getvalue()), dtype="float32"))
    np.testing.assert_allclose(load_audio(stream.getvalue()), expected, rtol=0, atol=1e-5)
    assert duration_seconds(stream.getvalue()) == pytest.approx(samples / rate, abs=1e-9)


@pytest.mark.parametrize(
    "options", [{"write_xing": "0"}, {"write_xing": "0", "id3v2_version": "0"}, {"id3v2_version": "0"}]
)
def test_mp3_without_length(options):
    """As they come from pipes and from speech synthesis: no length, with and without a tag before."""
    data = encoded(WAVE, "mp3", options)
    assert abs(seconds(data) - 2.5) < PADDED and duration_seconds(data) == pytest.approx(seconds(data))


def test_mp3_of_changing_bit_rate_without_length():
    """What is quiet takes a tenth of the bytes: neither the length nor the end may be an estimate."""
    stream = io.BytesIO()
    with soundfile.SoundFile(stream, "w", SAMPLE_RATE, 1, format="MP3", bitrate_mode="VARIABLE") as file:
        file.write(np.concatenate([noise(10.0, 0.1), np.zeros(320_000)]))
    data = stream.getvalue()
    second_frame = data.index(data[:2], max(data.find(b"Xing"), data.find(b"Info")))
    for whole in (data, data[second_frame:]):
        assert abs(seconds(whole) - 30) < PADDED and abs(duration_seconds(whole) - 30) < PADDED


def test_joined_mp3_is_heard_to_its_end():
    parts = [encoded(WAVE, "mp3"), encoded(LONGER, "mp3")]
    whole = (len(WAVE) + len(LONGER)) / SAMPLE_RATE
    for data in (b"".join(parts), b"".join(parts[::-1])):
        assert abs(seconds(data) - whole) < PADDED and abs(duration_seconds(data) - whole) < PADDED


def test_joined_mp3_of_other_rates_and_channels(monkeypatch):
    first, form = encoded(WAVE, "mp3"), KINDS["mp3"]
    monkeypatch.setitem(KINDS, "mp3", (*form[:2], 44_100))
    data = first + encoded(LONGER, "mp3", stereo=True)
    assert abs(seconds(data) - (len(WAVE) + len(LONGER)) / SAMPLE_RATE) < PADDED


def refused(data: bytes, *words: str, **how) -> None:
    with pytest.raises(UserError) as caught:
        load_audio(data, **how)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


@pytest.mark.parametrize("kind", ["mp3", "mka", "alac"])
@pytest.mark.parametrize("kept", [0.6, 0.75])
def test_truncated(kind, kept):
    """Where the header says how long it is; an index at the end that is missing is named as well."""
    data = encoded(WAVE, kind)
    refused(data[: int(len(data) * kept)], "copy it again")


def test_limits(tmp_path):
    for kind in ("mp3", "m4a"):
        refused(encoded(WAVE, kind), "the limit is 1 s", max_seconds=1.0)


def test_damage():
    data = bytearray(encoded(WAVE, "alac"))
    start = len(data) // 2
    data[start : start + 20_000] = np.random.default_rng(0).bytes(20_000)
    refused(bytes(data), "audio bytes", "damaged")


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        "1\n00:00:00,000 --> 00:00:02,000\n{}\n",
        "WEBVTT\n\n00:00.000 --> 00:02.000\n{}\n",
    ],
)
def test_a_text_cannot_name_another_file(tmp_path, text):
    soundfile.write(tmp_path / "a.wav", WAVE, SAMPLE_RATE)
    for name in ("list.m3u8", "list.mp3"):
        (tmp_path / name).write_text(text.format(tmp_path / "a.wav"))
        with pytest.raises(UserError, match="not audio"):
            load_audio(tmp_path / name)


@pytest.mark.parametrize(("hours", "fits"), [(0.5, True), (1.5, False)])
def test_a_clock_that_jumps(hours, fits, monkeypatch):
    """Silence that only the clock shows is filled in, but a small file does not become endless."""
    monkeypatch.setattr("mindspore_osum.speech.media._MOST_GAPS", 3600.0)
    stream, jump = io.BytesIO(), round(hours / 2 * 3600 * 48_000)
    with av.open(stream, "w", format="matroska") as container:
        sound = container.add_stream("pcm_s16le", rate=48_000)
        for n in range(3):
            frame = av.AudioFrame.from_ndarray(np.full((1, 4800), 99, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48_000, n * (4800 + jump)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    read = audio_blocks(stream.getvalue())
    if fits:
        assert sum(map(len, read)) / SAMPLE_RATE == pytest.approx(hours * 3600 + 0.3, abs=0.1)
    else:
        with pytest.raises(UserError, match="its clock leaves out over 1 hours; convert it"):
            list(read)


def test_pictures_have_no_sound():
    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001"
        "e221bc330000000049454e44ae426082"
    )
    refused(png, "not audio")
    av = pytest.importorskip("av")
    stream = io.BytesIO()
    with av.open(stream, "w", format="matroska") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width = picture.height = 32
        container.mux(picture.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(picture.encode(None))
    refused(stream.getvalue(), "no sound in it", "video")


def test_a_transport_stream_of_mixed_up_streams():
    """A packet that has another's number, of a stream that PyAV does not list, is passed over."""
    whole = encoded(voice(0.3), "ts")
    for at in range(0, len(whole), 188):
        data = whole[: at + 2] + b"\1" + whole[at + 3 :]
        assert len(load_audio(data)) / SAMPLE_RATE == pytest.approx(0.3, abs=0.15)


def test_before_the_beginning_is_an_error_to_decoders(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    with open(tmp_path / "x", "rb") as file:
        for stream in (Nameless(file), Nameless(io.BytesIO(b"abc"))):
            assert stream.seek(1) == 1 and stream.seek(-2) == -1
            assert stream.tell() == 1 and stream.read(1) == b"b"
