import copy
import pickle
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV

from skxc import AnchorGraph, LabelGraph, LabelTexts, _hold_out, _outputs, _state
from skxc._params import MadeBy, Part, PositiveInt
from skxc.base import BaseXC, Model, TrainingSet, of_model, params
from skxc.exceptions import DenseOutputError, FormatVersionError
from skxc.utils._callbacks import CallbackSupportMixin, NullCallbackSupportMixin
from skxc.utils._sparse import rank_rows, row_ids
from tests.toys import CentroidXC, SampleGraphXC, assert_same_model, small_data, small_texts


@dataclass(frozen=True, eq=False)
class Table(Model):
    """Answers with given scores, whatever is asked."""

    scores: sp.csr_array

    def search(self, queries, k):
        return rank_rows(self.scores[: queries.shape[0]], k)


@params
class Scores(BaseXC):
    """Answers with given scores, whatever X is; absent entries are not retrieved."""

    table: Any = None

    def _train(self, fit):
        return Table(self.table)


@pytest.fixture
def table():
    """Two rows of scores over four labels: with a stored zero, negative scores, a tie, absences."""
    values = np.array([0.0, -1.0, -1.0, 0.5], dtype=np.float32)
    return sp.csr_array((values, [1, 0, 3, 2], [0, 3, 4]), shape=(2, 4))


def fitted_scores(table, layout="sparse", **params):
    y = np.eye(2, 4, dtype=np.int64)
    y = sp.csr_array(y) if layout == "sparse" else y
    return Scores(table=table, **params).fit(np.eye(2), y)


# ---- outputs


def test_only_stored_scores_are_ranked(table):
    indices, scores = fitted_scores(table).predict_topk(np.eye(2), k=3)
    assert indices.tolist() == [[1, 0, 3], [2, -1, -1]]
    assert scores.tolist() == [[0, -1, -1], [0.5, -np.inf, -np.inf]]
    assert (indices.dtype, scores.dtype) == (np.int32, np.float32)


def test_stored_zeros_stay_stored(table):
    scores = fitted_scores(table).decision_function(np.eye(2))
    assert scores.nnz == 4
    np.testing.assert_array_equal(scores.indices, [0, 1, 3, 2])


def test_more_than_all_labels(table):
    indices, scores = fitted_scores(table).predict_topk(np.eye(2), k=6)
    assert indices.shape == scores.shape == (2, 4)
    assert indices[0].tolist() == [1, 0, 3, -1]
    assert fitted_scores(table).predict_topk(np.eye(2), k=2**62)[0].shape == (2, 4)


@pytest.mark.parametrize("k", [0, -1, 1.5, "3"])
def test_k_is_checked(table, k):
    with pytest.raises(ValueError, match="`k` must be an integer of at least 1"):
        fitted_scores(table).predict_topk(np.eye(2), k=k)


def test_dense_answers_fill_what_was_not_retrieved(table):
    model = fitted_scores(table, "dense", top_k=1)
    scores = model.decision_function(np.eye(2))
    np.testing.assert_array_equal(scores[0, [1, 0, 3]], [0, -1, -1])
    assert np.isfinite(scores).all()
    assert scores[0, 2] < -1
    assert (scores[1, [0, 1, 3]] < 0.5).all()
    probabilities = model.predict_proba(np.eye(2))
    assert ((probabilities > 0) & (probabilities < 1)).all()
    for row in range(2):
        order = np.argsort(scores[row], kind="stable")
        np.testing.assert_array_equal(order, np.argsort(probabilities[row], kind="stable"))
    assert probabilities[0, 2] <= _outputs.MISSING_PROBABILITY


def test_missing_labels_are_less_probable_than_unlikely_ones(table, monkeypatch):
    monkeypatch.setattr(_outputs, "MISSING_PROBABILITY", 1)
    probabilities = fitted_scores(table, "dense").predict_proba(np.eye(2))
    assert probabilities[0, 2] < probabilities[0, [0, 1, 3]].min()


def test_a_dense_row_without_any_score():
    model = fitted_scores(sp.csr_array((2, 4), dtype=np.float32), "dense")
    assert (model.decision_function(np.eye(2)) == -1).all()
    assert (model.predict_proba(np.eye(2)) == _outputs.MISSING_PROBABILITY).all()
    assert (model.predict(np.eye(2)) == 0).all()


def test_threshold_cuts_probabilities(table):
    probabilities = fitted_scores(table).predict_proba(np.eye(2))
    for threshold in (0.0, float(np.sort(probabilities.data)[2]), 1.0):
        predicted = fitted_scores(table, threshold=threshold).predict(np.eye(2))
        assert predicted.nnz == (probabilities.data >= threshold).sum()
        assert predicted.dtype == np.int64


