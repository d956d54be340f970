import pickle
import time
import tracemalloc

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

import skxc
from skxc.estimators import _linear_tree
from skxc.estimators._linear_tree import LinearTreeXC
from skxc.linear import LabelTree, Solver
from skxc.metrics import inverse_propensity

WORDS = [f"{a}{b}" for a in ("red", "blue", "old", "new", "big") for b in ("wine", "car", "cat")]


def planted(n=400, n_labels=60, seed=0):
    """Return rows whose labels each have a feature of their own, among noise."""
    rng = np.random.default_rng(seed)
    y = sp.csr_array((rng.random((n, n_labels)) < 2 / n_labels).astype(np.float32))
    noise = sp.random_array((n, 30), density=0.1, random_state=rng, format="csr", dtype=np.float32)
    return sp.csr_array(sp.hstack([y, 0.7 * noise])), y


def texts(n=300, seed=0):
    """Return texts of three words, each of which is a label, and the names of the labels."""
    rng = np.random.default_rng(seed)
    y = np.zeros((n, len(WORDS)))
    for row in y:
        row[rng.choice(len(WORDS), 3, replace=False)] = 1
    return [" and ".join(np.array(WORDS)[row > 0]) for row in y], sp.csr_array(y)


SMALL = {"flat": False, "max_leaf_size": 4, "branching": 4}
TREE = {"tree": LabelTree(**SMALL), "random_state": 0}
TREES = {"tree": LabelTree(**SMALL, n_trees=2), "random_state": 0}


def assert_same_answers(one, other, X):
    for a, b in zip(one.predict_topk(X, 20), other.predict_topk(X, 20), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "settings",
    [
        {"random_state": 0},
        TREE,
        TREES,
        TREE | {"loss": "logistic", "C": 10.0},
        TREE | {"solver": Solver(tol=0.01, max_iter=100, prune=0.2)},
        TREE | {"propensity_power": 0.5},
        {"tree": LabelTree(flat=False, max_leaf_size=2, branching=2), "beam_width": 3},
    ],
)
def test_finds_planted_labels(settings):
    X, y = planted()
    train, test = np.arange(300), np.arange(300, 400)
    model = LinearTreeXC(**settings).fit(X[train], y[train])
    indices, _ = model.predict_topk(X[test], 1)
    some = np.diff(y[test].indptr) > 0
    hits = y[test][np.flatnonzero(some), indices[some, 0]]
    assert hits.mean() > 0.9
    assert model.n_iter_ >= 1


def test_flat_below_a_number_of_labels(monkeypatch):
    X, y = planted()

    def n_inner(flat):
        tree = LabelTree(flat=flat, max_leaf_size=10, n_trees=2)
        weights = LinearTreeXC(tree=tree, random_state=0).fit(X, y).weights_
        return len(weights.roots), len(weights.first_child)

    assert n_inner("auto") == n_inner(True) == (1, 1)
    assert n_inner(False) == (2, 2 * (1 + 8))
    monkeypatch.setattr("skxc.linear._tree.FLAT_LABELS", 59)
    assert n_inner("auto") == (2, 18)


def test_same_seed_same_model_whatever_the_threads():
    X, y = planted()
    models = [LinearTreeXC(**TREES, n_jobs=n_jobs).fit(X, y) for n_jobs in (None, 1, 2, 3)]
    for model in models[1:]:
        assert_same_answers(models[0], model, X)
        for a, b in zip(models[0].weights_.arrays, model.weights_.arrays, strict=True):
            np.testing.assert_array_equal(a, b)
    other = LinearTreeXC(**(TREE | {"random_state": 1})).fit(X, y)
    assert (other.predict_topk(X, 5)[1] != models[0].predict_topk(X, 5)[1]).any()


def test_the_beam_reaches_top_k_labels():
    X, y = planted()
    model = LinearTreeXC(**TREE, beam_width=1, top_k=50).fit(X, y)
    assert (model.predict_topk(X)[0] >= 0).all()
    narrow = LinearTreeXC(**TREE, beam_width=1, top_k=3).fit(X, y)
    assert (narrow.predict_topk(X, 50)[0][:, 4:] == -1).all()
    assert (narrow.predict_topk(X, 3)[0] >= 0).all()


