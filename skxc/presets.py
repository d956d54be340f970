"""Published methods as functions that return an estimator with the settings of the paper.

The defaults of the estimators are what held-out rows of small data preferred; these functions have
what was published: losses, negatives, label vectors and so on, at both scales.

- ``scale="laptop"`` trains as long as the estimator does by default, with its batches and rates.
  What happens every few epochs happens more often.
- ``scale="paper"`` has the published numbers of epochs, batch sizes and learning rates.

Further arguments replace a setting, also one of a part: ``ngame(n_epochs=30, encoder__dim=512)``.
Encoders are bags of embeddings unless one is passed, such as ``encoder="distilbert-base-uncased"``.
A learning rate that was published for a transformer is given to no other encoder. Where a paper has
settings per data set, these are those of LF-AmazonTitles-131K. What a function cannot reproduce is
said under its Notes.
"""

from __future__ import annotations

from typing import Any, Literal

from skxc.encoders import BagEncoder, TransformerEncoder, make_encoder
from skxc.estimators import (
    DualEncoderXC,
    FusionXC,
    GraphRegularizedXC,
    LabelGraphXC,
    LearnedIndexXC,
    LinearTreeXC,
    UnifiedXC,
)
from skxc.estimators._dual_encoder import ClassifierStage
from skxc.estimators._graph_regularized import Bandit, GraphTerms
from skxc.estimators._label_graph import Classifiers, LabelClusters, Ranker
from skxc.estimators._learned_index import Edges, IndexClusters, LabelClassifiers
from skxc.estimators._unified import LabelPool, LabelTable, TwoHeads
from skxc.graphs import Pruning, RandomWalk
from skxc.losses import BinaryCrossEntropy, DecoupledSoftmax, ProbContrastive, Triplet
from skxc.negatives import AllLabels, InBatch
from skxc.training import LabelQueries, Training

Scale = Literal["laptop", "paper"]

__all__ = [
    "dexml",
    "eclare",
    "elias",
    "elias_plus_plus",
    "ngame",
    "ramen",
    "siamese_xml",
    "unidec",
]


def ngame(*, scale: Scale = "laptop", **params: Any) -> DualEncoderXC:
    """Return NGAME as a `DualEncoderXC`: batches of similar samples, then classifiers.

    A triplet loss of margin 0.3 takes the 10 hardest labels of the batch; a row gives it one label.
    Batches are made of clusters of samples, whose size doubles on the way. Then classifiers are
    trained on the frozen encoder, from the vectors of the label texts on.

    Parameters
    ----------
    scale : {"laptop", "paper"}, default="laptop"
        "paper": 300 epochs in batches of 1,600 with clusters made every 5 epochs, and 100 epochs of
        classifiers; a transformer learns at 2e-4.
    **params : dict
        Parameters of `skxc.DualEncoderXC` to replace, also nested ones.

    Notes
    -----
    The paper's encoder is ``"sentence-transformers/msmarco-distilbert-base-v4"``.

    Not reproduced: the tree that joins the scores of classifiers and label texts at the end; here
    classifiers score alone. The classifiers' own loss (margin 0.2, 5 hardest labels, 3 positives),
    batches of 2,048 and curriculum; here both stages share theirs. One drawn positive per row in
    the loss; here all that are in the pool count.

    References
    ----------
    Dahiya et al., "NGAME: Negative Mining-aware Mini-batching for Extreme Classification", WSDM
    2023.

    Examples
    --------
    >>> from skxc.presets import ngame
    >>> ngame(n_epochs=30, random_state=0).n_epochs
    30
    """
    paper = _is_paper(scale)
    model = DualEncoderXC(
        loss=Triplet(margin=0.3, n_hard=10, temperature=0.1),
        negatives=InBatch(clustered=True, n_positives=1, refresh_every=5 if paper else 1),
        label_vectors=ClassifierStage(n_epochs=100 if paper else 10),
        votes=False,
        label_queries=False,
        n_epochs=300 if paper else 7,
        batch_size=1600 if paper else "auto",
        learning_rate=_transformer_rate(2e-4, paper, params),
    )
    return model.set_params(**params)


