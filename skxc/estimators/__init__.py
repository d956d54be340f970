"""The estimators, each imported when it is first used."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skxc.estimators._dual_encoder import DualEncoderXC
    from skxc.estimators._fusion import FusionXC
    from skxc.estimators._graph_regularized import GraphRegularizedXC
    from skxc.estimators._k_neighbors import KNeighborsXC
    from skxc.estimators._label_graph import LabelGraphXC
    from skxc.estimators._learned_index import LearnedIndexXC
    from skxc.estimators._linear_tree import LinearTreeXC
    from skxc.estimators._unified import UnifiedXC

_MODULES = {
    "DualEncoderXC": "_dual_encoder",
    "FusionXC": "_fusion",
    "GraphRegularizedXC": "_graph_regularized",
    "KNeighborsXC": "_k_neighbors",
    "LabelGraphXC": "_label_graph",
    "LearnedIndexXC": "_learned_index",
    "LinearTreeXC": "_linear_tree",
    "UnifiedXC": "_unified",
}

__all__ = [
    "DualEncoderXC",
    "FusionXC",
    "GraphRegularizedXC",
    "KNeighborsXC",
    "LabelGraphXC",
    "LearnedIndexXC",
    "LinearTreeXC",
    "UnifiedXC",
    "all_estimators",
]


def all_estimators() -> list[tuple[str, type]]:
    """Return (name, class) of all estimators, sorted by name.

    Returns
    -------
    list of (str, type)
    """
    modules = [
        import_module(f"{__name__}.{module.name}")
        for module in pkgutil.iter_modules(__path__)
        if module.name.startswith("_")
    ]
    found = {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type)
        and name.endswith("XC")
        and name != "NeuralXC"
        and value.__module__.startswith(module.__name__)
    }
    return sorted(found.items())


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
