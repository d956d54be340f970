"""Labels by their names: a target of lists of names, in `fit` and where a model is evaluated.

A column of texts is a column of classes unless a separator says that its texts are lists.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from skxc.exceptions import UnknownLabelWarning
from skxc.utils._sparse import index_dtype
from skxc.utils._validation import Target, _is_missing, text_column, wrong_name

UnknownLabels = Literal["ignore", "error"]
LISTS = (list, tuple, set, frozenset, np.ndarray)


def rows_of_names(y: Any, separator: str | None = None) -> list[list[str]] | None:
    """Return the names of every row, each once; None for an indicator or classes.

    Parameters
    ----------
    y : sequence of lists of str, of a list, an array or a Series; or of texts to split
    separator : str or None
        What separates the names within a text. None: texts are classes, not lists of names.

    Raises
    ------
    ValueError
        A row, or a label of it, is no name; or there is a separator, and a row is no text.
    """
    if separator is not None:
        return _split(y, separator)
    if isinstance(y, np.ndarray) and y.dtype != object:
        return None
    column = text_column(y)
    if column is None or not any(
        isinstance(row, LISTS) and any(isinstance(name, str) for name in row) for row in column
    ):
        return None
    for position, row in enumerate(column):
        if _is_missing(row):
            raise ValueError(
                f"`y` must have no missing value, but row {position} holds {row!r}. Write [] for a "
                "sample without labels."
            )
        if not isinstance(row, LISTS):
            raise ValueError(
                f"`y` must hold a list of names for every sample, but row {position} is {row!r}. "
                "Write [name], or [] for a sample without labels."
            )
    _check_names(column)
    return [list(dict.fromkeys(map(str, row))) for row in column]


def rows_to_score(y: Any, separator: str | None) -> list[list[str]] | None:
    """Return what `rows_of_names` does, where the separator of `fit` counts for texts only."""
    if separator is not None:
        column = text_column(y)
        if column is None or not any(isinstance(text, str) for text in column):
            separator = None
    return rows_of_names(y, separator)


def _split(y: Any, separator: str) -> list[list[str]]:
    """Return the names in delimited texts; blank and missing texts have none."""
    if not isinstance(separator, str) or not separator:
        raise ValueError(
            f"`label_separator` must be a text of one character or more, but is {separator!r}. "
            'Write label_separator=";", for example.'
        )
    column = text_column(y)
    if column is None:
        raise ValueError(
            "`y` must be a column of texts because `label_separator` is given, but is a "
            f"{type(y).__name__}. Leave `label_separator` out, or pass one text per sample."
        )
    rows = []
    for position, text in enumerate(column):
        text = "" if _is_missing(text) else text
        if not isinstance(text, str):
            raise ValueError(
                "`y` must hold texts because `label_separator` is given, but row "
                f"{position} is {text!r}. Leave `label_separator` out, or write a text."
            )
        names = dict.fromkeys(part.strip() for part in text.split(separator))
        rows.append([name for name in names if name])
    _check_names(rows)
    return rows


def _check_names(rows: Iterable[Iterable[Any]]) -> None:
    """Raise unless all labels of all rows are names."""
    seen: set[str] = set()
    for position, row in enumerate(rows):
        for name in row:
            if not isinstance(name, str):
                raise ValueError(
                    f"`y` must hold names that are texts, but row {position} holds {name!r}. "
                    "Write str(label)."
                )
            if name not in seen and (problem := wrong_name(name)):
                raise ValueError(
                    f"`y` must hold names of labels, but {name!r} in row {position} {problem}. "
                    "Clean it, or drop the label."
                )
            seen.add(name)


def target_of_names(rows: list[list[str]], names: list[str] | None) -> Target:
    """Return lists of names as a target to fit on.

    Parameters
    ----------
    rows : list of lists of str
        What `rows_of_names` returned.
    names : list of str or None
        All labels, in the order of the columns; None: those of the rows, sorted.

    Raises
    ------
    ValueError
        There is no label, or one that is not in `names`.
    """
    if names is None:
        names = sorted({name for row in rows for name in row})
        if not names:
            raise ValueError("`y` must have at least one label, but all its lists are empty.")
    matrix, unknown = _indicator(rows, names)
    if unknown:
        raise ValueError(
            f"`label_features` must have an entry for every label of `y`, but {len(unknown)} have "
            f"none, such as {unknown[0]!r}. Add them; where a name says all, it can be the text."
        )
    return Target(matrix, np.arange(len(names)), "sparse", "int64", names)


def truth_of_names(
    rows: list[list[str]], names: Sequence[str] | None, unknown_labels: UnknownLabels
) -> tuple[sp.csr_array, int]:
    """Return lists of names as the truth that a fitted model is evaluated by.

    Parameters
    ----------
    rows : list of lists of str
        What `rows_of_names` returned.
    names : sequence of L str or None
        The labels of the model.
    unknown_labels : {"ignore", "error"}

    Returns
    -------
    truth : csr_array of float32 ones, shape (n, L + n_unknown)
        Labels that the model does not know come last.
    n_unknown : int

    Warns
    -----
    UnknownLabelWarning
        There are such labels.
    """
    if unknown_labels not in ("ignore", "error"):
        raise ValueError(
            f"`unknown_labels` must be 'ignore' or 'error', but is {unknown_labels!r}. 'ignore' "
            "counts labels that the model does not know as misses."
        )
    if names is None:
        raise ValueError(
            "`y` holds names, but the labels of the model have none. Pass `label_names`, an "
            "indicator matrix, or fit with names."
        )
    truth, unknown = _indicator(rows, names)
    if unknown:
        n_pairs = int(np.count_nonzero(truth.indices >= len(names)))
        message = (
            f"{len(unknown)} labels of `y`, such as {unknown[0]!r}, were not there in fit. Their "
            f"{n_pairs} of {truth.nnz} pairs "
        )
        if unknown_labels == "error":
            raise ValueError(message + "cannot be found. Drop them, or pass 'ignore'.")
        warnings.warn(message + "count as misses.", UnknownLabelWarning, stacklevel=4)
    return truth, len(unknown)


def _indicator(rows: list[list[str]], names: Sequence[str]) -> tuple[sp.csr_array, list[str]]:
    """Return lists of names as ones; columns of names that are not in `names` come last."""
    ids = {name: label for label, name in enumerate(names)}
    labels = [ids.setdefault(name, len(ids)) for row in rows for name in row]
    indptr = np.cumsum([0, *map(len, rows)])
    shape = (len(rows), len(ids))
    dtype = index_dtype(max(len(ids), len(labels)))
    matrix = sp.csr_array(
        (np.ones(len(labels), np.float32), np.array(labels, dtype), indptr.astype(dtype)),
        shape=shape,
    )
    matrix.sort_indices()
    return matrix, list(ids)[len(names) :]
