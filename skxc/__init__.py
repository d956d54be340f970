"""Extreme multi-label classification with the interface of scikit-learn.

Public names are imported when they are first used, so that ``import skxc`` is quick and loads
neither torch nor transformers nor faiss.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from skxc.labels import AnchorGraph, LabelGraph, LabelTexts
    from skxc.persistence import load, save

__version__ = "0.2.0"

_MODULES = {
    "AnchorGraph": "labels",
    "DualEncoderXC": "estimators",
    "FusionXC": "estimators",
    "GraphRegularizedXC": "estimators",
    "KNeighborsXC": "estimators",
    "LabelGraph": "labels",
    "LabelGraphXC": "estimators",
    "LabelTexts": "labels",
    "LearnedIndexXC": "estimators",
    "LinearTreeXC": "estimators",
    "TopKCalibrator": "calibration",
    "UnifiedXC": "estimators",
    "load": "persistence",
    "save": "persistence",
}
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
    "ranking",
    "training",
)

__all__ = [
    "AnchorGraph",
    "DualEncoderXC",
    "FusionXC",
    "GraphRegularizedXC",
    "KNeighborsXC",
    "LabelGraph",
    "LabelGraphXC",
    "LabelTexts",
    "LearnedIndexXC",
    "LinearTreeXC",
    "TopKCalibrator",
    "UnifiedXC",
    "__version__",
    "load",
    "save",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"skxc.{_MODULES[name]}"), name)
    if name in _ROOMS:
        return import_module(f"skxc.{name}")
    raise AttributeError(f"module 'skxc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
