"""How a graph took part in training: the weights of its terms, and the edges that pruning kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skxc.inspection._axes import axes_or_new


def plot_graph_weights(estimator: Any, *, ax: Any = None) -> Any:
    """Draw the weight of every graph term over the steps of training.

    Parameters
    ----------
    estimator : fitted GraphRegularizedXC
    ax : matplotlib Axes, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    Axes
        With one line per graph and side, over epochs; ``ax.figure.savefig(...)`` saves it.

    Raises
    ------
    ImportError
        If matplotlib is not installed: ``pip install skxc[plot]``.
    """
    check_is_fitted(estimator, "graph_weights_")
    weights = dict(estimator.graph_weights_)
    epochs = weights.pop("epoch")
    _, first, n_steps = np.unique(epochs, return_index=True, return_counts=True)
    step = np.arange(len(epochs)) - np.repeat(first, n_steps)
    ax = axes_or_new(ax, 6, 3.5)
    for name, values in weights.items():
        ax.plot(epochs + step / np.repeat(n_steps, n_steps), values, label=name)
    return _finish(ax, "weight of the term")


def plot_edge_survival(estimator: Any, *, ax: Any = None) -> Any:
    """Draw the share of its edges that every graph term kept at each pruning.

    Parameters
    ----------
    estimator : fitted GraphRegularizedXC
    ax : matplotlib Axes, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    Axes
        With one line per graph and side, which starts at all edges before the first epoch.

    Raises
    ------
    ImportError
        If matplotlib is not installed: ``pip install skxc[plot]``.
    """
    check_is_fitted(estimator, "edge_survival_")
    shares = dict(estimator.edge_survival_)
    epochs = shares.pop("epoch")
    ax = axes_or_new(ax, 6, 3.5)
    for name, values in shares.items():
        kept = np.concatenate([[1.0], values])
        ax.step(np.concatenate([[0.0], epochs]), 100 * kept, where="post", marker="o", label=name)
    ax.set_ylim(0, 105)
    return _finish(ax, "edges kept, percent")


def _finish(ax: Any, what: str) -> Any:
    ax.set_xlabel("epoch")
    ax.set_ylabel(what)
    if ax.get_lines():
        ax.legend()
    return ax
