import json
import math
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.preprocessing import FunctionTransformer, Normalizer

from skxc.indices import VectorSearch
from skxc.labels import AnchorGraph, LabelGraph, LabelTexts
from skxc.persistence._flatten import Flattener
from skxc.persistence._layout import Layout
from skxc.persistence._rebuild import Rebuilder


class Foreign(BaseEstimator):
    pass


def round_trip(value):
    flattener = Flattener()
    node = json.loads(json.dumps(flattener.flatten(value, "Root"), allow_nan=False))
    return Rebuilder(flattener.arrays).rebuild(node)


def assert_same(a, b):
    """Compare values and types, item by item."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert [type(key) for key in a] == [type(key) for key in b]
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, float | np.floating) and np.isnan(a):
        assert np.isnan(b)
    else:
        assert a == b


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -7,
        10**40,
        0.1,
        1e-320,
        math.inf,
        -math.inf,
        math.nan,
        "",
        "a\0ä漢\ud800\n",
        [],
        [1, [2.5, None], "x"],
        (),
        (1, (2, [3])),
        {},
        {"a": 1, "": {"b": (1, 2)}, "tuple": [1]},
        {1: "int", 2.5: "float", None: "none", (1, "x"): [1], "s": 2},
        {np.int64(3): np.float32(0.1), np.str_("k"): np.bool_(True)},
        {True: 1},
        set(),
        {1, 2, 3},
        frozenset(["stop", "words"]),
        {(1, "a"), (2, "b")},
        range(2, 20, 3),
        np.float64(0.1),
        np.float16("nan"),
        np.float32("-inf"),
        np.uint64(2**64 - 1),
        np.bool_(False),
        np.str_("text"),
        np.dtype("float32"),
        np.dtype(">i4"),
        np.dtype("<U7"),
        np.dtype(bool),
        np.float64,
        np.bool_,
        np.str_,
        bool,
        float,
        int,
        str,
    ],
    ids=lambda value: type(value).__name__,  # a repr of a set differs between processes
)
def test_plain_values(value):
    assert_same(round_trip(value), value)
    assert_same(round_trip([value, {"k": (value,)}]), [value, {"k": (value,)}])


@pytest.mark.parametrize("path", [Path("a/b"), PurePosixPath("/x")])
def test_paths(path):
    assert round_trip(path) == Path(path)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int8).reshape(2, 3),
        np.array(2.5),
        np.array([[True], [False]]),
        np.zeros((0, 3), dtype=np.float16),
        np.array([1.5, np.nan, np.inf]),
        np.array(["a", "bcd", ""]),
        np.array([["a", "漢"]], dtype=object),
        np.array([], dtype="<U3"),
        np.array("word"),
    ],
    ids=repr,
)
def test_arrays(array):
    assert_same(round_trip(array), array)


def test_object_arrays_of_anything_that_can_be_saved():
    array = np.empty(3, dtype=object)
    array[:] = ["a", None, 3]
    assert_same(round_trip(array), array)
    ragged = np.empty(2, dtype=object)
    ragged[0], ragged[1] = [1, 2], np.arange(3)
    found = round_trip(ragged)
    assert found[0] == [1, 2]
    np.testing.assert_array_equal(found[1], np.arange(3))


def test_memory_order_is_kept():
    fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    found = round_trip(fortran)
    assert_same(found, fortran)
    assert found.flags.f_contiguous
    assert round_trip(np.arange(6).reshape(2, 3)).flags.c_contiguous


def test_memory_maps_become_arrays(tmp_path):
    mapped = np.memmap(tmp_path / "x", dtype=np.float32, mode="w+", shape=(3,))
    mapped[:] = 7
    flattener = Flattener()
    flattener.flatten(mapped, "Root")
    np.testing.assert_array_equal(flattener.arrays["Root"], [7, 7, 7])


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia", "dok", "lil"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_sparse(form, kind):
    dense = np.array([[0, 1.5, 0], [0, 0, 0], [-2, 0, 3]], dtype=np.float32)
    matrix = getattr(sp, f"{form}_{kind}")(dense)
    found = round_trip(matrix)
    assert type(found) is type(matrix)
    assert found.dtype == matrix.dtype
    np.testing.assert_array_equal(found.toarray(), dense)


def test_csr_keeps_stored_zeros_order_and_index_type():
    matrix = sp.csr_array(
        (
            np.array([0, 5, 1], np.int8),
            np.array([2, 0, 1], np.int32),
            np.array([0, 2, 3], np.int32),
        ),
        shape=(2, 4),
    )
    found = round_trip(matrix)
    for piece in ("data", "indices", "indptr"):
        assert_same(getattr(found, piece), getattr(matrix, piece))
    assert round_trip(sp.csr_array((0, 3))).shape == (0, 3)


def test_random_state():
    random_state = np.random.RandomState(3)
    random_state.standard_normal(5)  # an odd number leaves a spare normal number behind
    found = round_trip(random_state)
    np.testing.assert_array_equal(found.standard_normal(5), random_state.standard_normal(5))


def test_holders():
    graph = LabelGraph(np.array([[0, 2.0], [1, 0]]))
    found = round_trip(graph)
    assert type(found) is LabelGraph
    np.testing.assert_array_equal(found.to_csr().toarray(), [[0, 2], [1, 0]])
    anchors = AnchorGraph(np.eye(2, 3), texts=["a", "b", "c"], groups={"x": (0, 1), "y": (1, 3)})
    found = round_trip(anchors)
    assert found.groups == anchors.groups
    assert found.texts.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(found.to_csr().toarray(), np.eye(2, 3))
    assert round_trip(AnchorGraph(None, texts=["a"])).to_csr() is None
    texts = round_trip(LabelTexts(["t", "u"], names=["m", "n"]))
    assert (list(texts), texts.names) == (["t", "u"], ["m", "n"])
    assert round_trip(LabelTexts(sp.csr_array(np.eye(2)))).names is None


def test_estimators_and_records():
    found = round_trip({"steps": [("n", Normalizer(norm="max"))]})
    assert repr(found["steps"][0]) == "('n', Normalizer(norm='max'))"
    layout = Layout(Path("folder"), "0f")
    assert round_trip(layout) == layout


def test_callbacks_and_metadata_requests_are_left_out():
    normalizer = Normalizer()
    normalizer._skl_callbacks = [lambda: None]
    normalizer._metadata_request = object()
    assert set(vars(round_trip(normalizer))) == {"norm", "copy"}


def test_shared_arrays_are_stored_once_and_shared_again():
    array = np.arange(5.0)
    matrix = sp.csr_array(np.eye(3))
    value = {"a": array, "b": [array, array[:]], "c": array[:3], "m": matrix, "n": (matrix,)}
    flattener = Flattener()
    node = flattener.flatten(value, "Root")
    assert set(flattener.arrays) == {"a", "c", "m.data", "m.indices", "m.indptr"}
    found = Rebuilder(flattener.arrays).rebuild(node)
    assert found["a"] is found["b"][0] is found["b"][1]
    assert np.shares_memory(found["m"].data, found["n"][0].data)


def test_arrays_made_for_the_occasion_are_not_mixed_up():
    """Temporary arrays may get the address of one that was freed before."""

    flattener = Flattener()
    for name in ("x", "y"):
        flattener.flatten([np.full(1000, float(i)) for i in range(50)], f"Root.{name}")
    assert [array[0] for array in flattener.arrays.values()] == [*range(50), *range(50)]


def test_names_do_not_collide():
    value = {"a.b": np.zeros(1), "a": {"b": np.ones(1)}}
    found = round_trip(value)
    assert (found["a.b"][0], found["a"]["b"][0]) == (0, 1)


def loop():
    items = []
    items.append(items)
    return items


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda x: x, r"`Root\.steps\[0\]` must be built of .* holds .*<lambda>.* use joblib"),
        (len, r"holds builtins\.len"),
        (np.log1p, "log1p"),
        (partial(len), r"an object of functools\.partial"),
        (FunctionTransformer(np.log1p), r"`Root\.steps\[0\]\.func` must be built of"),
        (Foreign(), r"an object of .*Foreign"),
        (Foreign, r"holds .*Foreign"),
        (object(), r"an object of builtins\.object"),
        (np.random.default_rng(0), "Generator"),
        (1j, "complex"),
        (np.array([1j]), r"`Root\.steps\[0\]` must be an array of numbers, .* dtype is complex128"),
        (np.array(["2020-01-01"], dtype="M8[D]"), r"dtype is datetime64"),
        (np.ma.masked_array([1.0]), "MaskedArray"),
        (np.array([lambda: 0], dtype=object), r"`Root\.steps\[0\]\[0\]`"),
        (sp.csr_array(np.array([[1j]])), r"`Root\.steps\[0\]\.data` must be an array of numbers"),
        (loop(), r"contains itself"),
        ({"x": {("k", 1): len}}, r"`Root\.steps\[0\]\.x\[\('k', 1\)\]`"),
    ],
)
def test_refused_values_name_their_place(value, message):
    with pytest.raises(ValueError, match=message):
        Flattener().flatten({"steps": [value]}, "Root")


ARRAYS = {
    "x": np.zeros(3),
    "i": np.array([0, 0, 3]),
    "r": np.array([5, 7, 9]),
    "c": np.array([97, 2**31, 98], dtype=np.uint32),
    "k": np.zeros(624, dtype=np.uint32),
}


@pytest.mark.parametrize(
    "node",
    [
        {},
        {"a": 1, "b": 2},
        {"pickle": "gASV"},
        {"object": ["os:system", {}]},
        {"object": ["skxc.labels:LabelGraph", {}]},
        {"holder": ["skxc.indices._exact:ExactIndex", []]},
        {"type": "builtins.eval"},
        {"type": "os.system"},
        {"type": "numpy.load"},
        {"scalar": ["load", "x"]},
        {"range": [1, 2, 3, 4]},
        {"float": "many"},
        {"items": [[3], ["a"]]},
        {"items": [[10**12], []]},
        {"items": [[0, 10**12], []]},
        {"items": [[-1, -1], ["a"]]},
        {"texts": ["x", [3], 1]},
        {"texts": ["c", [1], 500_000_000]},
        {"texts": ["c", [3], 1]},
        {"dtype": "V1000000000"},
        {"sparse": ["csr_array", [2, 3 * 10**8], {"data": "x", "indices": "i", "indptr": "i"}]},
        {"sparse": ["csr_array", [2, 3], {"data": "x", "indices": "x", "indptr": "i"}]},
        {"sparse": ["dia_array", [10**6, 10**7], {"data": "x", "row": "i", "col": "r"}]},
        {"random_state": {"tuple": ["MT19937", {"array": ["k", [624], "C"]}, 2**30, 0, 0.0]}},
        {"array": ["missing", [1], "C"]},
        {"array": ["x", [5], "C"]},
        {"sparse": ["csr_array", [2, 2], {"data": "x"}]},
        {"sparse": ["load_npz", [2, 2], {"data": "x"}]},
    ],
    ids=repr,
)
def test_unexpected_nodes(node):
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        Rebuilder(ARRAYS).rebuild(node)


@pytest.mark.parametrize("broken", ["indices", "indptr", "row"])
def test_ids_outside_a_sparse_matrix(broken):
    matrix = sp.coo_array(np.eye(3)) if broken == "row" else sp.csr_array(np.eye(3))
    flattener = Flattener()
    node = flattener.flatten(matrix, "Root")
    flattener.arrays[broken] = flattener.arrays[broken] + 5
    with pytest.raises(ValueError, match=r"row|ind"):
        Rebuilder(flattener.arrays).rebuild(node)


def test_memory_of_a_node_is_that_of_what_is_stored():
    """A text of declared width and columns without entries, at the limits of what is stored."""
    wide = np.array(["a", "b" * 1000])
    flattener = Flattener()
    node = flattener.flatten([wide, sp.csr_array((2, 2**20))], "Root")
    assert sum(array.nbytes for array in flattener.arrays.values()) >= wide.nbytes
    texts, matrix = Rebuilder(flattener.arrays).rebuild(node)
    assert texts.tolist() == wide.tolist()
    assert matrix.shape == (2, 2**20)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (None, "a NoneType is no estimator"),
        ([], "a list is no estimator"),
        ({"object": ["skxc.estimators._k_neighbors:KNeighborsXC", {}]}, "has no model"),
    ],
)
def test_the_root_is_a_fitted_estimator(root, message):
    with pytest.raises(ValueError, match=message):
        Rebuilder({}).root(root)


def test_records_have_their_fields_of_their_types():
    search = VectorSearch(np.eye(2, dtype=np.float32))
    flattener = Flattener()
    node = flattener.flatten(search, "Root")
    for wrong, message in [
        (np.eye(2), "must be of the type .*float32.*, but is an array of float64"),
        (np.zeros(2, np.float32), r"must have the shape \(n d\)"),
        (np.full((2, 2), np.nan, np.float32), "`VectorSearch.vectors` must be finite"),
    ]:
        declared = json.loads(json.dumps(node))
        declared["object"][1]["vectors"]["array"][1] = list(wrong.shape)
        with pytest.raises(ValueError, match=message):
            Rebuilder({"vectors": wrong}).rebuild(declared)
    node["object"][1]["more"] = 1
    with pytest.raises(ValueError, match="has other fields than these: vectors, more"):
        Rebuilder(flattener.arrays).rebuild(node)


def test_rows_of_a_sparse_matrix_never_end_before_they_start():
    arrays = {"d": np.ones(1, np.float32), "i": np.zeros(1, np.int32)}
    names = {"data": "d", "indices": "i", "indptr": "p"}
    for indptr, is_whole in (([0, 1], True), ([0, -1], False)):
        rebuilder = Rebuilder({**arrays, "p": np.array(indptr, np.int32)})
        node = {"sparse": ["csr_array", [1, 1], names]}
        if is_whole:
            assert rebuilder.rebuild(node).toarray().tolist() == [[1]]
        else:
            with pytest.raises(ValueError, match="`p` must rise"):
                rebuilder.rebuild(node)
