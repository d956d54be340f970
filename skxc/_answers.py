"""What a fitted estimator answers with beyond scikit-learn's contract: lists, names, frames."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skxc import _outputs
from skxc._state import StateMixin
from skxc._training_set import check_truth
from skxc.utils._label_lists import UnknownLabels
from skxc.utils._sparse import TopK, pack_topk, rank_rows


class AnswersMixin(StateMixin):
    """Adds the methods that name labels, and the score, to what retrieves labels."""

    def predict_topk(self: Any, X: Any, k: int | None = None) -> TopK:
        """Return the k best labels of every row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.
        k : int, default=None
            Number of labels per row; None means ``top_k``.

        Returns
        -------
        indices : ndarray of int32 (int64 beyond its range), shape (n, min(k, n_labels))
            Column ids of the labels, best first, ties to the lower id; -1 where a row runs out.
        scores : ndarray of float32, shape (n, min(k, n_labels))
            Their scores, as in ``decision_function``; -inf where a row runs out.
        """
        X, own = self._check_X(X)
        k = self._depth(k)
        indices, scores = self._search(self.model_, X, own, k)
        return _outputs.padded(indices, scores, k, self.n_labels_)

    def predict_labels(
        self, X: Any, k: int | None = None, *, return_scores: bool = False
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

        Returns
        -------
        names : list of n lists
            Names, best first, without padding; values of ``classes_`` where labels have no names.
        scores : list of n lists of float
            Their scores, as in ``decision_function``; only with `return_scores`.
        """
        indices, scores = self.predict_topk(X, k)
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
        library: Literal["pandas", "polars"] | None = None,
    ) -> Any:
        """Return the k best labels as a data frame with one row per text and label.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.
        k : int, default=None
            Number of labels per text; None means ``top_k``.
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
        labels, probabilities = self._ranked_probabilities(X, k)
        row, place = np.nonzero(labels >= 0)
        columns = {
            "text": ids[row] if len(ids) else row,
            "rank": place + 1,
            "label": self._called(labels[row, place]),
            "probability": probabilities[row, place],
        }
        return frame.DataFrame(columns)

    def _ranked_probabilities(self: Any, X: Any, k: int) -> TopK:
        """Return the k best labels of every row and their probabilities, padded."""
        if self.target_layout_ != "sparse":
            return rank_rows(sp.csr_array(np.asarray(self._probabilities(X))), k)
        X, own = self._check_X(X)
        # No fewer labels than `predict_proba` asks for, since ranks count in the calibration.
        scores = self._retrieve(self.model_, X, own, max(k, self.top_k), self.n_labels_)
        return rank_rows(self._current_calibrator().transform(scores), k)

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
            raise ValueError(f"`k` must be an integer of at least 1, but is {k!r}.")
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