def test_too_large_dense_answers_are_refused(table, monkeypatch):
    monkeypatch.setattr(_outputs, "MAX_DENSE_CELLS", 7)
    model = fitted_scores(table, "dense")
    for method in (model.decision_function, model.predict_proba, model.predict):
        with pytest.raises(
            DenseOutputError, match=r"7 cells.*2 rows x 4 labels make 8: fit with a "
        ):
            method(np.eye(2))
    assert model.decision_function(np.eye(1, 2)).shape == (1, 4)
    assert model.predict_topk(np.eye(2), 2)[0].shape == (2, 2)
    assert fitted_scores(table).decision_function(np.eye(2)).shape == (2, 4)


def test_names_in_the_order_of_the_scores(table):
    model = fitted_scores(table)
    assert model.predict_labels(np.eye(2)) == [[1, 0, 3], [2]]
    model.label_names_ = ["a", "b", "c", "d"]
    assert model.predict_labels(np.eye(2), k=2) == [["b", "a"], ["c"]]


def test_score_is_the_share_of_right_first_labels(table):
    model = fitted_scores(table)
    y = np.array([[1, 0, 0, 0], [0, 0, 1, 0]])
    assert model.score(np.eye(2), y) == 0.5
    assert model.score(np.eye(2), sp.csr_array(y), sample_weight=[3, 1]) == 0.25
    with pytest.raises(ValueError, match="`y` has 3 labels but the model was fitted with 4"):
        model.score(np.eye(2), y[:, :3])
    with pytest.raises(ValueError, match="`y` has 1 rows but `X` has 2"):
        model.score(np.eye(2), y[:1])


# ---- what _fit receives


def recorded(*args, **kwargs):
    return SampleGraphXC().fit(*args, **kwargs).data_


def test_training_set():
    X, y, graph = small_data()
    data = recorded(X.toarray(), y, graph=graph, label_features=X[:12])
    assert isinstance(data, TrainingSet)
    assert (data.n_samples, data.n_labels) == (30, 12)
    assert isinstance(data.X, sp.csr_array)
    assert data.X.dtype == data.y.dtype == np.float32
    assert data.y.has_sorted_indices
    assert isinstance(data.graph, LabelGraph)
    assert data.label_features.shape == (12, 16)
    assert data.source[1] is y
    # Canonical rows are the given rows in another order.
    first = np.lexsort(data.X.toarray().T)
    second = np.lexsort(X.toarray().T)
    np.testing.assert_array_equal(data.X.toarray()[first], X.toarray()[second])
    np.testing.assert_array_equal(data.y.toarray()[first], y.toarray()[second])


def test_take():
    X, y, graph = small_data()
    data = recorded(X, y, graph=graph, sample_graph=X)
    part = data.take(np.array([4, 2]))
    for name in ("X", "y", "sample_graph"):
        expected = getattr(data, name).toarray()[[4, 2]]
        np.testing.assert_array_equal(getattr(part, name).toarray(), expected)
    np.testing.assert_array_equal(part.sample_weight, data.sample_weight[[4, 2]])
    assert part.graph is data.graph


def test_equal_rows_need_an_equal_sample_graph():
    X, y = np.ones((3, 2)), np.ones((3, 1), dtype=int)
    sample_graph = sp.csr_array(np.array([[1, 0], [1, 0], [0, 1]]))
    assert recorded(X, y).sample_weight.tolist() == [3]
    data = recorded(X, y, sample_graph=sample_graph)
    assert sorted(data.sample_weight) == [1, 2]
    assert data.sample_weight[data.sample_graph.toarray()[:, 0] == 1].tolist() == [2]


def test_a_vectoriser_sees_every_different_row_once():
    texts = ["red wine", "red wine", "oak", "nothing"]
    model = CentroidXC(vectorizer=TfidfVectorizer())
    model.fit(texts, np.eye(4)[[0, 0, 1, 2]], sample_weight=[1, 1, 1, 0])
    assert sorted(model.vectorizer_.vocabulary_) == ["oak", "red", "wine"]
    idf = dict(zip(model.vectorizer_.get_feature_names_out(), model.vectorizer_.idf_, strict=True))
    assert idf["red"] == idf["oak"]
    assert not hasattr(model.vectorizer, "vocabulary_")


def test_a_vectoriser_learns_the_words_of_the_labels():
    model = CentroidXC(vectorizer=TfidfVectorizer(), label_features=["red grape", "tree"])
    model.fit(["red", "oak"], np.eye(2))
    assert sorted(model.vectorizer_.vocabulary_) == ["grape", "oak", "red", "tree"]
    assert model.predict_labels(["grape"], 1) == [[0]]


def test_texts_without_vectoriser_reach_the_estimator():
    texts, y, label_texts = small_texts()
    data = recorded(texts, y, label_features=label_texts)
    assert sorted(data.X) == sorted(texts)
    assert data.label_features.tolist() == label_texts


