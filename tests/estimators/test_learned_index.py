"""LearnedIndexXC: what it finds, its settings, the ranker, and what it gives to others."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier

import skxc
from skxc import DualEncoderXC, LabelGraph, LabelTexts, LearnedIndexXC, LinearTreeXC
from skxc.base import TrainingSet
from skxc.datasets import make_planted_xc
from skxc.encoders import FrozenEncoder
from skxc.indices import LabelIndex
from skxc.linear import SparseRanker
from skxc.metrics import recall_at_k


@pytest.fixture(scope="module")
def data():
    """Return planted texts whose labels are known by pairs of words."""
    return make_planted_xc(
        1200, 150, n_test=300, vocabulary_gap=0.0, unseen_fraction=0.0, random_state=0
    )


def make(**params):
    return LearnedIndexXC(**{"tree_epochs": 4, "n_epochs": 4, "random_state": 0, **params})


@pytest.fixture(scope="module")
def model(data):
    return make().fit(data.train_texts, data.train_labels, label_features=data.label_texts)


@pytest.fixture(scope="module")
def tree(data):
    return make(tree_epochs=8, n_epochs=0).fit(data.train_texts, data.train_labels)


def recall(model, data, k=10):
    return recall_at_k(data.test_labels, model.decision_function(data.test_texts), k=k)


# ---- what it finds


def test_it_learns(model, data):
    frequency = np.asarray(data.train_labels.sum(axis=0)).ravel()
    popular = data.test_labels.toarray()[:, frequency.argmax()].mean()
    assert model.score(data.test_texts, data.test_labels) > 3 * popular


def test_edges_that_learn_find_more_than_the_tree_at_the_same_beam(model, tree, data):
    assert model.sizes_.beam_width == tree.sizes_.beam_width < model.sizes_.n_clusters
    assert recall(model, data) > recall(tree, data) + 0.02
    assert len(model.history_) == len(tree.history_)
    assert model.shortlist_recall_ > tree.shortlist_recall_


def test_figures_of_training(model, tree):
    assert model.coverage_ == tree.coverage_ == 1
    assert model.saturated_edges_ < 0.5
    assert tree.saturated_edges_ == 1
    assert 0 < model.shortlist_recall_ <= 1
    shares = [record["positives_in_beam"] for record in model.history_]
    assert all(0 <= share <= 1 for share in shares)
    assert shares[3] > shares[0]
    assert model.n_iter_ == len(model.history_) == 8


def test_a_tree_gives_every_label_one_cluster(tree):
    counts = (tree.label_index_.to_csr() > 0).sum(axis=0)
    assert set(counts.tolist()) == {1}
    assert tree.label_index_.shared_labels() == []


def test_a_learned_index_gives_some_labels_several(model):
    names = model.label_index_.shared_labels()
    assert names
    clusters = model.label_index_.clusters_of(names[0])
    assert len([weight for _, weight in clusters if weight >= 0.1]) > 1


def test_only_edges_of_beam_clusters_lead_to_predictions(model, data):
    queries = model.transform(data.test_texts[:20])
    beam, _ = model.label_index_.beam(queries)
    found, _ = model.predict_topk(data.test_texts[:20])
    edges = model.label_index_.to_csr()
    for row in range(20):
        reachable = np.unique(edges[beam[row]].indices)
        assert np.isin(found[row][found[row] >= 0], reachable).all()


def test_beam_and_shortlist_can_be_changed_after_fit(model, data):
    wide = clone(model)
    wide.__dict__.update(model.__dict__)
    wide.set_params(beam_width=model.sizes_.n_clusters, shortlist_size=150)
    assert recall(wide, data, 50) >= recall(model, data, 50)
    wide.set_params(shortlist_size=5, top_k=5)
    assert (wide.predict_topk(data.test_texts)[0] >= 0).sum(axis=1).max() == 5


@pytest.mark.parametrize("n_labels", [1, 2, 3, 50])
def test_few_labels(n_labels):
    rng = np.random.default_rng(0)
    y = sp.csr_array((rng.random((40, n_labels)) < 0.5).astype(int))
    X = sp.csr_array(y @ rng.random((n_labels, 12)) + 0.01)
    model = make(tree_epochs=1, n_epochs=1).fit(X, y)
    assert (model.predict_topk(X, 1)[0] >= 0).all()
    assert model.saturated_edges_ <= 0.5 or n_labels <= 3


def test_labels_without_rows_are_not_predicted(data):
    y = sp.csr_array(sp.hstack([data.train_labels, sp.csr_array((1200, 7))]))
    model = make(tree_epochs=1, n_epochs=1).fit(data.train_texts, y)
    assert model.predict_topk(data.test_texts, 100)[0].max() < 150
    assert model.coverage_ == 1


# ---- settings


def test_as_published():
    model = LearnedIndexXC.as_published(n_epochs=3)
    assert (model.edge_init, model.edge_cap, model.keep_tree_edges) == ("random", "clamp", False)
    assert model.restart_classifiers
    assert model.n_scored is None
    assert model.n_epochs == 3


@pytest.mark.filterwarnings("ignore:`coverage_` is")
def test_published_settings_train(data):
    model = LearnedIndexXC.as_published(
        recluster_epochs=1, tree_epochs=3, n_epochs=3, averaged_epochs=2, random_state=0
    ).fit(data.train_texts, data.train_labels)
    assert len(model.history_) == 7
    assert recall(model, data) > 0.1


def test_labels_that_cannot_be_reached_are_warned_of(data):
    with pytest.warns(UserWarning, match=r"`coverage_` is 0\.\d+: no cluster leads"):
        model = make(
            tree_epochs=1, n_epochs=1, edges_per_cluster=4, beta=1.0, keep_tree_edges=False
        ).fit(data.train_texts, data.train_labels)
    assert model.coverage_ < 1


def test_keeping_tree_edges_reaches_all_labels_whatever_their_number(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make(tree_epochs=1, n_epochs=1, edges_per_cluster=12, beta=5.0).fit(
            data.train_texts, data.train_labels
        )
    assert model.coverage_ == 1


def test_saturated_edges_are_warned_of(data):
    with pytest.warns(UserWarning) as caught:
        make(tree_epochs=1, n_epochs=1, beta=1e4, edge_cap="clamp", edge_init="random").fit(
            data.train_texts, data.train_labels
        )
    assert any("`saturated_edges_` is" in str(w.message) for w in caught)
    assert any("`beta` is 10000" in str(w.message) for w in caught)


def test_the_gain_of_edges_goes_with_their_cap(data):
    sizes = {}
    for cap in ("soft", "clamp"):
        model = make(tree_epochs=1, n_epochs=1, edge_cap=cap)
        sizes[cap] = model.fit(data.train_texts[:200], data.train_labels[:200]).sizes_
    assert sizes["soft"].beta == 2 * sizes["soft"].edges_per_cluster
    assert sizes["clamp"].beta <= sizes["clamp"].edges_per_cluster / 2


@pytest.mark.parametrize(
    "changes",
    [
        {"edge_init": "random"},
        {"edge_init": "shares"},
        {"edge_cap": "clamp"},
        {"path_loss_weight": 0.5},
        {"restart_classifiers": True},
        {"recluster_epochs": 1},
        {"averaged_epochs": 2},
        {"n_scored": None},
        {"dropout": 0.6},
        {"cluster_learning_rate": 0.02},
        {"label_learning_rate": 0.02},
        {"learning_rate": 0.02},
        {"fine_tuning": 0.1},
        {"batch_size": 32},
        {"keep_tree_edges": False, "edges_per_cluster": 30},
        {"graph": "cooccurrence"},
    ],
    ids=str,
)
def test_every_setting_does_something(data, changes):
    rows = slice(0, 200)
    texts, y = data.train_texts[rows], data.train_labels[rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        plain, changed = (
            make(tree_epochs=2, n_epochs=2, n_scored=20).set_params(**params).fit(texts, y)
            for params in ({}, changes)
        )
    first, second = (m.decision_function(data.test_texts[:20]) for m in (plain, changed))
    assert abs(first - second).max() > 1e-4


def test_sides_start_the_clusters_together():
    """Labels without a common word or row share a cluster if graph or text say so."""
    rng = np.random.default_rng(0)
    y = sp.csr_array(np.eye(32)[rng.integers(32, size=300)].astype(int))
    X = sp.csr_array(y.toarray() + 0.01 * rng.random((300, 32)))
    group = rng.permutation(np.arange(32) % 4)
    same = group[:, None] == group
    side = np.eye(4)[group] @ rng.random((4, 32))

    def together(**sides):
        model = make(n_clusters=4, tree_epochs=1, n_epochs=0, graph_weight=1.0).fit(X, y, **sides)
        parents = model.label_index_.parents()
        return np.mean((parents[:, None] == parents)[same])

    assert together() < 0.5
    assert together(graph=LabelGraph(sp.csr_array(same * 1.0))) > 0.7
    assert together(label_features=sp.csr_array(side)) > 0.7


def test_names_of_labels_reach_the_index(data):
    names = [f"label {i}" for i in range(150)]
    labels = LabelTexts(data.label_texts, names)
    model = make(tree_epochs=1, n_epochs=1).fit(
        data.train_texts, data.train_labels, label_features=labels
    )
    assert model.label_index_.labels_of(0, k=1)[0][0] in names
    assert model.label_index_.clusters_of("label 3") == model.label_index_.clusters_of(3)


def test_dense_embeddings_as_features():
    rng = np.random.default_rng(0)
    y = np.eye(6)[rng.integers(6, size=200)].astype(int)
    X = y @ rng.normal(size=(6, 10)) + 0.1 * rng.normal(size=(200, 10))
    model = make(encoder=FrozenEncoder(), batch_size=16, tree_epochs=10, n_epochs=10)
    model.fit(X, sp.csr_array(y))
    assert model.score(X, sp.csr_array(y)) > 0.9


# ---- running


def test_early_stopping_keeps_the_best_epoch(data):
    model = make(tree_epochs=3, n_epochs=3, early_stopping=True, n_iter_no_change=1)
    model.fit(data.train_texts, data.train_labels)
    assert all("held_out" in record for record in model.history_)
    assert 2 <= len(model.history_) <= 6


@pytest.mark.parametrize("averaged_epochs", [1, 3])
def test_a_killed_fit_goes_on(data, tmp_path, averaged_epochs):
    texts, y = data.train_texts[:300], data.train_labels[:300]
    params = {"tree_epochs": 2, "n_epochs": 3, "averaged_epochs": averaged_epochs}
    plain = make(**params).fit(texts, y)

    class Killed(Exception):
        pass

    class Killing(LearnedIndexXC):
        def _train(self, run, task, n_epochs):
            if task.name == "index" and run.held_out is None:
                start = task.refresh

                def refresh(epoch, rng):
                    if epoch == n_epochs - 1:
                        raise Killed
                    start(epoch, rng)

                task.refresh = refresh
            return super()._train(run, task, n_epochs)

    killing = Killing(**{**make(**params).get_params(), "checkpoint_dir": tmp_path})
    with pytest.raises(Killed):
        killing.fit(texts, y)
    resumed = make(**params, checkpoint_dir=tmp_path).fit(texts, y)
    for mine, theirs in zip(resumed.predict_topk(texts), plain.predict_topk(texts), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_warm_start_keeps_the_encoder(data):
    texts, y = data.train_texts[:300], data.train_labels[:300]
    model = make(warm_start=True, learning_rate=1e-9, tree_epochs=1, n_epochs=1).fit(texts, y)
    before = model.transform(texts)
    again = model.fit(texts, y).transform(texts)
    np.testing.assert_allclose(again, before, atol=1e-5)
    fresh = make(learning_rate=1e-9, tree_epochs=1, n_epochs=1, random_state=5).fit(texts, y)
    assert abs(fresh.transform(texts) - before).max() > 0.1


# ---- the sparse ranker


class Recorder(BaseEstimator):
    """A ranker that gives constants, and remembers what it was asked."""

    def fit(self, X, y, *, candidates):
        self.shapes_ = (X.shape, y.shape, candidates.shape)
        self.asked_ = []
        return self

    def decision_function(self, X, *, candidates):
        self.asked_.append(int(np.diff(candidates.indptr).max()))
        parts = (np.zeros(candidates.nnz, np.float32), candidates.indices, candidates.indptr)
        return sp.csr_array(parts, shape=candidates.shape)


def test_a_ranker_that_says_nothing_changes_nothing(data):
    model = make(sparse_ranker=Recorder(), top_k=20).fit(data.train_texts, data.train_labels)
    ranked = model.predict_topk(data.test_texts)
    assert max(model.ranker_.asked_) <= 20
    plain = model.set_params(sparse_ranker=None).predict_topk(data.test_texts)
    for mine, theirs in zip(ranked, plain, strict=True):
        np.testing.assert_array_equal(mine, theirs)


class Sided(Recorder):
    """A ranker that takes label features."""

    def fit(self, X, y, *, candidates, label_features=None):
        self.side_ = label_features
        self.candidates_ = candidates
        return super().fit(X, y, candidates=candidates)


def test_a_ranker_gets_the_texts_of_labels_and_not_a_row_s_own_label(data):
    # Rows that are called like a label do not have it: its text would teach the wrong thing.
    texts = np.concatenate([data.train_texts[:200], data.label_texts])
    y = sp.csr_array(sp.vstack([data.train_labels[:200], data.train_labels[200:350]]))
    own = sp.csr_array(np.pad(np.eye(150), ((200, 0), (0, 0))))
    y = sp.csr_array(y - y.multiply(own))
    y.eliminate_zeros()
    model = make(sparse_ranker=Sided(), tree_epochs=1, n_epochs=1, embedding_weight=0.5)
    model.fit(texts, y, label_features=data.label_texts)
    assert model.ranker_.side_.shape == (150, model.ranker_.shapes_[0][1])
    lengths = np.sqrt(model.ranker_.side_[:, :256].power(2).sum(axis=1))
    np.testing.assert_allclose(lengths, 0.5, rtol=1e-4)
    candidates = model._own_candidates(
        TrainingSet(
            X=texts.astype(object),
            y=y,
            sample_weight=np.ones(350),
            label_features=np.asarray(data.label_texts, dtype=object),
        )
    )
    assert candidates.multiply(own).nnz == 0
    assert candidates.nnz > 350
    assert make(sparse_ranker=Sided()).fit(texts[:100], y[:100]).ranker_.side_ is None


class Weighted(Recorder):
    """A ranker that takes weights of rows."""

    def fit(self, X, y, *, candidates, sample_weight):
        self.weight_ = sample_weight
        return super().fit(X, y, candidates=candidates)


def test_weights_of_rows_reach_the_ranker(data):
    rows = slice(0, 60)
    model = make(sparse_ranker=Weighted(), tree_epochs=1, n_epochs=1).fit(
        data.train_texts[rows], data.train_labels[rows], sample_weight=np.full(60, 3.0)
    )
    assert set(model.ranker_.weight_) == {3.0}
    assert 0 < model.trained_frequency_.sum() < model.label_frequency_.sum()
    assert (model.trained_frequency_ % 3 == 0).all()


@pytest.fixture(scope="module")
def ranked(data):
    return make(sparse_ranker=SparseRanker()).fit(data.train_texts, data.train_labels)


def test_a_ranker_never_adds_candidates(ranked, data):
    found, _ = ranked.predict_topk(data.test_texts, 100)
    ranker, ranked.sparse_ranker = ranked.sparse_ranker, None
    before, _ = ranked.predict_topk(data.test_texts, 100)
    ranked.sparse_ranker = ranker
    assert all(set(a) == set(b) for a, b in zip(found.tolist(), before.tolist(), strict=True))
    assert (found != before).any()


def test_a_ranker_ranks_better(ranked, data):
    better = ranked.score(data.test_texts, data.test_labels)
    ranker, ranked.sparse_ranker = ranked.sparse_ranker, None
    plain = ranked.score(data.test_texts, data.test_labels)
    ranked.sparse_ranker = ranker
    assert better > plain
    assert ranked.fusion_.weight_ > 0


@pytest.mark.filterwarnings("ignore:Label not .* is present in all training examples")
@pytest.mark.parametrize(
    "ranker",
    [LinearTreeXC(random_state=0), OneVsRestClassifier(RidgeClassifier())],
    ids=["LinearTreeXC", "OneVsRestClassifier"],
)
def test_other_linear_estimators_rank_too(data, ranker):
    texts, y = data.train_texts[:400], data.train_labels[:400]
    kept = np.asarray(y.sum(axis=0)).ravel() > 2
    model = make(sparse_ranker=ranker, tree_epochs=2, n_epochs=1).fit(texts, y[:, kept])
    assert model.predict_topk(data.test_texts, 5)[0].shape == (300, 5)
    assert not hasattr(ranker, "classes_")


def test_models_with_a_ranker_answer_the_same_after_saving(ranked, data, tmp_path):
    ranked.save(tmp_path / "model")
    loaded = skxc.load(tmp_path / "model")
    for mine, theirs in zip(
        loaded.predict_topk(data.test_texts), ranked.predict_topk(data.test_texts), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert isinstance(loaded.label_index_, LabelIndex)


# ---- what it gives to others


def test_another_estimator_searches_with_the_index(model, data):
    other = DualEncoderXC(n_epochs=2, random_state=0, neighbor_weight=0.2)
    other.set_params(index=model.label_index_)
    other.fit(data.train_texts, data.train_labels, label_features=data.label_texts)
    through = other.predict_topk(data.test_texts, 5)[0]
    exact = other.set_params(index="exact").predict_topk(data.test_texts, 5)[0]
    assert (through[:, 0] == exact[:, 0]).mean() > 0.5
    assert (through != exact).any()
    assert clone(other.set_params(index=model.label_index_)).index is model.label_index_


def test_candidates_for_anybody(model, data):
    labels, paths = model.label_index_.search(model.transform(data.test_texts), 30)
    truth = data.test_labels.toarray()
    hits = np.take_along_axis(truth, np.maximum(labels, 0), axis=1) * (labels >= 0)
    assert hits.sum() / truth.sum() > 0.3
    assert (np.diff(paths[:, :5], axis=1) <= 0).all()


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"edge_init": "ones"}, "edge_init"),
        ({"edge_cap": "none"}, "edge_cap"),
        ({"n_epochs": -1}, "n_epochs"),
        ({"tree_epochs": 0}, "tree_epochs"),
        ({"sparse_ranker": 3}, "sparse_ranker"),
        ({"n_clusters": 12}, "power of two"),
        ({"graph": "walks"}, "graph"),
    ],
)
def test_wrong_settings_are_refused(data, params, match):
    with pytest.raises(ValueError, match=match):
        make(**params).fit(data.train_texts[:50], data.train_labels[:50])
