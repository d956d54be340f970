"""LearnedIndexXC: what it finds, its settings, what a failed fit leaves, and what others get."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer

import skxc
from skxc import LabelGraph, LabelTexts, LearnedIndexXC
from skxc.datasets import make_planted_xc
from skxc.encoders import BagEncoder, FrozenEncoder
from skxc.metrics import ece_at_k, recall_at_k
from skxc.metrics._weighted import weighted_at_k
from skxc.training import Training
from tests.toys import assert_same_model

torch = pytest.importorskip("torch")

from skxc.estimators._learned_index import Edges, IndexClusters, LabelClassifiers  # noqa: E402
from skxc.estimators._learned_index.task import LearnedIndexTask  # noqa: E402


@pytest.fixture(scope="module")
def data():
    """Return planted texts whose labels are known by pairs of words."""
    return make_planted_xc(
        1200, 150, n_test=300, vocabulary_gap=0.0, unseen_fraction=0.0, random_state=0
    )


SMALL = BagEncoder(dim=64, n_buckets=0)


def make(tree_epochs=4, **params):
    clusters = {"clusters__n_epochs": tree_epochs}
    clusters |= {key: params.pop(key) for key in [*params] if "__" in key}
    model = LearnedIndexXC(**{"encoder": SMALL, "n_epochs": 4, "random_state": 0, **params})
    return model.set_params(**clusters)


@pytest.fixture(scope="module")
def model(data):
    return make().fit(data.train_texts, data.train_labels, label_features=data.label_texts)


@pytest.fixture(scope="module")
def tree(data):
    return make(edges=False).fit(data.train_texts, data.train_labels)


def changed(model, **params):
    """Return a fitted model with other parameters; the given one stays as it is."""
    return pickle.loads(pickle.dumps(model)).set_params(**params)


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
    wide = changed(model, beam_width=model.sizes_.n_clusters, shortlist_size=150)
    assert recall(wide, data, 50) >= recall(model, data, 50)
    narrow = changed(model, beam_width=1)
    edges = narrow.label_index_.to_csr()
    beam, _ = narrow.label_index_.beam(narrow.transform(data.test_texts), 1)
    found, _ = narrow.predict_topk(data.test_texts)
    for row in range(20):
        assert set(found[row][found[row] >= 0]) <= set(edges[beam[row]].indices)
    short = changed(model, shortlist_size=5, top_k=5)
    assert (short.predict_topk(data.test_texts)[0] >= 0).sum(axis=1).max() == 5
    assert (short.predict_topk(data.test_texts, 20)[0] >= 0).sum(axis=1).max() == 20
    assert (
        short.predict_topk(data.test_texts)[0] != model.predict_topk(data.test_texts, 5)[0]
    ).any()


def test_probabilities_after_a_change_are_calibrated_anew_or_refused(model, data):
    with pytest.raises(ValueError, match=r"changed after fit.*no held-out rows are kept"):
        changed(model, beam_width=1).predict_proba(data.test_texts)
    large = make_planted_xc(
        2600, 60, n_test=600, vocabulary_gap=0.0, unseen_fraction=0.0, random_state=1
    )
    other = make(1, n_epochs=2, top_k=20, calibration="held_out")
    other.fit(large.train_texts, large.train_labels)
    first = other.predict_proba(large.test_texts)
    assert ece_at_k(large.test_labels, first, 3) < 0.1
    other.set_params(beam_width=1, shortlist_size=30)
    second = other.predict_proba(large.test_texts)
    assert abs(first - second).max() > 0.01
    assert ece_at_k(large.test_labels, second, 3) < 0.1
    # The scores fell, and the old calibrator would be wrong about them.
    stale = other.calibrator_.transform(other.decision_function(large.test_texts))
    assert abs(stale - second).max() > 0.01


@pytest.mark.parametrize("n_labels", [1, 2, 3, 50])
def test_few_labels(n_labels):
    rng = np.random.default_rng(0)
    y = sp.csr_array((rng.random((40, n_labels)) < 0.5).astype(int))
    X = sp.csr_array(y @ rng.random((n_labels, 12)) + 0.01)
    model = make(1, n_epochs=1).fit(X, y)
    assert (model.predict_topk(X, 1)[0] >= 0).all()
    assert model.saturated_edges_ <= 0.5 or n_labels <= 3


def test_label_texts_are_rows_that_make_labels_without_any_predictable(data):
    y = data.train_labels.toarray()
    y[:, :10] = 0
    y = sp.csr_array(y)
    rows = np.flatnonzero(np.isin(data.test_sources, np.arange(10)))
    texts = [data.test_texts[row] for row in rows]
    for weight in (0.0, 1.0):
        model = make(2, n_epochs=12, label_weight=weight, classifiers__learning_rate=0.02)
        model.fit(data.train_texts, y, label_features=data.label_texts)
        best = model.predict_topk(texts, 20)[0]
        found = [data.test_sources[row] in best[i] for i, row in enumerate(rows)]
        assert np.mean(found) == 0 if weight == 0 else np.mean(found) > 0.5
        assert model.coverage_ == 1


def test_labels_without_rows_are_not_predicted(data):
    y = sp.csr_array(sp.hstack([data.train_labels, sp.csr_array((1200, 7))]))
    model = make(1, n_epochs=1).fit(data.train_texts, y)
    assert model.predict_topk(data.test_texts, 100)[0].max() < 150
    assert model.coverage_ == 1


# ---- settings


def test_labels_that_cannot_be_reached_are_warned_of(data):
    with pytest.warns(UserWarning, match=r"`coverage_` is 0\.\d+: no cluster leads") as caught:
        model = make(1, n_epochs=1, edges=Edges(edges_per_cluster=4)).fit(
            data.train_texts, data.train_labels
        )
    assert model.coverage_ < 1
    # Small data train twice; what is warned of is the model that is kept.
    assert len([w for w in caught if "`coverage_`" in str(w.message)]) == 1


def test_edges_of_the_tree_reach_all_labels_where_they_have_room(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make(1, n_epochs=1, edges=Edges(edges_per_cluster=12)).fit(
            data.train_texts, data.train_labels
        )
    assert model.coverage_ == 1


def test_saturated_edges_are_warned_of(data):
    with pytest.warns(UserWarning) as caught:
        make(1, n_epochs=1, edges=Edges(beta=1e5)).fit(data.train_texts, data.train_labels)
    assert any("`saturated_edges_` is" in str(w.message) for w in caught)
    assert any("`beta` is 100000" in str(w.message) for w in caught)


def test_sizes_are_those_that_are_given(data):
    model = make(
        1,
        n_epochs=1,
        clusters__n_clusters=8,
        clusters__alpha=1.25,
        edges=Edges(edges_per_cluster=40, beta=90.0),
        beam_width=3,
        shortlist_size=50,
        top_k=10,
    ).fit(data.train_texts, data.train_labels)
    sizes, index = model.sizes_, model.label_index_
    assert (sizes.n_clusters, sizes.edges_per_cluster) == (8, 40) == index.edge_labels.shape
    assert (sizes.alpha, sizes.beta) == (1.25, 90.0)
    assert (index.beam_width, index.shortlist_size, index.gain) == (3, 50, 1.25)


@pytest.mark.parametrize(
    "changes",
    [
        {"clusters__alpha": 1.0},
        {"clusters__n_clusters": 4},
        {"clusters__learning_rate": 0.02},
        {"clusters__n_epochs": 3},
        {"edges__beta": 5.0},
        {"edges__edges_per_cluster": 30},
        {"edges__fine_tuning": 0.1},
        {"edges": False},
        {"classifiers__path_loss_weight": 0.5},
        {"classifiers__n_scored": None},
        {"classifiers__dropout": 0.6},
        {"classifiers__learning_rate": 0.02},
        {"beam_width": 1},
        {"learning_rate": 0.02},
        {"batch_size": 32},
        {"training__max_grad_norm": 0.1},
        {"graph": "cooccurrence"},
    ],
    ids=str,
)
def test_every_setting_does_something(data, changes):
    texts, y = data.train_texts[:200], data.train_labels[:200]
    plain = make(2, n_epochs=2, classifiers=LabelClassifiers(n_scored=20), calibration=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        other = clone(plain).set_params(**changes).fit(texts, y)
        plain.fit(texts, y)
    first, second = (m.decision_function(data.test_texts[:20]) for m in (plain, other))
    assert abs(first - second).max() > 1e-4


def test_sides_start_the_clusters_together():
    """Labels without a common word or row share a cluster if graph or text say so."""
    rng = np.random.default_rng(0)
    y = sp.csr_array(np.eye(32)[rng.integers(32, size=300)].astype(int))
    X = sp.csr_array(y.toarray() + 0.01 * rng.random((300, 32)))
    group = rng.permutation(np.arange(32) % 4)
    same = group[:, None] == group
    side = np.eye(4)[group] @ rng.random((4, 32))

    def together(graph_weight=1.0, **sides):
        clusters = IndexClusters(n_clusters=4, graph_weight=graph_weight)
        model = make(1, n_epochs=1, clusters=clusters, edges=False).fit(X, y, **sides)
        parents = model.label_index_.parents()
        return np.mean((parents[:, None] == parents)[same])

    assert together() < 0.5
    graph = LabelGraph(sp.csr_array(same * 1.0))
    assert together(graph=graph) > 0.7
    assert together(0.0, graph=graph) == together()
    assert together(label_features=sp.csr_array(side)) > 0.7


def test_names_of_labels_reach_the_index(data):
    names = [f"label {i}" for i in range(150)]
    labels = LabelTexts(data.label_texts, names)
    model = make(1, n_epochs=1).fit(data.train_texts, data.train_labels, label_features=labels)
    assert model.label_index_.labels_of(0, k=1)[0][0] in names
    assert model.label_index_.clusters_of("label 3") == model.label_index_.clusters_of(3)


def test_dense_embeddings_as_features():
    rng = np.random.default_rng(0)
    y = np.eye(6)[rng.integers(6, size=200)].astype(int)
    X = y @ rng.normal(size=(6, 10)) + 0.1 * rng.normal(size=(200, 10))
    model = make(10, encoder=FrozenEncoder(), batch_size=16, n_epochs=10, calibration=None)
    model.fit(X, sp.csr_array(y))
    assert model.score(X, sp.csr_array(y)) > 0.9


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"clusters": IndexClusters(n_epochs=0)}, "'n_epochs' parameter of IndexClusters"),
        ({"clusters": IndexClusters(alpha=0.0)}, "'alpha' parameter of IndexClusters"),
        (
            {"clusters": IndexClusters(n_clusters=12)},
            "`n_clusters` of IndexClusters must be a power",
        ),
        ({"edges": Edges(fine_tuning=2.0)}, "'fine_tuning' parameter of Edges"),
        ({"edges": Edges(beta=-1.0)}, "'beta' parameter of Edges"),
        ({"classifiers": LabelClassifiers(dropout=1.0)}, "'dropout' .* LabelClassifiers"),
        ({"classifiers": LabelClassifiers(n_scored=0)}, "'n_scored' .* LabelClassifiers"),
        ({"training": Training(patience=0)}, "'patience' parameter of Training"),
        ({"training": Training(micro_batch_size=8)}, "`micro_batch_size` of Training must be None"),
        ({"clusters": False}, "'clusters' parameter of LearnedIndexXC"),
        ({"edges": True}, "'edges' parameter of LearnedIndexXC"),
        ({"n_epochs": 0}, "'n_epochs' parameter of LearnedIndexXC"),
        ({"beam_width": 0}, "'beam_width' parameter of LearnedIndexXC"),
        ({"graph": "walks"}, "`graph` of LearnedIndexXC"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(data, params, match, monkeypatch):
    monkeypatch.setattr(LearnedIndexXC, "_train", None)  # nothing is trained before
    with pytest.raises(ValueError, match=match):
        LearnedIndexXC(**params).fit(data.train_texts[:50], data.train_labels[:50])


def test_parameters_are_few():
    assert len(LearnedIndexXC().get_params(deep=False)) <= 21


# ---- running


def test_early_stopping_keeps_the_best_epoch_and_delivers_it(data):
    model = make(1, n_epochs=12, training=Training(patience=1), classifiers__learning_rate=0.1)
    model.set_params(calibration="held_out").fit(data.train_texts, data.train_labels)
    figures = [record["held_out"] for record in model.history_[1:]]
    assert len(figures) < 12
    assert figures[-1] <= max(figures[:-1])
    rows = model.calibration_rows_
    best = model.predict_topk(rows.X, 1)[0]
    delivered = weighted_at_k("precision", rows.y, best, 1, rows.sample_weight)
    assert delivered == pytest.approx(max(figures))


class Killed(Exception):
    pass


def kill(monkeypatch, stage, epoch, error, trial=True):
    """Let training fail at the start of an epoch of a stage."""
    refresh, trainings = LearnedIndexTask.refresh, []

    def failing(self, number, rng):
        trainings.append(self) if self.name == "tree" and number == 0 else None
        if self.name == stage and number == epoch and len(trainings) == (1 if trial else 2):
            raise error
        refresh(self, number, rng)

    monkeypatch.setattr(LearnedIndexTask, "refresh", failing)


@pytest.mark.parametrize(("stage", "epoch"), [("tree", 1), ("index", 0), ("index", 2)])
def test_a_killed_fit_goes_on(data, tmp_path, monkeypatch, stage, epoch):
    texts, y = data.train_texts[:300], data.train_labels[:300]
    plain = make(2, n_epochs=3).fit(texts, y)
    training = Training(checkpoint_dir=tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill(patch, stage, epoch, Killed(), trial=False)
        make(2, n_epochs=3, training=training).fit(texts, y)
    resumed = make(2, n_epochs=3, training=training).fit(texts, y)
    assert_same_model(resumed, plain, texts)
    assert resumed.history_ == plain.history_


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Killed()], ids=repr)
@pytest.mark.parametrize(("stage", "trial"), [("tree", True), ("index", False)])
def test_an_interrupted_refit_changes_nothing(data, monkeypatch, error, stage, trial):
    texts, y = data.train_texts[:200], data.train_labels[:200]
    names = LabelTexts(data.label_texts, [f"label {i}" for i in range(150)])
    model = make(1, n_epochs=2).fit(texts, y, label_features=names)
    before = pickle.dumps(model)
    kill(monkeypatch, stage, 0, error, trial)
    with pytest.raises(type(error)):
        model.fit(data.train_texts[200:400], data.train_labels[200:400, :100])
    assert model.label_names_[3] == "label 3"
    assert model.label_index_.label_names[3] == "label 3"
    assert_same_model(model, pickle.loads(before), texts)


def test_an_interrupted_first_fit_is_no_fit(data, monkeypatch, tmp_path):
    texts, y = data.train_texts[:100], data.train_labels[:100]
    model = make(1, n_epochs=1)
    kill(monkeypatch, "index", 0, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        model.fit(texts, y)
    for use in (model.predict_topk, model.transform, lambda X: model.save(tmp_path / "model")):
        with pytest.raises(NotFittedError):
            use(texts)
    assert not hasattr(model, "label_index_")
    assert not (tmp_path / "model").exists()


class FailingVectorizer(BaseEstimator):
    def fit(self, texts, y=None):
        raise RuntimeError("no words")

    def transform(self, texts):
        raise RuntimeError("no words")


def test_a_failing_vectoriser_changes_nothing(data):
    texts, y = data.train_texts[:100], data.train_labels[:100]
    model = make(1, n_epochs=1, vectorizer=TfidfVectorizer()).fit(texts, y)
    before = pickle.loads(pickle.dumps(model))
    with pytest.raises(RuntimeError, match="no words"):
        model.set_params(vectorizer=FailingVectorizer()).fit(texts[:50], y[:50])
    assert_same_model(model, before, texts)


# ---- saving


@pytest.mark.parametrize("edges", [None, False], ids=["learned", "tree"])
def test_saved_and_pickled_models_answer_the_same(data, tmp_path, edges):
    texts, y = data.train_texts[:300], data.train_labels[:300]
    model = make(1, n_epochs=1, edges=edges, clusters__alpha=2.0).fit(
        texts, y, label_features=LabelTexts(data.label_texts, [f"label {i}" for i in range(150)])
    )
    model.save(tmp_path / "model")
    for copy in (skxc.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        assert_same_model(copy, model, data.test_texts)
        assert repr(copy) == repr(model)
        assert copy.history_ == model.history_
        assert copy.sizes_ == model.sizes_
        assert copy.label_index_.label_names == model.label_names_


def test_a_failing_save_leaves_model_and_folder(model, data, tmp_path, monkeypatch):
    model.save(tmp_path / "model")
    answers = model.predict_topk(data.test_texts)
    broken = changed(model, vectorizer=FailingVectorizer())
    with pytest.raises(ValueError, match="vectorizer"):
        broken.save(tmp_path / "model")
    loaded = skxc.load(tmp_path / "model")
    for mine, theirs in zip(loaded.predict_topk(data.test_texts), answers, strict=True):
        np.testing.assert_array_equal(mine, theirs)


# ---- what it gives to others


def test_candidates_for_anybody(model, data):
    labels, paths = model.label_index_.search(model.transform(data.test_texts), 30)
    truth = data.test_labels.toarray()
    hits = np.take_along_axis(truth, np.maximum(labels, 0), axis=1) * (labels >= 0)
    assert hits.sum() / truth.sum() > 0.3
    assert (np.diff(paths[:, :5], axis=1) <= 0).all()