def dexml(*, scale: Scale = "laptop", **params: Any) -> DualEncoderXC:
    """Return DEXML as a `DualEncoderXC`: text vectors alone, and a softmax over all labels.

    The loss is decoupled, so that the positives of a row do not compete, and every other label is a
    negative. Gradient caching, 3,000 texts at a time, bounds the memory of a step.

    Parameters
    ----------
    scale : {"laptop", "paper"}, default="laptop"
        "paper": 100 epochs in batches of 3,000; a transformer learns at 3e-4.
    **params : dict
        Parameters of `skxc.DualEncoderXC` to replace, also nested ones.

    Notes
    -----
    The paper's encoder is ``TransformerEncoder("distilbert-base-uncased", pooling="cls")``.

    A step costs a pass over all label texts. ``negatives=Mined(n_positives=1, n_negatives=1)`` of
    `skxc.negatives` is the paper's cheaper variant.

    Not reproduced: one drawn positive per row and step; here all of them are in the loss, which is
    the mean of the paper's over its draws. Training on several devices. The choice of the epoch on
    test rows, which the official code makes; ``training__patience`` uses held-out rows.

    References
    ----------
    Gupta et al., "Dual-Encoders for Extreme Multi-Label Classification", ICLR 2024.
    """
    paper = _is_paper(scale)
    model = DualEncoderXC(
        loss=DecoupledSoftmax(temperature=0.05),
        negatives=AllLabels(),
        label_vectors=False,
        votes=False,
        label_queries=False,
        n_epochs=100 if paper else 7,
        batch_size=3000 if paper else "auto",
        learning_rate=_transformer_rate(3e-4, paper, params),
        training=Training(micro_batch_size=3000),
    )
    return model.set_params(**params)


def siamese_xml(*, scale: Scale = "laptop", **params: Any) -> DualEncoderXC:
    """Return SiameseXML as a `DualEncoderXC`: bags of words, then classifiers.

    The loss is a contrastive likelihood with c = 0.9, d = 1.5 and the hardest label of the batch.
    Classifiers start at the mean of a label's text vector and those of its neighbours.

    Parameters
    ----------
    scale : {"laptop", "paper"}, default="laptop"
        "paper": 50 epochs in batches of 4,095, and 20 epochs of classifiers.
    **params : dict
        Parameters of `skxc.DualEncoderXC` to replace, also nested ones.

    Notes
    -----
    Not reproduced: batches of labels with one sample each; here batches are of samples with one
    label each. Neighbours by a random walk; here they are the labels that share most rows. A GELU
    over the words, and a residual block of the documents alone in the second stage; here both sides
    share one block, in the encoder. Word vectors that start at fastText's. The classifiers' own
    loss (c = 0.75, d = 3), rate (2e-4), batches of 253, and 500 labels searched for every row; here
    both stages share theirs. The sum of both stages' scores; here classifiers score alone.

    References
    ----------
    Dahiya et al., "SiameseXML: Siamese Networks meet Extreme Classifiers with 100M Labels", ICML
    2021.
    """
    paper = _is_paper(scale)
    model = DualEncoderXC(
        encoder=BagEncoder(dim=300, n_buckets=0),
        loss=ProbContrastive(c=0.9, d=1.5, n_hard=1),
        negatives=InBatch(n_positives=1),
        label_vectors=ClassifierStage(n_epochs=20 if paper else 10),
        votes=False,
        # The graph is for the start of the classifiers, and for nothing else.
        label_queries=LabelQueries(weight=0.0, mask_neighbors=False),
        graph="cooccurrence",
        n_epochs=50 if paper else 7,
        batch_size=4095 if paper else "auto",
        learning_rate=0.01 if paper else None,
    )
    return model.set_params(**params)


def ramen(*, scale: Scale = "laptop", **params: Any) -> GraphRegularizedXC:
    """Return RAMEN as a `GraphRegularizedXC`: a triplet loss per metadata graph and side.

    Graphs take part beside the task. Task and terms have the triplet loss and the batches of
    `ngame`, and there are no classifiers. A bandit sets the weights of the terms, which do not
    fade. A random walk adds edges, and the encoder prunes them.

    Parameters
    ----------
    scale : {"laptop", "paper"}, default="laptop"
        "paper": 300 epochs in batches of 1,024; edges are pruned from epoch 10 on, every 5 epochs;
        a transformer learns at 2e-4. These are the settings of LF-WikiSeeAlsoTitles-320K. On a
        laptop edges are pruned from epoch 4 on, every 2 epochs, and the bandit's windows and steps
        fit the length of the training.
    **params : dict
        Parameters of `skxc.GraphRegularizedXC` to replace, also nested ones.

    Notes
    -----
    Graphs are given to `fit`, as ``graph`` and ``sample_graph``. The paper's encoder is a
    DistilBERT of six layers. ``negatives=Mined(n_positives=1)`` of `skxc.negatives` stands for its
    other base, ANCE.

    Not reproduced: a walk step by step; here its law is summed up, and it adds edges without
    removing any. One drawn positive label per row in the loss; here all that are in the pool count.
    Clusters that double every 25 epochs; here they double as in NGAME. Anchors with the text of a
    row, of its labels or of their training rows take no part, and anchors of one text are one
    anchor, where the paper does not say. A row's own label text earns the bandit no reward.

    References
    ----------
    "Graph Regularized Encoder Training for Extreme Classification", arXiv 2402.18434.
    """
    paper = _is_paper(scale)
    bandit = Bandit(
        learning_rate=0.01 if paper else "auto",
        init=0.1,
        floor=0.1,
        scale=0.1,
        window=20 if paper else "auto",
        decay=0.8,
    )
    terms = GraphTerms(
        schedule="constant",
        loss=Triplet(margin=0.3, n_hard=10, temperature=0.1),
        weights=bandit,
        walk=RandomWalk(restart=0.8, length=400, top_k=10, hub_threshold=500),
        prune=Pruning(warmup=10 if paper else 4, interval=5 if paper else 2, threshold=0.0),
    )
    model = GraphRegularizedXC(
        loss=Triplet(margin=0.3, n_hard=10, temperature=0.1),
        negatives=InBatch(clustered=True, n_positives=1, refresh_every=5 if paper else 1),
        terms=terms,
        label_vectors=False,
        votes=False,
        label_queries=False,
        n_epochs=300 if paper else 7,
        batch_size=1024 if paper else "auto",
        learning_rate=_transformer_rate(2e-4, paper, params),
    )
    return model.set_params(**params)


