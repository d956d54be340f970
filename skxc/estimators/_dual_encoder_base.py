"""What dual encoders share: one encoder for samples and label texts, and votes of training rows.

The recipe is `_fit`: prepare texts once; train the encoder on pools of labels, with a free vector
per label beside its text; optionally train classifiers on the frozen encoder; keep the vectors.
Prediction is a search.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from skxc.base import TrainingSet
from skxc.estimators._encoder_base import (
    EncoderBase,
    figures,
    search_exactly,
)
from skxc.estimators._neural import BLOCK_ROWS, Run
from skxc.metrics import inverse_propensity, ndcg_at_k
from skxc.negatives import Negatives, make_negatives
from skxc.ranking import (
    Votes,
    add_votes,
    inner_products,
    neighbor_votes,
    rank_pairs,
    union_of_lists,
)
from skxc.utils._same_text import same_text_pairs
from skxc.utils._score_tree import ScoreTree
from skxc.utils._sparse import TopK, normalize_rows, pair_ids

if TYPE_CHECKING:
    from typing_extensions import Self

    from skxc.training import ClassifierTask, DualEncoderTask, PoolSettings

# Weights of votes that "auto" tries, and the one it takes where it has no held-out rows.
VOTE_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
USUAL_VOTE_WEIGHT = 0.4

LOSS_NAMES = {"decoupled", "softmax", "balanced", "soft_topk", "triplet", "prob_contrastive", "bce"}


class DualEncoderBase(EncoderBase):
    """Base of dual encoders; a subclass says what the first stage trains and what a graph does."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **EncoderBase._parameter_constraints,
        "loss": [StrOptions(LOSS_NAMES), callable],
        "negatives": [StrOptions({"in_batch", "clustered", "mined", "all"}), Negatives],
        "classifier_stage": [StrOptions({"joint"}), "boolean"],
        "classifier_epochs": [Interval(Integral, 0, None, closed="left")],
        "label_dropout": [Interval(Real, 0, 1, closed="left")],
        "fusion": [StrOptions({"none", "sum", "tree"})],
        "neighbor_weight": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "neighbor_temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        encoder: Any,
        loss: Any,
        temperature: float,
        negatives: Any,
        n_positives: int | None,
        refresh_every: int,
        classifier_stage: Any,
        classifier_epochs: int,
        label_dropout: float,
        fusion: str,
        neighbor_weight: Any,
        n_neighbors: int,
        neighbor_temperature: float,
        index: Any,
        n_epochs: int,
        batch_size: Any,
        micro_batch_size: int | None,
        learning_rate: float | None,
        max_grad_norm: float | None,
        precision: str,
        early_stopping: bool,
        n_iter_no_change: int,
        warm_start: bool,
        checkpoint_dir: Any,
        **of_every_estimator: Any,
    ) -> None:
        super().__init__(**of_every_estimator)
        self.encoder = encoder
        self.loss = loss
        self.temperature = temperature
        self.negatives = negatives
        self.n_positives = n_positives
        self.refresh_every = refresh_every
        self.classifier_stage = classifier_stage
        self.classifier_epochs = classifier_epochs
        self.label_dropout = label_dropout
        self.fusion = fusion
        self.neighbor_weight = neighbor_weight
        self.n_neighbors = n_neighbors
        self.neighbor_temperature = neighbor_temperature
        self.index = index
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.micro_batch_size = micro_batch_size
        self.learning_rate = learning_rate
        self.max_grad_norm = max_grad_norm
        self.precision = precision
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.checkpoint_dir = checkpoint_dir

    # ---- what a subclass writes

    def _graph_settings(self, data: TrainingSet) -> dict[str, Any]:
        """Return what a graph changes about pools of labels."""
        return {}

    # ---- fit

    def _gives_rows_back(self, n_samples: int) -> bool:
        # The tree needs rows that the scores it joins have not seen.
        return self.fusion != "tree" and super()._gives_rows_back(n_samples)

    def _fit(self, data: TrainingSet, held_out: TrainingSet | None) -> None:
        with self._run(data, held_out) as run:
            task = self._encoder_task(run)
            progress = self._train(run, task, self.n_epochs)
            self._set(self._attributes(task, data), **figures(task, progress))
            if self.classifier_stage is True:
                classifier = self._classifier_task(run, task)
                self._train(run, classifier, self.classifier_epochs)
                self._set(self._attributes(classifier, data))
            if self.fusion == "tree" and self.classifier_weights_ is not None:
                self.score_tree_ = self._fit_score_tree(data if held_out is None else held_out)
            if self.neighbor_weight == "auto" and not self._is_trial(run):
                self.neighbor_weight_ = self._choose_vote_weight(held_out)
        self._warn_if_much_is_masked()

    def _encoder_task(self, run: Run) -> DualEncoderTask:
        """Return what the first stage trains."""
        from skxc.training import DualEncoderTask

        settings = self._pool_settings(run.data, self.n_epochs)
        return DualEncoderTask(settings, **self._task_arguments(run))

    def _task_arguments(self, run: Run) -> dict[str, Any]:
        """Return the encoder, both sides prepared, and what else the first stage needs."""
        data, held_out = run.data, run.held_out
        encoder = self._fit_encoder(run)
        samples = encoder.prepare(data.X)
        return {
            "encoder": encoder,
            "samples": samples,
            "labels": self._prepare_labels(encoder, samples, data),
            "table": self._free_vectors(data.n_labels, encoder.dim_),
            "learning_rate": self.learning_rate,
            "micro_batch_size": self.micro_batch_size,
            "precision": self.precision,
            "y": data.y,
            "sample_weight": data.sample_weight,
            "device": run.device,
            "held_out": self._watched(held_out, encoder.prepare),
        }

    def _free_vectors(self, n_labels: int, dim: int) -> Any:
        """Return the table that is trained with the encoder; it starts at zero: text alone."""
        from skxc.training import LabelTable

        if self.classifier_stage != "joint":
            return None
        start = np.zeros((n_labels, dim), dtype=np.float32)
        if self.warm_start and getattr(self, "free_vectors_", None) is not None:
            start = self.free_vectors_
        return LabelTable(start, dropout=self.label_dropout)

    def _pool_settings(self, data: TrainingSet, n_epochs: int) -> PoolSettings:
        """Return how pools of labels are drawn and scored."""
        from skxc.batching import ClusteredBatches, UniformBatches, growth_epochs
        from skxc.losses import make_loss
        from skxc.training import PoolSettings

        negatives = make_negatives(self.negatives)
        if self.negatives == "mined":  # an object says for itself when it mines
            negatives.set_params(refresh_every=self.refresh_every)
        size = self._batch_size(data.n_samples)
        batches: Any = UniformBatches(data.n_samples, size)
        if negatives.clustered:
            growth = growth_epochs(n_epochs)
            batches = ClusteredBatches(
                data.n_samples, size, refresh_every=self.refresh_every, growth=growth
            )
        return PoolSettings(
            loss=make_loss(self.loss),
            temperature=self.temperature,
            negatives=negatives,
            batches=batches,
            search=search_exactly,
            n_positives=self.n_positives,
            **self._graph_settings(data),
            excluded=same_text_pairs(data.X, data.label_features, data.y),
        )

    def _classifier_task(self, run: Run, task: DualEncoderTask) -> ClassifierTask:
        """Return what the second stage trains: classifiers that start at their labels' vectors."""
        from skxc.training import ClassifierTask

        data, held_out = run.data, run.held_out
        settings = self._pool_settings(data, max(self.classifier_epochs, 1))
        texts = self.label_embeddings_
        start = texts
        if settings.graph is not None:
            # SiameseXML: the average over the label and its graph neighbours.
            total = np.asarray(settings.graph.sum(axis=1)).ravel()
            share = sp.diags_array(1 / np.maximum(total, 1e-12)) @ settings.graph
            start = normalize_rows(texts + (share @ texts).astype(np.float32))
        return ClassifierTask(
            settings,
            samples=task.sample_vectors(),
            texts=texts,
            start=start,
            y=data.y,
            sample_weight=data.sample_weight,
            device=run.device,
            held_out=self._watched(held_out, self._embed),
        )

    def _attributes(self, task: Any, data: TrainingSet) -> dict[str, Any]:
        """Return the fitted attributes that the current state of a stage amounts to."""
        if task.name == "classifier":
            return {"classifier_weights_": task.label_vectors(), "_built_indices": {}}
        texts, table = task.text_vectors(), task.table
        attributes: dict[str, Any] = {
            "encoder_": task.encoder,
            "label_embeddings_": texts,
            "classifier_weights_": None if table is None else task.label_vectors(),
            "free_vectors_": table.to_numpy() if table is not None and self.warm_start else None,
            "sample_embeddings_": None,
            "sample_votes_": None,
            "sample_weights_": None,
            "score_tree_": None,
            "trained_frequency_": data.y.T @ data.sample_weight,
            "n_trained_samples_": data.sample_weight.sum().item(),
            "neighbor_weight_": USUAL_VOTE_WEIGHT,
            "_built_indices": {},
        }
        if self.neighbor_weight:
            attributes["sample_embeddings_"] = task.sample_vectors()
            attributes["sample_votes_"] = data.y
            attributes["sample_weights_"] = data.sample_weight.astype(np.float32)
        return attributes

    # ---- search

    def _search_block(self, queries: NDArray[np.float32], k: int) -> TopK:
        """Return the best labels of a block, by the label vectors and the votes of near rows."""
        found, weight = self._search_labels(queries, k), self._vote_weight()
        if not weight or self.sample_embeddings_ is None:
            return found
        return self._add_votes(found, self._votes(queries), weight, queries)

    def _vote_weight(self) -> float:
        """Return the weight of votes, which may be changed without another fit."""
        return self.neighbor_weight_ if self.neighbor_weight == "auto" else self.neighbor_weight

    def _votes(self, queries: NDArray[np.float32]) -> Votes:
        n_neighbors = min(self.n_neighbors, len(self.sample_embeddings_))
        near, similarity = self._index("samples").search(queries, n_neighbors)
        return neighbor_votes(
            near, similarity, self.sample_votes_, self.sample_weights_, self.neighbor_temperature
        )

    def _add_votes(
        self, found: TopK, votes: Votes, weight: float, queries: NDArray[np.float32]
    ) -> TopK:
        return add_votes(
            found,
            votes,
            weight,
            lambda rows, labels: self._score_pairs(queries, rows, labels),
            self.n_labels_,
        )

    def _choose_vote_weight(self, held_out: TrainingSet | None) -> float:
        """Return the weight with the best nDCG@5 on held-out rows; ties to the smaller one."""
        if held_out is None or not held_out.y.nnz:
            return USUAL_VOTE_WEIGHT
        rows = held_out.take(np.arange(min(BLOCK_ROWS, held_out.n_samples)))
        queries = self._embed(rows.X)
        found = self._search_labels(queries, min(10, self.n_labels_))
        votes = self._votes(queries)
        own = same_text_pairs(rows.X, rows.label_features, rows.y)
        gains = [
            ndcg_at_k(rows.y, self._add_votes(found, votes, weight, queries)[0], filter_pairs=own)
            for weight in VOTE_WEIGHTS
        ]
        return VOTE_WEIGHTS[int(np.argmax(gains))]

    def _search_labels(self, queries: NDArray[np.float32], k: int) -> TopK:
        if self.score_tree_ is None:
            return self._index(self._scored_by()).search(queries, k)
        rows, labels = self._candidates(queries, k)
        scores = self._score_pairs(queries, rows, labels)
        return rank_pairs(rows, labels, scores, shape=(len(queries), k))

    def _candidates(self, queries: NDArray[np.float32], k: int = 1) -> tuple[NDArray, NDArray]:
        """Return the pairs to score: the best `top_k` labels by text and by classifier.

        No fewer for a smaller k, so that the best label does not depend on it.
        """
        depth = min(max(k, self.top_k), self.n_labels_)
        lists = [self._index(side).search(queries, depth)[0] for side in ("texts", "classifiers")]
        return union_of_lists(lists, self.n_labels_)

    def _score_pairs(
        self, queries: NDArray[np.float32], rows: NDArray, labels: NDArray
    ) -> NDArray[np.float32]:
        """Return the score of each (query, label) pair, as a search of all labels would give it."""
        if self.score_tree_ is None:
            return inner_products(queries, self._vectors(self._scored_by()), rows, labels)
        features = self._tree_features(queries, rows, labels)
        return features[:, 0] + features[:, 1] + self.score_tree_.predict_proba(features)

    def _tree_features(
        self, queries: NDArray[np.float32], rows: NDArray, labels: NDArray
    ) -> NDArray[np.float32]:
        """Return classifier score, text score and inverse propensity of each pair."""
        # A label that only held-out rows have must look unseen, or its weight tells what is right.
        weight = inverse_propensity(self.trained_frequency_, max(self.n_trained_samples_, 3))
        sides = [
            inner_products(queries, vectors, rows, labels)
            for vectors in (self.classifier_weights_, self.label_embeddings_)
        ]
        return np.stack([*sides, weight[labels].astype(np.float32)], axis=1)

    def _fit_score_tree(self, rows_to_fit: TrainingSet) -> ScoreTree:
        queries = self._embed(rows_to_fit.X)
        rows, labels = self._candidates(queries)
        truth = pair_ids(rows_to_fit.y)
        relevant = np.isin(rows * self.n_labels_ + labels, truth)
        return ScoreTree().fit(self._tree_features(queries, rows, labels), relevant)

    def _scored_by(self) -> str:
        """Return the name of the vectors that score labels."""
        if self.classifier_weights_ is None:
            return "texts"
        return "sum" if self.fusion == "sum" else "classifiers"

    def _vectors(self, side: str) -> NDArray[np.float32]:
        """Return the vectors that an index of this name holds."""
        if side == "samples":
            return self.sample_embeddings_
        if side == "texts":
            return self.label_embeddings_
        if side == "classifiers":
            return self.classifier_weights_
        return (self.label_embeddings_ + self.classifier_weights_) / 2

    # ---- new labels

    def add_labels(self, label_features: Any, *, label_names: Any = None) -> Self:
        """Add labels that are known by their text alone; nothing is trained.

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
        prepared = self._prepare_new_labels(features)
        new = self.encoder_.encode(prepared, precision=self.precision)
        grown["label_embeddings_"] = np.concatenate([self.label_embeddings_, new])
        grown["trained_frequency_"] = np.pad(self.trained_frequency_, (0, len(new)))
        if self.classifier_weights_ is not None:
            grown["classifier_weights_"] = np.concatenate([self.classifier_weights_, new])
        if self.free_vectors_ is not None:
            grown["free_vectors_"] = np.concatenate([self.free_vectors_, np.zeros_like(new)])
        if self.sample_votes_ is not None:
            votes = self.sample_votes_
            shape = (votes.shape[0], grown["n_labels_"])
            grown["sample_votes_"] = sp.csr_array(
                (votes.data, votes.indices, votes.indptr), shape=shape
            )
        self._set(grown, _built_indices=self._indices_of({"samples"}))
        return self
