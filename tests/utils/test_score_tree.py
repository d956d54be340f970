import pickle

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from skxc.utils._score_tree import ScoreTree


def pairs(seed=0, n=600):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    return X, rng.random(n) < 1 / (1 + np.exp(-3 * X[:, 0] * X[:, 1]))


@pytest.mark.parametrize("depth", [1, 3, 7])
def test_same_answers_as_the_tree_it_keeps(depth):
    X, y = pairs()
    tree = DecisionTreeClassifier(max_depth=depth, min_samples_leaf=20, random_state=0).fit(X, y)
    kept = ScoreTree(max_depth=depth).fit(X, y)
    fresh, _ = pairs(seed=1)
    probability = kept.predict_proba(fresh)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability, tree.predict_proba(fresh)[:, 1], rtol=1e-6)


@pytest.mark.parametrize("relevant", [True, False])
def test_one_class_only(relevant):
    X, _ = pairs()
    tree = ScoreTree().fit(X, np.full(len(X), relevant))
    np.testing.assert_array_equal(tree.predict_proba(X[:4]), float(relevant))


def test_few_pairs_and_none():
    tree = ScoreTree().fit([[0.0], [1.0], [1.0]], [0, 1, 0])
    np.testing.assert_allclose(tree.predict_proba([[0.0], [5.0]]), 1 / 3, rtol=1e-6)
    assert tree.predict_proba(np.empty((0, 1))).shape == (0,)


def test_state_is_arrays():
    tree = ScoreTree().fit(*pairs())
    state = {name: value for name, value in vars(tree).items() if name.endswith("_")}
    assert all(isinstance(value, np.ndarray) for value in state.values())
    X, _ = pairs()
    again = pickle.loads(pickle.dumps(tree))
    for array in vars(again).values():
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    np.testing.assert_array_equal(again.predict_proba(X), tree.predict_proba(X))
