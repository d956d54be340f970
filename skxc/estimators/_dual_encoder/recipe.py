"""DualEncoderXC: one encoder for samples and label texts, and votes of training rows.

The recipe is `_train`: prepare texts once; train the encoder on pools of labels, with a free vector
per label beside its text; optionally train classifiers on the frozen encoder; keep the vectors and
the training rows; choose on held-out rows what votes weigh. Prediction is a search.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp

from skxc._label_side import NewLabelsMixin
from skxc._params import params
from skxc._training_set import TrainingSet
from skxc.base import of_model
from skxc.batching import ClusteredBatches, UniformBatches, growth_epochs
from skxc.encoders import EncoderLike
from skxc.estimators._dual_encoder.classifier import (
    ClassifierStage,
    ClassifierTask,
    LabelVectorsLike,
)
from skxc.estimators._dual_encoder.model import DualEncoderModel, TrainingRows
from skxc.estimators._dual_encoder.task import DualEncoderTask, JointVectors
from skxc.estimators._encoding import (
    PoolFigures,
    PoolFiguresMixin,
    fitted_encoder,
    graph_settings,
    prepared_labels,
    search_once,
    watched,
)
from skxc.estimators._neural import NeuralFit, NeuralXC
from skxc.indices import IndexLike, VectorSearch
from skxc.losses import LossLike, make_loss
from skxc.negatives import NegativesLike, make_negatives
from skxc.ranking import NeighborVotes
from skxc.training import LabelQueries, LabelVectors, PoolSettings, Progress
from skxc.utils._same_text import same_text_pairs
from skxc.utils._sparse import normalize_rows


@params
class DualEncoderXC(PoolFiguresMixin, NewLabelsMixin, NeuralXC):
    """Dual encoder for extreme multi-label classification.

    One encoder maps samples and label texts to the same space; a label's score is the cosine of its
    vector with the sample's. By default a free vector per label is trained beside its text, and the
    labels of the nearest training rows vote. New labels can be added by their text, and labels
    without any training row are predicted from theirs.

    Parameters
    ----------
    encoder : "bag", str, Path or Encoder, default="bag"
        "bag": `skxc.encoders.BagEncoder` from scratch; else a transformer's name or folder.
    loss : str or Loss, default="decoupled"
        "decoupled" (DEXML), "softmax", "balanced", "soft_topk", "triplet" (NGAME),
        "prob_contrastive", "bce" or an object of `skxc.losses`; all positives in the pool count.
    negatives : {"in_batch", "clustered", "mined", "all"} or Negatives, default="in_batch"
        Which labels a batch is scored against: the batch's own positives; the same over batches of
        similar samples (NGAME); with labels mined by the current model; or every label (DEXML).
    label_vectors : "joint", "stage", JointVectors, ClassifierStage or False, default="joint"
        "joint": a free vector per label is added to the vector of its text, and both are trained
        together (PRIME). "stage": classifiers are trained after the encoder (NGAME). False: none.
    votes : NeighborVotes, False or None, default=None
        Votes of the nearest training rows; False: none, and no training row is kept.
    label_queries : LabelQueries, False or None, default=None
        What a graph changes about pools of labels; False: nothing.
    index : {"auto", "exact", "hnsw", "ivf"} or Index, default="auto"
        How label vectors and training rows are searched; "auto" is exact up to two million.
    graph : sparse matrix, LabelGraph, "cooccurrence" or None, default=None
        Graph over the labels, used in training only. "cooccurrence" builds it from the training
        labels.
    label_features : LabelTexts, sequence of str, matrix or None, default=None
        Texts or features of the labels, in the same form as the samples. None: a label is the
        average of its training rows.

    Attributes
    ----------
    encoder_ : Encoder
        The trained encoder.
    label_embeddings_ : ndarray of float32, shape (n_labels, d)
        Unit vectors of the label texts.
    classifier_weights_ : ndarray of float32, shape (n_labels, d), or None
        Unit vectors of the classifiers.
    sample_embeddings_ : ndarray of float32, shape (n, d), or None
        Training rows that vote.
    vote_weight_ : float
        The weight that "auto" chose.
    history_ : list of dict
        Loss per epoch, and with early stopping the held-out precision (of the first training).
    n_iter_, n_refreshes_ : int
        Epochs that were trained; clusterings and minings.
    pool_size_, positives_per_query_in_pool_, masked_fraction_ : float
        Means over all steps; they expose most silent failures.
    model_, classes_, n_labels_, label_names_, label_frequency_, n_samples_fit_, calibrator_
    vectorizer_, n_features_in_
        As in every estimator.

    References
    ----------
    DEXML (ICLR 2024); NGAME (WSDM 2023); SiameseXML (ICML 2021); PRIME (NAACL 2025); Gandalf
    (arXiv 2405.04545); RAE-XMC (arXiv 2502.10615).

    Examples
    --------
    >>> from skxc import DualEncoderXC
    >>> from skxc.datasets import make_planted_xc
    >>> data = make_planted_xc(n_samples=200, n_labels=30, random_state=0)
    >>> model = DualEncoderXC(n_epochs=5, random_state=0)
    >>> model = model.fit(data.train_texts, data.train_labels, label_features=data.label_texts)
    >>> model.predict_topk(data.test_texts[:3], k=2)[0].shape
    (3, 2)
    """

    encoder: EncoderLike = "bag"
    loss: LossLike = "decoupled"
    negatives: NegativesLike = "in_batch"
    label_vectors: LabelVectorsLike = "joint"
    votes: NeighborVotes | Literal[False] | None = None
    label_queries: LabelQueries | Literal[False] | None = None
    index: IndexLike = "auto"

    _named_graphs: ClassVar[tuple[str, ...]] = ("cooccurrence",)
    _label_arrays: ClassVar[int] = 3  # free vectors, those of texts, those that score
    _search_parameters: ClassVar[tuple[str, ...]] = ("votes",)

    encoder_ = of_model("encoder", "The trained encoder.")
    label_embeddings_ = of_model("texts.vectors", "Unit vectors of the label texts.")
    classifier_weights_ = of_model("classifiers.vectors", "Unit vectors of the classifiers.")
    sample_embeddings_ = of_model("rows.vectors.vectors", "Training rows that vote.")
    vote_weight_ = of_model("vote_weight", "The weight of votes that 'auto' chose.")

    def _train(self, fit: NeuralFit) -> DualEncoderModel:
        task = self._task(fit)
        progress = fit.run(task, self.n_epochs, lambda: self._model(fit, task))
        model = self._model(fit, task, progress)
        model.figures.warn_of_masking()
        stage = self._part("label_vectors")
        if isinstance(stage, ClassifierStage):
            model = self._with_classifiers(fit, task, stage, model)
        return model.with_best_weight(fit.judges)

    def _task(self, fit: NeuralFit) -> DualEncoderTask:
        """Return what the first stage trains."""
        return DualEncoderTask(
            self._pool_settings(fit.data, self.n_epochs), **self._task_arguments(fit)
        )

    def _task_arguments(self, fit: NeuralFit) -> dict[str, Any]:
        """Return the encoder, both sides prepared, and what else the first stage needs."""
        data = fit.data
        encoder = fitted_encoder(self.encoder, fit)
        samples = encoder.prepare(data.X)
        joint, table = self._part("label_vectors"), None
        if isinstance(joint, JointVectors):  # they start at zero: text alone
            start = np.zeros((data.n_labels, encoder.dim_), dtype=np.float32)
            table = LabelVectors(start, dropout=joint.dropout)
        return {
            "encoder": encoder,
            "samples": samples,
            "labels": prepared_labels(encoder, samples, data),
            "table": table,
            "learning_rate": self.learning_rate,
            "micro_batch_size": fit.training.micro_batch_size,
            "precision": fit.training.precision,
            "y": data.y,
            "sample_weight": data.sample_weight,
            "device": fit.device,
            "held_out": watched(fit.held_out, encoder.prepare),
        }

    def _pool_settings(self, data: TrainingSet, n_epochs: int) -> PoolSettings:
        """Return how pools of labels are drawn and scored."""
        negatives = make_negatives(self.negatives)
        size = self._size_of_batches(data.n_samples)
        batches: Any = UniformBatches(data.n_samples, size)
        if negatives.clustered:
            every, growth = negatives.refresh_every, growth_epochs(n_epochs)
            batches = ClusteredBatches(data.n_samples, size, refresh_every=every, growth=growth)
        return PoolSettings(
            loss=make_loss(self.loss),
            negatives=negatives,
            batches=batches,
            search=search_once,
            **graph_settings(data, self._part("label_queries")),
            excluded=same_text_pairs(data.X, data.label_features, data.y),
        )

    def _model(
        self, fit: NeuralFit, task: DualEncoderTask, progress: Progress | None = None
    ) -> DualEncoderModel:
        """Return the model of the task's current weights."""
        votes, data, texts = self._part("votes"), fit.data, task.text_vectors()
        return DualEncoderModel(
            encoder=task.encoder,
            device=self.device,
            precision=fit.training.precision,
            texts=VectorSearch(texts),
            classifiers=None if task.table is None else VectorSearch(task.label_vectors(texts)),
            rows=None if votes is None else TrainingRows.of(task.sample_vectors(), data),
            votes=votes,
            index=self.index,
            figures=PoolFigures.of(task, progress or Progress()),
        )

    def _with_classifiers(
        self, fit: NeuralFit, task: DualEncoderTask, stage: ClassifierStage, model: DualEncoderModel
    ) -> DualEncoderModel:
        """Return the model with classifiers, trained from their labels' vectors on."""
        data = fit.data
        settings = self._pool_settings(data, max(stage.n_epochs, 1))
        texts = start = model.labels.vectors
        if settings.graph is not None:
            # SiameseXML: the average over the label and its graph neighbours.
            total = np.asarray(settings.graph.sum(axis=1)).ravel()
            share = sp.diags_array(1 / np.maximum(total, 1e-12)) @ settings.graph
            start = normalize_rows(texts + (share @ texts).astype(np.float32))
        classifier = ClassifierTask(
            settings,
            samples=task.sample_vectors(),
            texts=texts,
            start=start,
            y=data.y,
            sample_weight=data.sample_weight,
            device=fit.device,
            held_out=watched(fit.held_out, model.embed),
        )

        def with_classifiers() -> DualEncoderModel:
            return replace(model, classifiers=VectorSearch(classifier.label_vectors()))

        fit.run(classifier, stage.n_epochs, with_classifiers)
        return with_classifiers()

    def _current(self, model: DualEncoderModel) -> DualEncoderModel:
        votes, training = self._part("votes"), self._part("training")
        if votes is not None and model.rows is None:
            raise ValueError(
                "`votes` was False in fit, so no training row is kept that could vote, but is "
                f"{votes!r} now. Fit again."
            )
        return replace(
            model, votes=votes, index=self.index, device=self.device, precision=training.precision
        )
