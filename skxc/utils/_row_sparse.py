"""Row-sparse gradients: gather distinct rows of a table, multiply by a constant CSR matrix."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor


class _GatherRows(torch.autograd.Function):
    """Select distinct rows of a table; the gradient holds these rows only."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape = table.shape
        return table.index_select(0, ids)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        sparse = torch.sparse_coo_tensor(
            ids[None], gradient, ctx.shape, is_coalesced=True, check_invariants=False
        )
        return sparse, None


class _SparseMatmul(torch.autograd.Function):
    """Constant CSR matrix times dense matrix."""

    @staticmethod
    def forward(ctx: Any, matrix: sp.csr_array, dense: Tensor) -> Tensor:
        ctx.matrix = matrix
        return _to_torch(matrix, dense.device) @ dense

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        transposed = sp.csr_array(ctx.matrix.T)
        return None, _to_torch(transposed, gradient.device) @ gradient.contiguous()


def gather_rows(table: Tensor, ids: NDArray[np.integer]) -> Tensor:
    """Return ``table[ids]`` for distinct, sorted ids, with a row-sparse gradient."""
    return _GatherRows.apply(table, as_tensor(ids, np.int64).to(table.device))


def sparse_matmul(matrix: sp.csr_array, dense: Tensor) -> Tensor:
    """Return ``matrix @ dense``; only the dense side gets a gradient."""
    return _SparseMatmul.apply(matrix, dense)


def as_tensor(array: NDArray, dtype: DTypeLike) -> Tensor:
    """Return an array as a CPU tensor, without a copy where it is writable and of this type.

    torch has no read-only tensors and warns of them; memory-mapped models are read-only.
    """
    return torch.from_numpy(array.astype(dtype, copy=not array.flags.writeable))


def _to_torch(matrix: sp.csr_array, device: torch.device) -> Tensor:
    return torch.sparse_csr_tensor(
        as_tensor(matrix.indptr, np.int32),
        as_tensor(matrix.indices, np.int32),
        as_tensor(matrix.data, np.float32),
        matrix.shape,
        device=device,
        check_invariants=False,
    )


# torch says once per process that CSR tensors are in beta. Only their product with a dense matrix
# is used here, so users are spared the warning.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    _to_torch(sp.csr_array((1, 1), dtype=np.float32), torch.device("cpu"))
