"""What users hand in, whole or not: matrices, texts, names, weights, vectorisers."""

from __future__ import annotations

import warnings
from collections import UserList, deque
from collections.abc import Sequence

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, make_pipeline

from skxc import (
    AnchorGraph,
    DualEncoderXC,
    FusionXC,
    KNeighborsXC,
    LabelGraph,
    LabelTexts,
    LabelTree,
    LinearTreeXC,
    NeighborVotes,
)
from skxc.calibration import TopKCalibrator
from skxc.datasets import XCDataset
from skxc.estimators._fusion.members import check_shares
from skxc.graphs import cooccurrence
from skxc.model_selection import cross_validate
from tests.toys import CentroidXC, SampleGraphXC

TEXTS = ["red wine", "white wine", "deep learning", "machine learning", "red grape", "deep red"]
Y = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0], [0, 1, 0]])
WHOLE = sp.csr_array(np.eye(6))


# ---- matrices


def with_column(column):
    matrix = sp.csr_array(np.eye(6))
    matrix.indices[2] = column
    return matrix


def with_pointers(position, value):
    matrix = sp.csr_array(np.eye(6))
    matrix.indptr[position] = value
    return matrix


def shortened(part):
    matrix = sp.csr_array(np.eye(6))
    setattr(matrix, part, getattr(matrix, part)[:-1])
    return matrix


def broken_csc():
    matrix = sp.csc_array(np.eye(6))
    matrix.indices[3] = 10**6
    return matrix


def broken_coo():
    matrix = sp.coo_array(np.eye(6))
    matrix.coords[0][1] = -1
    return matrix


def broken_bsr():
    matrix = sp.bsr_array(sp.csr_array(np.eye(6)), blocksize=(2, 2))
    matrix.indices[0] = 7
    return matrix


def broken_lil():
    matrix = sp.lil_array(np.eye(6))
    matrix.rows[0] = [99]
    return matrix


BROKEN = {
    "beyond": lambda: with_column(6),
    "far": lambda: with_column(2**31 - 1),
    "negative": lambda: with_column(-1),
    "falling": lambda: with_pointers(2, 5),
    "start": lambda: with_pointers(0, 1),
    "end": lambda: with_pointers(6, 2**20),
    "indptr": lambda: shortened("indptr"),
    "data": lambda: shortened("data"),
    "csc": broken_csc,
    "coo": broken_coo,
    "bsr": broken_bsr,
    "lil": broken_lil,
}
MESSAGE = "must be a sparse matrix whose indices fit its shape"


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_matrices_are_refused_wherever_they_enter(kind):
    broken = BROKEN[kind]
    fitted = CentroidXC().fit(WHOLE, WHOLE)
    entries = {
        "X": [
            lambda: CentroidXC().fit(broken(), Y),
            lambda: fitted.predict_topk(broken()),
            lambda: fitted.decision_function(broken()),
            lambda: fitted.transform(broken()),
            lambda: fitted.score(broken(), WHOLE),
            lambda: cross_validate(CentroidXC(), broken(), WHOLE, cv=2),
        ],
        "y": [
            lambda: CentroidXC().fit(WHOLE, broken()),
            lambda: fitted.score(WHOLE, broken()),
            lambda: cross_validate(CentroidXC(), WHOLE, broken(), cv=2),
            lambda: cooccurrence(broken()),
        ],
        "adjacency": [
            lambda: LabelGraph(broken()),
            lambda: CentroidXC(graph=broken()).fit(WHOLE, WHOLE),
        ],
        "labels": [lambda: AnchorGraph(broken(), texts=TEXTS)],
        "texts": [
            lambda: LabelTexts(broken()),
            lambda: CentroidXC().fit(WHOLE, WHOLE, label_features=broken()),
            lambda: fitted.add_labels(broken()),
        ],
        "sample_graph": [lambda: SampleGraphXC().fit(WHOLE, WHOLE, sample_graph=broken())],
        "train_labels": [lambda: XCDataset(train_labels=broken())],
    }
    for name, calls in entries.items():
        for call in calls:
            with pytest.raises(ValueError, match=f"`{name}` {MESSAGE}"):
                call()


