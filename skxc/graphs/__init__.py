"""Building blocks for graphs: CSR in, CSR out, no torch.

Rows are labels or samples, columns are labels or metadata nodes.
"""

from __future__ import annotations

from skxc.graphs._cooccurrence import cooccurrence
from skxc.graphs._correlation import (
    cluster_graph,
    correlation_graph,
    drop_unlike,
    strongest_with_self_loops,
    without_columns,
)
from skxc.graphs._densify import as_ones, densify, visited_columns
from skxc.graphs._nearest import nearest_neighbors
from skxc.graphs._propagate import hops, normalize_degrees, propagate
from skxc.graphs._prune import (
    edge_cosines,
    keep_edges,
    keep_strongest,
    strongest_products,
    without_diagonal,
    without_hubs,
)
from skxc.graphs._walk import random_walk, row_shares, simulated_walk

__all__ = [
    "as_ones",
    "cluster_graph",
    "cooccurrence",
    "correlation_graph",
    "densify",
    "drop_unlike",
    "edge_cosines",
    "hops",
    "keep_edges",
    "keep_strongest",
    "nearest_neighbors",
    "normalize_degrees",
    "propagate",
    "random_walk",
    "row_shares",
    "simulated_walk",
    "strongest_products",
    "strongest_with_self_loops",
    "visited_columns",
    "without_columns",
    "without_diagonal",
    "without_hubs",
]
