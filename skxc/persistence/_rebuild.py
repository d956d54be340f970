"""From JSON and arrays back to an estimator; the tags are those of `skxc.persistence._flatten`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.persistence._classes import HOLDERS, find_class, is_record
from skxc.persistence._flatten import BUILTIN_TYPES, NUMPY_TYPES

_SPARSE = {
    f"{form}_{kind}": getattr(sp, f"{form}_{kind}")
    for form in ("csr", "csc", "coo", "bsr", "dia", "dok", "lil")
    for kind in ("array", "matrix")
}


class Rebuilder:
    """Put together what `Flattener` took apart.

    Parameters
    ----------
    dense, sparse : mapping of str to ndarray
        The arrays by name.
    """

    def __init__(self, dense: Mapping[str, NDArray], sparse: Mapping[str, NDArray]) -> None:
        self._dense = dense
        self._sparse = sparse
        self._makers: dict[str, Callable[[Any], Any]] = {
            "float": float,
            "tuple": lambda nodes: tuple(self.rebuild(nodes)),
            "set": lambda nodes: set(self.rebuild(nodes)),
            "frozenset": lambda nodes: frozenset(self.rebuild(nodes)),
            "range": lambda ends: range(*ends),
            "dict": lambda nodes: {key: self.rebuild(node) for key, node in nodes.items()},
            "map": lambda pairs: {self.rebuild(key): self.rebuild(node) for key, node in pairs},
            "path": Path,
            "dtype": np.dtype,
            "type": _find_type,
            "scalar": self._make_scalar,
            "random_state": self._make_random_state,
            "items": self._make_items,
            "array": self._make_array,
            "sparse": self._make_sparse,
            "holder": self._make_holder,
            "object": self._make_object,
        }

    def rebuild(self, node: Any) -> Any:
        """Return the value of a JSON node.

        Raises
        ------
        ValueError, KeyError, TypeError, AttributeError
            If the node is not one that `Flattener` writes, or does not fit the arrays.
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
        random_state = np.random.RandomState()
        random_state.set_state(self.rebuild(content))
        return random_state

    def _make_items(self, content: list) -> NDArray:
        dtype, shape, nodes = content
        if math.prod(shape) != len(nodes):
            raise ValueError(f"{len(nodes)} items do not fill an array of shape {tuple(shape)}")
        items = np.empty(len(nodes), dtype=dtype)
        for i, node in enumerate(nodes):
            items[i] = self.rebuild(node)
        return items.reshape(shape)

    def _make_array(self, content: list) -> NDArray:
        name, shape, order = content
        array = self._dense[name].T if order == "F" else self._dense[name]
        if array.shape != tuple(shape):
            raise ValueError(f"`{name}` has shape {array.shape} instead of {tuple(shape)}")
        return array

    def _make_sparse(self, content: list) -> Any:
        name, shape, names = content
        pieces = {piece: self._sparse[key] for piece, key in names.items()}
        if "row" in pieces:
            arrays: tuple = (pieces["data"], (pieces["row"], pieces["col"]))
            return _SPARSE[name](sp.coo_array(arrays, shape=tuple(shape)))
        arrays = (pieces["data"], pieces["indices"], pieces["indptr"])
        matrix = _SPARSE[name](arrays, shape=tuple(shape))
        # Ids outside the matrix would let later operations read foreign memory.
        matrix.check_format(full_check=True)
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
        if not is_record(cls):
            value.__setstate__(state)
            return value
        for field, part in state.items():
            object.__setattr__(value, field, part)  # a frozen dataclass has no other way
        return value


def _find_type(name: str) -> type:
    package, _, short = name.partition(".")
    return {"builtins": BUILTIN_TYPES, "numpy": NUMPY_TYPES}[package][short]
