"""Fit, use and time one estimator in this process."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import scipy.sparse as sp
from tqdm import tqdm

from skxc.benchmark._data import NO_GRAPH, GraphChoice, fit_arguments, sample_rows
from skxc.benchmark._process import timed
from skxc.benchmark._scores import n_predictions
from skxc.datasets import XCDataset
from skxc.utils._sparse import pack_topk

BLOCK_ROWS = 8_192
LATENCY_K, LATENCY_ROWS, LATENCY_SECONDS, WARM_UP_CALLS = 10, 300, 10.0, 3


def fit(
    estimator: Any, data: XCDataset, graph: GraphChoice = NO_GRAPH, *, seed: int = 0
) -> dict[str, float]:
    """Fit an estimator on the training rows.

    Parameters
    ----------
    estimator : object
        Fitted in place, with what `fit` takes of label texts, label features and graph.
    data : XCDataset
    graph : GraphChoice, default=NO_GRAPH
    seed : int, default=0
        Seed of the shuffling of a graph; the estimator has its own ``random_state``.

    Returns
    -------
    dict
        "fit_cpu_s", CPU seconds of all threads and child processes, and "fit_wall_s".
    """
    X, arguments = sample_rows(data), fit_arguments(estimator, data, graph, seed)
    _, cpu, wall = timed(estimator.fit, X, data.train_labels, **arguments)
    return {"fit_cpu_s": round(cpu, 3), "fit_wall_s": round(wall, 3)}


def predict(estimator: Any, data: XCDataset) -> tuple[sp.csr_array, float]:
    """Return the top labels of the test rows, and what they cost.

    Parameters
    ----------
    estimator : object
        Fitted.
    data : XCDataset

    Returns
    -------
    scores : csr_array of shape (n_test, L)
        100 labels per row, and up to 20 more where the test filter will drop some.
    cost : float
        CPU microseconds per row.
    """
    X, k = sample_rows(data, "test"), n_predictions(data)
    estimator.predict_topk(X[:2], k=k)  # starts thread pools and the like
    blocks, seconds = [], 0.0
    for start in tqdm(range(0, data.n_test, BLOCK_ROWS), desc="predict", unit="block", leave=False):
        rows = X[start : start + BLOCK_ROWS]
        (labels, scores), cpu, _ = timed(estimator.predict_topk, rows, k=k)
        blocks.append(pack_topk(labels, scores, data.n_labels))
        seconds += cpu
    cost = round(1e6 * seconds / data.n_test, 2)
    return sp.csr_array(sp.vstack(blocks, format="csr")), cost


def median_latency(estimator: Any, data: XCDataset) -> float:
    """Return the median wall microseconds from one test row to its 10 best labels.

    Rows come one by one, each still a list of texts or a CSR array, as many as time allows.
    """
    X, k = sample_rows(data, "test"), min(LATENCY_K, data.n_labels)
    queries = [X[i : i + 1] for i in range(min(data.n_test, LATENCY_ROWS))]
    for row in queries[:WARM_UP_CALLS]:
        estimator.predict_topk(row, k=k)
    begun, seconds = time.perf_counter(), []
    for row in queries:
        start = time.perf_counter()
        estimator.predict_topk(row, k=k)
        seconds.append(time.perf_counter() - start)
        if time.perf_counter() - begun > LATENCY_SECONDS:
            break
    return round(1e6 * float(np.median(seconds)), 1)
