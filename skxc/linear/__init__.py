"""Linear classifiers over label trees. numpy, scipy and numba only."""

from __future__ import annotations

from skxc.linear._chunks import ChunkedWeights
from skxc.linear._ranker import SparseRanker
from skxc.linear._text import vectorize_one
from skxc.linear._train import Solver, TreeTrainer, join_models, search
from skxc.linear._tree import LabelTree, build_tree, flat_tree
from skxc.linear._vectors import label_vectors, unit_rows

__all__ = [
    "ChunkedWeights",
    "LabelTree",
    "Solver",
    "SparseRanker",
    "TreeTrainer",
    "build_tree",
    "flat_tree",
    "join_models",
    "label_vectors",
    "search",
    "unit_rows",
    "vectorize_one",
]
