"""The public contract, on every estimator."""

import inspect
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV

import skxc
from skxc import LabelGraph, LabelTexts
from skxc._label_side import EmbeddingMixin
from skxc._params import declared
from skxc.estimators import all_estimators
from skxc.metrics import precision_at_k
from tests.toys import (
    ESTIMATORS,
    WITH_LABEL_SIDE,
    assert_same_model,
    dense,
    make,
    small_data,
    small_texts,
)

WITH_EMBEDDING = [estimator for estimator in ESTIMATORS if issubclass(estimator, EmbeddingMixin)]
ADDING_LABELS = [estimator for estimator in ESTIMATORS if hasattr(estimator(), "add_labels")]
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
every_label_side = pytest.mark.parametrize("estimator", WITH_LABEL_SIDE)
X, Y, GRAPH = small_data()


# ---- signatures and parameters


@every_estimator
def test_signature_of_fit(estimator):
    parameters = inspect.signature(estimator.fit).parameters
    assert list(parameters)[:3] == ["self", "X", "y"]
    keywords = {name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert len(parameters) == 3 + len(keywords)
    assert {"groups", "sample_weight"} <= keywords
    has_label_side = "graph" in estimator().get_params()
    for name in ("graph", "label_features"):
        assert (name in keywords) == (name in estimator().get_params()) == has_label_side


@every_estimator
def test_requests_follow_the_signature(estimator):
    requests = estimator().get_metadata_routing().fit.requests
    expected = {"sample_weight": None}
    if estimator in WITH_LABEL_SIDE:
        expected.update(graph=True, label_features=True)
    assert {name: requests[name] for name in expected} == expected
    assert "graph" in expected or not {"graph", "label_features"} & set(requests)


@every_estimator
def test_constructor_only_assigns(estimator):
    signature = inspect.signature(estimator)
    positional = {n for n, p in signature.parameters.items() if p.kind is not p.KEYWORD_ONLY}
    # As in scikit-learn's own ensembles.
    assert positional == ({"estimators"} if "estimators" in signature.parameters else set())
    values = {name: object() for name in signature.parameters}
    built = estimator(**values)
    assert {name: id(getattr(built, name)) for name in values} == {
        name: id(value) for name, value in values.items()
    }
    assert set(vars(built)) == set(values)


@every_estimator
def test_every_parameter_has_a_constraint(estimator):
    assert set(declared(estimator)) == set(estimator().get_params(deep=False))
    assert all(declared(estimator).values())


@every_estimator
def test_shared_parameters_have_shared_defaults(estimator):
    shared = {
        "top_k": 100,
        "threshold": 0.5,
        "graph": None,
        "label_features": None,
        "vectorizer": None,
        "device": "auto",
        "random_state": None,
        "n_jobs": None,
        "verbose": 0,
    }
    params = estimator().get_params(deep=False)
    assert {"top_k", "threshold"} <= set(params)
    assert {name: params[name] for name in shared.keys() & params.keys()} == {
        name: shared[name] for name in shared.keys() & params.keys()
    }


@every_label_side
def test_clone_shares_holders(estimator):
    graph, texts = LabelGraph(GRAPH), LabelTexts(["a"] * 12)
    model = clone(estimator(graph=graph, label_features=texts))
    assert model.graph is graph
    assert model.label_features is texts


# ---- the label side


@every_label_side
@pytest.mark.parametrize("name", ["graph", "label_features"])
def test_constructor_and_keyword_are_the_same(estimator, name):
    side, other = (GRAPH, sp.csr_array(GRAPH.T)) if name == "graph" else (X[:12], X[12:24])
    by_keyword = make(estimator).fit(X, Y, **{name: side})
    by_constructor = make(estimator, **{name: side}).fit(X, Y)
    overridden = make(estimator, **{name: other})
    params = overridden.get_params()
    overridden.fit(X, Y, **{name: side})
    assert_same_model(by_keyword, by_constructor, X)
    assert_same_model(by_keyword, overridden, X)
    assert all(overridden.get_params()[key] is value for key, value in params.items())


@every_label_side
def test_raw_and_held_label_sides_are_the_same(estimator):
    raw = make(estimator).fit(X, Y, graph=GRAPH, label_features=X[:12])
    held = make(estimator).fit(X, Y, graph=LabelGraph(GRAPH), label_features=LabelTexts(X[:12]))
    assert_same_model(raw, held, X)


@every_label_side
def test_label_features_matter(estimator):
    with_features = make(estimator).fit(X, Y, label_features=X[:12])
    without = make(estimator).fit(X, Y)
    scores = [dense(model.decision_function(X)) for model in (with_features, without)]
    assert not np.array_equal(*scores)


# ---- canonical rows


@pytest.fixture(params=["sparse", "dense", "classes"])
def target(request):
    """Return a target of each layout."""
    if request.param == "classes":
        return np.array(["c", "a", "b"])[np.arange(30) % 3]
    return Y if request.param == "sparse" else Y.toarray()


@every_estimator
def test_weights_equal_repetitions(estimator, target):
    weight = np.random.default_rng(0).integers(0, 4, size=30)
    rows = np.repeat(np.arange(30), weight)
    weighted = make(estimator).fit(X, target, sample_weight=weight)
    repeated = make(estimator).fit(X[rows], target[rows])
    assert_same_model(weighted, repeated, X)
    np.testing.assert_array_equal(weighted.label_frequency_, repeated.label_frequency_)
    np.testing.assert_array_equal(weighted.classes_, repeated.classes_)
    assert weighted.n_samples_fit_ == repeated.n_samples_fit_ == weight.sum()


@every_estimator
def test_the_order_of_rows_does_not_matter(estimator, target):
    rows = np.random.default_rng(1).permutation(30)
    weight = np.random.default_rng(2).random(30)
    first = make(estimator).fit(X, target, sample_weight=weight)
    second = make(estimator).fit(X[rows], target[rows], sample_weight=weight[rows])
    assert_same_model(first, second, X)


@every_estimator
def test_uneven_weights_matter(estimator):
    weight = np.where(np.arange(30) % 2, 5.0, 0.2)
    plain, weighted = make(estimator).fit(X, Y), make(estimator).fit(X, Y, sample_weight=weight)
    scores = [dense(model.decision_function(X)) for model in (plain, weighted)]
    assert not np.array_equal(*scores)


# ---- inputs


Y_FORMS = {
    "csr_matrix": sp.csr_matrix(Y),
    "csc": sp.csc_array(Y),
    "coo": sp.coo_array(Y),
    "int8": Y.astype(np.int8),
    "float32": Y.astype(np.float32),
    "bool": Y.astype(bool),
    "explicit zeros": sp.csr_array(
        (np.append(Y.data, 0), np.append(Y.indices, 11), np.append(Y.indptr[:-1], Y.nnz + 1)),
        shape=Y.shape,
    ),
    "frame": pd.DataFrame.sparse.from_spmatrix(sp.csr_matrix(Y)),
    "dense": Y.toarray(),
    "dense frame": pd.DataFrame(Y.toarray()),
    "nested list": Y.toarray().tolist(),
}


@every_estimator
@pytest.mark.parametrize("form", Y_FORMS)
def test_all_forms_of_y_give_one_model(estimator, form):
    y = Y_FORMS[form]
    is_sparse = sp.issparse(y) or form == "frame"
    model = make(estimator).fit(X, y)
    expected = make(estimator).fit(X, Y if is_sparse else Y.toarray())
    assert_same_model(model, expected, X)
    for first, second in zip(model.predict_topk(X, 5), expected.predict_topk(X, 5), strict=True):
        np.testing.assert_array_equal(first, second)
    assert sp.issparse(model.predict(X)) == is_sparse


@every_estimator
@pytest.mark.parametrize(
    "form", [sp.csr_matrix, sp.csc_array, sp.coo_array, sp.csr_array.toarray, list]
)
def test_all_forms_of_x_give_one_model(estimator, form):
    other = X.toarray().tolist() if form is list else form(X)
    assert_same_model(make(estimator).fit(other, Y), make(estimator).fit(X, Y), X)
    model = make(estimator).fit(X, Y)
    np.testing.assert_array_equal(
        dense(model.decision_function(other)), dense(model.decision_function(X))
    )


@every_estimator
def test_read_only_arguments(estimator):
    arguments = {"X": X.copy(), "y": Y.copy()}
    if estimator in WITH_LABEL_SIDE:
        arguments.update(graph=GRAPH.copy(), label_features=X[:12])
    for matrix in arguments.values():
        for array in (matrix.data, matrix.indices, matrix.indptr):
            array.flags.writeable = False
    model = make(estimator).fit(**arguments)
    for method in ("decision_function", "predict_proba", "predict", "predict_topk"):
        getattr(model, method)(arguments["X"])


@every_estimator
@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (Y * 2, ValueError, "binary indicator.*2"),
        (Y * 0.5, ValueError, r"binary indicator.*0\.5"),
        (-Y, ValueError, "binary indicator.*-1"),
        (Y.toarray() * 2, ValueError, "binary indicator.*2"),
        (Y[:20], ValueError, "`y` has 20 rows but `X` has 30"),
        (None, ValueError, "requires y to be passed, but the target y is None"),
        ([[0, 1], [2]] * 15, TypeError, "MultiLabelBinarizer"),
    ],
    ids=["two", "half", "negative", "dense two", "rows", "none", "lists"],
)
def test_wrong_targets(estimator, y, error, message):
    with pytest.raises(error, match=message):
        make(estimator).fit(X, y)


