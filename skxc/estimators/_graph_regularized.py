"""GraphRegularizedXC: metadata graphs help to train the encoder, and prediction needs text only.

The recipe is `_encoder_task`: the dual encoder's first stage, with a term per graph and side that
draws samples and labels to the texts of their graph neighbours. The rest is `DualEncoderXC`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval, StrOptions

from skxc.base import TrainingSet
from skxc.estimators._dual_encoder_base import LOSS_NAMES, DualEncoderBase
from skxc.estimators._encoder_base import label_graph
from skxc.estimators._neural import Run
from skxc.exceptions import GraphWarning
from skxc.graphs import as_ones, densify, keep_edges, keep_strongest
from skxc.labels import AnchorGraph
from skxc.utils._random import stream
from skxc.utils._same_text import same_text_pairs

if TYPE_CHECKING:
    from typing_extensions import Self

    from skxc.training import (
        Bandit,
        FixedWeights,
        GraphRegularizedTask,
        GraphTerm,
        TermSettings,
    )

# Anchors, in every graph, of a label that gets those of its training rows: the most frequent ones.
DERIVED_ANCHORS = 10
# Factor of all weights at a share of training that is done.
SCHEDULES = {"fade": lambda done: max(0.0, 1 - done), "constant": lambda done: 1.0}


class GraphRegularizedXC(DualEncoderBase):
    """Dual encoder that metadata graphs regularise while it trains (RAMEN).

    Metadata nodes (tags, categories, linked pages) that samples and labels share are *anchors*.
    While the encoder trains, extra losses pull samples and labels towards the texts of their
    anchors and away from other anchors of the batch, one loss per graph and side. Prediction is
    that of `DualEncoderXC`: text only, with the same parameters and the same cost.

    Parameters
    ----------
    encoder, loss, temperature, negatives, n_positives, refresh_every
        As in `DualEncoderXC`. The paper has ``loss="triplet"``, and ``negatives="clustered"``
        (NGAME) or ``"mined"`` (ANCE).
    graph_loss : str or Loss, default="decoupled"
        Loss of the graph terms, one of those of `loss`; the paper has "triplet" for both. A row has
        one positive in it, the anchor that was drawn, and its other anchors take no part.
    graph_weights : "bandit", float or dict, default="bandit"
        Weights of the terms. "bandit": each is a draw around a mean that moves with the accuracy of
        the task. A number: fixed, for all. ``{graph: (point weight, label weight)}``: fixed.
    graph_schedule : {"fade", "constant"}, default="fade"
        Factor of all weights. "fade" falls from 1 to 0 over the training (not in the paper).
    regularize_points, regularize_labels : bool, default=True
        Whether the edges of samples, and of labels, take part.
    derive_label_edges : bool, default=False
        Whether labels get the most frequent anchors of their training rows where the graph is an
        AnchorGraph without label edges. Held-out rows preferred the samples' edges alone: what a
        label would learn from such anchors, `y` says already.
    regularize_random_labels : bool, default=False
        An extension of the method: as many labels as the batch has samples, drawn from all labels,
        join the label side, so that labels without a training row are regularised too.
    anchor_fraction : float in (0, 1], default=1.0
        Share of the rows that take part in the graph terms of a step; less is cheaper.
    bandit_learning_rate : float, default=0.01
        Largest change of a mean per window.
    bandit_init, bandit_floor : float, default=0.3, 0.1
        Mean at the start, and the smallest weight before `graph_schedule`.
    bandit_scale : float, default=0.1
        Standard deviation of the draws.
    bandit_window : int, default=20
        Steps for which a draw is held.
    bandit_decay : float, default=0.8
        Share of the baseline that an update keeps.
    walk : {"series", "simulate"} or None, default=None
        Adds edges that a random walk with restart over the graph finds: exactly, by a seeded
        simulation, or not at all. The paper walks; held-out rows of rather dense graphs preferred
        the edges as they are.
    walk_restart, walk_length, walk_terms, walk_top_k, walk_keep, walk_width, hub_threshold
        The walk; see `skxc.graphs.densify` and `skxc.graphs.visited_columns`.
    prune : bool, default=True
        Whether edges between texts that the encoder finds unlike are left out from some epoch on.
        They come back if the encoder changes its mind.
    prune_warmup : int, default=4
        Epochs before the first pruning.
    prune_interval : int, default=2
        Epochs between two prunings.
    prune_threshold : float, default=0.0
        Cosine that an edge must exceed.
    classifier_stage : {True, False, "joint"}, default=True
        True: classifiers are trained after the encoder, on its frozen embeddings and without the
        graph. False: the encoder alone, which is the paper's model. "joint": a free vector per
        label is trained together with the encoder.
    classifier_epochs, label_dropout, fusion, neighbor_weight, n_neighbors, neighbor_temperature
        As in `DualEncoderXC`.
    index, n_epochs, batch_size, micro_batch_size, learning_rate, max_grad_norm, precision
        As in `DualEncoderXC`.
    early_stopping, n_iter_no_change, warm_start, checkpoint_dir, top_k, threshold
        As in `DualEncoderXC`.
    graph : AnchorGraph, LabelGraph, sparse matrix, "cooccurrence" or None, default=None
        Edges from labels to anchors and the texts of the anchors; or edges between labels, whose
        anchors are the labels. Used in training only and not kept.
    label_features, vectorizer, device, random_state, n_jobs, verbose
        As in `DualEncoderXC`.

    Attributes
    ----------
    graph_weights_ : dict of str to ndarray, shape (n_steps,)
        "epoch" of every training step, and the weight of every term, such as "tag (points)".
    edge_survival_ : dict of str to ndarray, shape (n_prunings,)
        "epoch" of every pruning, and the share of its edges that every term keeps.
    loss_history_ : dict of str to ndarray, shape (n_epochs,)
        Mean loss of the "task" and of every term.
    encoder_, label_embeddings_, classifier_weights_, history_, n_iter_ ...
        As in `DualEncoderXC`.

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
    ['epoch', 'topic (labels)', 'topic (points)']
    """

    __metadata_request__fit: ClassVar[dict[str, Any]] = {"sample_graph": True}
    _accepts_anchors: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DualEncoderBase._parameter_constraints,
        "graph_loss": [StrOptions(LOSS_NAMES), callable],
        "graph_weights": [
            StrOptions({"bandit"}),
            Interval(Real, 0, None, closed="left"),
            Mapping,
        ],
        "graph_schedule": [StrOptions({"fade", "constant"})],
        "regularize_points": ["boolean"],
        "regularize_labels": ["boolean"],
        "derive_label_edges": ["boolean"],
        "regularize_random_labels": ["boolean"],
        "anchor_fraction": [Interval(Real, 0, 1, closed="right")],
        "bandit_learning_rate": [Interval(Real, 0, None, closed="left")],
        "bandit_init": [Interval(Real, 0, None, closed="left")],
        "bandit_floor": [Interval(Real, 0, None, closed="left")],
        "bandit_scale": [Interval(Real, 0, None, closed="neither")],
        "bandit_window": [Interval(Integral, 1, None, closed="left")],
        "bandit_decay": [Interval(Real, 0, 1, closed="left")],
        "walk": [StrOptions({"series", "simulate"}), None],
        "walk_restart": [Interval(Real, 0, 1, closed="right")],
        "walk_length": [Interval(Integral, 1, None, closed="left")],
        "walk_terms": [Interval(Integral, 1, None, closed="left")],
        "walk_top_k": [Interval(Integral, 1, None, closed="left")],
        "walk_keep": [StrOptions({"union", "replace"})],
        "walk_width": [Interval(Integral, 1, None, closed="left")],
        "hub_threshold": [Interval(Integral, 1, None, closed="left"), None],
        "prune": ["boolean"],
        "prune_warmup": [Interval(Integral, 0, None, closed="left")],
        "prune_interval": [Interval(Integral, 1, None, closed="left")],
        "prune_threshold": [Interval(Real, -1, 1, closed="both")],
    }

    def __init__(
        self,
        *,
        encoder: Any = "bag",
        loss: Any = "decoupled",
        temperature: float = 0.05,
        negatives: Any = "in_batch",
        n_positives: int | None = None,
        refresh_every: int = 5,
        graph_loss: Any = "decoupled",
        graph_weights: Any = "bandit",
        graph_schedule: str = "fade",
        regularize_points: bool = True,
        regularize_labels: bool = True,
        derive_label_edges: bool = False,
        regularize_random_labels: bool = False,
        anchor_fraction: float = 1.0,
        bandit_learning_rate: float = 0.01,
        bandit_init: float = 0.3,
        bandit_floor: float = 0.1,
        bandit_scale: float = 0.1,
        bandit_window: int = 20,
        bandit_decay: float = 0.8,
        walk: str | None = None,
        walk_restart: float = 0.8,
        walk_length: int = 400,
        walk_terms: int = 5,
        walk_top_k: int = 10,
        walk_keep: str = "union",
        walk_width: int = 128,
        hub_threshold: int | None = 500,
        prune: bool = True,
        prune_warmup: int = 4,
        prune_interval: int = 2,
        prune_threshold: float = 0.0,
        classifier_stage: Any = True,
        classifier_epochs: int = 10,
        label_dropout: float = 0.7,
        fusion: str = "none",
        neighbor_weight: Any = "auto",
        n_neighbors: int = 50,
        neighbor_temperature: float = 0.15,
        index: Any = "auto",
        n_epochs: int = 7,
        batch_size: Any = "auto",
        micro_batch_size: int | None = None,
        learning_rate: float | None = None,
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
            encoder=encoder,
            loss=loss,
            temperature=temperature,
            negatives=negatives,
            n_positives=n_positives,
            refresh_every=refresh_every,
            classifier_stage=classifier_stage,
            classifier_epochs=classifier_epochs,
            label_dropout=label_dropout,
            fusion=fusion,
            neighbor_weight=neighbor_weight,
            n_neighbors=n_neighbors,
            neighbor_temperature=neighbor_temperature,
            index=index,
            n_epochs=n_epochs,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            learning_rate=learning_rate,
            max_grad_norm=max_grad_norm,
            precision=precision,
            early_stopping=early_stopping,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            checkpoint_dir=checkpoint_dir,
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
        self.graph_loss = graph_loss
        self.graph_weights = graph_weights
        self.graph_schedule = graph_schedule
        self.regularize_points = regularize_points
        self.regularize_labels = regularize_labels
        self.derive_label_edges = derive_label_edges
        self.regularize_random_labels = regularize_random_labels
        self.anchor_fraction = anchor_fraction
        self.bandit_learning_rate = bandit_learning_rate
        self.bandit_init = bandit_init
        self.bandit_floor = bandit_floor
        self.bandit_scale = bandit_scale
        self.bandit_window = bandit_window
        self.bandit_decay = bandit_decay
        self.walk = walk
        self.walk_restart = walk_restart
        self.walk_length = walk_length
        self.walk_terms = walk_terms
        self.walk_top_k = walk_top_k
        self.walk_keep = walk_keep
        self.walk_width = walk_width
        self.hub_threshold = hub_threshold
        self.prune = prune
        self.prune_warmup = prune_warmup
        self.prune_interval = prune_interval
        self.prune_threshold = prune_threshold

    # ---- fit

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        graph: Any = None,
        sample_graph: Any = None,
        label_features: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fit the estimator.

        Parameters
        ----------
        X : sequence of str, or array-like or sparse matrix of shape (n_samples, n_features)
            Samples.
        y : sparse matrix or array-like of shape (n_samples, n_labels), or of shape (n_samples,)
            Binary indicator, or one class per sample.
        graph : AnchorGraph, LabelGraph, sparse matrix or "cooccurrence", default=None
            Edges from labels to anchors, whose texts or features have the form of `X`, or edges
            between labels, whose anchors are the labels; overrides the constructor parameter.
        sample_graph : sparse matrix of shape (n_samples, n_anchors), default=None
            Edges from samples to the same anchors; cross-validation cuts it with the samples.
        label_features : LabelTexts, sequence of str, or matrix with n_labels rows, default=None
            Texts or features of the labels; overrides the constructor parameter.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights. An integer weight equals a repetition of the row.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Shapes do not fit, a weight is negative or NaN, or anchors have no text.

        Warns
        -----
        GraphWarning
            The graph has no edge, only one side has edges, or pruning never happens.
        """
        chosen = self._or_parameter("graph", graph)
        _check_columns(sample_graph, chosen, y)
        _check_group_weights(self.graph_weights, chosen)
        return self._fit_checked(
            X,
            y,
            graph=graph,
            sample_graph=sample_graph,
            label_features=label_features,
            sample_weight=sample_weight,
        )

    def _encoder_task(self, run: Run) -> GraphRegularizedTask:
        """Return what the first stage trains: encoder and label texts, with a term per graph."""
        from skxc.training import GraphRegularizedTask

        arguments = self._task_arguments(run)
        terms = self._terms(run)
        return GraphRegularizedTask(
            self._pool_settings(run.data, self.n_epochs),
            self._term_settings(),
            terms=terms,
            weights=self._weights(terms, run.seed),
            anchors=self._prepare_anchors(arguments["encoder"], arguments["labels"], run.data),
            n_epochs=self.n_epochs,
            seed=run.seed,
            **arguments,
        )

    def _prepare_anchors(self, encoder: Any, labels: Any, data: TrainingSet) -> Any:
        """Return the prepared anchors, which are the labels where they have no texts of their own.

        Their words do not teach the vocabulary: the model is the base encoder, whatever the graph.
        """
        return encoder.prepare(data.graph.texts) if isinstance(data.graph, AnchorGraph) else labels

    # ---- graphs

    def _terms(self, run: Run) -> list[GraphTerm]:
        """Return one term per graph and side that has edges."""
        from skxc.training import GraphTerm

        sides = self._edges_of_sides(run.data)
        hidden = {side: self._hidden(side, run.data) for side in sides}
        rng = stream(run.seed, "walk")
        terms = []
        for graph, (start, stop) in _groups(run.data).items():
            for side, edges in sides.items():
                walked = self._densify(_between(edges, start, stop), rng)
                if walked.nnz:
                    terms.append(GraphTerm(graph, side, walked, hidden[side]))
        return terms

    def _edges_of_sides(self, data: TrainingSet) -> dict[str, sp.csr_array]:
        """Return the edges of both sides, as far as there are any and they shall be used."""
        points, labels = data.sample_graph, _label_edges(data)
        if labels is None and points is not None and self.derive_label_edges:
            labels = _derived_edges(data)
        sides = {"points": points, "labels": labels}
        found = {side: edges for side, edges in sides.items() if edges is not None and edges.nnz}
        if data.graph is not None:
            # The labels' side may be left out, as far as it goes.
            expected = {"points", "labels"} if labels is not None else {"points"}
            self._warn_of_what_cannot_act(found, expected)
        used = {"points": self.regularize_points, "labels": self.regularize_labels}
        return {side: edges for side, edges in found.items() if used[side]}

    def _warn_of_what_cannot_act(
        self, found: Mapping[str, sp.csr_array], expected: set[str]
    ) -> None:
        """Warn of a graph without edges, with edges on one side, or that is never pruned."""
        if not found:
            problem = "has no edge, so nothing is regularised. Check how it was built."
        elif found.keys() < expected and self.regularize_points and self.regularize_labels:
            problem = (
                f"has edges of {next(iter(found))} only, and one side alone need not help. Pass "
                "the other side too, or say regularize_points=False or regularize_labels=False."
            )
        elif self.prune and self.n_epochs <= self.prune_warmup:
            problem = (
                f"is never pruned: training has {self.n_epochs} epochs and prune_warmup is "
                f"{self.prune_warmup}. Lower prune_warmup, or set prune=False."
            )
        else:
            return
        warnings.warn(f"`graph` {problem}", GraphWarning, stacklevel=2)

    def _densify(self, edges: sp.csr_array, rng: np.random.Generator) -> sp.csr_array:
        """Return the edges as ones, with those that a random walk adds."""
        if self.walk is None:
            return as_ones(edges)
        return densify(
            edges,
            top_k=self.walk_top_k,
            keep=self.walk_keep,
            length=self.walk_length,
            hub_threshold=self.hub_threshold,
            restart=self.walk_restart,
            n_terms=self.walk_terms,
            width=self.walk_width,
            rng=rng if self.walk == "simulate" else None,
        )

    def _hidden(self, side: str, data: TrainingSet) -> sp.csr_array | None:
        """Return the (row, anchor) pairs that are no negatives, whatever the edges say.

        An anchor with the row's own text has its vector, and one with the text of a sample's label
        is what the task pulls the sample to.
        """
        own = _same_as_labels(data)
        if side == "points":
            own = sp.csr_array(data.y @ own)
            if isinstance(data.graph, AnchorGraph):
                own = own + _same_text(data.X, data.graph.texts)
        return sp.csr_array(own) if own.nnz else None

    def _term_settings(self) -> TermSettings:
        """Return how terms are drawn, scored, faded and pruned."""
        from skxc.losses import make_loss
        from skxc.training import TermSettings

        return TermSettings(
            loss=make_loss(self.graph_loss),
            temperature=self.temperature,
            schedule=SCHEDULES[self.graph_schedule],
            prune_from=self.prune_warmup if self.prune else None,
            prune_every=self.prune_interval,
            prune_threshold=self.prune_threshold,
            anchor_fraction=self.anchor_fraction,
            random_labels=self.regularize_random_labels,
        )

    def _weights(self, terms: list[GraphTerm], seed: int) -> Bandit | FixedWeights:
        """Return the weights of the terms: tuned while training, or fixed."""
        from skxc.training import Bandit, BanditSettings, FixedWeights

        if isinstance(self.graph_weights, str):
            settings = BanditSettings(
                learning_rate=self.bandit_learning_rate,
                init=self.bandit_init,
                floor=self.bandit_floor,
                scale=self.bandit_scale,
                window=self.bandit_window,
                decay=self.bandit_decay,
            )
            return Bandit(len(terms), settings, seed)
        if isinstance(self.graph_weights, Real):
            return FixedWeights(np.full(len(terms), float(self.graph_weights)))
        sides = ("points", "labels")
        chosen = [self.graph_weights[term.graph][sides.index(term.side)] for term in terms]
        return FixedWeights(np.array(chosen, dtype=np.float64))

    # ---- what training reports

    def _attributes(self, task: Any, data: TrainingSet) -> dict[str, Any]:
        attributes = super()._attributes(task, data)
        if task.name == "encoder":
            attributes |= task.figures.as_attributes([term.name for term in task.terms])
        return attributes