@pytest.mark.parametrize("estimator", [KNeighborsXC(), LinearTreeXC()], ids=str)
def test_compiled_estimators_refuse_broken_matrices(estimator):
    with pytest.raises(ValueError, match=f"`X` {MESSAGE}"):
        estimator.fit(with_column(-1), WHOLE)
    with pytest.raises(ValueError, match=f"`y` {MESSAGE}"):
        estimator.fit(WHOLE, with_column(10**9))
    with pytest.raises(ValueError, match=f"`X` {MESSAGE}"):
        estimator.fit(WHOLE, WHOLE).predict(with_column(10**9))


def test_a_check_changes_no_argument():
    long = sp.csr_array(np.eye(6, dtype=np.float32))
    long.data, long.indices = np.append(long.data, 1), np.append(long.indices, 5)
    parts = long.data, long.indices, long.indptr
    for part in parts:
        part.flags.writeable = False
    CentroidXC().fit(long, WHOLE).predict_topk(long)
    assert (long.data, long.indices, long.indptr) == parts


# ---- weights


@pytest.mark.parametrize("value", [1e-308, 1e-25, 1e19, 1e38, 1e308])
def test_weights_whose_products_overflow_are_refused(value):
    with pytest.raises(ValueError, match="`sample_weight` must hold weights with a sum from"):
        CentroidXC().fit(WHOLE, WHOLE, sample_weight=np.full(6, value))
    with pytest.raises(ValueError, match="`weights` must hold weights with a sum from"):
        check_shares([value, value, value, value], 4)
    value = min(max(value, 1e-30), 1e38)
    with pytest.raises(ValueError, match="`adjacency` must hold weights with a sum from"):
        LabelGraph(np.eye(6) * value)
    with pytest.raises(ValueError, match="`sample_graph` must hold weights with a sum from"):
        SampleGraphXC().fit(WHOLE, WHOLE, sample_graph=WHOLE * value)


def test_factors_whose_products_overflow_are_refused():
    for part, name in (
        (NeighborVotes(weight=1e30), "weight"),
        (LabelTree(graph_weight=1e30), "graph_w"),
    ):
        with pytest.raises(ValueError, match=name):
            (DualEncoderXC(votes=part) if name == "weight" else LinearTreeXC(tree=part)).fit(
                TEXTS, Y
            )


# ---- texts


