"""UnifiedXC: a dual encoder and a classifier trained together over picked labels (UniDEC).

The recipe is `_fit`: prepare texts once; give the encoder two heads and every label a vector; train
all of them on pools of labels, mined anew every few epochs; keep the label vectors of both heads;
learn on held-out rows what the heads weigh. Prediction is one search over the two, side by side.
"""

from __future__ import annotations

import warnings
from itertools import product
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from skxc.base import Features, TrainingSet
from skxc.estimators._encoder_base import (
    EncoderBase,
    figures,
    label_graph,
    search_exactly,
)
from skxc.estimators._neural import Run
from skxc.exceptions import LabelTextWarning
from skxc.metrics import inverse_propensity, ndcg_at_k, psndcg_at_k
from skxc.negatives import AllLabels, InBatch, Mined, Negatives
from skxc.ranking import inner_products, rank_pairs, union_of_lists
from skxc.utils._random import stream, torch_seed
from skxc.utils._same_text import same_text_pairs
from skxc.utils._sparse import TopK, normalize_rows

if TYPE_CHECKING:
    from typing_extensions import Self

    from skxc.training import LabelTable, PoolSettings, TwoHeads, UnifiedTask

# Capacity of a pool in rows of the batch, unless it is given.
POOL_PER_ROW = 3
# Width of a head, unless it is given or the encoder is narrower.
WIDEST_HEAD = 384
# Label vectors that are computed at once beside the whole table, for the sake of memory.
LABELS_AT_ONCE = 16_384
# Labels that are searched for every row when mining.
MINED_DEPTH = 100
# What fusion="learned" tries for the text's cosine and for the logarithm of a label's rows, and
# what it takes where it has no held-out rows.
TEXT_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
FREQUENCY_WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5)
USUAL_WEIGHTS = (0.5, 0.4)
# Labels per list among which the trials choose, and the weights that find them.
TRIAL_DEPTH = 50
TRIAL_QUERIES = ((0.0, 0.0), (1.5, 0.0), (0.5, 0.6), (1.0, 1.25))


