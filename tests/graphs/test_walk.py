"""Walks against worked examples, dense closed forms, and a walk that really walks."""

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.graphs import RandomWalk
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
    np.testing.assert_allclose(RandomWalk(n_terms=30).visits(Y).toarray() / 400, VISITS, atol=2e-6)


def test_restart_1_is_one_step():
    np.testing.assert_allclose(RandomWalk(restart=1.0, length=1).visits(Y).toarray(), STEP)


def test_against_the_closed_form():
    y = toy()
    exact = RandomWalk(n_terms=25, width=60, length=1).visits(y).toarray()
    np.testing.assert_allclose(exact, series(y, 0.8), atol=1e-6)
    np.testing.assert_allclose(exact.sum(axis=1), 1, rtol=1e-6)
    few = RandomWalk(n_terms=3, width=60, length=1).visits(y).toarray()
    np.testing.assert_allclose(few.sum(axis=1), 1 - 0.2**3, rtol=1e-6)


def test_rare_restart_gives_frequencies_inside_a_component():
    y = sp.block_diag([toy(80, 12, 1, 0.3), toy(80, 9, 2, 0.3)], format="csr")
    y = sp.csr_array(y, dtype=np.float32)
    walk = RandomWalk(restart=0.01, n_terms=2000, width=21, length=1).visits(y).toarray()
    labels = np.asarray(y.sum(axis=0))
    for part in (slice(0, 12), slice(12, 21)):
        share = labels[part] / labels[part].sum()
        # The first steps still remember where they came from.
        np.testing.assert_allclose(walk[part, part], np.tile(share, (len(share), 1)), atol=0.03)
        assert walk[part].sum() == pytest.approx(walk[part, part].sum())


def test_it_reaches_labels_that_share_no_row():
    y = toy()
    walk = RandomWalk(n_terms=25, width=60, length=1).visits(y).toarray()
    apart = (y.T @ y).toarray() == 0
    assert 0.01 < walk[apart].sum() / walk.sum() < 0.2
    alone = RandomWalk(restart=1.0, width=60, length=1).visits(y).toarray()
    assert alone[apart].sum() == 0


def test_the_order_of_rows_does_not_matter():
    y = toy()
    shuffled = sp.csr_array(y[np.random.default_rng(3).permutation(400)])
    np.testing.assert_allclose(
        RandomWalk().visits(shuffled).toarray(), RandomWalk().visits(y).toarray(), rtol=1e-5
    )


def test_weights_are_repetitions():
    y, times = toy(50, 10), np.random.default_rng(4).integers(1, 4, size=50)
    repeated = sp.csr_array(y[np.repeat(np.arange(50), times)])
    weighted = RandomWalk().visits(y, times.astype(float)).toarray()
    np.testing.assert_allclose(weighted, RandomWalk().visits(repeated).toarray(), rtol=1e-5)
    np.testing.assert_allclose(
        RandomWalk(n_terms=25, length=1).visits(y, times).toarray(),
        series(y, 0.8, times),
        atol=1e-6,
    )


def test_labels_without_rows():
    y = toy(5, 30)
    empty = np.asarray(y.sum(axis=0)) == 0
    assert empty.any()
    walk = RandomWalk().visits(y)
    assert walk.shape == (30, 30)
    assert (np.diff(walk.indptr)[empty] == 0).all()
    assert (walk.toarray()[:, empty] == 0).all()


def test_blocks_are_one_walk(monkeypatch):
    y = toy()
    whole = RandomWalk().visits(y).toarray()
    monkeypatch.setattr("skxc.graphs._prune.BLOCK_ROWS", 7)
    np.testing.assert_allclose(RandomWalk().visits(y).toarray(), whole, rtol=1e-6)


