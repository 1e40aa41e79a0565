"""Devices by their published numbers, and sizes of memory as people write them."""

import re
from dataclasses import dataclass

from mindspore_osum.errors import UserError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
NODE = 8  # devices of a server (Atlas 800T A2)


@dataclass(frozen=True)
class Device:
    """Peak numbers; nothing reaches them."""

    name: str
    bf16: float  # FLOP/s of dense bfloat16 and float16 matrix products
    fp32: float  # FLOP/s of dense float32 matrix products
    hbm: float  # bytes/s of device memory
    link: float  # bytes/s between devices of a server, one direction
    network: float  # bytes/s between servers, for each device


# bf16: Huawei's torchtitan-npu (peak FLOPS of its MFU): 373.88, 353.8944, 294.912 and 245.76 TFLOP/s of the cube
#   units; the larger figures in circulation (400, 376, 313, 280) add the vector units. They are cube cores x clock
#   x 16^3 x 2 with the cores and clocks of CANN's platform_config/Ascend910B*.ini, 910B2: 24 x 1.8 GHz.
# fp32: a quarter of it: DtypeMKN and rates of the same files give the cube 16 x 4 x 16 in float32 (HF32 off).
# hbm: 1.6 TB/s, as Huawei gives it for a die of the 910 series with 64 GB HBM2e (CloudMatrix384, arXiv 2506.12708,
#   section 3.3). No data sheet of the 910B itself with it was found; measured rates of copies are lower.
# link: HCCS, 392 GB/s a device in both directions over 7 links (Atlas 800T A2 technical specifications).
# network: one 200 Gbit/s RoCE port a device (the same).
_SERVER = {"hbm": 1.6e12, "link": 196e9, "network": 25e9}
DEVICES = {
    name: Device(name, bf16, bf16 / 4, **_SERVER)
    for name, bf16 in (
        ("910B1", 373.88e12), ("910B2", 353.8944e12), ("910B3", 294.912e12), ("910B4", 245.76e12),
    )
}


def parse_bytes(text: str, where: str) -> int:
    """'64GB', '58.5 GiB' or a number of bytes; decimal units, binary ones with an i."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", str(text), re.IGNORECASE)
    if not match or float(match[1]) <= 0:
        raise UserError(f"{where}: {text!r} is no size of memory; write it as 64GB or 60GiB")
    unit = UNITS[match[2].upper()]
    if match[3]:
        unit = 1024 ** (list(UNITS.values()).index(unit))
    return int(float(match[1]) * unit)