# ---- outputs


@every_estimator
@pytest.mark.parametrize("top_k", [1, 4, 500])
def test_sparse_answers(estimator, top_k):
    model = make(estimator, top_k=top_k).fit(X, Y)
    for answer in (model.decision_function(X), model.predict_proba(X), model.predict(X)):
        assert isinstance(answer, sp.csr_array)
        assert answer.shape == Y.shape
        assert np.diff(answer.indptr).max() <= top_k
        assert answer.has_sorted_indices
        assert answer.indices.dtype == np.int32
    assert model.decision_function(X).dtype == np.float32
    assert model.predict(X).dtype == Y.dtype
    assert set(model.predict(X).data) <= {1}
    probabilities = model.predict_proba(X).data
    assert ((probabilities > 0) & (probabilities < 1)).all()


@every_estimator
def test_dense_answers(estimator):
    model = make(estimator).fit(X, Y.toarray().astype(np.int8))
    assert model.predict(X).dtype == np.int8
    for method in ("decision_function", "predict_proba", "predict"):
        answer = getattr(model, method)(X)
        assert isinstance(answer, np.ndarray)
        assert answer.shape == Y.shape
        assert np.isfinite(answer).all()


@every_estimator
@pytest.mark.parametrize("n_classes", [1, 2, 3])
def test_class_answers(estimator, n_classes):
    y = np.array(["c", "a", "b"])[np.arange(30) % n_classes]
    model = make(estimator).fit(X, y)
    np.testing.assert_array_equal(model.classes_, np.unique(y))
    assert model.decision_function(X).shape == ((30,) if n_classes == 2 else (30, n_classes))
    assert model.predict_proba(X).shape == (30, n_classes)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    best = model.classes_[model.predict_proba(X).argmax(axis=1)]
    np.testing.assert_array_equal(model.predict(X), best)
    np.testing.assert_array_equal([row[0] for row in model.predict_labels(X, 1)], best)


