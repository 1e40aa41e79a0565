"""Devices by name."""

import pytest

from mindspore_osum import device
from mindspore_osum.errors import UserError


@pytest.mark.parametrize(
    "name, expected",
    [
        ("cpu", "CPU"),
        ("CPU", "CPU"),
        ("ascend", "Ascend"),
        ("Ascend", "Ascend"),
        ("npu", "Ascend"),
        ("NPU", "Ascend"),
    ],
)
def test_any_case(name, expected):
    assert device.device_of(name) == expected


def test_auto_is_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "NODES", str(tmp_path / "davinci[0-9]*"))
    (tmp_path / "davinci_manager").touch()
    assert device.device_of("auto") == "CPU"
    (tmp_path / "davinci0").touch()
    assert device.device_of("Auto") == "Ascend"


@pytest.mark.parametrize("name", ["ascnd", "", None, 0])
def test_unknown(name):
    with pytest.raises(UserError, match="is unknown; "):
        device.device_of(name)


def test_float32_convolutions_are_not_rounded_on_ascend(monkeypatch):
    """HF32 is CANN's default there."""
    ms = pytest.importorskip("mindspore")
    from mindspore.device_context.ascend import op_precision

    said = []
    monkeypatch.setattr(ms, "set_device", said.append)
    monkeypatch.setattr(op_precision, "conv_allow_hf32", said.append)
    monkeypatch.setattr(ms, "get_context", lambda name: "CPU")
    assert device.use_device("NPU") == "Ascend" and said == ["Ascend", False]
    said.clear()  # where Ascend is MindSpore's default
    monkeypatch.setattr(ms, "get_context", lambda name: "Ascend")
    assert device.use_device("NPU") == "Ascend" and said == [False]