def test_no_features_are_invented_for_texts():
    X, y, _ = small_data()
    texts, y_texts, _ = small_texts()
    model = CentroidXC().fit(X, y)
    assert model.n_features_in_ == 16
    model.fit(texts, y_texts)
    assert not hasattr(model, "n_features_in_")


def test_an_old_vectoriser_is_forgotten():
    texts, y, _ = small_texts()
    model = CentroidXC(vectorizer=TfidfVectorizer()).fit(texts, y)
    model.set_params(vectorizer=None).fit(texts, y)
    assert_same_model(model, CentroidXC().fit(texts, y), texts)


def test_counts_are_weighted():
    y = sp.csr_array([[1, 0, 1], [1, 0, 0]])
    model = CentroidXC().fit(np.eye(2), y, sample_weight=[2, 3])
    assert model.label_frequency_.tolist() == [5, 0, 2]
    assert model.label_frequency_.dtype == np.int64
    assert (model.n_samples_fit_, type(model.n_samples_fit_)) == (5, int)
    model.fit(np.eye(2), y, sample_weight=[0.5, 1])
    assert model.label_frequency_.tolist() == [1.5, 0, 0.5]
    assert model.n_samples_fit_ == 1.5


def test_label_names():
    X, y, _ = small_data(n_labels=3)
    names = ["a", "b", "c"]
    assert CentroidXC().fit(X, y).label_names_ is None
    assert CentroidXC().fit(X, pd.DataFrame(y.toarray(), columns=names)).label_names_ == names
    texts = LabelTexts(X[:3], names=names)
    assert CentroidXC(label_features=texts).fit(X, y).label_names_ == names


def test_a_class_of_weight_zero_is_no_class():
    model = CentroidXC().fit(np.eye(3), ["a", "b", "c"], sample_weight=[1, 0, 1])
    assert model.classes_.tolist() == ["a", "c"]


# ---- calibration


@pytest.mark.parametrize(
    ("n", "held"), [(1, 0), (9, 0), (10, 2), (1999, 400), (2000, 100), (10**5, 1000)]
)
def test_number_of_held_out_rows(n, held):
    assert _hold_out.n_held_out(n) == held


@pytest.mark.parametrize(
    ("n", "held"), [(9, 0), (1999, 400), (2000, 400), (9000, 450), (10**5, 1000)]
)
def test_number_of_held_out_rows_that_are_given_back(n, held):
    assert _hold_out.n_held_out(n, given_back=True) == held


class Recorder(CentroidXC):
    """Notes what it trains on, and what calibrates."""

    def __init__(self, **params):
        super().__init__(**params)
        self.fits, self.calibrated = [], []

    def _train(self, fit):
        self.fits.append(fit)
        return super()._train(fit)

    def _retrieve(self, model, X, *arguments):
        self.calibrated.append(X.shape[0])
        return super()._retrieve(model, X, *arguments)


def trainings(model, X, y, **arguments):
    """Fit; return the numbers of rows of each training, held-out ones, and which are trials."""
    model.fits.clear(), model.calibrated.clear()
    model.fit(X, y, **arguments)
    return [
        (fit.data.n_samples, fit.held_out and fit.held_out.n_samples, fit.is_trial)
        for fit in model.fits
    ], model.calibrated


def test_small_data_give_held_out_rows_back(monkeypatch):
    X, y, _ = small_data()
    model = Recorder()
    assert trainings(model, X, y) == ([(24, 6, True), (30, None, False)], [6])
    assert_same_model(model, CentroidXC().fit(X, y), X)
    assert trainings(model, X[:9], y[:9]) == ([(9, None, False)], [9])
    monkeypatch.setattr("skxc.base.SMALL_SAMPLE", 30)
    monkeypatch.setattr(_hold_out, "SMALL_SAMPLE", 30)
    assert trainings(model, X, y) == ([(28, 2, False)], [2])
    (fit,) = model.fits
    assert not {*fit.held_out.X.data} & {*fit.data.X.data}


@dataclass(frozen=True, eq=False)
class ChosenTable(Table):
    weight: float = 0.0

    _chosen = ("weight",)


@params
class Chooser(Scores):
    """Chooses a weight where there are rows to choose by."""

    def _train(self, fit):
        judges = fit.judges
        return ChosenTable(self.table, 0.0 if judges is None else judges.n_samples)


def test_a_training_on_all_rows_takes_what_the_first_one_chose(table):
    X, y, _ = small_data(n=2500, n_labels=4)
    rows = sp.csr_array(np.tile(table.toarray(), (1250, 1)))
    assert Chooser(table=rows, calibration="refit").fit(X, y).model_.weight == 400
    assert Chooser(table=rows).fit(X, y).model_.weight == 125
    # Few rows choose nothing if they are given back.
    assert Chooser(table=rows).fit(X[:60], y[:60]).model_.weight == 0
    assert Chooser(table=rows, calibration="held_out").fit(X[:60], y[:60]).model_.weight == 12