def test_width_keeps_the_heaviest():
    row = np.array([[3.0, 0, 1, 2, 5], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    kept = _heaviest(sp.csr_array(row), 2).toarray()
    assert kept.tolist() == [[3, 0, 0, 0, 5], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert np.diff(RandomWalk(width=5).visits(toy()).indptr).max() < 12


@pytest.mark.parametrize("weighted", [False, True])
def test_a_simulation_follows_the_law(weighted):
    rng, dense = np.random.default_rng(0), Y.toarray()
    weight = np.array([1.0, 3, 1, 2]) if weighted else np.ones(4)
    n_steps, at, visits = 20_000, 0, np.zeros(4)
    for _ in range(n_steps):
        at = 0 if rng.random() < 0.8 else at
        rows = dense[:, at] * weight
        row = rng.choice(4, p=rows / rows.sum())
        at = rng.choice(4, p=dense[row] / dense[row].sum())
        visits[at] += 1
    expected = RandomWalk(n_terms=12, length=n_steps).visits(Y, weight).toarray()[0]
    np.testing.assert_allclose(visits / n_steps, expected / n_steps, atol=0.015)


def test_hubs():
    degree = np.array([3, 500, 501])
    assert RandomWalk().hubs(degree).tolist() == [False, False, True]
    assert not RandomWalk(hub_threshold=None).hubs(degree).any()


@pytest.mark.parametrize("name, value", [("restart", 0.0), ("restart", 1.1), ("n_terms", 0)])
def test_parameters_are_checked(name, value):
    with pytest.raises(ValueError, match=f"'{name}' parameter of RandomWalk must be"):
        RandomWalk(**{name: value})._validate_params()


# ---- more edges

EXAMPLE = sp.csr_array(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], dtype=np.float32))
LAW = np.array(
    [
        [0.472136, 0.498452, 0.027864, 0.001548],
        [0.026316, 0.473684, 0.473684, 0.026316],
        [0.001548, 0.027864, 0.498452, 0.472136],
    ]
)


def random_edges(n_rows=30, n_columns=20, seed=0):
    rng = np.random.default_rng(seed)
    edges = (rng.random((n_rows, n_columns)) < 0.12).astype(np.float32)
    edges[3] = 0
    edges[:, 5] = 0
    return sp.csr_array(edges)


def law_of_columns(edges, restart, n_terms=200):
    """W = p sum_j q^j (B A)^j B with dense matrices and rows that add up to 1."""
    dense = edges.toarray().astype(np.float64)
    out = dense / np.maximum(dense.sum(axis=1, keepdims=True), 1)
    back = (dense / np.maximum(dense.sum(axis=0), 1)).T
    visits = sum(
        restart * (1 - restart) ** term * np.linalg.matrix_power(out @ back, term) @ out
        for term in range(n_terms)
    )
    return visits / np.maximum(visits.sum(axis=1, keepdims=True), 1e-300)


def naive_densify(edges, visits, walk):
    """Add the best columns of every row, one by one."""
    dense = (edges.toarray() > 0).astype(np.float32)
    for row in range(len(dense)):
        new = [
            (-np.float32(visits[row, column]), column)
            for column in np.flatnonzero((dense[row] == 0) & (visits[row] >= 1 / walk.length))
        ]
        dense[row, [column for _, column in sorted(new)[: walk.top_k]]] = 1
    return dense


def test_the_law_of_the_worked_example():
    np.testing.assert_allclose(law_of_columns(EXAMPLE, 0.8), LAW, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"restart": 0.3, "length": 10**9}])
@pytest.mark.parametrize("n_terms", [1, 2, 4, 40])
def test_the_most_visited_columns_are_added(options, n_terms):
    edges, walk = random_edges(), RandomWalk(n_terms=n_terms, **options)
    expected = naive_densify(edges, law_of_columns(edges, walk.restart, n_terms), walk)
    dense = walk.densify(edges * 3)  # weights do not matter
    np.testing.assert_array_equal(dense.toarray(), expected)
    assert (dense.nnz > edges.nnz) == (n_terms > 1)
    assert dense.dtype == np.float32


def test_the_densified_example():
    expected = [[1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 1]]
    np.testing.assert_array_equal(RandomWalk().densify(EXAMPLE).toarray(), expected)
    # A walk of 1,000 steps also sees what 400 steps see less than once.
    assert RandomWalk(length=1000).densify(EXAMPLE).toarray().all()


def test_restart_1_adds_no_edge():
    np.testing.assert_array_equal(
        RandomWalk(restart=1.0).densify(EXAMPLE).toarray(), EXAMPLE.toarray()
    )


def test_blocks_densify_alike(monkeypatch):
    whole = RandomWalk().densify(random_edges()).toarray()
    monkeypatch.setattr("skxc.graphs._prune.BLOCK_ROWS", 7)
    np.testing.assert_array_equal(RandomWalk().densify(random_edges()).toarray(), whole)


def test_hubs_take_no_part_but_keep_their_edges():
    edges = np.zeros((12, 13), dtype=np.float32)
    edges[:, 0] = 1
    edges[np.arange(12), 1 + np.arange(12)] = 1
    edges = sp.csr_array(edges)
    assert RandomWalk().densify(edges).nnz > edges.nnz
    kept = RandomWalk(hub_threshold=11).densify(edges)
    np.testing.assert_array_equal(kept.toarray(), edges.toarray())


def test_no_edges():
    assert RandomWalk().densify(sp.csr_array((3, 4), dtype=np.float32)).nnz == 0