class Column(Sequence):
    """A sequence that is neither a list nor a tuple."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, at):
        return self.items[at]


TEXT_FORMS = {
    "tuple": tuple,
    "array": np.array,
    "objects": lambda texts: np.array(texts, dtype=object),
    "column of an array": lambda texts: np.array(texts, dtype=object)[:, None],
    "strings of numpy": lambda texts: [np.str_(text) for text in texts],
    "Series": pd.Series,
    "string Series": lambda texts: pd.Series(texts, dtype="string"),
    "categories": lambda texts: pd.Series(texts, dtype="category"),
    "one-column frame": lambda texts: pd.DataFrame({"text": texts}),
    "polars Series": pl.Series,
    "polars frame": lambda texts: pl.DataFrame({"text": texts}),
    "UserList": UserList,
    "deque": deque,
    "Sequence": Column,
    "generator": lambda texts: (text for text in texts),
    "iterator": iter,
    "values": lambda texts: dict(enumerate(texts)).values(),
}
ESTIMATORS = [
    CentroidXC(),
    CentroidXC(vectorizer=TfidfVectorizer()),
    KNeighborsXC(vectorizer=TfidfVectorizer()),
]


@pytest.mark.parametrize("form", TEXT_FORMS)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_every_form_of_texts_gives_one_model(estimator, form):
    expected = estimator.fit(TEXTS, Y).predict_topk(TEXTS)
    found = estimator.fit(TEXT_FORMS[form](TEXTS), Y).predict_topk(TEXT_FORMS[form](TEXTS))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert LabelTexts(TEXT_FORMS[form](TEXTS)).texts.tolist() == TEXTS


@pytest.mark.parametrize("at", [0, 3, 5])
@pytest.mark.parametrize("bad", [None, np.nan, pd.NA, b"red", 3, ["red"]], ids=str)
def test_what_is_no_text_is_named_with_its_row(bad, at):
    texts = [*TEXTS]
    texts[at] = bad
    kind = type(bad).__name__
    match = f"`X` must hold strings only, but element {at} is a {kind}"
    fitted = CentroidXC().fit(TEXTS, Y)
    forms = [texts, tuple(texts), deque(texts), iter(texts)]
    if not isinstance(bad, list):
        forms += [pd.Series(texts, dtype=object), np.array(texts, dtype=object)[:, None]]
    for form in forms:
        with pytest.raises(ValueError, match=match):
            fitted.predict(form)
    for form in forms[:3]:
        for estimator in ESTIMATORS:
            with pytest.raises(ValueError, match=match):
                estimator.fit(form, Y)
    with pytest.raises(ValueError, match=f"`texts` must hold strings only, but element {at}"):
        LabelTexts(texts)


def test_bytes_get_an_advice():
    with pytest.raises(ValueError, match=r"element 0 is a bytes. Decode it"):
        CentroidXC().fit([text.encode() for text in TEXTS], Y)


@pytest.mark.parametrize(
    "value", [[], (), np.array([]), np.array([], dtype=str), pd.Series([], dtype=object), deque()]
)
@pytest.mark.parametrize("layout", ["sparse", "dense", "classes"])
def test_an_empty_batch_gives_empty_answers(value, layout):
    y = {"sparse": sp.csr_array(Y), "dense": Y, "classes": ["a", "b", "c"] * 2}[layout]
    n_columns = 3
    for estimator, X in [*((one, TEXTS) for one in ESTIMATORS), (CentroidXC(), np.eye(6))]:
        estimator.fit(X, y)
        assert estimator.predict_labels(value) == []
        assert estimator.predict_proba(value).shape == (0, n_columns)
        assert estimator.decision_function(value).shape == (0, n_columns)
        assert estimator.predict(value).shape[0] == 0
        assert [part.shape for part in estimator.predict_topk(value, k=2)] == [(0, 2), (0, 2)]
        if hasattr(estimator, "transform"):
            assert estimator.transform(value).shape == (0, estimator.transform(X).shape[1])


def test_no_texts_cannot_be_fitted():
    for estimator in ESTIMATORS:
        with pytest.raises(ValueError, match="`X` must hold at least one sample"):
            estimator.fit([], np.zeros((0, 3)))


def test_several_columns_of_texts_and_texts_for_features():
    frame = pd.DataFrame({"title": TEXTS, "body": TEXTS})
    with pytest.raises(ValueError, match=r"DataFrame of shape \(6, 2\) that holds texts"):
        CentroidXC().fit(frame, Y)
    with pytest.raises(ValueError, match=r"DataFrame of shape \(6, 2\)\. Pass a list of str"):
        CentroidXC().fit(TEXTS, Y).predict(frame)
    with pytest.raises(ValueError, match="must be a matrix of numbers, but is a list"):
        CentroidXC().fit(np.eye(6), Y).predict(TEXTS)


# ---- names and missing values


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b", "a"], "'a' is element 0 and element 2"),
        (["a", " b", "c"], "element 1, ' b', has blanks"),
        (["a", "b\u00a0", "c"], "element 1, .* has blanks"),
        (["\ufeffa", "b", "c"], "element 0, .* byte-order mark"),
        (["a", "", "c"], "element 1, '', is empty"),
        (["a", "b", "\t"], "element 2, .* is empty"),
        (["a", "b\tc", "d"], "element 1, .* holds a tab or a line break"),
        (["a", "b", "c\u2028d"], "element 2, .* holds a tab or a line break"),
        (["a", "b\rc", "d"], "element 1, .* holds a tab or a line break"),
    ],
)
def test_names_are_checked(names, message):
    with pytest.raises(ValueError, match=f"`names` .*{message}"):
        LabelTexts(TEXTS[:3], names=names)
    with pytest.raises(ValueError, match=message):
        CentroidXC().fit(TEXTS, pd.DataFrame(Y, columns=names))
    named = CentroidXC().fit(TEXTS, pd.DataFrame(Y, columns=["x", "y", "z"]))
    named.set_params(label_features=None)
    with pytest.raises(ValueError, match=f"`label_names` .*{message}"):
        named.add_labels(TEXTS[:3], label_names=names)


def test_added_names_are_new():
    named = CentroidXC().fit(TEXTS, pd.DataFrame(Y, columns=["x", "y", "z"]))
    with pytest.raises(ValueError, match="'y' is a label of the model"):
        named.add_labels(TEXTS[:2], label_names=["new", "y"])


@pytest.mark.parametrize("bad", [None, np.nan, pd.NA, pd.NaT], ids=str)
def test_missing_values_in_y_are_named_with_their_row(bad):
    classes = ["a", "b", "a", "b", "a", "b"]
    classes[4] = bad
    for y in (classes, tuple(classes), pd.Series(classes, dtype=object), np.array(classes, object)):
        with pytest.raises(ValueError, match="`y` must have no missing value, but row 4 holds"):
            CentroidXC().fit(TEXTS, y)
    cells = Y.astype(object)
    cells[3, 1] = bad
    for y in (cells, pd.DataFrame(cells)):
        with pytest.raises(ValueError, match=r"`y` .* but row 3, column 1 holds"):
            CentroidXC().fit(TEXTS, y)
    with pytest.raises(ValueError, match="but row 1 holds"):
        CentroidXC().fit(TEXTS, [["a"], bad, ["b"], [], [], []])


def test_missing_values_of_nullable_columns():
    numbers = pd.Series([0, 1, None, 1, 0, 1], dtype="Int64")
    with pytest.raises(ValueError, match="but row 2 holds"):
        CentroidXC().fit(TEXTS, numbers)
    with pytest.raises(ValueError, match="but row 2, column 1 holds"):
        CentroidXC().fit(TEXTS, pd.DataFrame({"a": [0] * 6, "b": numbers}))
    with pytest.raises(ValueError, match="but row 2 holds"):
        CentroidXC().fit(TEXTS, pl.Series([0, 1, None, 1, 0, 1]))


def test_other_values_in_a_sparse_y_are_named_with_their_row():
    y = sp.csr_array(Y * 1.0)
    y.data[-1] = np.nan
    with pytest.raises(ValueError, match=r"holds the values 1\.0, nan\. Row 5 is the first"):
        CentroidXC().fit(TEXTS, y)


# ---- vectorisers


@pytest.mark.parametrize("label_features", [None, ["wine", "red", "learning"]])
@pytest.mark.parametrize("kind", [KNeighborsXC, LinearTreeXC, CentroidXC])
def test_a_vocabulary_can_be_brought(kind, label_features, tmp_path):
    frozen = FrozenEstimator(TfidfVectorizer().fit(["red white wine", "grape"]))
    keywords = {} if kind is KNeighborsXC else {"label_features": label_features}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind(vectorizer=frozen).fit(TEXTS, Y, **keywords)
    assert sorted(model.vectorizer_.vocabulary_) == ["grape", "red", "white", "wine"]
    assert model.predict_labels(["white wine"], 1) in ([[0]], [[1]])


def test_a_selection_by_labels_needs_their_rows():
    chosen = make_pipeline(TfidfVectorizer(), SelectKBest(chi2, k=3))
    for y in (sp.csr_array(Y), Y, ["a", "b", "c"] * 2):
        model = CentroidXC(vectorizer=chosen).fit(TEXTS, y)
        assert model.vectorizer_.transform(["red"]).shape == (1, 3)
    union = FeatureUnion([("few", chosen), ("hashed", HashingVectorizer(n_features=8))])
    for vectorizer in (chosen, union):
        with pytest.raises(ValueError, match=r"SelectKBest learns from `y`.*FrozenEstimator"):
            CentroidXC(vectorizer=vectorizer, label_features=["a", "b", "c"]).fit(TEXTS, Y)
    frozen = FrozenEstimator(clone_fitted(chosen))
    CentroidXC(vectorizer=frozen, label_features=["red", "b", "c"]).fit(TEXTS, Y)


def clone_fitted(pipeline):
    return make_pipeline(TfidfVectorizer(), SelectKBest(chi2, k=3)).fit(TEXTS, Y)


@pytest.mark.parametrize(
    "estimator", [KNeighborsXC(vectorizer=TfidfVectorizer()), LinearTreeXC()], ids=str
)
def test_texts_without_known_words_are_counted(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.fit(TEXTS, Y).predict_topk(["red", "unheard of", ""])
        estimator.predict_topk([""])
    with pytest.warns(UserWarning, match="2 of 3 texts have no known word"):
        estimator.predict_topk(["red", "unheard of", "日本語"])
    with pytest.warns(UserWarning, match="1 of 1 texts have no known word"):
        estimator.predict_labels(["日本語"])


ONE_ANSWER = [
    KNeighborsXC(vectorizer=TfidfVectorizer()),
    LinearTreeXC(random_state=0),
    DualEncoderXC(n_epochs=1, random_state=0),
    DualEncoderXC(n_epochs=1, random_state=0, vectorizer=TfidfVectorizer()),
    FusionXC([("neighbors", KNeighborsXC(vectorizer=TfidfVectorizer())), ("tree", LinearTreeXC())]),
]


@pytest.mark.parametrize("estimator", ONE_ANSWER, ids=lambda model: type(model).__name__)
@pytest.mark.filterwarnings("ignore")
def test_a_text_without_anything_known_has_no_labels(estimator):
    reads_letters = isinstance(estimator, DualEncoderXC) and estimator.vectorizer is None
    texts = ["red", "", "?!", " \t", *([] if reads_letters else ["unheard"])]
    model = clone(estimator).fit(TEXTS, sp.csr_array(Y))
    for rows in (texts, *([text] for text in texts[1:])):
        indices, scores = model.predict_topk(rows, 2)
        first = 1 if len(rows) > 1 else 0
        assert (indices[:first] >= 0).any(axis=1).all()
        assert (indices[first:] == -1).all() and (scores[first:] == -np.inf).all()
        assert model.predict_proba(rows)[[len(rows) - 1]].nnz == 0
        assert model.predict(rows)[[len(rows) - 1]].nnz == 0
        assert model.predict_labels(rows)[first:] == [[]] * (len(rows) - first)


def test_a_fit_without_known_words_warns():
    vectorizer = TfidfVectorizer(vocabulary=["oak"])
    with pytest.warns(UserWarning, match="6 of 6 texts have no known word.*analyzer='char'"):
        CentroidXC(vectorizer=vectorizer).fit(TEXTS, Y)


# ---- calibration


def test_huge_k_and_broken_scores():
    model = CentroidXC(top_k=2**31).fit(np.eye(6), sp.csr_array(Y))
    assert model.predict_topk(np.eye(6))[0].shape == (6, 3)
    assert model.predict_topk(np.eye(6), k=2**62)[1].shape == (6, 3)
    assert model.decision_function(np.eye(6)).shape == (6, 3)
    with pytest.raises(ValueError, match=f"`scores` {MESSAGE}"):
        TopKCalibrator().fit(with_column(-1), WHOLE)


def test_short_and_huge_floats():
    short = CentroidXC().fit(np.eye(6, dtype=np.float16), Y.astype(np.float16))
    usual = CentroidXC().fit(np.eye(6), Y)
    np.testing.assert_array_equal(short.predict_proba(np.eye(6)), usual.predict_proba(np.eye(6)))
    huge = np.eye(6)
    huge[0, 0] = 1e300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="infinity or a value too large"):
            CentroidXC().fit(huge, Y)


def test_rows_of_different_lengths():
    model = CentroidXC().fit(np.eye(6), Y)
    with pytest.raises(ValueError, match="`X` must be a matrix of numbers, but its rows differ"):
        model.predict_topk([[1, 2], [3]])


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_label_features_beyond_float32_are_refused():
    X, y = sp.csr_array(np.eye(6)), sp.csr_array(np.eye(6, dtype=int))
    with pytest.raises(ValueError, match="`label_features` must be finite"):
        LinearTreeXC().fit(X, y, label_features=sp.csr_array(np.eye(6) * 1e308))
