"""What a model computes on: named in any case, or chosen."""

import contextlib
import glob

from mindspore_osum.allocator import keep_freed_memory
from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError

DEVICES = {"auto": "auto", "cpu": "CPU", "ascend": "Ascend", "npu": "Ascend"}  # as they may be named
NODES = "/dev/davinci[0-9]*"  # what Ascend's driver makes, one for each device


def device_of(name: str) -> str:
    """The device of a name: "CPU", or "Ascend"; "auto" is Ascend if this machine has one.

    Parameters
    ----------
    name : "auto", "CPU", "Ascend" or "NPU" in any case.

    Raises
    ------
    UserError : another name.
    """
    device = DEVICES.get(name.lower()) if isinstance(name, str) else None
    if device is None:
        known = did_you_mean(str(name), ("auto", "CPU", "Ascend", "NPU"))
        raise UserError(f"device {name!r} is unknown{known}")
    if device == "auto":
        return "Ascend" if glob.glob(NODES) else "CPU"
    return device


def exact_convolutions() -> None:
    """Let Ascend compute float32 convolutions in float32; the default of CANN is HF32 (11 bits of mantissa).

    Our convolutions are in float32 (models/layers.py); matrix products in float32 are exact by default.
    """
    from mindspore.device_context.ascend import op_precision

    with contextlib.suppress(RuntimeError):  # it was set in this process already
        op_precision.conv_allow_hf32(False)


def use_device(name: str) -> str:
    """Compute on the device of this name from now on; returns `device_of` it.

    Raises
    ------
    UserError : another name, or a device that is not available.
    """
    import mindspore as ms

    device = device_of(name)
    if device == "CPU":
        keep_freed_memory()
    try:
        if ms.get_context("device_target") != device:  # else it may be in use already, and cannot be set
            ms.set_device(device)
        if device == "Ascend":  # also where it is MindSpore's default
            exact_convolutions()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"device {device}: not available here ({reason}); CPU always is") from None
    return device
