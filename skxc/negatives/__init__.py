"""Which labels a batch is scored against, and which of them are positive. numpy only."""

from __future__ import annotations

from skxc.negatives._all_labels import AllLabels
from skxc.negatives._in_batch import InBatch
from skxc.negatives._make import make_negatives
from skxc.negatives._mined import Mined
from skxc.negatives._pairs import membership, sample_positives
from skxc.negatives.base import Negatives, Search

__all__ = [
    "AllLabels",
    "InBatch",
    "Mined",
    "Negatives",
    "Search",
    "make_negatives",
    "membership",
    "sample_positives",
]
