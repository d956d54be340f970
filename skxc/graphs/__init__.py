"""Building blocks for graphs over labels: CSR in, CSR out, no torch."""

from __future__ import annotations

from skxc.graphs._cooccurrence import cooccurrence
from skxc.graphs._prune import keep_strongest, without_diagonal

__all__ = ["cooccurrence", "keep_strongest", "without_diagonal"]
