"""`osum doctor`: what this machine has, and whether a layer of each kind computes here what it should."""

import json
import os
from collections.abc import Iterator

from mindspore_osum.device import device_of, use_device
from mindspore_osum.errors import UserError, one_line

EXAMPLES = """\
examples:
  osum doctor                     # versions, devices, operator rules, self-test
  OSUM_OPS=plain osum doctor      # the self-test by elementary operators alone
  osum doctor --no-self-test      # in a second, without a device
  osum doctor --json > doctor.json
"""


def add_arguments(parser) -> None:
    """The arguments of `osum doctor`."""
    parser.add_argument("--device", default="auto", metavar="NAME", help="CPU or Ascend (default: auto)")
    parser.add_argument("--no-self-test", action="store_true", help="do not compute anything")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")


def run(args) -> int:
    """Print what is found; UserError, so exit status 1, if a result of the self-test differs or misses."""
    device = device_of(args.device)
    facts = describe(device)
    if not args.json:
        for name, value in facts.items():
            print(f"{name}: {value if isinstance(value, str) else text(value)}", flush=True)
    results = []
    for operators, dtype in () if args.no_self_test else paths(use_device(args.device)):
        for name, is_fine, verdict in self_test(operators, dtype):
            about = {"operators": operators, "dtype": dtype, "name": name}
            results.append(about | {"fine": is_fine, "verdict": verdict})
            if not args.json:
                print(f"self-test, {operators} operators in {dtype}: {name}: {verdict}", flush=True)
    if args.json:
        print(json.dumps(facts | {"self-test": results}, ensure_ascii=False, indent=1))
    if failed := [f"{r['name']} ({r['operators']}, {r['dtype']})" for r in results if not r["fine"]]:
        raise UserError(
            f"self-test on {device}: {', '.join(failed)} differ from what is stored or did not run; "
            "docs/ASCEND.md, The first day, says what to do"
        )
    return 0


def paths(device: str) -> list[tuple[str, str]]:
    """Operators and types to test on a device: plain ones, and Ascend's own unless $OSUM_OPS is plain."""
    plain = [("plain", "float32")]
    if device == "CPU" or os.environ.get("OSUM_OPS") == "plain":
        return plain
    return [*plain, ("fused", "bfloat16"), ("fused", "float16")]


def self_test(operators: str, dtype: str) -> Iterator[tuple[str, bool, str]]:
    """Name, whether it is fine, and a verdict, for each result of ascend/selftest.py."""
    from mindspore_osum.ascend import selftest

    try:
        for result in selftest.run(operators, dtype):
            verdict = "fine" if result.is_fine else "DIFFERS"
            numbers = f"largest difference {result.difference:.1e}, allowed {result.allowed:g}"
            yield result.name, result.is_fine, f"{verdict}, {numbers}"
    except (RuntimeError, TypeError, ValueError) as error:  # MindSpore's: an operator that is missing, memory
        lines = [line.strip() for line in str(error).splitlines()]
        reason = next((line for line in lines if line and not line.startswith("-")), type(error).__name__)
        yield "the next result", False, f"STOPPED: {one_line(reason)}"


def describe(device: str) -> dict:
    """Versions, devices and rules, by name."""
    from mindspore_osum.ascend import host, rules

    table = rules.rules().values()
    believed = sum("no document" in rule.source for rule in table)
    return {
        "packages": host.packages(),
        "device": device,
        "driver": host.driver(),
        "CANN": host.cann(),
        "npu-smi": host.devices() or "not found, or names no device",
        "environment": host.variables(),
        "operator rules": f"{len(table)} operators of Atlas A2, {believed} of them without a document",
    }


def text(value: dict | list) -> str:
    """A value of `describe` on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {it}" for name, it in value.items()) or "none set"
    return "; ".join(value)
