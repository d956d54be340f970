"""What happened to graph terms in training: their weights, their losses, and the edges left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skxc.estimators._encoding import PoolFigures


@dataclass(frozen=True, eq=False)
class GraphFigures(PoolFigures):
    """How training on pools and on graph terms went.

    Attributes
    ----------
    weights : dict of str to ndarray, shape (n_steps,)
        "epoch" of every training step, and the weight of every term, such as "tag (samples)".
    survival : dict of str to ndarray, shape (n_prunings,)
        "epoch" of every pruning, and the share of its edges that every term keeps.
    losses : dict of str to ndarray, shape (n_epochs,)
        Mean loss of the "task" and of every term, NaN where a term never had rows; "graph" has that
        of the epochs before the task.
    """

    weights: dict[str, NDArray[np.float64]]
    survival: dict[str, NDArray[np.float64]]
    losses: dict[str, NDArray[np.float64]]


@dataclass
class TermFigures:
    """What happened to the terms, as rows of figures.

    Attributes
    ----------
    steps : list of ndarray, shape (1 + n_terms,)
        Per step: the epoch, and the weight of every term.
    losses : list of ndarray, shape (1 + n_terms,)
        Per step: the loss of the task, and of every term, NaN where it had no rows.
    survival : list of ndarray, shape (1 + n_terms,)
        Per pruning: the epoch, and the share of its edges that every term keeps.
    first : list of float
        Per epoch before the task: the loss against anchors.
    """

    steps: list[NDArray[np.float64]] = field(default_factory=list)
    losses: list[NDArray[np.float64]] = field(default_factory=list)
    survival: list[NDArray[np.float64]] = field(default_factory=list)
    first: list[float] = field(default_factory=list)

    def tables(self, names: Sequence[str]) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Return the tables of `GraphFigures` for terms of these names."""
        steps, losses = (_table(rows, len(names)) for rows in (self.steps, self.losses))
        epochs = steps[:, 0]
        means = [_mean_of_known(losses[epochs == epoch]) for epoch in np.unique(epochs)]
        means_of_terms = _columns(["task", *names], _table(means, len(names)))
        return {
            "weights": _columns(["epoch", *names], steps),
            "survival": _columns(["epoch", *names], _table(self.survival, len(names))),
            "losses": means_of_terms | ({"graph": np.array(self.first)} if self.first else {}),
        }

    def get_state(self) -> dict[str, NDArray]:
        """Return the non-empty tables."""
        return {name: np.stack(rows) for name, rows in vars(self).items() if rows}

    def set_state(self, state: dict[str, NDArray]) -> None:
        """Take the tables of `get_state` back."""
        for name in vars(self):
            setattr(self, name, list(state.get(name, [])))


def _table(rows: list[NDArray[np.float64]], n_more: int) -> NDArray[np.float64]:
    """Return rows of figures as a matrix of 1 + n_more columns."""
    return np.array(rows, dtype=np.float64).reshape(len(rows), 1 + n_more)


def _mean_of_known(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return column means without NaN, NaN for columns of nothing else."""
    known = ~np.isnan(rows)
    count = known.sum(axis=0)
    total = np.where(known, rows, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _columns(names: Sequence[str], table: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    return dict(zip(names, table.T.copy(), strict=True))
