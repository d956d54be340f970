"""Search for the items with the largest inner products: exact or approximate.

An index wraps vectors; whoever owns the vectors does not depend on it. Indices are not saved with a
model: they are built again from its arrays.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated

from sklearn.base import clone

from skxc._params import MadeBy, OneOf
from skxc.indices._exact import ExactIndex
from skxc.indices._faiss import FaissIndex
from skxc.indices._label_index import LabelIndex, counted_edges, tree_edges
from skxc.indices._sizes import IndexSizes, index_sizes
from skxc.indices._vector_search import VectorSearch
from skxc.indices.base import Index

#: What makes every index that has a name. A new one is a file and a line here.
NAMES: dict[str, Callable[[], Index]] = {
    "exact": ExactIndex,
    "hnsw": partial(FaissIndex, "hnsw"),
    "ivf": partial(FaissIndex, "ivf"),
}
#: The type of a parameter that takes an index.
IndexLike = Annotated[str, OneOf(["auto", *NAMES]), MadeBy("skxc.indices:make_index")] | Index

# Measured on one busy core with 256 columns and k = 100: an exact query among a million items takes
# 3 ms in a batch and 17 ms alone, after 2 s for the eight-bit copy. A graph takes
# minutes to build, and misses some of the 100.
LARGEST_EXACT = 2_000_000

__all__ = [
    "ExactIndex",
    "FaissIndex",
    "Index",
    "IndexSizes",
    "LabelIndex",
    "VectorSearch",
    "counted_edges",
    "index_sizes",
    "make_index",
    "tree_edges",
]


def make_index(index: str | Index = "auto", n_items: int = 0) -> Index:
    """Return a new empty index.

    Parameters
    ----------
    index : str or Index, default="auto"
        One of `NAMES`, or ``"auto"``: exact up to two million items and ``"hnsw"`` beyond. For an
        Index, the result is an empty one with the same parameters; the object itself is never
        filled.
    n_items : int, default=0
        Expected number of vectors; only ``"auto"`` looks at it.

    Returns
    -------
    Index

    Raises
    ------
    ValueError
        If `index` is anything else.

    Examples
    --------
    >>> make_index("auto", n_items=30_000)
    ExactIndex()
    >>> make_index("auto", n_items=3_000_000)
    FaissIndex()
    """
    if isinstance(index, Index):
        return clone(index)
    if index == "auto":
        return NAMES["exact" if n_items <= LARGEST_EXACT else "hnsw"]()
    if isinstance(index, str) and index in NAMES:
        return NAMES[index]()
    raise ValueError(
        f"`index` must be one of {['auto', *NAMES]} or an Index, but is {index!r}. Pass "
        "one of the names, `ExactIndex()` or `FaissIndex(...)`."
    )
