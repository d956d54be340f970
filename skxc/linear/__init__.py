"""Linear classifiers over label trees. numpy, scipy and numba only."""

from __future__ import annotations

from skxc.linear._chunks import ChunkedWeights
from skxc.linear._search import score_pairs, search
from skxc.linear._solver import Solver
from skxc.linear._steps import way_to
from skxc.linear._text import vectorize_one
from skxc.linear._train import train_trees
from skxc.linear._tree import LabelTree, grow_trees
from skxc.linear._vectors import label_vectors, unit_rows

__all__ = [
    "ChunkedWeights",
    "LabelTree",
    "Solver",
    "grow_trees",
    "label_vectors",
    "score_pairs",
    "search",
    "train_trees",
    "unit_rows",
    "vectorize_one",
    "way_to",
]
