"""Rates are said once: sample rate and hop by speech/config.py, frames of a token by encoder and adapter."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mindspore_osum", "ckpt_convert")
RATES = {16_000, 160, 12.5, 0.08}  # Hz, samples of a frame, tokens of a second and seconds of a token
SCALES = {
    8,
    100,
    360_000,
}  # mel frames of a token, of a second, of an hour: in arithmetic with what counts them
STRIDES = {2, 4, 8}  # of convolutions, where frames are divided by them
COUNTS = re.compile(r"frame|speech|second|sample|mel|audio|wave", re.IGNORECASE)
FRAMES = re.compile(r"frame|mel", re.IGNORECASE)

# what may stand there: part of the line -> why
ALLOWED = {
    "mindspore_osum/speech/config.py": {
        "SAMPLE_RATE = 16_000": "the one place",
        "hop: int = 160": "the one place",
    },
    "mindspore_osum/bench/whisper_side.py": {
        "sampling_rate=16000": "transformers' argument, in an environment without this package",
    },
    "mindspore_osum/speech/silero.py": {"FRAME // 2": "the middle of a frame of the detector's own rate"},
}


def names(node: ast.AST) -> str:
    """All names in an expression."""
    parts = [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
    return " ".join(parts + [n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)])


def rates_in(source: str) -> list[int]:
    """Lines with a literal that is a rate."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value in RATES:
            found.add(node.lineno)
        if not isinstance(node, ast.BinOp):
            continue
        for one, other in ((node.left, node.right), (node.right, node.left)):
            value = one.value if isinstance(one, ast.Constant) else None
            scales = value in SCALES and isinstance(node.op, ast.Mult | ast.Div | ast.FloorDiv | ast.Mod)
            strides = value in STRIDES and isinstance(node.op, ast.FloorDiv)
            if scales and COUNTS.search(names(other)) or strides and FRAMES.search(names(other)):
                found.add(node.lineno)
    return sorted(found)


@pytest.mark.parametrize(
    "planted",
    [
        "n_speech = -(-len(mel_TF) // 8)",
        "frames = speech * 8",
        "seconds = frames / 100",
        "frames = round(s.seconds * 100)",
        "hours = self.heard_frames / 360_000",
        "half = (batch.frames + 1) // 2",
        "z = (MAX_FRAMES + 3) // 4",
        "SPEECH_TOKEN_SECONDS = 0.08",
        "HOP = 160",
        "load(path, rate=16000)",
        "tokens = 12.5 * length",
    ],
)
def test_a_planted_rate_is_found(planted):
    assert rates_in(planted) == [1]


@pytest.mark.parametrize(
    "other",
    ["bytes = bits // 8", "share = 100 * value", "half = text // 2", "smallest = 8", "lost = len(text) % 8"],
)
def test_other_numbers_are_none(other):
    assert not rates_in(other)


def test_rates_are_said_once():
    found, seen = [], set()
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        name, source = str(path.relative_to(ROOT)), path.read_text("utf-8")
        lines = source.splitlines()
        for number in rates_in(source):
            reasons = [part for part in ALLOWED.get(name, {}) if part in lines[number - 1]]
            seen |= {(name, part) for part in reasons}
            if not reasons:
                found.append(f"{name}:{number}: {lines[number - 1].strip()}")
    assert not found, "ask the model's Config (features, tokens, frames_per_token...): " + "; ".join(found)
    assert seen == {(name, part) for name, parts in ALLOWED.items() for part in parts}, "no longer there"
