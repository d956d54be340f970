import numpy as np
import pytest
import scipy.sparse as sp

from skxc.linear import search, train_trees
from skxc.linear._search import best_first, inverse_norms
from tests.linear.models import (
    SETTINGS,
    dense_model,
    random_model,
    small_problem,
    small_tree,
    train,
)


def naive_search(trees, x, k, beam_width, loss, n_labels):
    """Return [(label, score)] by beam search over dense weights, one float64 product per node."""
    norm = np.linalg.norm(x)
    x = x / norm if norm else x
    total = {}
    for tree in trees:
        beam = [(0.0, 0)]
        while True:
            candidates = []
            for score, node in beam:
                for child in range(tree.child_start[node], tree.child_start[node + 1]):
                    margin = x @ tree.weights[:, child] + tree.bias[child]
                    if loss == "logistic":
                        gain = -np.logaddexp(0, -margin)
                    else:
                        gain = -1e-3 / margin if margin >= 1 else -((1 - margin) ** 3) - 1e-3
                    candidates.append((max(score + gain, -50.0), child))
            if candidates[0][1] >= tree.n_inner:
                break
            beam = sorted(candidates, key=lambda pair: (-pair[0], pair[1]))[:beam_width]
        for score, child in candidates:
            label = tree.labels[child - tree.n_inner]
            total[label] = total.get(label, 0) + np.exp(score) / len(trees)
    ranked = sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
    return [(label, np.log(value)) for label, value in ranked]


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
@pytest.mark.parametrize("n_trees", [1, 3])
@pytest.mark.parametrize("beam_width", [1, 3, 50])
def test_search_against_dense_beam_search(loss, n_trees, beam_width):
    X, y = small_problem()
    trees = [small_tree(X, y, seed) for seed in range(n_trees)]
    joined = train_trees([(tree, 0) for tree in trees], X, y, **SETTINGS)[0]
    trees = [dense_model(tree, train(tree, X, y)) for tree in trees]
    X = sp.random_array((30, 40), density=0.2, random_state=np.random.default_rng(9), format="csr")
    X = sp.csr_array(X, dtype=np.float32)
    X[[3]] *= 0
    X.eliminate_zeros()
    indices, scores = search(joined, X, 12, beam_width=beam_width, loss=loss)
    assert indices.dtype == np.int32
    assert scores.dtype == np.float32
    for row, x in enumerate(X.toarray().astype(float)):
        expected = naive_search(trees, x, 12, beam_width, loss, 23)
        n = len(expected)
        assert n == 12 or beam_width < 50
        # Ids may differ where two scores agree to rounding, so these are compared by score.
        found = dict(zip(indices[row, :n].tolist(), scores[row, :n].tolist(), strict=True))
        np.testing.assert_allclose(scores[row, :n], [s for _, s in expected], rtol=1e-4, atol=1e-5)
        for label, score in expected[:-1]:
            assert found.get(label, score) == pytest.approx(score, rel=1e-4, abs=1e-5)
        assert len(found.keys() & {label for label, _ in expected}) >= n - 1
        assert (indices[row, n:] == -1).all()
        assert (scores[row, n:] == -np.inf).all()


def test_rows_are_searched_alone():
    _, model = random_model(0)
    X = sp.random_array((50, 40), density=0.2, random_state=np.random.default_rng(1), format="csr")
    X = sp.csr_array(X, dtype=np.float32)
    settings = {"k": 10, "beam_width": 2, "loss": "squared_hinge"}
    indices, scores = search(model, X, **settings)
    for row in range(50):
        alone = search(model, X[[row]], **settings)
        np.testing.assert_array_equal(alone[0][0], indices[row])
        np.testing.assert_array_equal(alone[1][0], scores[row])
    fewer = search(model, X, 4, beam_width=2, loss="squared_hinge")
    np.testing.assert_array_equal(fewer[0], indices[:, :4])


def test_threads_give_the_same_answer(monkeypatch):
    monkeypatch.setattr("skxc.linear._search.SEARCH_ROWS", 7)
    _, model = random_model(0)
    X = sp.csr_array(sp.random_array((50, 40), density=0.2, random_state=np.random.default_rng(1)))
    alone = search(model, X, 10, beam_width=2, loss="logistic")
    threads = search(model, X, 10, beam_width=2, loss="logistic", n_jobs=3)
    np.testing.assert_array_equal(alone[0], threads[0])
    np.testing.assert_array_equal(alone[1], threads[1])


def test_best_first():
    rng = np.random.default_rng(0)
    for trial in range(200):
        n, k = int(rng.integers(1, 30)), int(rng.integers(1, 35))
        scores = -rng.integers(0, 6, 30).astype(np.float32)
        ids = rng.permutation(100)[:30]
        expected = sorted(zip(-scores[:n], ids[:n], strict=True))[:k]
        found = best_first(scores, ids, n, k)
        assert found == min(n, k), trial
        assert list(zip(-scores[:found], ids[:found], strict=True)) == expected


def test_inverse_norms():
    X = sp.csr_array(np.array([[3.0, 4.0], [0.0, 0.0], [0.0, -0.5]], dtype=np.float32))
    assert inverse_norms(X.indptr, X.data).tolist() == [np.float32(0.2), 1, 2]
