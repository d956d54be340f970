"""Estimators that know more of labels than their column: texts or features, and graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skxc._params import RandomState, joins_docstring, params
from skxc._training_set import Features, LabelSide
from skxc.base import BaseXC
from skxc.labels import AnchorGraph, LabelGraph, LabelTexts, check_label_features
from skxc.utils._bases import Transformer
from skxc.utils._validation import as_names

if TYPE_CHECKING:
    from sklearn.utils import Tags
    from typing_extensions import Self


@params
class LabelSideXC(BaseXC):
    """Base of estimators whose labels may have texts or features, and a graph.

    Parameters
    ----------
    graph : sparse matrix of shape (n_labels, n_labels), LabelGraph or AnchorGraph, default=None
        Graph between labels.
    label_features : dict of str to str, LabelTexts, or n_labels texts or rows, default=None
        Texts or features of the labels, in the same form as the samples; a dict has texts by name.
    random_state : int, RandomState instance or None, default=None
        Seed.
    """

    graph: Annotated[Any, None, "array-like", "sparse matrix", LabelGraph, AnchorGraph, str] = None
    label_features: Annotated[Any, None, "array-like", "sparse matrix", LabelTexts] = None
    random_state: RandomState = None

    # Graph and label features reach a nested estimator without set_fit_request, routing on or off.
    __metadata_request__fit: ClassVar[dict[str, Any]] = {"graph": True, "label_features": True}

    @joins_docstring(BaseXC.fit)
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        graph: Any = None,
        label_features: Any = None,
        label_separator: str | None = None,
        groups: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fit the estimator.

        Parameters
        ----------
        graph : sparse matrix, LabelGraph or AnchorGraph, default=None
            Label-side graph; overrides the constructor parameter.
        label_features : dict of str to str, LabelTexts, or n_labels texts or rows, default=None
            Label texts or features; overrides the constructor parameter. Where they have names and
            `y` has, too, they are matched by name, and may be of labels without samples.
        """
        return self._fit(
            X,
            y,
            graph=graph,
            label_features=label_features,
            label_separator=label_separator,
            groups=groups,
            sample_weight=sample_weight,
        )


class SampleGraphMixin:
    """Adds ``sample_graph`` to `fit`: edges from samples to the anchors of the graph."""

    __metadata_request__fit: ClassVar[dict[str, Any]] = {"sample_graph": True}
    _accepts_anchors: ClassVar[bool] = True

    @joins_docstring(LabelSideXC.fit)
    def fit(
        self: Any,
        X: Any,
        y: Any,
        *,
        graph: Any = None,
        sample_graph: Any = None,
        label_features: Any = None,
        label_separator: str | None = None,
        groups: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Any:
        """Fit the estimator.

        Parameters
        ----------
        graph : AnchorGraph, LabelGraph, sparse matrix or "cooccurrence", default=None
            Edges from labels to anchors, whose texts or features have the form of `X`, or edges
            between labels, whose anchors are the labels; overrides the constructor parameter.
        sample_graph : sparse matrix of shape (n_samples, n_anchors), default=None
            Edges from samples to the same anchors; cross-validation cuts it with the samples.
        """
        return self._fit(
            X,
            y,
            graph=graph,
            sample_graph=sample_graph,
            label_features=label_features,
            label_separator=label_separator,
            groups=groups,
            sample_weight=sample_weight,
        )


class NewLabelsMixin:
    """Adds `add_labels` to an estimator whose model has ``with_labels(features)``."""

    def add_labels(self: Any, label_features: Any, *, label_names: Any = None) -> Any:
        """Add labels that are known by their text or features alone; nothing is trained.

        Old labels keep their ids and their scores, bit for bit. A later `fit` or `clone` forgets
        added labels.

        Parameters
        ----------
        label_features : LabelTexts, sequence of str, or matrix of shape (n_new, n_features)
            The new labels, in the same form as the samples.
        label_names : sequence of str or None, default=None
            Names, where the other labels have names.

        Returns
        -------
        self

        Warns
        -----
        LabelTextWarning
            Most of the weight of the new texts lies on words that training did not see.
        """
        features, grown = self._check_new_labels(label_features, label_names)
        grown["model_"] = self._current(self.model_).with_labels(features)
        self._add(grown)
        return self

    def _check_new_labels(
        self: Any, label_features: Any, label_names: Any = None
    ) -> tuple[Features, dict[str, Any]]:
        """Return features of labels to add, and the fitted attributes with these labels at the end.

        Nothing is set.
        """
        check_is_fitted(self)
        if self.target_layout_ == "classes":
            raise ValueError(
                "`add_labels` needs an indicator matrix as target, but the model was fitted on a "
                "1-D `y`. Fit with an indicator matrix."
            )
        features, names = check_label_features(label_features, None, None)
        if features is None:
            raise ValueError("`label_features` must describe the new labels, but None was given.")
        names = names if label_names is None else as_names(label_names, "label_names")
        n_new = features.shape[0]
        if names is not None and len(names) != n_new:
            raise ValueError(
                f"`label_names` has {len(names)} elements but `label_features` has {n_new} rows. "
                "Pass one name per new label."
            )
        if (names is None) != (self.label_names_ is None):
            given, have = ("be given", "have") if names is None else ("be None", "have no")
            raise ValueError(
                f"`label_names` must {given} because the labels of the model {have} names."
            )
        if known := set(self.label_names_ or ()) & set(names or ()):
            raise ValueError(
                f"`label_names` must be new names, but {min(known)!r} is a label of the model. "
                "Leave known labels out."
            )
        n_labels = self.n_labels_ + n_new
        grown = {
            "classes_": np.arange(n_labels),
            "n_labels_": n_labels,
            "label_names_": names and [*(self.label_names_ or []), *names],
            "label_frequency_": np.pad(self.label_frequency_, (0, n_new)),
        }
        if self.own_labels_ is not None:
            grown["own_labels_"] = self.own_labels_.extended(features)
        return LabelSide(vars(self), self._vectorize).check(features), grown


class EmbeddingMixin(Transformer):
    """Adds ``transform`` to an estimator whose model has ``embed(X)``; stands in front of it."""

    def transform(self: Any, X: Any) -> NDArray[np.float32]:
        """Return the embeddings of samples.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_features), or sequence of str
            Samples, in the same form as in ``fit``.

        Returns
        -------
        ndarray of float32 of shape (n, d)
        """
        X, _ = self._check_X(X)
        return self._current(self.model_).embed(X) if X.shape[0] else self._blank()[:0]

    def _blank(self: Any) -> NDArray[np.float32]:
        """Return the embedding of a blank sample, which says how wide embeddings are."""
        blank = [""] if self.input_layout_ == "texts" else np.zeros((1, self.n_features_in_))
        return self._current(self.model_).embed(self._check_X(blank)[0])

    def get_feature_names_out(self: Any, input_features: Any = None) -> NDArray[np.object_]:
        """Return names for the columns of embeddings, such as ``"dualencoderxc0"``.

        They are what ``set_output(transform="pandas")`` needs.

        Parameters
        ----------
        input_features : object, default=None
            Ignored; embeddings are no selection of features.

        Returns
        -------
        ndarray of str objects, shape (d,)
        """
        check_is_fitted(self)
        prefix = type(self).__name__.lower()
        width = self._blank().shape[1]
        return np.array([f"{prefix}{column}" for column in range(width)], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # Embeddings are float32 whatever X was. BaseXC could not say so: its tags are made earlier.
        tags.transformer_tags.preserves_dtype = []
        return tags
