"""Clusters of labels: what surrogate and shortlister predict."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import scipy.sparse as sp

from skxc._params import NonNegativeFloat, Part, PositiveInt, params
from skxc.clustering import balanced_kmeans_apart
from skxc.estimators._label_graph.problem import Outputs, Problem
from skxc.graphs import RandomWalk, cluster_graph
from skxc.utils._random import stream
from skxc.utils._sparse import normalize_rows

# Fewest labels per cluster among the data sets of the paper.
LABELS_PER_CLUSTER = 2.4


@params
class LabelClusters(Part):
    """Clusters of labels, of which the best make the shortlist of a row.

    All but `n_clusters` may be changed after `fit`.

    Parameters
    ----------
    n_clusters : int or "auto", default="auto"
        Number of clusters, rounded down to a power of two; "auto": at most one for 2.4 labels, the
        paper's largest share. From the number of labels on, every label is a cluster.
    beam_width : int, default=100
        Clusters in a shortlist, B in the paper.
    power : float, default=0.25
        Power of a cluster's probability in its product with that of a label; 1 in the paper. The
        shortlister overfits and is over-confident in rows that it has not seen.
    propagate : bool, default=True
        Whether half of the scores of clusters moves one hop over their graph (GAME).
    """

    n_clusters: PositiveInt | Literal["auto"] = "auto"
    beam_width: PositiveInt = 100
    power: NonNegativeFloat = 0.25
    propagate: bool = True

    def outputs(
        self,
        problem: Problem,
        vectors: Any,
        graphs: list[sp.csr_array],
        walk: RandomWalk,
        *,
        place: str,
    ) -> Outputs:
        """Return balanced clusters of labels with similar vectors; hubs are clustered apart.

        Their graphs are made from those of the labels, (L, L), which are not normalised; their
        random choices depend on `place`, what the clusters are for.
        """
        n_labels = len(problem.labels)
        wanted = max(int(n_labels / LABELS_PER_CLUSTER), 1)
        if not isinstance(self.n_clusters, str):
            wanted = self.n_clusters
        if wanted < n_labels:
            wanted = 2 ** (int(wanted).bit_length() - 1)
        rng, hubs = stream(problem.seed, "clusters", place), walk.hubs(problem.frequency)
        leaf = balanced_kmeans_apart(vectors, hubs, n_clusters=wanted, rng=rng)
        ones = np.ones(n_labels, dtype=np.float32)
        membership = sp.csr_array(sp.coo_array((ones, (leaf, np.arange(n_labels)))))
        between = [cluster_graph(membership, graph, walk.top_k) for graph in graphs]
        texts = normalize_rows(sp.csr_array(membership @ problem.texts))
        return Outputs.of(membership, texts, between)
