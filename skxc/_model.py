"""What training takes and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skxc._training_set import Features, TrainingSet
from skxc.utils._record import Record
from skxc.utils._sparse import TopK, pack_topk, values_at

# Rows searched at once: bounds the memory of a prediction, however many rows and labels.
BLOCK_ROWS = 1024
# Of fewer rows than this, those held out are too few to choose by, and are always given back.
SMALL_SAMPLE = 2000


@dataclass(frozen=True, eq=False)
class Reasons:
    """What the score of one label for one sample is made of.

    Attributes
    ----------
    terms : dict of str to float
        Numbers that add up to the score.
    features : ndarray of int, shape (f,)
    weights : ndarray of float, shape (f,)
        Weights of features of the sample on the way to the label, times their values.
    row_effects : ndarray of float, shape (m,)
        What each training row with the label adds to the term "votes".
    row_labels : list of m ndarrays of int
        All labels of these rows.
    row_vectors : ndarray or csr_array of shape (m, d)
        These rows as queries.
    shares : dict of str to float
        Shares of members.
    """

    terms: dict[str, float]
    features: NDArray[np.integer] = field(default_factory=lambda: np.zeros(0, dtype=int))
    weights: NDArray = field(default_factory=lambda: np.zeros(0))
    row_effects: NDArray = field(default_factory=lambda: np.zeros(0))
    row_labels: list[NDArray[np.integer]] = field(default_factory=list)
    row_vectors: Any = None
    shares: dict[str, float] = field(default_factory=dict)


class Model(Record):
    """What training returns: a frozen dataclass of arrays and parts that answers queries.

    A subclass writes `search`, and `score_pairs` where a search for all labels is too much. One
    with an embedding also writes ``embed(X)``; one that takes labels by their features,
    ``with_labels(features)``, which returns a larger model.
    """

    #: Fields, or "part.field", that come from held-out rows; a training on all rows takes those of
    #: the first one.
    _chosen: ClassVar[tuple[str, ...]] = ()

    @property
    def n_labels(self) -> int:
        """Number of labels that answers can name, from 0 on."""
        raise NotImplementedError(f"{type(self).__name__} must define `n_labels`.")

    def queries(self, X: Features) -> Any:
        """Return samples as `search` takes them; by default as they are."""
        return X

    def search(self, queries: Any, k: int) -> TopK:
        """Return padded (indices, scores) of the k best labels; ties go to the lower id.

        Parameters
        ----------
        queries : what `queries` returned, n rows
        k : int

        Returns
        -------
        indices : ndarray of int, shape (n, k)
            Best first; -1 where a row runs out.
        scores : ndarray of float32, shape (n, k)
            -inf where a row runs out.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `search`.")

    def score_pairs(
        self, queries: Any, rows: NDArray[np.integer], labels: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Return the scores of pairs, also of labels that a search would not retrieve.

        By default from a search for all labels. A search that follows a beam scores pairs as if the
        beam were so wide that it misses nothing.

        Parameters
        ----------
        queries : what `queries` returned, n rows
        rows, labels : ndarray of int, shape (e,)
            Sorted by row and label.

        Returns
        -------
        ndarray of float32, shape (e,)
            -inf for labels that the model cannot score.
        """
        found = pack_topk(*self.search(queries, self.n_labels), self.n_labels)
        return values_at(found, rows, labels, -np.inf)

    def reasons(self, query: Any, label: int) -> Reasons:
        """Return what the score of a label for one query is made of; by default the score itself.

        Parameters
        ----------
        query : what `queries` returned, one row
        label : int
        """
        return Reasons({"score": self._score(query, label)})

    def _score(self, query: Any, label: int) -> float:
        return float(self.score_pairs(query, np.array([0]), np.array([label]))[0])


def in_blocks(
    search: Callable[[Any, int], TopK], queries: Any, k: int, rows: int = BLOCK_ROWS
) -> TopK:
    """Return the answers of a search that gets some rows at a time."""
    blocks = [
        search(queries[start : start + rows], k)
        for start in range(0, max(queries.shape[0], 1), rows)
    ]
    labels, scores = zip(*blocks, strict=True)
    return np.concatenate(labels), np.concatenate(scores)


@dataclass
class Trial:
    """What a first training, without the held-out rows, leaves to the one on all rows.

    Attributes
    ----------
    chosen : dict of str to object
        What comes from held-out rows, by the names of `Model._chosen`.
    calibrator : TopKCalibrator or None
    watched : dict of str to list of float
        Of every stage that early stopping watched: the figures of its epochs, up to the best one.
    checkpoints : list of Checkpoint
        Which the fit, once it is finished, needs no more.
    """

    chosen: dict[str, Any] = field(default_factory=dict)
    calibrator: Any = None
    watched: dict[str, list[float]] = field(default_factory=dict)
    checkpoints: list[Any] = field(default_factory=list)

    def finish(self) -> None:
        """Remove the checkpoints."""
        for checkpoint in self.checkpoints:
            checkpoint.remove()


@dataclass(frozen=True, eq=False)
class Fit:
    """One training: what a recipe, ``_train(fit)``, works on.

    Attributes
    ----------
    data : TrainingSet
        The rows to train on.
    held_out : TrainingSet or None
        Rows that steer and are not trained on.
    is_trial : bool
        Whether another training on all rows follows.
    seed : int
        Of all random choices.
    trial : Trial
        Of two trainings: filled by the first, followed by the second.
    """

    data: TrainingSet
    held_out: TrainingSet | None
    is_trial: bool
    seed: int
    trial: Trial

    @property
    def judges(self) -> TrainingSet | None:
        """The held-out rows, where they choose.

        Small data that get them back keep the usual values instead.
        """
        held = self.held_out
        if held is not None and self.is_trial:
            return held if self.data.n_samples + held.n_samples >= SMALL_SAMPLE else None
        return held

    def with_choices(self, model: Any) -> Any:
        """Return a model of this training with what the first training chose."""
        for path, value in self.trial.chosen.items():
            model = _replaced(model, path, value)
        return model


def _replaced(record: Any, path: str, value: Any) -> Any:
    name, _, rest = path.partition(".")
    value = _replaced(getattr(record, name), rest, value) if rest else value
    return replace(record, **{name: value})


def of_model(path: str, doc: str) -> Any:
    """Return a property of a fitted estimator that reads a field of its model.

    Parameters
    ----------
    path : str
        Name of the field, with dots for fields of fields; None where one of them is None.
    doc : str
        What it is.
    """

    def read(estimator: Any) -> Any:
        value = vars(estimator).get("model_")
        if value is None:
            raise AttributeError(
                f"This {type(estimator).__name__} is not fitted yet. Call `fit` first."
            )
        for name in path.split("."):
            value = None if value is None else getattr(value, name)
        return value

    return property(read, doc=doc)
