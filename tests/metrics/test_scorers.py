"""Scorers in searches: one prediction, training propensities, routing, pickling, speed."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import make_multilabel_classification
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from skxc.metrics import evaluate, get_scorer, inverse_propensity, psp_at_k, topk_scorer
from tests.tiny_estimator import TinyXC, tiny_data

NAMES = [f"{name}@{k}" for name in ("precision", "ndcg", "psp") for k in (1, 3, 5)]


@pytest.fixture
def fitted():
    X, y = tiny_data()
    return TinyXC().fit(X[:30], y[:30]), X[30:], y[30:]


def search(estimator, grid, X, y, scoring=None, refit="precision@1", **params):
    grid = GridSearchCV(
        estimator, grid, cv=3, scoring=scoring or topk_scorer(), refit=refit, error_score="raise"
    )
    return grid.fit(X, y, **params)


def test_one_prediction_gives_all_metrics(fitted):
    model, X, y = fitted
    TinyXC.predictions = 0
    result = topk_scorer()(model, X, y)
    assert TinyXC.predictions == 1
    weights = inverse_propensity(model.label_frequency_, 30)
    expected = evaluate(
        y,
        model.decision_function(X),
        metrics=["precision", "ndcg", "psp"],
        inverse_propensity=weights,
    )
    assert result == expected
    assert list(result) == NAMES


def test_psp_uses_training_frequencies_whatever_is_scored(fitted):
    model, X, y = fitted
    scorer = topk_scorer(ks=[3], metrics=["psp"])
    n_l = np.asarray(model.y_.astype(bool).sum(axis=0)).ravel()
    weights = 1 + (np.log(30) - 1) * 2.5**0.55 * (n_l + 1.5) ** -0.55
    for rows in (slice(None), slice(0, 5), slice(3, 4)):
        expected = psp_at_k(y[rows], model.decision_function(X[rows]), weights, 3)
        assert scorer(model, X[rows], y[rows])["psp@3"] == pytest.approx(expected, abs=1e-12)
    # Weights of the scored rows would give another value.
    wrong = inverse_propensity(np.asarray(y.sum(axis=0)).ravel(), y.shape[0])
    other = psp_at_k(y, model.decision_function(X), wrong, 3)
    assert scorer(model, X, y)["psp@3"] != pytest.approx(other, abs=1e-6)


def test_psp_in_a_search_uses_the_rows_of_the_fold():
    X, y = tiny_data()
    folds = KFold(3)
    result = search(TinyXC(), {}, X, y, topk_scorer(metrics=["psp"]), refit=False).cv_results_
    for i, (train, test) in enumerate(folds.split(X)):
        model = TinyXC().fit(X[train], y[train])
        weights = inverse_propensity(np.asarray(y[train].sum(axis=0)).ravel(), len(train))
        expected = psp_at_k(y[test], model.decision_function(X[test]), weights, 5)
        assert result[f"split{i}_test_psp@5"][0] == pytest.approx(expected, abs=1e-12)


def test_bound_weights_and_constants(fitted):
    model, X, y = fitted
    weights = np.linspace(1, 5, 12)
    bound = topk_scorer(ks=[3], metrics=["psp"], propensity=weights)(model, X, y)["psp@3"]
    assert bound == psp_at_k(y, model.decision_function(X), weights, 3)
    bound = topk_scorer(ks=[3], metrics=["psp"], propensity=weights.tolist())(model, X, y)
    assert bound["psp@3"] == psp_at_k(y, model.decision_function(X), weights, 3)
    amazon = inverse_propensity(model.label_frequency_, 30, preset="amazon")
    value = get_scorer("psp@3", a=0.6, b=2.6)(model, X, y)
    assert value == psp_at_k(y, model.decision_function(X), amazon, 3)


def test_scorers_of_one_metric_return_floats(fitted):
    model, X, y = fitted
    for name, value in topk_scorer()(model, X, y).items():
        single = get_scorer(name)(model, X, y)
        assert type(single) is float
        assert single == value


def test_empty_rows_can_be_dropped(fitted):
    model, X, y = fitted
    truth = y.toarray()
    truth[:5] = 0
    kept = get_scorer("precision@1")(model, X, truth)
    dropped = get_scorer("precision@1", drop_empty_rows=True)(model, X, truth)
    both = topk_scorer(ks=[1], metrics=["precision"], drop_empty_rows=True)(model, X, truth)
    full = (truth.sum(axis=1) > 0).sum()
    assert dropped == both["precision@1"] == pytest.approx(kept * len(truth) / full)


def test_search_over_a_dict_scorer():
    X, y = tiny_data()
    TinyXC.predictions = TinyXC.fits = 0
    grid = search(TinyXC(), {"n_neighbors": [1, 3, 5]}, X, y)
    assert TinyXC.predictions == 9  # candidates x folds, although nine metrics are computed
    assert TinyXC.fits == 10
    best = np.argmax(grid.cv_results_["mean_test_precision@1"])
    assert grid.best_index_ == best
    assert set(NAMES) <= {key[len("mean_test_") :] for key in grid.cv_results_}
    # The search itself is then scored by the same metric, and unwrapped for its propensities.
    assert grid.score(X, y) == topk_scorer()(grid, X, y)["precision@1"]
    assert topk_scorer()(grid, X, y) == topk_scorer()(grid.best_estimator_, X, y)


def test_other_ways_of_scoring_a_search():
    X, y = tiny_data()
    both = search(TinyXC(), {}, X, y).cv_results_
    one = search(TinyXC(), {}, X, y, get_scorer("ndcg@3"), refit=True).cv_results_
    several = {name: get_scorer(name) for name in ("ndcg@3", "psp@1")}
    dictionary = search(TinyXC(), {}, X, y, several, refit="psp@1").cv_results_
    assert one["mean_test_score"] == both["mean_test_ndcg@3"]
    assert dictionary["mean_test_ndcg@3"] == both["mean_test_ndcg@3"]
    assert dictionary["mean_test_psp@1"] == both["mean_test_psp@1"]
    random = RandomizedSearchCV(
        TinyXC(), {"n_neighbors": [3]}, n_iter=1, cv=3, scoring=topk_scorer(), refit=False
    ).fit(X, y)
    assert random.cv_results_["mean_test_psp@5"] == both["mean_test_psp@5"]


def test_two_processes_give_the_same_search():
    X, y = tiny_data()
    grid = {"n_neighbors": [1, 3]}
    one = GridSearchCV(TinyXC(), grid, cv=2, scoring=topk_scorer(), refit=False).fit(X, y)
    two = GridSearchCV(TinyXC(), grid, cv=2, scoring=topk_scorer(), refit=False, n_jobs=2).fit(X, y)
    for name in NAMES:
        key = f"mean_test_{name}"
        np.testing.assert_array_equal(one.cv_results_[key], two.cv_results_[key])


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_routing_on_and_off(routing, in_pipeline):
    X, y = tiny_data(n=40, n_labels=12)
    graph = sp.csr_array(np.eye(12))
    estimator = make_pipeline(MaxAbsScaler(), TinyXC()) if in_pipeline else TinyXC()
    name = "tinyxc__graph" if in_pipeline and not routing else "graph"
    with sklearn.config_context(enable_metadata_routing=routing):
        grid = search(estimator, {}, X, y, **{name: graph})
    assert grid.cv_results_["mean_test_precision@1"][0] > 0
    model = grid.best_estimator_[-1] if in_pipeline else grid.best_estimator_
    assert model.seen_["graph"] is not None


def test_text_pipeline_inside_a_search_and_a_search_inside_a_pipeline():
    texts = [f"word{i % 4} word{i % 3} filler" for i in range(30)]
    y = sp.csr_array(np.array([[i % 4 == j for j in range(4)] for i in range(30)]).astype(int))
    pipeline = make_pipeline(TfidfVectorizer(), TinyXC())
    grid = search(pipeline, {"tinyxc__n_neighbors": [1, 3]}, texts, y)
    assert grid.best_score_ > 0.5
    inner = make_pipeline(TfidfVectorizer(), search(TinyXC(), {}, *tiny_data()))
    inner.fit(texts, y)
    assert set(topk_scorer()(inner, texts, y)) == set(NAMES)


@pytest.mark.parametrize("n_labels", [1, 2, 3])
def test_very_few_labels_in_a_search(n_labels):
    X, y = tiny_data()
    y = y[:, :n_labels]
    folds = KFold(3)  # an int would mean stratified folds to scikit-learn when there is one label
    for scoring in (topk_scorer(), get_scorer("precision@1")):
        refit = "precision@1" if isinstance(scoring(TinyXC().fit(X, y), X, y), dict) else True
        grid = GridSearchCV(
            TinyXC(), {}, cv=folds, scoring=scoring, refit=refit, error_score="raise"
        ).fit(X, y)
        assert 0 <= grid.best_score_ <= 1


def test_dense_targets_and_scores_of_scikit_learn_estimators():
    X, y = make_multilabel_classification(60, n_classes=6, random_state=0)
    scorer = topk_scorer(metrics=["precision", "ndcg"])
    ridge = RidgeClassifier().fit(X, y)
    expected = evaluate(y, ridge.decision_function(X), metrics=["precision", "ndcg"])
    assert scorer(ridge, X, y) == expected
    assert scorer(ridge, X, sp.csc_array(y)) == expected
    bayes = OneVsRestClassifier(BernoulliNB()).fit(X, y)
    assert not hasattr(bayes, "decision_function")
    assert scorer(bayes, X, y) == evaluate(y, bayes.predict_proba(X), metrics=["precision", "ndcg"])


def test_pickle_and_clone_keep_the_scorer():
    X, y = tiny_data()
    model = TinyXC().fit(X, y)
    for scorer in (topk_scorer(), get_scorer("psp@3"), topk_scorer(propensity=np.ones(12))):
        again = pickle.loads(pickle.dumps(scorer))
        assert again(model, X, y) == scorer(model, X, y)
    grid = clone(GridSearchCV(TinyXC(), {}, scoring=topk_scorer(), refit=False, cv=2))
    assert "mean_test_ndcg@1" in grid.fit(X, y).cv_results_


def test_refusals():
    X, y = tiny_data()
    with pytest.raises(ValueError, match="A metric must be one of"):
        topk_scorer(metrics=["accuracy"])
    with pytest.raises(ValueError, match=r"must be higher for better estimators. Got 'ece'"):
        topk_scorer(metrics=["ece"])
    with pytest.raises(ValueError, match="ece"):
        get_scorer("ece@5")
    with pytest.raises(ValueError, match="write 'precision@5'"):
        get_scorer("precision")
    with pytest.raises(ValueError, match="`propensity` must be 'from_estimator'"):
        topk_scorer(propensity="amazon")
    ridge = RidgeClassifier().fit(X, y)
    with pytest.raises(ValueError, match="RidgeClassifier without; pass `propensity="):
        topk_scorer()(ridge, X, y)
    model = TinyXC().fit(X[:2], y[:2])
    with pytest.raises(ValueError, match="`n_samples` must be at least 3"):
        topk_scorer()(model, X, y)
    assert get_scorer("precision@1")(model, X, y) >= 0


class ManyLabels(BaseEstimator):
    """A fitted estimator of a million labels that predicts at once."""

    def __init__(self, scores=None):
        self.scores = scores
        self.n_samples_fit_ = 1000
        self.label_frequency_ = np.ones(scores.shape[1], dtype=np.int64)

    def decision_function(self, X):
        return self.scores


def test_a_million_labels_take_a_tenth_of_a_second():
    rng = np.random.default_rng(0)
    n, k, n_labels = 1000, 100, 1_000_000
    ids = np.sort(rng.integers(0, n_labels // k, size=(n, k)) + np.arange(k) * (n_labels // k))
    indptr = np.arange(0, n * k + 1, k)
    scores = sp.csr_array((rng.random(n * k), ids.ravel(), indptr), shape=(n, n_labels))
    y = sp.csr_array((np.ones(n), ids[:, 0], np.arange(n + 1)), shape=(n, n_labels))
    model, X, scorer = ManyLabels(scores), np.zeros((n, 1)), topk_scorer()
    scorer(model, X, y)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        scorer(model, X, y)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.1


def test_inside_a_scoring_monitor():
    callback = pytest.importorskip("sklearn.callback")

    class Monitored(callback.CallbackSupportMixin, TinyXC):
        @callback.with_callbacks
        def fit(self, X, y, *, graph=None, sample_graph=None, sample_weight=None):
            context = self._init_callback_context(max_subtasks=2)
            context.call_on_fit_task_begin(estimator=self, X=X, y=y)
            for _ in range(2):
                step = context.subcontext(task_name="epoch")
                step.call_on_fit_task_begin(estimator=self, X=X, y=y)
                super().fit(X, y)
                step.call_on_fit_task_end(
                    estimator=self,
                    X=X,
                    y=y,
                    metadata={"loss": 0.5},
                    reconstruction_attributes=lambda: {
                        key: value for key, value in vars(self).items() if key.endswith("_")
                    },
                )
            context.call_on_fit_task_end(estimator=self, X=X, y=y)
            return self

    X, y = tiny_data()
    monitor = callback.ScoringMonitor(scoring=topk_scorer())
    model = Monitored().set_callbacks(monitor).fit(X, y)
    rows = (
        monitor.get_logs()[0].data
        if isinstance(monitor.get_logs(), list)
        else (monitor.get_logs().data)
    )
    expected = topk_scorer()(model, X, y)
    scored = [row for row in rows if "precision@1" in row]
    assert len(scored) == 2
    assert scored[-1]["psp@3"] == expected["psp@3"]