@every_estimator
def test_probabilities_rank_as_scores_do(estimator):
    model = make(estimator, top_k=6).fit(X, Y)
    scores, probabilities = model.decision_function(X), model.predict_proba(X)
    np.testing.assert_array_equal(scores.indices, probabilities.indices)
    for row in range(30):
        inside = slice(*scores.indptr[row : row + 2])
        np.testing.assert_array_equal(
            np.argsort(scores.data[inside], kind="stable"),
            np.argsort(probabilities.data[inside], kind="stable"),
        )


@every_estimator
def test_predict_topk_agrees_with_decision_function(estimator):
    model = make(estimator, top_k=7).fit(X, Y)
    scores = model.decision_function(X)
    indices, values = model.predict_topk(X)
    assert indices.shape == values.shape == (30, 7)
    assert (indices.dtype, values.dtype) == (np.int32, np.float32)
    for row in range(30):
        inside = slice(*scores.indptr[row : row + 2])
        stored = sorted(zip(-scores.data[inside], scores.indices[inside], strict=True))
        expected = [(label, -score) for score, label in stored]
        expected += [(-1, -np.inf)] * (7 - len(expected))
        assert list(zip(indices[row], values[row], strict=True)) == expected
    np.testing.assert_array_equal(model.predict_topk(X, 3)[0], indices[:, :3])
    assert model.predict_topk(X, 20)[0].shape == model.predict_topk(X, 2**40)[1].shape == (30, 12)


@every_estimator
def test_ties_go_to_the_lower_label(estimator):
    twins = sp.hstack([Y[:, [3]], Y[:, [3]], Y[:, :3]], format="csr")
    indices, scores = make(estimator).fit(X, twins).predict_topk(X, 5)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    tied = (scores[:, :-1] == scores[:, 1:]) & (indices[:, 1:] >= 0)
    assert (indices[:, :-1][tied] < indices[:, 1:][tied]).all()


