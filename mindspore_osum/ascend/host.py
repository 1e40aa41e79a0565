"""What this machine has: versions of packages, of Ascend's driver and CANN, and its devices."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("mindspore_osum", "mindspore", "mindformers", "numpy", "safetensors", "protobuf")
ROOT = Path("/usr/local/Ascend")
# below the root or $ASCEND_HOME_PATH; each has a line Version=...
DRIVER = "driver/version.info"
TOOLKIT = ("compiler/version.info", "opp/version.info", "runtime/version.info", "version.cfg", "version.info")
HOMES = ("ascend-toolkit/latest", "latest", "cann")
VARIABLES = ("OSUM_OPS", "ASCEND_HOME_PATH", "ASCEND_OPP_PATH", "ASCEND_RT_VISIBLE_DEVICES", "DEVICE_ID")
LARGEST = 4096  # bytes that are read of a file
TIMEOUT = 20  # seconds for npu-smi


def packages() -> dict[str, str]:
    """Package -> version, "not installed" where it is missing."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def driver(root: Path = ROOT) -> str:
    """Version of the driver, or why it is not known."""
    return _version([root / DRIVER])


def cann(root: Path = ROOT) -> str:
    """Version of CANN, or why it is not known."""
    home = os.environ.get("ASCEND_HOME_PATH")
    homes = [Path(home)] if home else [root / name for name in HOMES]
    return _version([place / name for place in homes for name in TOOLKIT])


def _version(places: list[Path]) -> str:
    """The version that the first of these files has that is there."""
    for path in places:
        try:
            with open(path, "rb") as file:
                text = file.read(LARGEST).decode("utf-8", "replace")
        except OSError:
            continue
        for line in text.splitlines():
            key, _, value = line.partition("=")
            if key.strip().lower() in ("version", "runtime_running_version") and value.strip():
                return f"{value.strip()} ({path})"
        return f"no version in {path}"
    return f"none found ({places[0]} is not there)"


def devices() -> list[str]:
    """Lines of npu-smi about the devices; empty without it."""
    if not (program := shutil.which("npu-smi")):
        return []
    try:
        done = subprocess.run([program, "info"], capture_output=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"{program}: {type(error).__name__}"]
    text = done.stdout[: 1 << 16].decode("utf-8", "replace")
    words = "910", "310", "Version"
    return [line.rstrip() for line in text.splitlines() if any(word in line for word in words)]


def variables() -> dict[str, str]:
    """Environment variables that change what is computed, or where."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}
