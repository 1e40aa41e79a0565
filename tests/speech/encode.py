"""Recordings in the formats of FFmpeg, for tests."""

import io

import av
import numpy as np

KINDS = {  # our name -> FFmpeg's format, codec, rate
    "mp3": ("mp3", "libmp3lame", 24_000),
    "m4a": ("ipod", "aac", 44_100),
    "alac": ("ipod", "alac", 44_100),
    "aac": ("adts", "aac", 44_100),
    "webm": ("webm", "libopus", 48_000),
    "wma": ("asf", "wmav2", 44_100),
    "amr": ("amr", "libopencore_amrnb", 8_000),
    "ts": ("mpegts", "aac", 44_100),
    "mka": ("matroska", "libmp3lame", 44_100),
    "flv": ("flv", "aac", 44_100),
    "avi": ("avi", "libmp3lame", 44_100),
}


def encoded(wave_N: np.ndarray, kind: str, options=None, stereo: bool = False, film: bool = False) -> bytes:
    """The bytes of a file with this sound, (N,) at 16 kHz; `film`: with a picture, too."""
    form, codec, rate = KINDS[kind]
    layout, stream = "stereo" if stereo else "mono", io.BytesIO()
    with av.open(stream, "w", format=form, options=options or {}) as container:
        sound = container.add_stream(codec, rate=rate)
        sound.codec_context.layout = layout
        if codec == "wmav2":
            sound.codec_context.bit_rate = 64_000
        sound.codec_context.open()
        if film:
            picture = container.add_stream("mpeg4", rate=10)
            picture.width = picture.height = 32
            for n in range(len(wave_N) // 1600):
                frame = av.VideoFrame(32, 32, "yuv420p")
                frame.pts = n
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        x_CN = np.repeat(wave_N[None], 1 + stereo, axis=0).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(x_CN, format="fltp", layout=layout)
        frame.sample_rate = 16_000
        resampler = av.AudioResampler(
            sound.codec_context.format, layout, rate, frame_size=sound.codec_context.frame_size
        )
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    return stream.getvalue()
