"""Checks of what users hand in: texts, sparse matrices, targets.

Nothing here writes into an argument: arrays may be read-only memory maps inside worker processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

SHOWN_VALUES = 5


def is_text_sequence(value: Any) -> bool:
    """Return whether the argument is a 1-D sequence whose first element is a string."""
    if isinstance(value, list | tuple):
        return len(value) > 0 and isinstance(value[0], str)
    if isinstance(value, str) or sp.issparse(value) or not hasattr(value, "__array__"):
        return False
    if getattr(value, "ndim", len(getattr(value, "shape", ()))) != 1 or len(value) == 0:
        return False
    return isinstance(next(iter(value)), str)


def as_texts(value: Any, name: str) -> NDArray[np.object_]:
    """Return a 1-D sequence of strings as an object array.

    Parameters
    ----------
    value : list, tuple, ndarray or Series of str
    name : str
        Name of the argument in messages.

    Returns
    -------
    ndarray of object of shape (n,)
        Always a new array.

    Raises
    ------
    ValueError
        An element is not a string, or the sequence is not 1-D.
    """
    if isinstance(value, str):
        raise ValueError(
            f"`{name}` must be a sequence of texts, but one string was given. "
            "Put it into a list: [text]."
        )
    texts = np.empty(len(value), dtype=object)
    texts[:] = [str(item) if isinstance(item, str) else item for item in value]
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(
                f"`{name}` must hold strings only, but element {position} is a "
                f"{type(text).__name__}. Replace missing texts by an empty string."
            )
    return texts


def as_csr(matrix: Any, dtype: type = np.float32) -> sp.csr_array:
    """Return a canonical CSR array: no duplicates, no stored zeros, sorted columns.

    Parameters
    ----------
    matrix : sparse matrix, sparse array or ndarray of shape (n, m)
    dtype : type, default=float32
        Type of the stored values.

    Returns
    -------
    csr_array of shape (n, m)
        Shares memory with the argument where nothing had to change; never write into it.
    """
    result = sp.csr_array(matrix)
    if result.dtype != dtype:
        result = result.astype(dtype)
    if result.has_canonical_format and np.all(result.data):
        return result
    result = result.copy()
    result.sum_duplicates()
    result.eliminate_zeros()
    return result


@dataclass(frozen=True)
class Target:
    """A checked target.

    Attributes
    ----------
    matrix : csr_array of float32 ones, shape (n, L)
        One column per label or class, sorted column ids.
    classes : ndarray of shape (L,)
        ``arange(L)``, or the class values of a 1-D target.
    layout : {"sparse", "dense", "classes"}
        How the target came, hence how predictions go out.
    dtype : str
        Type of its values, such as ``"int64"``.
    names : list of str or None
        Column names of a data frame.
    """

    matrix: sp.csr_array
    classes: NDArray[Any]
    layout: str
    dtype: str
    names: list[str] | None = None


def check_target(y: Any) -> Target:
    """Check a target: a binary indicator (sparse or dense), or one class value per sample.

    Parameters
    ----------
    y : sparse matrix or array of shape (n, L), array-like of shape (n, L) or (n,), or data frame

    Returns
    -------
    Target

    Raises
    ------
    TypeError
        A list of label lists.
    ValueError
        None, or an indicator with values other than 0 and 1.
    """
    if y is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None.")
    names = _column_names(y)
    if hasattr(y, "columns") and hasattr(y, "sparse"):
        y = y.sparse.to_coo()
    if sp.issparse(y):
        shape = getattr(y, "shape", ())
        if len(shape) != 2:
            raise ValueError(
                f"A sparse `y` must have the shape (n_samples, n_labels), but has {shape}."
            )
        return _indicator(y, "sparse", names)
    array = _as_array(y)
    array = check_array(
        array,
        dtype=None,
        ensure_2d=False,
        ensure_min_samples=0,
        ensure_min_features=0,
        input_name="y",
    )
    # A single column is an indicator of one label when it holds 0 and 1, and class values
    # otherwise.
    if array.ndim == 2 and (array.shape[1] != 1 or _is_binary(array)):
        return _indicator(array, "dense", names)
    return _class_values(array)


def _column_names(y: Any) -> list[str] | None:
    """Return the column names of a data frame with text columns."""
    columns = list(getattr(y, "columns", []))
    return columns if columns and all(isinstance(name, str) for name in columns) else None


def _as_array(y: Any) -> NDArray[Any]:
    """Return a dense target as an array, and tell a list of label lists apart."""
    hint = (
        "`y` must be an indicator matrix, but a list of label lists was given. "
        "Convert it: use MultiLabelBinarizer(sparse_output=True)."
    )
    nested = isinstance(y, list | tuple) and any(
        isinstance(row, list | tuple | set | frozenset) for row in y
    )
    try:
        array = np.asarray(y)
    except ValueError as error:
        raise TypeError(hint) from error
    rows_of_labels = array.dtype == object and any(
        isinstance(row, list | tuple | set | frozenset) for row in array.ravel()
    )
    if rows_of_labels or (nested and array.dtype.kind in "OUS"):
        raise TypeError(hint)
    return array.astype(np.float64) if array.ndim == 2 and array.dtype == object else array


def _is_binary(values: NDArray[Any]) -> bool:
    """Return whether all values are 0, 1 or booleans."""
    return values.dtype.kind in "buif" and bool(np.all((values == 0) | (values == 1)))


def _indicator(y: Any, layout: str, names: list[str] | None) -> Target:
    """Return the target of an indicator matrix, after its cleaning on a copy."""
    if y.shape[1] == 0:
        raise ValueError("`y` must have at least one label, but has no column.")
    matrix = _checked_ones(y)
    return Target(matrix, np.arange(matrix.shape[1]), layout, str(y.dtype), names)


def _checked_ones(y: Any) -> sp.csr_array:
    """Return an indicator as CSR float32 ones; ValueError for other values."""
    if y.dtype.kind not in "buif":
        values = sp.csr_array(y).data if sp.issparse(y) else y
        raise ValueError(_not_binary(np.unique(values)))
    matrix = as_csr(y, dtype=y.dtype)
    if not np.all(matrix.data == 1):
        raise ValueError(_not_binary(np.unique(matrix.data)))
    ones = np.ones(matrix.nnz, dtype=np.float32)
    return sp.csr_array((ones, matrix.indices, matrix.indptr), shape=matrix.shape)


def _not_binary(values: NDArray[Any]) -> str:
    """Return the message for an indicator with other values."""
    shown = ", ".join(str(value) for value in values[:SHOWN_VALUES])
    more = ", ..." if len(values) > SHOWN_VALUES else ""
    return (
        "`y` must be a binary indicator matrix of 0 and 1 (repeated sparse entries add up), but "
        f"holds the values {shown}{more}. Store 1 for every label of a sample; lists of labels "
        "become an indicator with MultiLabelBinarizer(sparse_output=True)."
    )


def _class_values(array: NDArray[Any]) -> Target:
    """Return the target of one class value per sample."""
    values = column_or_1d(array, warn=True)
    check_classification_targets(values)
    classes, codes = np.unique(values, return_inverse=True)
    shape = (len(values), len(classes))
    ones = np.ones(len(values), dtype=np.float32)
    matrix = sp.csr_array((ones, codes.astype(np.int32), np.arange(len(values) + 1)), shape=shape)
    return Target(matrix, classes, "classes", str(values.dtype))
