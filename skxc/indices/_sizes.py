"""Sizes of a learned index that scale with the number of labels."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

# Up to so many labels clusters grow with the square root of their number, then with the number.
FEW_LABELS = 10_000
LARGEST_LEAF = 100
# beta, in edges of a cluster: gates are open for whatever rows of a cluster visit, and with a soft
# cap an edge still has a gradient.
SAFE_BETA, LARGEST_BETA = 2.0, 5.0


@dataclass(frozen=True)
class IndexSizes:
    """The constants of a learned index; the names in the paper are in brackets.

    Attributes
    ----------
    n_clusters : int
        Clusters (C).
    edges_per_cluster : int
        Edges per cluster (kappa).
    alpha : float
        Gain of the softmax over clusters: about how many can be fully on for one query.
    beta : float
        Gain of the softmax over edges: about how many labels a cluster can hold at full weight.
    beam_width : int
        Clusters that a search follows (b).
    shortlist_size : int
        Labels that a search scores with their classifiers (K).
    """

    n_clusters: int
    edges_per_cluster: int
    alpha: float
    beta: float
    beam_width: int
    shortlist_size: int


def index_sizes(
    n_labels: int,
    top_k: int,
    *,
    n_clusters: int | None = None,
    edges_per_cluster: int | None = None,
    alpha: float | None = None,
    beta: float | None = None,
    beam_width: int | None = None,
    shortlist_size: int | None = None,
) -> IndexSizes:
    """Fill in sizes that were not given, by the published ratios but for beta.

    Parameters
    ----------
    n_labels : int
        Labels with training rows.
    top_k : int
        Labels that will be asked for.
    n_clusters, edges_per_cluster, alpha, beta, beam_width, shortlist_size : optional
        Given values; they are only clipped to what exists.

    Returns
    -------
    IndexSizes

    Warns
    -----
    UserWarning
        A given `alpha` or `beta` is so large that caps would keep the index from learning.

    Notes
    -----
    With a leaf of ``ceil(n_labels / C)`` labels, at least 100 beyond 10,000 labels:
    C is the power of two from ``sqrt(n_labels)``, or ``n_labels / 100`` beyond 10,000;
    kappa = 10 leaf; alpha = C / 5 in [1, 10]; b = C / 20 in [2, 20]; K = b leaf, at least 10 top_k.
    At the sizes of the paper these are its constants. beta = 2 kappa, where the paper has 150 for
    its hard cap: a label that few rows have is then not held back by the weight of its edge.
    """
    if n_clusters is None:
        target = math.sqrt(n_labels) if n_labels <= FEW_LABELS else n_labels / LARGEST_LEAF
        n_clusters = 2 ** math.ceil(math.log2(target))
    while n_clusters > n_labels:
        n_clusters //= 2
    leaf = max(-(-n_labels // n_clusters), LARGEST_LEAF if n_labels > FEW_LABELS else 1)
    kappa = min(n_labels, 10 * leaf if edges_per_cluster is None else edges_per_cluster)
    width = min(20, max(2, -(-n_clusters // 20))) if beam_width is None else beam_width
    width = min(width, n_clusters)
    if alpha is None:
        alpha = min(10.0, max(1.0, n_clusters / 5))
    elif alpha > max(1, n_clusters / 4):
        _warn("alpha", alpha, max(1, n_clusters / 5), f"the {n_clusters} clusters")
    if beta is None:
        beta = SAFE_BETA * kappa
    elif beta > LARGEST_BETA * kappa:
        _warn("beta", beta, LARGEST_BETA * kappa, f"the {kappa} edges of a cluster")
    size = max(width * leaf, 10 * top_k) if shortlist_size is None else shortlist_size
    return IndexSizes(
        n_clusters, kappa, float(alpha), float(beta), width, min(n_labels, max(size, 1))
    )


def _warn(name: str, value: float, safe: float, of: str) -> None:
    warnings.warn(
        f"`{name}` is {value:g}, too large for {of}: scores at their cap have no gradient, or next "
        "to none. In a toy with 8 clusters recall fell from 0.98 to 0.80 with alpha at their "
        f"number. Pass at most {safe:g}, or None.",
        stacklevel=4,
    )
