"""Walked edges against the worked example, a dense closed form, and a simulation."""

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.graphs import as_ones, densify, visited_columns

EXAMPLE = sp.csr_array(np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], dtype=np.float32))
LAW = [
    [0.472136, 0.498452, 0.027864, 0.001548],
    [0.026316, 0.473684, 0.473684, 0.026316],
    [0.001548, 0.027864, 0.498452, 0.472136],
]


def random_edges(n_rows=30, n_columns=20, seed=0):
    rng = np.random.default_rng(seed)
    edges = (rng.random((n_rows, n_columns)) < 0.12).astype(np.float32)
    edges[3] = 0
    edges[:, 5] = 0
    return sp.csr_array(edges)


def closed_form(edges, restart):
    """W = p (I - q P)^-1 A, with dense inverses."""
    dense = edges.toarray().astype(np.float64)
    out = dense / np.maximum(dense.sum(axis=1, keepdims=True), 1)
    back = (dense / np.maximum(dense.sum(axis=0), 1)).T
    hop = out @ back
    return restart * np.linalg.inv(np.eye(len(dense)) - (1 - restart) * hop) @ out


class TestVisitedColumns:
    def test_the_worked_example(self):
        np.testing.assert_allclose(visited_columns(EXAMPLE, n_terms=30).toarray(), LAW, atol=1e-6)

    def test_five_terms_are_close(self):
        visits = visited_columns(EXAMPLE).toarray()
        assert 1e-7 < np.abs(visits - LAW).max() < 1e-4

    def test_two_terms_by_hand(self):
        # Unnormalised, row 0 is [.46 .48 .02 0], of mass 1 - 0.2 ** 2.
        visits = visited_columns(EXAMPLE, n_terms=2).toarray()
        np.testing.assert_allclose(visits[0] * 0.96, [0.46, 0.48, 0.02, 0], atol=1e-6)

    @pytest.mark.parametrize("restart", [0.3, 0.8])
    def test_the_closed_form(self, restart):
        edges = random_edges()
        visits = visited_columns(edges, restart=restart, n_terms=60)
        np.testing.assert_allclose(visits.toarray(), closed_form(edges, restart), atol=1e-5)

    @pytest.mark.parametrize("n_terms", [1, 2, 5])
    def test_rows_add_up_to_one(self, n_terms):
        edges = random_edges()
        total = visited_columns(edges, n_terms=n_terms).sum(axis=1)
        np.testing.assert_allclose(total, edges.sum(axis=1) > 0, atol=1e-12)

    def test_restart_one_gives_the_shares_of_the_edges(self):
        edges = random_edges()
        shares = edges.toarray() / np.maximum(edges.toarray().sum(axis=1, keepdims=True), 1)
        np.testing.assert_allclose(visited_columns(edges, restart=1.0).toarray(), shares)

    def test_simulated_and_exact_agree(self):
        edges = random_edges()
        rng = np.random.default_rng(0)
        simulated = visited_columns(edges, rng=rng, length=40_000).toarray()
        exact = visited_columns(edges, n_terms=30).toarray()
        assert 0 < np.abs(simulated - exact).max() < 0.01

    def test_the_seed_fixes_the_simulation(self):
        edges = random_edges()
        draws = [
            visited_columns(edges, rng=np.random.default_rng(seed), length=50).toarray()
            for seed in (0, 0, 1)
        ]
        assert np.array_equal(draws[0], draws[1])
        assert not np.array_equal(draws[0], draws[2])

    def test_weights_do_not_matter(self):
        edges = random_edges()
        heavy = edges * 3
        np.testing.assert_array_equal(
            visited_columns(heavy).toarray(), visited_columns(edges).toarray()
        )


class TestDensify:
    def test_union_keeps_every_edge_and_adds_new_ones(self):
        edges = random_edges()
        dense = densify(edges, top_k=2).toarray()
        assert (dense[edges.toarray() > 0] == 1).all()
        added = (dense > 0).sum(axis=1) - (edges.toarray() > 0).sum(axis=1)
        assert added.max() == 2
        assert set(np.unique(dense)) == {0, 1}

    def test_union_adds_the_most_visited(self):
        edges = random_edges()
        visits = visited_columns(edges).toarray()
        visits[edges.toarray() > 0] = 0
        dense = densify(edges, top_k=1, length=10**9).toarray()
        for row in np.flatnonzero(visits.any(axis=1)):
            new = np.flatnonzero((dense[row] > 0) & (edges.toarray()[row] == 0))
            assert visits[row, new].tolist() == [visits[row].max()]

    def test_replace_keeps_the_heaviest_only(self):
        edges = random_edges()
        dense = densify(edges, top_k=2, keep="replace", hub_threshold=None)
        assert np.diff(dense.indptr).max() == 2

    def test_a_row_of_many_edges_gains_none_by_replacement(self):
        # With p = 0.8 the raw edges hold most of the mass: the library's rule thins such rows.
        edges = sp.csr_array(np.array([[1] * 4 + [0] * 2, [0, 0, 0, 1, 1, 1]], dtype=np.float32))
        dense = densify(edges, top_k=4, keep="replace").toarray()
        np.testing.assert_array_equal(dense[0], edges.toarray()[0])

    def test_the_example(self):
        expected = [[1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 1]]
        np.testing.assert_array_equal(densify(EXAMPLE).toarray(), expected)
        # A walk of 1,000 hops also sees what 400 hops see less than once.
        assert densify(EXAMPLE, length=1000).toarray().all()

    def test_hubs_take_no_part_but_keep_their_edges(self):
        edges = np.zeros((12, 13), dtype=np.float32)
        edges[:, 0] = 1
        edges[np.arange(12), 1 + np.arange(12)] = 1
        edges = sp.csr_array(edges)
        assert densify(edges).nnz > edges.nnz
        for keep in ("union", "replace"):
            kept = densify(edges, keep=keep, hub_threshold=11)
            np.testing.assert_array_equal(kept.toarray(), edges.toarray())

    def test_no_edges(self):
        assert densify(sp.csr_array((3, 4), dtype=np.float32)).nnz == 0


def test_as_ones():
    graph = as_ones(sp.csr_array(np.array([[0, 2, 5], [3, 0, 0]], dtype=np.float32)))
    np.testing.assert_array_equal(graph.toarray(), [[0, 1, 1], [1, 0, 0]])
