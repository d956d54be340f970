import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from skxc.linear._solver import LOSSES, Problem, _shuffle, train_blocks

# Enough to reach the optimum within the tests' tolerance.
EXACT = {"tol": 1e-4, "max_iter": 2000, "prune": 0.0}


def problem(seed=0, n=60, d=25, m=7):
    """Return rows of length one (the first is empty), and targets in which a child has no row."""
    rng = np.random.default_rng(seed)
    X = sp.random_array((n, d), density=0.2, random_state=rng, format="csr", dtype=np.float32)
    X = X.toarray()
    X[0] = 0
    X /= np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-9)
    targets = (X @ rng.normal(size=(d, m)) + 0.3 * rng.normal(size=(n, m))) > 0.4
    targets[:, 2] = False
    return X.astype(np.float32), targets


def train(X, targets, *, cost=None, factor=None, loss="squared_hinge", blocks=None, seed=0, **kw):
    """Train the children of a root; return dense (d, m) weights, (m,) biases and the epochs."""
    settings = {"tol": 0.1, "max_iter": 30, "prune": 0.1, **kw}
    (n, d), m = X.shape, targets.shape[1]
    X, y = sp.csr_array(X), sp.csr_array(targets)
    cost = np.ones(n) if cost is None else cost
    factor = np.ones(1 + m) if factor is None else np.concatenate([[1], factor])
    blocks = np.array([(0, 1, m)] if blocks is None else blocks)
    problem = Problem(
        indptr=X.indptr.astype(np.int64),
        indices=X.indices.astype(np.int32),
        values=X.data,
        n_features=d,
        curvature=(1 + X.power(2).sum(axis=1)).astype(np.float32),
        diagonal=(0.5 / cost).astype(np.float32),
        node_indptr=y.indptr.astype(np.int64),
        nodes=y.indices.astype(np.int32) + np.int32(1),
        member_indptr=np.array([0, n]),
        members=np.arange(n, dtype=np.int32),
        factor=factor.astype(np.float32),
        loss=LOSSES[loss],
        tol=np.float32(settings["tol"]),
        max_iter=settings["max_iter"],
        prune=np.float32(settings["prune"]),
        seed=seed,
    )
    results = train_blocks(blocks, problem)
    weights, bias, epochs = np.zeros((d, m), np.float32), np.zeros(m, np.float32), []
    for (_, first, width), result in zip(blocks, results, strict=True):
        bias[first - 1 : first - 1 + width] = result[0]
        weights[result[1], result[2] + first - 1] = result[3]
        epochs.append(result[4])
    return weights, bias, epochs


def optimum(X, target, cost, loss):
    """Return weights and bias by a general-purpose minimiser."""
    X = np.column_stack([X, np.ones(len(X))]).astype(float)
    sign = np.where(target, 1.0, -1.0)

    def objective(w):
        margin = sign * (X @ w)
        if loss == "squared_hinge":
            gap = np.maximum(1 - margin, 0)
            value, slope = cost @ gap**2, -2 * cost * gap
        else:
            value, slope = cost @ np.logaddexp(0, -margin), -cost / (1 + np.exp(margin))
        return w @ w / 2 + value, w + X.T @ (slope * sign)

    found = minimize(objective, np.zeros(X.shape[1]), jac=True, tol=1e-12)
    return found.x[:-1], found.x[-1]


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
@pytest.mark.parametrize("C", [0.1, 1.0, 10.0])
def test_reaches_the_optimum(loss, C):
    X, targets = problem()
    rng = np.random.default_rng(1)
    weight, factor = rng.integers(1, 4, len(X)).astype(float), rng.uniform(0.5, 3, 7)
    weights, bias, _ = train(X, targets, cost=C * weight, factor=factor, loss=loss, **EXACT)
    for child in range(7):
        cost = C * weight * np.where(targets[:, child], factor[child], 1)
        expected, expected_bias = optimum(X, targets[:, child], cost, loss)
        np.testing.assert_allclose(weights[:, child], expected, atol=2e-3)
        np.testing.assert_allclose(bias[child], expected_bias, atol=2e-3)


def test_agrees_with_liblinear():
    X, targets = problem(seed=3)
    weights, bias, _ = train(X, targets[:, :2], cost=np.full(len(X), 2.0), **EXACT)
    logistic, _, _ = train(X, targets[:, :2], cost=np.full(len(X), 2.0), loss="logistic", **EXACT)
    for child in range(2):
        svc = LinearSVC(C=2.0, tol=1e-6, max_iter=100_000, random_state=0)
        svc.fit(X, targets[:, child])
        np.testing.assert_allclose(weights[:, child], svc.coef_[0], atol=2e-3)
        np.testing.assert_allclose(bias[child], svc.intercept_[0], atol=2e-3)
        regression = LogisticRegression(C=2.0, solver="liblinear", tol=1e-6)
        regression.fit(X, targets[:, child])
        np.testing.assert_allclose(logistic[:, child], regression.coef_[0], atol=2e-3)


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
def test_a_child_does_not_depend_on_its_block(loss):
    X, targets = problem(m=20)
    together = train(X, targets, loss=loss)
    alone = train(X, targets, loss=loss, blocks=[(0, 1 + c, 1) for c in range(20)])
    np.testing.assert_array_equal(together[0], alone[0])
    np.testing.assert_array_equal(together[1], alone[1])
    # Children stop at different epochs, so that some leave their block early.
    assert len(set(alone[2])) > 1
    assert together[2] == [max(alone[2])]


def test_pruning_drops_small_weights_only():
    X, targets = problem()
    full, bias, _ = train(X, targets, prune=0.0)
    pruned, same_bias, _ = train(X, targets, prune=0.3)
    np.testing.assert_array_equal(pruned, np.where(np.abs(full) >= 0.3, full, 0))
    np.testing.assert_array_equal(bias, same_bias)
    assert 0 < np.count_nonzero(pruned) < np.count_nonzero(full)


def test_epochs_and_seeds():
    X, targets = problem()
    assert train(X, targets, max_iter=1)[2] == [1]
    first, again, other = (train(X, targets, seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    loose, tight = train(X, targets, tol=1.0)[2], train(X, targets, tol=1e-3, max_iter=500)[2]
    assert loose < tight


def test_no_rows_and_no_features():
    empty = np.zeros((0, 5), np.float32)
    weights, bias, _ = train(empty, np.zeros((0, 3), bool))
    assert not weights.any()
    assert not bias.any()
    weights, bias, _ = train(np.zeros((4, 5), np.float32), np.eye(4, 3, dtype=bool), **EXACT)
    assert not weights.any()
    expected = optimum(np.zeros((4, 5)), np.eye(4)[:, 0], np.ones(4), "squared_hinge")[1]
    np.testing.assert_allclose(bias, expected, atol=1e-3)


def test_shuffle_gives_every_place_to_everyone():
    counts = np.zeros((6, 6))
    state = np.uint64(1)
    for _ in range(3000):
        order = np.arange(6)
        state = np.uint64(_shuffle(order, state))
        counts[np.arange(6), order] += 1
    assert counts.sum(axis=1).tolist() == [3000] * 6
    assert np.abs(counts - 500).max() < 120
