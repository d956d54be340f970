"""LabelGraphXC: classifiers fused from label text, label graph and a free vector (ECLARE).

The recipe is `_fit`: a random walk over the training labels gives the label graph; balanced
clusters of labels smoothed by it are the outputs of the surrogate, which learns the token
embeddings; then every member trains a shortlister over clusters and a ranker of the labels in the
shortlists.
Prediction is a product of both probabilities, spread over the graphs.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from skxc.base import Features, TrainingSet
from skxc.clustering import balanced_kmeans_apart
from skxc.encoders import BagEncoder, Encoder
from skxc.estimators._encoder_base import EncoderBase, search_exactly
from skxc.estimators._neural import BLOCK_ROWS, NeuralBase, Run
from skxc.estimators._shortlist_ranker import DocumentMap, ShortlistRanker
from skxc.graphs import (
    cluster_graph,
    correlation_graph,
    hops,
    keep_edges,
    keep_strongest,
    normalize_degrees,
    random_walk,
    simulated_walk,
    strongest_products,
    without_columns,
)
from skxc.metrics import precision_at_k
from skxc.utils._random import stream
from skxc.utils._same_text import same_text_pairs
from skxc.utils._sparse import (
    TopK,
    drop_pairs,
    normalize_rows,
    rank_rows,
    row_ids,
    share_found,
)

if TYPE_CHECKING:
    from skxc.labels import LabelGraph
    from skxc.training import FusedClassifierTask

Vectors = NDArray[np.float32]
STAGES = ("surrogate", "shortlister", "ranker")
# Learning rates of the stages.
LEARNING_RATES = (0.01, 0.01, 0.01)
# Fewest labels per cluster among the data sets of the paper.
LABELS_PER_CLUSTER = 2.4
# Heaviest words of a label's training rows that describe it where it has no text of its own.
CENTROID_WORDS = 1000


@dataclass(frozen=True, eq=False)
class Problem:
    """The training data of one fit, over the labels with rows or texts and the rows with both.

    Attributes
    ----------
    run : Run
    encoder : Encoder
    labels : ndarray of int, shape (L,)
        Ids of the labels that can be predicted; everything below counts labels in this order.
    rows : csr_array of shape (n, V)
        Prepared samples.
    y : csr_array of shape (n, L)
    sample_weight : ndarray of shape (n,)
    texts : csr_array of shape (L, V)
        Prepared label texts.
    excluded : csr_array of shape (n, L), or None
        Samples whose text is that of a label which they do not have.
    frequent, unseen : ndarray of bool, shape (L,)
        Head labels, and labels without training rows.
    graph : csr_array of shape (L, L) or None
        The user's, if it is used.
    held_rows, held_y : csr_array of shapes (h, V) and (h, L), or None
        Held-out rows.
    """

    run: Run
    encoder: Encoder
    labels: NDArray[np.int64]
    rows: sp.csr_array
    y: sp.csr_array
    sample_weight: NDArray[np.float64]
    texts: sp.csr_array
    excluded: sp.csr_array | None
    frequent: NDArray[np.bool_]
    unseen: NDArray[np.bool_]
    graph: sp.csr_array | None
    held_rows: sp.csr_array | None
    held_y: sp.csr_array | None


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a stage predicts: labels, or clusters of labels.

    Attributes
    ----------
    membership : csr_array of ones, shape (m, L)
        The labels of every output.
    texts : csr_array of shape (m, V)
        Prepared texts.
    hops : list of csr_array, shape (m, m)
        The normalised graph and its powers; empty without a graph.
    """

    membership: sp.csr_array
    texts: sp.csr_array
    hops: list[sp.csr_array]


