"""YAML within bounds: what is larger, deeper or stranger than settings is one line before it takes memory."""

import dataclasses
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindspore_osum.config import MOST_VALUES, Reader, from_dict, parse_overrides, parse_yaml, read_yaml
from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.requests import read_pools


def bomb(levels: int, width: int = 10) -> str:
    """Each level is a list of aliases of the one before it: `width` to the power of `levels` values."""
    lines = ["a0: &a0 [" + ",".join("x" * width) + "]"]
    lines += [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * width) + "]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (bomb(9), f"x.yaml:6: more than {MOST_VALUES} values"),
        ("b: &a [x]\nc: {<<: [*a, " + "*a, " * 90 + "]}\n" + bomb(9), f"more than {MOST_VALUES} values"),
        ("- " * 2**18 + "x", "x.yaml:1: more than 50 lists or mappings in one another"),
        ("a: " + "[" * 60, "x.yaml:1: more than 50 lists or mappings in one another"),
        ("a: " + "{a: " * 60, "x.yaml:1: more than 50 lists or mappings in one another"),
        ("a: " + "[" * 2000, "x.yaml:1: "),  # by libyaml
        ("a: " + "[" * 100_000, "x.yaml:1: "),
        ("a: &a [*a]", "x.yaml:1: *a stands for nothing that is complete before it"),
        ("a: *b", "x.yaml:1: *b stands for nothing"),
        ("a: 2001-99-99", "x.yaml: no such date or number (month must be in 1..12"),
        ("a: " + "9" * 5000, "x.yaml: no such date or number (Exceeds the limit"),
        ("a: !!timestamp x", "x.yaml:1: tag tag:yaml.org,2002:timestamp: settings are plain values"),
        ("a: !!int x", "settings are plain values"),
        ("a: !!python/object/apply:os.system [ls]", "settings are plain values"),
        ("? [a]\n: b", "not valid YAML"),
        ("a: {", "not valid YAML"),
        ("a: =", "not valid YAML"),
        ("a: \0", "not valid YAML"),
        ("a: \x1b[2J", "not valid YAML"),
        ("- a", "expected a mapping of settings"),
        ("#" * 2**20 + "\na: 1", "larger than 1048576 bytes, not a file of settings"),
    ],
)
def test_what_settings_never_are_is_one_line(tmp_path, text, says):
    (tmp_path / "x.yaml").write_text(text, "utf-8")
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(UserError) as caught:
        read_yaml(str(tmp_path / "x.yaml"))
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert says in str(caught.value) and str(caught.value).startswith(f"{tmp_path}/x.yaml")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400
    assert peak < 2**26 and seconds < 5


def test_plain_settings_are_read(tmp_path):
    """Aliases and merges of a sane size, dates, marks of Windows, and as many requests as a set has."""
    text = "\ufeffa: &a {b: 1, c: [x, 2.5]}\nd: {<<: *a, b: 2}\ne: 2001-01-31\nf: *a\n"
    (tmp_path / "x.yaml").write_text(text, "utf-8")
    values = read_yaml(str(tmp_path / "x.yaml"))
    assert values["d"] == {"b": 2, "c": ["x", 2.5]} and values["f"] == values["a"]
    assert values["e"].year == 2001
    (tmp_path / "r.yaml").write_text("\ufeffasr:\n" + "- write down what you hear\n" * 80_000, "utf-8")
    assert len(read_pools(str(tmp_path / "r.yaml"))[("asr",)]) == 80_000
    (tmp_path / "x.yaml").write_text("a: 1", "utf-16")
    with pytest.raises(UserError, match="x.yaml: not text in UTF-8 but in UTF-16"):
        read_yaml(str(tmp_path / "x.yaml"))


@dataclasses.dataclass
class Settings:
    number: int = 1
    share: float = 0.5
    names: list[str] = dataclasses.field(default_factory=list)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"number": 10**400}, "number: a number of 1329 bits is too large"),
        ({"share": 10**400}, "share: a number of 1329 bits is too large"),
        ({"share": "1e999"}, "share: inf must be a finite number"),
        ({"share": float("nan")}, "share: nan must be a finite number"),
        ({"number": 2**64}, "number: 18446744073709551616 is too large a number"),
        ({"names": "x" * 10**6}, "names: expected a list, found 'xxx"),
        ({"number": [["x"] * 1000] * 1000}, "number: expected int, found [['x', "),
    ],
)
def test_values_that_cannot_be_used_are_one_line(values, says):
    with pytest.raises(UserError) as caught:
        from_dict(Settings, values, "x.yaml")
    assert says in str(caught.value) and len(str(caught.value)) < 300


def test_numbers_of_foreign_descriptions_are_bounded():
    for value in (10**400, float("inf"), float("nan")):
        with pytest.raises(UserError, match="n should be of type float"):
            Reader({"n": value}, "config.json").get("n", float)


@given(st.text(max_size=40) | st.text(":-[]{}&*!<>|?%@`'\"\n #,x019.e+=~", max_size=30))
def test_no_text_ends_in_another_error(text):
    for read in (lambda: parse_yaml(text, "x"), lambda: parse_overrides([f"a={text}"])):
        try:
            read()
        except UserError as error:
            assert str(error).isprintable()
