"""Weights of sibling nodes stored together.

A chunk holds the weights of all children of one inner node, row by row: a row is a feature with the
(child, value) pairs of that feature. A query looks its few features up among the rows of the chunk
and adds the rows that it finds. The cost follows the stored entries of query and chunk, not the
number of children.

Features are known by a hash, which is one to one. The rows of a chunk are sorted by it, and the
hash shifted to the right is the bucket in which a row is found.

References
----------
Etter et al., "Accelerating Inference for Sparse Extreme Multi-Label Ranking Trees", WWW 2022.
"""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skxc.utils._loaded import check_ids, check_starts, sizes_of
from skxc.utils._record import Record
from skxc.utils._sparse import index_dtype

# Knuth's multiplicative hash: the product with an odd number, modulo 2^32.
FACTOR, BITS = np.uint32(2654435769), 32


@dataclass(frozen=True, eq=False)
class ChunkedWeights(Record):
    """The weights of one or more trees.

    Nodes of all trees are numbered together: first the N inner nodes, then the labels of every
    tree. Per inner node there is one chunk, and chunks lie behind each other in the arrays.

    Attributes
    ----------
    roots : ndarray of int64, shape (n_trees,)
        Root of every tree.
    first_child, n_children : ndarray of int64, shape (N,)
        The children of an inner node have consecutive numbers.
    labels : ndarray of int64
        The label of node N + j.
    bias : ndarray of float32
        Weight of the constant feature for every node; zero for roots.
    first_bucket : ndarray of int64, shape (N,)
        First bucket of every chunk.
    shift : ndarray of int64, shape (N,)
        A hash shifted by this is the bucket, counted within the chunk.
    buckets : ndarray of int32 (int64 beyond its range), shape (n_buckets + 1,)
        Where the rows of every bucket begin.
    keys : ndarray of uint32, shape (n_rows,)
        Hash of the feature of every row.
    rows : ndarray of int32 (int64 beyond its range), shape (n_rows + 1,)
        Where the entries of every row begin.
    children : ndarray of int32
        Child of every entry, counted within the node.
    values : ndarray of float32
        Weight of every entry.
    """

    roots: NDArray[np.int64]
    first_child: NDArray[np.int64]
    n_children: NDArray[np.int64]
    labels: NDArray[np.int64]
    bias: NDArray[np.float32]
    first_bucket: NDArray[np.int64]
    shift: NDArray[np.int64]
    buckets: NDArray[np.integer]
    keys: NDArray[np.uint32]
    rows: NDArray[np.integer]
    children: NDArray[np.int32]
    values: NDArray[np.float32]

    _rounded = ("values",)

    @cached_property
    def n_labels(self) -> int:
        """Largest label, plus one."""
        return int(self.labels.max()) + 1

    @cached_property
    def smallest_leaf(self) -> int:
        """Fewest labels under a node right above labels."""
        return int(self.n_children[self.first_child >= len(self.first_child)].min())

    @cached_property
    def parents(self) -> NDArray[np.int64]:
        """Parent of every node, -1 for roots."""
        parents = np.full(len(self.bias), -1, dtype=np.int64)
        for node, first in enumerate(self.first_child.tolist()):
            parents[first : first + self.n_children[node]] = node
        return parents

    @cached_property
    def leaves(self) -> NDArray[np.int64]:
        """Node of every label in every tree, shape (n_trees, n_labels); -1 where it has none."""
        leaves = np.full((len(self.roots), self.n_labels), -1, dtype=np.int64)
        nodes = root = np.arange(len(self.first_child), len(self.bias))
        while (self.parents[root] >= 0).any():
            root = np.where(self.parents[root] >= 0, self.parents[root], root)
        tree = np.searchsorted(self.roots, root, sorter=np.argsort(self.roots))
        leaves[np.argsort(self.roots)[tree], self.labels] = nodes
        return leaves

    @cached_property
    def arrays(self) -> Arrays:
        """All arrays by name, as compiled code takes them."""
        return Arrays(*(getattr(self, field.name) for field in fields(self)))

    def _check_loaded(self) -> None:
        """Raise ValueError unless a search stays inside the arrays, and comes to an end."""
        sizes = sizes_of(
            self,
            roots="T",
            first_child="N",
            n_children="N",
            labels="M",
            first_bucket="N",
            shift="N",
            buckets="B+1",
            keys="R",
            rows="R+1",
            children="E",
            values="E",
        )
        for name in ("buckets", "rows"):
            if getattr(self, name).dtype not in (np.int32, np.int64):
                raise ValueError(f"`ChunkedWeights.{name}` must be int32 or int64")
        n_inner, n_nodes = sizes["N"], sizes["N"] + sizes["M"]
        if min(sizes["T"], n_inner, sizes["M"]) < 1 or self.bias.shape != (n_nodes,):
            raise ValueError("`ChunkedWeights.bias` must have one entry per node of a tree")
        check_ids("labels", self.labels, np.iinfo(np.int32).max)
        check_ids("roots", self.roots, n_inner)
        check_ids("n_children", self.n_children, n_nodes + 1, first=1)
        check_ids("first_child", self.first_child, n_nodes)
        check_ids("first_child + n_children", self.first_child + self.n_children, n_nodes + 1)
        # As many parents as nodes ask for: what hangs on a root is then a tree.
        n_parents = np.bincount(self.first_child, minlength=n_nodes + 1)
        n_parents -= np.bincount(self.first_child + self.n_children, minlength=n_nodes + 1)
        expected = np.ones(n_nodes, dtype=np.int64)
        expected[self.roots] = 0
        if not np.array_equal(np.cumsum(n_parents)[:-1], expected):
            raise ValueError("`first_child` and `n_children` must give every node one parent")
        for root in self.roots:
            level = np.array([root])
            while (is_inner := self.first_child[level] < n_inner).all():
                ends = self.first_child[level] + self.n_children[level]
                if ends.max() > n_inner:
                    break
                level = np.concatenate(list(map(np.arange, self.first_child[level], ends)))
            if is_inner.any():
                raise ValueError("`first_child` must lead to labels at one depth of a tree")
        check_ids("shift", self.shift, BITS + 1)
        check_ids("first_bucket", self.first_bucket, sizes["B"])
        check_ids("first_bucket", self.first_bucket + (1 << (BITS - self.shift)), sizes["B"] + 1)
        check_starts("buckets", self.buckets, sizes["R"])
        check_starts("rows", self.rows, sizes["E"])
        check_ids("children", self.children, int(self.n_children.max()))