def test_the_user_says_what_calibrates():
    X, y, _ = small_data()
    assert trainings(Recorder(calibration="held_out"), X, y) == ([(24, 6, False)], [6])
    refit = ([(24, 6, True), (30, None, False)], [6])
    assert trainings(Recorder(calibration="refit"), X, y) == refit
    model = Recorder(calibration=None)
    assert trainings(model, X, y) == ([(30, None, False)], [])
    assert not hasattr(model, "predict_proba")
    with pytest.raises(ValueError, match=r"there are no probabilities\. Use predict_topk"):
        model.predict(X)
    assert model.predict_topk(X, 2)[0].shape == (30, 2)
    classes = CentroidXC(calibration=None).fit(X, np.arange(30) % 2)
    assert set(classes.predict(X)) == {0, 1}


def test_groups_are_held_out_whole():
    X, y, _ = small_data(n=300)
    groups = np.random.default_rng(0).integers(0, 60, size=300)
    model = Recorder(calibration="held_out").fit(X, y, groups=groups)
    (fit,) = model.fits
    assert not {*fit.data.groups} & {*fit.held_out.groups}
    assert 40 < fit.held_out.n_samples <= 60
    # The group numbers belong to their rows.
    rows = {tuple(row): group for row, group in zip(X.toarray(), groups, strict=True)}
    for data in (fit.data, fit.held_out):
        found = zip(data.X.toarray(), data.groups, strict=True)
        assert all(rows[tuple(row)] == group for row, group in found)
    one = Recorder().fit(X, y, groups=np.zeros(300))
    assert [fit.held_out for fit in one.fits] == [None]
    with pytest.raises(ValueError, match="`groups` has 3 rows but `X` has 300"):
        CentroidXC().fit(X, y, groups=[1, 2, 3])


def test_large_groups_are_held_out_no_more_often_than_others():
    sizes = np.array([200] * 4 + [1] * 1600)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    held = _hold_out._some_groups(groups, 240)
    assert held.sum() == 240
    assert not held[:800].any()  # one of these would be most of the rows
    held = _hold_out._some_groups(np.arange(2400) % 1200, 240)
    np.testing.assert_array_equal(held[:1200], held[1200:])
    assert 400 < np.flatnonzero(held).mean() < 1900  # not the first ones
    assert _hold_out._some_groups(np.repeat([0, 1, 2], [500, 400, 600]), 100).sum() == 400


def test_the_only_label_is_not_held_out():
    for row in range(20):
        y = np.zeros((20, 2), dtype=int)
        y[row, 1] = 1
        data = SampleGraphXC().fit(np.arange(1, 21)[:, None], sp.csr_array(y)).data_
        rest, held_out = _hold_out.hold_out(data)
        assert rest.y.nnz == 1
        assert held_out is None or held_out.n_samples == 4


def test_probabilities_are_calibrated():
    X, y, _ = small_data(n=3000, n_labels=20, seed=1)
    model = CentroidXC(top_k=5).fit(X[:2500], y[:2500])
    probabilities = model.predict_proba(X[2500:])
    hits = np.asarray(y[2500:].toarray())[row_ids(probabilities), probabilities.indices]
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 1)):
        inside = (probabilities.data >= low) & (probabilities.data < high)
        if inside.sum() > 100:
            assert abs(probabilities.data[inside].mean() - hits[inside].mean()) < 0.1
    assert abs(probabilities.data.mean() - hits.mean()) < 0.03


def test_calibration_is_weighted():
    X, y, _ = small_data()
    y = y[np.random.default_rng(0).permutation(30)]
    model = SampleGraphXC(top_k=1).fit(X, y)
    best = model.predict_topk(model.data_.X, 1)[0]
    is_right = np.take_along_axis(model.data_.y.toarray(), best, axis=1)[:, 0] == 1
    assert 5 < is_right.sum() < 25
    means = []
    for heavy in (is_right, ~is_right):
        weighted = replace(model.data_, sample_weight=np.where(heavy, 10.0, 0.1))
        model.calibrator_ = _hold_out.calibrate(model, model.model_, weighted, 12)
        means.append(model.predict_proba(X).data.mean())
    assert means[0] > means[1] + 0.3


def test_binary_decisions_are_log_odds():
    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    X[y == 1] += 2
    model = CentroidXC().fit(X, y)
    probability = model.predict_proba(X)[:, 1].astype(np.float64)
    log_odds = np.log(probability / (1 - probability))
    np.testing.assert_allclose(model.decision_function(X), log_odds, rtol=1e-5)
    np.testing.assert_array_equal(model.predict(X), model.decision_function(X) > 0)