class LabelGraphXC(EncoderBase):
    """Classifiers fused from label text, label graph and a free vector (ECLARE).

    A random walk over the training labels alone makes a graph of related labels. A label's
    classifier is the attention-weighted sum of its text, of the text of its neighbours in the
    graph, and of a vector of its own; the graph also smooths the clusters of the shortlist, adds
    negatives, and spreads the scores. Texts are bags of words, so a fit takes minutes on a CPU.

    Without label texts, a label is described by the words of its training rows, and labels without
    any are never predicted. Scores are products of two probabilities in (0, 1), averaged
    over the members.

    Parameters
    ----------
    n_components : int, default=256
        Width of the vectors, D in the paper.
    walk : {"exact", "simulate"}, default="exact"
        Whether the visits of the walk are computed as a series, or simulated as in the paper.
    walk_length : int, default=400
        Steps of a simulated walk.
    walk_restart : float, default=0.8
        Probability that a step starts from the walk's first label again; 1 is co-occurrence.
    walk_terms, walk_width : int, default=4 and 64
        Terms of the series, and entries of a row that are kept between two of them.
    walk_top_k : int, default=10
        Edges per label, beside its self-loop.
    head_threshold : int or None, default=500
        Labels with more training rows take no part in the walk; None: all do.
    prune_distance : float or None, default=1.0
        After the surrogate, edges between labels whose texts have a larger cosine distance are
        dropped; None: none are.
    graph_mode : {"replace", "join"}, default="replace"
        With a graph of your own: whether it replaces the walk's graph, or is added to it.
    n_hops : int, default=1
        Hops over the graph; each adds a text component to the classifiers.
    n_clusters : int or "auto", default="auto"
        Clusters of the shortlist, rounded down to a power of two; "auto": at most one for 2.4
        labels, the paper's largest share. From the number of labels on, every label is a cluster.
    beam_size : int, default=100
        Clusters in a shortlist, B in the paper.
    cluster_power : float, default=0.25
        Power of a cluster's probability in its product with that of a label; 1 in the paper. The
        shortlister knows its training rows by heart, and is sure of too much in others. Like
        `beam_size`, it may be changed after `fit`.
    max_candidates : int or None, default=100
        Likely labels of its shortlist that a training row is ranked against; None: the whole
        shortlist and its neighbours, as in the official code.
    n_negatives : int or None, default=6
        How many of these enter the pool of the row's batch at each step. All rows of the batch are
        scored against the pool: the labels of all of them, and these. In the same way, surrogate
        and shortlister score the clusters of the batch's labels. None: as in the official code,
        they score all clusters, and the ranker every row against its own candidates alone.
    n_estimators : int, default=1
        Members whose probabilities are averaged; the paper has 3.
    use_graph : bool, default=True
        False: no graph anywhere, which leaves DECAF with attention.
    fusion : {"attention", "sum"}, default="attention"
        How components are joined.
    use_refinement : bool, default=True
        Whether shortlister and ranker have free vectors.
    propagate : bool, default=True
        Whether scores spread over the graphs (GAME): in shortlists, over the graph of the clusters.
    propagate_labels : bool, default=False
        Whether those of labels spread too, as in the paper: it finds more labels, and puts fewer
        right ones first. Like `cluster_power`, it may be changed after `fit`.
    smooth_clusters : bool, default=True
        Whether labels are clustered by vectors that the graph has smoothed.
    graph_negatives : bool, default=True
        Whether neighbours of the labels in a shortlist are candidates of the ranker too.
    freeze_embeddings : bool, default=False
        Whether token embeddings stay as the surrogate left them, as in the official code. False:
        shortlister and ranker go on to train copies of their own.
    predict_unseen : bool, default=True
        Whether labels without training rows are predicted by their text. They take no part in the
        walk, and are no negatives of the ranker. False, as in the paper: they are left out.
    add_missed_positives : bool, default=True
        Whether the ranker also learns from labels that the shortlist missed.
    loss : {"decoupled", "bce"}, default="decoupled"
        Of all stages: the decoupled softmax of DEXML, or the logistic loss of the paper, which
        serves rare labels less.
    temperature : float, default=0.05
        Divides the cosines of documents and classifiers.
    dropout : float, default=0.2
    n_epochs : int or tuple of 3 int, default=(3, 2, 4)
        Epochs of surrogate, shortlister and ranker.
    batch_size : int or "auto", default="auto"
        Rows per step; "auto" is 1,024, less for small data.
    learning_rate : float, tuple of 3 float or None, default=None
        Of the tables, in the three stages; None: 0.01. What all labels share learns at a tenth.
    max_grad_norm : float or None, default=None
        Bound on the norm of all gradients of a step.
    early_stopping : bool, default=False
        Whether every stage watches its precision@1 on held-out training rows, stops when it has not
        risen for `n_iter_no_change` epochs, and keeps the best epoch.
    n_iter_no_change : int, default=3
    checkpoint_dir : str, Path or None, default=None
        Folder for a checkpoint of every stage after every epoch; see `DualEncoderXC`.
    top_k : int, default=100
        Number of labels that are retrieved per row.
    threshold : float, default=0.5
        Smallest probability of a predicted label.
    graph : sparse matrix, LabelGraph or None, default=None
        Your own graph over the labels. It is cut to `walk_top_k` edges per label and normalised,
        and neither the rule for heads nor that for texts applies to it. A graph made from all of
        `y` before a cross-validation leaks test labels; the graph of the walk does not, because
        every fit makes its own.
    label_features : LabelTexts, sequence of str, matrix or None, default=None
        Texts or features of the labels, in the same form as the samples.
    vectorizer : transformer or None, default=None
        Turns texts into features; None: words with their character n-grams, as in `BagEncoder`.
    device : str, default="auto"
    random_state : int, RandomState instance or None, default=None
    n_jobs : int or None, default=None
        Threads that torch uses in `fit`; None: torch's own number.
    verbose : int, default=0
        1 shows progress bars.

    Attributes
    ----------
    label_graph_ : csr_array of float32, shape (n_labels, n_labels)
        The first member's normalised graph; empty rows for labels that cannot be predicted, and
        no entries at all with ``use_graph=False``.
    fusion_weights_ : ndarray of float32, shape (n_labels, n_components_of_a_classifier)
        The first member's weights of own text, of neighbours (per hop) and of the free vector.
    shortlist_recall_ : dict of str to float
        Share of the training pairs ("train") and held-out pairs ("held_out") whose label is in the
        first member's shortlist, and the same without propagation.
    estimators_ : list of ShortlistRanker
        The members: clusters and classifiers.
    trained_labels_ : ndarray of int64
        Ids of the labels that can be predicted, in the order of the members.
    encoder_ : BagEncoder
        Token embeddings: those of the first member's ranker, or the frozen ones of the surrogate.
    n_clusters_ : int
    history_ : list of dict
        Stage, loss and, with early stopping, held-out precision of every epoch.
    n_iter_ : int
        Epochs of all stages.
    classes_, n_labels_, label_names_, label_frequency_, n_samples_fit_, calibrator_
        As in every estimator.

    References
    ----------
    ECLARE (WWW 2021); DECAF (WSDM 2021).

    Examples
    --------
    >>> from skxc import LabelGraphXC
    >>> from skxc.datasets import make_planted_xc
    >>> data = make_planted_xc(n_samples=200, n_labels=30, random_state=0)
    >>> model = LabelGraphXC(n_epochs=3, random_state=0)
    >>> model = model.fit(data.train_texts, data.train_labels, label_features=data.label_texts)
    >>> model.predict_topk(data.test_texts[:3], k=2)[0].shape
    (3, 2)
    """

    # Parameters of the base that do not apply: bags of words need neither chunks nor bfloat16.
    warm_start: ClassVar[bool] = False
    precision: ClassVar[str] = "float32"
    _named_graphs: ClassVar[tuple[str, ...]] = ()
    # Building the classifiers is most of a step, so that smaller batches are not cheaper.
    _fewest_steps: ClassVar[int] = 16
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{
            name: constraint
            for name, constraint in NeuralBase._parameter_constraints.items()
            if name not in ("warm_start", "precision", "micro_batch_size")
        },
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "walk": [StrOptions({"exact", "simulate"})],
        "walk_length": [Interval(Integral, 1, None, closed="left")],
        "walk_restart": [Interval(Real, 0, 1, closed="right")],
        "walk_terms": [Interval(Integral, 1, None, closed="left")],
        "walk_width": [Interval(Integral, 1, None, closed="left")],
        "walk_top_k": [Interval(Integral, 1, None, closed="left")],
        "head_threshold": [Interval(Integral, 1, None, closed="left"), None],
        "prune_distance": [Interval(Real, 0, 2, closed="both"), None],
        "graph_mode": [StrOptions({"replace", "join"})],
        "n_hops": [Interval(Integral, 1, None, closed="left")],
        "n_clusters": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "beam_size": [Interval(Integral, 1, None, closed="left")],
        "cluster_power": [Interval(Real, 0, None, closed="left")],
        "max_candidates": [Interval(Integral, 1, None, closed="left"), None],
        "n_negatives": [Interval(Integral, 1, None, closed="left"), None],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "use_graph": ["boolean"],
        "fusion": [StrOptions({"attention", "sum"})],
        "use_refinement": ["boolean"],
        "propagate": ["boolean"],
        "propagate_labels": ["boolean"],
        "smooth_clusters": ["boolean"],
        "graph_negatives": ["boolean"],
        "freeze_embeddings": ["boolean"],
        "predict_unseen": ["boolean"],
        "add_missed_positives": ["boolean"],
        "loss": [StrOptions({"bce", "decoupled"})],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "n_epochs": [Interval(Integral, 1, None, closed="left"), tuple],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), tuple, None],
    }

    def __init__(
        self,
        *,
        n_components: int = 256,
        walk: str = "exact",
        walk_length: int = 400,
        walk_restart: float = 0.8,
        walk_terms: int = 4,
        walk_width: int = 64,
        walk_top_k: int = 10,
        head_threshold: int | None = 500,
        prune_distance: float | None = 1.0,
        graph_mode: str = "replace",
        n_hops: int = 1,
        n_clusters: Any = "auto",
        beam_size: int = 100,
        cluster_power: float = 0.25,
        max_candidates: int | None = 100,
        n_negatives: int | None = 6,
        n_estimators: int = 1,
        use_graph: bool = True,
        fusion: str = "attention",
        use_refinement: bool = True,
        propagate: bool = True,
        propagate_labels: bool = False,
        smooth_clusters: bool = True,
        graph_negatives: bool = True,
        freeze_embeddings: bool = False,
        predict_unseen: bool = True,
        add_missed_positives: bool = True,
        loss: str = "decoupled",
        temperature: float = 0.05,
        dropout: float = 0.2,
        n_epochs: Any = (3, 2, 4),
        batch_size: Any = "auto",
        learning_rate: Any = None,
        max_grad_norm: float | None = None,
        early_stopping: bool = False,
        n_iter_no_change: int = 3,
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
        self.n_components = n_components
        self.walk = walk
        self.walk_length = walk_length
        self.walk_restart = walk_restart
        self.walk_terms = walk_terms
        self.walk_width = walk_width
        self.walk_top_k = walk_top_k
        self.head_threshold = head_threshold
        self.prune_distance = prune_distance
        self.graph_mode = graph_mode
        self.n_hops = n_hops
        self.n_clusters = n_clusters
        self.beam_size = beam_size
        self.cluster_power = cluster_power
        self.max_candidates = max_candidates
        self.n_negatives = n_negatives
        self.n_estimators = n_estimators
        self.use_graph = use_graph
        self.fusion = fusion
        self.use_refinement = use_refinement
        self.propagate = propagate
        self.propagate_labels = propagate_labels
        self.smooth_clusters = smooth_clusters
        self.graph_negatives = graph_negatives
        self.freeze_embeddings = freeze_embeddings
        self.predict_unseen = predict_unseen
        self.add_missed_positives = add_missed_positives
        self.loss = loss
        self.temperature = temperature
        self.dropout = dropout
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_grad_norm = max_grad_norm
        self.early_stopping = early_stopping
        self.n_iter_no_change = n_iter_no_change
        self.checkpoint_dir = checkpoint_dir

    # ---- fit

    def _fit(self, data: TrainingSet, held_out: TrainingSet | None) -> None:
        self._epochs(), self._rates()  # a wrong tuple fails before anything is trained
        self.history_: list[dict[str, Any]] = []
        with self._run(data, held_out) as run:
            problem = self._problem(run)
            self._set({"encoder_": problem.encoder, "trained_labels_": problem.labels})
            visits = self._visits(problem, 0)
            self._fit_surrogate(problem, visits)
            self.estimators_ = []
            for number in range(self.n_estimators):
                if number and self.walk == "simulate":
                    visits = self._visits(problem, number)
                self.estimators_.append(self._fit_member(problem, number, visits))
        encoders = self.estimators_[0].encoders
        if encoders is not None:
            self.encoder_ = encoders[1]
        self.n_clusters_ = self.estimators_[0].membership.shape[0]
        self.n_iter_ = max(len(self.history_), 1)

    def _fit_surrogate(self, problem: Problem, visits: sp.csr_array | None) -> None:
        """Train the token embeddings on clusters of labels (stage I)."""
        graph = self._graph(problem, visits)
        unseen = keep_edges(problem.texts, problem.unseen[row_ids(problem.texts)])
        vectors = sp.csr_array(problem.y.T @ problem.rows + unseen)
        vectors = keep_strongest(vectors, CENTROID_WORDS)
        if graph is not None and self.smooth_clusters:
            vectors = strongest_products(normalize_degrees(graph), vectors, CENTROID_WORDS)
        clusters = self._cluster_outputs(problem, vectors, graph, "surrogate")
        task = self._task(problem, "surrogate", clusters)
        task.attributes = lambda: {"estimators_": [self._member(problem, clusters, task)]}
        self._train_stage(problem, task)
        problem.encoder.module_.eval()

    def _fit_member(
        self, problem: Problem, number: int, visits: sp.csr_array | None
    ) -> ShortlistRanker:
        """Train one member on the surrogate's token embeddings (stages II to IV)."""
        rows, texts = (text_vectors(problem.encoder, x) for x in (problem.rows, problem.texts))
        graph = self._graph(problem, visits, texts)
        own = sp.eye_array(len(texts), format="csr", dtype=np.float32)
        labels = Outputs(own, problem.texts, hops(graph, self.n_hops))
        vectors = normalize_rows(problem.y.T @ normalize_rows(rows))
        vectors[problem.unseen] = normalize_rows(texts[problem.unseen])
        if labels.hops and self.smooth_clusters:
            vectors = normalize_rows(labels.hops[0] @ vectors)
        clusters = self._cluster_outputs(problem, vectors, graph, f"member-{number}")

        shortlister = self._task(problem, f"shortlister-{number}", clusters, rows=rows)
        shortlister.attributes = lambda: {
            "estimators_": [self._member(problem, clusters, shortlister, labels)]
        }
        self._train_stage(problem, shortlister)
        member = self._member(problem, clusters, shortlister, labels)
        shortlist = self._shortlist(member, problem.rows)
        candidates = member.candidates(
            shortlist,
            len(problem.labels) if self.max_candidates is None else self.max_candidates,
            labels.hops[0] if labels.hops and self.graph_negatives else None,
        )
        ranker = self._task(
            problem,
            f"ranker-{number}",
            labels,
            rows=rows,
            # A label without rows would be nothing but a negative.
            candidates=without_columns(candidates, problem.unseen),
        )
        if problem.held_rows is not None:
            ranker.held_out = lambda task: self._precision(problem, member.with_ranker(task))
        ranker.attributes = lambda: {"estimators_": [member.with_ranker(ranker)]}
        self._train_stage(problem, ranker)
        if number == 0:
            self._set(self._figures(problem, member, shortlist, labels, ranker))
        return member.with_ranker(ranker)

    def _train_stage(self, problem: Problem, task: FusedClassifierTask) -> None:
        progress = self._train(problem.run, task, self._epochs()[_stage_of(task.name)])
        task.fit_offset()
        self.history_ += [{"stage": task.name, **record} for record in progress.history]

    def _attributes(self, task: Any, data: TrainingSet) -> dict[str, Any]:
        """Return the fitted attributes that the current state of a stage amounts to."""
        return task.attributes()

    # ---- the problem

    def _epochs(self) -> tuple[int, ...]:
        return _one_per_stage("n_epochs", self.n_epochs)

    def _rates(self) -> tuple[float, ...]:
        rates = LEARNING_RATES if self.learning_rate is None else self.learning_rate
        return _one_per_stage("learning_rate", rates)

    def _fit_encoder(self, run: Run) -> Encoder:
        """Return fresh token embeddings; the blocks on top of them belong to the stages."""
        data = run.data
        sides = [data.X] if data.label_features is None else [data.X, data.label_features]
        encoder = BagEncoder(dim=self.n_components, residual=False)
        return encoder.fit(*sides, seed=run.seed).to(run.device)

    def _problem(self, run: Run) -> Problem:
        """Return the labels with training rows, and the rows with labels and words."""
        data, held_out = run.data, run.held_out
        encoder = self._fit_encoder(run)
        rows = normalize_rows(encoder.prepare(data.X))
        texts = self._prepare_labels(encoder, rows, data)
        if data.label_features is None:
            texts = keep_strongest(texts, CENTROID_WORDS)
        kept = np.diff(data.y.indptr) > 0
        if (kept & (np.diff(rows.indptr) > 0)).any():
            kept &= np.diff(rows.indptr) > 0
        y, weight = data.y[kept], data.sample_weight[kept]
        is_seen = np.bincount(y.indices, minlength=data.n_labels) > 0
        wanted = is_seen.copy()
        if self.predict_unseen and data.label_features is not None:
            wanted |= np.diff(texts.indptr) > 0
        labels = np.flatnonzero(wanted)
        excluded = same_text_pairs(data.X, data.label_features, data.y)
        given = cast("LabelGraph | None", data.graph) if self.use_graph else None
        limit = math.inf if self.head_threshold is None else self.head_threshold
        return Problem(
            run=run,
            encoder=encoder,
            labels=labels,
            rows=rows[kept],
            y=sp.csr_array(y[:, labels]),
            sample_weight=weight,
            texts=normalize_rows(texts[labels]),
            excluded=None if excluded is None else sp.csr_array(excluded[kept][:, labels]),
            frequent=(y.T @ weight)[labels] > limit,
            unseen=~is_seen[labels],
            graph=None if given is None else given.to_csr()[labels][:, labels],
            held_rows=None if held_out is None else normalize_rows(encoder.prepare(held_out.X)),
            held_y=None if held_out is None else sp.csr_array(held_out.y[:, labels]),
        )

    # ---- graph and clusters

    def _visits(self, problem: Problem, number: int) -> sp.csr_array | None:
        """Return the visits of a member's walk, or None where no walk is needed."""
        if not self.use_graph or (problem.graph is not None and self.graph_mode == "replace"):
            return None
        y = without_columns(problem.y, problem.frequent)
        options: dict[str, Any] = {
            "restart": self.walk_restart,
            "length": self.walk_length,
            "row_weight": problem.sample_weight,
        }
        if self.walk == "simulate":
            return simulated_walk(y, rng=stream(problem.run.seed, "walk", number), **options)
        return random_walk(y, n_terms=self.walk_terms, width=self.walk_width, **options)

    def _graph(
        self, problem: Problem, visits: sp.csr_array | None, texts: Vectors | None = None
    ) -> sp.csr_array | None:
        """Return the label graph with self-loops, not normalised; None without a graph.

        Only after the surrogate there are vectors of `texts` to prune it by.
        """
        similar = None if texts is None else self.prune_distance
        return correlation_graph(
            visits, self.walk_top_k, given=problem.graph, vectors=texts, max_distance=similar
        )

    def _cluster_outputs(
        self, problem: Problem, vectors: Any, graph: sp.csr_array | None, place: str
    ) -> Outputs:
        """Return balanced clusters of labels as outputs, with their texts and their graph."""
        n_labels = len(problem.labels)
        wanted = self.n_clusters
        if wanted == "auto":
            wanted = max(int(n_labels / LABELS_PER_CLUSTER), 1)
        if wanted < n_labels:
            wanted = 2 ** (int(wanted).bit_length() - 1)
        rng = stream(problem.run.seed, "clusters", place)
        leaf = balanced_kmeans_apart(vectors, problem.frequent, n_clusters=wanted, rng=rng)
        ones = np.ones(n_labels, dtype=np.float32)
        membership = sp.csr_array(sp.coo_array((ones, (leaf, np.arange(n_labels)))))
        between = None if graph is None else cluster_graph(membership, graph, self.walk_top_k)
        texts = normalize_rows(sp.csr_array(membership @ problem.texts))
        return Outputs(membership, texts, hops(between, self.n_hops))

    # ---- stages

    def _task(
        self,
        problem: Problem,
        name: str,
        outputs: Outputs,
        *,
        rows: Vectors | None = None,
        candidates: sp.csr_array | None = None,
    ) -> FusedClassifierTask:
        """Return what a stage trains; after the surrogate, `rows` are fixed text vectors."""
        from skxc.batching import UniformBatches
        from skxc.losses import make_loss
        from skxc.training import FusedClassifierTask

        run = problem.run
        encoder, start = problem.encoder, None
        sides: dict[str, Any] = {"rows": problem.rows, "texts": outputs.texts, "encoder": encoder}
        if rows is not None:
            own = text_vectors(encoder, outputs.texts)
            start = outputs.hops[0] @ own if outputs.hops else own
            if self.freeze_embeddings:
                sides = {"rows": rows, "texts": own, "encoder": None}
            else:
                sides["encoder"] = copy.copy(encoder)
                sides["encoder"].module_ = copy.deepcopy(encoder.module_)
        y, excluded = sp.csr_array(problem.y @ outputs.membership.T), None
        if problem.excluded is not None:
            excluded = drop_pairs(sp.csr_array(problem.excluded @ outputs.membership.T), y)
        task = FusedClassifierTask(
            name,
            **sides,
            hops=outputs.hops,
            start=start if self.use_refinement else None,
            fusion=self.fusion,
            dropout=self.dropout,
            loss=make_loss(self.loss),
            temperature=self.temperature,
            y=y,
            sample_weight=problem.sample_weight,
            excluded=excluded,
            candidates=candidates,
            n_negatives=self.n_negatives,
            add_missed=self.add_missed_positives,
            batches=UniformBatches(y.shape[0], self._batch_size(y.shape[0])),
            learning_rate=self._rates()[_stage_of(name)],
            seed=int(stream(run.seed, name).integers(2**31)),
            device=run.device,
        )
        if problem.held_rows is not None:
            held_rows = problem.held_rows
            truth = sp.csr_array(problem.held_y @ outputs.membership.T)
            task.held_out = lambda task: _output_precision(
                task, text_vectors(task.encoder or encoder, held_rows), truth
            )
        return task

    def _member(
        self,
        problem: Problem,
        clusters: Outputs,
        shortlister: FusedClassifierTask,
        labels: Outputs | None = None,
    ) -> ShortlistRanker:
        """Return a member whose labels are scored by their texts until a ranker is trained."""
        hops = [] if labels is None else labels.hops
        texts = text_vectors(problem.encoder, problem.texts)
        dim = self.n_components
        return ShortlistRanker(
            membership=clusters.membership,
            cluster_weights=shortlister.classifier_weights(),
            cluster_offset=float(shortlister.classifiers.offset.detach()),
            label_offset=0.0,
            label_weights=np.asarray(hops[0] @ texts if hops else texts, dtype=np.float32),
            cluster_documents=DocumentMap(*shortlister.document.to_numpy()),
            label_documents=DocumentMap(
                np.zeros((dim, dim), dtype=np.float32), np.zeros(dim, dtype=np.float32)
            ),
            cluster_graph=clusters.hops[0] if clusters.hops and self.propagate else None,
            label_graph=hops[0] if hops and self.propagate else None,
            encoders=None if self.freeze_embeddings else (shortlister.encoder,) * 2,
        )

    def _shortlist(self, member: ShortlistRanker, rows: sp.csr_array) -> sp.csr_array:
        """Return the probabilities of the clusters in every row's shortlist (stage III)."""
        blocks = []
        for start in range(0, rows.shape[0], BLOCK_ROWS):
            vectors, _ = self._text_vectors(member, rows[start : start + BLOCK_ROWS])
            blocks.append(member.best_clusters(vectors, self.beam_size))
        return sp.csr_array(sp.vstack(blocks, format="csr"))

    # ---- figures

    def _precision(self, problem: Problem, member: ShortlistRanker) -> float:
        """Return a member's precision@1 on the held-out rows."""
        best, _ = rank_rows(self._scores(member, problem.held_rows), 1)
        return precision_at_k(problem.held_y, best, k=1)

    def _figures(
        self,
        problem: Problem,
        member: ShortlistRanker,
        shortlist: sp.csr_array,
        labels: Outputs,
        ranker: FusedClassifierTask,
    ) -> dict[str, Any]:
        """Return the fitted attributes that show what the first member has learnt."""
        ids, n_labels = problem.labels, problem.run.data.n_labels
        weights = ranker.fusion_weights()
        fusion = np.zeros((n_labels, weights.shape[1]), dtype=np.float32)
        fusion[ids] = weights
        graph = labels.hops[0] if labels.hops else sp.csr_array((len(ids), len(ids)))
        return {
            "label_graph_": sp.csr_array(
                (graph.data, (ids[row_ids(graph)], ids[graph.indices])), shape=(n_labels, n_labels)
            ),
            "fusion_weights_": fusion,
            "shortlist_recall_": self._recall(problem, member, shortlist),
        }

    def _recall(
        self, problem: Problem, member: ShortlistRanker, shortlist: sp.csr_array
    ) -> dict[str, float]:
        """Return the share of pairs whose label is in the shortlist, with and without GAME."""
        plain = replace(member, cluster_graph=None)
        sides = {"train": (problem.rows, problem.y, shortlist)}
        if problem.held_rows is not None:
            found = self._shortlist(member, problem.held_rows)
            sides["held_out"] = (problem.held_rows, problem.held_y, found)
        recall = {}
        for name, (rows, y, found) in sides.items():
            # A cluster counts as often as the row has labels in it.
            truth = sp.csr_array(y @ member.membership.T)
            recall[name] = share_found(truth, found)
            recall[f"{name}_without_propagation"] = share_found(truth, self._shortlist(plain, rows))
        return recall

    # ---- search

    def _embed(self, X: Features) -> Vectors:
        encoder = self.encoder_.to(self._device())
        return encoder.encode(normalize_rows(encoder.prepare(X)))

    def _search(self, X: Features, k: int) -> TopK:
        return self._search_in_blocks(normalize_rows(self.encoder_.prepare(X)), k)

    def _search_block(self, queries: sp.csr_array, k: int) -> TopK:
        """Return the best labels of a block of prepared rows: the mean over the members."""
        total = sum(self._scores(member, queries) for member in self.estimators_)
        found, scores = rank_rows(sp.csr_array(total / np.float32(len(self.estimators_))), k)
        labels = np.append(self.trained_labels_, -1).astype(found.dtype)
        return labels[found], scores

    def _scores(self, member: ShortlistRanker, rows: sp.csr_array) -> sp.csr_array:
        """Return a member's probabilities of the labels of prepared rows."""
        for_clusters, for_labels = self._text_vectors(member, rows)
        shortlist = member.best_clusters(for_clusters, self.beam_size)
        width = max(self.beam_size, self.top_k)
        options: dict[str, Any] = {"power": self.cluster_power, "spread": self.propagate_labels}
        return member.score(shortlist, for_labels, width, **options)

    def _text_vectors(self, member: ShortlistRanker, rows: sp.csr_array) -> tuple[Vectors, Vectors]:
        """Return the text vectors of rows for a member's shortlister, and for its ranker."""
        if member.encoders is None:
            vectors = text_vectors(self.encoder_.to(self._device()), rows)
            return vectors, vectors
        shortlister, ranker = (encoder.to(self._device()) for encoder in member.encoders)
        return text_vectors(shortlister, rows), text_vectors(ranker, rows)


def text_vectors(encoder: Encoder, rows: sp.csr_array) -> Vectors:
    """Return ``E^T x`` of prepared rows, shape (n, d), not normalised."""
    out = np.empty((rows.shape[0], encoder.dim_), dtype=np.float32)
    return encoder.encode(rows, head=lambda vectors: vectors, out=out)


def _stage_of(name: str) -> int:
    return STAGES.index(name.partition("-")[0])


def _one_per_stage(name: str, value: Any) -> tuple[Any, ...]:
    """Return a parameter as one positive number for each of the three stages."""
    values = value if isinstance(value, tuple) else (value,) * len(STAGES)
    if len(values) != len(STAGES) or not all(isinstance(v, (int, float)) and v > 0 for v in values):
        raise ValueError(
            f"`{name}` must be a positive number, or one for each of the stages "
            f"{', '.join(STAGES)}, but is {value!r}."
        )
    return values


def _output_precision(task: FusedClassifierTask, vectors: Vectors, truth: sp.csr_array) -> float:
    """Return precision@1 of a task that scores every output."""
    documents = DocumentMap(*task.document.to_numpy())(vectors)
    best = search_exactly(documents, task.classifier_weights(), 1)[0]
    return precision_at_k(sp.csr_array((truth > 0).astype(np.float32)), best, k=1)
