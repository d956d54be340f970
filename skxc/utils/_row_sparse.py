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


class _PairProducts(torch.autograd.Function):
    """Inner products of the (row, column) pairs of a CSR pattern."""

    @staticmethod
    def forward(ctx: Any, pattern: sp.csr_array, left: Tensor, right: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(left, right)
        places = _to_torch(pattern, left.device)
        return torch.sparse.sampled_addmm(places, left, right.T, beta=0.0).values()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor]:
        left, right = ctx.saved_tensors
        pattern = ctx.pattern
        parts = (gradient.detach().cpu().numpy(), pattern.indices, pattern.indptr)
        weights = sp.csr_array(parts, shape=pattern.shape)
        to_right = sp.csr_array(weights.T)
        device = gradient.device
        return None, _to_torch(weights, device) @ right, _to_torch(to_right, device) @ left


def pair_products(pattern: sp.csr_array, left: Tensor, right: Tensor) -> Tensor:
    """Return ``left[i] . right[j]`` for every stored (i, j) of a CSR pattern, in storage order.

    Parameters
    ----------
    pattern : csr_array of float32, shape (n, m)
        Only its structure matters.
    left : Tensor of shape (n, d)
    right : Tensor of shape (m, d)

    Returns
    -------
    Tensor of shape (pattern.nnz,)
        With gradients for both sides; neither pass builds more than (n + m) x d numbers.
    """
    return _PairProducts.apply(pattern, left, right)


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
