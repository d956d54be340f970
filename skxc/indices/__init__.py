"""Search for the items with the largest inner products: exact or approximate.

An index wraps vectors; whoever owns the vectors does not depend on it. Indices are not saved with a
model: they are built again from its arrays.
"""

from skxc.indices._exact import ExactIndex
from skxc.indices._faiss import FaissIndex
from skxc.indices._graph_index import GraphIndex
from skxc.indices._label_index import LabelIndex, counted_edges, tree_edges
from skxc.indices._make import make_index
from skxc.indices._sizes import IndexSizes, index_sizes
from skxc.indices._vector_search import VectorSearch
from skxc.indices.base import Index

__all__ = [
    "ExactIndex",
    "FaissIndex",
    "GraphIndex",
    "Index",
    "IndexSizes",
    "LabelIndex",
    "VectorSearch",
    "counted_edges",
    "index_sizes",
    "make_index",
    "tree_edges",
]
