"""Arrays that are stored with fewer bits, and are float32 again when they are loaded."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Stored = Literal["float32", "float16", "int8"]

BLOCK_ROWS = 4096
# Smaller arrays are stored as they are.
FEWEST_NUMBERS = 4096


def rounded(array: NDArray, stored: Stored) -> list[NDArray]:
    """Return an array with fewer bits: itself; float16; or int8 codes and a step for every row.

    Parameters
    ----------
    array : ndarray
        Only large float32 arrays are rounded, those of more rows than columns. What has no rows,
        or numbers that are too large, has float16 or float32 for int8.
    stored : {"float32", "float16", "int8"}
    """
    is_tall = array.ndim == 1 or (array.ndim == 2 and array.shape[0] > array.shape[1])
    if array.dtype != np.float32 or array.size < FEWEST_NUMBERS or not is_tall:
        return [array]
    if stored == "int8" and array.ndim == 2:
        return _coded(array)
    largest = max(abs(float(array.min())), abs(float(array.max())))
    fits = stored != "float32" and largest < float(np.finfo(np.float16).max)
    return [array.astype(np.float16)] if fits else [array]


def _coded(rows: NDArray[np.float32]) -> list[NDArray]:
    codes, steps = np.empty(rows.shape, dtype=np.int8), np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        steps[block] = np.abs(rows[block]).max(axis=1) / np.float32(127)
        steps[block][steps[block] == 0] = 1
        codes[block] = np.rint(rows[block] / steps[block, None])
    return [codes, steps]


def restored(parts: list[NDArray]) -> NDArray[np.float32]:
    """Return the float32 array of what `rounded` returned.

    Raises
    ------
    ValueError
        If it is nothing that `rounded` returns.
    """
    kinds = [(part.dtype.name, part.ndim) for part in parts]
    if len(parts) == 1 and kinds[0][0] == "float16":
        return parts[0].astype(np.float32)
    if kinds != [("int8", 2), ("float32", 1)] or len(parts[0]) != len(parts[1]):
        raise ValueError(f"arrays of {kinds} are no rounded numbers")
    codes, steps = parts
    return np.multiply(codes, steps[:, None], dtype=np.float32)
