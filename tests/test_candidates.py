"""`candidates`: only these labels, with the scores that a search for all labels gives."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from skxc import FusionXC, KNeighborsXC, LabelGraphXC, LabelTree, LearnedIndexXC, LinearTreeXC
from skxc.datasets import make_planted_xc
from skxc.utils._sparse import pack_topk
from tests.toys import ESTIMATORS, make, small_data, small_texts, takes_labels

DATA = make_planted_xc(n_samples=150, n_labels=40, n_test=12, random_state=0)
ALLOWED = [3, 4, 8, 11, 17, 20, 21, 29, 33, 39]
NAMES = [f"label {label}" for label in range(40)]


def fitted(estimator, **params):
    params = {"top_k": 40, "beam_width": 40, "vectorizer": TfidfVectorizer()} | params
    known = estimator().get_params(deep=False)
    model = make(estimator, **{name: value for name, value in params.items() if name in known})
    texts = [[NAMES[label] for label in row.indices] for row in DATA.train_labels]
    side = {}
    if takes_labels(estimator):
        side["label_features"] = dict(zip(NAMES, DATA.label_texts, strict=True))
    return model.fit(DATA.train_texts, texts, **side)


def as_table(found, n_labels=40, missing=-np.inf):
    """Return padded lists as an array of scores with one column per label."""
    labels, scores = found
    table = np.full((len(labels), n_labels), missing, dtype=np.float32)
    row, place = np.nonzero(labels >= 0)
    table[row, labels[row, place]] = scores[row, place]
    return table


@pytest.fixture(scope="module", params=ESTIMATORS, ids=lambda estimator: estimator.__name__)
def model(request):
    return fitted(request.param)


@pytest.mark.filterwarnings("ignore::UserWarning")
class TestEveryEstimator:
    def test_ten_labels_have_the_scores_of_a_search_for_all(self, model):
        # Ids of a sparse target are those of the labels that occur; of others those of the dict.
        n_labels = model.n_labels_
        allowed = [label for label in ALLOWED if label < n_labels]
        everything = as_table(model.predict_topk(DATA.test_texts, n_labels), n_labels)
        found = as_table(
            model.predict_topk(DATA.test_texts, n_labels, candidates=allowed), n_labels
        )
        others = np.setdiff1d(np.arange(n_labels), allowed)
        assert (found[:, others] == -np.inf).all()
        expected = everything[:, allowed]
        if isinstance(model, KNeighborsXC):  # labels without votes are not retrieved
            expected = np.maximum(expected, 0)
        np.testing.assert_allclose(found[:, allowed], expected, rtol=2e-6, atol=1e-7)

    def test_all_labels_are_no_restriction(self, model):
        n_labels = model.n_labels_
        names = model.label_names_
        ones = sp.csr_array(np.ones((12, n_labels)))
        for k in (3, None):
            expected = model.predict_topk(DATA.test_texts, k)
            for candidates in (range(n_labels), names, np.arange(n_labels), ones):
                found = model.predict_topk(DATA.test_texts, k, candidates=candidates)
                for mine, other in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(mine, other)

    def test_a_set_per_row(self, model):
        n_labels = model.n_labels_
        rng = np.random.default_rng(0)
        sets = rng.random((12, n_labels)) < 0.2
        sets[4] = False
        found = as_table(
            model.predict_topk(DATA.test_texts, n_labels, candidates=sp.csr_array(sets)), n_labels
        )
        for row in range(12):
            ids = np.flatnonzero(sets[row])
            alone = as_table(
                model.predict_topk(DATA.test_texts[row : row + 1], n_labels, candidates=ids),
                n_labels,
            )
            np.testing.assert_allclose(found[row], alone[0], rtol=2e-6, atol=1e-7)
        assert (found[4] == -np.inf).all()

    def test_best_first_and_k(self, model):
        labels, scores = model.predict_topk(DATA.test_texts, 3, candidates=ALLOWED[:5])
        assert labels.shape == (12, 3)
        everything = model.predict_topk(DATA.test_texts, candidates=ALLOWED[:5])
        np.testing.assert_array_equal(labels, everything[0][:, :3])
        assert (np.diff(scores, axis=1) <= 0).all()
        names = model.predict_labels(DATA.test_texts, 3, candidates=ALLOWED[:5])
        assert names == [[model.label_names_[i] for i in row if i >= 0] for row in labels]

    def test_probabilities_are_those_without_a_choice(self, model):
        allowed = ALLOWED[:5]
        frame = model.predict_frame(DATA.test_texts, candidates=allowed)
        usual = model.predict_frame(DATA.test_texts, model.n_labels_)
        both = frame.merge(usual, on=["text", "label"])
        assert set(frame["label"]) <= {model.label_names_[label] for label in allowed}
        assert len(both) >= 12
        np.testing.assert_allclose(both["probability_x"], both["probability_y"], rtol=1e-4)


@pytest.mark.parametrize("n_trees", [1, 3])
def test_labels_outside_the_beam(n_trees):
    tree = LabelTree(n_trees=n_trees, max_leaf_size=4, branching=2, flat=False)
    narrow = fitted(LinearTreeXC, tree=tree, beam_width=1, top_k=1)
    wide = fitted(LinearTreeXC, tree=tree, beam_width=40)
    expected = as_table(wide.predict_topk(DATA.test_texts, 40))
    assert np.isfinite(expected).all()
    assert np.isinf(as_table(narrow.predict_topk(DATA.test_texts, 40))).any()
    found = as_table(narrow.predict_topk(DATA.test_texts, 39, candidates=range(39)))
    np.testing.assert_array_equal(found[:, :39], expected[:, :39])
    one = as_table(narrow.predict_topk(DATA.test_texts, 39, candidates=["label 7"]))
    np.testing.assert_array_equal(one[:, 7], expected[:, 7])


@pytest.mark.parametrize("estimator", [LabelGraphXC, LearnedIndexXC])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_labels_outside_the_clusters_of_a_beam(estimator):
    model = fitted(estimator)
    n_labels = model.n_labels_
    everything = as_table(model.predict_topk(DATA.test_texts, n_labels), n_labels)
    beam = "beam_width" if estimator is LearnedIndexXC else "clusters__beam_width"
    model.set_params(**{beam: 1, "top_k": 2})
    narrow = as_table(model.predict_topk(DATA.test_texts, 2), n_labels)
    assert np.isinf(narrow).sum() > np.isinf(everything).sum()
    found = as_table(model.predict_topk(DATA.test_texts, candidates=[5, 6]), n_labels)
    np.testing.assert_allclose(found[:, 5:7], everything[:, 5:7], rtol=2e-6)


def test_a_fusion_scores_what_no_member_retrieved():
    members = [("tree", LinearTreeXC()), ("near", KNeighborsXC(vectorizer=TfidfVectorizer()))]
    model = fitted(FusionXC, estimators=members, vectorizer=None, method="linear", top_k=3)
    usual = as_table(model.predict_topk(DATA.test_texts, 3))
    found = as_table(model.predict_topk(DATA.test_texts, 39, candidates=range(39)))[:, :39]
    retrieved = np.isfinite(usual[:, :39])
    np.testing.assert_array_equal(found[retrieved], usual[:, :39][retrieved])
    # Others: the mixture of the calibrated exact scores of both members.
    rule, tables = model.combiner_, []
    for member, calibrator in zip(model.estimators_, rule.calibrators, strict=True):
        exact = as_table(member.predict_topk(DATA.test_texts, 39, candidates=range(39)))[:, :39]
        tables.append(calibrator.transform_array(exact))
    lists = [member.predict_topk(DATA.test_texts, 3) for member in model.estimators_]
    in_a_list = sum(pack_topk(*one, 40).toarray() != 0 for one in lists)[:, :39] > 0
    seen = model.member_frequency_[:39] > 0
    mixed = sum(share * table for share, table in zip(rule.shares, tables, strict=True))
    weight = np.log(model.model_.inverse_propensity(np.arange(39)))
    expected = np.log(mixed / (1 - mixed)) + rule.tilt * weight
    others = ~in_a_list & seen
    assert others.sum() > 100
    np.testing.assert_allclose(found[others], expected[others], rtol=1e-4)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (["label 1", "nope"], "none is called 'nope'. Leave it out"),
        ([0, 40], "ids from 0 to 39, but holds 40"),
        ([-1], "ids from 0 to 39, but holds -1"),
        ([0.5], "ids or names of labels, but holds 0.5"),
        ("label 1", "must be a sequence of label ids or names"),
        ({"label 1": 1}, "must be a sequence of label ids or names"),
        (np.eye(3), "must be a sequence of label ids or names"),
        (sp.eye_array(12, format="csr"), r"one column per label, \(12, 40\), but has"),
    ],
)
def test_what_is_no_label(candidates, message):
    model = fitted(LinearTreeXC)
    with pytest.raises(ValueError, match=message):
        model.predict_topk(DATA.test_texts, candidates=candidates)


def test_own_labels_of_samples_stay_left_out():
    texts, y, label_texts = small_texts(n=60)
    texts = [*label_texts, *texts[12:]]
    y = y.tolil()
    y[:12] = np.roll(np.eye(12), 1, axis=1)
    model = make(LinearTreeXC).fit(texts, sp.csr_array(y), label_features=label_texts)
    assert model.own_labels_ is not None
    found = model.predict_topk(label_texts[:1], candidates=[0, 1, 2])[0][0]
    assert set(found[found >= 0]) == {1, 2}


def test_classes_and_no_rows():
    X, _, _ = small_data()
    classes = np.array(["a", "b", "c"] * 10)
    model = LinearTreeXC(random_state=0).fit(X, classes)
    assert set(model.predict_topk(X[:1], candidates=["a", "c"])[0][0]) == {0, 2, -1}
    assert model.predict_topk(X[:0], candidates=["a"])[0].shape == (0, 3)
