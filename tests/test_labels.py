import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from joblib import dump, load
from sklearn.base import BaseEstimator, clone
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GridSearchCV

from skxc import AnchorGraph, LabelGraph, LabelTexts
from skxc.exceptions import SlicedLabelSideError
from skxc.labels import check_graph, check_label_features

SQUARE = sp.csr_array(np.array([[0, 2, 0], [1, 0, 0], [0, 0, 0.5]]))
WIDE = np.array([[1.0, 0, 2, 0], [0, 0, 0, 3], [0, 0, 0, 0]])
ANCHORS = ["a", "b", "c", "d"]


def holders():
    return [
        LabelGraph(SQUARE),
        AnchorGraph(SQUARE),
        AnchorGraph(WIDE, texts=ANCHORS, groups={"tag": (0, 1), "link": (1, 4)}),
        AnchorGraph(None, texts=np.eye(4)),
        LabelTexts(["x", "y", "z"], names=["1", "2", "3"]),
        LabelTexts(np.eye(3)),
    ]


def arrays_of(holder):
    for part in holder._value:
        if sp.issparse(part):
            yield from (part.data, part.indices, part.indptr)
        elif isinstance(part, np.ndarray):
            yield part


@pytest.mark.parametrize("holder", holders(), ids=repr)
class TestHolder:
    def test_looks_like_no_array(self, holder):
        for name in ("__len__", "shape", "__array__", "__getitem__", "ndim", "iloc"):
            assert not hasattr(holder, name)

    def test_cannot_be_changed(self, holder):
        with pytest.raises(AttributeError, match="immutable"):
            holder._value = ()
        with pytest.raises(AttributeError, match="immutable"):
            holder.other = 1
        with pytest.raises(AttributeError, match="immutable"):
            del holder._value
        arrays = list(arrays_of(holder))
        assert arrays
        for array in arrays:
            assert not array.flags.writeable

    def test_copies_and_clones_are_the_holder(self, holder):
        assert copy.copy(holder) is holder
        assert copy.deepcopy(holder) is holder
        assert clone(holder, safe=False) is holder

    def test_pickle_keeps_content(self, holder):
        again = pickle.loads(pickle.dumps(holder))
        assert type(again) is type(holder)
        assert repr(again) == repr(holder)
        for old, new in zip(arrays_of(holder), arrays_of(again), strict=True):
            np.testing.assert_array_equal(old, new)
            assert not new.flags.writeable

    def test_memory_maps_are_kept(self, holder, tmp_path):
        dump(holder, tmp_path / "holder.joblib")
        again = load(tmp_path / "holder.joblib", mmap_mode="r")
        for old, new in zip(arrays_of(holder), arrays_of(again), strict=True):
            np.testing.assert_array_equal(old, new)

    def test_a_search_passes_it_whole(self, holder):
        seen = []

        class Spy(BaseEstimator):
            def fit(self, X, y, side):
                seen.append(side)
                return self

            def score(self, X, y):
                return 0.0

        GridSearchCV(Spy(), {}, cv=3).fit(np.zeros((3, 1)), np.zeros(3), side=holder)
        assert len(seen) == 4
        assert all(side is holder for side in seen)


def test_label_graph_content():
    graph = LabelGraph(SQUARE)
    assert (graph.n_labels, graph.n_edges) == (3, 3)
    assert repr(graph) == "LabelGraph(n_labels=3, n_edges=3)"
    assert graph.to_csr().dtype == np.float32
    np.testing.assert_array_equal(graph.to_csr().toarray(), SQUARE.toarray())


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_array, sp.coo_array, np.asarray, list])
def test_label_graph_takes_all_matrices(kind):
    graph = LabelGraph(kind(SQUARE.toarray()))
    np.testing.assert_array_equal(graph.to_csr().toarray(), SQUARE.toarray())


