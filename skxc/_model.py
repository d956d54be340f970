"""What training takes and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from skxc._training_set import Features, TrainingSet
from skxc.utils._record import Record
from skxc.utils._sparse import TopK

# Rows searched at once: bounds the memory of a prediction, however many rows and labels.
BLOCK_ROWS = 1024


class Model(Record):
    """What training returns: a frozen dataclass of arrays and parts that answers queries.

    A subclass writes `search`. One with an embedding also writes ``embed(X)``; one that takes
    labels by their features, ``with_labels(features)``, which returns a larger model.
    """

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
        Whether another training on all rows follows, which has no held-out rows to choose by.
    seed : int
        Of all random choices.
    """

    data: TrainingSet
    held_out: TrainingSet | None
    is_trial: bool
    seed: int


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