def _check_columns(sample_graph: Any, graph: Any, y: Any) -> None:
    """Raise unless the samples' edges lead to the anchors that the graph describes."""
    if sample_graph is None or len(np.shape(sample_graph)) != 2:
        return
    if graph is None:
        raise ValueError(
            "`sample_graph` needs `graph`: anchors need a text, but only edges were given. Pass "
            "graph=AnchorGraph(labels, texts), with labels=None where labels have no edges."
        )
    n_anchors = graph.n_anchors if isinstance(graph, AnchorGraph) else np.shape(y)[-1]
    if np.shape(sample_graph)[1] != n_anchors:
        raise ValueError(
            f"`sample_graph` has {np.shape(sample_graph)[1]} columns but `graph` has {n_anchors} "
            "anchors. Pass one column per anchor, in the same order."
        )


def _check_group_weights(weights: Any, graph: Any) -> None:
    """Raise where weights are given graph by graph, but not for every graph."""
    if graph is None or not isinstance(weights, Mapping):
        return
    groups = graph.groups if isinstance(graph, AnchorGraph) else ["labels"]
    missing = [group for group in groups if group not in weights]
    if missing:
        raise ValueError(
            f"`graph_weights` must have a pair for every graph, but has none for {missing}. "
            "Add {graph: (point weight, label weight)}."
        )