def eclare(*, scale: Scale = "laptop", **params: Any) -> LabelGraphXC:
    """Return ECLARE as a `LabelGraphXC`: classifiers fused from texts and a label graph.

    An attention weighs own text, neighbours' text and free vector. The logistic loss scores all
    clusters, and every row against its own shortlist and the graph neighbours of it. Word vectors
    stay as the surrogate left them, probabilities spread over both
    graphs, and three members are averaged.

    Parameters
    ----------
    scale : {"laptop", "paper"}, default="laptop"
        "paper": 20, 10 and 10 epochs in batches of 255, at the rates 0.005, 0.004 and 0.004.
    **params : dict
        Parameters of `skxc.LabelGraphXC` to replace, also nested ones.

    Notes
    -----
    Not reproduced: inner products as scores; here they are cosines over a temperature, plus an
    offset that starts at the log-odds of the mean target. One rate for all parameters; here what
    all labels share learns at a tenth. Rates that are halved on the way; here they fall linearly.
    A walk step by step, and one for each member; here its law is summed up once. Positives outside
    the shortlist are trained, which the official code drops. In the surrogate, the texts of
    neighbours are encoded once an epoch and not at every step.

    References
    ----------
    Mittal et al., "ECLARE: Extreme Classification with Label Graph Correlations", WWW 2021.
    """
    paper = _is_paper(scale)
    model = LabelGraphXC(
        encoder=BagEncoder(dim=300, n_buckets=0),
        walk=RandomWalk(restart=0.8, length=400, top_k=10, hub_threshold=500),
        clusters=LabelClusters(beam_width=50, power=1.0, propagate=True),
        classifiers=Classifiers(
            fusion="attention", prune_distance=1.0, freeze_embeddings=True, dropout=0.2
        ),
        ranker=Ranker(max_candidates=None, n_negatives=None, propagate=True, unseen_weight=0),
        loss=BinaryCrossEntropy(),
        n_estimators=3,
        n_epochs=(20, 10, 10) if paper else (3, 2, 4),
        batch_size=255 if paper else "auto",
        learning_rate=(0.005, 0.004, 0.004) if paper else None,
    )
    return model.set_params(**params)


def unidec(*, scale: Scale = "laptop", **params: Any) -> UnifiedXC:
    """Return UniDEC as a `UnifiedXC`: a dual encoder and a classifier, scored by their sum.

    3 positives and 6 mined labels of every row enter the pool of its batch, which both heads
    share. Batches are clusters of similar rows. Label vectors start at random and are not
    normalised in training.

    Parameters
    ----------
    scale : {"laptop", "paper"}, default="laptop"
        "paper": 150 epochs in batches of 1,024, with clusterings and minings every 5 epochs; on a
        laptop, every 3. The rate of a transformer, 1e-4, is its own.
    **params : dict
        Parameters of `skxc.UnifiedXC` to replace, also nested ones.

    Notes
    -----
    The paper's encoder is ``"sentence-transformers/msmarco-distilbert-base-v4"``.

    Not reproduced: the size of the pool, which is not known; here it is three times the batch. A
    rate of 0.001 for label vectors; here it is 0.01. A weight decay of 0.05; here it is 0.01, and
    label vectors have none. Positives that are drawn with replacement; here none is drawn twice.

    References
    ----------
    Kharbanda et al., "UniDEC: Unified Dual Encoder and Classifier Training for Extreme Multi-Label
    Classification", WWW 2025. The settings are those of its code; its loss "decoupled" is one of
    three.
    """
    paper = _is_paper(scale)
    model = UnifiedXC(
        loss=DecoupledSoftmax(temperature=1 / 18),
        pool=LabelPool(
            n_positives=3, n_negatives=6, clustered=True, refresh_every=5 if paper else 3
        ),
        heads=TwoHeads(weight=0.5, symmetric=False, dim=384, prediction="both"),
        label_table=LabelTable(start="random", similarity="dot", dropout=0.1),
        fusion="sum",
        label_queries=False,
        n_epochs=150 if paper else 7,
        batch_size=1024 if paper else "auto",
    )
    return model.set_params(**params)


