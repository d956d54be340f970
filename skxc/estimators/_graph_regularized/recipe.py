"""GraphRegularizedXC: metadata graphs help to train the encoder, and prediction needs text only.

The recipe is `_task`: the encoder learns which anchors samples and labels have, and what follows is
`DualEncoderXC`; or the task has a loss per graph and side beside its own.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from skxc._label_side import SampleGraphMixin
from skxc._params import params
from skxc._training_set import TrainingSet
from skxc.base import of_model
from skxc.estimators._dual_encoder import DualEncoderXC
from skxc.estimators._dual_encoder.model import DualEncoderModel
from skxc.estimators._graph_regularized.edges import (
    check_beside,
    check_columns,
    check_weights,
    graph_terms,
    warn_of_what_cannot_act,
)
from skxc.estimators._graph_regularized.figures import GraphFigures
from skxc.estimators._graph_regularized.first import AnchorTask
from skxc.estimators._graph_regularized.terms import (
    GraphRegularizedTask,
    GraphTerms,
    make_weights,
)
from skxc.estimators._neural import NeuralFit
from skxc.labels import AnchorGraph
from skxc.losses import make_loss
from skxc.training import LabelQueries, Progress


@params
class GraphRegularizedXC(SampleGraphMixin, DualEncoderXC):
    """Dual encoder that metadata graphs teach before its task, or beside it (RAMEN).

    Metadata nodes (tags, categories, linked pages) that samples and labels share are *anchors*. The
    encoder first learns to find the anchors of samples and labels by their texts, and then does
    what `DualEncoderXC` does. Prediction is that of `DualEncoderXC`: text only, with the same
    parameters and the same cost.

    The paper trains beside the task instead; `skxc.presets.ramen` has its settings.

    Parameters
    ----------
    terms : GraphTerms or None, default=None
        When and how graphs take part: schedule, epochs, loss, weights, walk and pruning. None: the
        defaults of `GraphTerms`.
    graph : AnchorGraph, LabelGraph, sparse matrix, "cooccurrence" or None, default=None
        Edges from labels to anchors and the texts of the anchors; or edges between labels, whose
        anchors are the labels. Used in training only and not kept.

    Attributes
    ----------
    loss_history_ : dict of str to ndarray, shape (n_epochs,)
        Mean loss of the "task", of the "graph" before it, and of every term beside it.
    graph_weights_ : dict of str to ndarray, shape (n_steps,)
        "epoch" of every step of the task, and the weight of every term beside it, such as
        "tag (samples)".
    edge_survival_ : dict of str to ndarray, shape (n_prunings,)
        "epoch" of every pruning, and the share of its edges that every term keeps.
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
    >>> {name: len(losses) for name, losses in model.loss_history_.items()}
    {'task': 5, 'graph': 8}
    """

    terms: GraphTerms | None = None

    graph_weights_ = of_model("figures.weights", "Weight of every term at every step.")
    edge_survival_ = of_model("figures.survival", "Edges that every term kept at every pruning.")
    loss_history_ = of_model("figures.losses", "Mean loss of the task and of every term.")

    def _check(self, data: TrainingSet) -> None:
        super()._check(data)
        terms = self._part("terms")
        check_columns(data)
        check_beside(terms)
        check_weights(terms.weights, data)
        if isinstance(data.graph, AnchorGraph) and isinstance(self.label_queries, LabelQueries):
            raise ValueError(
                "`label_queries` needs a graph between labels, but `graph` is an AnchorGraph with "
                "texts. Pass label_queries=None, or a LabelGraph."
            )
        warn_of_what_cannot_act(data, terms, self.n_epochs)

    def _task(self, fit: NeuralFit) -> GraphRegularizedTask:
        """Return what the task trains; with "first", the graph has taught its encoder already."""
        options, data = self._part("terms"), fit.data
        arguments = self._task_arguments(fit)
        # Words of anchors do not teach the vocabulary: it is the base's, whatever the graph.
        anchors = arguments["labels"]
        if isinstance(data.graph, AnchorGraph):
            anchors = arguments["encoder"].prepare(data.graph.texts)
        found, first = graph_terms(data, options), options.schedule == "first"
        terms, settings = [] if first else found, self._pool_settings(data, self.n_epochs)
        n_steps = self.n_epochs * math.ceil(data.n_samples / settings.batches.batch_size)
        task = GraphRegularizedTask(
            settings,
            options,
            terms=terms,
            weights=make_weights(options, terms, fit.seed, n_steps),
            anchors=anchors,
            n_epochs=self.n_epochs,
            seed=fit.seed,
            **arguments,
        )
        if first and found:
            teacher = AnchorTask(
                task,
                anchors=anchors,
                terms=found,
                loss=make_loss(options.loss),
                size_of_batches=self._size_of_batches,
            )
            progress = fit.run(teacher, options.n_epochs, lambda: self._model(fit, task))
            task.figures.first = [record["loss"] for record in progress.history]
        return task

    def _model(
        self, fit: NeuralFit, task: Any, progress: Progress | None = None
    ) -> DualEncoderModel:
        model = super()._model(fit, task, progress)
        tables = task.figures.tables([term.name for term in task.terms])
        return replace(model, figures=GraphFigures(**model.figures.__getstate__(), **tables))
