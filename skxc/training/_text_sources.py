"""Where the text vectors of a step come from: fixed ones, or an encoder that is being trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skxc.utils._row_sparse import sparse_matmul

Ids = NDArray[np.int64]


class FixedVectors:
    """Vectors that do not change; ``source(ids)`` gathers rows.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dim)
    device : torch.device
    """

    def __init__(self, vectors: NDArray[np.float32], device: torch.device) -> None:
        self.vectors = vectors
        self.device = device

    def __call__(self, ids: Ids) -> Tensor:
        """Return the rows, shape (m, dim)."""
        return torch.from_numpy(self.vectors[ids]).to(self.device)


class EncodedRows:
    """Vectors that a module computes from prepared rows, with gradients; not normalised.

    Parameters
    ----------
    module : nn.Module
    rows : object
        What ``encoder.prepare`` returned.
    """

    def __init__(self, module: nn.Module, rows: Any) -> None:
        self.module = module
        self.rows = rows

    def __call__(self, ids: Ids) -> Tensor:
        """Return the vectors of the rows, shape (m, dim)."""
        return self.module(self.rows[ids])


class FixedTexts:
    """The text components of labels that do not change: own text, and one per hop.

    Parameters
    ----------
    own : ndarray of float32, shape (L, dim)
    hops : list of csr_array, shape (L, L)
        The normalised graph, and its powers.
    device : torch.device
    """

    def __init__(
        self, own: NDArray[np.float32], hops: list[sp.csr_array], device: torch.device
    ) -> None:
        every = [own, *(np.asarray(hop @ own, dtype=np.float32) for hop in hops)]
        self.vectors = [FixedVectors(vectors, device) for vectors in every]

    def __call__(self, ids: Ids) -> list[Tensor]:
        """Return the components of the labels, each of shape (m, dim)."""
        return [vectors(ids) for vectors in self.vectors]


class EncodedTexts:
    """The text components of labels, computed from their texts and those of their neighbours.

    Parameters
    ----------
    rows : EncodedRows
    hops : list of csr_array, shape (L, L)
    """

    def __init__(self, rows: EncodedRows, hops: list[sp.csr_array]) -> None:
        self.rows = rows
        self.hops = hops

    def __call__(self, ids: Ids) -> list[Tensor]:
        """Return the components of distinct, sorted labels, each of shape (m, dim)."""
        parts = [sp.csr_array(hop[ids]) for hop in self.hops]
        needed = np.unique(np.concatenate([ids, *(part.indices for part in parts)]))
        vectors = self.rows(needed)
        own = vectors[torch.from_numpy(np.searchsorted(needed, ids)).to(vectors.device)]
        return [own, *(sparse_matmul(_columns(part, needed), vectors) for part in parts)]


def _columns(matrix: sp.csr_array, needed: Ids) -> sp.csr_array:
    """Return the matrix over the columns `needed` only, which hold all its entries."""
    columns = np.searchsorted(needed, matrix.indices).astype(np.int32)
    shape = (matrix.shape[0], len(needed))
    return sp.csr_array((matrix.data, columns, matrix.indptr), shape=shape)
