"""GraphRegularizedXC: metadata graphs help to train the encoder, and prediction needs text only.

The recipe is `_task`: the dual encoder's first stage, with a term per graph and side that draws
samples and labels to the texts of their graph neighbours. The rest is `DualEncoderXC`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from skxc._label_side import SampleGraphMixin
from skxc._params import params
from skxc._training_set import TrainingSet
from skxc.base import of_model
from skxc.estimators._dual_encoder import DualEncoderXC
from skxc.estimators._dual_encoder.classifier import LabelVectorsLike
from skxc.estimators._dual_encoder.model import DualEncoderModel
from skxc.estimators._graph_regularized.edges import (
    check_columns,
    check_weights,
    graph_terms,
    warn_of_what_cannot_act,
)
from skxc.estimators._graph_regularized.figures import GraphFigures
from skxc.estimators._graph_regularized.terms import (
    GraphRegularizedTask,
    GraphTerms,
    make_weights,
)
from skxc.estimators._neural import NeuralFit
from skxc.labels import AnchorGraph
from skxc.training import LabelQueries, Progress


@params
class GraphRegularizedXC(SampleGraphMixin, DualEncoderXC):
    """Dual encoder that metadata graphs regularise while it trains (RAMEN).

    Metadata nodes (tags, categories, linked pages) that samples and labels share are *anchors*.
    While the encoder trains, extra losses pull samples and labels towards the texts of their
    anchors and away from other anchors of the batch, one loss per graph and side. Prediction is
    that of `DualEncoderXC`: text only, with the same parameters and the same cost.

    The paper's model has ``loss="triplet"``, ``negatives="clustered"`` (NGAME) or ``"mined"``
    (ANCE), ``label_vectors=False``, ``votes=False``, and terms of a triplet loss with a walk.

    Parameters
    ----------
    terms : GraphTerms or None, default=None
        The extra losses: their loss, weights, schedule, walk and pruning. None: the defaults of
        `GraphTerms`.
    label_vectors : "joint", "stage", JointVectors, ClassifierStage or False, default="stage"
        As in `DualEncoderXC`. "stage": classifiers are trained after the encoder, on its frozen
        embeddings and without the terms. False: the encoder alone, which is the paper's model.
    label_queries : LabelQueries, False or None, default=False
        What a graph changes about pools of labels. With a graph between labels it can be used
        beside the terms.
    graph : AnchorGraph, LabelGraph, sparse matrix, "cooccurrence" or None, default=None
        Edges from labels to anchors and the texts of the anchors; or edges between labels, whose
        anchors are the labels. Used in training only and not kept.

    Attributes
    ----------
    graph_weights_ : dict of str to ndarray, shape (n_steps,)
        "epoch" of every training step, and the weight of every term, such as "tag (samples)".
    edge_survival_ : dict of str to ndarray, shape (n_prunings,)
        "epoch" of every pruning, and the share of its edges that every term keeps.
    loss_history_ : dict of str to ndarray, shape (n_epochs,)
        Mean loss of the "task" and of every term.
    encoder_, label_embeddings_, classifier_weights_, sample_embeddings_, vote_weight_, history_
    n_iter_, n_refreshes_, pool_size_, positives_per_query_in_pool_, masked_fraction_
        As in `DualEncoderXC`.
    model_, classes_, n_labels_, label_names_, label_frequency_, n_samples_fit_, calibrator_
    vectorizer_, n_features_in_
        As in every estimator.

    References
    ----------
    Graph Regularized Encoder Training for Extreme Classification (RAMEN), arXiv 2402.18434.

    Examples
    --------
    >>> from skxc import GraphRegularizedXC
    >>> from skxc.datasets import make_planted_xc
    >>> data = make_planted_xc(n_samples=200, n_labels=30, random_state=0)
    >>> graph, sample_graph = data.anchor_graph("topic")
    >>> model = GraphRegularizedXC(n_epochs=5, random_state=0)
    >>> model = model.fit(
    ...     data.train_texts,
    ...     data.train_labels,
    ...     graph=graph,
    ...     sample_graph=sample_graph,
    ...     label_features=data.label_texts,
    ... )
    >>> sorted(model.graph_weights_)
    ['epoch', 'topic (labels)', 'topic (samples)']
    """

    terms: GraphTerms | None = None
    label_vectors: LabelVectorsLike = "stage"
    label_queries: LabelQueries | Literal[False] | None = False

    graph_weights_ = of_model("figures.weights", "Weight of every term at every step.")
    edge_survival_ = of_model("figures.survival", "Edges that every term kept at every pruning.")
    loss_history_ = of_model("figures.losses", "Mean loss of the task and of every term.")

    def _check(self, data: TrainingSet) -> None:
        super()._check(data)
        terms = self._part("terms")
        check_columns(data)
        check_weights(terms.weights, data)
        if isinstance(data.graph, AnchorGraph) and self._part("label_queries") is not None:
            raise ValueError(
                "`label_queries` needs a graph between labels, but `graph` is an AnchorGraph with "
                "texts. Pass label_queries=False, or a LabelGraph."
            )
        warn_of_what_cannot_act(data, terms, self.n_epochs)

    def _task(self, fit: NeuralFit) -> GraphRegularizedTask:
        """Return what the first stage trains: encoder and label texts, with a term per graph."""
        options, data = self._part("terms"), fit.data
        arguments = self._task_arguments(fit)
        terms = graph_terms(data, options)
        # Words of anchors do not teach the vocabulary: it is the base's, whatever the graph.
        anchors = arguments["labels"]
        if isinstance(data.graph, AnchorGraph):
            anchors = arguments["encoder"].prepare(data.graph.texts)
        return GraphRegularizedTask(
            self._pool_settings(data, self.n_epochs),
            options,
            terms=terms,
            weights=make_weights(options, terms, fit.seed),
            anchors=anchors,
            n_epochs=self.n_epochs,
            seed=fit.seed,
            **arguments,
        )

    def _model(
        self, fit: NeuralFit, task: Any, progress: Progress | None = None
    ) -> DualEncoderModel:
        model = super()._model(fit, task, progress)
        tables = task.figures.tables([term.name for term in task.terms])
        return replace(model, figures=GraphFigures(**model.figures.__getstate__(), **tables))