def _label_edges(data: TrainingSet) -> sp.csr_array | None:
    """Return the label side of the graph, without self loops where the anchors are the labels."""
    if isinstance(data.graph, AnchorGraph):
        return data.graph.to_csr()
    return label_graph(data)


def _derived_edges(data: TrainingSet) -> sp.csr_array:
    """Return edges from labels to the most frequent anchors of their rows, in every graph."""
    shared = sp.csr_array(data.y.T @ data.sample_graph)
    graphs = [_between(shared, start, stop) for start, stop in _groups(data).values()]
    kept = [keep_strongest(graph, DERIVED_ANCHORS) for graph in graphs]
    return sp.csr_array(sum(kept[1:], start=kept[0]))


def _between(edges: sp.csr_array, start: int, stop: int) -> sp.csr_array:
    """Return the edges whose columns lie in a range."""
    return keep_edges(edges, (edges.indices >= start) & (edges.indices < stop))


def _groups(data: TrainingSet) -> dict[str, tuple[int, int]]:
    """Return the column range of every graph."""
    if isinstance(data.graph, AnchorGraph):
        return data.graph.groups
    return {} if data.graph is None else {"labels": (0, data.n_labels)}


def _same_as_labels(data: TrainingSet) -> sp.csr_array:
    """Return the (label, anchor) pairs of one text, shape (L, n_anchors)."""
    if isinstance(data.graph, AnchorGraph):
        return _same_text(data.label_features, data.graph.texts)
    return sp.eye_array(data.n_labels, format="csr", dtype=np.float32)


def _same_text(rows: Any, anchors: Any) -> sp.csr_array:
    """Return the (row, anchor) pairs of one text; none where they are features."""
    shape = (rows.shape[0], anchors.shape[0])
    pairs = same_text_pairs(rows, anchors, sp.csr_array(shape, dtype=np.float32))
    return sp.csr_array(shape, dtype=np.float32) if pairs is None else pairs
