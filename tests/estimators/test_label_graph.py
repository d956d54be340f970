"""LabelGraphXC: its graph, its stages, its switches, and what a graph is good for."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import skxc
from skxc import AnchorGraph, LabelGraph, LabelGraphXC
from skxc.exceptions import SlicedLabelSideError
from skxc.graphs import normalize_degrees, random_walk, strongest_with_self_loops
from skxc.utils._sparse import normalize_rows
from tests.toys import assert_same_model

TINY = {"n_components": 8, "n_epochs": 2, "batch_size": 32, "n_clusters": 4, "random_state": 0}


def make(**params):
    return LabelGraphXC(**{**TINY, **params})


def answers(model, X):
    return model.decision_function(X).toarray()


# ---- the graph


def test_the_graph_is_made_from_the_training_labels(features):
    X, y, side = features
    model = make(prune_distance=None).fit(X, y, label_features=side)
    walked = strongest_with_self_loops(random_walk(y[:, :8]), 10)
    expected = np.eye(9)
    expected[:8, :8] = normalize_degrees(walked).toarray()
    np.testing.assert_allclose(model.label_graph_.toarray(), expected, rtol=1e-4)
    assert model.trained_labels_.tolist() == list(range(9))


def test_no_test_label_leaks(features, monkeypatch):
    """Every fold sees its own rows; labels that meet in the held-out rows only have no edge."""
    X, y, side = features
    seen = []

    def spy(labels, **options):
        seen.append(labels.shape[0])
        return random_walk(labels, **options)

    monkeypatch.setattr("skxc.estimators._label_graph.random_walk", spy)
    search = GridSearchCV(make(label_features=side, top_k=5), {"beam_size": [3]}, cv=3, refit=False)
    search.fit(X, y)
    # Small data are fitted twice: for calibration without a fifth of the rows, then with all.
    assert max(seen) <= 40
    y = y.toarray()
    y[:, 0] = y[:, 1] = 0
    y[:20, 0], y[20:40, 1] = 1, 1
    y[40:, 0] = y[40:, 1] = 1
    together = make(prune_distance=None).fit(X, sp.csr_array(y), label_features=side)
    y[:, 2:] = 0
    apart = make(prune_distance=None).fit(X[:40], sp.csr_array(y[:40]), label_features=side)
    assert together.label_graph_[0, 1] > 0
    assert apart.label_graph_.toarray()[0].tolist() == [1] + [0] * 8


def test_frequent_labels_stay_out_of_the_walk(features):
    X, y, side = features
    counts = np.bincount(y.indices, minlength=9)
    limit = int(np.sort(counts)[5])
    model = make(head_threshold=limit).fit(X, y, label_features=side)
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
    still = clone(model).set_params(propagate=False).fit(X, y, label_features=side[:8])
    np.testing.assert_allclose(answers(model, X), answers(still, X), rtol=1e-5)


def test_passing_the_walk_changes_nothing(features):
    X, y, side = features
    X, y, side = X, sp.csr_array(y[:, :8]), side[:8]
    walked = strongest_with_self_loops(random_walk(y), 10)
    # Without calibration on a part of the rows, whose walk would be another one.
    rows = slice(0, 9)
    own = make(prune_distance=None).fit(X[rows], y[rows], label_features=side)
    graph = strongest_with_self_loops(random_walk(y[rows], row_weight=np.ones(9)), 10)
    passed = make(prune_distance=None).fit(X[rows], y[rows], label_features=side, graph=graph)
    np.testing.assert_allclose(own.label_graph_.toarray(), passed.label_graph_.toarray(), atol=1e-6)
    np.testing.assert_allclose(answers(own, X), answers(passed, X), rtol=1e-3, atol=1e-5)
    assert walked.shape == (8, 8)


def test_graphs_of_the_user(features):
    X, y, side = features
    mine = sp.csr_array(np.eye(9)[:, [1, 0, 3, 2, 5, 4, 7, 6, 8]])
    replaced = make().fit(X, y, label_features=side, graph=mine)
    graph = replaced.label_graph_.toarray()
    assert graph[0, 1] == pytest.approx(0.5)
    assert graph[0, 0] == pytest.approx(0.5)
    assert np.count_nonzero(graph[0]) == 2
    joined = make(graph_mode="join").fit(X, y, label_features=side, graph=mine)
    walked = make().fit(X, y, label_features=side)
    assert joined.label_graph_[0, 1] > walked.label_graph_[0, 1]
    assert joined.label_graph_.nnz > replaced.label_graph_.nnz
    anchors = make().fit(X, y, label_features=side, graph=AnchorGraph(labels=mine))
    assert_same_model(anchors, replaced, X)


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
    np.testing.assert_allclose(model.fusion_weights_.sum(axis=1), 1, rtol=1e-5)
    assert model.shortlist_recall_["train"] == 1.0
    narrow = make(beam_size=1).fit(X, y, label_features=side).shortlist_recall_
    assert 0 < narrow["train_without_propagation"] <= narrow["train"] < 1


@pytest.mark.parametrize("value", [(1, 2), (1, 2, 0), (1, 2, "3")])
def test_one_number_per_stage(features, value):
    X, y, _ = features
    with pytest.raises(ValueError, match="`n_epochs` must be a positive"):
        make(n_epochs=value).fit(X, y)


def test_members_are_averaged_and_the_first_does_not_change(features):
    X, y, side = features
    one = make(walk="simulate").fit(X, y, label_features=side)
    three = make(walk="simulate", n_estimators=3).fit(X, y, label_features=side)
    assert len(three.estimators_) == 3
    rows = normalize_rows(three.encoder_.prepare(X))
    first = three._scores(three.estimators_[0], rows).toarray()
    np.testing.assert_array_equal(first, one._scores(one.estimators_[0], rows).toarray())
    mean = sum(three._scores(member, rows).toarray() for member in three.estimators_) / 3
    np.testing.assert_allclose(answers(three, X), mean, rtol=1e-5)


@pytest.mark.parametrize("walk", ["exact", "simulate"])
def test_a_seed_fixes_the_model(features, walk):
    X, y, side = features
    first, again, other = (
        make(walk=walk, random_state=seed, n_jobs=jobs).fit(X, y, label_features=side)
        for seed, jobs in ((0, None), (0, 2), (1, None))
    )
    np.testing.assert_allclose(answers(first, X), answers(again, X), rtol=1e-4)
    assert not np.allclose(answers(first, X), answers(other, X))


def test_the_refinement_starts_at_the_text_of_the_neighbours(features, monkeypatch):
    from skxc.training import FusedClassifierTask

    X, y, side = features
    starts = {}
    original = FusedClassifierTask.__init__

    def spy(self, name, *, start, texts, hops, **options):
        starts[name] = (start, texts, hops)
        original(self, name, start=start, texts=texts, hops=hops, **options)

    monkeypatch.setattr(FusedClassifierTask, "__init__", spy)
    make(freeze_embeddings=True).fit(X, y, label_features=side)
    assert starts["surrogate"][0] is None
    for name in ("shortlister-0", "ranker-0"):
        start, texts, hops = starts[name]
        np.testing.assert_allclose(start, hops[0] @ texts, rtol=1e-5)


def test_trained_embeddings_belong_to_their_stage(features):
    X, y, side = features
    model = make(freeze_embeddings=False).fit(X, y, label_features=side)
    frozen = make(freeze_embeddings=True).fit(X, y, label_features=side)
    assert frozen.estimators_[0].encoders is None
    tables = [
        encoder.module_.tokens.detach().numpy()
        for encoder in (frozen.encoder_, *model.estimators_[0].encoders)
    ]
    assert np.abs(tables[0] - tables[1]).max() > 1e-4
    assert np.abs(tables[1] - tables[2]).max() > 1e-4
    assert model.encoder_ is model.estimators_[0].encoders[1]
    assert model.encoder_.vectorizer_ is model.estimators_[0].encoders[0].vectorizer_
    again = pickle.loads(pickle.dumps(model))
    assert_same_model(model, again, X)


@pytest.mark.parametrize(
    "switch",
    [
        {"use_graph": False},
        {"fusion": "sum"},
        {"use_refinement": False},
        {"propagate": False},
        {"propagate_labels": True},
        {"graph_negatives": False},
        {"n_negatives": None},
        {"cluster_power": 1.0},
        {"freeze_embeddings": True},
        {"walk_restart": 1.0},
        {"n_hops": 2},
        {"add_missed_positives": False},
        {"max_candidates": None},
        {"head_threshold": 12},
        {"walk": "simulate"},
        {"prune_distance": 0.3},
        {"temperature": 0.2},
    ],
    ids=lambda switch: next(iter(switch)),
)
def test_every_switch_changes_the_model(features, switch):
    X, y, side = features
    small = {"beam_size": 1, "max_candidates": 3}
    model = make(**small).fit(X, y, label_features=side)
    other = make(**{**small, **switch}).fit(X, y, label_features=side)
    assert not np.array_equal(answers(model, X), answers(other, X))


def test_the_graph_smooths_the_clusters(planted):
    leaves = []
    for smooth in (True, False):
        model = make(n_clusters=8, n_epochs=1, smooth_clusters=smooth)
        model.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
        leaves.append(model.estimators_[0].membership.toarray())
    assert not np.array_equal(*leaves)


# ---- data


def test_labels_without_rows_are_left_out(features):
    X, y, side = features
    for params in ({"predict_unseen": False, "label_features": side}, {}):
        model = make(**params).fit(X, y)
        assert 8 not in model.predict_topk(X, 9)[0]
        assert model.n_labels_ == 9


def test_or_by_their_text(features):
    X, y, side = features
    model = make(n_epochs=10).fit(X, y, label_features=side)
    assert 8 in model.predict_topk(side[[8]], 3)[0]
    ranker = model.estimators_[0]
    # Never a negative, so its own vector has not moved from its text.
    assert 8 in model.trained_labels_
    assert model.label_graph_.toarray()[8].tolist() == [0] * 8 + [1]
    assert ranker.label_weights.shape == (9, 8)


@pytest.mark.parametrize("n_labels", [1, 2, 3])
@pytest.mark.parametrize("head_threshold", [1, None])
def test_few_labels_or_only_heads(features, n_labels, head_threshold):
    X, y, side = features
    y = sp.csr_array(y[:, :n_labels])
    model = make(head_threshold=head_threshold, n_clusters="auto")
    model.fit(X, y, label_features=side[:n_labels])
    assert set(model.predict_topk(X, n_labels)[0].ravel()) == set(range(n_labels))


def test_a_cluster_for_every_label(features):
    X, y, side = features
    model = make(n_clusters=100).fit(X, y, label_features=side)
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
    model = make(n_epochs=6, early_stopping=True, n_iter_no_change=1)
    model.fit(planted.train_texts, planted.train_labels, label_features=planted.label_texts)
    for stage in ("surrogate", "shortlister-0", "ranker-0"):
        figures = [r["held_out"] for r in model.history_ if r["stage"] == stage]
        assert all(0 <= figure <= 1 for figure in figures)
        assert len(figures) == 6 or figures[-1] <= max(figures[:-1])
    assert 0 < model.shortlist_recall_["held_out"] <= 1


def test_a_finished_fit_is_not_repeated(features, tmp_path, monkeypatch):
    X, y, side = features
    first = make(checkpoint_dir=tmp_path).fit(X, y, label_features=side)
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {
        "surrogate",
        "shortlister",
        "ranker",
    }

    def refuse(*args):
        raise AssertionError("trained again")

    monkeypatch.setattr("skxc.training.FusedClassifierTask.backward", refuse)
    assert_same_model(make(checkpoint_dir=tmp_path).fit(X, y, label_features=side), first, X)


@pytest.mark.parametrize("stage", ["surrogate", "shortlister", "ranker"])
def test_a_killed_fit_goes_on(features, tmp_path, stage):
    X, y, side = features
    plain = make().fit(X, y, label_features=side)

    class Killed(Exception):
        pass

    class Killing(LabelGraphXC):
        def _train(self, run, task, n_epochs):
            if task.name.startswith(stage) and run.held_out is None:
                start = task.refresh

                def refresh(epoch, rng):
                    if epoch == n_epochs - 1:
                        raise Killed
                    start(epoch, rng)

                task.refresh = refresh
            return super()._train(run, task, n_epochs)

    killing = Killing(**{**make().get_params(), "checkpoint_dir": tmp_path})
    with pytest.raises(Killed):
        killing.fit(X, y, label_features=side)
    resumed = make(checkpoint_dir=tmp_path).fit(X, y, label_features=side)
    assert_same_model(resumed, plain, X)


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
    assert pickle.loads(stored).label_graph_.nnz == model.label_graph_.nnz
    # No training row is kept.
    assert not any(getattr(value, "shape", None) == X.shape for value in vars(model).values())


# ---- behaviour


def test_texts_are_learnt(planted):
    model = LabelGraphXC(n_components=32, random_state=0)
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
    options = {"n_components": 32, "n_epochs": 4, "batch_size": 64, "random_state": 0}
    fits = {}
    shuffled = np.random.default_rng(1).permutation(24)
    walked = strongest_with_self_loops(random_walk(y), 10)
    for name, params, graph in (
        ("walk", {}, None),
        ("none", {"use_graph": False}, None),
        ("shuffled", {}, sp.csr_array(walked[shuffled][:, np.roll(shuffled, 5)])),
    ):
        model = LabelGraphXC(**options, **params).fit(X, y, label_features=side, graph=graph)
        fits[name] = rare_recall(X_test, pair, model)
    assert fits["walk"] > fits["none"] + 0.1
    assert fits["walk"] > fits["shuffled"] + 0.1
