"""The metrics of a benchmark line, in percent, from the top labels of the test rows."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from skxc.datasets import XCDataset
from skxc.inspection import FrequencyBins, precision_by_frequency
from skxc.metrics import evaluate, inverse_propensity

ASKED = 100  # predictions per row ...
FILTER_MARGIN = 20  # ... and at most so many more where some will be dropped
METRICS = {
    **{f"P@{k}": f"precision@{k}" for k in (1, 3, 5)},
    **{f"nDCG@{k}": f"ndcg@{k}" for k in (1, 3, 5)},
    **{f"PSP@{k}": f"psp@{k}" for k in (1, 3, 5)},
    **{f"R@{k}": f"recall@{k}" for k in (10, ASKED)},
}


def n_predictions(data: XCDataset) -> int:
    """Return how many labels to ask for per row, with a margin for those that the filter drops."""
    pairs = data.test_filter
    margin = 0 if pairs is None else int(np.diff(pairs.indptr).max(initial=0))
    return min(ASKED + min(margin, FILTER_MARGIN), data.n_labels)


def percentages(scores: sp.csr_array, data: XCDataset) -> dict[str, float]:
    """Return P@k, nDCG@k and PSP@k for k of 1, 3, 5, R@10 and, from 100 labels on, R@100.

    Parameters
    ----------
    scores : csr_array of shape (n_test, L)
        Top labels of the test rows, as :func:`predict` returns them; pairs of the test filter are
        dropped before ranking.
    data : XCDataset
        Truth, filter, and the training labels from which the propensities come.

    Returns
    -------
    dict of str to float
        Rounded to three decimals; a row without labels counts 0.
    """
    wanted = [name for name in METRICS if name != f"R@{ASKED}" or data.n_labels >= ASKED]
    found = evaluate(
        data.test_labels,
        scores,
        metrics=[METRICS[name] for name in wanted],
        inverse_propensity=inverse_propensity(_label_frequency(data), data.n_train),
        filter_pairs=data.test_filter,
    )
    return {name: round(100 * found[METRICS[name]], 3) for name in wanted}


def by_frequency(
    scores: sp.csr_array, data: XCDataset, *, k: int = 5, n_bins: int = 10
) -> FrequencyBins:
    """Return :func:`skxc.inspection.precision_by_frequency` of scores on the test rows."""
    pairs, frequency = data.test_filter, _label_frequency(data)
    return precision_by_frequency(
        data.test_labels, scores, frequency, k=k, n_bins=n_bins, filter_pairs=pairs
    )


def _label_frequency(data: XCDataset) -> np.ndarray:
    return np.bincount(data.train_labels.indices, minlength=data.n_labels)
