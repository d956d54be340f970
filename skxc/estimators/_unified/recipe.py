"""UnifiedXC: a dual encoder and a classifier trained together over picked labels (UniDEC).

The recipe is `_train`: prepare texts once; give the encoder two heads and every label a vector;
train all of them on pools of labels, mined anew every few epochs; keep the label vectors of both
heads; learn on held-out rows what the heads weigh. Prediction is one search over the two.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import scipy.sparse as sp

from skxc._label_side import NewLabelsMixin
from skxc._params import params
from skxc._training_set import TrainingSet
from skxc.base import of_model
from skxc.encoders import EncoderLike
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
from skxc.estimators._unified.heads import HeadsModule, TwoHeads, scoring_head, trained_heads
from skxc.estimators._unified.model import USUAL_WEIGHTS, HeadVectors, UnifiedModel
from skxc.estimators._unified.pool import LabelPool, batches_of, negatives_of, pool_report
from skxc.estimators._unified.task import LabelTable, UnifiedLoss, UnifiedTask, new_vectors
from skxc.exceptions import LabelTextWarning
from skxc.indices import IndexLike
from skxc.training import LabelQueries, PoolSettings, Progress
from skxc.utils._same_text import same_text_pairs


@params
class UnifiedXC(PoolFiguresMixin, NewLabelsMixin, NeuralXC):
    """Dual encoder and classifier trained together over picked labels (UniDEC).

    One encoder has two heads: one compares samples with label texts, the other with a free vector
    per label. Both train in the same steps, on one pool of labels per batch that holds several
    positives of every sample and the labels that the current model confuses with them. A step costs
    the same for a thousand labels and for a million. A label's score is a weighted sum of both
    cosines; new labels can be added by their text.

    Parameters
    ----------
    encoder : "bag", str, Path or Encoder, default="bag"
        ``"bag"`` is `skxc.encoders.BagEncoder`, trained from scratch; another string is the name or
        folder of a transformer. Set ``encoder__dim`` and the like through `set_params`.
    loss : {"decoupled", "softmax", "balanced"} or Loss, default="decoupled"
        Loss of both heads, averaged over the positives of a row in the pool. A name stands for a
        temperature of 1/18; set another one with ``loss__temperature``.
    pool : LabelPool or None, default=None
        The labels that a batch is scored against. None: the defaults of `LabelPool`.
    heads : TwoHeads or None, default=None
        What each head weighs in training, how wide it is, and which one scores. None: the defaults
        of `TwoHeads`. ``heads__prediction`` may be changed after `fit`.
    label_table : LabelTable or None, default=None
        How the label vectors of the classifier are trained. None: the defaults of `LabelTable`.
    fusion : {"learned", "sum"}, default="learned"
        How both heads score together; may be changed after `fit`. "learned": the classifier's
        cosine, plus u times the dual encoder's, plus v * temperature * log(1 + training rows of the
        label). u and v are as close to 0.5 and 0.4 as the noise of the held-out rows allows to the
        pair of the best nDCG@5 + PSnDCG@5 there. "sum" is UniDEC's way, u = 1 and v = 0.
    label_queries : LabelQueries, False or None, default=None
        What a graph changes about training; the classifier also has a label text's own label as a
        positive. None: the defaults of `skxc.training.LabelQueries`; False: nothing.
    index : {"auto", "exact", "hnsw", "ivf"} or Index, default="auto"
        How label vectors are searched; "auto" is exact up to two million.
    graph : sparse matrix, LabelGraph, "cooccurrence" or None, default=None
        Graph over the labels, used in training only. "cooccurrence" builds it from the training
        labels.
    label_features : LabelTexts, sequence of str, matrix or None, default=None
        Texts or features of the labels, in the same form as the samples. None: a label is the
        average of its training rows, with a warning; rows that are texts need them.

    Attributes
    ----------
    encoder_ : Encoder
        The trained encoder.
    heads_, trained_heads_ : dict of str to ndarray, and "both", "dual_encoder" or "classifier"
        Weights of the two heads, and which of them were trained.
    label_vectors_ : ndarray of float32, shape (n_labels, 2 * dim + 1)
        The next two side by side, and temperature * log(1 + training rows); one of them and no more
        where one head was trained.
    label_embeddings_, classifier_weights_ : ndarray of float32, shape (n_labels, dim), or None
        Unit vectors of the label texts by the dual encoder's head, and those of the classifier.
    fusion_weights_ : ndarray of float, shape (2,)
        u and v of ``fusion="learned"``.
    pool_report_ : dict of str to float
        "pool_size", "positives_per_query", "masked_fraction" and "mined_share" (labels of the pool
        that are positives of no row): means over all steps. "n_refreshes", and "empty_lists": the
        share of rows for which the last mining found nothing. They expose most silent failures.
    history_, n_iter_, n_refreshes_, pool_size_, positives_per_query_in_pool_, masked_fraction_
        As in `DualEncoderXC`; what follows, as in every estimator.
    model_, classes_, n_labels_, label_names_, label_frequency_, n_samples_fit_, calibrator_
    vectorizer_, n_features_in_

    References
    ----------
    Kharbanda et al., "UniDEC: Unified Dual Encoder and Classifier Training for Extreme Multi-Label
    Classification", WWW 2025 (arXiv 2405.03714); Gandalf (arXiv 2405.04545) for label texts as
    queries; Yi et al., RecSys 2019, for what drawing negatives by frequency does to scores.

    Examples
    --------
    >>> from skxc import UnifiedXC
    >>> from skxc.datasets import make_planted_xc
    >>> data = make_planted_xc(n_samples=200, n_labels=30, random_state=0)
    >>> model = UnifiedXC(n_epochs=5, random_state=0)
    >>> model = model.fit(data.train_texts, data.train_labels, label_features=data.label_texts)
    >>> model.predict_topk(data.test_texts[:3], k=2)[0].shape
    (3, 2)
    """

    encoder: EncoderLike = "bag"
    loss: UnifiedLoss = "decoupled"
    pool: LabelPool | None = None
    heads: TwoHeads | None = None
    label_table: LabelTable | None = None
    fusion: Literal["learned", "sum"] = "learned"
    label_queries: LabelQueries | Literal[False] | None = None
    index: IndexLike = "auto"

    _named_graphs: ClassVar[tuple[str, ...]] = ("cooccurrence",)
    _search_parameters: ClassVar[tuple[str, ...]] = ("heads__prediction", "fusion")

    encoder_ = of_model("encoder", "The trained encoder.")
    heads_ = of_model("heads", "Weights of the two heads.")
    trained_heads_ = of_model("labels.trained", "Heads that were trained.")
    label_vectors_ = of_model("labels.matrix", "Label vectors of the trained heads.")
    label_embeddings_ = of_model("labels.texts", "Unit vectors of the label texts.")
    classifier_weights_ = of_model("labels.classifiers", "Unit vectors of the classifier.")
    fusion_weights_ = of_model("fusion_weights", "Learned weights of text and frequency.")
    pool_report_ = of_model("pool_report", "What the pools of labels were like.")

    def _check(self, data: TrainingSet) -> None:
        heads = self._part("heads")
        scoring_head(heads.prediction, trained_heads(heads.weight))
        if data.label_features is not None:
            return
        others = "LearnedIndexXC and LinearTreeXC need none."
        if not sp.issparse(data.X):
            raise ValueError(
                "`label_features` must hold one text per label because `X` holds texts, but is "
                f"None. Pass the texts of the labels; {others}"
            )
        warnings.warn(
            "`label_features` is None, so labels are averages of their training rows and this is "
            f"no longer UniDEC. Pass one text or feature row per label; {others}",
            LabelTextWarning,
            stacklevel=2,
        )

    def _train(self, fit: NeuralFit) -> UnifiedModel:
        # What was trained, the largest part of the memory, is gone while weights are tried.
        model = self._trained(fit)
        if not fit.is_trial:
            model.figures.warn_of_masking()
        return model.with_best_weights(fit.judges)

    def _trained(self, fit: NeuralFit) -> UnifiedModel:
        task = self._task(fit)
        progress = fit.run(task, self.n_epochs, lambda: self._model(fit, task, Progress()))
        return self._model(fit, task, progress)

    def _task(self, fit: NeuralFit) -> UnifiedTask:
        """Return what is trained: encoder, heads and label vectors, on pools."""
        data, training, heads = fit.data, fit.training, self._part("heads")
        encoder = fitted_encoder(self.encoder, fit)
        samples = encoder.prepare(data.X)
        labels = prepared_labels(encoder, samples, data)
        module = HeadsModule.fresh(encoder.dim_, heads.dim, fit.seed).to(fit.device)
        table = self._part("label_table")
        return UnifiedTask(
            self._pool_settings(data),
            encoder=encoder,
            samples=samples,
            labels=labels,
            heads=module,
            table=new_vectors(table, encoder, module, samples, labels, fit),
            head_weight=heads.weight,
            symmetric=heads.symmetric,
            unit_classifier=table.similarity == "cosine",
            learning_rate=self.learning_rate,
            micro_batch_size=training.micro_batch_size,
            precision=training.precision,
            y=data.y,
            sample_weight=data.sample_weight,
            device=fit.device,
            held_out=watched(fit.held_out, encoder.prepare),
        )

    def _pool_settings(self, data: TrainingSet) -> PoolSettings:
        """Return how pools of labels are drawn and scored."""
        pool, size = self._part("pool"), self._size_of_batches(data.n_samples)
        return PoolSettings(
            loss=self._part("loss"),
            negatives=negatives_of(pool, data.n_labels, size),
            batches=batches_of(pool, data.n_samples, size),
            search=search_once,
            **graph_settings(data, self._part("label_queries")),
            excluded=same_text_pairs(data.X, data.label_features, data.y),
        )

    def _model(self, fit: NeuralFit, task: UnifiedTask, progress: Progress) -> UnifiedModel:
        """Return the model of the task's current weights."""
        heads, table = self._part("heads"), self._part("label_table")
        vectors = task.kept_vectors(fit.data.label_frequency, toward_texts=table.start != "random")
        figures = PoolFigures.of(task, progress)
        return UnifiedModel(
            encoder=task.encoder,
            device=self.device,
            precision=fit.training.precision,
            heads=task.heads.to_arrays(),
            labels=HeadVectors(vectors, trained_heads(heads.weight)),
            fusion_weights=np.array(USUAL_WEIGHTS),
            temperature=task.temperature,
            prediction=heads.prediction,
            fusion=self.fusion,
            index=self.index,
            figures=figures,
            pool_report=pool_report(task, figures),
        )

    def _current(self, model: UnifiedModel) -> UnifiedModel:
        return replace(
            model,
            prediction=self._part("heads").prediction,
            fusion=self.fusion,
            index=self.index,
            device=self.device,
            precision=self._part("training").precision,
        )

    def _search_settings(self) -> str:
        return repr([self._part("heads").prediction, self.fusion])
