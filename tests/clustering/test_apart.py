import numpy as np
import pytest
import scipy.sparse as sp

from skxc.clustering import balanced_kmeans_apart


def leaves(n, n_apart, n_clusters, seed=0):
    rng = np.random.default_rng(seed)
    apart = np.zeros(n, dtype=bool)
    apart[rng.choice(n, n_apart, replace=False)] = True
    vectors = rng.normal(size=(n, 5))
    return balanced_kmeans_apart(vectors, apart, n_clusters=n_clusters, rng=rng), apart


@pytest.mark.parametrize("n_apart", [0, 1, 2, 7, 40, 99, 100])
@pytest.mark.parametrize("n_clusters", [1, 8, 16])
def test_every_row_in_one_leaf_and_no_mixing(n_apart, n_clusters):
    leaf, apart = leaves(100, n_apart, n_clusters)
    sizes = np.bincount(leaf)
    assert leaf.shape == (100,)
    assert (sizes > 0).all()
    assert not set(leaf[apart]) & set(leaf[~apart])
    others = np.bincount(leaf[~apart])
    if n_apart < 100:
        assert others.max() - others[others > 0].min() <= 1
    own = np.bincount(leaf[apart])
    own = own[own > 0]
    if n_apart > 0:
        assert own.max() - own.min() <= 1
        assert own.max() <= max(others.max(initial=0), -(-100 // n_clusters))


def test_enough_clusters_give_every_row_its_own():
    leaf, _ = leaves(10, 3, 10)
    assert leaf.tolist() == list(range(10))
    assert leaves(10, 3, 12)[0].tolist() == list(range(10))


def test_few_others_make_fewer_leaves():
    leaf, apart = leaves(10, 7, 8)
    assert len(set(leaf[~apart])) == 2


def test_near_rows_share_a_leaf():
    centres = np.eye(4).repeat(6, axis=0)
    vectors = centres + 0.05 * np.random.default_rng(0).normal(size=centres.shape)
    apart = np.zeros(24, dtype=bool)
    rng = np.random.default_rng(1)
    for rows in (vectors, sp.csr_array(vectors)):
        leaf = balanced_kmeans_apart(rows, apart, n_clusters=4, rng=rng)
        pairs = leaf.reshape(4, 6)
        assert np.mean([len(set(group)) for group in pairs]) <= 2
