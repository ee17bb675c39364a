"""Numbers of reference networks: too much coupling fails no other test."""

from __future__ import annotations

from functools import cache

import networkx as nx
import numpy as np
import pytest

from models import architectures
from onnxprune.coupling.connected import connected
from onnxprune.coupling.trace import trace
from onnxprune.selection.cost import cost

from . import battery
from .full import sampled


class Reference:
    """What is known of a network.

    The pruned shares are those of ratio 0.5 with granularity 1; the full numbers are those of
    torchvision's documentation.
    """

    def __init__(
        self, units: int, groups: int, parameters: int, macs: float, kept: tuple[float, float]
    ) -> None:
        self.units, self.groups, self.parameters, self.macs = units, groups, parameters, macs
        self.kept = kept


REFERENCES = {
    "resnet50": Reference(11456, 37, 25530472, 4.09e9, (0.2704, 0.2573)),
    "densenet121": Reference(10240, 120, 8040040, 2.83e9, (0.2867, 0.2605)),
    "mobilenet_v2": Reference(9128, 25, 3487818, 0.30e9, (0.3479, 0.2773)),
    "shufflenet_v2": Reference(3542, 39, 2270514, 0.14e9, (0.3907, 0.3254)),
}

every_network = pytest.mark.parametrize("name", REFERENCES)
light_networks = pytest.mark.parametrize(
    "name", sampled(REFERENCES, lambda _, name: REFERENCES[name].parameters < 5e6)
)


@cache
def pruned(name: str, seed: int | None = None) -> battery.Pruned:
    traced = pruned(name).trace if seed else trace(getattr(architectures, name)())
    return battery.prune_trace(traced, seed)


@every_network
def test_units_and_groups(name: str) -> None:
    traced, known = pruned(name).trace, REFERENCES[name]
    assert (traced.units, len(traced)) == (known.units, known.groups)
    assert [g.name for g in traced.blocked] == ["head"]
    assert not traced.obstacles()


@every_network
def test_cost(name: str) -> None:
    found, known = pruned(name), REFERENCES[name]
    dense = cost(found.trace, found.trace.sizes(), found.trace.model)
    slim = cost(found.trace, found.sizes, found.slim)
    assert dense.parameters == known.parameters
    assert dense.macs == pytest.approx(known.macs, abs=0.005e9)
    kept = slim.parameters / dense.parameters, slim.macs / dense.macs
    assert kept == pytest.approx(known.kept, abs=5e-5)
    battery.check_cost(found)


@light_networks
def test_random_ratios_are_exact(name: str) -> None:
    found = pruned(name, seed=1)
    battery.check_valid(found)
    battery.check_exact(found, limit=2e-5)


GRAPHS = {
    "chain": nx.path_graph(500), "star": nx.star_graph(300), "tree": nx.balanced_tree(3, 5), "nothing": nx.empty_graph(7),
    "sparse": nx.gnm_random_graph(2000, 900, seed=1), "dense": nx.gnm_random_graph(300, 3000, seed=2),
    "islands": nx.disjoint_union_all([nx.path_graph(k) for k in range(1, 40)]),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("seed", [None, 0, 1], ids=["in order", "shuffled", "shuffled again"])
def test_components_are_those_of_networkx(name: str, seed: int | None) -> None:
    """Numbered by their smallest nodes, whatever the order of nodes and edges is."""
    graph = GRAPHS[name]
    count = len(graph)
    place = np.arange(count) if seed is None else np.random.default_rng(seed).permutation(count)
    edges = np.array([(place[a], place[b]) for a, b in graph.edges], np.int64).reshape(-1, 2)
    moved = nx.empty_graph(count)
    moved.add_edges_from(edges.tolist())
    expected = np.zeros(count, np.int64)
    for number, nodes in enumerate(sorted(nx.connected_components(moved), key=min)):
        expected[list(nodes)] = number
    np.testing.assert_array_equal(connected(count, edges[:, 0], edges[:, 1]), expected)
