"""Labels by name, from `fit` to frames: lists, Series, delimited texts, folds, searches, files."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, KFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MultiLabelBinarizer

from skxc import DualEncoderXC, FusionXC, KNeighborsXC, LabelTexts, LinearTreeXC, load
from skxc.exceptions import UnknownLabelWarning
from skxc.metrics import evaluate, get_scorer, inverse_propensity, topk_scorer
from skxc.model_selection import cross_val_predict, cross_validate
from skxc.utils._label_lists import rows_of_names
from tests.toys import CentroidXC, dense

NAMES = ["wine", "red", "white", "learning", "deep", "oak"]
rng = np.random.default_rng(0)
LISTS = [
    [NAMES[label] for label in rng.choice(6, size=rng.integers(0, 4), replace=False)]
    for _ in range(40)
]
TEXTS = [" ".join([*names, f"x{row}"]) for row, names in enumerate(LISTS)]
BINARIZER = MultiLabelBinarizer(sparse_output=True)
INDICATOR = sp.csr_array(BINARIZER.fit_transform(LISTS))
SORTED = sorted(NAMES)
FOLDS = KFold(4, shuffle=True, random_state=0)


def knn(**params):
    return KNeighborsXC(vectorizer=TfidfVectorizer(), **params)


FORMS = {
    "list": LISTS,
    "tuple": tuple(map(tuple, LISTS)),
    "sets": [set(row) for row in LISTS],
    "Series": pd.Series(LISTS),
    "polars": pl.Series(LISTS),
    "arrays": pd.Series([np.array(row, dtype=object) for row in LISTS]),
}


@pytest.mark.parametrize("form", FORMS)
def test_lists_of_names_are_an_indicator_with_names(form):
    model, plain = knn().fit(TEXTS, FORMS[form]), knn().fit(TEXTS, INDICATOR)
    assert model.label_names_ == SORTED
    assert model.target_layout_ == "sparse"
    for mine, expected in zip(model.predict_topk(TEXTS), plain.predict_topk(TEXTS), strict=True):
        np.testing.assert_array_equal(mine, expected)
    assert model.score(TEXTS, FORMS[form]) == plain.score(TEXTS, INDICATOR)


def test_a_separator_alone_makes_lists_of_texts():
    column = pd.Series([" ; ".join(row) for row in LISTS])
    model = knn().fit(TEXTS, column, label_separator=";")
    assert model.label_names_ == SORTED
    np.testing.assert_array_equal(model.label_frequency_, INDICATOR.sum(axis=0))
    assert model.score(TEXTS, column) == knn().fit(TEXTS, INDICATOR).score(TEXTS, INDICATOR)
    classes = knn().fit(TEXTS, column)
    assert classes.target_layout_ == "classes"
    assert set(classes.classes_) == set(column)
    again = pickle.loads(pickle.dumps(model))
    for y in (column, LISTS, INDICATOR):
        assert again.score(TEXTS, y) == model.score(TEXTS, column)


def test_missing_and_repeated_names_of_a_column():
    rows = rows_of_names(["a;b;a", "", None, float("nan"), " c ;;"], ";")
    assert rows == [["a", "b"], [], [], [], ["c"]]


@pytest.mark.parametrize(
    ("y", "separator", "message"),
    [
        ([["a"], "b"], None, "row 1 is 'b'. Write \\[name\\]"),
        ([["a"], None], None, "row 1 holds None. Write \\[\\]"),
        ([["a", 3]], None, "row 0 holds 3. Write str"),
        ([["a"], ["b "]], None, "'b ' in row 1 has blanks"),
        ([["a"]], ";", "row 0 is \\['a'\\]. Leave `label_separator` out"),
        (np.eye(2), ";", "must be a column of texts because `label_separator` is given"),
        (["a"], "", "`label_separator` must be a text of one character"),
    ],
)
def test_what_is_no_list_of_names(y, separator, message):
    with pytest.raises(ValueError, match=message):
        rows_of_names(y, separator)


@pytest.mark.parametrize("y", [INDICATOR, INDICATOR.toarray(), INDICATOR.toarray().tolist()])
def test_what_is_an_indicator(y):
    assert rows_of_names(y) is None


def test_names_by_a_dict_of_texts():
    texts = {name: f"{name} or so" for name in [*NAMES, "rose"]}
    model = CentroidXC(label_features=texts, random_state=0).fit(TEXTS, LISTS)
    assert model.label_names_ == [*NAMES, "rose"]
    assert model.label_frequency_[-1] == 0
    assert model.predict_labels(["rose or so"], 1) == [["rose"]]
    columns = INDICATOR[:, [SORTED.index(name) for name in NAMES]]
    columns = sp.csr_array(sp.hstack([columns, sp.csr_array((40, 1), dtype=np.int64)]))
    holder = LabelTexts(list(texts.values()), list(texts))
    same = CentroidXC(random_state=0).fit(TEXTS, columns, label_features=holder)
    np.testing.assert_array_equal(same.predict_topk(TEXTS)[1], model.predict_topk(TEXTS)[1])
    with pytest.raises(ValueError, match="every label of `y`, but 1 have none, such as 'white'"):
        CentroidXC().fit(TEXTS, LISTS, label_features={n: n for n in NAMES if n != "white"})
    with pytest.raises(ValueError, match="which label a text belongs to"):
        CentroidXC().fit(TEXTS, LISTS, label_features=NAMES)


def test_a_frame_and_a_dict_are_matched_by_name():
    frame = pd.DataFrame(INDICATOR.toarray(), columns=SORTED)
    texts = {name: name for name in NAMES}
    model = CentroidXC(random_state=0).fit(TEXTS, frame, label_features=texts)
    expected = CentroidXC(random_state=0).fit(TEXTS, INDICATOR, label_features=SORTED)
    assert model.label_names_ == SORTED
    np.testing.assert_array_equal(
        model.decision_function(TEXTS), expected.decision_function(TEXTS).toarray()
    )


def test_members_of_a_fusion_see_one_order():
    members = [("near", knn()), ("tree", LinearTreeXC(random_state=0))]
    model = FusionXC(members, random_state=0).fit(TEXTS, LISTS)
    for member in model.estimators_:
        np.testing.assert_array_equal(member.label_frequency_, INDICATOR.sum(axis=0))
    assert model.predict_labels(["deep x"], 1) == [["deep"]]


def test_unknown_labels_are_misses_that_are_reported():
    model = knn().fit(TEXTS, LISTS)
    more = [[*row, "new"] if number < 10 else row for number, row in enumerate(LISTS)]
    with pytest.warns(UnknownLabelWarning, match="1 labels of `y`, such as 'new'.* 10 of"):
        assert model.score(TEXTS, more) == model.score(TEXTS, LISTS)
    with pytest.raises(ValueError, match="'new', were not there in fit"):
        model.score(TEXTS, more, unknown_labels="error")
    wide = sp.csr_array(sp.hstack([INDICATOR, np.arange(40)[:, None] < 10]))
    scores = model.decision_function(TEXTS)
    wide_scores = sp.csr_array((scores.data, scores.indices, scores.indptr), shape=wide.shape)
    weights = inverse_propensity(model.label_frequency_, 40)
    expected = evaluate(wide, wide_scores, inverse_propensity=np.append(weights, weights.max()))
    with pytest.warns(UnknownLabelWarning):
        result = evaluate(more, scores, inverse_propensity=weights, label_names=model.label_names_)
    assert result == expected
    with pytest.warns(UnknownLabelWarning):
        assert topk_scorer()(model, TEXTS, more).items() <= expected.items()
    with pytest.raises(ValueError, match="Pass `label_names`"):
        evaluate(LISTS, scores)


def test_folds_searches_and_pipelines_take_names():
    scorer = get_scorer("ndcg@3")
    lists = pd.Series(LISTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownLabelWarning)
        by_hand = []
        for train, test in FOLDS.split(TEXTS):
            model = knn().fit([TEXTS[i] for i in train], lists[train])
            by_hand.append(scorer(model, [TEXTS[i] for i in test], lists[test]))
        for y in (LISTS, lists, np.array([*LISTS, None], dtype=object)[:-1]):
            result = cross_validate(knn(), TEXTS, y, cv=FOLDS, scoring=scorer)
            assert result["test_score"].tolist() == by_hand
        column = [";".join(row) for row in LISTS]
        result = cross_validate(
            knn(), TEXTS, column, cv=FOLDS, scoring=scorer, params={"label_separator": ";"}
        )
        assert result["test_score"].tolist() == by_hand
        search = GridSearchCV(
            knn(), {"n_neighbors": [20]}, cv=FOLDS, scoring=scorer, error_score="raise"
        ).fit(TEXTS, LISTS)
        assert [search.cv_results_[f"split{i}_test_score"][0] for i in range(4)] == by_hand
        pipe = make_pipeline(FunctionTransformer(), knn())
        result = cross_validate(pipe, TEXTS, LISTS, cv=FOLDS, scoring=scorer)
        assert result["test_score"].tolist() == by_hand
        search = GridSearchCV(knn(), {}, cv=FOLDS, error_score="raise")
        search.fit(TEXTS, column, label_separator=";")
        assert search.best_estimator_.label_names_ == SORTED
    first, second, y_first, _ = train_test_split(TEXTS, LISTS, random_state=0)
    assert knn().fit(first, y_first).predict_labels(second, 1)


def test_out_of_fold_columns_are_those_of_all_rows():
    rare = [["only here"], *LISTS[1:]]
    scores = cross_val_predict(knn(), TEXTS, rare, cv=FOLDS)
    assert scores.shape == (40, 7)
    known = sorted({name for row in rare for name in row})
    for train, test in FOLDS.split(TEXTS):
        model = knn().fit([TEXTS[i] for i in train], [rare[i] for i in train])
        own = model.decision_function([TEXTS[i] for i in test]).toarray()
        columns = [known.index(name) for name in model.label_names_]
        np.testing.assert_array_equal(scores[test].toarray()[:, columns], own)
    texts = {name: name for name in [*NAMES, "only here", "no row"]}
    shape = cross_val_predict(CentroidXC(label_features=texts), TEXTS, rare, cv=2).shape
    assert shape == (40, 8)


def test_scores_and_frames():
    model = knn().fit(TEXTS, LISTS)
    names, scores = model.predict_labels(TEXTS[:5], 2, return_scores=True)
    indices, expected = model.predict_topk(TEXTS[:5], 2)
    assert names == model.predict_labels(TEXTS[:5], 2)
    assert scores == [row[ids >= 0].tolist() for row, ids in zip(expected, indices, strict=True)]
    probability = dense(model.predict_proba(TEXTS[:5]))
    series = pd.Series(TEXTS[:5], index=list("abcde"))
    frames = [model.predict_frame(series, 2), model.predict_frame(pl.Series(TEXTS[:5]), 2)]
    assert list(frames[0].columns) == ["text", "rank", "label", "probability"]
    assert isinstance(frames[1], pl.DataFrame)
    assert model.predict_frame(TEXTS[:5], 2, library="polars").equals(frames[1])
    for text, rank, label, value in frames[0].itertuples(index=False):
        row = "abcde".index(text)
        assert names[row][rank - 1] == label
        assert value == pytest.approx(probability[row, SORTED.index(label)], rel=1e-6)
    assert len(frames[0]) == len(frames[1]) == sum(map(len, names))
    with pytest.raises(ValueError, match="`library` must be"):
        model.predict_frame(TEXTS, library="arrow")


def test_frames_of_classes_have_the_probabilities_of_classes():
    model = knn().fit(TEXTS, np.array(["a", "b", "c", "b"] * 10))
    frame = model.predict_frame(TEXTS[:3], 2)
    assert frame["label"].iloc[::2].tolist() == model.predict(TEXTS[:3]).tolist()
    best = np.sort(model.predict_proba(TEXTS[:3]))[:, ::-1][:, :2]
    np.testing.assert_allclose(frame["probability"], best.ravel(), rtol=1e-6)


def test_a_threshold_per_label():
    model = knn().fit(TEXTS, LISTS)
    probability = dense(model.predict_proba(TEXTS))
    levels = np.linspace(0.1, 0.9, 6)
    expected = (probability >= levels) & (probability > 0)
    for value in (levels, levels.tolist(), dict(zip(SORTED, levels, strict=True))):
        np.testing.assert_array_equal(
            dense(model.set_params(threshold=value).predict(TEXTS)), expected
        )
    named = dense(model.set_params(threshold={"wine": 0.9}).predict(TEXTS))
    np.testing.assert_array_equal(named[:, 5], probability[:, 5] >= 0.9)
    np.testing.assert_array_equal(named[:, :5], probability[:, :5] >= 0.5)
    for bad, message in [
        ({"vine": 0.5}, "'vine' is none of the 6 labels"),
        ([0.5] * 5, "6 numbers from 0 to 1, one per label, but has the shape \\(5,\\)"),
        ([0.5] * 5 + [2.0], "values from 0.5 to 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            knn(threshold=bad).fit(TEXTS, LISTS)


def test_names_survive_a_folder(tmp_path):
    texts = {name: name for name in NAMES}
    model = DualEncoderXC(n_epochs=1, random_state=0, label_features=texts, threshold={"red": 0.2})
    model.fit(TEXTS, [";".join(row) for row in LISTS], label_separator=";")
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.predict_labels(TEXTS, 2) == model.predict_labels(TEXTS, 2)
    assert again.score(TEXTS, [";".join(row) for row in LISTS]) == model.score(TEXTS, LISTS)
    assert clone(again).get_params()["threshold"] == {"red": 0.2}
