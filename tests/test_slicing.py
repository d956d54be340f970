"""Cross-validation cuts arguments with one row per sample, and must cut those only.

The data have as many labels as samples, the case in which scikit-learn cannot tell them apart.
"""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler

from skxc import AnchorGraph, LabelGraph, LabelTexts
from skxc.exceptions import SlicedLabelSideError
from skxc.metrics import get_scorer
from skxc.model_selection import cross_val_predict, cross_validate
from tests.toys import WITH_LABEL_SIDE, SampleGraphXC, dense, make, small_data, small_texts

SIZE = 20
X, Y, GRAPH = small_data(n=SIZE, n_labels=SIZE)
SIDES = {"graph": (GRAPH, LabelGraph), "label_features": (X, LabelTexts)}
routing = pytest.mark.parametrize("routing", [False, True], ids=["routing off", "routing on"])
every_label_side = pytest.mark.parametrize("estimator", WITH_LABEL_SIDE)


def in_pipeline(model):
    return Pipeline([("scale", MaxAbsScaler()), ("x", model)])


def keyword(name, wrapped, routing):
    """Return the name of a fit keyword: without routing a pipeline wants the step in front."""
    return f"x__{name}" if wrapped and not routing else name


def search_scores(model, y=Y, X=X, **fit_params):
    search = GridSearchCV(model, {}, cv=2, refit=False, error_score="raise")
    search.fit(X, y, **fit_params)
    return [float(search.cv_results_[f"split{i}_test_score"][0]) for i in range(2)]


def loop_scores(model, name, side):
    """Return the scores of a hand-written loop that keeps the label side whole."""
    scores = []
    for train, test in KFold(2).split(X):
        fold = clone(model).fit(X[train], Y[train], **{name: side})
        scores.append(fold.score(X[test], Y[test]))
    return scores


@every_label_side
@routing
@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "in a pipeline"])
@pytest.mark.parametrize("name", SIDES)
class TestLabelSide:
    def test_constructor(self, estimator, routing, wrapped, name):
        side, holder = SIDES[name]
        for value in (side, holder(side)):
            model = make(estimator, **{name: value})
            with config_context(enable_metadata_routing=routing):
                scores = search_scores(in_pipeline(model) if wrapped else model)
                assert wrapped or scores == loop_scores(make(estimator), name, holder(side))

    def test_holder_as_keyword(self, estimator, routing, wrapped, name):
        side, holder = SIDES[name]
        model = make(estimator)
        with config_context(enable_metadata_routing=routing):
            scores = search_scores(
                in_pipeline(model) if wrapped else model,
                **{keyword(name, wrapped, routing): holder(side)},
            )
            by_constructor = make(estimator, **{name: holder(side)})
            assert scores == search_scores(
                in_pipeline(by_constructor) if wrapped else by_constructor
            )

    def test_raw_matrix_as_keyword_is_recognised(self, estimator, routing, wrapped, name):
        side, holder = SIDES[name]
        model = in_pipeline(make(estimator)) if wrapped else make(estimator)
        trap = f"`{name}` must have .*n_labels == n_samples; wrap it in {holder.__name__} or pass"
        with (
            config_context(enable_metadata_routing=routing),
            pytest.raises(SlicedLabelSideError, match=trap),
        ):
            search_scores(model, **{keyword(name, wrapped, routing): side})


@every_label_side
@routing
def test_a_raw_graph_is_whole_when_sizes_differ(estimator, routing):
    X, Y, graph = small_data(n=30, n_labels=12)
    with config_context(enable_metadata_routing=routing):
        scores = search_scores(make(estimator), Y, X, graph=graph)
        assert scores == search_scores(make(estimator, graph=graph), Y, X)


@every_label_side
def test_a_grid_of_graphs(estimator):
    grid = {"graph": [None, GRAPH, LabelGraph(GRAPH)]}
    search = GridSearchCV(make(estimator), grid, cv=2, refit=False, error_score="raise")
    raw, held = search.fit(X, Y).cv_results_["mean_test_score"][1:]
    assert raw == held


@every_label_side
def test_own_cross_validation_keeps_a_raw_graph_whole(estimator):
    model, params = make(estimator), {"graph": GRAPH}
    own = cross_validate(model, X, Y, scoring=get_scorer("precision@1"), cv=KFold(2), params=params)
    (scores,) = (value for name, value in own.items() if name.startswith("test_"))
    assert scores.tolist() == pytest.approx(loop_scores(model, "graph", GRAPH))
    answers = cross_val_predict(model, X, Y, cv=KFold(2), params=params)
    for train, test in KFold(2).split(X):
        fold = clone(model).fit(X[train], Y[train], graph=GRAPH)
        np.testing.assert_array_equal(dense(answers)[test], dense(fold.decision_function(X[test])))


