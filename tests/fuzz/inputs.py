"""Strategies for what people hand in: right, almost right, and nothing like it."""

import warnings
from collections import UserList, deque

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import scipy.sparse as sp

import skxc

NUMBERS = [0, 1, -1, 0.5, 2, np.nan, np.inf, -np.inf, 1e38, 1e308, 5e-324, -0.0, 2**31, 2**53]
ODD = [
    *(None, True, *NUMBERS, 2**63, -(2**63), 10**30, "", "a", "\ud800", "\t", b"a", object, 1j),
    *([], (), {}, {1}, range(3), [[1, 2], [3]], [None], ["a"], [["a"]], np.array(5), pd.NA),
    *(np.zeros(0), np.zeros((0, 3)), np.zeros((2, 2, 2)), np.array(["a", "b"]), pd.NaT),
    *(sp.csr_array((0, 0)), sp.coo_array(np.ones(3)), np.datetime64("NaT"), np.float16(2)),
]
COLUMNS = list("abcdefghijklmnopqrstuvwxyz")
WORDS = ["red", "wine", "deep", "tree", "Été", "酒", "\u2028", "a\tb", "x" * 50, "123", "the", "."]
odd = st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=5)
seeds = st.integers(0, 2**32 - 1)


def mostly(value, other=odd, often=6):
    """Return a strategy for `value`, and sometimes for something else."""
    value = value if isinstance(value, st.SearchStrategy) else st.just(value)
    return st.integers(0, often).flatmap(lambda draw: value if draw else other)


@st.composite
def texts(draw, n, *, strange=True):
    """Draw a sequence of n texts; a strange one has an odd element, or an odd container."""
    items = draw(st.lists(st.lists(st.sampled_from(WORDS), max_size=4), min_size=n, max_size=n))
    items = [" ".join(words) for words in items]
    if not strange:
        return draw(st.sampled_from([list, objects, pd.Series]))(items)
    if n and draw(st.booleans()):
        items[draw(st.integers(0, n - 1))] = draw(
            st.sampled_from([None, np.nan, b"red", 3, np.str_("wine"), pd.NA, ["red"], "\ud800"])
        )
    make = draw(
        st.sampled_from(
            [list, list, list, tuple, deque, UserList, iter, objects, pd.Series, polars, column,
             lambda items: np.array([str(item) for item in items])]
        )
    )  # fmt: skip
    return make(items)


def objects(items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def column(items):
    return pd.DataFrame({"text": pd.Series(items, dtype=object)})


def polars(items):
    # polars itself refuses half characters, which are no UTF-8.
    is_text = [isinstance(item, str) and item != "\ud800" for item in items]
    return pl.Series(
        "text", [item if ok else None for item, ok in zip(items, is_text, strict=True)]
    )


PLAIN_KINDS = ["array", "csr", "csr", "csc", "list", "frame"]
KINDS = [*PLAIN_KINDS, "coo", "lil", "dok", "dia", "bsr", "matrix", "fortran", "broken", "broken"]
DTYPES = ["f8", "f8", "f4", "i8", "i4", "u1", "?", "f2", "O", "c16", "g"]


@st.composite
def matrices(draw, n, m, *, binary=False, strange=True):
    """Draw an (n, m) matrix; a strange one has an odd cell, type, container or a broken index."""
    rng = np.random.default_rng(draw(seeds))
    cells = np.where(rng.random((n, m)) < 0.4, 1.0 if binary else rng.random((n, m)), 0)
    dtype, kind = "f8", draw(st.sampled_from(KINDS if strange else PLAIN_KINDS))
    if strange:
        dtype = draw(st.sampled_from(DTYPES))
        if cells.size and not draw(st.integers(0, 2)):
            cells[rng.integers(n), rng.integers(m)] = draw(st.sampled_from(NUMBERS))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cells = cells.astype(dtype)
        if kind == "list":
            return cells.tolist()
        if kind == "frame":
            return pd.DataFrame(cells, columns=draw(st.sampled_from([None, COLUMNS[:m]])))
        if kind == "array" or dtype in ("O", "f2"):
            return cells
        if kind == "fortran":
            return np.asfortranarray(cells)
        if kind == "broken":
            return broken(draw, rng, cells)
        box = draw(st.sampled_from(["array", "matrix"]))
        return sp.csr_matrix(cells) if kind == "matrix" else getattr(sp, f"{kind}_{box}")(cells)


def broken(draw, rng, cells):
    """Return a CSR or CSC matrix with a wrong number in one of its arrays."""
    matrix = draw(st.sampled_from([sp.csr_array, sp.csc_array]))(cells)
    name = draw(st.sampled_from(["indices", "indptr", "data"]))
    array = getattr(matrix, name).copy()
    if len(array):
        value = draw(st.sampled_from([-1, 10**6, 2**30, 0, 1]))
        array[rng.integers(len(array))] = np.asarray(value).astype(array.dtype)
    setattr(matrix, name, array[: draw(st.sampled_from([None, None, -1]))])
    return matrix


@st.composite
def targets(draw, n, n_labels, *, strange=True):
    """Draw a target: an indicator, classes, lists of names."""
    if not strange:
        return draw(matrices(n, n_labels, binary=True, strange=False))
    kind = draw(st.sampled_from(["indicator"] * 6 + ["classes", "names", "odd"]))
    if kind == "indicator":
        return draw(matrices(n, n_labels, binary=True))
    if kind == "classes":
        values = st.sampled_from([0, 1, 2, "a", "b\tc", "", None, np.nan, 1.5, 2**40, True])
        return draw(st.lists(values, min_size=n, max_size=n))
    if kind == "names":
        names = st.lists(st.sampled_from(["a", "b", "", " c", "d\n", "e"]), max_size=3)
        return draw(st.lists(names, min_size=n, max_size=n))
    return draw(odd)


def weights(n):
    """Return a strategy for weights of n rows."""
    values = st.sampled_from([1, 1.0, 2, 0, 0.5, -1, np.nan, 1e30, 1e-30, 1e308])
    plain = st.lists(st.sampled_from([1, 2, 0.5]), min_size=n, max_size=n)
    return st.none() | plain | st.lists(values, min_size=n, max_size=n) | odd


@st.composite
def label_sides(draw, n_labels, n_features, with_texts):
    """Draw `label_features`."""
    if not draw(st.integers(0, 2)):
        return None
    if not with_texts:
        return draw(mostly(matrices(n_labels, n_features)))
    made = [" ".join(WORDS[i % 12 : i % 12 + 2]) for i in range(n_labels)]
    names = draw(st.sampled_from([None, [f"l{i}" for i in range(n_labels)], ["a"] * n_labels]))
    return draw(mostly(st.builds(lambda: attempt(skxc.LabelTexts, made, names)) | texts(n_labels)))


@st.composite
def graphs(draw, n_labels):
    """Draw `graph`."""
    if draw(st.integers(0, 2)):
        return None
    square = draw(matrices(n_labels, n_labels))
    return draw(
        st.sampled_from(["cooccurrence", square, attempt(skxc.LabelGraph, square)])
        | st.builds(lambda: attempt(skxc.AnchorGraph, square, WORDS[:n_labels]))
        | odd
    )


def attempt(make, *arguments):
    """Return what is made, or None where it is refused."""
    try:
        return make(*arguments)
    except (ValueError, TypeError):
        return None
