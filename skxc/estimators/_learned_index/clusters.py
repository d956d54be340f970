"""Clusters of labels: where every label lives before its edges learn."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import nn

from skxc._params import NonNegativeFloat, Part, PositiveFloat, PositiveInt, params
from skxc._training_set import Features, TrainingSet
from skxc.clustering import balanced_kmeans
from skxc.estimators._encoding import label_graph
from skxc.indices import tree_edges
from skxc.linear import label_vectors, unit_rows


@params
class IndexClusters(Part):
    """Clusters of an index, and the first stage of its training, on the tree that they make.

    Parameters
    ----------
    n_clusters : int or None, default=None
        A power of two; C in the paper. None: it scales with the number of labels, see
        `skxc.indices.index_sizes`.
    alpha : float or None, default=None
        Gain of the softmax over clusters: about how many can be fully on for one input. None: as
        for `n_clusters`.
    n_epochs : int, default=1
        Epochs of the first stage, in which every label has one edge, of weight 1.
    learning_rate : float, default=5e-3
        Of the cluster weights.
    graph_weight : float, default=0.5
        With a graph: weight of the mean of a label's neighbours against its own vector, when labels
        are clustered.
    """

    n_clusters: PositiveInt | None = None
    alpha: PositiveFloat | None = None
    n_epochs: PositiveInt = 1
    learning_rate: PositiveFloat = 5e-3
    graph_weight: NonNegativeFloat = 0.5


def new_clusters(dim: int, n_clusters: int, rng: np.random.Generator) -> nn.Linear:
    """Return W_C with Kaiming-uniform weights and zero biases."""
    clusters = nn.Linear(dim, n_clusters, device="meta").to_empty(device="cpu")
    weight = rng.uniform(-1, 1, (n_clusters, dim)) * dim**-0.5
    with torch.no_grad():
        clusters.weight.copy_(torch.from_numpy(weight))
        clusters.bias.zero_()
    return clusters


def clustered_labels(
    data: TrainingSet, n_clusters: int, graph_weight: float, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Return the edges of a tree: every label with training rows in one of equal clusters.

    Labels are alike by their rows, their features and their neighbours (see
    `skxc.linear.label_vectors`).

    Parameters
    ----------
    data : TrainingSet
    n_clusters : int
        A power of two, at most the number of labels with rows.
    graph_weight : float
    rng : Generator

    Returns
    -------
    ndarray of int32, shape (n_clusters, size of the largest cluster)
        Padded with -1.
    """
    samples, side = _sparse_features(data)
    vectors = label_vectors(
        samples,
        data.y,
        data.sample_weight,
        label_features=side,
        graph=label_graph(data),
        graph_weight=graph_weight,
    )
    labels = np.unique(data.y.indices)
    leaf = balanced_kmeans(vectors[labels], n_clusters=n_clusters, rng=rng)
    return tree_edges(leaf, labels, n_clusters)


def _sparse_features(data: TrainingSet) -> tuple[Features, Features | None]:
    """Return samples and label features as unit rows; texts become word TF-IDF."""
    samples, side = data.X, data.label_features
    if not sp.issparse(samples):
        tfidf = TfidfVectorizer(sublinear_tf=True, dtype=np.float32).fit(samples)
        samples = sp.csr_array(tfidf.transform(samples))
        side = None if side is None else sp.csr_array(tfidf.transform(side))
    return unit_rows(samples), None if side is None else unit_rows(side)
