"""Bag of token embeddings: the encoder that trains from scratch on a CPU.

    h(x) = sum_t weight(x, t) e_t      e_t: the token's embedding plus those of its n-grams
    f(x) = h + GELU(U h + b)           one residual block

Source: SiameseXML (ICML 2021) for the tf-idf weighted embeddings and the residual block; fastText
(arXiv 1607.04606) for n-grams. The tables get row-sparse gradients: a step touches only its tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._params import NonNegativeFloat, NonNegativeInt, PositiveInt, ShareBelowOne, params
from skxc.encoders._subwords import SubwordVectorizer
from skxc.encoders.base import Encoder, Rows
from skxc.utils._loaded import check_number

if TYPE_CHECKING:
    from torch import nn


@params
class BagEncoder(Encoder):
    """Weighted sum of token embeddings and a residual block, trained from scratch.

    Texts become tf-idf weighted words, each with hashed character n-grams (see
    `SubwordVectorizer`); with CSR features the columns are the tokens and the values the weights,
    and no text is needed.

    Parameters
    ----------
    dim : int, default=256
        Width of the vectors.
    dropout : float, default=0.0
        Share of a row's tokens that is left out at each training step.
    ngram_range : tuple of int, default=(3, 5)
        Lengths of the character n-grams. Texts only.
    n_buckets : int, default=32768
        Number of hash buckets for n-grams; 0 switches them off. Texts only.
    ngram_weight : float, default=1.0
        Weight of a word's n-grams beside its own embedding. Texts only.
    residual : bool, default=True
        Whether the residual block follows the sum.

    Attributes
    ----------
    vectorizer_ : SubwordVectorizer or None
        Fitted on the texts; None for features.
    feature_scale_ : float
        Factor that brings feature rows to unit length on average.
    """

    dim: PositiveInt = 256
    dropout: ShareBelowOne = 0.0
    ngram_range: tuple[int, int] = (3, 5)
    n_buckets: NonNegativeInt = 32768
    ngram_weight: NonNegativeFloat = 1.0
    residual: bool = True

    averages_rows = True
    _rounded = ("module_arrays",)

    def _learn(self, *collections: Rows) -> None:
        self.dim_ = self.dim
        if sp.issparse(collections[0]):
            self.vectorizer_ = None
            self.n_tokens_ = collections[0].shape[1]
            norms = np.concatenate(
                [np.sqrt(rows.multiply(rows).sum(axis=1)) for rows in collections]
            )
            self.feature_scale_ = float(1 / max(norms.mean(), 1e-12))
            return
        vectorizer = SubwordVectorizer(ngram_range=self.ngram_range, n_buckets=self.n_buckets)
        self.vectorizer_ = vectorizer.fit(text for texts in collections for text in texts)
        self.n_tokens_ = len(vectorizer.vocabulary_)

    def prepare(self, rows: Rows) -> sp.csr_array:
        """Return the rows as CSR over tokens (and, for unknown words, n-gram buckets)."""
        if self.vectorizer_ is None:
            return sp.csr_array(rows * np.float32(self.feature_scale_))
        features = self.vectorizer_.transform(rows)
        features.data[features.indices >= self.n_tokens_] *= self.ngram_weight
        return features

    def training_batch(self, batch: sp.csr_array) -> Any:
        """Return the batch over its own tokens (see `BagModule.batch`)."""
        module: Any = self.module_
        return module.batch(batch)

    def without_words(self, cache: sp.csr_array) -> NDArray[np.bool_] | None:
        """Return which prepared texts have buckets of unknown words at most; None for features."""
        if self.vectorizer_ is None:
            return None
        known = np.concatenate([[0], np.cumsum(cache.indices < self.n_tokens_)])
        return known[cache.indptr[1:]] == known[cache.indptr[:-1]]

    def unknown_share(self, cache: sp.csr_array) -> float:
        """Return the share of the rows' squared weight that unknown words have."""
        total = cache.shape[0] - int((np.diff(cache.indptr) == 0).sum())
        known = cache.data[cache.indices < self.n_tokens_]
        return 0.0 if self.vectorizer_ is None or not total else 1 - float(known @ known) / total

    def _check_loaded(self) -> None:
        super()._check_loaded()
        if not hasattr(self, "module_"):
            return
        check_number("feature_scale_", getattr(self, "feature_scale_", 1.0), 0)
        words = getattr(self.vectorizer_, "vocabulary_", range(self.n_tokens_))
        if self.dim_ != self.dim or len(words) != self.n_tokens_:
            raise ValueError(f"BagEncoder must be of {self.dim} columns and {len(words)} tokens")

    def _build(self) -> nn.Module:
        from skxc.encoders._bag_module import BagModule

        spelling = None
        if self.vectorizer_ is not None and self.n_buckets:
            spelling = self.vectorizer_.spelling_ * np.float32(self.ngram_weight)
        return BagModule(
            self.n_tokens_,
            self.dim,
            spelling=spelling,
            dropout=self.dropout,
            residual=self.residual,
        )

    def parameter_groups(self, learning_rate: float | None) -> list[dict[str, Any]]:
        """Return the tables (row-sparse) and the residual block, at a tenth of the tables' rate."""
        rate = 0.01 if learning_rate is None else learning_rate
        tables = [p for name, p in self.module_.named_parameters() if name in ("tokens", "ngrams")]
        dense = [
            p for name, p in self.module_.named_parameters() if name not in ("tokens", "ngrams")
        ]
        groups: list[dict[str, Any]] = [{"params": tables, "lr": rate, "sparse": True}]
        if dense:
            groups.append({"params": dense, "lr": rate / 10, "weight_decay": 0.01})
        return groups
