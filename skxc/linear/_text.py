"""One text to TF-IDF, for single predictions.

scikit-learn's vectoriser is made for many texts: for one, checks and conversions take most of the
time. Here the same numbers are computed with as few steps as possible.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer


def vectorize_one(vectorizer: Any, text: str) -> sp.csr_array | None:
    """Return what ``vectorizer.transform([text])`` returns, or None where there is no short cut.

    Parameters
    ----------
    vectorizer : object
        The short cut is for a fitted ``TfidfVectorizer``.
    text : str

    Returns
    -------
    csr_array of shape (1, n_features), or None
    """
    if type(vectorizer) is not TfidfVectorizer or vectorizer.dtype not in (np.float32, np.float64):
        return None
    vocabulary = vectorizer.vocabulary_
    ids = [vocabulary.get(token, -1) for token in vectorizer.build_analyzer()(text)]
    counts = Counter(i for i in ids if i >= 0)
    columns = np.array(sorted(counts), dtype=np.int32)
    values = np.array([counts[i] for i in columns.tolist()], dtype=vectorizer.dtype)
    if vectorizer.binary:
        values[:] = 1
    if vectorizer.sublinear_tf:
        np.log(values, values)
        values += 1
    if vectorizer.use_idf:
        values *= vectorizer._tfidf.idf_[columns]
    if vectorizer.norm is not None and len(values):
        # With the roundings of scikit-learn: a float64 sum in order.
        parts = values * values if vectorizer.norm == "l2" else np.abs(values)
        size = np.cumsum(parts, dtype=np.float64)[-1]
        size = np.sqrt(size) if vectorizer.norm == "l2" else size
        values = (values.astype(np.float64) / (size or 1)).astype(values.dtype)
    indptr = np.array([0, len(columns)], dtype=np.int32)
    row = sp.csr_array((values, columns, indptr), shape=(1, len(vocabulary)))
    row.has_canonical_format = True
    return row
