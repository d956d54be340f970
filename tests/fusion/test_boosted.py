import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from skxc import load
from skxc.fusion import BoostedTrees
from skxc.fusion._boosted import _cuts
from skxc.persistence import save


def pair_data(n=1500, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)).round(1)  # fewer values than bins: no quantiles
    odds = 2 * X[:, 0] - X[:, 1] * (X[:, 2] > 0) - 1
    return X, rng.random(n) < 1 / (1 + np.exp(-odds))


@pytest.mark.parametrize(
    ("weighted", "max_leaf_nodes"), [(False, 8), (True, 8), (False, 64), (False, 65), (True, 2)]
)
def test_log_odds_are_those_of_scikit_learn(weighted, max_leaf_nodes):
    X, y = pair_data()
    weight = np.random.default_rng(1).random(len(y)) if weighted else None
    least = 20 if max_leaf_nodes <= 8 else 2
    trees = BoostedTrees(max_iter=10, min_samples_leaf=least, max_leaf_nodes=max_leaf_nodes)
    trees.fit(X, y, weight)
    assert trees.feature_.shape == (10, 2 * max_leaf_nodes - 1)
    grown = HistGradientBoostingClassifier(
        early_stopping=False, random_state=0, **trees.get_params()
    ).fit(X, y, sample_weight=weight)
    other = pair_data(seed=5)[0]
    np.testing.assert_allclose(trees.log_odds(other), grown.decision_function(other), rtol=1e-12)
    # Thresholds lie on values of the data: equality must go left in both.
    np.testing.assert_allclose(trees.log_odds(X), grown.decision_function(X), rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_bins_of_many_values_are_about_equally_heavy(weighted):
    rng = np.random.default_rng(0)
    column = rng.normal(size=20_000).round(3)
    weight = rng.integers(0, 3, len(column)) if weighted else np.ones(len(column))
    cuts = _cuts(column, weight.astype(float))
    assert (np.diff(cuts) > 0).all()
    assert len(cuts) <= 254
    bins = np.searchsorted(cuts, column)
    heavy = np.bincount(bins, weights=weight) / weight.sum()
    values = np.bincount(np.unique(column, return_inverse=True)[1], weights=weight).max()
    assert heavy.max() <= 1 / 255 + values / weight.sum() + 1e-9
    assert (heavy > 0).all()


def test_thresholds_of_many_values_are_values():
    X = np.random.default_rng(0).normal(size=(3000, 2))
    trees = BoostedTrees(max_iter=1, max_leaf_nodes=2).fit(X, X[:, 1] > 0.5)
    assert trees.feature_[0, 0] == 1
    assert trees.threshold_[0, 0] == pytest.approx(0.5, abs=0.02)
    right = trees.log_odds(X) > trees.baseline_
    np.testing.assert_array_equal(right, X[:, 1] > trees.threshold_[0, 0])


def test_a_pair_does_not_depend_on_the_others():
    X, y = pair_data()
    trees = BoostedTrees(max_iter=5).fit(X, y)
    whole = trees.log_odds(X)
    np.testing.assert_array_equal(trees.log_odds(X[:1]), whole[:1])
    np.testing.assert_array_equal(trees.log_odds(np.asfortranarray(X[7:])), whole[7:])
    assert trees.log_odds(X[:0]).shape == (0,)


@pytest.mark.parametrize("y", [np.zeros(9, dtype=bool), np.ones(9, dtype=bool)])
def test_pairs_that_are_all_alike(y):
    trees = BoostedTrees().fit(np.zeros((9, 2)), y)
    expected = np.log((y.sum() + 1) / ((~y).sum() + 1))
    assert trees.log_odds(np.ones((3, 2))).tolist() == [expected] * 3


def test_few_pairs_grow_no_tree():
    X, y = pair_data(150)
    trees = BoostedTrees().fit(X, y)
    assert trees.feature_.shape[0] == 0
    assert len(set(trees.log_odds(X).tolist())) == 1
    assert BoostedTrees().fit(np.zeros((0, 2)), np.zeros(0)).log_odds(X[:2]).tolist() == [0, 0]


def test_save_and_load(tmp_path):
    X, y = pair_data()
    trees = BoostedTrees(max_iter=4).fit(X, y)
    save(trees, tmp_path / "trees")
    np.testing.assert_array_equal(load(tmp_path / "trees").log_odds(X), trees.log_odds(X))
