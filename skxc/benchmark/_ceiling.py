"""What a graph could give at most: held-out rows are scored with their own anchors added.

    s(x, l) + w * a(x, l)

s is what an estimator without the graph finds. a is how alike the row's own anchors are to those of
the label, or how much the training rows with the most similar anchors vote for it, or the sum of
both. Anchors are alike by the cosine of their idf weights. The best a and w of every metric are
chosen on the rows themselves, so the figures are optimistic. Few models that see texts alone will
find more of a row's labels than that; rare labels can gain more, whose texts links teach as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from skxc import datasets
from skxc.benchmark._data import GraphChoice, shuffle_edges
from skxc.benchmark._scores import ASKED, percentages
from skxc.datasets import XCDataset
from skxc.datasets._hold_out import split_rows
from skxc.graphs import strongest_products
from skxc.utils._sparse import normalize_rows, row_ids

# Weights that are tried; a list of scores spans 1 on average.
WEIGHTS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
N_NEIGHBORS = 50


def anchor_scores(
    folder: str | Path, graph: GraphChoice, n_rows: int, *, seed: int = 0
) -> list[sp.csr_array]:
    """Return what the anchors of held-out rows say about labels.

    Parameters
    ----------
    folder : str or Path
        The data folder.
    graph : GraphChoice
        Its anchors; shuffled as a control.
    n_rows : int
        Rows that :func:`load_folder` holds out.
    seed : int, default=0
        Seed of the shuffling.

    Returns
    -------
    list of csr_array, shape (n_test, L)
        Every way in which it is counted: numbers from 0 to 1, for the best labels of every row.
    """
    data = datasets.load_xc_repository(folder)
    held, kept = split_rows(data, n_rows)
    if graph.shuffled:
        data = shuffle_edges(data, np.random.default_rng(seed))
    labels, rows = data.anchor_graph(graph.anchors)
    linked = np.bincount(rows.indices, minlength=rows.shape[1])
    idf = sp.diags_array(np.log((1 + len(kept)) / (1 + np.minimum(linked, len(kept)))))
    own, others = (normalize_rows(sp.csr_array(rows[some] @ idf)) for some in (held, kept))
    near = strongest_products(own, sp.csr_array(others.T), N_NEIGHBORS)
    near = sp.csr_array(sp.diags_array(1 / np.maximum(near.sum(axis=1), 1e-9)) @ near)
    ways = [strongest_products(near, data.train_labels[kept], ASKED)]
    if labels.n_edges:
        of_labels = normalize_rows(sp.csr_array(labels.to_csr() @ idf))
        ways.append(strongest_products(own, sp.csr_array(of_labels.T), ASKED))
        ways.append(sp.csr_array(ways[0] + ways[1]))
    return ways


def ceiling(
    scores: sp.csr_array, data: XCDataset, anchors: Sequence[sp.csr_array]
) -> dict[str, float]:
    """Return metrics of scores with what anchors say added, each at its best way and weight.

    Parameters
    ----------
    scores : csr_array of shape (n_test, L)
        Top labels of the held-out rows, as :func:`predict` returns them.
    data : XCDataset
        What :func:`load_folder` returned with these rows held out.
    anchors : list of csr_array
        What `anchor_scores` returned.

    Returns
    -------
    dict of str to float
        As of :func:`percentages`, whose figures without anchors are among the choices.
    """
    # A label that a list lacks is as good as the list's last, and that is 0.
    last = np.array([row.min(initial=np.inf) for row in np.split(scores.data, scores.indptr[1:-1])])
    above = scores.data - last[row_ids(scores)]
    span = np.mean([row.max(initial=0) for row in np.split(above, scores.indptr[1:-1])])
    lists = sp.csr_array((above / max(span, 1e-9), scores.indices, scores.indptr), scores.shape)
    found = [percentages(scores, data)]
    found += [percentages(lists + w * way, data) for way in anchors for w in WEIGHTS]
    return {name: max(one[name] for one in found) for name in found[0]}
