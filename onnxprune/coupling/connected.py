"""Connected components of an undirected graph.

In rounds, every tree of nodes hooks its root to the smallest root that an edge leads to, then all
paths are halved until they end at their roots (after Shiloach and Vishkin, Journal of Algorithms 3,
1982). A round costs a few passes of numpy over the edges that still lead from tree to tree, and
there are few rounds; a package of graph algorithms takes longer to import than they take.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..labels.vector import Ints


def connected(count: int, a: Ints, b: Ints) -> Ints:
    """Number of the component of every node; components are numbered by their smallest nodes.

    Parameters
    ----------
    count : int
        Nodes 0, 1, ..., ``count - 1``.
    a, b : int array, shape (edges,)
        Ends of the edges.
    """
    root = np.arange(count)
    while True:
        one, two = root[a], root[b]
        apart = one != two
        if not apart.any():
            return _numbered(root)
        a, b = one[apart], two[apart]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(root, above := root[root]):
            root = above


def _numbered(root: Ints) -> npt.NDArray[np.int64]:
    """Numbers in the order of the roots, each of which is the smallest node of its component."""
    return (np.cumsum(root == np.arange(len(root))) - 1)[root]
