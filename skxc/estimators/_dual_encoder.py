"""DualEncoderXC: one encoder for samples and label texts, and retrieval from training rows."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval

from skxc.base import TrainingSet
from skxc.estimators._dual_encoder_base import DualEncoderBase
from skxc.estimators._encoder_base import label_graph


class DualEncoderXC(DualEncoderBase):
    """Dual encoder for extreme multi-label classification.

    One encoder maps samples and label texts to the same space; a label's score is the cosine of its
    vector with the sample's. By default a free vector per label is trained beside its text, and the
    labels of the nearest training rows vote. New labels can be added by their text, and labels
    without any training row are predicted from theirs.

    Parameters
    ----------
    encoder : "bag", str, Path or Encoder, default="bag"
        ``"bag"`` is `skxc.encoders.BagEncoder`, trained from scratch; another string is the name or
        folder of a transformer. Set ``encoder__dim`` and the like through `set_params`.
    loss : str or Loss, default="decoupled"
        "decoupled" (DEXML), "softmax", "balanced", "soft_topk", "triplet" (NGAME),
        "prob_contrastive", "bce" or an object of `skxc.losses`. All positives found in the pool
        count.
    temperature : float, default=0.05
        Divides the cosines in training.
    negatives : {"in_batch", "clustered", "mined", "all"} or Negatives, default="in_batch"
        Which labels a batch is scored against: the batch's own positives; the same over batches of
        similar samples (NGAME); with labels mined by the current model; or every label (DEXML).
    n_positives : int or None, default=None
        Positives of a row that enter the pool at each step; None: all.
    refresh_every : int, default=5
        Epochs between clusterings and minings; an object as `negatives` mines at its own pace.
    classifier_stage : {"joint", True, False}, default="joint"
        "joint": a free vector per label is added to the vector of its text, and both are trained
        together (the prototype of PRIME). True: classifiers are trained after the encoder, on its
        frozen embeddings (NGAME). False: the pure dual encoder.
    classifier_epochs : int, default=10
        Epochs of the stage ``classifier_stage=True``.
    label_dropout : float, default=0.7
        Dropout on the free vectors of ``classifier_stage="joint"``.
    fusion : {"none", "sum", "tree"}, default="none"
        How the scores of label text and classifier are joined, where there is a classifier. "none":
        the classifier's score alone (which holds the text, if joint). "sum": the mean of both
        cosines. "tree": their sum and the probability that a shallow tree gives them, fitted on
        held-out rows (NGAME).
    neighbor_weight : float or "auto", default="auto"
        Weight of the votes of the nearest training rows (see `skxc.ranking.neighbor_votes`).
        "auto" takes the best of a few weights by nDCG@5 on the held-out rows, 0.4 where there are
        none; 0 keeps no training embeddings.
    n_neighbors : int, default=50
        Training rows that vote.
    neighbor_temperature : float, default=0.15
        Temperature of the softmax over neighbours.
    graph_weight : float, default=0.5
        With a graph: weight of label texts as extra queries whose positives are their neighbours
        (Gandalf).
    mask_neighbors : bool, default=True
        With a graph: whether neighbours of a row's positives are left out of its negatives.
    index : {"auto", "exact", "hnsw", "ivf"}, Index or LabelIndex, default="auto"
        How label vectors and training rows are searched; "auto" is exact up to 200,000.
    n_epochs : int, default=7
        Epochs of the encoder's training.
    batch_size : int or "auto", default="auto"
        Rows per step; "auto" is 1,024, less for small data.
    micro_batch_size : int or None, default=None
        Rows encoded at once with gradient caching, which bounds the memory of a step whatever the
        size of the pool; gradients do not depend on it. None: all at once.
    learning_rate : float or None, default=None
        None: the encoder's own.
    max_grad_norm : float or None, default=None
        Bound on the norm of all gradients of a step.
    precision : {"auto", "bfloat16", "float32"}, default="auto"
        Number format of transformers; "auto" is bfloat16 where the hardware has it.
    early_stopping : bool, default=False
        Whether to watch precision@1 on held-out training rows, stop when it has not risen for
        `n_iter_no_change` epochs, and keep the best epoch.
    n_iter_no_change : int, default=3
    warm_start : bool, default=False
        Whether `fit` goes on from the encoder and the free vectors of the previous fit, which keeps
        the latter only if this was set before it.
    checkpoint_dir : str, Path or None, default=None
        Folder for a checkpoint after every epoch. A killed fit that is started again with the same
        parameters and data goes on from there and ends with the same model. The files stay, so a
        finished fit is not repeated either.
    top_k : int, default=100
        Number of labels that are retrieved per row.
    threshold : float, default=0.5
        Smallest probability of a predicted label.
    graph : sparse matrix, LabelGraph, "cooccurrence" or None, default=None
        Graph over the labels, used in training only. "cooccurrence" builds it from the training
        labels.
    label_features : LabelTexts, sequence of str, matrix or None, default=None
        Texts or features of the labels, in the same form as the samples. None: a label is the
        average of its training rows.
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
    label_embeddings_ : ndarray of float32, shape (n_labels, d)
        Unit vectors of the label texts.
    classifier_weights_ : ndarray of float32, shape (n_labels, d), or None
        Unit vectors of the classifiers.
    sample_embeddings_ : ndarray of float32, shape (n, d), or None
        Training rows that vote.
    neighbor_weight_ : float
        The weight that "auto" chose.
    history_ : list of dict
        Loss per epoch, and the held-out precision with early stopping.
    trained_frequency_, n_trained_samples_ : ndarray of shape (n_labels,), float
        Weighted rows of every label, and of all, without the held-out ones: what the score tree of
        ``fusion="tree"`` knows of how rare labels are.
    n_iter_ : int
        Epochs that were trained.
    n_refreshes_ : int
        Clusterings and minings.
    pool_size_, positives_per_query_in_pool_, masked_fraction_ : float
        Means over all steps; they expose most silent failures.
    classes_, n_labels_, label_names_, label_frequency_, n_samples_fit_, calibrator_
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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DualEncoderBase._parameter_constraints,
        "graph_weight": [Interval(Real, 0, None, closed="left")],
        "mask_neighbors": ["boolean"],
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
        classifier_stage: Any = "joint",
        classifier_epochs: int = 10,
        label_dropout: float = 0.7,
        fusion: str = "none",
        neighbor_weight: Any = "auto",
        n_neighbors: int = 50,
        neighbor_temperature: float = 0.15,
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
        self.graph_weight = graph_weight
        self.mask_neighbors = mask_neighbors

    def _graph_settings(self, data: TrainingSet) -> dict[str, Any]:
        """Return what a graph changes about pools."""
        return {
            "graph": label_graph(data),
            "graph_weight": self.graph_weight,
            "mask_neighbors": self.mask_neighbors,
        }
