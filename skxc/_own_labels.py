"""Labels whose text is the sample's own: one rule, for predicting and calibrating alike.

Where samples and labels are of one kind (products, articles, packages), the text of a label can be
that of the sample. If such pairs are hardly ever right among the training rows, they are no answers
of a model, and none of the pairs that calibrate it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.utils._canonical import hash_rows
from skxc.utils._loaded import sizes_of
from skxc.utils._record import Record
from skxc.utils._sparse import TopK, pair_ids, row_ids

# Texts, or rows of features.
Rows: TypeAlias = "NDArray[np.object_] | sp.csr_array"

# Pairs that tell whether a label with the sample's own text can be right, and the share of right
# ones up to which it cannot.
ENOUGH_PAIRS = 10
FEW_RIGHT = 0.01


@dataclass(frozen=True, eq=False)
class OwnLabels(Record):
    """Finds the labels whose text, or features, are those of a sample.

    Attributes
    ----------
    hashes : ndarray of uint64, shape (n_labels, 2)
    """

    hashes: NDArray[np.uint64]

    @classmethod
    def learned(cls, samples: Rows, labels: object, y: sp.csr_array) -> OwnLabels | None:
        """Return the rule of training rows; None where own labels count like others.

        Parameters
        ----------
        samples : ndarray of str objects, shape (n,), or csr_array of n rows
        labels : the same for n_labels labels, or None
        y : csr_array of shape (n, n_labels)
        """
        if labels is None or type(labels) is not type(samples):
            return None
        rule = cls(hash_rows(labels))
        own = rule.pairs(samples)
        if own is None or own.nnz < ENOUGH_PAIRS:
            return None
        n_right = np.isin(pair_ids(own), pair_ids(y)).sum()
        return rule if n_right <= FEW_RIGHT * own.nnz else None

    def _check_loaded(self) -> None:
        sizes_of(self, hashes="L 2")

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return np.argsort(self.hashes[:, 0], kind="stable")

    @cached_property
    def _keys(self) -> NDArray[np.uint64]:
        return self.hashes[self._order, 0]

    def pairs(self, samples: Rows) -> sp.csr_array | None:
        """Return the (sample, label) pairs of equal content, shape (n, n_labels); None if none."""
        asked = hash_rows(samples)
        first = np.searchsorted(self._keys, asked[:, 0], "left")
        # Most samples have none, which one look tells.
        if not np.any(self._keys[np.minimum(first, len(self._keys) - 1)] == asked[:, 0]):
            return None
        counts = np.searchsorted(self._keys, asked[:, 0], "right") - first
        rows = np.repeat(np.arange(len(asked)), counts)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        labels = self._order[np.repeat(first, counts) + place]
        equal = self.hashes[labels, 1] == asked[rows, 1]
        rows, labels = rows[equal], labels[equal]
        if not len(rows):
            return None
        ones = np.ones(len(rows), dtype=np.float32)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(asked)))])
        return sp.csr_array((ones, labels, indptr), shape=(len(asked), len(self.hashes)))

    def extended(self, labels: Rows) -> OwnLabels:
        """Return the rule with more labels at the end."""
        return OwnLabels(np.concatenate([self.hashes, hash_rows(labels)]))


def depth_for(k: int, own: sp.csr_array | None) -> int:
    """Return how many labels to ask for, so that k are left without a row's own ones."""
    if own is None:
        return k
    return min(k + int(np.diff(own.indptr).max(initial=0)), own.shape[1])


def without_own(found: TopK, own: sp.csr_array | None, k: int) -> TopK:
    """Return the first k labels of padded lists that are not the row's own."""
    labels, scores = found
    if own is None:
        return found
    rows = np.arange(len(labels))[:, None]
    dropped = np.isin(rows * own.shape[1] + labels, row_ids(own) * own.shape[1] + own.indices)
    dropped &= labels >= 0
    order = np.argsort(dropped, axis=1, kind="stable")[:, :k]
    labels = np.take_along_axis(np.where(dropped, -1, labels), order, axis=1)
    scores = np.where(dropped, np.float32(-np.inf), scores)
    return labels, np.take_along_axis(scores, order, axis=1)