def test_label_graph_is_a_clean_copy():
    data = np.array([1.0, 2.0, 0.0], dtype=np.float32)
    raw = sp.csr_array((data, [1, 1, 0], [0, 2, 3]), shape=(2, 2))
    graph = LabelGraph(raw)
    assert graph.n_edges == 1
    assert graph.to_csr()[0, 1] == 3
    assert raw.nnz == 3
    raw.data[0] = 9
    assert graph.to_csr()[0, 1] == 3
    clean = sp.csr_array(np.eye(2, dtype=np.float32))
    graph, texts = LabelGraph(clean), LabelTexts(clean)
    clean.data[0] = 5
    assert graph.to_csr()[0, 0] == texts.to_csr()[0, 0] == 1


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (WIDE, r"one row and one column per label.*\(3, 4\)"),
        (-np.eye(2), "non-negative.*-1"),
        (np.diag([1, np.nan]), "finite"),
        (np.diag([1, np.inf]), "finite"),
        (np.ones(3), "must be a matrix of real numbers"),
    ],
)
def test_label_graph_refuses(matrix, message):
    with pytest.raises(ValueError, match=message):
        LabelGraph(matrix)


def test_anchor_graph_content():
    graph = AnchorGraph(WIDE, texts=ANCHORS, groups={"tag": (0, 1), "link": (1, 4)})
    assert (graph.n_labels, graph.n_anchors, graph.n_edges) == (3, 4, 3)
    assert graph.groups == {"tag": (0, 1), "link": (1, 4)}
    assert graph.texts.tolist() == ANCHORS
    np.testing.assert_array_equal(graph.to_csr().toarray(), WIDE)
    assert repr(graph) == "AnchorGraph(n_labels=3, n_anchors=4, groups=['tag', 'link'])"


def test_anchor_graph_groups_are_a_copy():
    graph = AnchorGraph(SQUARE)
    assert graph.groups == {"anchors": (0, 3)}
    graph.groups["more"] = (3, 4)
    assert graph.groups == {"anchors": (0, 3)}


def test_anchor_graph_for_samples_only():
    graph = AnchorGraph(None, texts=ANCHORS)
    assert (graph.n_labels, graph.n_anchors, graph.n_edges) == (None, 4, 0)
    assert graph.to_csr() is None


def test_anchor_features():
    graph = AnchorGraph(WIDE, texts=np.eye(4, 2))
    assert isinstance(graph.texts, sp.csr_array)
    np.testing.assert_array_equal(graph.texts.toarray(), np.eye(4, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None,), "`texts` must be given"),
        ((WIDE,), r"must be square.*\(3, 4\)"),
        ((WIDE, ["a"]), "4 columns but `texts` has 1 rows"),
        ((WIDE, ANCHORS, {"a": (0, 2)}), "cover all 4 anchors, but they end at 2"),
        ((WIDE, ANCHORS, {"a": (0, 2), "b": (3, 4)}), r"'b' is \(3, 4\) where \(2, ...\)"),
        ((WIDE, ANCHORS, {"a": (0, 3), "b": (2, 4)}), r"'b' is \(2, 4\) where \(3, ...\)"),
        ((WIDE, "abcd"), "one string was given"),
        ((WIDE, ["a", "b", None, "d"]), "element 2 is a NoneType"),
        ((WIDE, [object()] * 4), "sequence of texts, or a matrix of real numbers"),
    ],
)
def test_anchor_graph_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        AnchorGraph(*arguments)


@pytest.mark.parametrize(
    "kind", [list, tuple, np.array, lambda t: np.array(t, dtype=object), pd.Series, pl.Series]
)
def test_label_texts_take_all_sequences(kind):
    texts = LabelTexts(kind(["red wine", "oak"]), names=kind(["w", "o"]))
    assert list(texts) == texts.texts.tolist() == ["red wine", "oak"]
    assert all(type(text) is str for text in texts)
    assert texts.names == ["w", "o"]
    assert texts.n_labels == 2
    assert repr(texts) == "LabelTexts(n_labels=2)"


def test_a_vectoriser_consumes_label_texts():
    assert CountVectorizer().fit_transform(LabelTexts(["red wine", "red oak"])).sum() == 4