def test_tags():
    tags = CentroidXC().__sklearn_tags__()
    assert tags.input_tags.sparse
    assert tags.input_tags.two_d_array
    assert tags.input_tags.string
    assert tags.classifier_tags.multi_label
    assert tags.classifier_tags.multi_class
    assert not tags.target_tags.multi_output
    assert tags.target_tags.required
    assert tags.transformer_tags.preserves_dtype == []
    tags = CentroidXC(vectorizer=TfidfVectorizer()).__sklearn_tags__().input_tags
    assert (tags.string, tags.one_d_array, tags.two_d_array, tags.sparse) == (
        True,
        True,
        False,
        False,
    )
    assert not Scores().__sklearn_tags__().input_tags.string


# ---- errors


def test_texts_need_a_vectoriser():
    from skxc import KNeighborsXC

    for X in (["a", "b"], np.array(["a", "b"]), pd.Series(["a", "b"])):
        with pytest.raises(ValueError, match=r"`X` holds texts.*vectorizer=TfidfVectorizer\(\)"):
            KNeighborsXC().fit(X, np.eye(2))


def test_a_vectoriser_needs_texts():
    model = CentroidXC(vectorizer=TfidfVectorizer())
    with pytest.raises(ValueError, match=r"sequence of texts because `vectorizer` is set.*ndarray"):
        model.fit(np.eye(2), np.eye(2))
    with pytest.raises(ValueError, match="one string was given"):
        model.fit("red wine", np.eye(2))
    model.fit(["red", "oak"], np.eye(2))
    with pytest.raises(
        ValueError, match="`X` must be a sequence of texts, but is a ndarray of shape"
    ):
        model.predict(np.eye(2))
    with pytest.raises(ValueError, match="one string was given"):
        model.predict("red")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"y": np.eye(3)}, ValueError, "`y` has 3 rows but `X` has 2. Pass one row of labels"),
        ({"y": np.zeros((2, 2))}, ValueError, "`y` must hold at least one label in a row of posit"),
        ({"sample_weight": [1, 2, 3]}, ValueError, r"sample_weight.*\(3,\).*\(2,\)"),
        ({"sample_weight": [0, 0]}, ValueError, "(?i)weight.*zero"),
        ({"sample_weight": [1, -1]}, ValueError, "(?i)negative"),
        ({"sample_weight": [1, np.nan]}, ValueError, "NaN"),
        ({"sample_graph": sp.csr_array((3, 3))}, ValueError, "`sample_graph` has 3 rows but `X` h"),
        ({"sample_graph": np.eye(2)}, TypeError, "Stack the anchor sets side by side"),
        ({"sample_graph": [sp.csr_array((2, 2))]}, TypeError, "Stack the anchor sets side by side"),
        (
            {"sample_graph": {"a": sp.csr_array((2, 2))}},
            TypeError,
            "Stack the anchor sets side by ",
        ),
        ({"sample_graph": -sp.eye_array(2)}, ValueError, "non-negative"),
        ({"graph": np.eye(3)}, ValueError, r"\(2, 2\).*\(3, 3\)"),
        ({"graph": "cooccurrence"}, ValueError, r"one of \[\], but 'cooccurrence' was given"),
        ({"graph": AnchorGraph(np.eye(2), texts=["a", "b"])}, ValueError, "Use LabelGraph"),
        ({"label_features": np.eye(3)}, ValueError, "one row per label of `y`, 2, but has 3 rows"),
        ({"label_features": np.ones((2, 5))}, ValueError, "5 columns but `X` has 2"),
        ({"label_features": ["a", "b"]}, ValueError, "must be a matrix because `X` is one"),
        ({"X": ["a", "b"], "label_features": np.eye(2)}, ValueError, "must be texts because `X`"),
    ],
)
def test_fit_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        SampleGraphXC().fit(**{"X": np.eye(2), "y": np.eye(2), **arguments})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"top_k": 0}, "top_k"),
        ({"threshold": 2.0}, "threshold"),
        ({"vectorizer": 3}, "vectorizer"),
        ({"graph": 3}, "graph"),
    ],
)
def test_parameters_are_checked_in_fit(params, message):
    for estimator in (CentroidXC, SampleGraphXC):
        with pytest.raises(ValueError, match=f"The '{message}' parameter of {estimator.__name__}"):
            estimator(**params).fit(np.eye(2), np.eye(2))


def test_a_named_graph_reaches_the_estimator():
    class Named(Scores):
        graph = "cooccurrence"
        _named_graphs = ("cooccurrence",)

        def _train(self, fit):
            seen.append(fit.data.graph)
            return Table(sp.csr_array(np.ones((2, 2))))

    seen = []
    Named().fit(np.eye(2), np.eye(2))
    assert seen == ["cooccurrence"]


