"""LabelGraphXC: its graph, its stages, its parts, and what a graph is good for."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV

import skxc
from skxc import AnchorGraph, LabelGraph, LabelGraphXC, LabelTexts
from skxc.datasets import make_planted_xc
from skxc.encoders import BagEncoder
from skxc.estimators._label_graph import LabelClusters
from skxc.estimators._label_graph.task import FusedClassifierTask
from skxc.exceptions import SlicedLabelSideError
from skxc.graphs import RandomWalk, normalize_degrees, strongest_with_self_loops
from skxc.metrics import ece_at_k
from skxc.training import Training
from tests.toys import assert_same_model


def make(**params):
    """Return a tiny estimator; parameters of parts have names such as ``walk__restart``."""
    tiny = LabelGraphXC(
        encoder=BagEncoder(dim=8),
        clusters=LabelClusters(n_clusters=4),
        n_epochs=2,
        batch_size=32,
        random_state=0,
        # No second training of small data.
        calibration="held_out",
    )
    return tiny.set_params(**params)


def answers(model, X):
    return model.decision_function(X).toarray()


# ---- the graph


def test_the_graph_is_made_from_the_training_labels(features):
    X, y, side = features
    model = make(classifiers__prune_distance=None, calibration=None).fit(X, y, label_features=side)
    walked = strongest_with_self_loops(RandomWalk().visits(y[:, :8]), 10)
    expected = np.eye(9)
    expected[:8, :8] = normalize_degrees(walked).toarray()
    np.testing.assert_allclose(model.label_graph_.toarray(), expected, rtol=1e-4)
    assert model.trained_labels_.tolist() == list(range(9))


def test_no_test_label_leaks(features, monkeypatch):
    """Every fold sees its own rows; labels that meet in the held-out rows only have no edge."""
    X, y, side = features
    seen = []

    visits = RandomWalk.visits

    def spy(walk, labels, row_weight=None):
        seen.append(labels.shape[0])
        return visits(walk, labels, row_weight)

    monkeypatch.setattr(RandomWalk, "visits", spy)
    model = make(label_features=side, top_k=5)
    GridSearchCV(model, {"clusters__beam_width": [3]}, cv=3, refit=False).fit(X, y)
    assert max(seen) <= 40
    y = y.toarray()
    y[:, 0] = y[:, 1] = 0
    y[:20, 0], y[20:40, 1] = 1, 1
    y[40:, 0] = y[40:, 1] = 1
    unpruned = make(classifiers__prune_distance=None, calibration=None)
    together = clone(unpruned).fit(X, sp.csr_array(y), label_features=side)
    y[:, 2:] = 0
    apart = unpruned.fit(X[:40], sp.csr_array(y[:40]), label_features=side)
    assert together.label_graph_[0, 1] > 0
    assert apart.label_graph_.toarray()[0].tolist() == [1] + [0] * 8


def test_frequent_labels_stay_out_of_the_walk(features):
    X, y, side = features
    counts = np.bincount(y.indices, minlength=9)
    limit = int(np.sort(counts)[5])
    model = make(walk__hub_threshold=limit, calibration=None).fit(X, y, label_features=side)
    heads = np.flatnonzero(counts > limit)
    assert 0 < len(heads) < 8
    graph = model.label_graph_.toarray()
    np.testing.assert_array_equal(graph[heads], np.eye(9)[heads])
    np.testing.assert_array_equal(graph[:, heads], np.eye(9)[:, heads])
    # They are predicted all the same.
    assert set(heads) <= set(model.predict_topk(X, 8)[0].ravel())


def test_labels_of_their_own_have_an_identity_graph(features):
    X, _, side = features
    y = sp.csr_array(np.eye(8)[np.arange(60) % 8])
    model = make().fit(X, y, label_features=side[:8])
    np.testing.assert_allclose(model.label_graph_.toarray(), np.eye(8), rtol=1e-6)
    still = clone(model).set_params(clusters__propagate=False).fit(X, y, label_features=side[:8])
    np.testing.assert_allclose(answers(model, X), answers(still, X), rtol=1e-5)


def test_passing_the_walk_changes_nothing(features):
    """In the published form; gates are learned with walks over parts of the rows."""
    X, y, side = features
    # Without calibration on a part of the rows, whose walk would be another one.
    X, y, side = X[:9], sp.csr_array(y[:9, :8]), side[:8]
    published = make(classifiers__prune_distance=None, classifiers__fusion="attention")
    own = clone(published).fit(X, y, label_features=side)
    graph = strongest_with_self_loops(RandomWalk().visits(y, row_weight=np.ones(9)), 10)
    passed = published.fit(X, y, label_features=side, graph=graph)
    np.testing.assert_allclose(own.label_graph_.toarray(), passed.label_graph_.toarray(), atol=1e-6)
    np.testing.assert_allclose(answers(own, X), answers(passed, X), rtol=1e-3, atol=1e-5)


def test_graphs_of_the_user(features):
    X, y, side = features
    mine = sp.csr_array(np.eye(9)[:, [1, 0, 3, 2, 5, 4, 7, 6, 8]])
    replaced = make(classifiers__prune_distance=0.0).fit(X, y, label_features=side, graph=mine)
    graph = replaced.label_graph_.toarray()
    # Texts that are not alike keep their edge, which the user knows better.
    assert graph[0, 1] == pytest.approx(0.5)
    assert graph[0, 0] == pytest.approx(0.5)
    assert np.count_nonzero(graph[0]) == 2
    anchors = make().fit(X, y, label_features=side, graph=AnchorGraph(labels=mine))
    assert_same_model(anchors, replaced, X)


def test_no_graph_anywhere(features):
    X, y, side = features
    none = make(walk=False).fit(X, y, label_features=side, graph=sp.csr_array(np.ones((9, 9))))
    assert none.label_graph_.shape == (9, 9)
    assert none.label_graph_.nnz == 0
    assert none.fusion_weights_.shape == (9, 2)
    assert_same_model(none, make(walk=False).fit(X, y, label_features=side), X)


def test_edges_between_unlike_texts_are_dropped(features):
    X, y, side = features
    graphs = [
        make(classifiers__prune_distance=distance).fit(X, y, label_features=side).label_graph_
        for distance in (0.0, 0.5, None)
    ]
    assert graphs[0].nnz == 9
    assert graphs[0].nnz < graphs[1].nnz < graphs[2].nnz


def test_a_sliced_graph_is_named(features):
    X, y, side = features
    square = sp.csr_array(y[:9])
    search = GridSearchCV(make(label_features=side), {"top_k": [3]}, cv=3, error_score="raise")
    with pytest.raises(SlicedLabelSideError, match="wrap it in LabelGraph"):
        search.fit(X[:9], square, graph=sp.csr_array(np.eye(9)))
    search.fit(X[:9], square, graph=LabelGraph(np.eye(9)))


# ---- stages


def test_stages_and_figures(features):
    X, y, side = features
    model = make(n_epochs=(3, 2, 1)).fit(X, y, label_features=side)
    stages = [record["stage"] for record in model.history_]
    assert stages == ["surrogate"] * 3 + ["shortlister-0"] * 2 + ["ranker-0"]
    assert model.n_iter_ == 6
    assert model.n_clusters_ == 4
    assert model.fusion_weights_.shape == (9, 3)
    np.testing.assert_allclose(model.fusion_weights_[:, [0, 2]].sum(axis=1), 1, rtol=1e-5)
    assert model.shortlist_recall_["train"] == 1.0
    narrow = make(clusters__beam_width=1).fit(X, y, label_features=side).shortlist_recall_
    assert 0 < narrow["train"] < 1


def test_members_are_averaged_and_the_first_does_not_change(features):
    X, y, side = features
    one, three = (make(n_estimators=n).fit(X, y, label_features=side) for n in (1, 3))
    model = three.model_
    found = [
        member.scores(model.queries(X), model.settings, torch.device("cpu")).toarray()
        for member in (*model.members, *one.model_.members)
    ]
    assert len(three.estimators_) == 3
    np.testing.assert_array_equal(found[0], found[3])
    assert (found[0] != found[1]).any()
    np.testing.assert_allclose(answers(three, X), sum(found[:3]) / 3, rtol=1e-5)


def test_a_seed_fixes_the_model(features):
    X, y, side = features
    first, again, other = (
        make(random_state=seed, training__n_jobs=jobs).fit(X, y, label_features=side)
        for seed, jobs in ((0, None), (0, 2), (1, None))
    )
    np.testing.assert_allclose(answers(first, X), answers(again, X), rtol=1e-4)
    assert not np.allclose(answers(first, X), answers(other, X))


def test_embeddings_go_on_learning_in_copies_or_are_frozen(features):
    X, y, side = features
    model = make().fit(X, y, label_features=side)
    frozen = make(classifiers__freeze_embeddings=True).fit(X, y, label_features=side)
    one, other = model.estimators_[0], frozen.estimators_[0]
    assert other.clusters.encoder is other.labels.encoder
    encoders = (other.labels.encoder, one.clusters.encoder, one.labels.encoder)
    tables = [encoder.module_.tokens.detach().numpy() for encoder in encoders]
    assert np.abs(tables[0] - tables[1]).max() > 1e-4
    assert np.abs(tables[1] - tables[2]).max() > 1e-4
    assert model.encoder_ is one.labels.encoder
    assert model.encoder_.vectorizer_ is one.clusters.encoder.vectorizer_


def test_the_encoder_is_copied_without_its_residual_block(features):
    X, y, side = features
    mine = BagEncoder(dim=8, dropout=0.1)
    model = make(encoder=mine).fit(X, y, label_features=side)
    assert mine.residual
    assert not hasattr(mine, "module_")
    assert model.encoder_.dropout == 0.1
    assert not hasattr(model.encoder_.module_, "block")
    assert model.transform(X).shape == (60, 8)
    assert LabelGraphXC(n_epochs=1).fit(X, y).transform(X).shape == (60, 256)


@pytest.mark.parametrize(
    "switch",
    [
        {"walk": False},
        {"walk__restart": 1.0},
        {"walk__hub_threshold": 12},
        {"clusters__power": 1.0},
        {"clusters__propagate": False},
        {"classifiers__fusion": "attention"},
        {"classifiers__freeze_embeddings": True},
        {"classifiers__prune_distance": 0.3},
        {"classifiers__dropout": 0.0},
        {"ranker__max_candidates": None},
        {"ranker__n_negatives": None},
        {"ranker__propagate": True},
        {"ranker__unseen_weight": 0.1},
        {"loss": "bce"},
        {"loss__temperature": 0.2},
    ],
    ids=lambda switch: next(iter(switch)),
)
def test_every_switch_changes_the_model(features, switch):
    X, y, side = features
    small = {"clusters__beam_width": 1, "ranker__max_candidates": 3}
    model = make(**small).fit(X, y, label_features=side)
    other = make(**{**small, **switch}).fit(X, y, label_features=side)
    assert not np.array_equal(answers(model, X), answers(other, X))


def test_the_published_form_trains(features):
    """As in the official code: everything is scored, frozen embeddings, three members."""
    X, y, side = features
    model = skxc.presets.eclare(
        encoder__dim=8,
        clusters__n_clusters=4,
        clusters__beam_width=2,
        n_epochs=(20, 10, 10),
        learning_rate=0.05,
        calibration=None,
        random_state=0,
    ).fit(X, y, label_features=side)
    np.testing.assert_allclose(model.fusion_weights_.sum(axis=1)[:8], 1, rtol=1e-5)
    assert model.n_iter_ == 20 + 3 * 20
    assert model.score(X, y) > 0.6


# ---- parameters


WRONG = [
    ({"n_epochs": (1, 2)}, "`n_epochs` must be a positive"),
    ({"n_epochs": (1, 2, 0)}, "`n_epochs` must be a positive"),
    ({"n_epochs": (1, 2.5, 1)}, "`n_epochs` must be a positive"),
    ({"learning_rate": (1, 2, "3")}, "`learning_rate` must be a positive"),
    ({"learning_rate": 0.0}, "'learning_rate' parameter of LabelGraphXC"),
    ({"loss": "triplet"}, "`loss` must be a loss of logits"),
    ({"loss__temperature": 0}, "'temperature' parameter of DecoupledSoftmax"),
    ({"training__micro_batch_size": 8}, "`training__micro_batch_size` must keep its default"),
    ({"training__precision": "bfloat16"}, "`training__precision` must keep its default"),
    ({"training__patience": 0}, "'patience' parameter of Training"),
    ({"encoder": "bag"}, "'encoder' parameter of LabelGraphXC"),
    ({"encoder__dim": 0}, "'dim' parameter of BagEncoder"),
    ({"walk": True}, "'walk' parameter of LabelGraphXC"),
    ({"walk__restart": 0}, "'restart' parameter of RandomWalk"),
    ({"clusters": False}, "'clusters' parameter of LabelGraphXC"),
    ({"clusters__n_clusters": "many"}, "'n_clusters' parameter of LabelClusters"),
    ({"clusters__power": -1}, "'power' parameter of LabelClusters"),
    ({"classifiers__fusion": "tree"}, "'fusion' parameter of Classifiers"),
    ({"classifiers__prune_distance": 3}, "'prune_distance' parameter of Classifiers"),
    ({"ranker__max_candidates": 0}, "'max_candidates' parameter of Ranker"),
    ({"ranker__unseen_weight": -1}, "'unseen_weight' parameter of Ranker"),
    ({"graph": "cooccurrence"}, "`graph` of LabelGraphXC must be a matrix"),
]


@pytest.mark.parametrize(("params", "match"), WRONG, ids=str)
def test_wrong_settings_are_refused(features, params, match, monkeypatch):
    X, y, _ = features
    monkeypatch.setattr(LabelGraphXC, "_train", None)  # nothing is trained before
    with pytest.raises(ValueError, match=match):
        make(**params).fit(X, y)


def test_parameters_are_few():
    assert len(LabelGraphXC().get_params(deep=False)) <= 21


# ---- what may be changed after fit


CHANGES = {"clusters__power": 1.0, "ranker__propagate": True, "ranker__unseen_weight": 0.2}


def test_changes_after_fit_are_those_before_it(features):
    """They do nothing in training."""
    X, y, side = features
    before = make(**CHANGES).fit(X, y, label_features=side)
    after = make().fit(X, y, label_features=side)
    plain = answers(after, X)
    np.testing.assert_array_equal(answers(after.set_params(**CHANGES), X), answers(before, X))
    assert (answers(after, X) != plain).any()
    wide = (after.set_params(clusters__beam_width=2).predict_topk(X, 9)[0] >= 0).sum()
    narrow = (after.set_params(clusters__beam_width=1).predict_topk(X, 9)[0] >= 0).sum()
    assert narrow < wide
    with pytest.raises(ValueError, match="'beam_width' parameter of LabelClusters"):
        after.set_params(clusters__beam_width=0).predict_topk(X)


def test_probabilities_after_a_change_are_calibrated_anew():
    data = make_planted_xc(2600, 60, n_test=1000, unseen_fraction=0.0, random_state=0)
    model = make(encoder=BagEncoder(dim=32), n_epochs=(3, 2, 3), batch_size=128, top_k=20)
    model.set_params(clusters=None, calibration="held_out")
    model.fit(data.train_texts, data.train_labels, label_features=data.label_texts)
    first = model.predict_proba(data.test_texts)
    for change in ({}, CHANGES, {"clusters__beam_width": 2, "clusters__power": 4.0}):
        model.set_params(**change)
        found = model.predict_proba(data.test_texts)
        assert ece_at_k(data.test_labels, found, k=1) < 0.1
        assert ece_at_k(data.test_labels, found, k=20) < 0.03
    stale = model.calibrator_.transform(model.decision_function(data.test_texts))
    assert abs(stale - found).max() > 0.05
    model.set_params(clusters=None, ranker=None)
    assert abs(model.predict_proba(data.test_texts) - first).nnz == 0


def test_without_kept_rows_there_are_no_new_probabilities(features):
    X, y, side = features
    model = make(calibration="refit").fit(X, y, label_features=side)
    expected = model.predict_proba(X).toarray()
    # Neither changes the scores of labels that are found anyway.
    model.set_params(clusters__n_clusters=2, top_k=50)
    np.testing.assert_array_equal(model.predict_proba(X).toarray(), expected)
    with pytest.raises(ValueError, match=r"'clusters__power'.* were changed after fit"):
        model.set_params(clusters__power=1.0).predict_proba(X)


# ---- data


def test_labels_without_rows_are_left_out(features):
    X, y, side = features
    for params in ({"ranker__unseen_weight": 0, "label_features": side}, {}):
        model = make(**params).fit(X, y)
        assert 8 not in model.predict_topk(X, 9)[0]
        assert model.n_labels_ == 9


def test_labels_without_rows_are_found_by_their_text(planted):
    """A row of the words of such a label finds it among 40 labels, because its text is known."""
    unseen = np.flatnonzero(planted.train_labels.sum(axis=0) == 0)
    assert len(unseen) >= 3
    texts = [planted.label_texts[label] for label in unseen]
    found = {}
    for has_text, weight in ((True, 0.5), (True, 0), (False, 0.5)):
        model = make(encoder=BagEncoder(dim=16), n_epochs=5, clusters=None, calibration=None)
        model.set_params(ranker__unseen_weight=weight)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of texts without label texts
            side = planted.label_texts if has_text else None
            model.fit(planted.train_texts, planted.train_labels, label_features=side)
        best = model.predict_topk(texts, 3)[0]
        found[has_text, weight] = (best == unseen[:, None]).any(axis=1).mean()
    assert found.pop((True, 0.5)) > 0.7, found  # 0.08 by chance
    assert set(found.values()) == {0}


def test_labels_without_rows_are_alone_in_the_graph(features):
    X, y, side = features
    model = make().fit(X, y, label_features=side)
    assert model.label_graph_.toarray()[8].tolist() == [0] * 8 + [1]
    assert len(model.estimators_[0].labels.classifiers) == 9


@pytest.mark.parametrize("n_labels", [1, 2, 3])
@pytest.mark.parametrize("hub_threshold", [1, None])
def test_few_labels_or_only_hubs(features, n_labels, hub_threshold):
    X, y, side = features
    y = sp.csr_array(y[:, :n_labels])
    model = make(walk__hub_threshold=hub_threshold, clusters=None)
    model.fit(X, y, label_features=side[:n_labels])
    assert set(model.predict_topk(X, n_labels)[0].ravel()) == set(range(n_labels))


def test_a_cluster_for_every_label(features):
    X, y, side = features
    model = make(clusters__n_clusters=100).fit(X, y, label_features=side)
    assert model.n_clusters_ == 9


def test_rows_without_words_or_labels(features):
    X, y, side = features
    X, y = X.toarray(), y.toarray()
    X[:5], y[5:10] = 0, 0
    model = make().fit(sp.csr_array(X), sp.csr_array(y), label_features=side)
    assert model.predict_topk(sp.csr_array(X[:1]), 2)[0].shape == (1, 2)


def test_without_label_features(features):
    X, y, _ = features
    assert make(n_epochs=10).fit(X, y).score(X, y) > 0.5


def test_early_stopping_keeps_the_best_epoch(planted):
    model = make(n_epochs=6, training=Training(patience=1))
    model.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
    for stage in ("surrogate", "shortlister-0", "ranker-0"):
        figures = [r["held_out"] for r in model.history_ if r["stage"] == stage]
        assert all(0 <= figure <= 1 for figure in figures)
        assert len(figures) == 6 or figures[-1] <= max(figures[:-1])
    assert 0 < model.shortlist_recall_["held_out"] <= 1


def test_a_finished_fit_is_not_repeated(features, tmp_path, monkeypatch):
    X, y, side = features
    kept = {"training__checkpoint_dir": tmp_path, "training__keep_checkpoints": True}
    first = make(**kept).fit(X, y, label_features=side)
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {
        "surrogate",
        "shortlister",
        "ranker",
    }

    def refuse(*args):
        raise AssertionError("trained again")

    monkeypatch.setattr(FusedClassifierTask, "backward", refuse)
    again = make(training__checkpoint_dir=tmp_path).fit(X, y, label_features=side)
    assert_same_model(again, first, X)


class Killed(Exception):
    pass


def kill(monkeypatch, stage, error, training=1):
    """Let the first or second training fail in the last epoch of a stage."""
    refresh, begun = FusedClassifierTask.refresh, []

    def failing(self, epoch, rng):
        begun.append(self) if self.name == "surrogate" and epoch == 0 else None
        if self.name.startswith(stage) and epoch == 1 and len(begun) == training:
            raise error
        refresh(self, epoch, rng)

    monkeypatch.setattr(FusedClassifierTask, "refresh", failing)


@pytest.mark.parametrize("stage", ["surrogate", "shortlister", "ranker"])
def test_a_killed_fit_goes_on(features, tmp_path, monkeypatch, stage):
    X, y, side = features
    plain = make(calibration="refit").fit(X, y, label_features=side)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill(patch, stage, Killed(), training=2)
        make(training__checkpoint_dir=tmp_path, calibration="refit").fit(X, y, label_features=side)
    resumed = make(training__checkpoint_dir=tmp_path, calibration="refit").fit(
        X, y, label_features=side
    )
    assert_same_model(resumed, plain, X)
    assert resumed.history_ == plain.history_


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Killed()], ids=repr)
@pytest.mark.parametrize(("stage", "training"), [("surrogate", 1), ("ranker", 2)])
def test_an_interrupted_refit_changes_nothing(features, monkeypatch, error, stage, training):
    X, y, side = features
    names = LabelTexts(side, [f"label {i}" for i in range(9)])
    model = make(calibration="refit").fit(X, y, label_features=names)
    before = pickle.loads(pickle.dumps(model))
    kill(monkeypatch, stage, error, training)
    with pytest.raises(type(error)):
        model.fit(X[:50], y[:50, :5], label_features=side[:5])
    assert model.label_names_[8] == "label 8"
    assert_same_model(model, before, X)


def test_an_interrupted_first_fit_is_no_fit(features, monkeypatch, tmp_path):
    X, y, _ = features
    model = make()
    kill(monkeypatch, "ranker", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    for use in (model.predict_topk, model.transform, lambda X: model.save(tmp_path / "model")):
        with pytest.raises(NotFittedError):
            use(X)
    assert not hasattr(model, "label_graph_")
    assert not (tmp_path / "model").exists()


class FailingVectorizer(BaseEstimator):
    def fit(self, texts, y=None):
        raise RuntimeError("no words")

    def transform(self, texts):
        raise RuntimeError("no words")


def test_a_failing_vectoriser_or_save_changes_nothing(planted, tmp_path):
    texts, y = planted.train_texts[:100], planted.train_labels[:100]
    model = make(vectorizer=TfidfVectorizer()).fit(texts, y)
    before = pickle.loads(pickle.dumps(model))
    model.save(tmp_path / "model")
    with pytest.raises(RuntimeError, match="no words"):
        model.set_params(vectorizer=FailingVectorizer()).fit(texts[:50], y[:50])
    with pytest.raises(ValueError, match="vectorizer"):
        model.save(tmp_path / "model")
    assert_same_model(model, before, texts)
    assert_same_model(skxc.load(tmp_path / "model"), before, texts)


class Watcher:
    """A callback that asks the estimator of every epoch."""

    def __init__(self):
        self.seen = []

    def setup(self, estimator, context):
        """Nothing to prepare."""

    def teardown(self, estimator, context):
        """Nothing to tidy up."""

    def on_fit_task_begin(self, estimator, context):
        """Wait for the end."""

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator, metadata):
        if context.task_name != "fit":
            self.seen.append((context.task_name, fitted_estimator.score(X, y)))
        return False


def test_callbacks_see_every_epoch_of_every_stage(features):
    pytest.importorskip("sklearn.callback")
    X, y, side = features
    watcher = Watcher()
    model = make(n_epochs=(2, 1, 2)).set_callbacks(watcher).fit(X, y, label_features=side)
    assert [name for name, _ in watcher.seen] == [
        *["surrogate epoch"] * 2,
        "shortlister-0 epoch",
        *["ranker-0 epoch"] * 2,
    ]
    assert all(0 <= score <= 1 for _, score in watcher.seen)
    # Watching must not change the training.
    assert_same_model(model, make(n_epochs=(2, 1, 2)).fit(X, y, label_features=side), X)


def test_saved_models_answer_the_same(features, tmp_path):
    X, y, side = features
    model = make(n_estimators=2).fit(X, y, label_features=side)
    model.save(tmp_path / "model")
    assert_same_model(skxc.load(tmp_path / "model"), model, X)
    stored = pickle.dumps(model)
    assert_same_model(pickle.loads(stored), model, X)
    assert pickle.loads(stored).label_graph_.nnz == model.label_graph_.nnz
    # No training row is kept.
    few, many = (
        pickle.dumps(make(calibration=None).fit(sp.vstack([X] * n), sp.vstack([y] * n)))
        for n in (1, 20)
    )
    assert len(many) < len(few) + 1000


# ---- behaviour


def test_texts_are_learnt(planted):
    model = LabelGraphXC(encoder=BagEncoder(dim=32), calibration=None, random_state=0)
    model.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
    best = planted.test_relevance.toarray().max(axis=1).mean()
    assert model.score(planted.test_texts, planted.test_labels) > 0.6 * best


def twins(seed=0, n=360, n_pairs=12):
    """Return labels in pairs, a frequent and a rare one that share rows but not words."""
    rng = np.random.default_rng(seed)
    pair = rng.integers(n_pairs, size=n)
    y = np.zeros((n, 2 * n_pairs), dtype=np.float32)
    y[np.arange(n), 2 * pair] = 1
    rare = np.concatenate([np.flatnonzero(pair == p)[:4] for p in range(n_pairs)])
    y[rare, 2 * pair[rare] + 1] = 1
    words = np.zeros((n, 6 * n_pairs + 40), dtype=np.float32)
    for row in range(n):
        words[row, 6 * pair[row] + rng.choice(6, 2, replace=False)] = 1
    side = np.zeros((2 * n_pairs, words.shape[1]), dtype=np.float32)
    for p in range(n_pairs):
        side[2 * p, 6 * p : 6 * p + 6] = 1
        side[2 * p + 1, 6 * n_pairs + rng.choice(40, 4, replace=False)] = 1
    train = np.arange(n) < 240
    rows = sp.csr_array(words[train]), sp.csr_array(y[train]), sp.csr_array(side)
    return *rows, sp.csr_array(words[~train]), pair[~train]


def rare_recall(X_test, pair, model):
    """Return how often the rare label of the row's pair is among the first two."""
    return np.mean((model.predict_topk(X_test, 2)[0] == 2 * pair[:, None] + 1).any(axis=1))


def test_a_graph_finds_rare_labels_that_words_do_not():
    X, y, side, X_test, pair = twins()
    options = {"encoder": BagEncoder(dim=32), "n_epochs": 4, "batch_size": 64, "random_state": 0}
    options["calibration"] = None
    fits = {}
    shuffled = np.random.default_rng(1).permutation(24)
    walked = strongest_with_self_loops(RandomWalk().visits(y), 10)
    for name, params, graph in (
        ("walk", {}, None),
        ("none", {"walk": False}, None),
        ("shuffled", {}, sp.csr_array(walked[shuffled][:, np.roll(shuffled, 5)])),
    ):
        model = LabelGraphXC(**options, **params).fit(X, y, label_features=side, graph=graph)
        fits[name] = rare_recall(X_test, pair, model)
    assert fits["walk"] > fits["none"] + 0.1
    assert fits["walk"] > fits["shuffled"] + 0.1
