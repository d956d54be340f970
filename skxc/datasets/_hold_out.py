"""Held-out training rows in the place of the test rows, so that settings can be compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from sklearn.utils import _safe_indexing

from skxc.datasets._dataset import Anchors, XCDataset
from skxc.datasets._ones import ones


def split_rows(
    data: XCDataset, n_rows: int, *, random_state: int = 7
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the training rows that `hold_out` makes test rows, and those that it leaves."""
    return _parts(data, n_rows, random_state)[:2]


def hold_out(data: XCDataset, n_rows: int, *, random_state: int = 7) -> XCDataset:
    """Return the data set with some of its training rows as its test rows.

    Choose settings on these rows and look at the real test rows once, afterwards.

    Parameters
    ----------
    data : XCDataset
    n_rows : int
        How many training rows to hold out, at most. Rows that lose all their labels (below) are
        left out, so there may be fewer.
    random_state : int, default=7
        Seed of the choice, apart from those of the estimators that are compared.

    Returns
    -------
    XCDataset
        The remaining training rows; the held-out rows, their filter pairs and the links of the
        remaining rows. Label texts, label graphs and the metadata of labels stay whole: a label
        graph that was built from training labels knows those of the held-out rows.

    Raises
    ------
    ValueError
        If `n_rows` is not between 1 and the number of training rows - 1, or if rows that belong
        together leave no way to hold any out.

    Notes
    -----
    Two rules keep the answer out of the training rows. Rows that share a label in `train_filter`
    (packages of one source, say) are held out together. Where samples and labels have the same
    names, a pair (a, b) whose reverse (b, a) is a training pair is no label of the held-out row but
    joins its filter.
    """
    held, kept, answers, excluded = _parts(data, n_rows, random_state)
    return replace(
        data,
        train_labels=data.train_labels[kept],
        test_labels=answers,
        train_texts=_take(data.train_texts, kept),
        test_texts=_take(data.train_texts, held),
        train_features=_take(data.train_features, kept),
        test_features=_take(data.train_features, held),
        train_ids=_take(data.train_ids, kept),
        test_ids=_take(data.train_ids, held),
        train_filter=_take(data.train_filter, kept),
        test_filter=excluded.astype(bool).astype(np.float32),
        anchors={
            name: Anchors(nodes.sample_anchors[kept], nodes.label_anchors, nodes.texts)
            for name, nodes in data.anchors.items()
        },
    )


def _parts(
    data: XCDataset, n_rows: int, random_state: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], sp.csr_array, sp.csr_array]:
    """Return the rows to hold out, the others, and labels and filter of the former."""
    if not 0 < n_rows < data.n_train:
        raise ValueError(
            f"`n_rows` must be between 1 and {data.n_train - 1}, one less than the training rows, "
            f"but is {n_rows}. Hold out fewer rows."
        )
    held, kept = _split(data, n_rows, np.random.default_rng(random_state))
    labels, known = data.train_labels[held], _reversed_pairs(data, held, kept)
    answers = sp.csr_array(labels - labels.multiply(known))
    answers.eliminate_zeros()
    excluded = sp.csr_array(known) if data.train_filter is None else data.train_filter[held] + known
    left = np.flatnonzero(np.diff(answers.indptr))
    if not len(left):
        raise ValueError(
            f"`n_rows` must leave rows with labels in both parts, but {n_rows} of {data.n_train} "
            "rows do not. Hold out more rows."
        )
    return held[left], kept, answers[left], sp.csr_array(excluded)[left]


def _split(
    data: XCDataset, n_rows: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows to hold out and the others; families stay together."""
    families = _families(data)
    sizes = np.bincount(families)
    order = rng.permutation(len(sizes))
    order = order[sizes[order] <= n_rows]
    chosen = order[np.cumsum(sizes[order]) <= n_rows]
    held = np.isin(families, chosen)
    return np.flatnonzero(held), np.flatnonzero(~held)


def _families(data: XCDataset) -> NDArray[np.intp]:
    """Return every training row's family, the rows that share a filtered label, as a number."""
    if data.train_filter is None:
        return np.arange(data.n_train)
    pairs = data.train_filter
    graph = sp.block_array([[None, pairs], [pairs.T, None]], format="csr")
    _, component = connected_components(graph, directed=False)
    return np.unique(component[: data.n_train], return_inverse=True)[1]


def _reversed_pairs(
    data: XCDataset, held: NDArray[np.intp], kept: NDArray[np.intp]
) -> sp.csr_array:
    """Return the pairs (a, b) of held-out rows whose reverse (b, a) is a pair of a kept row."""
    if data.train_ids is None or data.label_names is None:
        return sp.csr_array((len(held), data.n_labels), dtype=np.float32)
    label = {name: j for j, name in enumerate(data.label_names)}
    own = np.array([label.get(name, -1) for name in data.train_ids])
    named = np.flatnonzero(own >= 0)
    is_label = ones(named, own[named], (data.n_train, data.n_labels))
    said = is_label[kept].T @ data.train_labels[kept]  # what kept rows say of which labels
    known = sp.csr_array(data.train_labels[held].multiply(is_label[held] @ said.T))
    known.data[:] = 1
    return known


def _take(values: Any, rows: NDArray[np.intp]) -> Any:
    """Return some rows of a list or of a sparse matrix; None stays None."""
    return None if values is None else _safe_indexing(values, rows)
