"""From JSON and arrays back to an estimator; the tags are those of `skxc.persistence._flatten`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skxc.persistence._classes import HOLDERS, PACKAGES, find_class, is_record
from skxc.persistence._flatten import BUILTIN_TYPES, NUMPY_TYPES
from skxc.persistence._rounding import restored
from skxc.utils._loaded import check_finite, check_starts, check_types, check_vectorizer

# Sizes that nothing stored stands for, such as columns without entries, must not exceed this, or
# this many times the numbers that are stored.
LARGEST_SIZE, SIZE_PER_NUMBER = 2**24, 16
# Numbers in the state of a Mersenne Twister.
_TWISTER = 624

_SPARSE = {
    f"{form}_{kind}": getattr(sp, f"{form}_{kind}")
    for form in ("csr", "csc", "coo", "bsr", "dia", "dok", "lil")
    for kind in ("array", "matrix")
}


class Rebuilder:
    """Put together what `Flattener` took apart.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        The arrays by name.
    """

    def __init__(self, arrays: Mapping[str, NDArray]) -> None:
        self._arrays = arrays
        stored = sum(array.size for array in arrays.values())
        self._largest_size = max(LARGEST_SIZE, SIZE_PER_NUMBER * stored)
        self._makers: dict[str, Callable[[Any], Any]] = {
            "float": float,
            "tuple": lambda nodes: tuple(self.rebuild(nodes)),
            "set": lambda nodes: set(self.rebuild(nodes)),
            "frozenset": lambda nodes: frozenset(self.rebuild(nodes)),
            "range": lambda ends: range(*ends),
            "dict": lambda nodes: {key: self.rebuild(node) for key, node in nodes.items()},
            "map": lambda pairs: {self.rebuild(key): self.rebuild(node) for key, node in pairs},
            "path": Path,
            "dtype": _find_dtype,
            "type": _find_type,
            "scalar": self._make_scalar,
            "random_state": self._make_random_state,
            "items": self._make_items,
            "texts": self._make_texts,
            "array": self._make_array,
            "rounded": lambda names: restored([self._arrays[name] for name in names]),
            "sparse": self._make_sparse,
            "holder": self._make_holder,
            "object": self._make_object,
        }

    def root(self, node: Any) -> BaseEstimator:
        """Return the estimator of the outermost JSON node.

        Raises
        ------
        Exception
            As `rebuild`, and if it is something else, or an estimator of skxc without a model.
        """
        estimator = self.rebuild(node)
        if not isinstance(estimator, BaseEstimator):
            raise ValueError(f"a {type(estimator).__name__} is no estimator")
        if hasattr(estimator, "__sklearn_is_fitted__") and not estimator.__sklearn_is_fitted__():
            raise ValueError(f"the {type(estimator).__name__} has no model")
        return estimator

    def rebuild(self, node: Any) -> Any:
        """Return the value of a JSON node.

        Every object is checked when it is built: its parts are there, the object that holds it is
        not. A class says what holds of its instances by ``_check_loaded()``, which raises.

        Raises
        ------
        Exception
            If the node is not one that `Flattener` writes, or does not fit the arrays, or an object
            is not what its class allows.
        """
        if isinstance(node, list):
            return [self.rebuild(item) for item in node]
        if not isinstance(node, dict):
            return node
        [(tag, content)] = node.items()
        return self._makers[tag](content)

    def _make_scalar(self, content: list) -> Any:
        name, node = content
        return NUMPY_TYPES[name](self.rebuild(node))

    def _make_random_state(self, content: Any) -> np.random.RandomState:
        random_state, state = np.random.RandomState(), self.rebuild(content)
        if not (len(state) == 5 and 0 <= state[2] <= _TWISTER):  # NumPy reads at this position
            raise ValueError("a state of a RandomState has an impossible position")
        random_state.set_state(state)
        return random_state

    def _make_items(self, content: list) -> NDArray:
        shape, nodes = content
        self._check_shape(shape)
        if math.prod(shape) != len(nodes):
            raise ValueError(f"{len(nodes)} items do not fill an array of shape {tuple(shape)}")
        items = np.empty(len(nodes), dtype=object)
        for i, node in enumerate(nodes):
            items[i] = self.rebuild(node)
        return items.reshape(shape)

    def _make_texts(self, content: list) -> NDArray:
        name, shape, width = content
        codes = self._arrays[name]
        self._check_shape(shape)
        if codes.dtype != np.uint32 or codes.shape != (math.prod(shape) * width,):
            raise ValueError(f"`{name}` does not hold texts of shape {tuple(shape)}")
        if codes.size and codes.max() > 0x10FFFF:
            raise ValueError(f"`{name}` holds numbers that are no characters")
        return codes.view(f"U{width}").reshape(shape)

    def _make_array(self, content: list) -> NDArray:
        name, shape, order = content
        array = self._arrays[name].T if order == "F" else self._arrays[name]
        if array.shape != tuple(shape):
            raise ValueError(f"`{name}` has shape {array.shape} instead of {tuple(shape)}")
        self._check_shape(shape)
        return array

    def _check_shape(self, shape: list[int]) -> None:
        """Raise where a size that nothing stored stands for would take much memory in use."""
        if not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"{shape} is no shape")
        if max(shape, default=0) > self._largest_size:
            raise ValueError(f"the shape {tuple(shape)} is too large for what is stored")

    def _make_sparse(self, content: list) -> Any:
        name, shape, names = content
        pieces = {piece: self._arrays[key] for piece, key in names.items()}
        self._check_shape(shape)
        if any(pieces[piece].dtype.kind != "i" for piece in pieces if piece != "data"):
            raise ValueError(f"`{names['data']}` has positions that are no integers")
        if "row" in pieces:
            arrays: tuple = (pieces["data"], (pieces["row"], pieces["col"]))
            matrix = sp.coo_array(arrays, shape=tuple(shape))
            if name.startswith("dia"):  # one row of as many numbers as columns per diagonal
                n_diagonals = len(np.unique(matrix.col.astype(np.int64) - matrix.row))
                self._check_shape([n_diagonals * shape[1]])
            return _SPARSE[name](matrix)
        arrays = (pieces["data"], pieces["indices"], pieces["indptr"])
        matrix = _SPARSE[name](arrays, shape=tuple(shape))
        # Ids outside the matrix would let later operations read foreign memory.
        matrix.check_format(full_check=True)
        check_starts(f"{names['indptr']}", matrix.indptr, matrix.indptr[-1])
        return matrix

    def _make_holder(self, content: list) -> Any:
        name, arguments = content
        if name not in HOLDERS:
            raise ValueError(f"{name} is not a holder")
        return find_class(name)(*self.rebuild(arguments))

    def _make_object(self, content: list) -> Any:
        name, nodes = content
        cls = find_class(name)
        state = {key: self.rebuild(node) for key, node in nodes.items()}
        value = cls.__new__(cls)
        if is_record(cls):
            if state.keys() != {field.name for field in fields(cls)}:
                raise ValueError(f"{name} has other fields than these: {', '.join(state)}")
            for field, part in state.items():
                object.__setattr__(value, field, part)  # a frozen dataclass has no other way
            check_types(value)
        else:
            value.__setstate__(state)
        if cls.__module__.startswith(PACKAGES[0]):
            check_finite(cls, state)
        check_vectorizer(state)
        getattr(cls, "_check_loaded", lambda _: None)(value)
        return value


def _find_dtype(name: str) -> np.dtype:
    dtype = np.dtype(name)
    if dtype.kind not in "biufUO":
        raise ValueError(f"{name} is no dtype of a saved model")
    return dtype


def _find_type(name: str) -> type:
    package, _, short = name.partition(".")
    return {"builtins": BUILTIN_TYPES, "numpy": NUMPY_TYPES}[package][short]