def test_scores_are_log_probabilities():
    X, y = planted()
    for settings in ({}, {"loss": "logistic"}, {"tree": LabelTree(flat=True)}):
        model = LinearTreeXC(**(TREE | settings), C=10.0).fit(X, y)
        indices, scores = model.predict_topk(X, 60)
        assert (scores <= 0).all()
        true = y[np.arange(400)[:, None], indices].toarray() > 0
        assert np.exp(scores[true]).mean() > 0.7
        assert np.exp(scores[~true]).mean() < 0.1


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
def test_probabilities_are_calibrated(loss):
    """Of the pairs that are given about p, a share of about p is right, on rows not trained on."""
    X, y = planted(2400)
    y = y.multiply(np.random.default_rng(1).random(y.shape) < 0.7).tocsr()  # chance remains
    model = LinearTreeXC(**TREE, loss=loss).fit(X[:800], sp.csr_array(y[:800]))
    proba = sp.coo_array(model.predict_proba(X[800:]))
    hits = y[800:].toarray()[proba.coords] > 0
    order = np.argsort(proba.data)
    for part in np.array_split(order, 20):
        assert abs(proba.data[part].mean() - hits[part].mean()) < 0.05
    assert ((proba.data > 0) & (proba.data < 1)).all()


def test_memory_follows_stored_entries_and_not_the_shapes():
    """A dense rows x labels array would take 1.6 GB here, one of features x labels 4 TB."""
    n, n_features, n_labels = 400, 1_000_000, 1_000_000
    rng = np.random.default_rng(0)
    rows = np.repeat(np.arange(n), 5)
    X, y = (
        sp.csr_array((np.ones(5 * n, np.float32), (rows, rng.integers(m, size=5 * n))), (n, m))
        for m in (n_features, n_labels)
    )
    y.data[:] = 1
    tracemalloc.start()
    model = LinearTreeXC(random_state=0).fit(X, y)
    model.predict(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(model.weights_.first_child) > 1
    assert peak < 200e6


def test_texts_without_a_vectoriser():
    X, y = texts()
    model = LinearTreeXC(random_state=0).fit(X, y)
    assert model.score(X, y) == 1
    assert isinstance(model.vectorizer_, TfidfVectorizer)
    given = TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
    assert_same_answers(model, LinearTreeXC(vectorizer=given, random_state=0).fit(X, y), X)
    with pytest.raises(ValueError, match="sequence of texts"):
        model.predict(y)


@pytest.mark.parametrize("vectorizer", [None, TfidfVectorizer(analyzer="char", ngram_range=(2, 3))])
def test_one_row_is_as_good_as_many(vectorizer):
    X, y = texts()
    model = LinearTreeXC(**TREES, vectorizer=vectorizer).fit(X, y)
    indices, scores = model.predict_topk(X, 10)
    for row in range(0, 300, 7):
        alone = model.predict_topk([X[row]], 10)
        np.testing.assert_array_equal(alone[0][0], indices[row])
        np.testing.assert_array_equal(alone[1][0], scores[row])


def test_label_texts_reach_labels_without_rows():
    X, y = texts()
    seen = y.toarray()
    seen[:, 4] = 0
    settings = {"random_state": 0, "label_weight": 1.0}
    blind = LinearTreeXC(**settings).fit(X, sp.csr_array(seen))
    assert not (blind.predict_topk(X)[0] == 4).any()
    model = LinearTreeXC(**settings).fit(X, sp.csr_array(seen), label_features=WORDS)
    assert model.predict_topk([WORDS[4]], 1)[0].tolist() == [[4]]
    off = LinearTreeXC(**(settings | {"label_weight": 0.0}))
    off.fit(X, sp.csr_array(seen), label_features=WORDS)
    assert not (off.predict_topk(X)[0] == 4).any()


def test_a_graph_moves_labels_together():
    X, y = planted()
    partner = np.arange(60) ^ 1
    graph = sp.csr_array((np.ones(60), (np.arange(60), partner)), shape=(60, 60))

    def together(weight):
        tree = LabelTree(**SMALL, graph_weight=weight)
        model = LinearTreeXC(tree=tree, random_state=0).fit(X, y, graph=graph).weights_
        n = len(model.first_child)
        leaf = np.empty(60, dtype=int)
        for node in np.flatnonzero(model.first_child >= n):
            first = model.first_child[node] - n
            leaf[model.labels[first : first + model.n_children[node]]] = node
        return (leaf == leaf[partner]).mean()

    assert together(0.0) < 0.3
    assert together(1.0) > 0.6


def test_propensity_power_favours_rare_labels():
    rng = np.random.default_rng(0)
    X, y = planted()
    y = y.toarray()
    y[rng.random(400) < 0.9, :30] = 0
    y = sp.csr_array(y)
    rare = []
    for power in (0.0, 1.0):
        model = LinearTreeXC(random_state=0, propensity_power=power).fit(X, y)
        rows, labels = y[:, :30].nonzero()
        indices, scores = model.predict_topk(X[rows], 60)
        rare.append(scores[indices == labels[:, None]].mean())
    assert rare[1] > rare[0] + 0.05


def test_weights_of_positives_leave_the_held_out_rows_out(monkeypatch):
    X, y = planted()
    seen = []

    def remember(frequency, n_samples):
        seen.append((frequency, n_samples))
        return inverse_propensity(frequency, n_samples)

    monkeypatch.setattr(_linear_tree, "inverse_propensity", remember)
    model = LinearTreeXC(random_state=0).fit(X, y)
    # Once without the held-out rows, to calibrate, then on all of them.
    (trial, n_trial), (final, n_final) = seen
    assert n_final == 400
    assert n_trial < 330
    np.testing.assert_array_equal(final, model.label_frequency_)
    assert 0 < trial.sum() < final.sum()


def test_training_rows_without_any_label():
    # The only row with a label is held out for calibration in some of these.
    for row in range(12):
        y = np.zeros((12, 5))
        y[row, 1] = 1
        model = LinearTreeXC(random_state=0).fit(np.eye(12), sp.csr_array(y))
        assert model.predict_topk(np.eye(12), 1)[0].tolist() == [[1]] * 12


def test_save_load_and_pickle(tmp_path):
    X, y = texts()
    model = LinearTreeXC(**TREES).fit(X, y, label_features=WORDS)
    model.save(tmp_path / "model")
    joblib.dump(model, tmp_path / "model.joblib")
    for again in (
        skxc.load(tmp_path / "model"),
        pickle.loads(pickle.dumps(model)),
        joblib.load(tmp_path / "model.joblib", mmap_mode="r"),
    ):
        assert_same_answers(model, again, X)
        np.testing.assert_array_equal(
            model.predict_proba(X).toarray(), again.predict_proba(X).toarray()
        )


def test_a_single_text_is_quick():
    X, y = texts()
    model = LinearTreeXC(random_state=0).fit(X, y)
    seconds = []
    for text in X:
        start = time.perf_counter()
        model.predict_topk([text], 10)
        seconds.append(time.perf_counter() - start)
    # About 0.1 ms; a busy machine disturbs most calls, but not every tenth.
    assert np.quantile(seconds, 0.1) < 0.001


def test_search_needs_no_normalised_rows():
    X, y = planted()
    model = LinearTreeXC(**TREE).fit(X, y)
    once, scaled = model.predict_topk(X, 10), model.predict_topk(X * 7, 10)
    np.testing.assert_allclose(once[1], scaled[1], rtol=1e-5, atol=1e-6)


def test_what_may_be_changed_after_fit():
    X, y = planted()
    model = LinearTreeXC(**TREE, beam_width=1, top_k=4, calibration="held_out").fit(X, y)
    narrow, proba = model.predict_topk(X, 20), model.predict_proba(X)
    model.set_params(beam_width=15, n_jobs=2)
    assert (model.predict_topk(X, 20)[0] >= 0).all()
    assert (narrow[0] == -1).any()
    # Probabilities of the wide beam come from a calibrator of its own.
    assert model._current_calibrator() is not model.calibrator_
    model.set_params(beam_width=1)
    for one, other in zip(narrow, model.predict_topk(X, 20), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(model.predict_proba(X).toarray(), proba.toarray())


def test_what_acts_at_the_next_fit_only():
    X, y = planted()
    model = LinearTreeXC(**TREE).fit(X, y)
    before = model.predict_topk(X, 20), model.predict_proba(X).toarray()
    changes = {"loss": "logistic", "C": 9.0, "tree__n_trees": 3, "solver__prune": 0.4}
    model.set_params(**changes)
    for one, other in zip(before[0], model.predict_topk(X, 20), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(model.predict_proba(X).toarray(), before[1])
    other = model.fit(X, y)
    assert other.model_.loss == "logistic"
    assert (other.predict_topk(X, 20)[1] != before[0][1]).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "hinge"}, "'loss' parameter of LinearTreeXC"),
        ({"beam_width": 0}, "'beam_width' parameter of LinearTreeXC"),
        ({"tree": Solver()}, "'tree' parameter of LinearTreeXC"),
        ({"tree": LabelTree(flat="no")}, "'flat' parameter of LabelTree"),
        ({"solver": Solver(tol=0)}, "'tol' parameter of Solver"),
    ],
)
def test_parameters_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        LinearTreeXC(**changes).fit(*planted())
