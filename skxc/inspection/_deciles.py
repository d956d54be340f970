r"""Precision at k split by the training frequency of the labels, from the tail to the head.

Labels are ordered by their training frequency and cut into bins that hold about the same number
of true pairs.  With hits :math:`h_{ij}` among the first k labels of n rows,

.. math:: P@k = \frac{1}{n k} \sum_{bins} \sum_{i} \sum_{j \le k,\; l_{ij} \in bin} h_{ij}

so the contributions of the bins add up to P@k.  Labels of equal frequency stay together: where
very many labels have no training row, or one, their bin holds more pairs than the others.  The
quantile plots of ECLARE (WWW 2021) are of this kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skxc.inspection._axes import axes_or_new
from skxc.metrics._inputs import check_k, rank


@dataclass(frozen=True)
class FrequencyBins:
    """What `precision_by_frequency` returns: one entry per bin, rare labels first.

    Attributes
    ----------
    lowest, highest : ndarray of int, shape (n_bins,)
        Range of the training frequencies in the bin, both ends included.
    n_labels : ndarray of int, shape (n_bins,)
        Labels in the bin.
    n_true : ndarray of int, shape (n_bins,)
        True pairs (row, label) with a label of the bin.
    n_predicted : ndarray of int, shape (n_bins,)
        Labels of the bin among the first k of all rows.
    n_hits : ndarray of int, shape (n_bins,)
        Those of them that are true.
    contribution : ndarray of float64, shape (n_bins,)
        Hits over rows times k; the sum is P@k.
    k : int
        Predictions per row that count.
    """

    lowest: NDArray[np.int64]
    highest: NDArray[np.int64]
    n_labels: NDArray[np.int64]
    n_true: NDArray[np.int64]
    n_predicted: NDArray[np.int64]
    n_hits: NDArray[np.int64]
    contribution: NDArray[np.float64]
    k: int

    @property
    def precision(self) -> NDArray[np.float64]:
        """Hits over predictions in every bin, 0 where nothing was predicted."""
        return self.n_hits / np.maximum(self.n_predicted, 1)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Hits over true pairs in every bin, 0 where there are none."""
        return self.n_hits / np.maximum(self.n_true, 1)

    @property
    def names(self) -> list[str]:
        """Names of the bins, such as ``"0"`` or ``"3-7"``: their training frequencies."""
        ends = zip(self.lowest.tolist(), self.highest.tolist(), strict=True)
        return [str(low) if low == high else f"{low}-{high}" for low, high in ends]


def precision_by_frequency(
    y_true: Any,
    y_score: Any,
    label_frequency: ArrayLike,
    *,
    k: int = 5,
    n_bins: int = 10,
    filter_pairs: Any = None,
) -> FrequencyBins:
    """Split P@k by the training frequency of the labels.

    Parameters
    ----------
    y_true, y_score, filter_pairs
        As in :func:`skxc.metrics.precision_at_k`.
    label_frequency : array-like of shape (L,)
        Training rows per label, such as the fitted attribute ``label_frequency_``.
    k : int, default=5
        Predictions per row that count.
    n_bins : int, default=10
        Wanted bins.  Labels of equal frequency stay together, so that there may be fewer.

    Returns
    -------
    FrequencyBins
        Counts and contributions per bin, rare labels first.

    Raises
    ------
    ValueError
        If the shapes differ, `k` or `n_bins` is below 1, or an error of
        :func:`skxc.metrics.precision_at_k`.

    Examples
    --------
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from skxc.inspection import precision_by_frequency
    >>> y_true = sp.csr_array(np.array([[1, 0, 0], [0, 1, 0]]))
    >>> y_score = sp.csr_array(np.array([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]))
    >>> bins = precision_by_frequency(y_true, y_score, [9, 1, 0], k=1, n_bins=2)
    >>> bins.names, bins.contribution.tolist()
    (['0-1', '9'], [0.0, 0.5])
    """
    ranking = rank(y_true, y_score, check_k(k), filter_pairs)
    n, n_labels = ranking.truth.shape
    frequency = np.asarray(label_frequency, dtype=np.int64)
    if frequency.shape != (n_labels,):
        raise ValueError(
            f"`label_frequency` must have one entry for each of the {n_labels} labels, but "
            f"has the shape {frequency.shape}. Pass the `label_frequency_` of a fitted estimator."
        )
    if n_bins < 1:
        raise ValueError(f"`n_bins` must be at least 1, but is {n_bins}.")
    n_true = np.bincount(ranking.truth.indices, minlength=n_labels)
    bin_of, lowest, highest = _cut(frequency, n_true, n_bins)

    def count(ids: NDArray[np.integer]) -> NDArray[np.int64]:
        return np.bincount(bin_of[ids], minlength=len(lowest))

    n_hits = count(ranking.labels[ranking.hits])
    return FrequencyBins(
        lowest=lowest,
        highest=highest,
        n_labels=count(np.arange(n_labels)),
        n_true=count(ranking.truth.indices),
        n_predicted=count(ranking.labels[ranking.labels >= 0]),
        n_hits=n_hits,
        contribution=n_hits / (n * k),
        k=k,
    )


