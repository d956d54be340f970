"""LearnedIndexXC: an index from clusters to labels that is learned with the model (ELIAS).

The recipe is `_train`: cluster labels by their training rows; train encoder, clusters and label
classifiers on that tree; count which clusters the rows of a label visit, which makes a sparse
weighted graph from clusters to labels; train everything again with its edges. Prediction follows
the best clusters to a shortlist of labels and scores these with their classifiers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from skxc._params import NonNegativeFloat, PositiveInt, params
from skxc._training_set import TrainingSet
from skxc.base import of_model
from skxc.batching import UniformBatches
from skxc.encoders import EncoderLike, make_encoder
from skxc.estimators._encoding import watched
from skxc.estimators._learned_index.clusters import IndexClusters, clustered_labels, new_clusters
from skxc.estimators._learned_index.edges import Edges, TreeEdges
from skxc.estimators._learned_index.model import LearnedIndexModel
from skxc.estimators._learned_index.task import LabelClassifiers, LearnedIndexTask, new_classifiers
from skxc.estimators._neural import NeuralFit, NeuralXC
from skxc.indices import IndexSizes, index_sizes
from skxc.utils._random import stream
from skxc.utils._same_text import same_text_pairs


@params
class LearnedIndexXC(NeuralXC):
    """Two-level search, clusters then labels, whose cluster-label edges are learned (ELIAS).

    A tree fixes once and for all which cluster a label lives in. Here the assignment is a sparse
    weighted graph that is trained with encoder, clusters and label classifiers by the loss of the
    labels, so that a label can live in several clusters. A prediction follows `beam_width` clusters
    to a shortlist of labels, and evaluates the classifiers of these only. Label texts may be given.

    Parameters
    ----------
    encoder : "bag", str, Path or Encoder, default="bag"
        ``"bag"`` is `skxc.encoders.BagEncoder`, trained from scratch; another string is the name or
        folder of a transformer.
    clusters : IndexClusters or None, default=None
        Number and gain of the clusters, and the first stage, in which the edges are those of a
        tree. None: the defaults of `IndexClusters`.
    edges : Edges, False or None, default=None
        Number and gain of the edges. None: the defaults of `Edges`. False: the edges of the tree
        stay, for the epochs of both stages.
    classifiers : LabelClassifiers or None, default=None
        How label classifiers, and paths to labels, are trained. None: the defaults of
        `LabelClassifiers`.
    beam_width : int or None, default=None
        Clusters that a search follows; b in the paper. None: it scales with the number of labels,
        see `skxc.indices.index_sizes`. Can be changed after `fit`.
    shortlist_size : int or None, default=None
        Labels that a search scores with their classifiers; K in the paper. None: as for
        `beam_width`. Can be changed after `fit`.
    label_weight : float, default=0.3
        Weight of the rows that are made of the labels' own texts or features, one per label.
        Through them labels without training rows can be found. Needs `label_features`.
    n_epochs : int, default=9
        Epochs of the second stage, in which edges learn.
    graph : sparse matrix, LabelGraph, "cooccurrence" or None, default=None
        Graph over the labels: linked labels start in the same clusters. Used for nothing else.
    label_features : LabelTexts, sequence of str, matrix or None, default=None
        Texts or features of the labels, in the same form as the samples: further training rows,
        see `label_weight`. Similar labels start in the same clusters.

    Attributes
    ----------
    label_index_ : LabelIndex
        Clusters and edges: which labels live where. Other estimators can search with it, for
        example ``DualEncoderXC(index=model.label_index_)``.
    label_weights_ : ndarray of float32, shape (n_labels, d)
    label_bias_ : ndarray of float32, shape (n_labels,)
        The label classifiers.
    sizes_ : IndexSizes
        The sizes that None stands for.
    coverage_ : float
        Share of the labels with training rows, those of their own included, that an edge leads to.
    shortlist_recall_ : float
        Share of the positives of held-out rows (training rows, where there are none) that are in
        the shortlist.
    saturated_edges_ : float
        Share of edges at their cap.
    history_ : list of dict
        Of every epoch of both stages: loss; positives_in_beam, the share of positives whose
        heaviest cluster is among the best of the row; held_out, with early stopping.
    encoder_ : Encoder
        The trained encoder.
    n_iter_ : int
        Epochs that were trained, of both stages.
    model_ : LearnedIndexModel
    classes_, n_labels_, label_names_, label_frequency_, n_samples_fit_, calibrator_
    vectorizer_, n_features_in_
        As in every estimator.

    Warns
    -----
    UserWarning
        Labels cannot be reached, or most edges are at their cap.

    See Also
    --------
    skxc.LinearTreeXC : A fixed tree of linear classifiers.
    skxc.FusionXC : Joins both, as ELIAS++ does.

    Notes
    -----
    Without `label_features`, labels without training rows cannot be predicted.

    References
    ----------
    Gupta et al., "ELIAS: End-to-end Learning to Index and Search in Large Output Spaces",
    NeurIPS 2022.

    Examples
    --------
    >>> from skxc.datasets import make_planted_xc
    >>> data = make_planted_xc(n_samples=200, n_labels=30, random_state=0)
    >>> model = LearnedIndexXC(n_epochs=2, random_state=0).set_params(clusters__n_epochs=2)
    >>> model = model.fit(data.train_texts, data.train_labels)
    >>> model.coverage_
    1.0
    >>> model.predict_topk(data.test_texts[:3], k=2)[0].shape
    (3, 2)
    """

    encoder: EncoderLike = "bag"
    clusters: IndexClusters | None = None
    edges: Edges | Literal[False] | None = None
    classifiers: LabelClassifiers | None = None
    beam_width: PositiveInt | None = None
    shortlist_size: PositiveInt | None = None
    label_weight: NonNegativeFloat = 0.3
    n_epochs: PositiveInt = 9

    _named_graphs: ClassVar[tuple[str, ...]] = ("cooccurrence",)
    _search_parameters: ClassVar[tuple[str, ...]] = ("beam_width", "shortlist_size")
    # Clusters and edges are learned from nothing: a dozen large steps an epoch teach them little.
    _fewest_steps: ClassVar[int] = 100

    label_index_ = of_model("index", "Clusters and edges.")
    label_weights_ = of_model("label_weights", "The label classifiers, shape (n_labels, d).")
    label_bias_ = of_model("label_bias", "Biases of the label classifiers, shape (n_labels,).")
    sizes_ = of_model("sizes", "The sizes that None stands for.")
    coverage_ = of_model("figures.coverage", "Share of trained labels that an edge leads to.")
    shortlist_recall_ = of_model("figures.shortlist_recall", "Positives inside the shortlist.")
    saturated_edges_ = of_model("figures.saturated_edges", "Share of edges at their cap.")
    history_ = of_model("figures.history", "Records of the epochs of both stages.")
    encoder_ = of_model("encoder", "The trained encoder.")

    @property
    def n_iter_(self) -> int:
        """Epochs that were trained, of both stages."""
        return len(self.history_)

    def _check(self, data: TrainingSet) -> None:
        n_clusters = self._part("clusters").n_clusters
        if n_clusters is not None and n_clusters & (n_clusters - 1):
            raise ValueError(
                "`n_clusters` of IndexClusters must be a power of two, since clusters come from "
                f"halving the labels, but is {n_clusters}. "
                f"Pass {1 << (n_clusters.bit_length() - 1)}."
            )
        if self._part("training").micro_batch_size is not None:
            raise ValueError(
                "`micro_batch_size` of Training must be None for LearnedIndexXC, whose steps have "
                "no pool to cache gradients of. Lower `batch_size` to save memory."
            )

    def _train(self, fit: NeuralFit) -> LearnedIndexModel:
        data, clusters, edges = fit.data, self._part("clusters"), self._part("edges")
        if data.label_features is not None and self.label_weight:
            data = data.with_label_rows(self.label_weight)
        sizes = self._sizes(data)
        shared = self._task_arguments(fit, data, sizes)
        rng = stream(fit.seed, "tree")
        tree = TreeEdges(clustered_labels(data, sizes.n_clusters, clusters.graph_weight, rng))
        task = LearnedIndexTask("tree", tree, **shared)
        n_epochs = clusters.n_epochs if edges is not None else clusters.n_epochs + self.n_epochs
        history = fit.run(task, n_epochs, lambda: self._model(task, data)).history
        if edges is not None:
            task = LearnedIndexTask(
                "index", task.visited_edges(), fine_tuning=edges.fine_tuning, **shared
            )
            history += fit.run(task, self.n_epochs, lambda: self._model(task, data)).history
        model = self._model(task, data, history)
        model = model.with_recall(fit.data if fit.held_out is None else fit.held_out)
        if not fit.is_trial:
            model.warn_of_silent_failures()
        return model

    def _model(
        self, task: LearnedIndexTask, data: TrainingSet, history: Any = ()
    ) -> LearnedIndexModel:
        """Return the model of the task's present weights."""
        return LearnedIndexModel.of(task, data.label_names, list(history), self.device)

    def _sizes(self, data: TrainingSet) -> IndexSizes:
        clusters, edges = self._part("clusters"), self._part("edges") or Edges()
        return index_sizes(
            len(np.unique(data.y.indices)),
            self.top_k,
            n_clusters=clusters.n_clusters,
            edges_per_cluster=edges.edges_per_cluster,
            alpha=clusters.alpha,
            beta=edges.beta,
            beam_width=self.beam_width,
            shortlist_size=self.shortlist_size,
        )

    def _task_arguments(
        self, fit: NeuralFit, data: TrainingSet, sizes: IndexSizes
    ) -> dict[str, Any]:
        """Return what both stages train, and on what rows."""
        seed = fit.seed
        sides = [data.X] if data.label_features is None else [data.X, data.label_features]
        encoder = make_encoder(self.encoder).fit(*sides, seed=seed).to(fit.device)
        dim = encoder.dim_
        return {
            "sizes": sizes,
            "settings": self._part("classifiers"),
            "encoder": encoder,
            "samples": encoder.prepare(data.X),
            "y": data.y,
            "excluded": same_text_pairs(data.X, data.label_features, data.y),
            "sample_weight": data.sample_weight,
            "clusters": new_clusters(dim, sizes.n_clusters, stream(seed, "tree", "clusters")),
            "table": new_classifiers(dim, data.n_labels, stream(seed, "tree", "labels")),
            "batches": UniformBatches(data.n_samples, self._size_of_batches(fit.data.n_samples)),
            "device": fit.device,
            "learning_rate": self.learning_rate,
            "cluster_rate": self._part("clusters").learning_rate,
            "precision": fit.training.precision,
            "held_out": watched(fit.held_out, encoder.prepare),
        }

    def _current(self, model: LearnedIndexModel) -> LearnedIndexModel:
        sizes = model.sizes
        index = replace(
            model.index,
            beam_width=self.beam_width or sizes.beam_width,
            shortlist_size=self.shortlist_size or sizes.shortlist_size,
        )
        precision = self._part("training").precision
        return replace(model, index=index, device=self.device, precision=precision)