def test_label_features_in_label_texts():
    texts = LabelTexts(np.eye(2, 3))
    np.testing.assert_array_equal(texts.to_csr().toarray(), np.eye(2, 3))
    assert texts.names is None
    with pytest.raises(TypeError, match="holds features"):
        iter(texts)
    with pytest.raises(ValueError, match="needs features"):
        LabelTexts(["a"]).to_csr()


def test_label_texts_refuse_other_names():
    with pytest.raises(ValueError, match="`names` has 1 elements but `texts` has 2"):
        LabelTexts(["a", "b"], names=["c"])


def test_check_graph():
    holder = LabelGraph(SQUARE)
    assert check_graph(None, 3, 5) is None
    assert check_graph(holder, 3, 5) is holder
    assert isinstance(check_graph(SQUARE.toarray().tolist(), 3, 5), LabelGraph)
    from_anchors = check_graph(AnchorGraph(SQUARE), 3, 5)
    assert isinstance(from_anchors, LabelGraph)
    np.testing.assert_array_equal(from_anchors.to_csr().toarray(), SQUARE.toarray())
    anchors = AnchorGraph(WIDE, texts=ANCHORS)
    assert check_graph(anchors, 3, 5) is anchors


def test_check_graph_names_the_trap():
    with pytest.raises(
        SlicedLabelSideError, match=r"\(2, 3\).*n_labels == n_samples; wrap it in La"
    ):
        check_graph(SQUARE[:2], n_labels=3, n_samples=2)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (LabelGraph(SQUARE), r"\(4, 4\).*but has \(3, 3\)"),
        (AnchorGraph(SQUARE), r"\(4, 4\).*but has \(3, 3\)"),
        (SQUARE, r"\(4, 4\).*but has \(3, 3\)"),
        (AnchorGraph(WIDE, texts=ANCHORS), "3 labels but `y` has 4"),
        ({1: 2}, r"but has \(\)"),
    ],
)
def test_check_graph_refuses_other_shapes(graph, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_graph(graph, n_labels=4, n_samples=9)
    assert not isinstance(caught.value, SlicedLabelSideError)


def test_check_label_features():
    assert check_label_features(None, 2, 5) == (None, None)
    content, names = check_label_features(["a", "b"], 2, 5)
    assert content.tolist() == ["a", "b"]
    assert names is None
    assert check_label_features(LabelTexts(["a"], names=["n"]), 1, 5)[1] == ["n"]
    assert isinstance(check_label_features(np.eye(2), None, None)[0], sp.csr_array)


def test_check_label_features_refuses():
    with pytest.raises(SlicedLabelSideError, match="n_labels == n_samples; wrap it in LabelTexts"):
        check_label_features(["a", "b"], 3, 2)
    with pytest.raises(ValueError, match="one row per label of `y`, 3, but has 2") as caught:
        check_label_features(LabelTexts(["a", "b"]), 3, 2)
    assert not isinstance(caught.value, SlicedLabelSideError)
    with pytest.raises(ValueError, match="finite"):
        check_label_features(np.diag([1, np.nan]), 2, 5)


@pytest.mark.parametrize("groups", [3.0, [1], {"a": 3}, {"a": (0, None)}, {"a": (0, 1, 2)}])
def test_groups_that_are_no_ranges(groups):
    with pytest.raises(ValueError, match="`groups` must be a dict of names and column ranges"):
        AnchorGraph(np.eye(3), groups=groups)


@pytest.mark.parametrize("matrix", ["ab", 3, [[1, 2], [3]], [["a"]], np.eye(2) * 1j, None, [None]])
def test_matrices_that_are_none(matrix):
    with pytest.raises(ValueError, match="must be a matrix of real numbers, but is a"):
        LabelGraph(matrix)


def test_short_floats_are_numbers():
    assert LabelGraph(np.eye(2, dtype=np.float16)).to_csr().toarray().tolist() == [[1, 0], [0, 1]]