def plot_precision_by_frequency(results: Mapping[str, FrequencyBins], *, ax: Any = None) -> Any:
    """Draw the contributions to P@k as grouped bars, one group per bin and one colour per name.

    Parameters
    ----------
    results : mapping of str to FrequencyBins
        What to compare; all on the same rows and frequencies.
    ax : matplotlib Axes, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    Axes
        With the bars, axis names and a legend; ``ax.figure.savefig(...)`` saves it.

    Raises
    ------
    ImportError
        If matplotlib is not installed: ``pip install skxc[plot]``.
    ValueError
        If `results` is empty or the bins differ.
    """
    bins = list(results.values())
    if not bins or any(one.names != bins[0].names or one.k != bins[0].k for one in bins):
        raise ValueError(
            "`results` must hold at least one result, all with the same bins and k, but do not. "
            "Compute them with the same rows, `label_frequency`, `k` and `n_bins`."
        )
    ax = axes_or_new(ax, 8, 4)
    places, width = np.arange(len(bins[0].names)), 0.8 / len(bins)
    for i, (name, one) in enumerate(results.items()):
        offset = (i - (len(bins) - 1) / 2) * width
        total = 100 * one.contribution.sum()
        ax.bar(places + offset, 100 * one.contribution, width, label=f"{name} ({total:.1f})")
    share = bins[0].n_true / max(bins[0].n_true.sum(), 1)
    ticks = [f"{name}\n{part:.0%}" for name, part in zip(bins[0].names, share, strict=True)]
    ax.set_xticks(places, ticks)
    ax.set_xlabel("training rows of the label; share of the true pairs")
    ax.set_ylabel(f"contribution to P@{bins[0].k}, percentage points")
    ax.legend(title=f"estimator (P@{bins[0].k})")
    return ax


def _cut(
    frequency: NDArray[np.int64], weight: NDArray[np.integer], n_bins: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the bin of every label and the lowest and highest frequency of every bin.

    A frequency goes to the bin in which the middle of its weight falls, when all weight is laid
    out in the order of the frequencies.
    """
    levels, level_of = np.unique(frequency, return_inverse=True)
    level_weight = np.bincount(level_of, weights=weight, minlength=len(levels))
    middle = np.cumsum(level_weight) - level_weight / 2
    wanted = np.minimum(n_bins * middle / max(level_weight.sum(), 1), n_bins - 1).astype(np.int64)
    first, bin_of_level = np.unique(wanted, return_index=True, return_inverse=True)[1:]
    last = np.append(first[1:], len(levels)) - 1
    return bin_of_level[level_of], levels[first], levels[last]