@every_estimator
def test_names_follow_predict_topk(estimator):
    names = [f"label {i}" for i in range(12)]
    frame = pd.DataFrame(Y.toarray(), columns=names)
    model = make(estimator).fit(X, frame)
    assert model.label_names_ == names
    indices, _ = model.predict_topk(X, 4)
    answer = model.predict_labels(X, 4)
    assert [[names.index(name) for name in row] for row in answer] == [
        [label for label in row if label >= 0] for row in indices.tolist()
    ]
    plain = make(estimator).fit(X, Y).predict_labels(X, 4)
    assert [[names[label] for label in row] for row in plain] == answer


@every_estimator
def test_score_is_precision_at_1(estimator):
    model = make(estimator).fit(X, Y)
    other = sp.csr_array(Y[::-1])
    assert model.score(X, other) == pytest.approx(
        precision_at_k(other, model.decision_function(X), 1)
    )
    y = np.arange(30) % 3
    model.fit(X, y)
    assert model.score(X, y) == accuracy_score(y, model.predict(X))


# ---- sizes


@every_estimator
@pytest.mark.parametrize("n_labels", [1, 2, 3])
@pytest.mark.parametrize("layout", ["sparse", "dense"])
def test_few_labels(estimator, n_labels, layout):
    y = Y[:, :n_labels] if layout == "sparse" else Y[:, :n_labels].toarray()
    model = make(estimator).fit(X, y)
    assert model.n_labels_ == n_labels
    assert model.classes_.tolist() == list(range(n_labels))
    for method in ("decision_function", "predict_proba", "predict"):
        assert getattr(model, method)(X).shape == (30, n_labels)
    assert model.predict_topk(X)[0].shape == (30, n_labels)


@every_estimator
@pytest.mark.parametrize("n", [1, 2, 9, 10, 11])
def test_few_samples(estimator, n):
    model = make(estimator).fit(X[:n], Y[:n])
    assert model.n_samples_fit_ == n
    assert model.predict_proba(X[:1]).shape == (1, 12)
    assert model.predict_topk(X[:1], 2)[0].shape == (1, 2)


@every_estimator
def test_rows_and_columns_without_ones(estimator):
    y = Y.toarray()
    y[::3] = 0
    y[:, [0, 5]] = 0
    model = make(estimator).fit(X, sp.csr_array(y))
    assert model.label_frequency_.tolist() == y.sum(axis=0).tolist()
    assert model.n_samples_fit_ == 30
    assert model.predict_proba(X).shape == (30, 12)


@every_estimator
def test_a_probability_scorer_with_three_labels(estimator):
    def error(y, probabilities):
        return np.abs(y - probabilities).mean()

    scorer = make_scorer(error, response_method="predict_proba")
    search = GridSearchCV(
        make(estimator), {"top_k": [2]}, cv=2, scoring=scorer, error_score="raise"
    )
    assert 0 <= search.fit(X, Y[:, :3]).best_score_ <= 1


# ---- embeddings and new labels


@pytest.mark.parametrize("estimator", WITH_EMBEDDING)
def test_transform(estimator):
    model = make(estimator).fit(X, Y)
    embedding = model.transform(X)
    assert embedding.dtype == np.float32
    assert embedding.ndim == 2
    assert len(embedding) == 30
    np.testing.assert_array_equal(embedding, model.transform(X))
    np.testing.assert_array_equal(embedding, make(estimator).fit_transform(X, Y))


@every_estimator
def test_transform_only_where_there_is_an_embedding(estimator):
    for name in ("transform", "fit_transform"):
        assert hasattr(estimator(), name) == (estimator in WITH_EMBEDDING)


@pytest.mark.parametrize("estimator", ADDING_LABELS)
def test_added_labels(estimator):
    texts, y, label_texts = small_texts()
    model = make(
        estimator, label_features=label_texts, vectorizer=TfidfVectorizer(token_pattern=r"[a-z]+")
    )
    model.fit(texts, y)
    before = model.predict_topk(texts, 12)
    old = {
        (i, label): s for i in range(30) for label, s in zip(*(p[i] for p in before), strict=True)
    }
    assert model.add_labels(["oak barrel", "red deep"]) is model
    assert model.n_labels_ == len(model.classes_) == len(model.label_frequency_) == 14
    assert model.label_frequency_[12:].tolist() == [0, 0]
    assert {12, 13} <= set(model.predict_topk(texts, 14)[0].ravel().tolist())
    for i, (labels, scores) in enumerate(zip(*model.predict_topk(texts, 14), strict=True)):
        for label, score in zip(labels, scores, strict=True):
            assert label >= 12 or old[i, label] == score
    again = pickle.loads(pickle.dumps(model))
    assert_same_model(model, again, texts)
    with pytest.raises((ValueError, TypeError)):
        model.add_labels(["one"], label_names=["a", "b"])
    assert model.n_labels_ == 14


