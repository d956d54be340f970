"""Checks of what users hand in: texts, sparse matrices, targets.

Nothing here writes into an argument: arrays may be read-only memory maps inside worker processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

SHOWN_VALUES = 5
# What is no sequence of rows: it is one text, or has no order.
NO_SEQUENCES = (str, bytes, bytearray, Mapping, Set)
# The root of the largest number of float32.
LARGEST_TOTAL = 1.8e19
BOXES = {"csr": sp.csr_array, "csc": sp.csc_array, "bsr": sp.bsr_array}


def text_column(value: Any) -> NDArray[np.object_] | None:
    """Return the elements of a sequence, or of one column, that may hold texts.

    Parameters
    ----------
    value : object
        Any argument: a sequence, iterator, Series or data frame of one column.

    Returns
    -------
    ndarray of object of shape (n,), or None
        None for one string, for arrays of numbers, for several columns, and for what has no order.
    """
    if isinstance(value, NO_SEQUENCES) or sp.issparse(value):
        return None
    if hasattr(value, "__array__"):
        shape = getattr(value, "shape", None)
        # Not np.shape, which what only converts to an array need not support.
        shape = np.asarray(value).shape if shape is None else shape
        # Asked first, since a wide frame may be sparse.
        if len(shape) != 1 and tuple(shape[1:]) != (1,):
            return None
        array = np.asarray(value)
        if array.size and array.dtype.kind not in "OUST":
            return None
        return array.ravel().astype(object)
    if not isinstance(value, Iterable) and not hasattr(value, "__getitem__"):
        return None
    items = list(value)
    column = np.empty(len(items), dtype=object)
    column[:] = items
    return column


def holds_texts(value: Any) -> bool:
    """Return whether an argument is a sequence, or one column, in which there is a text.

    All elements count: a sequence of texts may start with a missing one, which `as_texts` names.
    """
    column = text_column(value)
    return column is not None and any(
        item is None or isinstance(item, str | bytes) for item in column
    )


def as_texts(value: Any, name: str) -> NDArray[np.object_]:
    """Return texts as an object array.

    Parameters
    ----------
    value : sequence of str, iterator, ndarray, Series, or data frame of one column
    name : str
        Name of the argument in messages.

    Returns
    -------
    ndarray of object of shape (n,)
        Always a new array.

    Raises
    ------
    ValueError
        An element is not a string, or the argument is neither a sequence nor one column.
    """
    if isinstance(value, str | bytes):
        raise ValueError(
            f"`{name}` must be a sequence of texts, but one string was given. "
            "Put it into a list: [text]."
        )
    texts = text_column(value)
    if texts is None:
        shape = getattr(value, "shape", None)
        raise ValueError(
            f"`{name}` must be a sequence of texts, but is a {type(value).__name__}"
            f"{'' if shape is None else f' of shape {tuple(shape)}'}. Pass a list of str, or one "
            "column of texts."
        )
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            cure = (
                "Decode it: text.decode('utf-8')."
                if isinstance(text, bytes)
                else "Replace missing texts by an empty string."
            )
            raise ValueError(
                f"`{name}` must hold strings only, but element {position} is a "
                f"{type(text).__name__}. {cure}"
            )
        if type(text) is not str:
            texts[position] = str(text)
    return texts


def is_empty(value: Any) -> bool:
    """Return whether an argument is a sequence, or one column, without elements."""
    column = text_column(value)
    return column is not None and not len(column)


def as_names(value: Any, name: str) -> list[str]:
    """Return names of labels: unique, not empty, on one line, without blanks around or tabs.

    Parameters
    ----------
    value : sequence of str
    name : str
        Name of the argument in messages.

    Raises
    ------
    ValueError
        A name breaks the rule; the message has its place.
    """
    names = as_texts(value, name).tolist()
    seen: dict[str, int] = {}
    for position, text in enumerate(names):
        if problem := wrong_name(text):
            raise ValueError(
                f"`{name}` must hold names of labels, but element {position}, {text!r}, {problem}. "
                "Clean it, or drop the label."
            )
        if seen.setdefault(text, position) != position:
            raise ValueError(
                f"`{name}` must name every label once, but {text!r} is element {seen[text]} and "
                f"element {position}. Merge these labels, or give them different names."
            )
    return names


def wrong_name(name: str) -> str | None:
    """Return what is wrong with the name of a label, None where nothing is."""
    if not name.strip():
        return "is empty"
    if "\t" in name or len(name.splitlines()) > 1:
        return "holds a tab or a line break"
    if name != name.strip() or name.startswith("\ufeff"):
        return "has blanks or a byte-order mark around it"
    if not is_unicode(name):
        return "holds half a character (a lone surrogate)"
    return None


def is_unicode(text: str) -> bool:
    """Return whether a text can be encoded: lone surrogates, which JSON can write, cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def checked_sparse(matrix: Any, name: str) -> Any:
    """Return a sparse matrix whose indices fit its shape: code in C trusts them.

    Parameters
    ----------
    matrix : sparse matrix or array
    name : str
        Name of the argument in messages.

    Returns
    -------
    sparse matrix
        The argument, or one that shares memory with it.

    Raises
    ------
    ValueError
        An index is out of range, or the arrays contradict each other.
    """
    try:
        if matrix.format == "csr" and _is_whole(matrix):
            return matrix
        if matrix.format in ("csr", "csc", "bsr"):
            # A new box around the same arrays, since the check may replace them.
            whole = BOXES[matrix.format](matrix)
            whole.check_format(full_check=True)
            return whole
        if matrix.format == "coo" and matrix.ndim == 2:
            if not len(matrix.data) == len(matrix.row) == len(matrix.col):
                raise ValueError("rows, columns and data differ in length")
            return sp.coo_array((matrix.data, (matrix.row, matrix.col)), shape=matrix.shape)
        if matrix.format == "lil" and [*map(len, matrix.rows)] != [*map(len, matrix.data)]:
            raise ValueError("rows and data differ in length")
        # 1-D arrays have no rows; others show their indices when they are CSR.
        return checked_sparse(matrix.tocsr(), name) if matrix.ndim == 2 else matrix
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"`{name}` must be a sparse matrix whose indices fit its shape {matrix.shape}, but is "
            f"broken: {error}. Build it again from (value, (row, column)) triples."
        ) from error


