"""Devices with their published numbers, what of their memory is reserved, and parsing of memory sizes."""

import re
from dataclasses import dataclass

from mindspore_osum.errors import UserError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
NODE = 8  # devices of a server (Atlas 800T A2)
MIB, GIB = 1 << 20, 1 << 30
POOL = 15 / 16  # of free memory that MindSpore takes; the rest is for HCCL, the runtime and other components


@dataclass(frozen=True)
class Device:
    """Peak numbers, an upper bound for real programs, and its memory."""

    name: str
    memory: int  # bytes, as sold
    driver: int  # bytes of it that no program sees
    context: int  # bytes that the runtime holds once a program is there
    half: float  # FLOP/s of dense float16 matrix products, and of bfloat16 where there is bfloat16
    fp32: float  # FLOP/s of dense float32 matrix products
    hbm: float  # bytes/s of device memory
    link: float  # bytes/s between devices of a server, one direction
    network: float  # bytes/s between servers, for each device
    launch: float  # seconds from one operator to the next at least: an assumption
    trains: bool = True  # else inference in float16 and float32 only

    def pool(self, memory: int) -> int:
        """Bytes for parameters and tensors on a device of this type with `memory` bytes.

        What `max_device_memory` may be: MindSpore's own default (ascend_memory_adapter.cc), 15/16 of what is
        free. A setting of all that is free or more is an error there, when the job starts.
        """
        return max(0, int((memory - self.driver - self.context) * POOL))


# Sources. V: seen in a vendor's file or log, or measured; B: belief.
# half: cube cores x clock x 16^3 x 2. V for the 910B: CANN's platform_config (B2: 24 x 1.8 GHz; B4: 20 x
#   1.5 GHz; B4-1: 20 cores by npu-smi), and the peaks of cube units by which Huawei's torchtitan-npu computes
#   MFU. The larger figures in circulation (400, 376, 313, 280) are totals with the vector units.
#   310P1: 10 cores x 1.06 GHz, V (CANN's platform_config). 310P3: 8 cores V, 1.08 GHz B, half of the 140 TOPS
#   of INT8 that cards are sold with.
# fp32: an assumption, a quarter of it (a public benchmark measured 87 against 328 TFLOP/s).
# hbm: B. 1.6 TB/s with 64 GiB (1.5 by others), half of it with 32 GiB, from public simulators of Ascend;
#   CANN's rate of the 910B4, 32 bytes a core and cycle, gives 0.96 TB/s. 310P: half of the 408 GB/s of an
#   Atlas 300I Duo, which has two chips; its data sheet as quoted in the press.
# memory: V. npu-smi shows 65,536 MB and, for the 910B4, 32,768; for a 310P3 on cards with 24 GB a chip
#   21,527, on an Atlas 300I Duo with 96 GB 44,280. 310P1: B, as a 310P3.
# driver: V. Programs see 62,432 MiB of 64 GiB (logs of MindSpore), 30,198 of 32 GiB (29.49 GiB in PyTorch's).
# context: V. MindSpore's documentation has 58,196 MiB of 62,420 taken, 15/16 of all but 344; for the 910B4 B.
#   On an idle 310P3 1,800 MB are used, by driver and runtime together.
# link: HCCS, V: 392 GB/s a device in both directions over 7 links (Atlas 800T A2, technical specifications).
#   310P: PCIe 4.0 x16, half of it a chip, B.
# network: one 200 Gbit/s RoCE port a device.
# launch: B, from V: the smallest kernels take 19 to 30 us on a 910B3 and 75 us on a 310P3 from launch to
#   synchronisation (benchmarks of ascend-rs, appendix F).
def _trainer(name: str, half: float, hbm: float, memory: int, driver: int) -> Device:
    return Device(name, memory, driver, 344 * MIB, half, half / 4, hbm, 196e9, 25e9, 20e-6)


def _answerer(name: str, half: float) -> Device:
    memory, seen = 24 * GIB, 21_527 * MIB
    return Device(
        name, memory, memory - seen, 1_800 * MIB, half, half / 4, 204e9, 16e9, 25e9, 75e-6, trains=False
    )


DEVICES = {
    device.name: device
    for device in (
        _trainer("910B1", 373.88e12, 1.6e12, 64 * GIB, 3_104 * MIB),
        _trainer("910B2", 353.8944e12, 1.6e12, 64 * GIB, 3_104 * MIB),
        _trainer("910B3", 294.912e12, 1.6e12, 64 * GIB, 3_104 * MIB),
        _trainer("910B4", 245.76e12, 0.8e12, 32 * GIB, 2_570 * MIB),
        _trainer("910B4-1", 245.76e12, 1.6e12, 64 * GIB, 3_104 * MIB),
        _answerer("310P1", 86.8e12),
        _answerer("310P3", 70.8e12),
    )
}
LARGER = {"310P1": 48 * GIB, "310P3": 48 * GIB}  # memory of a chip on cards that have more
USUAL, SMALL = "910B3", "910B4"  # where no device is named: the latter if --memory is at most what it has


def device_of(name: str | None, memory: str | None) -> tuple[Device, int]:
    """The device that is planned for, and the bytes of its memory.

    Parameters
    ----------
    name : of `DEVICES`; None for the one that has such a memory. memory : as `parse_bytes`; None for its own.

    Raises
    ------
    UserError : no size of memory, or more than the device has.
    """
    size = parse_bytes(memory, "--memory") if memory is not None else None
    if name is None:
        name = SMALL if size is not None and size <= DEVICES[SMALL].memory else USUAL
    device = DEVICES[name]
    most = max(device.memory, LARGER.get(name, 0))
    if size is not None and size > most:
        raise UserError(f"--memory {memory}: a {name} has {most // GIB}GiB; leave it away, or give --device")
    return device, device.memory if size is None else size


def max_device_memory(size: int) -> str:
    """The largest value of MindSpore's setting within `size` bytes; it writes GB and means GiB."""
    return f"{size * 10 // GIB / 10:g}GB"


def parse_bytes(text: str, where: str, binary: bool = False) -> int:
    """'64GB', '58.5 GiB' or '900B': decimal units, binary ones with an i, or all if `binary`.

    A number alone is refused: whoever writes 64 does not mean bytes.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", str(text), re.IGNORECASE)
    if not match or float(match[1]) <= 0:
        raise UserError(f"{where}: {text!r} is no size of memory; write it as 64GB or 60GiB")
    if str(text).strip() == match[1]:
        raise UserError(f"{where}: {text!r} has no unit; write {match[1]}GB or {match[1]}GiB")
    unit = UNITS[match[2].upper()]
    if match[3] or binary:
        unit = 1024 ** (list(UNITS.values()).index(unit))
    return int(float(match[1]) * unit)
