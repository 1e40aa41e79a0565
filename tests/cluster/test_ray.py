"""Ray is joined or started, and replicas fit into it."""

import os
import socket
import sys
from importlib.util import find_spec

import pytest

from mindspore_osum.cluster.ray import check_address, import_ray, joined, largest_share, reserved
from mindspore_osum.errors import UserError


@pytest.mark.parametrize(
    ("replicas", "free", "share"),
    [
        (1, [8.0], 8),
        (2, [2.0], 1),
        (3, [8.0], 2),
        (2, [5.0, 1.0], 2),  # both on the larger machine
        (3, [4.0, 2.0], 2),
        (3, [2.0], 0),
        (3, [1.9, 1.9], 0),  # halves of two machines make no core
        (1, [], 0),
    ],
)
def test_the_share_of_a_replica_is_the_largest_that_fits(replicas, free, share):
    assert largest_share(replicas, free) == share


@pytest.mark.parametrize("address", ["", "ray://head:10001", "head", "head:port", ":6379", "head:99999"])
def test_an_address_of_another_form_is_refused(address):
    with pytest.raises(UserError, match="expected host:port"):
        check_address(address)


def test_a_dead_address_is_refused_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=f"127.0.0.1:{port}: no cluster answers there .Connection refused"):
        check_address(f"127.0.0.1:{port}")


def test_the_extra_is_named_where_ray_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(UserError, match=r"install the extra: pip install 'mindspore-osum\[ray\]'"):
        import_ray()


def _of_a_worker() -> tuple:
    """What a worker says after it has imported MindSpore."""
    import mindspore

    return mindspore.__version__, os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"]


@pytest.mark.slow
def test_a_cluster_of_this_machine():
    """Workers can import MindSpore, what does not fit is refused, and nothing listens to the network."""
    if not find_spec("ray"):  # importing it here would come before its environment is set
        pytest.skip("needs the extra `ray`")
    with joined() as ray:
        assert ray.util.get_node_ip_address() == "127.0.0.1"
        cores = int(ray.cluster_resources()["CPU"])
        assert reserved(cores, "CPU") == {"num_cpus": 1}
        with pytest.raises(
            UserError, match=f"--replicas {cores + 1}: each needs cores of its own, and {cores}"
        ):
            reserved(cores + 1, "CPU")
        with pytest.raises(UserError, match="--device Ascend: no NPU is free in the cluster"):
            reserved(1, "Ascend")
        version, implementation = ray.get(ray.remote(_of_a_worker).remote(), timeout=120)
        assert implementation == "python" and version
        with joined() as again:  # keeps the connection
            assert again is ray
        assert ray.is_initialized()
    assert not ray.is_initialized()