# ---- state


@every_estimator
def test_pickle_and_joblib(estimator, tmp_path):
    model = make(estimator).fit(X, Y)
    assert_same_model(model, pickle.loads(pickle.dumps(model)), X)
    joblib.dump(model, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert_same_model(model, mapped, X)
    mapped.fit(X, Y)
    assert_same_model(model, mapped, X)


@pytest.mark.parametrize("estimator", [estimator for _, estimator in all_estimators()])
def test_save_and_load(estimator, tmp_path, monkeypatch):
    texts, y, label_texts = small_texts()
    sides = estimator in WITH_LABEL_SIDE
    names = [f"name {label}" for label in range(12)]
    params = {"label_features": LabelTexts(label_texts, names=names)} if sides else {}
    for rows, target, model in (
        (X, Y, make(estimator)),
        (texts, y, make(estimator, vectorizer=TfidfVectorizer(), **params)),
    ):
        model.fit(rows, target).save(tmp_path / "model")
        with monkeypatch.context() as patch:
            patch.setattr(pickle, "load", None)
            patch.setattr(pickle, "loads", None)
            again = skxc.load(tmp_path / "model")
        assert_same_model(model, again, rows)
        assert again.predict_labels(rows, 3) == model.predict_labels(rows, 3)
        assert clone(again).fit(rows, target).score(rows, target) == model.score(rows, target)


@every_estimator
def test_the_global_seed_is_left_alone(estimator):
    np.random.seed(1)  # noqa: NPY002
    first = make(estimator).fit(X, Y)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    second = make(estimator).fit(X, Y)
    assert_same_model(first, second, X)
    np.random.seed(1)  # noqa: NPY002
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


# ---- texts


@every_estimator
def test_texts_with_a_vectoriser(estimator):
    texts, y, label_texts = small_texts()
    params = {"label_features": label_texts} if estimator in WITH_LABEL_SIDE else {}
    model = clone(make(estimator, vectorizer=TfidfVectorizer(), **params))
    search = GridSearchCV(
        model, {"vectorizer__ngram_range": [(1, 1), (1, 2)]}, cv=2, error_score="raise"
    )
    for form in (list, np.array, pd.Series):
        search.fit(form(texts), y)
        assert search.best_score_ > 0.2
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    assert_same_model(search.best_estimator_, again, texts)
    assert not hasattr(again, "n_features_in_")


@every_estimator
def test_texts_without_a_vectoriser(estimator):
    texts, y, label_texts = small_texts()
    model = make(estimator)
    if not model._accepts_texts:
        with pytest.raises(ValueError, match=r"vectorizer=TfidfVectorizer\(\)"):
            model.fit(texts, y)
        return
    model.fit(texts, y, label_features=label_texts)
    again = pickle.loads(pickle.dumps(model))
    assert_same_model(model, again, texts)
    assert model.score(texts, y) > 0.2


@every_estimator
def test_jobs_get_their_own_copies(estimator):
    params = {"graph": LabelGraph(GRAPH)} if estimator in WITH_LABEL_SIDE else {}
    search = GridSearchCV(
        make(estimator, **params),
        {"top_k": [3, 5]},
        cv=2,
        n_jobs=2,
        error_score="raise",
        refit=False,
    )
    with joblib.parallel_config(backend="threading"):
        threads = search.fit(X, Y).cv_results_["mean_test_score"]
    alone = search.set_params(n_jobs=1).fit(X, Y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(threads, alone)


@every_estimator
def test_the_number_of_threads_is_left_alone(estimator):
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    make(estimator).fit(X, Y).predict(X)
    assert torch.get_num_threads() == before


@pytest.mark.slow
@every_label_side
def test_holders_in_other_processes(estimator):
    model = make(estimator, graph=LabelGraph(GRAPH), label_features=LabelTexts(X[:12]))
    search = GridSearchCV(model, {"top_k": [3]}, cv=2, n_jobs=2, error_score="raise", refit=False)
    with joblib.parallel_config(max_nbytes=1):
        parallel = search.fit(X, Y).cv_results_["mean_test_score"]
    alone = search.set_params(n_jobs=1).fit(X, Y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(parallel, alone)