def _is_whole(matrix: Any) -> bool:
    """Return whether a CSR matrix passes its own check, in a tenth of the time: one row counts."""
    data, indices, indptr = matrix.data, matrix.indices, matrix.indptr
    if not (data.ndim == indices.ndim == indptr.ndim == matrix.ndim - 1 == 1):
        return False
    if len(indptr) != matrix.shape[0] + 1 or indices.dtype.kind != "i" or indptr.dtype.kind != "i":
        return False
    if indptr[0] != 0 or not indptr[-1] == len(indices) == len(data):
        return False
    # Negative ids are the largest unsigned ones.
    columns = indices.view(f"u{indices.itemsize}")
    if len(indices) and columns.max() >= matrix.shape[1]:
        return False
    return len(indptr) == 2 or bool((indptr[1:] >= indptr[:-1]).all())


def check_total(name: str, weights: NDArray[np.floating]) -> None:
    """Raise where products of two sums of weights overflow, or underflow, in float32."""
    with np.errstate(over="ignore"):
        total = weights.sum(dtype=np.float64)
    if total > LARGEST_TOTAL or 0 < total < 1 / LARGEST_TOTAL:
        raise ValueError(
            f"`{name}` must hold weights with a sum from {1 / LARGEST_TOTAL:.2g} to "
            f"{LARGEST_TOTAL:g}, but theirs is {total:g}, whose products have no place in float32. "
            "Multiply them all by one number."
        )


def warn_of_unknown_texts(texts: NDArray[np.object_], unknown: NDArray[np.bool_]) -> None:
    """Warn where most texts have no known word.

    Parameters
    ----------
    texts : ndarray of str objects, shape (n,)
        Blank ones have no word at all, and are not counted.
    unknown : ndarray of bool, shape (n,)
        Whether a text has no known word.
    """
    if 2 * np.count_nonzero(unknown) <= len(texts):
        return
    n_unknown = sum(1 for text in texts[unknown] if text.strip())
    if 2 * n_unknown > len(texts):
        warnings.warn(
            f"{n_unknown} of {len(texts)} texts have no known word, so their answers rest on "
            "little. Where scripts write no spaces, or words have many forms, use character "
            "n-grams: vectorizer=TfidfVectorizer(analyzer='char', ngram_range=(1, 3)).",
            stacklevel=3,
        )


def as_csr(matrix: Any, name: str, dtype: Any = np.float32, kind: str = "matrix") -> sp.csr_array:
    """Return a canonical CSR array: no duplicates, no stored zeros, sorted columns.

    Parameters
    ----------
    matrix : sparse matrix, sparse array or ndarray of shape (n, m)
    name : str
        Name of the argument in messages.
    dtype : type, default=float32
        Type of the stored values.
    kind : str, default="matrix"
        What the argument may be, in messages.

    Returns
    -------
    csr_array of shape (n, m)
        Shares memory with the argument where nothing had to change; never write into it.

    Raises
    ------
    ValueError
        An index of a sparse matrix is out of range.
    """
    return canonical_csr(as_matrix(matrix, name, kind), dtype)