def elias(*, scale: Scale = "laptop", **params: Any) -> LearnedIndexXC:
    """Return ELIAS as a `LearnedIndexXC`: an index that is learned with the model.

    The whole shortlist is scored in training, half of an embedding is dropped, the second stage
    moves encoder and clusters little, and label texts are no training rows. Sizes follow the number
    of labels and are the paper's at its numbers: 2,048 clusters with 1,000 edges, and 20 clusters
    and 2,000 labels for a row.

    Parameters
    ----------
    scale : {"laptop", "paper"}, default="laptop"
        "paper": 20 epochs with the tree and 50 with edges that learn, in batches of 420; a
        transformer learns at 2e-4, then at 3e-5.
    **params : dict
        Parameters of `skxc.LearnedIndexXC` to replace, also nested ones.

    Notes
    -----
    The paper's encoder is ``TransformerEncoder("distilbert-base-uncased", pooling="cls")``. It
    knows neither label texts nor graphs: give none to `fit`.

    Not reproduced, because held-out rows preferred what is here: edges that start at random and are
    cut at 1; here they start at counts below a soft cap, and their gain is larger. Only the
    heaviest edges; here those of the tree stay too. A second clustering by embeddings, classifiers
    that start again with the edges, and weights that are averaged over the last epochs.

    Nor, for want of a parameter: embeddings as they are; here they have one length. The first
    stage's own batches of 1,024 and path loss of weight 0.01. Clusters that learn at 1e-4 in the
    second stage; here they slow down as the encoder does, to 7.5e-4.

    References
    ----------
    Gupta et al., "ELIAS: End-to-end Learning to Index and Search in Large Output Spaces",
    NeurIPS 2022.
    """
    paper = _is_paper(scale)
    model = LearnedIndexXC(
        clusters=IndexClusters(n_epochs=20 if paper else 1, learning_rate=5e-3),
        edges=Edges(fine_tuning=0.15),
        classifiers=LabelClassifiers(
            n_scored=None, path_loss_weight=0.05, dropout=0.5, learning_rate=5e-3
        ),
        label_weight=0.0,
        n_epochs=50 if paper else 9,
        batch_size=420 if paper else "auto",
        learning_rate=_transformer_rate(2e-4, paper, params),
    )
    return model.set_params(**params)


def elias_plus_plus(*, scale: Scale = "laptop", **params: Any) -> FusionXC:
    """Return ELIAS++ as a `FusionXC` of the learned index and linear classifiers of words.

    Parameters
    ----------
    scale : {"laptop", "paper"}, default="laptop"
        That of `elias`.
    **params : dict
        Parameters of `skxc.FusionXC` to replace, and those of its members "index" and "tree", such
        as ``index__encoder``.

    Notes
    -----
    Not reproduced: linear classifiers of embedding and words that are trained on the 100 best
    labels of the index and re-rank these; here a tree of linear classifiers of words finds labels
    of its own. The fixed sum, 0.7 for the classifiers and 0.3 for a tree of depth 5; here the rule
    is learned on held-out rows. What `elias` does not reproduce.

    References
    ----------
    Gupta et al., "ELIAS: End-to-end Learning to Index and Search in Large Output Spaces",
    NeurIPS 2022.
    """
    of_index = {name: value for name, value in params.items() if name.startswith("index__")}
    others = {name: value for name, value in params.items() if name not in of_index}
    renamed = {name.removeprefix("index__"): value for name, value in of_index.items()}
    index = elias(scale=scale, **renamed)
    # The published classifiers know no label texts, and treat frequent and rare labels alike.
    tree = LinearTreeXC(label_weight=0.0, propensity_power=0.0)
    return FusionXC([("index", index), ("tree", tree)]).set_params(**others)


def _is_paper(scale: str) -> bool:
    """Return whether training is as long as published."""
    if scale in ("laptop", "paper"):
        return scale == "paper"
    raise ValueError(
        f"`scale` must be 'laptop' or 'paper', but is {scale!r}. Pass n_epochs=... to train for "
        "any other number of epochs."
    )


def _transformer_rate(published: float, paper: bool, params: dict[str, Any]) -> float | None:
    """Return the published rate of a transformer; None, the encoder's own, for all others."""
    encoder = make_encoder(params.get("encoder", "bag"))
    return published if paper and isinstance(encoder, TransformerEncoder) else None
