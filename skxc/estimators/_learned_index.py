"""LearnedIndexXC: an index from clusters to labels that is learned with the model (ELIAS).

The recipe is `_fit`: cluster labels by their training rows; train encoder, clusters and label
classifiers on that tree; count which clusters the rows of a label visit, which makes a sparse
weighted graph from clusters to labels; train everything again with its edges. Prediction follows
the best clusters to a shortlist of labels and scores these with their classifiers.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skxc.base import Features, TrainingSet
from skxc.batching import UniformBatches
from skxc.clustering import balanced_kmeans
from skxc.encoders import Encoder, make_encoder
from skxc.estimators._encoder_base import label_graph
from skxc.estimators._neural import BLOCK_ROWS, NeuralBase, Run, without_own
from skxc.fusion import RerankFusion, score_candidates, takes
from skxc.indices import IndexSizes, LabelIndex, counted_edges, index_sizes, tree_edges
from skxc.linear import label_vectors, unit_rows
from skxc.utils._random import stream
from skxc.utils._sparse import TopK, pack_topk, rank_rows, row_ids

if TYPE_CHECKING:
    from typing_extensions import Self

    from skxc.training import (
        LabelVectors,
        LearnedEdges,
        LearnedIndexSettings,
        LearnedIndexTask,
        TreeEdges,
    )

# Added to counts before their logarithm: what an edge without any count starts from.
COUNT_FLOOR = 1e-2
# Share of edges at their cap that deserves a warning.
LARGE_SATURATED_SHARE = 0.5


class LearnedIndexXC(NeuralBase):
    """Two-level search, clusters then labels, whose cluster-label edges are learned (ELIAS).

    A tree fixes once and for all which cluster a label lives in. Here the assignment is a sparse
    weighted graph that is trained with encoder, clusters and label classifiers by the loss of the
    labels, so that a label can live in several clusters. A prediction follows `beam_width` clusters
    to a shortlist of labels, and evaluates the classifiers of these only. No label text is needed.

    Parameters
    ----------
    encoder : "bag", str, Path or Encoder, default="bag"
        ``"bag"`` is `skxc.encoders.BagEncoder`, trained from scratch; another string is the name or
        folder of a transformer.
    n_clusters : int or None, default=None
        Clusters, a power of two; C in the paper. For this and the next five parameters None means:
        scale with the number of labels, see `skxc.indices.index_sizes`.
    edges_per_cluster : int or None, default=None
        Largest number of labels of a cluster; kappa in the paper.
    alpha : float or None, default=None
        Gain of the softmax over clusters: about how many can be fully on for one input.
    beta : float or None, default=None
        Gain of the softmax over the edges of a cluster: about how many labels it can hold at full
        weight.
    beam_width : int or None, default=None
        Clusters that a search follows; b in the paper. Can be changed after `fit`.
    shortlist_size : int or None, default=None
        Labels that a search scores with their classifiers; K in the paper. Can be changed after
        `fit`.
    n_scored : int or None, default=300
        Labels per row whose classifiers a training step touches: the positives that the beam
        reaches, and a sample of the others in proportion to their path scores. None: the whole
        shortlist, as published.
    edge_init : {"counts", "shares", "random"}, default="counts"
        What edges start from: how often the rows of a label visit the cluster ("counts"), the same
        as a share of the label's visits ("shares"), or U(0, 1), as published ("random").
    edge_cap : {"soft", "clamp"}, default="soft"
        How weights are kept below 1: ``1 - exp(-x)``, or ``min(1, x)``, as published, which stops
        an edge from learning.
    keep_tree_edges : bool, default=True
        Whether every label keeps an edge from its cluster in the tree, so that all can be reached.
        False: the heaviest edges only, as published.
    path_loss_weight : float, default=0.05
        Weight of the term that pulls up the paths to the positives; lambda in the paper. Without
        it positives outside the shortlist teach nothing.
    restart_classifiers : bool, default=False
        Whether label classifiers start again when the edges start to learn, as published.
    recluster_epochs : int, default=0
        If positive, the tree is first trained for so many epochs, and labels are then clustered
        again by embeddings and features together.
    tree_epochs : int, default=1
        Epochs of the first stage, with the edges of the tree.
    n_epochs : int, default=9
        Epochs of the second stage, in which edges learn; 0 leaves the tree as it is.
    averaged_epochs : int, default=1
        Weights are the mean of those after the last so many epochs of a stage (SWA); 1: the last.
    dropout : float, default=0.3
        Share of an embedding's components that is zeroed at each training step.
    learning_rate : float or None, default=None
        Of the encoder; None: the encoder's own.
    cluster_learning_rate : float, default=5e-3
    label_learning_rate : float, default=5e-3
        Of label classifiers and edges.
    fine_tuning : float, default=1.0
        Factor of the rates of encoder and clusters in the second stage.
    sparse_ranker : estimator or None, default=None
        Re-ranks the `top_k` best labels by linear models on [embedding | sparse features], for
        example ``skxc.linear.SparseRanker()`` (ELIAS++). It has ``fit(features, y)`` and
        ``decision_function(features)``, both with a keyword ``candidates`` if it can make use of
        it; its ``fit`` gets ``label_features`` too if it takes them. Its scores are joined with the
        model's by a rule fitted on held-out rows (see `skxc.fusion.RerankFusion`).
    embedding_weight : float, default=0.2
        Length of the embedding in what the sparse ranker sees, beside sparse features of length
        one; 1 as published. The embeddings of training rows fit their labels better than new ones
        do, and a ranker that relies on them learns little else.
    graph_weight : float, default=0.5
        With a graph: weight of the mean of a label's neighbours against its own vector, when labels
        are clustered.
    batch_size : int or "auto", default="auto"
        Rows per step.
    max_grad_norm : float or None, default=None
        Bound on the norm of all gradients of a step.
    precision : {"auto", "bfloat16", "float32"}, default="auto"
        Number format of transformers.
    early_stopping : bool, default=False
        Whether to watch precision@1 on held-out training rows in each stage, stop when it has not
        risen for `n_iter_no_change` epochs, and keep the best epoch.
    n_iter_no_change : int, default=3
    warm_start : bool, default=False
        Whether `fit` goes on from the encoder of the previous fit; index and classifiers are new.
    checkpoint_dir : str, Path or None, default=None
        Folder for a checkpoint after every epoch; see `skxc.DualEncoderXC`.
    top_k : int, default=100
        Number of labels that are retrieved per row.
    threshold : float, default=0.5
        Smallest probability of a predicted label.
    graph : sparse matrix, LabelGraph, "cooccurrence" or None, default=None
        Graph over the labels: linked labels start in the same clusters. Used for nothing else.
    label_features : LabelTexts, sequence of str, matrix or None, default=None
        Texts or features of the labels, in the same form as the samples: similar labels start in
        the same clusters, and their words join the vocabulary. A sparse ranker may learn from them;
        nothing else does.
    vectorizer : transformer or None, default=None
        Turns texts into features for the bag encoder; None leaves texts to the encoder.
    device : str, default="auto"
    random_state : int, RandomState instance or None, default=None
    n_jobs : int or None, default=None
        Threads that torch uses in `fit`; None: torch's own number.
    verbose : int, default=0

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
        Share of the labels with training rows that an edge leads to.
    shortlist_recall_ : float
        Share of the positives of held-out rows (training rows, where there are none) that are in
        the shortlist.
    saturated_edges_ : float
        Share of edges at their cap.
    history_ : list of dict
        Of every epoch of both stages: loss; positives_in_beam, the share of positives whose
        heaviest cluster is among the best of the row; held_out, with early stopping.
    encoder_ : Encoder
    ranker_ : estimator
        The fitted sparse ranker.
    fusion_ : RerankFusion
        What joins its scores with the model's.
    trained_frequency_ : ndarray of shape (n_labels,)
        Weighted rows of every label without the held-out ones: what `fusion_` knows of labels.
    n_iter_ : int
        Number of epochs.
    classes_ : ndarray of shape (n_labels,)
    n_labels_ : int
    label_names_ : list of str or None
    label_frequency_ : ndarray of shape (n_labels,)
    n_samples_fit_ : int or float
    calibrator_ : TopKCalibrator

    Warns
    -----
    UserWarning
        Labels cannot be reached, or most edges are at their cap.

    See Also
    --------
    skxc.LinearTreeXC : A fixed tree of linear classifiers.
    skxc.DualEncoderXC : Finds labels by their texts too.

    Notes
    -----
    Labels without training rows are not in the index and cannot be predicted.

    References
    ----------
    Gupta et al., "ELIAS: End-to-end Learning to Index and Search in Large Output Spaces",
    NeurIPS 2022.

    Examples
    --------
    >>> from skxc.datasets import make_planted_xc
    >>> data = make_planted_xc(n_samples=200, n_labels=30, random_state=0)
    >>> model = LearnedIndexXC(tree_epochs=2, n_epochs=2, random_state=0)
    >>> model = model.fit(data.train_texts, data.train_labels)
    >>> model.coverage_
    1.0
    >>> model.predict_topk(data.test_texts[:3], k=2)[0].shape
    (3, 2)
    """

    _named_graphs: ClassVar[tuple[str, ...]] = ("cooccurrence",)
    # Clusters and edges are learned from nothing: a dozen large steps an epoch teach them little.
    _fewest_steps: ClassVar[int] = 100
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{
            name: constraint
            for name, constraint in NeuralBase._parameter_constraints.items()
            if name not in ("micro_batch_size", "graph_weight")
        },
        "encoder": [str, PathLike, Encoder],
        "n_clusters": [Interval(Integral, 1, None, closed="left"), None],
        "edges_per_cluster": [Interval(Integral, 1, None, closed="left"), None],
        "alpha": [Interval(Real, 0, None, closed="neither"), None],
        "beta": [Interval(Real, 0, None, closed="neither"), None],
        "beam_width": [Interval(Integral, 1, None, closed="left"), None],
        "shortlist_size": [Interval(Integral, 1, None, closed="left"), None],
        "n_scored": [Interval(Integral, 1, None, closed="left"), None],
        "edge_init": [StrOptions({"counts", "shares", "random"})],
        "edge_cap": [StrOptions({"soft", "clamp"})],
        "keep_tree_edges": ["boolean"],
        "path_loss_weight": [Interval(Real, 0, None, closed="left")],
        "restart_classifiers": ["boolean"],
        "recluster_epochs": [Interval(Integral, 0, None, closed="left")],
        "tree_epochs": [Interval(Integral, 1, None, closed="left")],
        "n_epochs": [Interval(Integral, 0, None, closed="left")],
        "averaged_epochs": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "cluster_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "label_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "fine_tuning": [Interval(Real, 0, 1, closed="both")],
        "graph_weight": [Interval(Real, 0, None, closed="left")],
        "embedding_weight": [Interval(Real, 0, None, closed="left")],
        "sparse_ranker": [HasMethods(["fit", "decision_function"]), None],
    }

    def __init__(
        self,
        *,
        encoder: Any = "bag",
        n_clusters: int | None = None,
        edges_per_cluster: int | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        beam_width: int | None = None,
        shortlist_size: int | None = None,
        n_scored: int | None = 300,
        edge_init: str = "counts",
        edge_cap: str = "soft",
        keep_tree_edges: bool = True,
        path_loss_weight: float = 0.05,
        restart_classifiers: bool = False,
        recluster_epochs: int = 0,
        tree_epochs: int = 1,
        n_epochs: int = 9,
        averaged_epochs: int = 1,
        dropout: float = 0.3,
        learning_rate: float | None = None,
        cluster_learning_rate: float = 5e-3,
        label_learning_rate: float = 5e-3,
        fine_tuning: float = 1.0,
        sparse_ranker: Any = None,
        embedding_weight: float = 0.2,
        graph_weight: float = 0.5,
        batch_size: Any = "auto",
        max_grad_norm: float | None = None,
        precision: str = "auto",
        early_stopping: bool = False,
        n_iter_no_change: int = 3,
        warm_start: bool = False,
        checkpoint_dir: Any = None,
        top_k: int = 100,
        threshold: float = 0.5,
        graph: Any = None,
        label_features: Any = None,
        vectorizer: Any = None,
        device: str = "auto",
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            top_k=top_k,
            threshold=threshold,
            graph=graph,
            label_features=label_features,
            vectorizer=vectorizer,
            device=device,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.encoder = encoder
        self.n_clusters = n_clusters
        self.edges_per_cluster = edges_per_cluster
        self.alpha = alpha
        self.beta = beta
        self.beam_width = beam_width
        self.shortlist_size = shortlist_size
        self.n_scored = n_scored
        self.edge_init = edge_init
        self.edge_cap = edge_cap
        self.keep_tree_edges = keep_tree_edges
        self.path_loss_weight = path_loss_weight
        self.restart_classifiers = restart_classifiers
        self.recluster_epochs = recluster_epochs
        self.tree_epochs = tree_epochs
        self.n_epochs = n_epochs
        self.averaged_epochs = averaged_epochs
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.cluster_learning_rate = cluster_learning_rate
        self.label_learning_rate = label_learning_rate
        self.fine_tuning = fine_tuning
        self.sparse_ranker = sparse_ranker
        self.embedding_weight = embedding_weight
        self.graph_weight = graph_weight
        self.batch_size = batch_size
        self.max_grad_norm = max_grad_norm
        self.precision = precision
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.checkpoint_dir = checkpoint_dir

    @classmethod
    def as_published(cls, **params: Any) -> Self:
        """Return the method with the settings of the paper, changed by the given parameters.

        Edges start at random and are cut at 1, only the heaviest are kept, the whole shortlist is
        scored in training, labels are clustered twice, classifiers start again with the edges, and
        the second stage moves encoder and clusters little.
        """
        published: dict[str, Any] = {
            "edge_init": "random",
            "edge_cap": "clamp",
            "keep_tree_edges": False,
            "n_scored": None,
            "restart_classifiers": True,
            "recluster_epochs": 5,
            "tree_epochs": 15,
            "n_epochs": 30,
            "averaged_epochs": 24,
            "dropout": 0.5,
            "fine_tuning": 0.1,
            "embedding_weight": 1.0,
        }
        return cls(**{**published, **params})

    # ---- fit

    def _fit(self, data: TrainingSet, held_out: TrainingSet | None) -> None:
        for name in ("tfidf_", "ranker_", "fusion_", "trained_frequency_"):
            self.__dict__.pop(name, None)
        self.sizes_ = self._resolved_sizes(data)
        with self._run(data, held_out) as run:
            encoder = self._fit_encoder(run)
            stages = _Stages(run, encoder, encoder.prepare(data.X))
            vectors = self._label_vectors(data)
            if self.recluster_epochs:
                self._train_tree(stages, vectors, "clusters", self.recluster_epochs)
                dense = label_vectors(self._embedded(stages), data.y, data.sample_weight)
                vectors = sp.csr_array(sp.hstack([dense, vectors], format="csr"))
            task = self._train_tree(stages, vectors, "tree", self.tree_epochs)
            if self.n_epochs:
                task = self._train_edges(stages, task)
            self._set(self._attributes(task, data), history_=stages.history)
            self.n_iter_ = len(stages.history)
            self.shortlist_recall_ = self._shortlist_recall(data if held_out is None else held_out)
            if self.sparse_ranker is not None:
                self._fit_ranker(data, data if held_out is None else held_out)
        self._warn_of_silent_failures()

    def _resolved_sizes(self, data: TrainingSet) -> IndexSizes:
        return index_sizes(
            len(np.unique(data.y.indices)),
            self.top_k,
            n_clusters=self.n_clusters,
            edges_per_cluster=self.edges_per_cluster,
            alpha=self.alpha,
            beta=self.beta,
            beam_width=self.beam_width,
            shortlist_size=self.shortlist_size,
            edge_cap=self.edge_cap,
        )

    def _fit_encoder(self, run: Run) -> Encoder:
        """Return a fresh encoder, or the trained one to go on with."""
        data = run.data
        if self.warm_start and hasattr(self, "encoder_"):
            # A copy, because a trial training must not move what the real one starts from.
            return copy.deepcopy(self.encoder_)
        sides = [data.X] if data.label_features is None else [data.X, data.label_features]
        return make_encoder(self.encoder).fit(*sides, seed=run.seed).to(run.device)

    def _trained_labels(self) -> NDArray[np.float32] | None:
        return getattr(self, "label_weights_", None)

    def _sparse(self, X: Features) -> sp.csr_array:
        """Return samples or labels as sparse features; texts become word TF-IDF."""
        if not sp.issparse(X):
            if not hasattr(self, "tfidf_"):
                self.tfidf_ = TfidfVectorizer(sublinear_tf=True, dtype=np.float32).fit(X)
            X = sp.csr_array(self.tfidf_.transform(X))
        return unit_rows(X)

    def _label_vectors(self, data: TrainingSet) -> sp.csr_array:
        """Return what labels are clustered by: their rows, their features, their neighbours."""
        graph = label_graph(data)
        samples = self._sparse(data.X)
        side = None if data.label_features is None else self._sparse(data.label_features)
        return label_vectors(
            samples,
            data.y,
            data.sample_weight,
            label_features=side,
            graph=graph,
            graph_weight=self.graph_weight,
        )

    def _embedded(self, stages: _Stages) -> sp.csr_array:
        return sp.csr_array(stages.encoder.encode(stages.samples, precision=self.precision))

    def _train_tree(
        self, stages: _Stages, vectors: sp.csr_array, name: str, n_epochs: int
    ) -> LearnedIndexTask:
        """Cluster the labels, and train with every label in its cluster alone."""
        from skxc.training import TreeEdges, new_classifiers, new_clusters

        seed, data = stages.run.seed, stages.run.data
        labels = np.unique(data.y.indices)
        leaf = balanced_kmeans(
            vectors[labels], n_clusters=self.sizes_.n_clusters, rng=stream(seed, name)
        )
        edges = TreeEdges(tree_edges(leaf, labels, self.sizes_.n_clusters))
        dim = stages.encoder.dim_
        clusters = new_clusters(dim, self.sizes_.n_clusters, stream(seed, name, "clusters"))
        table = new_classifiers(dim, data.n_labels, stream(seed, name, "labels"))
        return self._train_stage(stages, name, n_epochs, edges, clusters, table)

    def _train_edges(self, stages: _Stages, tree: LearnedIndexTask) -> LearnedIndexTask:
        """Count which clusters the rows of a label visit, and train with the heaviest edges."""
        from skxc.training import LearnedEdges, new_classifiers

        data, seed, sizes = stages.run.data, stages.run.seed, self.sizes_
        beams = pack_topk(*self._label_index(tree).beam(tree.sample_vectors()), sizes.n_clusters)
        beams.data *= data.sample_weight[row_ids(beams)].astype(np.float32)
        kept = tree.edges.labels if self.keep_tree_edges else None
        labels, counts = counted_edges(beams, data.y, sizes.edges_per_cluster, kept)
        if self.edge_init == "random":
            logits = stream(seed, "edges").random(labels.shape, dtype=np.float32)
        else:
            if self.edge_init == "shares":
                counts /= np.maximum(_visits(beams, data.y), np.float32(1e-12))[labels]
            logits = np.log(counts + np.float32(COUNT_FLOOR))
        edges = LearnedEdges(labels, logits, beta=sizes.beta, cap=self.edge_cap)
        table = tree.table
        if self.restart_classifiers:
            table = new_classifiers(
                stages.encoder.dim_, data.n_labels, stream(seed, "index", "labels")
            )
        return self._train_stage(stages, "index", self.n_epochs, edges, tree.clusters, table)

    def _train_stage(
        self,
        stages: _Stages,
        name: str,
        n_epochs: int,
        edges: TreeEdges | LearnedEdges,
        clusters: Any,
        table: LabelVectors,
    ) -> LearnedIndexTask:
        from skxc.training import LearnedIndexTask

        run = stages.run
        task = LearnedIndexTask(
            name,
            self._settings(name, n_epochs),
            encoder=stages.encoder,
            samples=stages.samples,
            y=run.data.y,
            sample_weight=run.data.sample_weight,
            clusters=clusters,
            edges=edges,
            table=table,
            batches=UniformBatches(run.data.n_samples, self._batch_size(run.data.n_samples)),
            device=run.device,
            evaluate_model=None if run.held_out is None else self._scorer(run.held_out),
        )
        stages.history += self._train(run, task, n_epochs).history
        task.finish()
        return task

    def _settings(self, name: str, n_epochs: int) -> LearnedIndexSettings:
        from skxc.training import LearnedIndexSettings

        sizes = self.sizes_
        n_scored = sizes.shortlist_size if self.n_scored is None else self.n_scored
        return LearnedIndexSettings(
            alpha=sizes.alpha,
            beam_width=sizes.beam_width,
            n_scored=min(n_scored, sizes.shortlist_size),
            samples_labels=self.n_scored is not None,
            path_loss_weight=self.path_loss_weight,
            dropout=self.dropout,
            learning_rate=self.learning_rate,
            cluster_rate=self.cluster_learning_rate,
            label_rate=self.label_learning_rate,
            fine_tuning=self.fine_tuning if name == "index" else 1.0,
            average_from=n_epochs - self.averaged_epochs,
            precision=self.precision,
        )

    def _scorer(self, held_out: TrainingSet) -> Callable[[LearnedIndexTask], float]:
        """Return what gives the precision@1 of a task's present state on held-out rows."""

        def precision_at_1(task: LearnedIndexTask) -> float:
            model = copy.copy(self)
            model._set(self._attributes(task, held_out))
            best = pack_topk(*model._search_index(held_out.X, 1), self.n_labels_)
            hits = np.asarray((best != 0).multiply(held_out.y).sum(axis=1)).ravel()
            return float(np.average(hits, weights=held_out.sample_weight))

        return precision_at_1

    def _label_index(self, task: LearnedIndexTask) -> LabelIndex:
        weights, bias = task.cluster_weights()
        sizes = self.sizes_
        return LabelIndex(
            cluster_weights=weights,
            cluster_bias=bias,
            edge_labels=task.edges.labels,
            edge_weights=task.edge_weights(),
            n_labels=self.n_labels_,
            gain=sizes.alpha,
            beam_width=sizes.beam_width,
            shortlist_size=sizes.shortlist_size,
            label_names=self.label_names_,
        )

    def _attributes(self, task: Any, data: TrainingSet) -> dict[str, Any]:
        """Return the fitted attributes that the current state of a stage amounts to."""
        weights, bias = task.label_weights()
        index = self._label_index(task)
        return {
            "encoder_": task.encoder,
            "label_index_": index,
            "label_weights_": weights,
            "label_bias_": bias,
            "coverage_": index.coverage(np.bincount(data.y.indices, minlength=data.n_labels)),
            "saturated_edges_": index.saturated_share(),
        }

    def _shortlist_recall(self, rows: TrainingSet) -> float:
        rows = rows.take(np.arange(min(rows.n_samples, BLOCK_ROWS)))
        labels, _ = self.label_index_.shortlist(self._embed(rows.X))
        found = pack_topk(labels, np.ones(labels.shape, np.float32), self.n_labels_)
        return float(found.multiply(rows.y).sum() / max(rows.y.nnz, 1))

    def _warn_of_silent_failures(self) -> None:
        if self.coverage_ < 1:
            warnings.warn(
                f"`coverage_` is {self.coverage_:.3f}: no cluster leads to the other labels, which "
                "are never predicted. Set keep_tree_edges=True, or raise edges_per_cluster.",
                stacklevel=2,
            )
        if self.n_epochs and self.saturated_edges_ > LARGE_SATURATED_SHARE:
            warnings.warn(
                f"`saturated_edges_` is {self.saturated_edges_:.2f}: most edges are at their cap, "
                f"where they do not tell labels apart. Lower beta, now {self.sizes_.beta:g}.",
                stacklevel=2,
            )

    # ---- the sparse ranker

    def _gives_rows_back(self, n_samples: int) -> bool:
        # The fusion needs rows that the scores it joins have not seen.
        return self.sparse_ranker is None and super()._gives_rows_back(n_samples)

    def _fit_ranker(self, data: TrainingSet, held_out: TrainingSet) -> None:
        """Train the ranker on the model's own answers, and the fusion on held-out rows."""
        # A label that only held-out rows have must look unseen, or its count tells what is right.
        self.trained_frequency_ = data.y.T @ data.sample_weight
        ranker = clone(self.sparse_ranker)
        sides = {}
        if takes(ranker, "sample_weight"):
            sides["sample_weight"] = data.sample_weight
        if takes(ranker, "candidates"):
            sides["candidates"] = self._own_candidates(data)
        if takes(ranker, "label_features") and data.label_features is not None:
            sides["label_features"] = self._joined_features(data.label_features)
        self.ranker_ = ranker.fit(self._joined_features(data.X), data.y, **sides)
        candidates = self._own_candidates(held_out)
        margins = score_candidates(ranker, self._joined_features(held_out.X), candidates)
        self.fusion_ = RerankFusion().fit(candidates, margins, held_out.y, self.trained_frequency_)

    def _own_candidates(self, data: TrainingSet) -> sp.csr_array:
        """Return the model's answers, without labels whose text is that of the row."""
        return without_own(self._candidates(data.X, self.top_k), data)

    def _joined_features(self, X: Features) -> sp.csr_array:
        """Return [embedding | sparse features]."""
        dense = sp.csr_array(self._embed(X) * np.float32(self.embedding_weight))
        return sp.csr_array(sp.hstack([dense, self._sparse(X)], format="csr"))

    def _candidates(self, X: Features, k: int) -> sp.csr_array:
        return pack_topk(*self._search_index(X, min(k, self.n_labels_)), self.n_labels_)

    # ---- search

    def _search(self, X: Features, k: int) -> TopK:
        if self.sparse_ranker is None:
            return self._search_index(X, k)
        candidates = self._candidates(X, max(k, self.top_k))
        margins = score_candidates(self.ranker_, self._joined_features(X), candidates)
        return rank_rows(self.fusion_.join(candidates, margins, self.trained_frequency_), k)

    def _search_index(self, X: Features, k: int) -> TopK:
        return self._search_in_blocks(self._embed(X), k)

    def _search_block(self, queries: NDArray[np.float32], k: int) -> TopK:
        width = self.sizes_.beam_width if self.beam_width is None else self.beam_width
        size = self.sizes_.shortlist_size if self.shortlist_size is None else self.shortlist_size
        return self.label_index_.rank(
            queries,
            self.label_weights_,
            self.label_bias_,
            k,
            size=max(size, k),
            beam_width=width,
        )


@dataclass
class _Stages:
    """What the stages of one fit share."""

    run: Run
    encoder: Encoder
    samples: Any
    history: list[dict[str, float]] = field(default_factory=list)


def _visits(beams: sp.csr_array, y: sp.csr_array) -> NDArray[np.float32]:
    """Return the summed cluster scores of the rows of every label, shape (L,)."""
    return (np.asarray(beams.sum(axis=1)).ravel() @ y).astype(np.float32)
