"""Looking into predictions and training: where an estimator gains, and what a graph did."""

from __future__ import annotations

from skxc.inspection._deciles import (
    FrequencyBins,
    plot_precision_by_frequency,
    precision_by_frequency,
)
from skxc.inspection._explain import Explanation, explain
from skxc.inspection._graph_terms import plot_edge_survival, plot_graph_weights
from skxc.inspection._neighborhood import (
    Neighborhood,
    label_neighborhood,
    plot_label_neighborhood,
)

__all__ = [
    "Explanation",
    "FrequencyBins",
    "Neighborhood",
    "explain",
    "label_neighborhood",
    "plot_edge_survival",
    "plot_graph_weights",
    "plot_label_neighborhood",
    "plot_precision_by_frequency",
    "precision_by_frequency",
]