def test_predictions_before_fit_are_refused():
    for method in ("decision_function", "predict_proba", "predict", "predict_topk", "transform"):
        with pytest.raises(NotFittedError):
            getattr(CentroidXC(), method)(np.eye(2))
    with pytest.raises(NotFittedError):
        CentroidXC().score(np.eye(2), np.eye(2))
    with pytest.raises(NotFittedError):
        CentroidXC().add_labels(np.eye(2))


# ---- new labels


def test_added_labels_are_retrieved():
    X, y, _ = small_data()
    model = CentroidXC(top_k=20).fit(X, y)
    old_scores = model.predict_topk(X, 20)
    old = dict(zip(*[part[0].tolist() for part in old_scores], strict=True))
    assert model.add_labels(X[[3]]) is model
    assert model.n_labels_ == 13
    assert model.classes_.tolist() == list(range(13))
    assert model.label_frequency_[-1] == 0
    assert model.label_names_ is None
    assert model.predict_topk(X[[3]], 1)[0].tolist() == [[12]]
    indices, scores = model.predict_topk(X, 20)
    for label, score in zip(indices[0].tolist(), scores[0].tolist(), strict=True):
        assert label == 12 or old[label] == score
    assert model.decision_function(X).shape == (30, 13)
    assert clone(model).fit(X, y).n_labels_ == 12


def test_added_labels_have_names_if_the_others_do():
    X, y, _ = small_data(n_labels=3)
    names = ["a", "b", "c"]
    named = CentroidXC(label_features=LabelTexts(X[:3], names=names)).fit(X, y)
    named.add_labels(X[[3]], label_names=["d"])
    named.add_labels(LabelTexts(X[[4]], names=["e"]))
    assert named.label_names_ == ["a", "b", "c", "d", "e"]
    with pytest.raises(ValueError, match="`label_names` must be given because the labels of the"):
        named.add_labels(X[[5]])
    with pytest.raises(
        ValueError, match="`label_names` must be None because the labels of the mod"
    ):
        CentroidXC().fit(X, y).add_labels(X[[5]], label_names=["f"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None,), "must describe the new labels"),
        ((np.ones((1, 3)),), "3 columns but `X` has 16"),
        ((["text"],), "must be a matrix"),
        ((np.ones((1, 16)), ["a", "b"]), "2 elements but `label_features` has 1 rows"),
    ],
)
def test_a_failed_addition_changes_nothing(arguments, message):
    X, y, _ = small_data()
    model = CentroidXC().fit(X, y)
    before = dict(vars(model))
    vectors = model.label_vectors_.copy()
    with pytest.raises(ValueError, match=message):
        model.add_labels(*arguments[:1], label_names=arguments[1] if arguments[1:] else None)
    assert vars(model) == before
    np.testing.assert_array_equal(model.label_vectors_, vectors)


def test_classes_cannot_be_added():
    model = CentroidXC().fit(np.eye(2), ["a", "b"])
    with pytest.raises(ValueError, match="fitted on a 1-D `y`"):
        model.add_labels(np.eye(2))


def test_text_labels_are_added_through_the_vectoriser():
    texts, y, label_texts = small_texts()
    model = CentroidXC(vectorizer=TfidfVectorizer(), label_features=label_texts).fit(texts, y)
    model.add_labels(["oak barrel"])
    assert model.predict_labels(["oak barrel"], k=1) == [[12]]


# ---- parameters and state


def make_dummy(name):
    return DummyClassifier()


@params
class Votes(Part):
    """Votes.

    Parameters
    ----------
    weight : int, default=1
    """

    weight: PositiveInt = 1


@params
class WithParts(CentroidXC):
    encoder: Annotated[str, MadeBy(f"{__name__}:make_dummy")] | DummyClassifier = "named"
    votes: Votes | Literal[False] | None = None


def test_a_named_part_becomes_an_object(monkeypatch):
    monkeypatch.setitem(
        __import__("sys").modules,
        __name__,
        __import__("types").SimpleNamespace(make_dummy=make_dummy),
    )
    model = WithParts().set_params(encoder__strategy="uniform")
    assert model.encoder.strategy == "uniform"
    other = WithParts(encoder=DummyClassifier())
    model = other.set_params(encoder="named", encoder__strategy="stratified")
    assert model.encoder.strategy == "stratified"
    kept = DummyClassifier()
    assert WithParts(encoder=kept).set_params(encoder__strategy="uniform").encoder is kept
    assert WithParts().set_params(encoder="named").encoder == "named"


