"""Lists of label names to a label matrix, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import scipy.sparse as sp

from skxc.datasets._ones import ones
from skxc.utils._validation import as_matrix, as_names, as_texts, wrong_name


def labels_from_names(
    lists: Iterable[Iterable[str]], names: Sequence[str] | None = None
) -> tuple[sp.csr_array, list[str]]:
    """Turn one list of label names per sample into a label matrix.

    Parameters
    ----------
    lists : iterable of iterables of str
        The label names of every sample; a name that a sample repeats counts once.
    names : sequence of str, or None, default=None
        The columns. None takes all names that occur, sorted. Pass the names of the training data
        to bring test data into the same columns.

    Returns
    -------
    y : csr_array of float32 ones, shape (n, L)
        Columns sorted.
    names : list of str of length L
        The name of every column.

    Raises
    ------
    ValueError
        If a sample is no list of names, a name is no string, empty, on several lines, or has blanks
        around it, `names` repeats one, or a sample has a name outside `names`.

    Examples
    --------
    >>> from skxc.datasets import labels_from_names
    >>> y, names = labels_from_names([["tea", "milk"], [], ["tea"]])
    >>> names
    ['milk', 'tea']
    >>> y.toarray()
    array([[1., 1.],
           [0., 0.],
           [0., 1.]], dtype=float32)
    """
    if isinstance(lists, str | bytes) or not isinstance(lists, Iterable):
        raise ValueError(
            f"`lists` must hold a list of names per sample, but is a {type(lists).__name__}. "
            "Wrap it in a list."
        )
    rows = [_name_set(i, row) for i, row in enumerate(lists)]
    names = sorted(set().union(*rows)) if names is None else as_names(names, "names")
    column = {name: j for j, name in enumerate(names)}
    indices = np.array([column.get(name, -1) for row in rows for name in row], dtype=np.int64)
    if (indices < 0).any():
        unknown = {name: i for i, row in enumerate(rows) for name in row if name not in column}
        name = min(unknown)
        raise ValueError(
            f"{len(unknown)} label names are not in `names`, for example {name!r} of sample "
            f"{unknown[name]}. Build `names` from all data, or drop these labels first."
        )
    owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return ones(owners, indices, (len(rows), len(names))), names


def names_from_labels(y: sp.csr_array, names: Sequence[str]) -> list[list[str]]:
    """Turn a label matrix into one list of label names per sample.

    Parameters
    ----------
    y : csr_array of shape (n, L)
        Every stored entry is a label.
    names : sequence of str of length L
        The name of every column.

    Returns
    -------
    list of list of str
        Names in the order of the columns.

    Raises
    ------
    ValueError
        If there is not one name per column.

    Examples
    --------
    >>> from skxc.datasets import labels_from_names, names_from_labels
    >>> names_from_labels(*labels_from_names([["tea", "milk"], [], ["tea"]]))
    [['milk', 'tea'], [], ['tea']]
    """
    y = sp.csr_array(as_matrix(y, "y"))
    names = as_texts(names, "names").tolist()
    if y.shape[1] != len(names):
        raise ValueError(
            f"`names` has {len(names)} names but `y` has {y.shape[1]} columns. "
            "Pass the names that came with the matrix."
        )
    y = y if y.has_sorted_indices else y.sorted_indices()
    flat = [names[j] for j in y.indices.tolist()]
    edges = y.indptr.tolist()
    return [flat[start:stop] for start, stop in pairwise(edges)]


def _name_set(position: int, row: Iterable[str]) -> set[str]:
    if isinstance(row, str):
        raise ValueError(
            f"Sample {position} is the string {row!r}, not a list of names. "
            "Wrap a single name in a list, or split the string first."
        )
    if not isinstance(row, Iterable):
        raise ValueError(
            f"Sample {position} is {row!r} of type {type(row).__name__}, not a list of names. "
            "Pass an empty list for a sample without labels."
        )
    found = set(row)
    for name in found:
        if not isinstance(name, str):
            raise ValueError(
                f"Sample {position} has the label {name!r} of type {type(name).__name__}, but "
                "names are strings. Convert it with str, or drop missing values."
            )
        if problem := wrong_name(name):
            raise ValueError(
                f"Sample {position} has the label {name!r}, which {problem}. Clean it, or drop it."
            )
    return found