def as_matrix(value: Any, name: str, kind: str = "matrix") -> Any:
    """Return a matrix of numbers: a checked sparse one, or an ndarray that scipy can read.

    Parameters
    ----------
    value : sparse matrix, or array-like of shape (n, m)
    name : str
        Name of the argument in messages.
    kind : str, default="matrix"
        What the argument may be, in messages.

    Raises
    ------
    ValueError
        It has no rows and columns, holds no numbers, or an index is out of range.
    """
    array: Any = value
    if hasattr(value, "columns") and hasattr(value, "sparse"):
        array = value.sparse.to_coo()
    elif not sp.issparse(value):
        try:
            array = np.asarray(value)
            array = array.astype(np.float64) if array.dtype.kind == "O" else array
        except (ValueError, TypeError):
            array = np.asarray(None)  # rows of different lengths, or cells that are no numbers
    if array.ndim != 2 or array.dtype.kind not in "buif":
        shape = getattr(value, "shape", None)
        raise ValueError(
            f"`{name}` must be a {kind} of real numbers, but is a {type(value).__name__}"
            f"{'' if shape is None else f' of shape {tuple(shape)}'}. Pass a sparse matrix, or an "
            "array with rows and columns."
        )
    if sp.issparse(array):
        return checked_sparse(array, name)
    # The shortest and the longest floats are those that scipy lacks, or computes slowly with.
    return array.astype(np.float32) if array.dtype == np.float16 else array


def canonical_csr(matrix: Any, dtype: Any = np.float32) -> sp.csr_array:
    """Return what `as_csr` returns, for a matrix that was checked."""
    result = sp.csr_array(matrix)
    if result.dtype != dtype:
        with np.errstate(over="ignore"):  # what does not fit is infinite, and refused as such
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
    y = list(y) if isinstance(y, Iterator) else y
    names = _column_names(y)
    if hasattr(y, "columns") and hasattr(y, "sparse"):
        y = y.sparse.to_coo()
    if sp.issparse(y):
        shape = getattr(y, "shape", ())
        if len(shape) != 2:
            raise ValueError(
                f"A sparse `y` must have the shape (n_samples, n_labels), but has {shape}."
            )
        return _indicator(checked_sparse(y, "y"), "sparse", names)
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
    if not columns or not all(isinstance(name, str) for name in columns):
        return None
    return as_names(columns, "the columns of y")


def _as_array(y: Any) -> NDArray[Any]:
    """Return a dense target as an array, and tell a list of label lists apart."""
    hint = (
        "`y` must be an indicator matrix, but a list of label lists was given. "
        "Convert it: use MultiLabelBinarizer(sparse_output=True)."
    )
    nested = isinstance(y, list | tuple) and any(
        isinstance(row, list | tuple | set | frozenset) for row in y
    )
    if isinstance(y, list | tuple):
        _check_none_missing(y)
    try:
        array = np.asarray(y)
    except ValueError as error:
        raise TypeError(hint) from error
    if array.ndim and array.dtype.kind in "Of":
        _check_none_missing(array)
    rows_of_labels = array.dtype == object and any(
        isinstance(row, list | tuple | set | frozenset) for row in array.ravel()
    )
    if rows_of_labels or (nested and array.dtype.kind in "OUS"):
        raise TypeError(hint)
    return array.astype(np.float64) if array.ndim == 2 and array.dtype == object else array


def _check_none_missing(y: Any) -> None:
    """Raise where a row of a dense target, or a cell of it, is None, NaN or NA."""
    if isinstance(y, np.ndarray) and y.dtype.kind == "f":
        bad = np.argwhere(np.isnan(y))[:1].tolist()
    else:
        cells = np.ndenumerate(y) if isinstance(y, np.ndarray) else enumerate(y)
        bad = [np.atleast_1d(at).tolist() for at, value in cells if _is_missing(value)][:1]
    if bad:
        row, *columns = bad[0]
        where = f"row {row}" + "".join(f", column {column}" for column in columns)
        raise ValueError(
            f"`y` must have no missing value, but {where} holds NaN, NA or None. Drop this row; a "
            "sample without labels is a row of zeros."
        )


def _is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, or the NA or NaT of pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


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
    y = y.astype(np.float32) if y.dtype == np.float16 else y  # which scipy lacks
    matrix = canonical_csr(y, y.dtype)
    wrong = matrix.data != 1
    if wrong.any():
        row = np.searchsorted(matrix.indptr, np.argmax(wrong), "right") - 1
        raise ValueError(_not_binary(np.unique(matrix.data), int(row)))
    ones = np.ones(matrix.nnz, dtype=np.float32)
    return sp.csr_array((ones, matrix.indices, matrix.indptr), shape=matrix.shape)


def _not_binary(values: NDArray[Any], row: int | None = None) -> str:
    """Return the message for an indicator with other values."""
    shown = ", ".join(str(value) for value in values[:SHOWN_VALUES])
    more = ", ..." if len(values) > SHOWN_VALUES else ""
    where = "" if row is None else f"Row {row} is the first with another value. "
    return (
        "`y` must be a binary indicator matrix of 0 and 1 (repeated sparse entries add up), but "
        f"holds the values {shown}{more}. {where}Store 1 for every label of a sample; lists of "
        "labels become an indicator with MultiLabelBinarizer(sparse_output=True)."
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
