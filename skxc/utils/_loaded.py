"""Checks of what was loaded: types, shapes, bounds of ids, finite numbers.

Compiled loops follow ids without looking, so that a wrong one reads foreign memory. Everything here
raises ValueError with one sentence that names the array.
"""

from __future__ import annotations

import types
import typing
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = [
    "check_finite",
    "check_ids",
    "check_number",
    "check_starts",
    "check_types",
    "check_vectorizer",
    "sizes_of",
]


def sizes_of(owner: Any, **layouts: str) -> dict[str, int]:
    """Return the sizes of arrays whose shapes must fit together.

    Parameters
    ----------
    owner : object
        Its attributes are the arrays; matrices, lists and objects with a length will also do, and
        None is left out.
    **layouts : str
        Per attribute the names of its sizes, such as ``weights="L d", starts="L+1", pairs="L 2"``.
        A name stands for one number everywhere.

    Returns
    -------
    dict of str to int
    """
    sizes: dict[str, int] = {}
    for name, layout in layouts.items():
        value = getattr(owner, name)
        if value is None:
            continue
        value = getattr(value, "vectors", value)
        shape, wanted = getattr(value, "shape", None), layout.split()
        shape = (len(value),) if shape is None else shape
        fits = len(shape) == len(wanted)
        for size, token in zip(shape, wanted, strict=False):
            letter, _, more = token.partition("+")
            extra = int(more or 0)
            fits &= size - extra == sizes.setdefault(
                letter, int(letter) if letter.isdigit() else size - extra
            )
        if not fits:
            known = {letter: size for letter, size in sizes.items() if not letter.isdigit()}
            raise ValueError(
                f"`{type(owner).__name__}.{name}` must have the shape ({layout}) with {known}, but "
                f"has {shape}"
            )
    return sizes


def check_ids(name: str, ids: NDArray, stop: int, first: int = 0) -> None:
    """Raise unless all ids lie in ``range(first, stop)``."""
    if ids.size and not (first <= ids.min() and ids.max() < stop):
        raise ValueError(
            f"`{name}` must lie between {first} and {stop - 1}, but goes from {ids.min()} to "
            f"{ids.max()}"
        )


def check_starts(name: str, starts: NDArray, end: int) -> None:
    """Raise unless an array of where parts start begins with 0, never falls, and ends at `end`."""
    if not (starts.size and starts[0] == 0 and starts[-1] == end and np.all(np.diff(starts) >= 0)):
        raise ValueError(f"`{name}` must rise from 0 to {end}, but does not")


def check_number(name: str, value: Any, low: float = -np.inf, high: float = np.inf) -> None:
    """Raise unless a value is a finite number from `low` to `high`."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not (is_number and np.isfinite(value) and low <= value <= high):
        raise ValueError(f"`{name}` must be a number from {low} to {high}, but is {value!r}")


def check_finite(cls: type, state: dict[str, Any]) -> None:
    """Raise where an array in the state of an object, or a number of a record, is not finite.

    A class lists in ``_may_be_nan`` which attributes are exempt.
    """
    exempt = getattr(cls, "_may_be_nan", ())
    is_record = hasattr(cls, "__dataclass_fields__") and not hasattr(cls, "get_params")
    for name, value in state.items():
        if name not in exempt and not _is_finite(value, is_record):
            raise ValueError(f"`{cls.__name__}.{name}` must be finite, but holds NaN or infinity")


def _is_finite(value: Any, numbers_too: bool) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_finite(item, numbers_too) for item in value)
    if isinstance(value, dict):
        return all(_is_finite(item, numbers_too) for item in value.values())
    if sp.issparse(value):
        value = value.data
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return bool(np.isfinite(value).all())
    return not (numbers_too and isinstance(value, float) and not np.isfinite(value))


def check_vectorizer(state: dict[str, Any]) -> None:
    """Raise unless the columns of a vectoriser of scikit-learn, if it is one, fit its weights."""
    vocabulary, weights, n_words = state.get("vocabulary_"), state.get("_tfidf"), None
    if isinstance(vocabulary, dict):
        n_words = len(vocabulary)
        numbers = np.array(sorted(map(int, vocabulary.values())))
        if not np.array_equal(numbers, np.arange(n_words)):
            raise ValueError("`vocabulary_` must number its words from 0 on, but does not")
    n_columns = getattr(weights, "n_features_in_", n_words)
    if n_words is not None and n_columns != n_words:
        raise ValueError(f"`vocabulary_` must have {n_columns} words, but has {n_words}")
    idf, n_columns = state.get("idf_"), state.get("n_features_in_")
    if idf is not None and n_columns is not None and np.shape(idf) != (n_columns,):
        raise ValueError(f"`idf_` must have {n_columns} entries, but has {np.shape(idf)}")


# ---- types


@cache
def _hints_of(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def check_types(record: Any) -> None:
    """Raise where a field of a dataclass is not what its type hint says."""
    for name in record.__dataclass_fields__:
        cls: Any = type(record)
        hint, value = _hints_of(cls)[name], getattr(record, name)
        if not _fits(value, hint):
            is_array = hasattr(value, "dtype")
            what = f"an array of {value.dtype}" if is_array else f"a {type(value).__name__}"
            raise ValueError(
                f"`{cls.__name__}.{name}` must be of the type {_short(hint)}, but is {what}"
            )


def _short(hint: Any) -> str:
    if get_origin(hint) is np.ndarray:
        return f"array of {_short(get_args(get_args(hint)[1])[0])}"
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of a type; what cannot be told is."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if hint is None or hint is types.NoneType:
        return value is None
    if origin in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is np.ndarray:
        (scalar,) = get_args(arguments[1])
        is_any = not isinstance(scalar, type)
        return isinstance(value, np.ndarray) and (is_any or np.issubdtype(value.dtype, scalar))
    if origin in (list, set, frozenset):
        return type(value) is origin and all(_fits(item, arguments[0]) for item in value)
    if origin is tuple:
        inner = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return type(value) is tuple and len(value) == len(inner) and all(map(_fits, value, inner))
    if origin is dict:
        return type(value) is dict and all(
            _fits(key, arguments[0]) and _fits(item, arguments[1]) for key, item in value.items()
        )
    if hint in (int, float):
        kinds = (int, np.integer) if hint is int else (int, float, np.number)
        return isinstance(value, kinds) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)
