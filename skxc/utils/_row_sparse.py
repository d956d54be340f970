"""Row-sparse gradients, products with constant CSR matrices, arrays sent to a device at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from skxc.utils._compiled import compiled
from skxc.utils._threads import in_parts


class _GatherRows(torch.autograd.Function):
    """Select distinct rows of a table; the gradient holds these rows only."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> Tensor:
        ctx.table, ctx.ids = table, ids
        return table.detach().index_select(0, ids)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return row_gradient(ctx.table, ctx.ids, gradient), None


def gather_rows(table: Tensor, ids: NDArray[np.integer] | Tensor) -> Tensor:
    """Return ``table[ids]`` for distinct, sorted ids, with a row-sparse gradient."""
    if not isinstance(ids, Tensor):
        ids = as_tensor(ids, np.int64)
    return _GatherRows.apply(table, ids.to(table.device))


def row_gradient(table: Tensor, ids: Tensor, values: Tensor) -> Tensor:
    """Return the gradient of distinct, sorted rows of a table, which `settled` finds again."""
    table.n_row_gradients = getattr(table, "n_row_gradients", 0) + 1  # type: ignore[attr-defined]
    return torch.sparse_coo_tensor(
        ids[None], values, table.shape, is_coalesced=True, check_invariants=False
    )


def settled(parameter: Tensor) -> Tensor:
    """Return the row-sparse gradient of a parameter with distinct, sorted rows.

    autograd forgets that a gradient has them, and sorting makes the host wait for a device. Where
    the gradient is that of one `row_gradient`, there is nothing to sort.
    """
    gradient = parameter.grad
    assert gradient is not None
    if getattr(parameter, "n_row_gradients", 0) == 1:
        gradient._coalesced_(True)
    else:
        parameter.grad = gradient = gradient.coalesce()
    return gradient


def runs_loops(device: torch.device) -> bool:
    """Return whether compiled loops take the place of torch's operations: on a CPU."""
    return device.type == "cpu"


class SparseMap:
    """A constant CSR matrix and its transpose, both made once, for products with dense matrices.

    Parameters
    ----------
    matrix : csr_array of shape (n, m)
    trains : bool, default=True
        Whether the products get gradients, which need the transpose.
    """

    def __init__(self, matrix: sp.csr_array, *, trains: bool = True) -> None:
        self.shape: tuple[int, int] = matrix.shape
        sides = [matrix, sp.csr_array(matrix.T)] if trains else [matrix]
        self.arrays = [
            np.require(array.astype(dtype, copy=not array.flags.writeable), requirements="C")
            for side in sides
            for array, dtype in (
                (side.indptr, np.int32),
                (side.indices, np.int32),
                (side.data, np.float32),
            )
        ]
        self.tensors: list[Tensor] | None = None

    def multiply(self, dense: Tensor, *, transposed: bool = False) -> Tensor:
        """Return the product of the matrix, or of its transpose, with (m, d) or (n, d) numbers."""
        if self.tensors is None:
            self.tensors = send(self.arrays, dense.device)
        if transposed:
            return _product(self.tensors[3:], self.shape[::-1], dense)
        return _product(self.tensors[:3], self.shape, dense)


def _product(matrix: Sequence[Tensor], shape: tuple[int, int], dense: Tensor) -> Tensor:
    """Return the product of a CSR matrix, given by its three arrays, with a dense matrix."""
    dense = dense.detach().contiguous()
    if not runs_loops(dense.device):
        return _csr(matrix, shape) @ dense
    product = torch.empty((shape[0], dense.shape[1]))
    _run_loop(_multiply, (*matrix, dense, product), shape[0], len(matrix[1]) * dense.shape[1])
    return product


def _run_loop(loop: Callable[..., None], tensors: Sequence[Tensor], n_rows: int, work: int) -> None:
    """Run a compiled loop over rows on the arrays of tensors."""
    arrays = [tensor.numpy() for tensor in tensors]
    in_parts(lambda first, last: loop(*arrays, first, last), n_rows, work)


@compiled
def _multiply(
    indptr: NDArray,
    indices: NDArray,
    data: NDArray,
    dense: NDArray,
    product: NDArray,
    first: int,
    last: int,
) -> None:
    """Write the rows of a CSR matrix times a dense one; four entries at a time hide latencies."""
    for i in range(first, last):
        total = product[i]
        total[:] = 0
        k, end = indptr[i], indptr[i + 1]
        while k + 4 <= end:
            row0, row1 = dense[indices[k]], dense[indices[k + 1]]
            row2, row3 = dense[indices[k + 2]], dense[indices[k + 3]]
            w0, w1, w2, w3 = data[k], data[k + 1], data[k + 2], data[k + 3]
            for j in range(len(total)):
                total[j] += (w0 * row0[j] + w1 * row1[j]) + (w2 * row2[j] + w3 * row3[j])
            k += 4
        while k < end:
            row0, w0 = dense[indices[k]], data[k]
            for j in range(len(total)):
                total[j] += w0 * row0[j]
            k += 1


