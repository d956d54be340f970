"""From an estimator's `index` parameter to an empty index."""

from __future__ import annotations

from sklearn.base import clone

from skxc.indices._exact import ExactIndex
from skxc.indices._faiss import FaissIndex
from skxc.indices._graph_index import GraphIndex
from skxc.indices._label_index import LabelIndex
from skxc.indices.base import Index

# Measured on one core with 256 columns and k = 100: an exact query among 500,000 items takes 2 to
# 3 ms in a batch and 7 to 25 ms alone. The graph takes 1.3 ms among 300,000 items, but 68 s to
# build, and misses some of the 100. Building would pay off after some 100,000 queries only.
LARGEST_EXACT = 500_000


def make_index(spec: str | Index | LabelIndex = "auto", n_items: int = 0) -> Index:
    """Return a new empty index.

    Parameters
    ----------
    spec : {"auto", "exact", "hnsw", "ivf"}, Index or LabelIndex, default="auto"
        ``"auto"`` is exact up to 500,000 items and ``"hnsw"`` beyond. For an object, the result is
        an empty index with the same parameters; the object itself is never filled. A `LabelIndex`
        searches its own labels through its clusters (see `GraphIndex`), and stands for ``"auto"``
        where there are fewer or more items than it has labels.
    n_items : int, default=0
        Expected number of vectors; only ``"auto"`` looks at it.

    Returns
    -------
    Index

    Raises
    ------
    ValueError
        If `spec` is anything else.

    Examples
    --------
    >>> make_index("auto", n_items=30_000)
    ExactIndex()
    >>> make_index("auto", n_items=3_000_000)
    FaissIndex()
    """
    if isinstance(spec, Index):
        return clone(spec)
    if isinstance(spec, LabelIndex):
        return GraphIndex(spec) if n_items == spec.n_labels else make_index("auto", n_items)
    if spec == "exact" or (spec == "auto" and n_items <= LARGEST_EXACT):
        return ExactIndex()
    if spec == "ivf":
        return FaissIndex("ivf")
    if spec in ("auto", "hnsw"):
        return FaissIndex("hnsw")
    raise ValueError(
        f'`index` must be "auto", "exact", "hnsw", "ivf", an Index or a LabelIndex, but is '
        f"{spec!r}. "
        "Pass one of the names, `ExactIndex()` or `FaissIndex(...)`."
    )
