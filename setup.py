"""The distribution: the `mindspore_osum` and `ckpt_convert` packages and the `osum` command."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
PACKAGE_INIT = (HERE / "mindspore_osum" / "__init__.py").read_text(encoding="utf-8")
VERSION = re.search(r'^__version__ = "(.+)"$', PACKAGE_INIT, re.M).group(1)

# MindSpore, MindFormers and transformers move together: scripts/stacks/ has the sets the tests pass on, and
# MindFormers itself pins transformers. Everything else has the range in which its API is the one used here.
CORE = [
    "mindspore>=2.7.2,<2.10",
    "mindformers>=1.8,<1.10",
    "transformers==4.57.1",
    "tokenizers==0.22.2",
    "numpy>=1.26,<2",  # MindSpore 2.7 is built against NumPy 1
    "soundfile>=0.12.1,<1",
    "av>=17,<19",  # FFmpeg, in its wheels: mp3, m4a, webm, films
    "librosa>=0.10.2,<0.12",
    "soxr>=0.3.7,<2",  # librosa's resampler, fed piece by piece
    "pyyaml>=6.0,<7",
    "jiwer>=3.0.4,<5",
    "safetensors>=0.4.3,<1",
    "sentencepiece>=0.2.1,<0.3",
    "tqdm>=4.65,<5",
    "xxhash>=3.0,<5",  # digests of checkpoints
    "huggingface-hub>=0.30,<1",  # transformers brings it too
    "shtab>=1.13,<2",  # before, names with spaces were not completed
    "tensorboardX>=2.6,<3",  # MindFormers brings it too
    "pyarrow>=15,<24",  # the same, which pins it
    "fsspec>=2023.6,<=2025.3.0",  # the same, of its datasets, which has this bound
]
EXTRAS = {
    # the PyTorch-free oracle of the published classes; newer peft and diffusers break its import
    "mindnlp": ["mindnlp==0.5.0", "peft==0.17.1", "accelerate==1.10.1", "diffusers==0.35.1"],
    "serve": ["fastapi>=0.110,<1", "starlette>=1,<2", "uvicorn>=0.29,<1", "python-multipart>=0.0.34,<1"],
    "demo": ["gradio>=6.10,<6.18"],  # 6.18 asks for a huggingface_hub that transformers 4.57 refuses
    "microphone": ["sounddevice>=0.4.6,<1"],  # and PortAudio itself: apt install libportaudio2
    "silero": ["silero-vad>=6,<7"],  # brings torch; voice activity by a network, for whoever asks for it
    "modelscope": ["modelscope-hub>=0.5,<1"],  # models from that hub; the one of Hugging Face needs none
    # object stores, for fsspec; s3fs has its version
    "s3": ["s3fs>=2023.6,<=2025.3.0"],
    "oss": ["ossfs>=2023.12,<2026"],
    "obs": ["obsfs>=0.1.1,<1"],
    "numbers": ["cn2an>=0.5.23,<1"],  # Chinese numerals as digits, in scoring
    "plots": ["matplotlib>=3.8,<4"],
    "docs": ["mkdocs>=1.6,<2"],
    # earlier ones start a cluster that takes work from anybody; 2.64 drops an argument
    "ray": ["ray[data,serve]>=2.60,<2.64"],
    # torch and peft are references that tests compare with; verification, osum bench and
    # speech/silero.py alone import torch
    # and srt, webvtt-py and praatio read the subtitles and TextGrids again
    "dev": [
        "pytest>=8,<10",
        "wheel>=0.43,<1",
        "pytest-xdist>=3.6,<4",
        "ruff>=0.9,<1",
        "bandit>=1.8,<2",
        "hypothesis>=6.100,<7",
        "pypinyin>=0.51,<1",
        "torch==2.13.0",
        "peft==0.17.1",
        "srt>=3.5,<4",
        "webvtt-py>=0.5,<1",
        "praatio>=6.0,<7",
        "openai>=2,<3",
        "httpx>=0.27,<1",
        "prometheus-client>=0.20,<1",
        "playwright>=1.45,<2",
        "moto[s3]>=5,<6",  # an S3 server, with these two
        "flask>=3,<4",
        "flask-cors>=5,<7",
    ],  # what asks `osum serve`, and looks at `osum demo` through a browser
}
for extra in (
    "serve",
    "numbers",
    "plots",
    "demo",
    "silero",
    "docs",
    "modelscope",
    "s3",
):  # their tests run, too
    EXTRAS["dev"] += EXTRAS[extra]

setup(
    name="mindspore-osum",
    version=VERSION,
    description="OSUM speech understanding models native in MindSpore: training, inference, conversion",
    license="Apache-2.0",
    packages=find_packages(include=["mindspore_osum", "mindspore_osum.*", "ckpt_convert", "ckpt_convert.*"]),
    package_data={"mindspore_osum": ["**/*.yaml", "assets/**/*"]},
    python_requires=">=3.10,<3.12",
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["osum = mindspore_osum.__main__:main"]},
)
