r"""Inner products from an eight-bit copy of the vectors, with a guaranteed error bound.

A row x is stored as :math:`\hat x = s c` with integer codes c in [-127, 127] and
:math:`s = \max_j |x_j| / 127`. By the Cauchy-Schwarz inequality

.. math:: |q v - \hat q \hat v| \le \|q - \hat q\| \|v\| + \|\hat q\| \|v - \hat v\|

and the right-hand side is known. So a search can read a quarter of the memory, use the processor's
eight-bit instructions, and then score exactly the few candidates that the bound leaves.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16384
_MAX_DIM = 2**31 // 127**2  # more products of two codes could overflow 32 bits


def largest_norm(vectors: NDArray[np.float32]) -> float:
    """Return the largest L2 norm of the rows, 0 if there are none."""
    return float(np.sqrt(np.einsum("md,md->m", vectors, vectors).max(initial=0)))


def quantise(rows: NDArray[np.float32]) -> tuple[NDArray, NDArray, NDArray]:
    """Return int8 codes (n, d), the step s of each row (n, 1), the norm of its residual (n, 1)."""
    step = np.abs(rows).max(axis=1, keepdims=True) / np.float32(127)
    codes = np.rint(rows / np.where(step > 0, step, np.float32(1))).astype(np.int8)
    return codes, step, np.linalg.norm(rows - codes * step, axis=1, keepdims=True)


def int8_is_fast(dim: int) -> bool:
    """Tell whether torch is loaded already and the processor has the right instructions."""
    torch = sys.modules.get("torch")
    return (
        1 < dim <= _MAX_DIM  # with one column torch 2.13 misreads the memory layout
        and hasattr(torch, "_int_mm")
        and sys.modules["torch"].backends.cpu.get_cpu_capability() == "AVX512"
    )


class Int8Copy:
    """An eight-bit copy of the rows of a matrix; needs torch.

    Parameters
    ----------
    vectors : ndarray of float32, shape (m, d)

    Attributes
    ----------
    steps : ndarray of float32, shape (m,)
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        import torch

        blocks = [quantise(vectors[i : i + _BLOCK]) for i in range(0, len(vectors), _BLOCK)]
        codes, step, residual = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        self._codes = torch.from_numpy(codes)
        self.steps = step[:, 0]
        self._largest_residual = float(residual.max())
        self._largest_norm = largest_norm(vectors)

    def prepare(
        self, queries: NDArray[np.float32], norm: NDArray[np.float32]
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Return the codes of queries, their steps (n,), and a bound of the error of scores (n,).

        Parameters
        ----------
        queries : ndarray of float32, shape (n, d)
        norm : ndarray of float32, shape (n,)
            Their L2 norms.

        Returns
        -------
        codes : ndarray of int8, shape (n, d)
        steps : ndarray of float32, shape (n,)
        error : ndarray of float32, shape (n,)
            Largest distance of ``products(codes, block) * self.steps[block] * steps[:, None]`` from
            the inner products, apart from float32 rounding.
        """
        codes, step, residual = quantise(queries)
        error = residual[:, 0] * self._largest_norm
        error += (norm + residual[:, 0]) * self._largest_residual
        # One per cent covers the rounding of the norms themselves.
        return codes, step[:, 0], np.float32(1.01) * error

    def products(self, codes: NDArray[np.int8], block: slice) -> NDArray[np.int32]:
        """Return the inner products of codes and those of the vectors in a block, (n, m)."""
        import torch

        return torch._int_mm(torch.from_numpy(codes), self._codes[block].T).numpy()
