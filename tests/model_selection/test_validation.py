"""Cross-validation of CSR targets against hand-written loops and scikit-learn's search."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, ShuffleSplit
from sklearn.pipeline import make_pipeline

from skxc.metrics import get_scorer, topk_scorer
from skxc.model_selection import cross_val_predict, cross_validate, learning_curve
from tests.tiny_estimator import TinyXC, tiny_data

SHUFFLED = KFold(4, shuffle=True, random_state=0)
FORMATS = [
    sp.csr_array,
    sp.csr_matrix,
    sp.csc_array,
    sp.coo_array,
    sp.coo_matrix,
    lambda m: m.toarray(),
    lambda m: m.toarray().tolist(),
]


class Recording(TinyXC):
    """Keeps what every fold was fitted with."""

    folds: list = []

    def fit(self, X, y, **params):
        super().fit(X, y, **params)
        self.folds.append((self.X_, self.seen_))
        return self


@pytest.fixture
def folds():
    Recording.folds.clear()
    return Recording.folds


def by_hand(X, y, cv, scorer):
    rows = []
    for train, test in cv.split(X):
        model = TinyXC().fit(X[train], y[train])
        rows.append(scorer(model, X[test], y[test]))
    return rows


@pytest.mark.parametrize("cv", [KFold(5), SHUFFLED, ShuffleSplit(3, test_size=0.3, random_state=1)])
def test_equals_a_loop_and_a_search_without_a_grid(cv):
    X, y = tiny_data()
    result = cross_validate(TinyXC(), X, y, cv=cv)
    rows = by_hand(X, y, cv, topk_scorer())
    search = GridSearchCV(TinyXC(), {}, cv=cv, scoring=topk_scorer(), refit=False)
    search = search.fit(X, y).cv_results_
    assert set(result) == {f"test_{name}" for name in rows[0]} | {"fit_time", "score_time"}
    for name in rows[0]:
        values = result[f"test_{name}"]
        np.testing.assert_array_equal(values, [row[name] for row in rows])
        splits = [search[f"split{i}_test_{name}"][0] for i in range(len(rows))]
        np.testing.assert_array_equal(values, splits)
    assert (result["fit_time"] > 0).all()
    assert (result["score_time"] > 0).all()


def test_five_folds_without_shuffling_by_default():
    X, y = tiny_data()
    expected = cross_validate(TinyXC(), X, y, cv=KFold(5))["test_ndcg@3"]
    np.testing.assert_array_equal(cross_validate(TinyXC(), X, y)["test_ndcg@3"], expected)
    np.testing.assert_array_equal(cross_validate(TinyXC(), X, y, cv=5)["test_ndcg@3"], expected)
    pairs = list(KFold(5).split(X))
    again = cross_validate(TinyXC(), X, y, cv=iter(pairs))["test_ndcg@3"]
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("convert", FORMATS)
def test_formats_of_x_and_y(convert):
    X, y = tiny_data()
    expected = cross_validate(TinyXC(), X, y, cv=3)["test_precision@3"]
    for arguments in ((convert(X), y), (X, convert(y))):
        result = cross_validate(TinyXC(), *arguments, cv=3)["test_precision@3"]
        np.testing.assert_allclose(result, expected)


def test_forms_of_scoring():
    X, y = tiny_data()
    full = cross_validate(TinyXC(), X, y, cv=3)

    def names(result):
        return sorted(name for name in result if name.startswith("test_"))

    listed = cross_validate(TinyXC(), X, y, cv=3, scoring=["psp@1", "ndcg@5"])
    assert names(listed) == ["test_ndcg@5", "test_psp@1"]
    np.testing.assert_array_equal(listed["test_psp@1"], full["test_psp@1"])
    named = cross_validate(TinyXC(), X, y, cv=3, scoring="precision@1")
    assert names(named) == ["test_score"]
    np.testing.assert_array_equal(named["test_score"], full["test_precision@1"])
    single = cross_validate(TinyXC(), X, y, cv=3, scoring=get_scorer("precision@1"))
    assert names(single) == ["test_score"]
    np.testing.assert_array_equal(single["test_score"], full["test_precision@1"])
    dictionary = {"first": get_scorer("precision@1"), "two": lambda model, X, y: 2}
    both = cross_validate(TinyXC(), X, y, cv=3, scoring=dictionary)
    assert names(both) == ["test_first", "test_two"]
    np.testing.assert_array_equal(both["test_first"], full["test_precision@1"])
    np.testing.assert_array_equal(both["test_two"], [2, 2, 2])
    with pytest.raises(ValueError, match="A metric must be one of"):
        cross_validate(TinyXC(), X, y, scoring=["accuracy"])
    with pytest.raises(ValueError, match="write 'precision@5'"):
        cross_validate(TinyXC(), X, y, scoring=["precision"])


def test_names_predict_once_per_fold():
    X, y = tiny_data()
    TinyXC.predictions = 0
    cross_validate(TinyXC(), X, y, cv=3, scoring=["precision@1", "ndcg@5", "recall@10"])
    assert TinyXC.predictions == 3


@pytest.mark.parametrize("routing", [False, True])
def test_label_graph_stays_whole_when_labels_equal_samples(folds, routing):
    X, y = tiny_data(n=12, n_labels=12)
    graph = sp.csr_array(np.arange(144.0).reshape(12, 12))
    with sklearn.config_context(enable_metadata_routing=routing):
        cross_validate(Recording(), X, y, cv=3, params={"graph": graph})
        cross_val_predict(Recording(), X, y, cv=3, params={"graph": graph})
        assert len(folds) == 6
        assert all(seen["graph"] is graph for _, seen in folds)
        # scikit-learn's own tools cut it.
        with pytest.raises(ValueError, match=r"graph of shape \(8, 12\)"):
            GridSearchCV(TinyXC(), {}, cv=3, error_score="raise").fit(X, y, graph=graph)


@pytest.mark.parametrize("convert", [*FORMATS[:5], np.asarray])
@pytest.mark.parametrize("width", [3, 12])
def test_sample_graph_and_weights_follow_the_folds(folds, convert, width):
    X, y = tiny_data(n=12)
    sample_graph = np.arange(12.0 * width).reshape(12, width)
    weight = np.arange(12.0)
    params = {"sample_graph": convert(sp.csr_array(sample_graph)), "sample_weight": weight.tolist()}
    if convert is np.asarray:
        params["sample_graph"] = sample_graph
    cv = KFold(3, shuffle=True, random_state=0)
    cross_validate(Recording(), X, y, cv=cv, params=params)
    assert len(folds) == 3
    for (train, _), (X_fold, seen) in zip(cv.split(X), folds, strict=True):
        np.testing.assert_array_equal(X_fold.toarray(), X[train].toarray())
        got = seen["sample_graph"]
        got = got.toarray() if sp.issparse(got) else np.asarray(got)
        np.testing.assert_array_equal(got, sample_graph[train])
        np.testing.assert_array_equal(seen["weight"], weight[train])


def test_groups_of_fit_follow_the_folds():
    class Grouped(RidgeClassifier):
        seen: list = []

        def fit(self, X, y, groups=None):
            self.seen.append(groups.tolist())
            return super().fit(X, y)

    X, y = tiny_data(n=12)
    groups, cv = np.arange(12) // 2, GroupKFold(3)
    params = {"groups": groups}
    cross_val_predict(Grouped(), X, y.toarray(), groups=groups, cv=cv, params=params)
    assert Grouped.seen == [groups[train].tolist() for train, _ in cv.split(X, groups=groups)]


def test_params_of_pipeline_steps_and_none(folds):
    texts = [f"word{i % 4} word{i % 3}" for i in range(12)]
    y = sp.csr_array(np.eye(12, dtype=int))
    graph, weight = sp.csr_array(np.eye(12)), np.arange(1.0, 13.0)
    pipeline = make_pipeline(TfidfVectorizer(), Recording())
    params = {
        "recording__graph": graph,
        "recording__sample_weight": weight,
        "recording__sample_graph": None,
    }
    cross_validate(pipeline, texts, y, cv=3, params=params, scoring="precision@1")
    assert [seen["weight"].tolist() for _, seen in folds] == [
        weight[train].tolist() for train, _ in KFold(3).split(texts)
    ]
    assert all(seen["graph"] is graph and seen["sample_graph"] is None for _, seen in folds)


def test_out_of_fold_predictions_are_in_input_order():
    X, y = tiny_data()
    expected = np.zeros(y.shape)
    for train, test in SHUFFLED.split(X):
        model = TinyXC().fit(X[train], y[train])
        expected[test] = model.decision_function(X[test]).toarray()
    result = cross_val_predict(TinyXC(), X, y, cv=SHUFFLED)
    assert isinstance(result, sp.csr_array)
    assert result.shape == y.shape
    np.testing.assert_array_equal(result.toarray(), expected)
    dense = cross_val_predict(TinyXC(), X, y, cv=SHUFFLED, method="predict_dense")
    np.testing.assert_array_equal(dense, expected)
    proba = cross_val_predict(TinyXC(), X, y, cv=SHUFFLED, method="predict_proba")
    np.testing.assert_array_equal(proba.indices, result.indices)
    np.testing.assert_allclose(proba.data, 1 / (1 + np.exp(-result.data)))


def test_rows_must_be_tested_exactly_once():
    X, y = tiny_data()
    for cv in (ShuffleSplit(2, random_state=0), [([0, 1], [2, 3])], [([0], range(1, 40))] * 2):
        with pytest.raises(ValueError, match="`cv` must test every row exactly once"):
            cross_val_predict(TinyXC(), X, y, cv=cv)


@pytest.mark.parametrize("n_labels", [1, 2, 3])
def test_very_few_labels(n_labels):
    X, y = tiny_data()
    y = y[:, :n_labels]
    result = cross_validate(TinyXC(), X, y, cv=3)
    assert result["test_precision@1"].shape == (3,)
    for method in ("decision_function", "predict_proba", "predict"):
        assert cross_val_predict(TinyXC(), X, y, cv=3, method=method).shape == y.shape


def test_one_dimensional_targets_get_stratified_folds():
    X, _ = tiny_data()
    classes = np.repeat([0, 1], 20)
    result = cross_val_predict(LogisticRegression(), X, classes, cv=4, method="predict")
    assert result.shape == (40,)
    expected = sklearn.model_selection.cross_val_predict(LogisticRegression(), X, classes, cv=4)
    np.testing.assert_array_equal(result, expected)
    score = cross_validate(
        RidgeClassifier(), X, classes.tolist(), cv=4, scoring=lambda m, X, y: m.score(X, y)
    )
    assert score["test_score"].shape == (4,)


def test_groups_reach_the_splitter(folds):
    X, y = tiny_data(n=12)
    groups = np.repeat([0, 1, 2], 4)
    cross_validate(Recording(), X, y, cv=GroupKFold(3), groups=groups)
    kept = [sorted(fold.toarray()[:, 0]) for fold, _ in folds]
    for group in range(3):
        assert sorted(X.toarray()[groups != group, 0]) in kept
    cross_val_predict(Recording(), X, y, cv=GroupKFold(3), groups=groups)


def test_two_processes_and_metadata_routing():
    X, y = tiny_data()
    graph = sp.csr_array(np.eye(12))
    with sklearn.config_context(enable_metadata_routing=True):
        one = cross_validate(TinyXC(), X, y, cv=2, params={"graph": graph})
        two = cross_validate(TinyXC(), X, y, cv=2, params={"graph": graph}, n_jobs=2)
    np.testing.assert_array_equal(one["test_psp@3"], two["test_psp@3"])
    several = {"a": get_scorer("psp@3")}
    again = cross_validate(TinyXC(), X, y, cv=2, scoring=several, n_jobs=2)
    np.testing.assert_array_equal(again["test_a"], one["test_psp@3"])
    single = cross_val_predict(TinyXC(), X, y, cv=2)
    both = cross_val_predict(TinyXC(), X, y, cv=2, n_jobs=2)
    np.testing.assert_array_equal(single.toarray(), both.toarray())


def test_the_estimator_is_cloned_and_errors_are_raised():
    X, y = tiny_data()
    estimator = TinyXC()
    cross_validate(estimator, X, y, cv=2)
    assert not hasattr(estimator, "X_")

    def broken(model, X, y):
        raise RuntimeError("no score")

    with pytest.raises(RuntimeError, match="no score"):
        cross_validate(estimator, X, y, scoring=broken)


def test_wrong_numbers_of_rows():
    X, y = tiny_data()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        cross_validate(TinyXC(), X, y[:30])
    with pytest.raises(ValueError, match=r"`sample_graph` must have one row.*Got 12 rows for 40"):
        cross_validate(TinyXC(), X, y, params={"sample_graph": np.eye(12)})
    parts = {"one": np.eye(40), "two": np.eye(40)}
    with pytest.raises(ValueError, match="side by side"):
        cross_validate(TinyXC(), X, y, params={"sample_graph": parts})


def test_learning_curve_equals_a_loop():
    X, y = tiny_data()
    scorer, folds = get_scorer("ndcg@3"), list(SHUFFLED.split(X))
    most = min(len(train) for train, _ in folds)
    sizes, train_scores, test_scores = learning_curve(
        TinyXC(), X, y, cv=SHUFFLED, train_sizes=[10, 0.5, 1.0], scoring="ndcg@3", random_state=3
    )
    assert sizes.tolist() == [10, most // 2, most]
    rng = np.random.default_rng(3)
    orders = [(rng.permutation(train), test) for train, test in folds]
    for i, size in enumerate(sizes):
        for j, (train, test) in enumerate(orders):
            part = train[:size]
            model = TinyXC().fit(X[part], y[part])
            assert train_scores[i, j] == scorer(model, X[part], y[part])
            assert test_scores[i, j] == scorer(model, X[test], y[test])
    whole = cross_validate(TinyXC(), X, y, cv=SHUFFLED, scoring="ndcg@3")["test_score"]
    np.testing.assert_allclose(test_scores[-1], whole, atol=1e-12)


@pytest.mark.parametrize("size", [0, 0.0, 1.5, 10**6, -3])
def test_sizes_of_a_learning_curve(size):
    X, y = tiny_data()
    with pytest.raises(ValueError, match="`train_sizes` must hold shares in"):
        learning_curve(TinyXC(), X, y, train_sizes=[size])
