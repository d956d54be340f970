"""The scikit-learn contract around one training and the model that it returns.

A subclass declares its parameters and writes ``_train(fit) -> Model``; the model answers queries.
Everything that users call is built here on these two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skxc import _outputs
from skxc._answers import AnswersMixin
from skxc._hold_out import JointFit, train_and_calibrate
from skxc._model import SMALL_SAMPLE, Fit, Model, Reasons, of_model
from skxc._own_labels import depth_for, without_own
from skxc._params import (
    NonNegativeFloat,
    NonNegativeInt,
    Parameterized,
    Part,
    PositiveFloat,
    PositiveInt,
    Share,
    params,
)
from skxc._training_set import (
    Features,
    TrainingSet,
    check_new_samples,
    training_set,
    unknown_texts,
)
from skxc.utils._callbacks import with_callbacks
from skxc.utils._sparse import TopK, pack_topk
from skxc.utils._validation import canonical_csr

if TYPE_CHECKING:
    from sklearn.utils import Tags
    from typing_extensions import Self

__all__ = [
    "BaseXC",
    "Fit",
    "Model",
    "NonNegativeFloat",
    "NonNegativeInt",
    "Part",
    "PositiveFloat",
    "PositiveInt",
    "Reasons",
    "Share",
    "TrainingSet",
    "of_model",
    "params",
]


@params
class BaseXC(AnswersMixin, Parameterized):
    """Base class of all estimators.

    Parameters
    ----------
    top_k : int, default=100
        Number of labels that are retrieved per row.
    threshold : float, array-like of shape (n_labels,), or dict of str to float, default=0.5
        Smallest probability of a predicted label: one for all, one per label, or by names, where
        labels that are not named have 0.5.
    vectorizer : transformer, default=None
        Turns texts into a feature matrix; a clone is fitted on the texts of the training samples
        and of the labels.
    calibration : {"auto", "held_out", "refit"} or None, default="auto"
        What gives probabilities their scale. "held_out": some rows, 5 % of large data, calibrate
        and are not trained on. "refit": all rows are trained on, after a first training without
        the held-out ones, which costs twice. "auto": "refit" up to a size that depends on the
        estimator. None: all rows are trained on and there are no probabilities.
    """

    top_k: PositiveInt = 100
    threshold: Share | Annotated[Any, "array-like"] = 0.5
    vectorizer: Annotated[Any, None, HasMethods(["fit", "transform"])] = None
    calibration: Literal["auto", "held_out", "refit"] | None = "auto"

    # It reaches a nested estimator without set_fit_request, routing on or off.
    __metadata_request__fit: ClassVar[dict[str, Any]] = {"label_separator": True}
    # Whether ``_train`` takes raw texts when there is no vectoriser.
    _accepts_texts: ClassVar[bool] = False
    # Whether ``_train`` takes an AnchorGraph with texts of its own.
    _accepts_anchors: ClassVar[bool] = False
    # Strings that may stand for a graph, such as "cooccurrence".
    _named_graphs: ClassVar[tuple[str, ...]] = ()
    # Parameters that change the scores of a fitted estimator.
    _search_parameters: ClassVar[tuple[str, ...]] = ()

    def _train(self, fit: Any) -> Model:
        """Return the model of the rows of `fit`; nothing of the estimator may change."""
        raise NotImplementedError(f"{type(self).__name__} must define `_train`.")

    def _check(self, data: TrainingSet) -> None:
        """Raise where the data do not suit the parameters, before anything is trained."""

    def _current(self, model: Any) -> Any:
        """Return a trained model with those parameters that may be changed after `fit`."""
        return model

    def _refits(self, n_samples: int) -> bool:
        """Return whether ``calibration="auto"`` trains a second time, on all rows."""
        return n_samples < SMALL_SAMPLE

    def _default_vectorizer(self) -> Any:
        """Return what vectorises texts where `vectorizer` is None; None: nothing does."""
        return None

    def _vectorize(self, vectorizer: Any, texts: NDArray[np.object_]) -> sp.csr_array:
        """Return texts as features."""
        return canonical_csr(vectorizer.transform(texts))

    def _run_training(self, fit: Fit) -> Model:
        """Call `_train`; a subclass may open what all trainings need."""
        return self._train(fit)

    # What returns the fitted attributes that come from training.
    _train_and_calibrate = train_and_calibrate

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        label_separator: str | None = None,
        groups: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fit the estimator.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or sequence of str
            Samples. Texts need a ``vectorizer`` or an estimator that reads texts.
        y : lists of names, or matrix of shape (n_samples, n_labels), or array of shape (n_samples,)
            A list of label names per sample, a binary indicator, or one class per sample. Samples
            without labels are allowed. Labels that come by name are sorted, or in the order of
            named `label_features`.
        label_separator : str, default=None
            What separates names where `y` has a text such as ``"red;wine"`` per sample. None: texts
            are classes.
        groups : array-like of shape (n_samples,), default=None
            Families of samples; rows that are held out inside `fit` are whole groups.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights. An integer weight equals a repetition of the row.

        Returns
        -------
        self
        """
        return self._fit(
            X, y, label_separator=label_separator, groups=groups, sample_weight=sample_weight
        )

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def _fit(self, X: Any, y: Any, *, joint: JointFit | None = None, **arguments: Any) -> Self:
        """Check the arguments, train and calibrate; what every public ``fit`` calls."""
        data = training_set(self, X, y, **arguments)
        _outputs.thresholds(self.threshold, data.n_labels, data.label_names)
        self._check(data)
        fitted = self._train_and_calibrate(data) if joint is None else joint.train(self, data)
        self._commit({**data.attributes, **fitted})
        return self

    def _check_X(self, X: Any) -> tuple[Features, sp.csr_array | None]:
        """Return samples as the model wants them, and their own labels."""
        check_is_fitted(self)
        self._check_changed_parameters()
        return check_new_samples(self, X)

    def _search(self, model: Any, X: Features, own: sp.csr_array | None, k: int) -> TopK:
        """Return the k best labels of checked samples that are not their own."""
        if not X.shape[0]:
            return _outputs.no_rows(k)
        model = self._current(model)
        found = without_own(model.search(model.queries(X), depth_for(k, own)), own, k)
        return _outputs.nothing_for(found, unknown_texts(self, X))

    def _retrieve(
        self, model: Any, X: Features, own: sp.csr_array | None, k: int, n_labels: int
    ) -> sp.csr_array:
        """Return the scores of the k best labels of every row as CSR."""
        return pack_topk(*self._search(model, X, own, min(k, n_labels)), n_labels)

    def _retrieve_for_output(self, X: Any) -> sp.csr_array:
        """Return scores for the layout of the target: the best labels, or all for dense answers."""
        X, own = self._check_X(X)
        if self.target_layout_ == "sparse":
            return self._retrieve(self.model_, X, own, self.top_k, self.n_labels_)
        _outputs.check_dense_size(X.shape[0], self.n_labels_)
        return self._retrieve(self.model_, X, own, self.n_labels_, self.n_labels_)

    def decision_function(self, X: Any) -> sp.csr_array | NDArray:
        """Return the scores of the best labels.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.

        Returns
        -------
        csr_array of float32 of shape (n, n_labels), after a fit with a sparse ``y``
            At most ``top_k`` stored entries per row, with sorted columns. An absent entry was not
            retrieved; a stored zero or negative score is a score.
        ndarray of float32 of shape (n, n_labels), after a fit with a dense or 1-D ``y``
            Labels that were not retrieved get a value below all retrieved ones of the row. For two
            classes the shape is (n,): the log-odds of the second, from ``predict_proba``.
        """
        check_is_fitted(self)
        if self.target_layout_ == "classes" and self.n_labels_ == 2:
            # Not the difference of two scores, which would not rank samples as probabilities do.
            return self._log_odds(X)
        scores = self._retrieve_for_output(X)
        return scores if self.target_layout_ == "sparse" else _outputs.dense_scores(scores)

    def _log_odds(self, X: Any) -> NDArray[np.float32]:
        """Return the log-odds of the second of two classes, shape (n,)."""
        return _outputs.log_odds(np.asarray(self._probabilities(X))[:, 1])

    @available_if(lambda self: self.calibration is not None)
    def predict_proba(self, X: Any) -> sp.csr_array | NDArray:
        """Return calibrated probabilities of the best labels.

        Probabilities rank labels as ``decision_function`` does, and are calibrated on training rows
        that the calibrated model did not see. There are none with ``calibration=None``.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.

        Returns
        -------
        csr_array of shape (n, n_labels), after a fit with a sparse ``y``
            At most ``top_k`` stored entries per row, all strictly between 0 and 1.
        ndarray of float32 of shape (n, n_labels), after a fit with a dense or 1-D ``y``
            All between 0 and 1; rows add up to 1 for a 1-D ``y``.
        """
        return self._probabilities(X)

    def _probabilities(self, X: Any) -> sp.csr_array | NDArray:
        retrieved = self._retrieve_for_output(X)
        probabilities = self._current_calibrator().transform(retrieved)
        if self.target_layout_ == "sparse":
            return probabilities
        return _outputs.dense_probabilities(probabilities, self.target_layout_)

    def predict(self, X: Any) -> sp.csr_array | NDArray:
        """Return the labels with a probability of ``threshold`` or more, or the best class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.

        Returns
        -------
        csr_array or ndarray of shape (n, n_labels), or ndarray of shape (n,)
            0/1 indicator in the type of ``y``, sparse if ``y`` was; class values for a 1-D ``y``.
        """
        check_is_fitted(self)
        if self.target_layout_ == "classes":
            if self.n_labels_ == 2 and "calibrator_" in vars(self):
                return self.classes_[(self._log_odds(X) > 0).astype(int)]
            best = self._search(self.model_, *self._check_X(X), 1)[0][:, 0]
            return self.classes_[np.maximum(best, 0)]
        probabilities = self._probabilities(X)
        threshold = _outputs.thresholds(self.threshold, self.n_labels_, self.label_names_)
        if isinstance(probabilities, np.ndarray):
            return (probabilities >= threshold).astype(self.target_dtype_)
        # Only retrieved labels can be predicted, whatever the threshold.
        is_label = probabilities.data >= threshold[probabilities.indices]
        probabilities.data = is_label.astype(self.target_dtype_)
        probabilities.eliminate_zeros()
        return probabilities

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = False
        if self.vectorizer is not None:
            tags.input_tags.string = True
            tags.input_tags.one_d_array = True
            tags.input_tags.two_d_array = False
            tags.input_tags.sparse = False
        # Not one_d_array for texts alone: scikit-learn would take that for the only form of X.
        tags.input_tags.string |= self._accepts_texts
        return tags
