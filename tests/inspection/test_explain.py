"""Explanations: terms add up to the score, effects are what leaving a word out costs, names."""

import warnings

import matplotlib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

from skxc import FusionXC, KNeighborsXC, LabelTree, LinearTreeXC, NeighborVotes
from skxc.inspection import explain
from skxc.inspection._explain import WORD
from tests.test_candidates import DATA, fitted
from tests.toys import ESTIMATORS, small_texts

matplotlib.use("Agg")
TEXT = DATA.test_texts[0]


@pytest.fixture(scope="module", params=ESTIMATORS, ids=lambda estimator: estimator.__name__)
def model(request):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fitted(request.param)


def score_of(model, X, label):
    labels, scores = model.predict_topk(X, 1, candidates=[label])
    assert (labels == label).all()
    return scores[:, 0]


@pytest.mark.filterwarnings("ignore::UserWarning")
class TestEveryEstimator:
    def test_terms_add_up_to_the_score(self, model):
        best = model.predict_topk(DATA.test_texts[:5], 3)[0]
        for text, labels in zip(DATA.test_texts[:5], best, strict=True):
            for label in labels[labels >= 0]:
                found = explain(model, text, int(label))
                assert found.score == pytest.approx(score_of(model, [text], label)[0], abs=1e-5)
                assert sum(found.terms.values()) == pytest.approx(found.score, abs=1e-5)

    def test_effects_are_what_a_missing_word_costs(self, model):
        found = explain(model, TEXT)
        assert found.label == model.predict_topk([TEXT], 1)[0][0, 0]
        assert found.name == model.predict_labels([TEXT], 1)[0][0]
        assert sorted(found.words) == sorted(set(TEXT.split()))
        assert (np.diff(found.effects) <= 0).all()
        for word, effect in zip(found.words[:3], found.effects, strict=False):
            without = " ".join(other for other in TEXT.split() if other != word)
            expected = found.score - score_of(model, [without], found.label)[0]
            assert effect == pytest.approx(expected, abs=1e-5)

    def test_probability(self, model):
        found = explain(model, TEXT)
        frame = model.predict_frame([TEXT], 1)
        assert found.probability == pytest.approx(frame["probability"][0], rel=1e-5)

    def test_it_prints_and_draws(self, model):
        found = explain(model, TEXT, samples=DATA.train_texts)
        lines = str(found).splitlines()
        assert lines[0].startswith(f"{found.name}: score {found.score:.3f}, probability")
        ax = found.plot()
        ticks = [tick.get_text() for tick in ax.get_yticklabels()]
        assert set(found.terms) <= set(ticks)
        assert found.words[0] in ticks
        lengths = [bar.get_width() for bar in ax.patches]
        assert lengths[0] == pytest.approx(found.effects[0])
        assert found.name in ax.get_title()
        matplotlib.pyplot.close(ax.figure)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["KNeighborsXC", "DualEncoderXC"])
def test_rows_that_voted(name):
    estimator = next(one for one in ESTIMATORS if one.__name__ == name)
    model = fitted(estimator, votes=NeighborVotes(weight=0.4), calibration=None)
    found = explain(model, TEXT, samples=DATA.train_texts)
    assert len(found.rows) > 1
    assert found.row_effects.sum() == pytest.approx(found.terms["votes"], abs=1e-5)
    assert (np.diff(found.row_effects) <= 0).all()
    assert (found.row_ids >= 0).all()
    assert found.rows == [DATA.train_texts[row] for row in found.row_ids]
    name = int(found.name.removeprefix("label "))
    assert (DATA.train_labels[found.row_ids][:, [name]].toarray() == 1).all()
    by_labels = explain(model, TEXT)
    assert all(found.name in row.split(", ") for row in by_labels.rows)
    assert (by_labels.row_ids == -1).all()


def test_rows_without_a_vote_do_not_count():
    model = KNeighborsXC(power=0, calibration=None).fit(np.eye(4), sp.csr_array(np.eye(4)))
    found = explain(model, np.eye(4)[:1], 0)
    assert found.score == found.row_effects.sum() == 1
    assert explain(model, np.eye(4)[:1], 3).rows == []


