"""One text to TF-IDF, for single predictions.

scikit-learn's vectoriser is made for many texts: for one, checks and conversions take most of the
time. Here the same numbers are computed with as few steps as possible.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

_PLAIN = {
    "analyzer": "word",
    "tokenizer": None,
    "preprocessor": None,
    "stop_words": None,
    "strip_accents": None,
    "ngram_range": (1, 1),
    "input": "content",
    "binary": False,
}


def vectorize_one(vectorizer: Any, text: str) -> sp.csr_array | None:
    """Return what ``vectorizer.transform([text])`` returns, or None where there is no short cut.

    Parameters
    ----------
    vectorizer : object
        The short cut is for a fitted ``TfidfVectorizer`` that counts single words.
    text : str

    Returns
    -------
    csr_array of shape (1, n_features), or None
    """
    if not _is_plain(vectorizer):
        return None
    if vectorizer.lowercase:
        text = text.lower()
    vocabulary = vectorizer.vocabulary_
    ids = [vocabulary.get(word, -1) for word in _words(vectorizer.token_pattern)(text)]
    counts = Counter(i for i in ids if i >= 0)
    columns = np.array(sorted(counts), dtype=np.int32)
    values = np.array([counts[i] for i in columns.tolist()], dtype=vectorizer.dtype)
    if vectorizer.sublinear_tf:
        np.log(values, values)
        values += 1
    if vectorizer.use_idf:
        values *= vectorizer._tfidf.idf_[columns]
    values = _normalized(values, vectorizer.norm)
    return _one_row(columns, values, len(vocabulary))


def _is_plain(vectorizer: Any) -> bool:
    if type(vectorizer) is not TfidfVectorizer:
        return False
    if vectorizer.dtype not in (np.float32, np.float64):
        return False
    return all(getattr(vectorizer, name) == value for name, value in _PLAIN.items())


@lru_cache(maxsize=16)
def _words(pattern: str) -> Any:
    return re.compile(pattern).findall


def _normalized(values: np.ndarray, norm: str | None) -> np.ndarray:
    """Divide by the L1 or L2 norm, with the roundings of scikit-learn: a float64 sum in order."""
    if norm is None or len(values) == 0:
        return values
    parts = values * values if norm == "l2" else np.abs(values)
    size = np.cumsum(parts, dtype=np.float64)[-1]
    if size == 0:
        return values
    size = np.sqrt(size) if norm == "l2" else size
    return (values.astype(np.float64) / size).astype(values.dtype)


def _one_row(columns: np.ndarray, values: np.ndarray, n_columns: int) -> sp.csr_array:
    indptr = np.array([0, len(columns)], dtype=np.int32)
    row = sp.csr_array((values, columns, indptr), shape=(1, n_columns))
    row.has_canonical_format = True
    return row
