"""From an estimator to JSON and arrays.

None, bool, int, finite float, str and list stand for themselves in JSON. Everything else becomes an
object with one key, its tag: ``{"tuple": [1, 2]}``, ``{"array": {...}}``, ``{"object": [...]}``.
`skxc.persistence._rebuild` reads the same tags.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import PurePath
from typing import Any, NoReturn

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.persistence._classes import HOLDERS, can_be_saved, class_name, is_record
from skxc.persistence._files import SAFETENSORS
from skxc.persistence._rounding import Stored, rounded

# Wiring for `fit` that a saved model does not need: callbacks and metadata requests.
_TRANSIENT = {"_skl_callbacks", "_skl_callbacks_to_teardown", "_metadata_request"}
BUILTIN_TYPES = {"bool": bool, "int": int, "float": float, "str": str}
NUMPY_TYPES = {name: np.dtype(name).type for name in (*SAFETENSORS, "str", "object")}
_SCALAR_NAMES = {cls: name for name, cls in NUMPY_TYPES.items() if name != "object"}
_TYPE_NAMES = {
    **{cls: f"builtins.{name}" for name, cls in BUILTIN_TYPES.items()},
    **{cls: f"numpy.{name}" for name, cls in NUMPY_TYPES.items()},
}
# Other sparse formats are stored as coo.
_PIECES = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "coo": ("data", "row", "col"),
}


class Flattener:
    """Turn an estimator into JSON, and collect its arrays by name without copying them.

    Parameters
    ----------
    stored : {"float32", "float16", "int8"}, default="float32"
        How those arrays are stored that a class names in ``_rounded``.
    all_parts : bool, default=True
        False: a class says by ``_for_prediction()`` what is enough to predict.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Dense arrays and the pieces of sparse matrices. Memory that occurs twice is in here once.
    """

    def __init__(self, stored: Stored = "float32", *, all_parts: bool = True) -> None:
        self._stored: Stored = stored
        self._all_parts = all_parts
        self.arrays: dict[str, NDArray] = {}
        self._names: dict[Any, str] = {}
        self._open: set[int] = set()

    def flatten(self, value: Any, path: str) -> Any:
        """Return the JSON of a value.

        Parameters
        ----------
        value : object
        path : str
            Where it stands, for messages and for the names of its arrays.

        Raises
        ------
        ValueError
            If the value or something in it cannot be saved.
        """
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if id(value) in self._open:
            raise ValueError(f"`{path}` contains itself. Break the cycle before saving.")
        self._open.add(id(value))
        node = self._flatten_part(value, path)
        self._open.remove(id(value))
        return node

    def _flatten_part(self, value: Any, path: str) -> Any:
        kind = type(value)
        if kind is dict:
            return self._flatten_dict(value, path)
        if kind in (list, tuple, set, frozenset):
            return self._flatten_items(value, path)
        if kind in (np.ndarray, np.memmap):
            return self._flatten_array(value, path)
        if sp.issparse(value):
            return self._flatten_sparse(value, path)
        return self._flatten_small(value, path)

    def _flatten_small(self, value: Any, path: str) -> Any:
        if type(value) in _SCALAR_NAMES:
            return {"scalar": [_SCALAR_NAMES[type(value)], self.flatten(value.item(), path)]}
        if isinstance(value, np.dtype) and value.kind in "biufUO":
            return {"dtype": value.str}
        if isinstance(value, type) and value in _TYPE_NAMES:
            return {"type": _TYPE_NAMES[value]}
        if type(value) is range:
            return {"range": [value.start, value.stop, value.step]}
        if type(value) is np.random.RandomState:
            return {"random_state": self.flatten(value.get_state(legacy=True), path)}
        if isinstance(value, PurePath):
            return {"path": str(value)}
        if can_be_saved(type(value)):
            return self._flatten_object(value, path)
        return _refuse(value, path)

    def _flatten_dict(self, value: dict, path: str) -> Any:
        if all(type(key) is str for key in value):
            return {"dict": {k: self.flatten(v, f"{path}.{k}") for k, v in value.items()}}
        pairs = [
            [self.flatten(key, f"{path} key"), self.flatten(item, f"{path}[{key!r}]")]
            for key, item in value.items()
        ]
        return {"map": pairs}

    def _flatten_items(self, value: Any, path: str) -> Any:
        # Sets have no order of their own; a fixed one makes equal models equal files.
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        nodes = [self.flatten(item, f"{path}[{i}]") for i, item in enumerate(items)]
        return nodes if type(value) is list else {type(value).__name__: nodes}

    def _flatten_array(self, value: NDArray, path: str) -> Any:
        if value.dtype.kind == "O":
            nodes = [self.flatten(x, f"{path}[{i}]") for i, x in enumerate(value.ravel().tolist())]
            return {"items": [list(value.shape), nodes]}
        if value.dtype.kind == "U":
            width = max(value.dtype.itemsize // 4, 1)
            # As numbers, so that their size is that of the file.
            codes = np.ascontiguousarray(value, dtype=f"U{width}").reshape(-1).view(np.uint32)
            return {"texts": [self._store(codes, path), list(value.shape), width]}
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        name = self._store(value.T if order == "F" else value, path)
        return {"array": [name, list(value.shape), order]}

    def _flatten_sparse(self, value: Any, path: str) -> Any:
        if value.ndim != 2:
            _refuse(value, path)
        matrix = value if value.format in _PIECES else value.tocoo()
        pieces = {
            piece: self._store(getattr(matrix, piece), f"{path}.{piece}")
            for piece in _PIECES[matrix.format]
        }
        kind = "array" if isinstance(value, sp.sparray) else "matrix"
        return {"sparse": [f"{value.format}_{kind}", list(value.shape), pieces]}

    def _store(self, array: NDArray, path: str) -> str:
        """Add an array unless its memory is there already; return its name."""
        if array.dtype.name not in SAFETENSORS:
            raise ValueError(
                f"`{path}` must be an array of numbers, bool or str to be saved, but its dtype is "
                f"{array.dtype}. Convert it, or remove the attribute before saving."
            )
        # An address that is known cannot be used again: the array in `arrays` keeps it.
        memory = array.__array_interface__
        key = (memory["data"][0], array.shape, array.strides, memory["typestr"])
        if key not in self._names:
            name = path.partition(".")[2] or path
            while name in self.arrays:  # {"a.b": x, "a": {"b": y}}
                name += "'"
            self._names[key] = name
            self.arrays[name] = array
        return self._names[key]

    def _flatten_object(self, value: Any, path: str) -> Any:
        name = class_name(type(value))
        if name in HOLDERS:
            fields = [getattr(value, field) for field in HOLDERS[name]]
            arguments = [field() if callable(field) else field for field in fields]
            return {"holder": [name, self.flatten(arguments, path)]}
        if not self._all_parts and hasattr(value, "_for_prediction"):
            value = value._for_prediction()
        if is_record(type(value)):
            state = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        else:
            state = {k: v for k, v in value.__getstate__().items() if k not in _TRANSIENT}
        large = getattr(type(value), "_rounded", ())
        nodes = {
            key: (self._round if key in large else self.flatten)(part, f"{path}.{key}")
            for key, part in state.items()
        }
        return {"object": [name, nodes]}

    def _round(self, value: Any, path: str) -> Any:
        """Return the JSON of arrays that may be stored with fewer bits."""
        if type(value) is dict:
            return {"dict": {k: self._round(v, f"{path}.{k}") for k, v in value.items()}}
        parts = rounded(value, self._stored) if isinstance(value, np.ndarray) else [value]
        if parts[0] is value:
            return self.flatten(value, path)
        names = (path, f"{path}.steps")
        return {"rounded": [self._store(part, names[i]) for i, part in enumerate(parts)]}


def _refuse(value: Any, path: str) -> NoReturn:
    named = value if hasattr(value, "__qualname__") else type(value)
    name = f"{getattr(named, '__module__', 'builtins')}.{named.__qualname__}"
    what = name if named is value else f"an object of {name}"
    raise ValueError(
        f"`{path}` must be built of numbers, texts, arrays and estimators of skxc and scikit-learn "
        f"to be saved without a pickle, but holds {what}. Replace it by such a value, or use "
        "joblib.dump and load the file only where you trust it."
    )