def test_parts_come_from_none():
    model = WithParts().set_params(votes__weight=3)
    assert (model.votes.weight, WithParts().votes) == (3, None)
    assert clone(model).votes.weight == 3
    assert clone(model).votes is not model.votes
    X, y, _ = small_data()
    search = GridSearchCV(WithParts(), {"votes__weight": [1, 2]}, cv=2).fit(X, y)
    assert search.best_params_["votes__weight"] in (1, 2)
    assert WithParts(votes=False)._part("votes") is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"votes": Votes(weight=0)}, "The 'weight' parameter of Votes must be an int"),
        ({"votes": 3}, "The 'votes' parameter of WithParts"),
        ({"votes": True}, "The 'votes' parameter of WithParts"),
    ],
)
def test_wrong_parts_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        WithParts(**values).fit(np.eye(2), np.eye(2))


def test_parameters_set_after_fit_are_validated_when_they_are_used():
    X, y, _ = small_data()
    model = WithParts(votes=Votes()).fit(X, y)
    before = model.predict_topk(X, 3)
    for name, value in (("threshold", 5), ("top_k", 0), ("threshold", "0.1"), ("votes__weight", 0)):
        changed = copy.deepcopy(model).set_params(**{name: value})
        for method in ("predict", "predict_topk", "decision_function", "transform"):
            with pytest.raises(ValueError, match=f"'{name.rpartition('__')[2]}' parameter of"):
                getattr(changed, method)(X)
    model.threshold = 2
    with pytest.raises(ValueError, match="threshold"):
        model.predict(X)
    model.threshold = 0.3
    for first, second in zip(model.predict_topk(X, 3), before, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_string_without_parameters_says_so():
    with pytest.raises(ValueError, match="`graph` of CentroidXC is 'x', which has no parameters o"):
        CentroidXC(graph="x").set_params(graph__y=1)
    with pytest.raises(ValueError, match="`votes` of WithParts is False, which has no parameters"):
        WithParts(votes=False).set_params(votes__weight=1)
    with pytest.raises(ValueError, match="Invalid parameter 'nothing'"):
        CentroidXC().set_params(nothing=1)


def test_an_inherited_parameter_joins_the_docstring():
    assert WithParts.__doc__ is None
    document = CentroidXC.__doc__
    assert document.count("top_k : int, default=100") == 1
    assert document.index("A label is the sum") < document.index("Parameters\n")


def test_pickles_of_another_version_are_refused(monkeypatch):
    model = CentroidXC()
    assert "_skxc_state_version" not in pickle.loads(pickle.dumps(model)).__dict__
    for version, cure in ((99, "Update skxc"), (1, "Fit the model again")):
        monkeypatch.setattr(_state, "STATE_VERSION", version)
        state = pickle.dumps(model)
        monkeypatch.undo()
        with pytest.raises(
            FormatVersionError, match=rf"version {version}.*reads version 2\. {cure}"
        ):
            pickle.loads(state)


# ---- whole or absent


class Interrupted(CentroidXC):
    """Trains, unless told to fail."""

    error = None

    in_trial = True

    def _train(self, fit):
        if self.error is not None and fit.is_trial == self.in_trial:
            raise self.error
        return super()._train(fit)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("failed")], ids=repr)
@pytest.mark.parametrize("in_trial", [True, False])
def test_an_interrupted_refit_changes_nothing(error, in_trial):
    texts, y, label_texts = small_texts()
    names = [f"label {number}" for number in range(12)]
    model = Interrupted(label_features=LabelTexts(label_texts, names=names)).fit(texts, y)
    before, answers = dict(vars(model)), model.predict_labels(texts, 2)
    model.error, model.in_trial = error, in_trial
    other = pd.DataFrame(np.eye(20, 5, dtype=int), columns=list("abcde"))
    with pytest.raises(type(error)):
        model.fit(np.eye(20), other, label_features=np.eye(5, 20))
    del model.error, model.in_trial
    assert vars(model) == before
    assert model.predict_labels(texts, 2) == answers
    assert model.predict_proba(texts).shape == (30, 12)


def test_an_interrupted_first_fit_is_no_fit(tmp_path):
    model = Interrupted()
    model.error, model.in_trial = KeyboardInterrupt(), False
    with pytest.raises(KeyboardInterrupt):
        model.fit(np.eye(20), np.eye(20))
    for method in (model.predict, model.predict_proba, model.save):
        with pytest.raises(NotFittedError):
            method(tmp_path / "model" if method == model.save else np.eye(4))
    assert not (tmp_path / "model").exists()


def test_a_failing_vectoriser_changes_nothing():
    model = CentroidXC(vectorizer=TfidfVectorizer()).fit(["red wine", "oak"], np.eye(2))
    answers = model.predict_labels(["wine"], 1)
    with pytest.raises(ValueError, match="empty vocabulary"):
        model.fit(["a", "b", "c"], np.eye(3))
    assert model.predict_labels(["wine"], 1) == answers


