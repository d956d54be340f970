"""Texts to sparse features: tf-idf weighted words, and hashed character n-grams that spell them.

A word that was never seen still shares n-grams with words that were, so label texts with rare words
get a vector too (the idea of fastText, arXiv 1607.04606). Known words and n-grams share one column
space:

    columns 0 .. W-1            the words seen in `fit`
    columns W .. W+H-1          n-gram buckets (crc32 of the n-gram modulo H)

`transform` spells a known word by its own column alone; `spelling_` (W x H) says which n-grams it
is made of, so that a consumer adds them once for every word rather than once for every occurrence.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from skxc._params import NonNegativeInt, Parameterized, PositiveInt, params
from skxc.utils._loaded import check_number, sizes_of
from skxc.utils._sparse import normalize_rows

_WORD = re.compile(r"\w+")


@params
class SubwordVectorizer(TransformerMixin, Parameterized):
    """Turn texts into tf-idf rows over known words, and hashed character n-grams of unknown ones.

    Parameters
    ----------
    ngram_range : tuple of int, default=(3, 5)
        Shortest and longest character n-gram of a word, its boundary marks included.
    n_buckets : int, default=32768
        Number of hash buckets for n-grams; 0 leaves n-grams out, and with them unknown words.
    min_df : int, default=1
        Words in fewer texts than this have no column of their own; their n-grams spell them.

    Attributes
    ----------
    vocabulary_ : dict of str to int
        Column of every known word.
    idf_ : ndarray of float32, shape (n_words,)
        Inverse document frequency ``ln((1 + n) / (1 + df)) + 1``.
    unknown_idf_ : float
        That of unknown words, ``ln(1 + n) + 1``.
    spelling_ : csr_array of float32, shape (n_words, n_buckets)
        The n-grams of every known word, weighted ``1 / sqrt(number of its n-grams)``.

    Examples
    --------
    >>> vectorizer = SubwordVectorizer(n_buckets=8).fit(["red apple", "green apple"])
    >>> vectorizer.transform(["apple"]).indices.tolist() == [vectorizer.vocabulary_["apple"]]
    True
    """

    ngram_range: tuple[int, int] = (3, 5)
    n_buckets: NonNegativeInt = 32768
    min_df: PositiveInt = 1

    def fit(self, X: Iterable[str], y: object = None) -> SubwordVectorizer:
        """Learn the words of the texts and their document frequencies.

        Parameters
        ----------
        X : iterable of str
            Texts.
        y : ignored

        Returns
        -------
        self
        """
        self._validate_params()
        words: dict[str, int] = {}
        counts = _count_words(X, {}, words)
        frequency = np.bincount(counts.indices, minlength=len(words))
        known = frequency >= self.min_df
        self.vocabulary_ = {
            word: column for column, word in enumerate(np.array(list(words), dtype=object)[known])
        }
        n_texts = counts.shape[0]
        self.idf_ = (np.log((1 + n_texts) / (1 + frequency[known])) + 1).astype(np.float32)
        self.unknown_idf_ = float(np.log(1 + n_texts) + 1)
        self.spelling_ = self._spell(self.vocabulary_)
        return self

    def transform(self, X: Sequence[str]) -> sp.csr_array:
        """Return the rows of the texts, each of unit length over its words.

        Parameters
        ----------
        X : sequence of str

        Returns
        -------
        csr_array of float32, shape (n, n_words + n_buckets)
        """
        check_is_fitted(self)
        if len(X) == 1 and (row := self._known_words(X[0])) is not None:
            return row
        unknown: dict[str, int] = {}
        counts = _count_words(X, self.vocabulary_, unknown)
        n_known = len(self.vocabulary_)
        new = counts.indices >= n_known
        idf = np.full(counts.nnz, self.unknown_idf_, dtype=np.float32)
        idf[~new] = self.idf_[counts.indices[~new]]
        counts.data = (1 + np.log(counts.data)) * idf
        rows = normalize_rows(counts)
        shape = (rows.shape[0], n_known + self.n_buckets)
        if not unknown:
            return sp.csr_array((rows.data, rows.indices, rows.indptr), shape=shape)
        # A row of `pieces` for every entry: a known word itself, or the n-grams of an unknown one.
        spelling = self._spell(unknown)
        lengths = np.ones(rows.nnz, dtype=np.int64)
        words = rows.indices[new] - n_known
        lengths[new] = np.diff(spelling.indptr)[words]
        is_gram = np.repeat(new, lengths)
        grams = spelling[words]
        indices = np.repeat(rows.indices, lengths)
        indices[is_gram] = n_known + grams.indices
        data = np.repeat(rows.data, lengths)
        data[is_gram] *= grams.data
        ends = np.concatenate([[0], np.cumsum(lengths)])
        pieces = sp.csr_array((data, indices, ends[rows.indptr]), shape=shape)
        pieces.sum_duplicates()  # n-grams that several words of a text share
        return pieces

    def _known_words(self, text: str) -> sp.csr_array | None:
        """Return the row of one text in few steps; None where it has a word that is not known."""
        counts: dict[int, int] = {}
        for word in _WORD.findall(text.lower()):
            column = self.vocabulary_.get(word)
            if column is None:
                return None
            counts[column] = counts.get(column, 0) + 1
        columns = np.array(sorted(counts), dtype=np.int32)
        data = np.array([counts[column] for column in columns.tolist()], dtype=np.float32)
        data = (1 + np.log(data)) * self.idf_[columns]
        # The roundings of `normalize_rows`.
        squares = np.cumsum(data.astype(np.float64) ** 2)
        norm = np.sqrt(squares[-1]) if len(data) else 1
        data = (data / (norm or 1)).astype(np.float32)
        indptr = np.array([0, len(columns)], dtype=np.int32)
        shape = (1, len(self.vocabulary_) + self.n_buckets)
        row = sp.csr_array((data, columns, indptr), shape=shape)
        row.has_canonical_format = True
        return row

    def _check_loaded(self) -> None:
        if hasattr(self, "vocabulary_"):
            self._validate_params()
            sizes_of(self, vocabulary_="W", idf_="W", spelling_=f"W {int(self.n_buckets)}")
            check_number("unknown_idf_", self.unknown_idf_, 0)

    def _spell(self, words: Iterable[str]) -> sp.csr_array:
        """Return the n-grams of each word as a row of unit length (up to repeated n-grams)."""
        indices: list[int] = []
        indptr = [0]
        if self.n_buckets:
            for word in words:
                indices += (zlib.crc32(gram) % self.n_buckets for gram in self._ngrams(word))
                indptr.append(len(indices))
        else:
            indptr += [0] * len(list(words))
        lengths = np.diff(indptr)
        data = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths).astype(np.float32)
        spelling = sp.csr_array(
            (data, np.array(indices, np.int32), np.array(indptr, np.int32)),
            shape=(len(lengths), self.n_buckets),
        )
        spelling.sum_duplicates()
        return spelling

    def _ngrams(self, word: str) -> list[bytes]:
        marked = f"<{word}>"
        low, high = self.ngram_range
        return [
            marked[start : start + size].encode()
            for size in range(low, high + 1)
            for start in range(len(marked) - size + 1)
        ]


def _count_words(
    texts: Iterable[str], known: dict[str, int], unknown: dict[str, int]
) -> sp.csr_array:
    """Count the lower-case words of texts; unknown words enter `unknown`, with the next columns."""
    indices: list[int] = []
    indptr = [0]
    for text in texts:
        for word in _WORD.findall(text.lower()):
            column = known.get(word)
            if column is None:
                column = len(known) + unknown.setdefault(word, len(unknown))
            indices.append(column)
        indptr.append(len(indices))
    columns: NDArray[np.int32] = np.array(indices, dtype=np.int32)
    data = np.ones(len(columns), dtype=np.float32)
    shape = (len(indptr) - 1, len(known) + len(unknown))
    counts = sp.csr_array((data, columns, np.array(indptr, dtype=np.int32)), shape=shape)
    counts.sum_duplicates()
    return counts
