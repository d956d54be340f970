"""More edges: those that a random walk with restart over a bipartite graph finds.

One hop goes from a row to one of its columns and on to a row of that column. With E the edges, A =
D_row^-1 E (row to column) and V the shares of the rows that the walk is at, columns are visited by

    W = p A + q V A,        p = restart, q = 1 - p

Source: RAMEN (arXiv 2402.18434), which walks 400 hops at p = 0.8 to densify graphs of metadata.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from skxc.graphs._prune import keep_edges, keep_strongest, without_hubs
from skxc.graphs._walk import random_walk, simulated_walk
from skxc.utils._sparse import drop_pairs, row_ids


def visited_columns(
    edges: sp.csr_array,
    *,
    restart: float = 0.8,
    n_terms: int = 5,
    width: int = 128,
    length: int = 400,
    rng: np.random.Generator | None = None,
) -> sp.csr_array:
    """Return how often a walk with restart from each row visits each column, as shares.

    Parameters
    ----------
    edges : csr_array of shape (n_rows, n_columns)
        Every stored edge is one.
    restart : float in (0, 1], default=0.8
        Probability of going back to the first row after a hop; 1 gives the row's own edges.
    n_terms : int, default=5
        Terms of the series; the rest of the mass, ``(1 - restart) ** n_terms``, is spread in
        proportion.
    width : int, default=128
        Heaviest entries of a row that are kept between two terms; bounds the memory.
    length : int, default=400
        Hops of a simulated walk.
    rng : Generator or None, default=None
        Simulates the walk over the rows; None: the exact series.

    Returns
    -------
    csr_array of float64, shape (n_rows, n_columns)
        Rows with edges add up to 1.
    """
    degree = np.diff(edges.indptr)
    shares = 1 / degree[row_ids(edges)]
    step = sp.csr_array((shares, edges.indices, edges.indptr), shape=edges.shape)
    if restart == 1 or (rng is None and n_terms == 1):
        return step
    columns = sp.csr_array(edges.T)
    if rng is not None:
        rows = simulated_walk(columns, rng=rng, restart=restart, length=length) * (1 / length)
    else:
        rows = random_walk(columns, restart=restart, length=1, n_terms=n_terms - 1, width=width)
    visits = sp.csr_array(restart * step + (1 - restart) * (rows.astype(np.float64) @ step))
    total = np.bincount(row_ids(visits), weights=visits.data, minlength=visits.shape[0])
    visits.data /= total[row_ids(visits)]
    visits.sort_indices()
    return visits


def densify(
    edges: sp.csr_array,
    *,
    top_k: int = 10,
    keep: str = "union",
    length: int = 400,
    hub_threshold: int | None = 500,
    **walk: object,
) -> sp.csr_array:
    """Return the edges with, or replaced by, the strongest ones that a random walk finds.

    Parameters
    ----------
    edges : csr_array of shape (n_rows, n_columns)
    top_k : int, default=10
        Walked edges of a row.
    keep : {"union", "replace"}, default="union"
        "union": all edges, and the `top_k` most visited columns that are no edges yet. "replace":
        the `top_k` most visited columns, which thins rows of more edges.
    length : int, default=400
        Columns that a walk of so many hops would see less than once are left out.
    hub_threshold : int or None, default=500
        Rows and columns of more edges take no part in the walk, but keep their edges; None: all
        take part.
    **walk
        See `visited_columns`.

    Returns
    -------
    csr_array of float32 ones, shape (n_rows, n_columns)
    """
    walked_over = without_hubs(edges, hub_threshold)
    visits = visited_columns(walked_over, length=length, **walk)  # type: ignore[arg-type]
    visits = keep_edges(visits, visits.data >= 1 / length)
    if keep == "replace":
        kept, found = drop_pairs(edges, walked_over), keep_strongest(visits, top_k)
    else:
        kept, found = edges, keep_strongest(drop_pairs(visits, edges), top_k)
    return as_ones(sp.csr_array(as_ones(kept) + as_ones(found)))


def as_ones(edges: sp.csr_array) -> sp.csr_array:
    """Return the graph with weight 1 for every stored edge, and sorted columns."""
    ones = np.ones(edges.nnz, dtype=np.float32)
    graph = sp.csr_array((ones, edges.indices.copy(), edges.indptr.copy()), shape=edges.shape)
    graph.sort_indices()
    return graph
