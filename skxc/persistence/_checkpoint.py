"""One-file states for training loops: arrays and JSON, written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from skxc.persistence._files import check_regular, write_arrays, write_atomically

_META = "skxc_state"


def write_state(path: str | PathLike[str], arrays: Mapping[str, NDArray], meta: Any = None) -> None:
    """Write a state, replacing the one at `path` in one step.

    A process that is stopped at any moment leaves the old state or the new one, never a part. What
    it was writing is removed by the next call for this path.

    Parameters
    ----------
    path : str or path
        A safetensors file in an existing folder.
    arrays : mapping of str to ndarray
        Arrays of numbers or bool, in any memory layout.
    meta : JSON-able, default=None
        Numbers (also inf and nan), texts, lists and dicts with str keys; part of the same file.

    Raises
    ------
    TypeError
        If `meta` holds anything else.
    OSError
        If the folder cannot be written to, or the disk is full. The old state is still there.
    """
    header = {_META: json.dumps(meta)}
    dense = {name: np.asarray(array) for name, array in arrays.items()}
    write_atomically(Path(path), lambda place: write_arrays(place, dense, header))


def read_state(path: str | PathLike[str]) -> tuple[dict[str, NDArray], Any] | None:
    """Read a state.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    (dict of str to ndarray, meta) or None
        What `write_state` was given; None if there is no such file.

    Raises
    ------
    ValueError
        If the file is not a complete state.
    """
    if not Path(path).exists():
        return None
    try:
        check_regular(Path(path))
        with safe_open(path, framework="np") as file:
            meta = json.loads((file.metadata() or {})[_META])
            return {name: file.get_tensor(name) for name in file.keys()}, meta  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"`{path}` must be a state written by `write_state`, but it is damaged or something "
            f"else ({error}). Delete the file to start from the beginning."
        ) from error
