import numpy as np
import pytest
import scipy.sparse as sp

from skxc.graphs import random_walk, simulated_walk
from skxc.graphs._walk import _heaviest

Y = sp.csr_array(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [1, 0, 0, 1]]))
STEP = np.array([[0.5, 0.25, 0, 0.25], [0.25, 0.5, 0.25, 0], [0, 0.25, 0.75, 0], [0.5, 0, 0, 0.5]])
VISITS = np.array(
    [
        [0.486027, 0.250041, 0.014708, 0.249224],
        [0.250041, 0.472953, 0.263115, 0.013891],
        [0.014708, 0.263115, 0.721360, 0.000817],
        [0.498447, 0.027782, 0.001634, 0.472136],
    ]
)


def toy(n=400, n_labels=60, seed=0, density=0.03):
    rng = np.random.default_rng(seed)
    return sp.csr_array((rng.random((n, n_labels)) < density).astype(np.float32))


def series(y, restart, weight=None):
    """Return the visits of a walk of length 1 by matrix inversion."""
    dense = y.toarray().astype(float)
    weighted = dense if weight is None else dense * weight[:, None]
    step = (weighted / np.maximum(weighted.sum(axis=0), 1e-300)).T
    step = step @ (dense / np.maximum(dense.sum(axis=1, keepdims=True), 1))
    return restart * step @ np.linalg.inv(np.eye(len(step)) - (1 - restart) * step)


def test_worked_example():
    np.testing.assert_allclose(random_walk(Y, n_terms=30).toarray() / 400, VISITS, atol=2e-6)


def test_restart_1_is_one_step():
    np.testing.assert_allclose(random_walk(Y, restart=1.0, length=1).toarray(), STEP)


def test_against_the_closed_form():
    y = toy()
    exact = random_walk(y, n_terms=25, width=60, length=1).toarray()
    np.testing.assert_allclose(exact, series(y, 0.8), atol=1e-6)
    np.testing.assert_allclose(exact.sum(axis=1), 1, rtol=1e-6)
    few = random_walk(y, n_terms=3, width=60, length=1).toarray()
    np.testing.assert_allclose(few.sum(axis=1), 1 - 0.2**3, rtol=1e-6)


def test_rare_restart_gives_frequencies_inside_a_component():
    y = sp.block_diag([toy(80, 12, 1, 0.3), toy(80, 9, 2, 0.3)], format="csr")
    y = sp.csr_array(y, dtype=np.float32)
    walk = random_walk(y, restart=0.01, n_terms=2000, width=21, length=1).toarray()
    labels = np.asarray(y.sum(axis=0))
    for part in (slice(0, 12), slice(12, 21)):
        share = labels[part] / labels[part].sum()
        # The first steps still remember where they came from.
        np.testing.assert_allclose(walk[part, part], np.tile(share, (len(share), 1)), atol=0.03)
        assert walk[part].sum() == pytest.approx(walk[part, part].sum())


def test_it_reaches_labels_that_share_no_row():
    y = toy()
    walk = random_walk(y, n_terms=25, width=60, length=1).toarray()
    apart = (y.T @ y).toarray() == 0
    assert 0.01 < walk[apart].sum() / walk.sum() < 0.2
    alone = random_walk(y, restart=1.0, width=60, length=1).toarray()
    assert alone[apart].sum() == 0


def test_the_order_of_rows_does_not_matter():
    y = toy()
    shuffled = sp.csr_array(y[np.random.default_rng(3).permutation(400)])
    np.testing.assert_allclose(random_walk(shuffled).toarray(), random_walk(y).toarray(), rtol=1e-5)


def test_weights_are_repetitions():
    y, times = toy(50, 10), np.random.default_rng(4).integers(1, 4, size=50)
    repeated = sp.csr_array(y[np.repeat(np.arange(50), times)])
    weighted = random_walk(y, row_weight=times.astype(float)).toarray()
    np.testing.assert_allclose(weighted, random_walk(repeated).toarray(), rtol=1e-5)
    np.testing.assert_allclose(
        random_walk(y, n_terms=25, length=1, row_weight=times).toarray(),
        series(y, 0.8, times),
        atol=1e-6,
    )


def test_labels_without_rows():
    y = toy(5, 30)
    empty = np.asarray(y.sum(axis=0)) == 0
    assert empty.any()
    for walk in (random_walk(y), simulated_walk(y, rng=np.random.default_rng(0))):
        assert walk.shape == (30, 30)
        assert (np.diff(walk.indptr)[empty] == 0).all()
        assert (walk.toarray()[:, empty] == 0).all()


def test_blocks_are_one_walk(monkeypatch):
    y = toy()
    whole = random_walk(y).toarray()
    monkeypatch.setattr("skxc.graphs._walk.BLOCK_LABELS", 7)
    np.testing.assert_allclose(random_walk(y).toarray(), whole, rtol=1e-6)


def test_width_keeps_the_heaviest():
    row = np.array([[3.0, 0, 1, 2, 5], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    kept = _heaviest(sp.csr_array(row), 2).toarray()
    assert kept.tolist() == [[3, 0, 0, 0, 5], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert np.diff(random_walk(toy(), width=5).indptr).max() < 12


def test_simulation_follows_the_law():
    walk = simulated_walk(Y, length=40_000, rng=np.random.default_rng(0)).toarray()
    assert (walk.sum(axis=1) == 40_000).all()
    np.testing.assert_allclose(walk / 40_000, VISITS, atol=0.015)
    times = np.array([1.0, 3, 1, 2])
    weighted = simulated_walk(
        Y, length=40_000, rng=np.random.default_rng(0), row_weight=times
    ).toarray()
    np.testing.assert_allclose(weighted / 40_000, series(Y, 0.8, times), atol=0.015)


def test_simulation_is_seeded(monkeypatch):
    first, second, other = (
        simulated_walk(toy(), rng=np.random.default_rng(seed)).toarray() for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    monkeypatch.setattr("skxc.graphs._walk.BLOCK_LABELS", 7)
    assert (simulated_walk(toy(), rng=np.random.default_rng(0)).sum(axis=1) == 400).all()