# ---- label texts through the vectoriser of a pipeline


@every_label_side
def test_label_texts_through_transform_input(estimator):
    texts, y, label_texts = small_texts(n=SIZE, n_labels=SIZE)
    vectorizer = TfidfVectorizer(token_pattern=r"[a-z]+")
    steps = [("v", vectorizer), ("x", make(estimator))]
    piped = Pipeline(steps, transform_input=["label_features"])
    expected = []
    for train, test in KFold(2).split(texts):
        fold = clone(vectorizer).fit([texts[i] for i in train])
        rows, labels = sp.csr_array(fold.transform(texts)), fold.transform(label_texts)
        model = make(estimator).fit(rows[train], y[train], label_features=labels)
        expected.append(model.score(rows[test], y[test]))
    with config_context(enable_metadata_routing=True):
        held = search_scores(piped, y, texts, label_features=LabelTexts(label_texts))
        assert held == expected
        with pytest.raises(SlicedLabelSideError, match="wrap it in LabelTexts"):
            search_scores(piped, y, texts, label_features=label_texts)


# ---- per-sample graphs


@pytest.fixture
def numbered():
    """Return X, y and three sample graphs whose rows carry the number of their sample."""
    number = np.arange(1, SIZE + 1, dtype=np.float32)
    graphs = [sp.csr_array(np.tile(number[:, None], (1, width))) for width in (3, SIZE, 2 * SIZE)]
    return sp.csr_array(number[:, None]), Y, graphs


class Check(SampleGraphXC):
    """Fails unless row i of the sample graph belongs to row i of X."""

    def _train(self, fit):
        carried = fit.data.sample_graph.toarray()
        assert (carried == fit.data.X.toarray()).all()
        return super()._train(fit)


@routing
@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "in a pipeline"])
def test_sample_graphs_follow_the_folds(numbered, routing, wrapped):
    X, y, graphs = numbered
    model = Pipeline([("same", "passthrough"), ("x", Check())]) if wrapped else Check()
    for graph in graphs:
        with config_context(enable_metadata_routing=routing):
            name = keyword("sample_graph", wrapped, routing)
            assert len(search_scores(model, y, X, **{name: graph})) == 2


def test_a_shuffled_sample_graph_is_noticed(numbered):
    X, y, graphs = numbered
    with pytest.raises(AssertionError):
        search_scores(Check(), y, X, sample_graph=graphs[0][::-1])


@routing
def test_several_sample_graphs_are_refused(numbered, routing):
    X, y, graphs = numbered
    for several in ({"a": graphs[0], "b": graphs[1]}, graphs):
        with (
            config_context(enable_metadata_routing=routing),
            pytest.raises(TypeError, match="Stack the anchor sets side by side"),
        ):
            search_scores(Check(), y, X, sample_graph=several)


@routing
def test_weights_and_sample_graph_and_label_side_together(numbered, routing):
    X, y, graphs = numbered
    with config_context(enable_metadata_routing=routing):
        model = Check()
        if routing:
            model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search_scores(
            model,
            y,
            X,
            sample_graph=graphs[1],
            sample_weight=np.arange(1.0, SIZE + 1),
            graph=AnchorGraph(GRAPH),
            label_features=LabelTexts(X),
        )


def test_sample_graph_requests_are_merged():
    requests = SampleGraphXC().get_metadata_routing().fit.requests
    assert requests["sample_graph"] is requests["graph"] is requests["label_features"] is True


@routing
def test_an_unknown_sample_graph_is_a_type_error(routing):
    from skxc import KNeighborsXC

    with config_context(enable_metadata_routing=routing), pytest.raises(TypeError):
        search_scores(KNeighborsXC(), sample_graph=GRAPH)


@every_label_side
def test_folds_with_a_holder_differ_from_folds_without(estimator):
    """The comparisons above can fail: the label side matters for the scores."""
    texts = LabelTexts(X[::-1])
    model = make(estimator).fit(X, Y)
    other = make(estimator, label_features=texts).fit(X, Y)
    assert not np.array_equal(dense(model.decision_function(X)), dense(other.decision_function(X)))