class _SparseMatmul(torch.autograd.Function):
    """Constant CSR matrix times dense matrix."""

    @staticmethod
    def forward(ctx: Any, matrix: SparseMap, dense: Tensor) -> Tensor:
        ctx.matrix = matrix
        return matrix.multiply(dense)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, ctx.matrix.multiply(gradient, transposed=True)


def sparse_matmul(matrix: SparseMap | sp.csr_array, dense: Tensor) -> Tensor:
    """Return ``matrix @ dense``, of float32; only the dense side gets a gradient."""
    if not isinstance(matrix, SparseMap):
        matrix = SparseMap(matrix, trains=dense.requires_grad and torch.is_grad_enabled())
    return _SparseMatmul.apply(matrix, dense)


def distinct(ids: NDArray[np.integer], n: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the sorted distinct ids below `n`, and the place among them of every id.

    As ``np.unique(ids, return_inverse=True)``, which sorts; marks are quicker unless `n` is huge.
    """
    if n > 64 * len(ids):
        found, place = np.unique(ids, return_inverse=True)
        return found.astype(np.int64), place.astype(np.int32)
    marks = np.zeros(n, dtype=bool)
    marks[ids] = True
    place = np.cumsum(marks, dtype=np.int32) - 1
    return np.flatnonzero(marks), place[ids]


def send(arrays: Sequence[NDArray], device: torch.device) -> list[Tensor]:
    """Return arrays as tensors on a device, all in one copy, which the host does not wait for."""
    arrays = [np.ascontiguousarray(array) for array in arrays]
    if device.type == "cpu":
        return [as_tensor(array, array.dtype) for array in arrays]
    # A tensor must begin at a multiple of the size of its numbers.
    starts = np.cumsum([0, *(-(-array.nbytes // 8) * 8 for array in arrays)]).tolist()
    packed = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
    buffer = packed.numpy()
    for array, start in zip(arrays, starts, strict=False):
        buffer[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
    sent = packed.to(device, non_blocking=True)
    return [
        sent[start : start + array.nbytes]
        .view(torch.from_numpy(np.empty(0, array.dtype)).dtype)
        .view(array.shape)
        for array, start in zip(arrays, starts, strict=False)
    ]


class _PairProducts(torch.autograd.Function):
    """Inner products of the (row, column) pairs of a CSR pattern."""

    @staticmethod
    def forward(ctx: Any, pattern: sp.csr_array, left: Tensor, right: Tensor) -> Tensor:
        # The transpose says where the value of each of its entries comes from.
        places = np.arange(pattern.nnz, dtype=np.int64)
        other = sp.csr_array((places, pattern.indices, pattern.indptr), shape=pattern.shape).T
        other = sp.csr_array(other)
        shorter = [a.astype(np.int32) for m in (pattern, other) for a in (m.indptr, m.indices)]
        *ctx.sides, ctx.order = send([*shorter, other.data], left.device)
        ctx.shape = pattern.shape
        ctx.save_for_backward(left, right)
        if not runs_loops(left.device):
            zeros = left.new_zeros(pattern.nnz)
            pairs = _csr([*ctx.sides[:2], zeros], pattern.shape)
            return torch.sparse.sampled_addmm(pairs, left, right.T, beta=0.0).values()
        products = torch.empty(pattern.nnz)
        dense = (left.detach().contiguous(), right.detach().contiguous(), products)
        work = pattern.nnz * left.shape[1]
        _run_loop(_multiply_pairs, (*ctx.sides[:2], *dense), len(left), work)
        return products

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor]:
        left, right = ctx.saved_tensors
        gradient = gradient.detach().contiguous()
        to_left = _product([*ctx.sides[:2], gradient], ctx.shape, right)
        to_right = _product([*ctx.sides[2:], gradient[ctx.order]], ctx.shape[::-1], left)
        return None, to_left, to_right


@compiled
def _multiply_pairs(
    indptr: NDArray,
    indices: NDArray,
    left: NDArray,
    right: NDArray,
    products: NDArray,
    first: int,
    last: int,
) -> None:
    """Write the inner product of every pair of some rows."""
    for i in range(first, last):
        for k in range(indptr[i], indptr[i + 1]):
            products[k] = np.dot(left[i], right[indices[k]])


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


def _csr(arrays: Sequence[Tensor], shape: tuple[int, int]) -> Tensor:
    indptr, indices, data = arrays
    return torch.sparse_csr_tensor(indptr, indices, data, shape, check_invariants=False)


def _to_torch(matrix: sp.csr_array, device: torch.device) -> Tensor:
    return _csr(send(SparseMap(matrix, trains=False).arrays, device), matrix.shape)


# torch says once per process that CSR tensors are in beta. Only their product with a dense matrix
# is used here, so users are spared the warning.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    _to_torch(sp.csr_array((1, 1), dtype=np.float32), torch.device("cpu"))
