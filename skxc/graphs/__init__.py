"""Building blocks for graphs over labels: CSR in, CSR out, no torch."""

from __future__ import annotations

from skxc.graphs._cooccurrence import cooccurrence
from skxc.graphs._correlation import (
    cluster_graph,
    drop_unlike,
    strongest_with_self_loops,
    without_columns,
)
from skxc.graphs._propagate import normalize_degrees, propagate
from skxc.graphs._prune import keep_strongest, without_diagonal
from skxc.graphs._walk import random_walk, simulated_walk

__all__ = [
    "cluster_graph",
    "cooccurrence",
    "drop_unlike",
    "keep_strongest",
    "normalize_degrees",
    "propagate",
    "random_walk",
    "simulated_walk",
    "strongest_with_self_loops",
    "without_columns",
    "without_diagonal",
]
