"""The metrics of a benchmark line, in percent, from the top labels of the test rows."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from skxc.commands._tables import METRICS
from skxc.datasets import XCDataset
from skxc.metrics import evaluate, inverse_propensity

_NAMES = {"P": "precision", "nDCG": "ndcg", "PSP": "psp", "R": "recall"}


def percentages(scores: sp.csr_array, data: XCDataset, asked: int) -> dict[str, float]:
    """Return P@k, nDCG@k and PSP@k for k of 1, 3, 5, R@10 and, if 100 labels were asked for, R@100.

    Parameters
    ----------
    scores : csr_array of shape (n_test, L)
        Top labels of the test rows; pairs of the test filter are dropped before ranking.
    data : XCDataset
        Truth, filter, and the training labels from which the propensities come.
    asked : int
        Labels that were asked for per row, without those that make up for the filter.

    Returns
    -------
    dict of str to float
        Rounded to three decimals; a row without labels counts 0.
    """
    frequency = np.bincount(data.train_labels.indices, minlength=data.n_labels)
    wanted = [name for name in METRICS if int(name.partition("@")[2]) <= max(asked, 10)]
    keys = {name: f"{_NAMES[name.partition('@')[0]]}@{name.partition('@')[2]}" for name in wanted}
    found = evaluate(
        data.test_labels,
        scores,
        metrics=list(keys.values()),
        inverse_propensity=inverse_propensity(frequency, data.n_train),
        filter_pairs=data.test_filter,
    )
    return {name: round(100 * found[key], 3) for name, key in keys.items()}
