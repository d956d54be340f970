"""What a fitted estimator answers with beyond scikit-learn's contract: lists, names, frames."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skxc import _outputs
from skxc._allowed import Allowed, allowed_labels
from skxc._state import StateMixin
from skxc._training_set import Features, check_truth
from skxc.utils._label_lists import UnknownLabels
from skxc.utils._sparse import TopK, drop_pairs, only, pack_topk, pair_ids, rank_rows, row_ids


class AnswersMixin(StateMixin):
    """Adds the methods that name labels, and the score, to what retrieves labels."""

    def predict_topk(self: Any, X: Any, k: int | None = None, *, candidates: Any = None) -> TopK:
        """Return the k best labels of every row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.
        k : int, default=None
            Number of labels per row; None means ``top_k``.
        candidates : sequence of int or str, or sparse matrix of shape (n, n_labels), default=None
            Labels to choose from: ids or names for all rows, or the stored entries of each row. All
            of them are scored, also those that would not have been retrieved. None: all labels.

        Returns
        -------
        indices : ndarray of int32 (int64 beyond its range), shape (n, min(k, n_labels))
            Column ids of the labels, best first, ties to the lower id; -1 where a row runs out.
        scores : ndarray of float32, shape (n, min(k, n_labels))
            Their scores, as in ``decision_function``; -inf where a row runs out.
        """
        X, own = self._check_X(X)
        k = self._depth(k)
        indices, scores = self._search_among(X, own, k, candidates)
        return _outputs.padded(indices, scores, k, self.n_labels_)

    def _search_among(
        self: Any, X: Features, own: sp.csr_array | None, k: int, candidates: Any
    ) -> TopK:
        """Return the k best labels of checked samples among the allowed ones."""
        shape = X.shape[0], self.n_labels_
        allowed = allowed_labels(candidates, self._names(), shape)
        if allowed is None:
            return self._search(self.model_, X, own, k)
        if not X.shape[0]:
            return _outputs.no_rows(k)
        found = [rank_rows(block, k) for block in self._scores_among(X, own, allowed)]
        indices, scores = zip(*found, strict=True)
        return np.concatenate(indices), np.concatenate(scores)

    def _scores_among(
        self: Any, X: Features, own: sp.csr_array | None, allowed: Allowed
    ) -> Iterator[sp.csr_array]:
        """Yield the scores of allowed labels, some rows at a time."""
        model = self._current(self.model_)
        queries = model.queries(X)
        for part, pairs in allowed.blocks(X.shape[0]):
            mine = None if own is None else own[part]
            if mine is not None:
                pairs = drop_pairs(pairs, mine)
            rows, labels = row_ids(pairs), pairs.indices.astype(np.int64)
            scores = self._score_pairs(model, queries[part], mine, rows, labels)
            pairs = sp.csr_array((scores, pairs.indices, pairs.indptr), shape=pairs.shape)
            yield only(pairs, scores > -np.inf)

    def _score_pairs(self, model: Any, queries: Any, own: Any, rows: Any, labels: Any) -> Any:
        """Return the scores of pairs that are no own labels of the samples."""
        return model.score_pairs(queries, rows, labels)

    def _names(self: Any) -> list[Any] | None:
        """Return the names of labels, or class values, where these are no numbers."""
        if self.label_names_ is None and self.target_layout_ == "classes":
            return self.classes_.tolist()
        return self.label_names_

    def predict_labels(
        self,
        X: Any,
        k: int | None = None,
        *,
        return_scores: bool = False,
        candidates: Any = None,
    ) -> list[list[Any]] | tuple[list[list[Any]], list[list[float]]]:
        """Return the names of the k best labels of every row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.
        k : int, default=None
            Number of labels per row; None means ``top_k``.
        return_scores : bool, default=False
            Whether to return scores, too.
        candidates : sequence of int or str, or sparse matrix of shape (n, n_labels), default=None
            Labels to choose from, as in ``predict_topk``.

        Returns
        -------
        names : list of n lists
            Names, best first, without padding; values of ``classes_`` where labels have no names.
        scores : list of n lists of float
            Their scores, as in ``decision_function``; only with `return_scores`.
        """
        indices, scores = self.predict_topk(X, k, candidates=candidates)
        known = [row[row >= 0] for row in indices]
        names = [self._called(labels) for labels in known]
        if not return_scores:
            return names
        pairs = zip(scores, known, strict=True)
        return names, [row[: len(labels)].tolist() for row, labels in pairs]

    def predict_frame(
        self: Any,
        X: Any,
        k: int | None = None,
        *,
        candidates: Any = None,
        library: Literal["pandas", "polars"] | None = None,
    ) -> Any:
        """Return the k best labels as a data frame with one row per text and label.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.
        k : int, default=None
            Number of labels per text; None means ``top_k``.
        candidates : sequence of int or str, or sparse matrix of shape (n, n_labels), default=None
            Labels to choose from, as in ``predict_topk``. Probabilities are those that the labels
            have without this choice.
        library : {"pandas", "polars"} or None, default=None
            What makes the frame. None: polars where `X` is of polars, else pandas.

        Returns
        -------
        DataFrame
            ``text``: index of the text in `X`, or its position; ``rank``, from 1 on; ``label``: its
            name; ``probability``, as in ``predict_proba``.
        """
        check_is_fitted(self)
        k, ids = self._depth(k), _outputs.ids_of(X)
        frame = _outputs.frame_library(X, library)
        labels, probabilities = self._ranked_probabilities(X, k, candidates)
        row, place = np.nonzero(labels >= 0)
        columns = {
            "text": ids[row] if len(ids) else row,
            "rank": place + 1,
            "label": self._called(labels[row, place]),
            "probability": probabilities[row, place],
        }
        return frame.DataFrame(columns)

    def _ranked_probabilities(self: Any, X: Any, k: int, candidates: Any) -> TopK:
        """Return the k best labels of every row and their probabilities, padded."""
        if self.target_layout_ != "sparse":
            probabilities = sp.csr_array(np.asarray(self._probabilities(X)))
            allowed = allowed_labels(candidates, self._names(), probabilities.shape)
            return rank_rows(_among(probabilities, allowed), k)
        X, own = self._check_X(X)
        # No fewer labels than `predict_proba` asks for, since ranks count in the calibration.
        scores = self._retrieve(self.model_, X, own, max(k, self.top_k), self.n_labels_)
        allowed = allowed_labels(candidates, self._names(), scores.shape)
        if allowed is not None and X.shape[0]:
            blocks = list(self._scores_among(X, own, allowed))
            exact = sp.csr_array(sp.vstack(blocks, format="csr"))
            others = drop_pairs(scores, exact)
            # Not a sum of matrices, which would drop scores of zero.
            parts = (
                np.append(exact.data, others.data),
                (
                    np.append(row_ids(exact), row_ids(others)),
                    np.append(exact.indices, others.indices),
                ),
            )
            scores = sp.csr_array(parts, shape=scores.shape)
        return rank_rows(_among(self._current_calibrator().transform(scores), allowed), k)

    def _called(self, labels: NDArray[np.integer]) -> list[Any]:
        """Return the names of labels, or their values in ``classes_``."""
        if self.label_names_ is None:
            return self.classes_[labels].tolist()
        return [self.label_names_[label] for label in labels.tolist()]

    def _depth(self: Any, k: int | None) -> int:
        """Return a checked number of labels, at most all."""
        check_is_fitted(self)
        k = self.top_k if k is None else k
        if not isinstance(k, Integral) or k < 1:
            shown = " ".join(repr(k).split())
            raise ValueError(f"`k` must be an integer of at least 1, but is {shown}.")
        return min(int(k), self.n_labels_)

    def score(
        self: Any,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        *,
        unknown_labels: UnknownLabels = "ignore",
    ) -> float:
        """Return precision@1: the share of rows whose best label is right.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.
        y : sparse matrix or array-like of shape (n, n_labels) or (n,), or lists of names
            True labels. Rows without labels count as wrong.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows.
        unknown_labels : {"ignore", "error"}, default="ignore"
            What to do about names that were not there in ``fit``: count them as misses and warn, or
            raise.

        Returns
        -------
        float
            Between 0 and 1; the accuracy for a 1-D ``y``.
        """
        check_is_fitted(self)
        if self.target_layout_ == "classes":
            return super().score(X, y, sample_weight)
        X, own = self._check_X(X)
        truth, weight = check_truth(self, y, sample_weight, X.shape[0], unknown_labels)
        indices, _ = self._search(self.model_, X, own, 1)
        best = pack_topk(indices, np.ones(indices.shape, dtype=np.float32), self.n_labels_)
        hits = np.asarray(best.multiply(truth).sum(axis=1)).ravel()
        return float(np.average(hits, weights=weight))


def _among(matrix: sp.csr_array, allowed: Allowed | None) -> sp.csr_array:
    """Return the stored entries of allowed labels."""
    if allowed is None:
        return matrix
    if isinstance(allowed.labels, np.ndarray):
        return only(matrix, np.isin(matrix.indices, allowed.labels))
    return only(matrix, np.isin(pair_ids(matrix), pair_ids(allowed.labels)))
