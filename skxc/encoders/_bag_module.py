"""The torch side of `BagEncoder`: sparse rows times embedding tables, with row-sparse gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from skxc.utils._row_sparse import SparseMap, distinct, row_gradient, send, sparse_matmul


@dataclass
class BagBatch:
    """A batch of rows over the distinct tokens and n-grams in them, ready for a training step.

    Attributes
    ----------
    weights : SparseMap of shape (b, m)
        Rows over the batch's words, and the n-grams of unknown words after them.
    words : ndarray of int64, shape (n_words,)
        Rows of the token table, sorted and distinct.
    mixing : SparseMap of shape (m, n_grams), or None
        N-grams of these words, and 1 for each n-gram of an unknown word; None: there are none.
    grams : ndarray of int64, shape (n_grams,)
        Rows of the table of n-grams, sorted and distinct.
    """

    weights: SparseMap
    words: NDArray[np.int64]
    mixing: SparseMap | None
    grams: NDArray[np.int64]

    @classmethod
    def of(cls, rows: sp.csr_array, n_tokens: int, spelling: sp.csr_array | None) -> BagBatch:
        """Return a batch of prepared rows; `spelling` as in `BagModule`."""
        ids, local = distinct(rows.indices, rows.shape[1])
        shape = (rows.shape[0], len(ids))
        weights = SparseMap(sp.csr_array((rows.data, local, rows.indptr), shape=shape))
        words, bare = np.split(ids, [np.searchsorted(ids, n_tokens)])
        if spelling is None:
            return cls(weights, words, None, bare)
        spelled = spelling[words]
        grams, local = distinct(
            np.concatenate([spelled.indices, bare - n_tokens]), spelling.shape[1]
        )
        data = np.concatenate([spelled.data, np.ones(len(bare), np.float32)])
        indptr = np.concatenate([spelled.indptr, spelled.nnz + 1 + np.arange(len(bare))])
        mixing = sp.csr_array((data, local, indptr), shape=(len(ids), len(grams)))
        return cls(weights, words, SparseMap(mixing), grams)

    def to(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return words and n-grams as tensors; all arrays of the batch go to the device at once."""
        maps = [self.weights] if self.mixing is None else [self.weights, self.mixing]
        sent = send([self.words, self.grams, *(a for each in maps for a in each.arrays)], device)
        for number, each in enumerate(maps):
            each.tensors = sent[2 + 6 * number : 8 + 6 * number]
        return sent[0], sent[1]


class _SumTokens(torch.autograd.Function):
    """``weights @ (tokens[words] + mixing @ ngrams[grams])``, with row-sparse gradients."""

    @staticmethod
    def forward(ctx: Any, batch: BagBatch, tokens: Tensor, ngrams: Tensor | None) -> Tensor:
        words, grams = batch.to(tokens.device)
        ctx.batch, ctx.tables, ctx.ids = batch, (tokens, ngrams), (words, grams)
        vectors = tokens.detach().index_select(0, words)
        if ngrams is not None and batch.mixing is not None:
            spelled = batch.mixing.multiply(ngrams.detach().index_select(0, grams))
            spelled[: len(words)] += vectors
            vectors = spelled
        return batch.weights.multiply(vectors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor | None]:
        batch, (tokens, ngrams), (words, grams) = ctx.batch, ctx.tables, ctx.ids
        vectors = batch.weights.multiply(gradient, transposed=True)
        to_ngrams = None
        if ngrams is not None and batch.mixing is not None:
            values = batch.mixing.multiply(vectors, transposed=True)
            to_ngrams = row_gradient(ngrams, grams, values)
        return None, row_gradient(tokens, words, vectors[: len(words)]), to_ngrams


class BagModule(nn.Module):
    """Map CSR rows over tokens (and n-gram buckets) to vectors.

    Parameters
    ----------
    n_tokens, dim : int
        Size of the token table.
    spelling : csr_array of shape (n_tokens, n_buckets) or None
        N-grams of each token, already weighted.
    dropout : float
        Share of tokens left out in training.
    residual : bool
        Whether ``h + GELU(U h + b)`` follows the sum.
    """

    def __init__(
        self,
        n_tokens: int,
        dim: int,
        *,
        spelling: sp.csr_array | None,
        dropout: float,
        residual: bool,
    ) -> None:
        super().__init__()
        self.spelling = spelling
        self.dropout = dropout
        self.tokens = nn.Parameter(torch.randn(n_tokens, dim) * 0.1)
        if spelling is not None:
            self.ngrams = nn.Parameter(torch.randn(spelling.shape[1], dim) * 0.1)
        if residual:
            self.block = nn.Linear(dim, dim)
            nn.init.normal_(self.block.weight, std=0.01)
            nn.init.zeros_(self.block.bias)
        # What evaluation looks rows up in: every token with its n-grams, made when first needed.
        self._table: Tensor | None
        self.register_buffer("_table", None, persistent=False)
        self.register_load_state_dict_post_hook(_drop_table)

    def train(self, mode: bool = True) -> BagModule:
        """Switch mode; training drops the table that evaluation keeps."""
        if mode:
            self._table = None
        return super().train(mode)

    def forward(self, rows: sp.csr_array | BagBatch) -> Tensor:
        """Return vectors of shape (b, dim), not normalised."""
        hidden = self._sum_tokens(rows) if self.training else self._look_up(rows)
        if not hasattr(self, "block"):
            return hidden
        return hidden + functional.gelu(self.block(hidden))

    def batch(self, rows: sp.csr_array) -> sp.csr_array | BagBatch:
        """Return rows as a training step takes them.

        Dropout draws from torch's generator in the step itself, so that gradient caching can replay
        its masks, and only then is known which tokens are left.
        """
        return rows if self.dropout else BagBatch.of(rows, len(self.tokens), self.spelling)

    def _drop(self, rows: sp.csr_array) -> sp.csr_array:
        if not self.dropout:
            return rows
        keep = (torch.rand(rows.nnz) >= self.dropout).numpy()
        indptr = np.concatenate([[0], np.cumsum(keep)])[rows.indptr].astype(np.int32)
        data = rows.data[keep] / np.float32(1 - self.dropout)
        return sp.csr_array((data, rows.indices[keep], indptr), shape=rows.shape)

    def _sum_tokens(self, rows: sp.csr_array | BagBatch) -> Tensor:
        if not isinstance(rows, BagBatch):
            rows = BagBatch.of(self._drop(rows), len(self.tokens), self.spelling)
        return _SumTokens.apply(rows, self.tokens, getattr(self, "ngrams", None))

    def _look_up(self, rows: sp.csr_array) -> Tensor:
        if self._table is None:
            with torch.no_grad():
                table = self.tokens.detach()
                if self.spelling is not None:
                    ngrams = self.ngrams.detach()
                    table = torch.cat([table + sparse_matmul(self.spelling, ngrams), ngrams])
                self._table = table
        return sparse_matmul(rows, self._table)


def _drop_table(module: BagModule, incompatible_keys: object) -> None:
    module._table = None
