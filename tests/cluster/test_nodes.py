"""A cluster of two machines, of which one is lost. A file of its own: a process is in one cluster."""

from importlib.util import find_spec

import pytest

from mindspore_osum.cluster.bulk import answered, in_parts
from mindspore_osum.cluster.ray import import_ray
from tests.cluster.work import ITEMS, Doubling, doubled


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("ray"), reason="needs the extra `ray`")
def test_a_killed_node():
    """The other one answers all, once."""
    import_ray()
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        lost = [nodes.add_node(num_cpus=1), nodes.add_node(num_cpus=1)].pop()
        found = []
        for part in answered(Doubling(seconds=0.5), in_parts(ITEMS, 2), 2, "CPU", nodes.address):
            found.append(part)
            if len({answer[1] for _, answers in found for answer in answers}) == 2 and lost:
                nodes.remove_node(lost, allow_graceful=False)
                lost = None
        assert doubled(found) == [2 * n for n in ITEMS] and not lost
    finally:
        nodes.shutdown()