@pytest.mark.parametrize("n_trees", [1, 3])
def test_features_of_trees(n_trees):
    tree = LabelTree(n_trees=n_trees, max_leaf_size=4, branching=2, flat=False)
    model = fitted(LinearTreeXC, tree=tree)
    found = explain(model, TEXT)
    assert set(found.features) <= set(WORD.findall(TEXT.lower()))
    # The margins of all classifiers on the way change by the weights when a feature goes.
    weights = model.weights_
    row = model.vectorizer_.transform([TEXT]).tocsr()
    names = model.vectorizer_.get_feature_names_out()
    values = dict(zip(names[row.indices], row.data / np.linalg.norm(row.data), strict=True))
    dense = np.zeros((len(weights.bias), len(names)))
    from skxc.linear._steps import _weights

    for child in np.flatnonzero(weights.parents >= 0):
        features, products = _weights(weights, np.arange(len(names)), np.ones(len(names)), child)
        dense[child, features] = products
    on_the_way = np.zeros(len(names))
    for leaf in weights.leaves[:, found.label]:
        node = leaf
        while weights.parents[node] >= 0:
            on_the_way += dense[node] / n_trees
            node = weights.parents[node]
    for name, weight in zip(found.features, found.weights, strict=True):
        expected = on_the_way[names.tolist().index(name)] * values[name]
        assert weight == pytest.approx(expected, abs=1e-6)


def test_shares_and_members_of_a_fusion():
    members = [("tree", LinearTreeXC()), ("near", KNeighborsXC(vectorizer=TfidfVectorizer()))]
    model = fitted(FusionXC, estimators=members, vectorizer=None, method="linear")
    found = explain(model, TEXT, samples=DATA.train_texts)
    assert set(found.shares) == set(found.members) == {"tree", "near"}
    assert sum(found.shares.values()) == pytest.approx(1)
    for name, member in found.members.items():
        estimator = model.named_estimators_[name]
        assert member.score == pytest.approx(score_of(estimator, [TEXT], found.label)[0], abs=1e-5)
    assert found.members["near"].rows
    assert found.members["near"].name == found.name
    p = np.array([
        calibrator.transform_array([found.members[name].score])[0]
        for name, calibrator in zip(found.shares, model.combiner_.calibrators, strict=True)
    ])  # fmt: skip
    expected = p * model.combiner_.shares / (p * model.combiner_.shares).sum()
    np.testing.assert_allclose(list(found.shares.values()), expected, rtol=1e-4)


def test_features_of_a_matrix():
    X = TfidfVectorizer().fit(DATA.train_texts)
    rows = X.transform(DATA.train_texts)
    model = KNeighborsXC().fit(rows, DATA.train_labels)
    row = X.transform([TEXT])
    found = explain(model, row)
    assert len(found.words) == row.nnz
    first = int(found.words[0].removeprefix("feature "))
    without = row.toarray()
    without[0, first] = 0
    expected = found.score - score_of(model, without, found.label)[0]
    assert found.effects[0] == pytest.approx(expected, abs=1e-5)


def test_what_cannot_be_explained():
    model = fitted(LinearTreeXC)
    with pytest.raises(ValueError, match="none is called 'nope'"):
        explain(model, TEXT, "nope")
    with pytest.raises(ValueError, match="`text` must be one sample, but holds 2"):
        explain(model, [TEXT, TEXT])
    with pytest.raises(ValueError, match="must be an estimator of this package"):
        explain(TfidfVectorizer(), TEXT)
    y = sp.csr_array(np.hstack([DATA.train_labels.toarray(), np.zeros((150, 1), dtype=int)]))
    bare = LinearTreeXC(random_state=0).fit(DATA.train_texts, y)
    with pytest.raises(ValueError, match="`label` must be one that the model can score, but '40'"):
        explain(bare, TEXT, 40)


def test_words_of_the_label_have_the_largest_effects():
    texts, y, label_texts = small_texts(n=150, n_labels=8)
    model = LinearTreeXC(random_state=0).fit(texts, y, label_features=label_texts)
    found = [explain(model, text) for text in texts[:30]]
    hits = [one.words[0] in label_texts[one.label].split() for one in found]
    assert np.mean(hits) > 0.9
