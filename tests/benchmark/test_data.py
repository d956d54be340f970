"""From a data set to the arguments of fit."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from skxc import AnchorGraph, KNeighborsXC, LabelGraph, LabelTexts
from skxc.benchmark import (
    GraphChoice,
    build_estimator,
    load_folder,
    prepare,
    sample_rows,
    shuffle_edges,
)
from skxc.benchmark._data import fit_arguments
from skxc.datasets import Anchors, XCDataset, hold_out, load_xc_repository


class Recorder(BaseEstimator):
    """An estimator whose fit takes everything."""

    def __init__(self, *, part=None, vectorizer=None, random_state=None):
        self.part = part
        self.vectorizer = vectorizer
        self.random_state = random_state

    def fit(self, X, y, *, graph=None, sample_graph=None, label_features=None):
        return self


@pytest.fixture
def data(text_folder):
    return load_xc_repository(text_folder)


def test_label_texts_go_with_texts(data):
    arguments = fit_arguments(Recorder(), data)
    assert list(arguments) == ["label_features"]
    assert isinstance(arguments["label_features"], LabelTexts)
    assert list(arguments["label_features"]) == data.label_texts
    assert list(arguments["label_features"].names) == data.label_names


def test_estimators_without_label_side_get_no_label_texts(data):
    assert fit_arguments(KNeighborsXC(), data) == {}


def test_label_texts_do_not_go_with_features(feature_folder):
    data = load_xc_repository(feature_folder)
    assert fit_arguments(Recorder(), data) == {}


def test_anchors_come_with_the_sample_graph(data):
    choice = GraphChoice(anchors=["kind"])
    arguments = fit_arguments(Recorder(), data, choice)
    assert isinstance(arguments["graph"], AnchorGraph)
    np.testing.assert_array_equal(
        arguments["sample_graph"].toarray(), data.anchors["kind"].sample_anchors.toarray()
    )


def test_a_label_graph_comes_alone(data):
    choice = GraphChoice(label_graph="near")
    arguments = fit_arguments(Recorder(), data, choice)
    assert isinstance(arguments["graph"], LabelGraph)
    assert "sample_graph" not in arguments
    np.testing.assert_array_equal(
        arguments["graph"].to_csr().toarray(), data.graphs["near"].toarray()
    )


def test_a_graph_needs_an_estimator_that_knows_it(data):
    with pytest.raises(ValueError, match=r"KNeighborsXC.fit takes no graph and no sample_graph"):
        fit_arguments(KNeighborsXC(), data, GraphChoice(anchors=["kind"]))


def test_unknown_graphs_are_named(data):
    with pytest.raises(ValueError, match="'far'"):
        fit_arguments(Recorder(), data, GraphChoice(label_graph="far"))


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (GraphChoice(), None),
        (GraphChoice(anchors=("tag", "section")), "tag,section"),
        (GraphChoice(label_graph="near", shuffled=True), "near (shuffled)"),
    ],
)
def test_name_of_a_choice(choice, name):
    assert choice.name == name


def test_shuffling_keeps_degrees_and_moves_edges():
    rng = np.random.default_rng(0)
    # At most one edge per row: no two edges can meet, so the degrees of both sides are exact.
    links = np.eye(50)[rng.integers(0, 50, 200)]
    data = _with_anchors(links)
    before = data.anchors["a"]
    after = shuffle_edges(data, np.random.default_rng(1)).anchors["a"]
    for old, new in (
        (before.sample_anchors, after.sample_anchors),
        (before.label_anchors, after.label_anchors),
    ):
        np.testing.assert_array_equal(new.sum(axis=0), old.sum(axis=0))
        np.testing.assert_array_equal(new.sum(axis=1), old.sum(axis=1))
        assert (new != old).nnz > 0
    assert after.texts == before.texts
    again = shuffle_edges(data, np.random.default_rng(1)).anchors["a"]
    other = shuffle_edges(data, np.random.default_rng(2)).anchors["a"]
    assert (after.sample_anchors != again.sample_anchors).nnz == 0
    assert (after.sample_anchors != other.sample_anchors).nnz > 0


def test_shuffling_leaves_the_data_set_alone():
    data = _with_anchors(np.eye(50)[np.random.default_rng(0).integers(0, 50, 200)])
    before = data.anchors["a"].sample_anchors.toarray()
    shuffle_edges(data, np.random.default_rng(1))
    np.testing.assert_array_equal(data.anchors["a"].sample_anchors.toarray(), before)


def test_shuffled_graphs_reach_fit(data):
    plain = fit_arguments(Recorder(), data, GraphChoice(anchors=["kind"]))
    choice = GraphChoice(anchors=["kind"], shuffled=True)
    shuffled = [fit_arguments(Recorder(), data, choice, seed) for seed in (0, 0, 1)]
    first, second, third = (one["sample_graph"].toarray() for one in shuffled)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)
    assert not np.array_equal(first, plain["sample_graph"].toarray())


def test_vectorizer_is_given_only_where_it_is_missing(data, feature_folder):
    knn = prepare(KNeighborsXC(), data, seed=0)
    assert isinstance(knn.vectorizer, TfidfVectorizer)
    assert knn.vectorizer.sublinear_tf is True

    counting = CountVectorizer()
    assert prepare(KNeighborsXC(vectorizer=counting), data, seed=0).vectorizer is counting
    assert prepare(KNeighborsXC(), load_folder(feature_folder), seed=0).vectorizer is None

    reader = Recorder()
    reader._accepts_texts = True
    assert prepare(reader, data, seed=0).vectorizer is None


def test_estimators_inside_get_a_vectorizer_too(data):
    counting = CountVectorizer()
    outer = build_estimator("FusionXC([('a', KNeighborsXC()), ('b', LinearTreeXC())])")
    prepare(outer, data, seed=0)
    neighbours, tree = (member for _, member in outer.estimators)
    assert isinstance(neighbours.vectorizer, TfidfVectorizer)
    assert tree.vectorizer is outer.vectorizer is None

    # One vectorizer for all members: they get features.
    outer = build_estimator("FusionXC([('a', KNeighborsXC())])").set_params(vectorizer=counting)
    prepare(outer, data, seed=0)
    assert outer.vectorizer is counting
    assert outer.estimators[0][1].vectorizer is None


def test_the_seed_reaches_estimators_inside(data):
    outer = prepare(Recorder(part=Recorder()), data, seed=5)
    assert (outer.random_state, outer.part.random_state) == (5, 5)
    prepare(KNeighborsXC(), data, seed=5)  # has no random_state


def test_features_are_normalised_and_preferred(feature_folder):
    given, data = load_xc_repository(feature_folder), load_folder(feature_folder)
    for side in ("train", "test"):
        features = getattr(given, f"{side}_features").toarray()
        norms = np.linalg.norm(features, axis=1, keepdims=True)
        rows = sample_rows(data, side)
        np.testing.assert_allclose(rows.toarray(), features / norms, rtol=1e-6)
    with pytest.raises(ValueError, match="no training texts"):
        sample_rows(load_folder(feature_folder, texts=True))


def test_texts_instead_of_features(data):
    features = sp.csr_array(np.ones((data.n_train, 2)))
    both = XCDataset(**{**vars(data), "train_features": features})
    assert sample_rows(both) is features
    assert sample_rows(data) == data.train_texts


def test_held_out_rows_take_the_place_of_the_test_rows(text_folder):
    data, held = (
        load_folder(text_folder, hold_out=20),
        hold_out(load_xc_repository(text_folder), 20),
    )
    assert sample_rows(data) == held.train_texts
    assert sample_rows(data, "test") == held.test_texts
    assert (data.test_labels != held.test_labels).nnz == 0


def test_test_rows_must_exist(data):
    assert sample_rows(data, "test") == data.test_texts
    with pytest.raises(ValueError, match="no test rows"):
        sample_rows(XCDataset(train_labels=data.train_labels, train_texts=["a"] * 60), "test")


def _with_anchors(links):
    labels = np.eye(50)[[0, 1, 2]]
    anchors = Anchors(sp.csr_array(links), sp.csr_array(labels), [f"text {i}" for i in range(50)])
    y = np.eye(3, dtype=np.float32)[np.arange(len(links)) % 3]
    return XCDataset(train_labels=sp.csr_array(y), anchors={"a": anchors})
