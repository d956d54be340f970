"""The way to one label: what each level adds to its score, and by which features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.linear._chunks import BITS, ChunkedWeights, hashed
from skxc.linear._search import LOG_FLOOR, inverse_norms, log_probability
from skxc.linear._solver import LOSSES


class Step(NamedTuple):
    """One classifier on the way.

    Attributes
    ----------
    score : float
        What it adds to the log-probability.
    features : ndarray of int
        Features of the query that it has weights of.
    weights : ndarray of float
        These weights, times the values of the features.
    """

    score: float
    features: NDArray[np.integer]
    weights: NDArray[np.float64]


def way_to(
    model: ChunkedWeights, query: sp.csr_array, label: int, *, loss: str
) -> tuple[dict[str, float], NDArray[np.integer], NDArray[np.float64]]:
    """Return what the score of a label is made of.

    Parameters
    ----------
    model : ChunkedWeights
    query : csr_array of shape (1, d)
    label : int
        One that a tree has.
    loss : str

    Returns
    -------
    terms : dict of str to float
        What every level of the only tree adds; empty for several, whose mean is no sum.
    features : ndarray of int, shape (f,)
        Features of the query with weights on the way.
    weights : ndarray of float64, shape (f,)
        The sums of their weights over all levels, times their values; means over the trees.
    """
    steps = _steps_to(model, query, label, loss)
    features = np.unique(np.concatenate([step.features for step in steps]))
    weights = np.zeros(len(features))
    for step in steps:
        weights[np.searchsorted(features, step.features)] += step.weights
    names = [*(f"level {level}" for level in range(1, len(steps))), "label"]
    terms = {name: step.score for name, step in zip(names, steps, strict=True)}
    return terms if len(model.roots) == 1 else {}, features, weights / len(model.roots)


def _steps_to(model: ChunkedWeights, query: sp.csr_array, label: int, loss: str) -> list[Step]:
    """Return the steps from the root of every tree to the leaf of a label."""
    steps: list[Step] = []
    values = query.data * inverse_norms(np.array([0, query.nnz]), query.data)[0]
    for node in model.leaves[:, label].tolist():
        path = []
        while node >= 0:
            path.append(node)
            node = int(model.parents[node])
        total = 0.0
        for child in path[-2::-1]:
            features, weights = _weights(model, query.indices, values, child)
            margin = np.float32(model.bias[child] + weights.sum())
            after = max(total + float(log_probability(margin, LOSSES[loss])), LOG_FLOOR)
            steps.append(Step(after - total, features, weights))
            total = after
    return steps


def _weights(
    model: ChunkedWeights, features: NDArray[np.integer], values: NDArray, child: int
) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    """Return the features of a query that a node has weights of, and weights times values."""
    parent = int(model.parents[child])
    first = model.first_bucket[parent]
    last = first + (1 << (BITS - int(model.shift[parent])))
    begin, end = model.buckets[first], model.buckets[last]
    rows = begin + np.searchsorted(model.keys[begin:end], hashed(features))
    found, products = [], []
    for feature, value, row in zip(features, values, rows, strict=True):
        if row == end or model.keys[row] != hashed(np.array([feature]))[0]:
            continue
        entries = slice(model.rows[row], model.rows[row + 1])
        mine = model.children[entries] == child - model.first_child[parent]
        if mine.any():
            found.append(feature)
            products.append(float(value) * float(model.values[entries][mine].sum()))
    return np.array(found, dtype=np.int64), np.array(products)
