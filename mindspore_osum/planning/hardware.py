"""Devices with their published peak numbers, and parsing of memory sizes."""

import re
from dataclasses import dataclass

from mindspore_osum.errors import UserError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
NODE = 8  # devices of a server (Atlas 800T A2)


@dataclass(frozen=True)
class Device:
    """Peak numbers, an upper bound for real programs."""

    name: str
    bf16: float  # FLOP/s of dense bfloat16 and float16 matrix products
    fp32: float  # FLOP/s of dense float32 matrix products
    hbm: float  # bytes/s of device memory
    link: float  # bytes/s between devices of a server, one direction
    network: float  # bytes/s between servers, for each device


# bf16: peaks used by Huawei's torchtitan-npu to compute MFU, cube units only: 373.88, 353.8944, 294.912
#   and 245.76 TFLOP/s, cores x clock x 16^3 x 2 (CANN's platform_config/Ascend910B2C.ini: 24 cores, 1.8 GHz).
#   The larger figures in circulation (400, 376, 313, 280) are Huawei's totals, vector units included.
# fp32: an assumption, a quarter of it (a public benchmark measured 87 against 328 TFLOP/s).
# hbm: 1.6 TB/s with 64 GB, half of it in the 910B4 with 32 GB, from public simulators of Ascend; no vendor
#   data sheet with this number was found.
# link: HCCS, 392 GB/s a device in both directions over 7 links (Atlas 800T A2, technical specifications).
# network: one 200 Gbit/s RoCE port a device.
_LINKS = {"link": 196e9, "network": 25e9}
DEVICES = {
    name: Device(name, bf16, bf16 / 4, hbm, **_LINKS)
    for name, bf16, hbm in (
        ("910B1", 373.88e12, 1.6e12),
        ("910B2", 353.8944e12, 1.6e12),
        ("910B3", 294.912e12, 1.6e12),
        ("910B4", 245.76e12, 0.8e12),
    )
}


def parse_bytes(text: str, where: str) -> int:
    """'64GB', '58.5 GiB' or '900B': decimal units, binary ones with an i. A number alone is refused: whoever
    writes 64 does not mean bytes."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", str(text), re.IGNORECASE)
    if not match or float(match[1]) <= 0:
        raise UserError(f"{where}: {text!r} is no size of memory; write it as 64GB or 60GiB")
    if str(text).strip() == match[1]:
        raise UserError(f"{where}: {text!r} has no unit; write {match[1]}GB or {match[1]}GiB")
    unit = UNITS[match[2].upper()]
    if match[3]:
        unit = 1024 ** (list(UNITS.values()).index(unit))
    return int(float(match[1]) * unit)