Arrays = namedtuple("Arrays", [field.name for field in fields(ChunkedWeights)])  # type: ignore[misc]


def hashed(features: NDArray[np.integer]) -> NDArray[np.uint32]:
    """Return the hashes of features."""
    return features.astype(np.uint32) * FACTOR


class Chunk(NamedTuple):
    """The weights of one inner node; sizes become places once chunks lie behind each other.

    Attributes
    ----------
    shift : int
    bucket_sizes : ndarray of int64
        Number of rows of every bucket.
    keys : ndarray of uint32
    row_sizes : ndarray of int64
        Number of entries of every row.
    children, values : ndarray of int32 and float32
    """

    shift: int
    bucket_sizes: NDArray[np.int64]
    keys: NDArray[np.uint32]
    row_sizes: NDArray[np.int64]
    children: NDArray[np.int32]
    values: NDArray[np.float32]


def make_chunk(
    features: NDArray[np.integer], children: NDArray[np.int32], values: NDArray[np.float32]
) -> Chunk:
    """Return the chunk of a node, given feature, child and value of every weight."""
    hashes = hashed(features)
    order = np.argsort(hashes)
    keys, row_sizes = np.unique(hashes, return_counts=True)
    # The smallest number of bits for as many buckets as rows.
    bits = max(len(keys) - 1, 0).bit_length()
    bucket_sizes = np.bincount(keys.astype(np.int64) >> (BITS - bits), minlength=1 << bits)
    return Chunk(BITS - bits, bucket_sizes, keys, row_sizes, children[order], values[order])


def join_chunks(chunks: list[Chunk]) -> dict[str, NDArray[Any]]:
    """Return the last seven arrays of `ChunkedWeights`, by name, from those of every inner node."""
    shift, bucket_sizes, keys, row_sizes, children, values = zip(*chunks, strict=True)
    n_buckets = [len(sizes) for sizes in bucket_sizes]
    return {
        "first_bucket": np.cumsum([0, *n_buckets[:-1]]),
        "shift": np.array(shift),
        "buckets": _starts(bucket_sizes),
        "keys": np.concatenate(keys),
        "rows": _starts(row_sizes),
        "children": np.concatenate(children),
        "values": np.concatenate(values),
    }


def _starts(sizes: tuple[NDArray[np.int64], ...]) -> NDArray[np.integer]:
    starts = np.cumsum(np.concatenate([[0], *sizes]))
    return starts.astype(index_dtype(int(starts[-1])))
