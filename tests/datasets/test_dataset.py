import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.datasets import Anchors, XCDataset


def csr(rows):
    return sp.csr_array(np.array(rows, dtype=np.float32))


def small(**changes):
    """3 training samples, 2 test samples, 4 labels, 5 features, two sets of anchors."""
    fields = {
        "train_labels": csr([[1, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0]]),
        "test_labels": csr([[0, 0, 1, 0], [1, 0, 0, 0]]),
        "train_texts": ["a", "b", "c"],
        "test_texts": ["d", "e"],
        "label_texts": ["k", "l", "m", "n"],
        "train_features": csr(np.ones((3, 5))),
        "test_features": csr(np.ones((2, 5))),
        "label_features": csr(np.ones((4, 5))),
        "feature_names": list("vwxyz"),
        "train_ids": ["0", "1", "2"],
        "test_ids": ["3", "4"],
        "label_names": ["K", "L", "M", "N"],
        "train_filter": csr(np.zeros((3, 4))),
        "test_filter": csr(np.zeros((2, 4))),
        "graphs": {"near": csr(np.eye(4))},
        "anchors": {
            "tag": Anchors(
                csr([[1, 0], [0, 1], [1, 1]]),
                csr([[1, 0], [0, 1], [0, 0], [0, 1]]),
                ["red", "blue"],
            ),
            "shelf": Anchors(csr([[0, 0, 1], [1, 0, 0], [0, 1, 1]]), None, ["p", "q", "r"]),
            "mute": Anchors(csr([[1], [0], [0]]), csr([[1], [0], [0], [0]])),
        },
    }
    return XCDataset(**{**fields, **changes})


def test_sizes_and_repr():
    data = small()
    assert (data.n_train, data.n_test, data.n_labels) == (3, 2, 4)
    assert repr(data) == (
        "XCDataset(n_train=3, n_test=2, n_labels=4, graphs=['near'], "
        "anchors=['tag', 'shelf', 'mute'])"
    )


def test_only_the_training_labels_are_required():
    data = XCDataset(train_labels=csr([[1, 0]]))
    assert data.n_test == 0
    assert data.graphs == {} and data.anchors == {} and data.train_texts is None
    with pytest.raises(TypeError):
        XCDataset(test_labels=csr([[1, 0]]))


def test_a_misspelt_or_reassigned_field_is_an_error():
    with pytest.raises(TypeError):
        XCDataset(train_labels=csr([[1]]), train_text=["a"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        small().train_texts = []


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("test_labels", csr(np.ones((2, 3))), "`test_labels` must have 4 columns .* has 3"),
        ("train_texts", ["a"], "`train_texts` must have 3 rows .* has 1"),
        ("test_texts", ["a"], "`test_texts` must have 2 rows .* has 1"),
        ("label_texts", ["a"], "`label_texts` must have 4 rows .* has 1"),
        ("train_features", csr(np.ones((2, 5))), "`train_features` must have 3 rows .* has 2"),
        ("test_features", csr(np.ones((2, 6))), "`test_features` must have 5 columns .* has 6"),
        ("label_features", csr(np.ones((4, 1))), "`label_features` must have 5 columns"),
        ("feature_names", ["v"], "`feature_names` must have 5 rows .* has 1"),
        ("train_ids", ["a"], "`train_ids` must have 3 rows"),
        ("test_ids", ["a"], "`test_ids` must have 2 rows"),
        ("label_names", ["a"], "`label_names` must have 4 rows"),
        ("train_filter", csr(np.ones((2, 4))), "`train_filter` must have 3 rows"),
        ("test_filter", csr(np.ones((2, 5))), "`test_filter` must have 4 columns"),
        ("graphs", {"g": csr(np.ones((4, 3)))}, r"`graphs\['g'\]` must have 4 columns"),
        ("anchors", {"g": Anchors(csr([[1]]))}, r"anchors\['g'\].sample_anchors` must have 3 rows"),
        (
            "anchors",
            {"g": Anchors(csr([[1]] * 3), csr([[1]] * 3))},
            r"`anchors\['g'\].label_anchors` must have 4 rows",
        ),
        (
            "anchors",
            {"g": Anchors(csr([[1]] * 3), csr([[1, 1]] * 4))},
            r"`anchors\['g'\].label_anchors` must have 1 columns",
        ),
        (
            "anchors",
            {"g": Anchors(csr([[1]] * 3), None, ["a", "b"])},
            r"`anchors\['g'\].texts` must have 1 rows",
        ),
    ],
)
def test_contradicting_sizes_raise(field, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        small(**{field: value})


def test_label_graph():
    graph = small().label_graph("near")
    assert graph.n_labels == 4
    np.testing.assert_array_equal(graph.to_csr().toarray(), np.eye(4))
    with pytest.raises(ValueError, match=r"graphs has no 'far'. Use one of \['near'\]"):
        small().label_graph("far")


def test_anchor_graph_stacks_in_the_order_of_the_names():
    data = small()
    graph, samples = data.anchor_graph(["shelf", "tag"])
    assert graph.groups == {"shelf": (0, 3), "tag": (3, 5)}
    assert list(graph.texts) == ["p", "q", "r", "red", "blue"]
    np.testing.assert_array_equal(
        samples.toarray(), [[0, 0, 1, 1, 0], [1, 0, 0, 0, 1], [0, 1, 1, 1, 1]]
    )
    assert samples.format == "csr"
    # the source links no labels to shelves
    np.testing.assert_array_equal(
        graph.to_csr().toarray(),
        [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]],
    )
    assert data.anchor_graph("shelf")[0].to_csr() is None


def test_anchor_graph_takes_one_name_and_does_not_split_it():
    graph, samples = small().anchor_graph("tag")
    assert graph.groups == {"tag": (0, 2)}
    assert samples.shape == (3, 2)


def test_anchor_graph_takes_all_names_by_default():
    data = small()
    data = dataclasses.replace(data, anchors={k: data.anchors[k] for k in ("tag", "shelf")})
    assert list(data.anchor_graph()[0].groups) == ["tag", "shelf"]


def test_anchor_graph_leaves_the_data_set_writeable():
    data = small()
    data.anchor_graph("tag")
    data.label_graph("near")
    for matrix in (*data.anchors["tag"][:2], data.graphs["near"]):
        assert matrix.data.flags.writeable


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "`names` is empty"),
        (["tag", "rack"], r"anchors has no 'rack'. Use one of \['tag', 'shelf', 'mute'\]"),
        (["tag", "mute"], r"anchors\['mute'\] has no texts"),
        (None, r"anchors\['mute'\] has no texts"),
    ],
)
def test_anchor_graph_errors(names, sentence):
    with pytest.raises(ValueError, match=sentence):
        small().anchor_graph(names)


def test_anchor_graph_without_any_anchors():
    with pytest.raises(ValueError, match="`names` is empty"):
        small(anchors={}).anchor_graph()
