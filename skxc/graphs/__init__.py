"""Building blocks for graphs: CSR in, CSR out, no torch.

Rows are labels or samples, columns are labels or metadata nodes.
"""

from __future__ import annotations

from collections.abc import Callable

import scipy.sparse as sp

from skxc.graphs._cooccurrence import cooccurrence
from skxc.graphs._correlation import (
    cluster_graph,
    correlation_graph,
    strongest_with_self_loops,
    without_columns,
)
from skxc.graphs._propagate import normalize_degrees, propagate
from skxc.graphs._prune import (
    Pruning,
    as_ones,
    edge_cosines,
    keep_edges,
    keep_strongest,
    strongest_products,
    without_diagonal,
    without_hubs,
)
from skxc.graphs._walk import RandomWalk

#: What makes a label graph from the training labels, for every name that may stand for one. A new
#: one is a file and a line here.
NAMES: dict[str, Callable[[sp.csr_array], sp.csr_array]] = {"cooccurrence": cooccurrence}

__all__ = [
    "Pruning",
    "RandomWalk",
    "as_ones",
    "cluster_graph",
    "cooccurrence",
    "correlation_graph",
    "edge_cosines",
    "keep_edges",
    "keep_strongest",
    "normalize_degrees",
    "propagate",
    "strongest_products",
    "strongest_with_self_loops",
    "without_columns",
    "without_diagonal",
    "without_hubs",
]
