"""The torch side of `BagEncoder`: sparse rows times embedding tables, with row-sparse gradients."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn import functional

from skxc.utils._row_sparse import gather_rows, sparse_matmul


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

    def forward(self, rows: sp.csr_array) -> Tensor:
        """Return vectors of shape (b, dim), not normalised."""
        hidden = self._sum_tokens(self._drop(rows)) if self.training else self._look_up(rows)
        if not hasattr(self, "block"):
            return hidden
        return hidden + functional.gelu(self.block(hidden))

    def _drop(self, rows: sp.csr_array) -> sp.csr_array:
        if not self.dropout:
            return rows
        # torch's generator, so that gradient caching can replay the same mask.
        keep = (torch.rand(rows.nnz) >= self.dropout).numpy()
        indptr = np.concatenate([[0], np.cumsum(keep)])[rows.indptr].astype(np.int32)
        data = rows.data[keep] / np.float32(1 - self.dropout)
        return sp.csr_array((data, rows.indices[keep], indptr), shape=rows.shape)

    def _sum_tokens(self, rows: sp.csr_array) -> Tensor:
        """Multiply by the tables, gathering each token and each n-gram of the batch once."""
        n_tokens = len(self.tokens)
        ids, local = np.unique(rows.indices, return_inverse=True)
        weights = sp.csr_array(
            (rows.data, local.astype(np.int32), rows.indptr), shape=(rows.shape[0], len(ids))
        )
        n_words = int(np.searchsorted(ids, n_tokens))
        vectors = gather_rows(self.tokens, ids[:n_words])
        if self.spelling is not None:
            # One matrix maps the batch's n-grams to its words, and to the bare n-grams (those of
            # unknown words) after them.
            bare = ids[n_words:] - n_tokens
            spelled = self.spelling[ids[:n_words]]
            grams, local = np.unique(np.concatenate([spelled.indices, bare]), return_inverse=True)
            data = np.concatenate([spelled.data, np.ones(len(bare), np.float32)])
            indptr = np.concatenate([spelled.indptr, spelled.nnz + 1 + np.arange(len(bare))])
            mixing = sp.csr_array(
                (data, local.astype(np.int32), indptr.astype(np.int32)),
                shape=(len(ids), len(grams)),
            )
            from_ngrams = sparse_matmul(mixing, gather_rows(self.ngrams, grams))
            vectors = from_ngrams + functional.pad(vectors, (0, 0, 0, len(bare)))
        return sparse_matmul(weights, vectors)

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
