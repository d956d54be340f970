"""Extreme multi-label classification with the interface of scikit-learn.

Public names are imported when they are first used, so that ``import skxc`` is quick and loads
neither torch nor transformers nor faiss.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skxc._warm_up import warm_up
    from skxc.calibration import TopKCalibrator
    from skxc.estimators import (
        DualEncoderXC,
        FusionXC,
        GraphRegularizedXC,
        KNeighborsXC,
        LabelGraphXC,
        LearnedIndexXC,
        LinearTreeXC,
        UnifiedXC,
    )
    from skxc.estimators._dual_encoder import ClassifierStage, JointVectors
    from skxc.estimators._graph_regularized import Bandit, GraphTerms
    from skxc.estimators._label_graph import Classifiers, LabelClusters, Ranker
    from skxc.estimators._learned_index import Edges, IndexClusters, LabelClassifiers
    from skxc.estimators._unified import LabelPool, LabelTable, TwoHeads
    from skxc.graphs import Pruning, RandomWalk
    from skxc.labels import AnchorGraph, LabelGraph, LabelTexts
    from skxc.linear import LabelTree, Solver
    from skxc.persistence import load, save
    from skxc.ranking import NeighborVotes
    from skxc.training import LabelQueries, Training

__version__ = "0.2.0"

# Where every name is: estimators, their parts, and what they are given.
_NAMES = {
    "calibration": ("TopKCalibrator",),
    "estimators": (
        *("DualEncoderXC", "FusionXC", "GraphRegularizedXC", "KNeighborsXC", "LabelGraphXC"),
        *("LearnedIndexXC", "LinearTreeXC", "UnifiedXC"),
    ),
    "estimators._dual_encoder": ("ClassifierStage", "JointVectors"),
    "estimators._graph_regularized": ("Bandit", "GraphTerms"),
    "estimators._label_graph": ("Classifiers", "LabelClusters", "Ranker"),
    "estimators._learned_index": ("Edges", "IndexClusters", "LabelClassifiers"),
    "estimators._unified": ("LabelPool", "LabelTable", "TwoHeads"),
    "graphs": ("Pruning", "RandomWalk"),
    "labels": ("AnchorGraph", "LabelGraph", "LabelTexts"),
    "linear": ("LabelTree", "Solver"),
    "persistence": ("load", "save"),
    "ranking": ("NeighborVotes",),
    "training": ("LabelQueries", "Training"),
    "_warm_up": ("warm_up",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
_ROOMS = (
    "base",
    "batching",
    "benchmark",
    "calibration",
    "clustering",
    "datasets",
    "encoders",
    "estimators",
    "exceptions",
    "fusion",
    "graphs",
    "indices",
    "inspection",
    "labels",
    "linear",
    "losses",
    "metrics",
    "model_selection",
    "negatives",
    "persistence",
    "presets",
    "ranking",
    "training",
)

__all__ = [
    "AnchorGraph",
    "Bandit",
    "ClassifierStage",
    "Classifiers",
    "DualEncoderXC",
    "Edges",
    "FusionXC",
    "GraphRegularizedXC",
    "GraphTerms",
    "IndexClusters",
    "JointVectors",
    "KNeighborsXC",
    "LabelClassifiers",
    "LabelClusters",
    "LabelGraph",
    "LabelGraphXC",
    "LabelPool",
    "LabelQueries",
    "LabelTable",
    "LabelTexts",
    "LabelTree",
    "LearnedIndexXC",
    "LinearTreeXC",
    "NeighborVotes",
    "Pruning",
    "RandomWalk",
    "Ranker",
    "Solver",
    "TopKCalibrator",
    "Training",
    "TwoHeads",
    "UnifiedXC",
    "__version__",
    "load",
    "save",
    "warm_up",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"skxc.{_MODULES[name]}"), name)
    if name in _ROOMS:
        return import_module(f"skxc.{name}")
    raise AttributeError(f"module 'skxc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
