"""What a learned index answers with: an encoder, clusters with edges, and label classifiers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skxc._model import BLOCK_ROWS, Reasons, Record, in_blocks
from skxc._training_set import TrainingSet
from skxc.estimators._encoding import EncoderModel
from skxc.estimators._learned_index.edges import LearnedEdges
from skxc.estimators._learned_index.task import LearnedIndexTask
from skxc.indices import IndexSizes, LabelIndex
from skxc.utils._loaded import sizes_of
from skxc.utils._sparse import TopK, pack_topk

# Share of edges at their cap that deserves a warning.
LARGE_SATURATED_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class IndexFigures(Record):
    """How training went.

    Attributes
    ----------
    history : list of dict
        Records of the epochs of both stages.
    coverage : float
        Share of the labels with training rows that an edge leads to.
    saturated_edges : float
        Share of edges at their cap.
    edges_learn : bool
        Whether these are edges that learn, and not those of a tree.
    shortlist_recall : float or None
        Share of the positives of held-out rows that are in the shortlist; None in the models that
        callbacks see.
    """

    history: list[dict[str, float]]
    coverage: float
    saturated_edges: float
    edges_learn: bool
    shortlist_recall: float | None = None

    _may_be_nan = ("history",)


@dataclass(frozen=True, eq=False)
class LearnedIndexModel(EncoderModel):
    """An encoder, an index from clusters to labels, and a classifier per label.

    Attributes
    ----------
    index : LabelIndex
        Its beam width and shortlist size are those of a search.
    label_weights : ndarray of float32, shape (L, d)
        Classifiers, for unit vectors of samples.
    label_bias : ndarray of float32, shape (L,)
    sizes : IndexSizes
        Those of the training.
    figures : IndexFigures
    """

    index: LabelIndex
    label_weights: NDArray[np.float32]
    label_bias: NDArray[np.float32]
    sizes: IndexSizes
    figures: IndexFigures

    _chosen = ("figures.shortlist_recall",)

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return self.index.n_labels

    def _check_loaded(self) -> None:
        n_labels, dim = self.index.n_labels, self.encoder.dim_
        sizes_of(self, label_weights=f"{n_labels} {dim}", label_bias=str(n_labels))
        sizes_of(self.index, cluster_weights=f"C {dim}")

    @classmethod
    def of(
        cls,
        task: LearnedIndexTask,
        label_names: list[str] | None,
        history: list[dict[str, float]],
        device: str,
    ) -> LearnedIndexModel:
        """Return the model of a task's present weights."""
        weights, bias = task.label_weights()
        index = replace(task.label_index(), label_names=label_names)
        figures = IndexFigures(
            history=history,
            coverage=index.coverage(np.bincount(task.y.indices, minlength=index.n_labels)),
            saturated_edges=index.saturated_share(),
            edges_learn=isinstance(task.edges, LearnedEdges),
        )
        encoder, precision = task.encoder, task.precision
        return cls(encoder, device, precision, index, weights, bias, task.sizes, figures)

    def search(self, queries: NDArray[np.float32], k: int) -> TopK:
        """Return the best labels of the shortlist by log(path * sigmoid(w_l . x + b_l))."""
        return in_blocks(self._search, queries, k)

    def _search(self, queries: NDArray[np.float32], k: int) -> TopK:
        size = max(self.index.shortlist_size, k)
        return self.index.rank(queries, self.label_weights, self.label_bias, k, size=size)

    def score_pairs(
        self, queries: NDArray[np.float32], rows: NDArray[np.integer], labels: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Return the scores of pairs, as if all clusters were followed."""
        weights, bias = self.label_weights, self.label_bias
        return self.index.score_pairs(queries, weights, bias, rows, labels)

    def reasons(self, query: NDArray[np.float32], label: int) -> Reasons:
        """Return the logarithms of the best path to the label, and of its classifier."""
        logit = query[0] @ self.label_weights[label] + self.label_bias[label]
        own = float(-np.logaddexp(0, -logit))
        return Reasons({"clusters": self._score(query, label) - own, "label": own})

    def with_recall(self, rows: TrainingSet) -> LearnedIndexModel:
        """Return the model with `shortlist_recall` of labelled rows, at most 1,024 of them."""
        rows = rows.take(np.arange(min(rows.n_samples, BLOCK_ROWS)))
        labels, _ = self.index.shortlist(self.embed(rows.X))
        found = pack_topk(labels, np.ones(labels.shape, np.float32), self.index.n_labels)
        recall = float(found.multiply(rows.y).sum() / max(rows.y.nnz, 1))
        return replace(self, figures=replace(self.figures, shortlist_recall=recall))

    def warn_of_silent_failures(self) -> None:
        """Warn if labels cannot be reached, or most edges are at their cap."""
        figures = self.figures
        if figures.coverage < 1:
            warnings.warn(
                f"`coverage_` is {figures.coverage:.3f}: no cluster leads to the other labels, "
                "which are never predicted. Raise edges_per_cluster.",
                stacklevel=2,
            )
        if figures.edges_learn and figures.saturated_edges > LARGE_SATURATED_SHARE:
            warnings.warn(
                f"`saturated_edges_` is {figures.saturated_edges:.2f}: most edges are at their "
                f"cap, where they do not tell labels apart. Lower beta, now {self.sizes.beta:g}.",
                stacklevel=2,
            )