class UnifiedXC(EncoderBase):
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
        Loss of both heads, averaged over the positives of a row in the pool.
    temperature : float, default=1/18
        Divides the scores in training.
    head_weight : float, default=0.5
        Weight of the dual encoder's loss in [0, 1], lambda; the classifier's has the rest. 1 trains
        a dual encoder only, 0 a classifier only; the other head is then not trained at all.
    symmetric : bool, default=False
        Whether both losses also score the pool's labels against the batch's samples, with half the
        weight.
    pool_size : int or None, default=None
        Capacity of the pool; None: three times the batch size. Where all labels fit, the pool is
        all labels and the loss is exact.
    pool_keep : {"frequent", "random"}, default="frequent"
        Which labels stay when a pool is full: those that most rows of the batch gave, or any, which
        spares rare labels.
    pool_fill : bool, default=True
        Whether positives that were not sampled fill the free places of a pool.
    n_positives : int or None, default=3
        Positives of a row that enter the pool at each step, beta; None: all.
    n_negatives : int, default=6
        Mined labels of a row that enter the pool at each step, eta. 0 switches mining off, for
        comparison: it is then no longer UniDEC.
    clustered : bool, default=True
        Whether batches are clusters of similar samples, from the first refresh on.
    refresh_every : int, default=3
        Epochs between minings and clusterings. Before the first, batches are random and pools hold
        positives only.
    projection_dim : int or None, default=None
        Width of each head; None: that of the encoder, but 384 (UniDEC's) at most.
    label_init : {"text", "random"}, default="text"
        "text": label vectors start at the classifier head's vectors of the label texts, as in NGAME
        and not in UniDEC. Those of labels without a training row, which training only pushes away
        from samples, end halfway between where it left them and their text. "random" is UniDEC's
        way.
    classifier_similarity : {"cosine", "dot"}, default="cosine"
        How the classifier scores in training. Prediction uses the cosine; "dot" is UniDEC's way,
        which normalises in prediction only.
    label_dropout : float, default=0.1
        Dropout on the label vectors.
    table_dtype : {"float32", "bfloat16"}, default="float32"
        Number format of the label vectors in training, and of their optimiser state. bfloat16, with
        stochastic rounding, takes half the memory.
    table_device : {"auto", "cpu"}, default="auto"
        Where the label vectors are in training; "auto" is the device of everything else.
    prediction_head : {"both", "dual_encoder", "classifier"}, default="both"
        Which head scores: both, or one. May be changed after `fit`. Where one head alone was
        trained, "both" is that one.
    fusion : {"learned", "sum"}, default="learned"
        How both heads score together; may be changed after `fit`. "learned": the classifier's
        cosine, plus u times the dual encoder's, plus v * temperature * log(1 + training rows of the
        label), which pools take away by drawing frequent labels as negatives more often. u and v
        are those of a few with the best nDCG@5 + PSnDCG@5 on the held-out rows, 0.5 and 0.4 where
        there are none. "sum" is UniDEC's way, u = 1 and v = 0.
    graph_weight : float, default=0.5
        With a graph: weight of label texts as extra queries whose positives are their neighbours
        and, for the classifier, their own label (Gandalf).
    mask_neighbors : bool, default=True
        With a graph: whether neighbours of a row's positives are left out of its negatives.
    index : {"auto", "exact", "hnsw", "ivf"} or Index, default="auto"
        How label vectors are searched; "auto" is exact up to 500,000.
    n_epochs : int, default=7
        Epochs of training.
    batch_size : int or "auto", default="auto"
        Rows per step; "auto" is 1,024, less for small data.
    micro_batch_size : int or None, default=None
        Rows encoded at once with gradient caching, which bounds the memory of a step whatever the
        size of the pool; gradients do not depend on it. None: all at once.
    learning_rate : float or None, default=None
        None: the encoder's own. Heads and label vectors learn at rates in proportion.
    max_grad_norm : float or None, default=None
        Bound on the norm of all gradients of a step.
    precision : {"auto", "bfloat16", "float32"}, default="auto"
        Number format of transformers; "auto" is bfloat16 where the hardware has it.
    early_stopping : bool, default=False
        Whether to watch precision@1 on held-out training rows, by the plain sum of the heads, stop
        when it has not risen for `n_iter_no_change` epochs, and keep the best epoch.
    n_iter_no_change : int, default=3
    warm_start : bool, default=False
        Whether `fit` goes on from the encoder, the heads and the label vectors of the previous fit,
        which keeps the latter only if this was set before it.
    checkpoint_dir : str, Path or None, default=None
        Folder for a checkpoint after every epoch. A killed fit that is started again with the same
        parameters and data goes on from there and ends with the same model.
    top_k : int, default=100
        Number of labels that are retrieved per row.
    threshold : float, default=0.5
        Smallest probability of a predicted label.
    graph : sparse matrix, LabelGraph, "cooccurrence" or None, default=None
        Graph over the labels, used in training only. "cooccurrence" builds it from the training
        labels.
    label_features : LabelTexts, sequence of str, matrix or None, default=None
        Texts or features of the labels, in the same form as the samples. None, with features only:
        a label is the average of its training rows, with a warning.
    vectorizer : transformer or None, default=None
        Turns texts into features for the bag encoder; None leaves texts to the encoder.
    device : str, default="auto"
    random_state : int, RandomState instance or None, default=None
    n_jobs : int or None, default=None
        Threads that torch uses in `fit`; None: torch's own number.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    encoder_ : Encoder
        The trained encoder.
    heads_ : dict of str to ndarray
        Weights of the two heads.
    label_vectors_ : ndarray of float32, shape (n_labels, 2 * dim + 1)
        The two properties below side by side, and temperature * log(1 + training rows); one of
        them and no more where one head was trained.
    label_embeddings_ : ndarray of float32, shape (n_labels, dim), or None
        Unit vectors of the label texts, by the dual encoder's head.
    classifier_weights_ : ndarray of float32, shape (n_labels, dim), or None
        Unit label vectors of the classifier.
    fusion_weights_ : ndarray of float, shape (2,)
        u and v of ``fusion="learned"``.
    pool_report_ : dict of str to float
        "pool_size", "positives_per_query", "mined_share" (of the pool: labels that are positives of
        no row of the batch), "masked_fraction": means over all steps; "n_refreshes"; and
        "empty_lists", the share of rows for which the last mining found nothing. They expose most
        silent failures.
    history_ : list of dict
        Loss per epoch, and the held-out precision with early stopping.
    n_iter_ : int
        Epochs that were trained.
    n_refreshes_, pool_size_, positives_per_query_in_pool_, masked_fraction_
        The figures of the report under the names that `DualEncoderXC` gives them.
    classes_, n_labels_, label_names_, label_frequency_, n_samples_fit_, calibrator_
        As in every estimator.

    Warns
    -----
    LabelTextWarning
        There are no label features, so the dual encoder has no texts to learn from.

    References
    ----------
    Kharbanda et al., "UniDEC: Unified Dual Encoder and Classifier Training for Extreme Multi-Label
    Classification", WWW 2025 (arXiv 2405.03714); NGAME (WSDM 2023) for label vectors that start at
    label texts; Gandalf (arXiv 2405.04545) for label texts as queries; Yi et al., "Sampling-Bias-
    Corrected Neural Modeling for Large Corpus Item Recommendations", RecSys 2019, for what drawing
    negatives by frequency does to scores.

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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **EncoderBase._parameter_constraints,
        "loss": [StrOptions({"decoupled", "softmax", "balanced"}), callable],
        "graph_weight": [Interval(Real, 0, None, closed="left")],
        "mask_neighbors": ["boolean"],
        "head_weight": [Interval(Real, 0, 1, closed="both")],
        "symmetric": ["boolean"],
        "pool_size": [Interval(Integral, 1, None, closed="left"), None],
        "pool_keep": [StrOptions({"frequent", "random"})],
        "pool_fill": ["boolean"],
        "n_negatives": [Interval(Integral, 0, None, closed="left")],
        "clustered": ["boolean"],
        "projection_dim": [Interval(Integral, 1, None, closed="left"), None],
        "label_init": [StrOptions({"text", "random"})],
        "classifier_similarity": [StrOptions({"cosine", "dot"})],
        "label_dropout": [Interval(Real, 0, 1, closed="left")],
        "table_dtype": [StrOptions({"float32", "bfloat16"})],
        "table_device": [StrOptions({"auto", "cpu"})],
        "prediction_head": [StrOptions({"both", "dual_encoder", "classifier"})],
        "fusion": [StrOptions({"learned", "sum"})],
    }

    def __init__(
        self,
        *,
        encoder: Any = "bag",
        loss: Any = "decoupled",
        temperature: float = 1 / 18,
        head_weight: float = 0.5,
        symmetric: bool = False,
        pool_size: int | None = None,
        pool_keep: str = "frequent",
        pool_fill: bool = True,
        n_positives: int | None = 3,
        n_negatives: int = 6,
        clustered: bool = True,
        refresh_every: int = 3,
        projection_dim: int | None = None,
        label_init: str = "text",
        classifier_similarity: str = "cosine",
        label_dropout: float = 0.1,
        table_dtype: str = "float32",
        table_device: str = "auto",
        prediction_head: str = "both",
        fusion: str = "learned",
        graph_weight: float = 0.5,
        mask_neighbors: bool = True,
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
        self.loss = loss
        self.temperature = temperature
        self.head_weight = head_weight
        self.symmetric = symmetric
        self.pool_size = pool_size
        self.pool_keep = pool_keep
        self.pool_fill = pool_fill
        self.n_positives = n_positives
        self.n_negatives = n_negatives
        self.clustered = clustered
        self.refresh_every = refresh_every
        self.projection_dim = projection_dim
        self.label_init = label_init
        self.classifier_similarity = classifier_similarity
        self.label_dropout = label_dropout
        self.table_dtype = table_dtype
        self.table_device = table_device
        self.prediction_head = prediction_head
        self.fusion = fusion
        self.graph_weight = graph_weight
        self.mask_neighbors = mask_neighbors
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

    # ---- fit

    def _fit(self, data: TrainingSet, held_out: TrainingSet | None) -> None:
        if data.label_features is None:
            self._name_missing_texts()
        with self._run(data, held_out) as run:
            task = self._task(run)
            progress = self._train(run, task, self.n_epochs)
            self._set(self._attributes(task, data), **figures(task, progress))
            self.pool_report_ = self._pool_report(task)
            del task  # the table, the largest part of it, need not be there while weights are tried
            if self.trained_heads_ == "both" and not self._is_trial(run):
                self.fusion_weights_ = self._learn_fusion(held_out)
        self._warn_if_much_is_masked()

    def _name_missing_texts(self) -> None:
        """Say what goes without label features; with raw texts nothing does."""
        others = "LearnedIndexXC and LinearTreeXC need none."
        if self.input_layout_ == "texts" and self.vectorizer is None:
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

    def _task(self, run: Run) -> UnifiedTask:
        """Return what is trained: encoder, heads and label vectors, on pools."""
        from skxc.training import UnifiedTask

        data, held_out = run.data, run.held_out
        encoder = self._fit_encoder(run)
        samples = encoder.prepare(data.X)
        labels = self._prepare_labels(encoder, samples, data)
        heads = self._fit_heads(run, encoder.dim_)
        return UnifiedTask(
            self._pool_settings(data),
            encoder=encoder,
            samples=samples,
            labels=labels,
            heads=heads,
            table=self._table(run, encoder, heads, labels),
            head_weight=self.head_weight,
            symmetric=self.symmetric,
            unit_classifier=self.classifier_similarity == "cosine",
            learning_rate=self.learning_rate,
            micro_batch_size=self.micro_batch_size,
            precision=self.precision,
            y=data.y,
            sample_weight=data.sample_weight,
            device=run.device,
            held_out=self._watched(held_out, encoder.prepare),
        )

    def _trained_labels(self) -> Any:
        return getattr(self, "label_vectors_", None)

    def _fit_heads(self, run: Run, input_dim: int) -> TwoHeads:
        """Return fresh heads, or the trained ones to go on with."""
        from skxc.training import TwoHeads

        if self.warm_start and hasattr(self, "heads_"):
            return self._heads().to(run.device)
        with torch_seed(int(stream(run.seed, "heads").integers(2**31))):
            dim = self.projection_dim or min(input_dim, WIDEST_HEAD)
            return TwoHeads(input_dim, dim).to(run.device)

    def _heads(self) -> TwoHeads:
        """Return the trained heads as a module."""
        import torch

        from skxc.training import TwoHeads

        dim, input_dim = self.heads_["label.weight"].shape
        with torch.device("meta"):  # fresh weights would draw from the global generator
            heads = TwoHeads(input_dim, dim)
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in self.heads_.items()}
        heads.load_state_dict(tensors, assign=True)
        return heads.eval()

    def _table(self, run: Run, encoder: Any, heads: TwoHeads, labels: Any) -> LabelTable:
        """Return the label vectors of the classifier as training starts from them."""
        import torch

        from skxc.training import LabelTable

        shape = (run.data.n_labels, heads.dim)
        if self.warm_start and getattr(self, "free_vectors_", None) is not None:
            start = self.free_vectors_
        elif self.label_init == "text":
            start = np.empty(shape, dtype=np.float32)
            head = heads.eval().unit_against_labels
            encoder.encode(labels, precision=self.precision, head=head, out=start)
        else:  # Xavier
            bound = np.sqrt(6 / sum(shape))
            start = stream(run.seed, "table").uniform(-bound, bound, shape).astype(np.float32)
        table = LabelTable(
            start, dropout=self.label_dropout, dtype=self.table_dtype, device=run.device
        )
        return table.to(run.device if self.table_device == "auto" else torch.device("cpu"))

    def _pool_settings(self, data: TrainingSet) -> PoolSettings:
        """Return how pools of labels are drawn and scored."""
        from skxc.batching import ClusteredBatches, UniformBatches
        from skxc.losses import make_loss
        from skxc.training import PoolSettings

        n_samples, size = data.n_samples, self._batch_size(data.n_samples)
        batches: Any = UniformBatches(n_samples, size)
        if self.clustered:
            batches = ClusteredBatches(
                n_samples, size, refresh_every=self.refresh_every, growth=None
            )
        return PoolSettings(
            loss=make_loss(self.loss),
            temperature=self.temperature,
            negatives=self._negatives(data.n_labels, size),
            batches=batches,
            search=search_exactly,
            n_positives=self.n_positives,
            graph=label_graph(data),
            graph_weight=self.graph_weight,
            mask_neighbors=self.mask_neighbors,
            excluded=same_text_pairs(data.X, data.label_features, data.y),
        )

    def _negatives(self, n_labels: int, batch_size: int) -> Negatives:
        """Return the source of pools: all labels where they fit, picked ones otherwise."""
        capacity = POOL_PER_ROW * batch_size if self.pool_size is None else self.pool_size
        if capacity >= n_labels:
            return AllLabels()
        pool: dict[str, Any] = {
            "pool_size": capacity,
            "keep": self.pool_keep,
            "fill": self.pool_fill,
        }
        if not self.n_negatives:
            return InBatch(**pool)
        return Mined(
            depth=MINED_DEPTH,
            n_negatives=self.n_negatives,
            n_kept=self.n_negatives * self.refresh_every,
            refresh_every=self.refresh_every,
            **pool,
        )

    def _attributes(self, task: Any, data: TrainingSet) -> dict[str, Any]:
        """Return the fitted attributes that the current state of the training amounts to."""
        return {
            "encoder_": task.encoder,
            "heads_": {k: v.detach().cpu().numpy() for k, v in task.heads.state_dict().items()},
            "label_vectors_": self._all_label_vectors(task, data),
            "fusion_weights_": np.array(USUAL_WEIGHTS),
            "trained_heads_": _trained_heads(self.head_weight),
            "free_vectors_": task.table.to_numpy() if self.warm_start else None,
            "_built_indices": {},
        }

    def _all_label_vectors(self, task: Any, data: TrainingSet) -> NDArray[np.float32]:
        """Return the label vectors of the trained heads side by side, and the frequency of both."""
        n_columns = task.prediction_dim
        is_fused = 0 < self.head_weight < 1
        kept = np.empty((data.n_labels, n_columns + is_fused), dtype=np.float32)
        vectors = task.prediction_vectors(kept[:, :n_columns])
        if is_fused:
            frequency = data.y.T @ data.sample_weight
            kept[:, -1] = self.temperature * np.log1p(frequency)
        if self.label_init == "text" and self.head_weight < 1:
            # Only ever negatives, they have learned which samples are not theirs and no more.
            unseen = np.flatnonzero(np.bincount(data.y.indices, minlength=data.n_labels) == 0)
            _average_with_texts(vectors[:, -task.heads.dim :], unseen, task)
        return kept

    def _pool_report(self, task: UnifiedTask) -> dict[str, float]:
        negatives, report = task.settings.negatives, task.report
        is_mined = isinstance(negatives, Mined)
        mined = report.unmatched if is_mined else 0
        empty = negatives.n_empty_ / task.y.shape[0] if is_mined and report.n_refreshes else 0
        return {
            "pool_size": self.pool_size_,
            "positives_per_query": self.positives_per_query_in_pool_,
            "n_refreshes": float(self.n_refreshes_),
            "mined_share": mined / max(report.pool_size, 1),
            "empty_lists": float(empty),
            "masked_fraction": self.masked_fraction_,
        }

    # ---- search

    @property
    def label_embeddings_(self) -> NDArray[np.float32] | None:
        """Unit vectors of the label texts, or None where the dual encoder was not trained."""
        return self._half("dual_encoder", 0)

    @property
    def classifier_weights_(self) -> NDArray[np.float32] | None:
        """Unit label vectors of the classifier, or None where it was not trained."""
        return self._half("classifier", -1)

    def _half(self, head: str, place: int) -> NDArray[np.float32] | None:
        vectors = self.label_vectors_
        if self.trained_heads_ == "both":
            return np.split(vectors[:, :-1], 2, axis=1)[place]
        return vectors if self.trained_heads_ == head else None

    def _embed(self, X: Features) -> NDArray[np.float32]:
        """Return the vectors of samples by both heads, shape (n, 2 * dim)."""
        device = self._device()
        encoder, heads = self.encoder_.to(device), self._heads().to(device)
        rows = encoder.prepare(X)
        out = np.empty((rows.shape[0], 2 * heads.dim), dtype=np.float32)
        return encoder.encode(rows, precision=self.precision, head=heads.side_by_side, out=out)

    def _search_block(self, queries: NDArray[np.float32], k: int) -> TopK:
        """Return the best labels of a block by one search; over both heads it adds cosines up."""
        head = self._scoring_head()
        if head == "both":
            weights = (1.0, 0.0) if self.fusion == "sum" else self.fusion_weights_
            return self._index("both").search(_fused_queries(queries, *weights), k)
        text, label = np.split(queries, 2, axis=1)
        side = text if head == "dual_encoder" else label
        return self._index(head).search(np.ascontiguousarray(side), k)

    def _learn_fusion(self, held_out: TrainingSet | None) -> NDArray[np.float64]:
        """Return the weights with the best nDCG@5 + PSnDCG@5 on held-out rows, ties to small ones.

        The sum asks for what is right as well as for what is rare.
        """
        if held_out is None or not held_out.y.nnz:
            return np.array(USUAL_WEIGHTS)
        rows, labels, scores = self._trial_scores(held_out.X)
        shape = held_out.n_samples, min(10, self.n_labels_)
        frequency = np.expm1(self.label_vectors_[:, -1] / self.temperature)
        rarity = inverse_propensity(frequency, max(self.n_samples_fit_, 3))
        own = same_text_pairs(held_out.X, held_out.label_features, held_out.y)

        def quality(weights: tuple[float, float]) -> float:
            fused = scores @ np.array([1, *weights], dtype=np.float32)
            best = rank_pairs(rows, labels, fused, shape=shape)[0]
            ranked = {"y_true": held_out.y, "y_score": best, "filter_pairs": own}
            return ndcg_at_k(**ranked) + psndcg_at_k(**ranked, inverse_propensity=rarity)

        return np.array(max(product(TEXT_WEIGHTS, FREQUENCY_WEIGHTS), key=quality))

    def _trial_scores(self, X: Features) -> tuple[NDArray, NDArray, NDArray[np.float32]]:
        """Return the m pairs that any weights may rank high, and what these weigh, shape (m, 3)."""
        queries, depth = self._embed(X), min(TRIAL_DEPTH, self.n_labels_)
        rows, labels = union_of_lists(
            [
                self._index("both").search(_fused_queries(queries, *weights), depth)[0]
                for weights in TRIAL_QUERIES
            ],
            self.n_labels_,
        )
        text, label = np.split(queries, 2, axis=1)
        sides: list[tuple[Any, Any]] = [
            (label, self.classifier_weights_),
            (text, self.label_embeddings_),
        ]
        cosines = [inner_products(asked, kept, rows, labels) for asked, kept in sides]
        return rows, labels, np.stack([*cosines, self.label_vectors_[labels, -1]], axis=1)

    def _scoring_head(self) -> str:
        """Return the head that `prediction_head` asks for, among the trained ones."""
        wanted, trained = self.prediction_head, self.trained_heads_
        if wanted == "both" or wanted == trained:
            return trained
        if trained == "both":
            return wanted
        raise ValueError(
            f"`prediction_head` must be {trained!r} or 'both' because only that head was trained "
            f"(head_weight was {int(trained == 'dual_encoder')}), but is {wanted!r}. Fit with "
            "another head_weight."
        )

    def _vectors(self, side: str) -> NDArray[np.float32]:
        """Return the label vectors of a head, or of both, which are kept side by side."""
        if side == self.trained_heads_:
            return self.label_vectors_
        half = self.label_embeddings_ if side == "dual_encoder" else self.classifier_weights_
        return np.ascontiguousarray(half)

    # ---- new labels

    def add_labels(self, label_features: Any, *, label_names: Any = None) -> Self:
        """Add labels that are known by their text alone; nothing is trained.

        Both heads get the vectors that they give to the new texts. Old labels keep their ids and
        their scores, bit for bit. A later `fit` or `clone` forgets added labels.

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
        self._prepare_new_labels(features)
        text, label = np.split(self._embed(features), 2, axis=1)
        no_rows = np.zeros((len(text), 1), dtype=np.float32)
        sides = {"dual_encoder": [text], "classifier": [label], "both": [text, label, no_rows]}
        new = np.hstack(sides[self.trained_heads_])
        grown["label_vectors_"] = np.concatenate([self.label_vectors_, new])
        if self.free_vectors_ is not None:
            grown["free_vectors_"] = np.concatenate([self.free_vectors_, label])
        self._set(grown, _built_indices={})
        return self


def _fused_queries(
    queries: NDArray[np.float32], text_weight: float, frequency_weight: float
) -> NDArray[np.float32]:
    """Return vectors whose inner products with `label_vectors_` are the fused scores."""
    dim = queries.shape[1] // 2
    fused = np.empty((len(queries), 2 * dim + 1), dtype=np.float32)
    fused[:, :dim] = text_weight * queries[:, :dim]
    fused[:, dim:-1] = queries[:, dim:]
    fused[:, -1] = frequency_weight
    return fused


def _average_with_texts(weights: NDArray[np.float32], labels: Any, task: UnifiedTask) -> None:
    """Move label vectors of the classifier halfway to the vectors of their texts, in place."""
    for start in range(0, len(labels), LABELS_AT_ONCE):
        ids = labels[start : start + LABELS_AT_ONCE]
        texts = task.project(task.labels[ids], task.heads.unit_against_labels)
        weights[ids] = normalize_rows(weights[ids] + texts)


def _trained_heads(head_weight: float) -> str:
    """Return the value of `prediction_head` that asks for exactly the trained heads."""
    if head_weight in (0, 1):
        return "dual_encoder" if head_weight else "classifier"
    return "both"
