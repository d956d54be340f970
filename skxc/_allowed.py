"""Labels that an answer may name: ids, names, or one set of labels per row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.utils._validation import checked_sparse, text_column

# Pairs that are scored at once, and rows.
LARGEST_BLOCK, MOST_ROWS = 1 << 20, 1024

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Allowed:
    """The labels that n rows may be answered with.

    Attributes
    ----------
    labels : ndarray of int64, or csr_array of shape (n, n_labels)
        Sorted ids for all rows, or the stored entries of each row.
    n_labels : int
    """

    labels: Ids | sp.csr_array
    n_labels: int

    def blocks(self, n_rows: int) -> Iterator[tuple[slice, sp.csr_array]]:
        """Yield slices of rows with the labels that they may have."""
        if isinstance(self.labels, np.ndarray):
            widest = len(self.labels)
        else:
            widest = int(np.diff(self.labels.indptr).max(initial=0))
        size = max(1, min(MOST_ROWS, LARGEST_BLOCK // max(widest, 1)))
        for start in range(0, n_rows, size):
            stop = min(start + size, n_rows)
            yield slice(start, stop), self._rows(start, stop)

    def _rows(self, start: int, stop: int) -> sp.csr_array:
        if not isinstance(self.labels, np.ndarray):
            return self.labels[start:stop]
        n_rows, n_allowed = stop - start, len(self.labels)
        indptr = np.arange(n_rows + 1) * n_allowed
        parts = np.ones(n_rows * n_allowed, dtype=np.float32), np.tile(self.labels, n_rows), indptr
        return sp.csr_array(parts, shape=(n_rows, self.n_labels))


def allowed_labels(candidates: Any, names: list[Any] | None, shape: tuple[int, int]) -> Any:
    """Return the checked labels of `candidates`; None where all labels are allowed.

    Parameters
    ----------
    candidates : None, sequence of int or str, or sparse matrix of shape (n, n_labels)
    names : list or None
        What labels are called.
    shape : tuple of (n, n_labels)

    Returns
    -------
    Allowed or None

    Raises
    ------
    ValueError
        A label that the model does not have, or something else than ids, names or such a matrix.
    """
    n_labels = shape[1]
    if candidates is None:
        return None
    if sp.issparse(candidates):
        if candidates.shape != shape:
            raise ValueError(
                "`candidates` must have one row per row of `X` and one column per label, "
                f"{shape}, but has the shape {candidates.shape}. For the same labels in all rows "
                "pass ids or names."
            )
        matrix = sp.csr_array(checked_sparse(candidates, "candidates"), copy=True)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return None if matrix.nnz == shape[0] * n_labels else Allowed(matrix, n_labels)
    given: Any = text_column(candidates)
    if given is None:
        given = np.asarray(candidates)
    if isinstance(candidates, Mapping) or np.ndim(given) != 1:
        raise ValueError(
            "`candidates` must be a sequence of label ids or names, or a sparse matrix of shape "
            f"{shape}, but is a {type(candidates).__name__}. Pass a list."
        )
    labels = np.unique(np.array(_ids(given, names, n_labels), dtype=np.int64))
    return None if len(labels) == n_labels else Allowed(labels, n_labels)


def _ids(given: Any, names: list[Any] | None, n_labels: int) -> list[int]:
    """Return ids of labels that are given by id or by name."""
    known = {name: label for label, name in enumerate(names or ())}
    ids = []
    for label in given:
        if isinstance(label, str):
            if label not in known:
                raise ValueError(
                    f"`candidates` must be labels of the model, but none is called {label!r}. "
                    "Leave it out."
                )
            ids.append(known[label])
        elif isinstance(label, int | np.integer) and not isinstance(label, bool):
            if not 0 <= label < n_labels:
                raise ValueError(
                    f"`candidates` must be ids from 0 to {n_labels - 1}, but holds {label}. "
                    "Leave it out."
                )
            ids.append(int(label))
        else:
            raise ValueError(
                f"`candidates` must be ids or names of labels, but holds {label!r}. Pass integers "
                "or texts."
            )
    return ids