def test_an_interrupted_calibration_changes_nothing(monkeypatch):
    X, y, _ = small_data()
    model = CentroidXC().fit(X, y)
    before = dict(vars(model))
    monkeypatch.setattr("skxc._hold_out.calibrate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.fit(X[:, :4], y[:, :3])
    assert vars(model) == before


# ---- settings that change the scores of a fitted estimator


@params
class PowerXC(CentroidXC):
    """Scores are powers of cosines, and the power may be changed after fit."""

    power: PositiveInt = 1

    _search_parameters = ("power",)

    def _current(self, model):
        return PowerModel(model.vectors, power=self.power)


@dataclass(frozen=True, eq=False)
class PowerModel(type(CentroidXC().fit(np.eye(2), np.eye(2)).model_)):
    power: int = 1

    def search(self, queries, k):
        labels, scores = super().search(queries, k)
        return labels, np.sign(scores) * np.abs(scores) ** self.power


def test_a_changed_setting_is_calibrated_anew():
    X, y, _ = small_data(n=3000, n_labels=20, seed=1)
    model = PowerXC(top_k=5).fit(X[:2500], y[:2500])
    expected = PowerXC(top_k=5, power=3).fit(X[:2500], y[:2500]).predict_proba(X)
    first = model.predict_proba(X)
    changed = model.set_params(power=3).predict_proba(X)
    np.testing.assert_array_equal(changed.toarray(), expected.toarray())
    np.testing.assert_array_equal(model.set_params(power=1).predict_proba(X).data, first.data)
    copied = pickle.loads(pickle.dumps(model.set_params(power=3)))
    np.testing.assert_array_equal(copied.predict_proba(X).data, changed.data)


def test_a_changed_setting_without_kept_rows_is_refused():
    X, y, _ = small_data()
    model = PowerXC().fit(X, y).set_params(power=3)
    with pytest.raises(ValueError, match="were changed after fit, and no held-out rows are kept"):
        model.predict_proba(X)
    assert model.predict_topk(X, 2)[0].shape == (30, 2)


# ---- callbacks


class Iterative(CallbackSupportMixin, CentroidXC):
    """Trains in vain for a few epochs and reports each of them."""

    def _train(self, fit):
        if fit.is_trial:
            return super()._train(fit)
        X, y = fit.data.source
        context = self._init_callback_context(max_subtasks=5)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        model = super()._train(fit)
        for epoch in range(5):
            step = context.subcontext(task_name="epoch")
            step.call_on_fit_task_begin(estimator=self, X=X, y=y)
            stop = step.call_on_fit_task_end(
                estimator=self, X=X, y=y, metadata={"loss": 1 / (epoch + 1)}
            )
            if stop:
                break
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return replace(model, data=epoch + 1)

    n_iter_ = of_model("data", "Number of epochs.")


class StopAt:
    """A callback that stops in the second epoch and notes the losses and the type of X."""

    def __init__(self):
        self.losses, self.seen, self.setups = [], set(), 0

    def setup(self, estimator, context):
        self.setups += 1

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, *, X=None):
        self.seen.add(type(X))

    def on_fit_task_end(self, estimator, context, *, metadata=None):
        if context.task_name != "epoch":
            return False
        self.losses.append(metadata["loss"])
        return len(self.losses) == 2


@pytest.mark.skipif(
    CallbackSupportMixin is NullCallbackSupportMixin, reason="scikit-learn has no callbacks"
)
def test_callbacks_see_the_final_training_and_the_given_data():
    texts, y, _ = small_texts()
    callback = StopAt()
    model = Iterative(vectorizer=TfidfVectorizer()).set_callbacks(callback).fit(texts, y)
    assert callback.losses == [1, 0.5]
    assert callback.setups == 1
    assert callback.seen == {list}
    assert model.n_iter_ == 2
    assert model.predict_proba(texts).shape == (30, 12)
    assert Iterative(vectorizer=TfidfVectorizer()).fit(texts, y).n_iter_ == 5


def test_the_training_without_callbacks_of_scikit_learn():
    class Old(NullCallbackSupportMixin, Iterative):
        pass

    X, y, _ = small_data()
    assert_same_model(Old().fit(X, y), Iterative().fit(X, y), X)


def test_embeddings_have_column_names():
    texts, y, _ = small_texts()
    model = CentroidXC().fit(texts, y)
    names = model.get_feature_names_out()
    assert names.tolist() == [f"centroidxc{column}" for column in range(64)]
    plain = model.transform(texts)
    frame = model.set_output(transform="pandas").transform(texts)
    assert frame.columns.tolist() == names.tolist()
    np.testing.assert_array_equal(frame, plain)
    assert model.transform([]).shape == (0, 64)
