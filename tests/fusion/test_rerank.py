"""Joining the scores of a model and of a ranker of its candidates."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator

from skxc.fusion import RerankFusion, score_candidates, takes
from skxc.utils._sparse import rank_rows


def pairs(n=300, n_labels=30, depth=10, seed=0, noise=(1.0, 1.0)):
    """Return candidates with two noisy scores, and what is relevant."""
    rng = np.random.default_rng(seed)
    columns = np.sort(np.argsort(rng.random((n, n_labels)), axis=1)[:, :depth], axis=1).ravel()
    quality = rng.normal(size=n * depth)
    indptr = np.arange(0, n * depth + 1, depth)
    hits = quality > 1.2
    base, ranker = (quality + scale * rng.normal(size=n * depth) for scale in noise)

    def matrix(data):
        return sp.csr_array((data.astype(np.float32), columns, indptr), shape=(n, n_labels))

    truth = matrix(hits.astype(float)).copy()
    truth.eliminate_zeros()
    return matrix(base), matrix(ranker), truth


def hit_rate(scores, y):
    best, _ = rank_rows(scores, 1)
    return y.toarray()[np.arange(len(best)), best[:, 0]].mean()


FREQUENCY = np.arange(30) + 1


def test_two_scores_are_better_than_one():
    base, ranker, y = pairs()
    fusion = RerankFusion().fit(base, ranker, y, FREQUENCY)
    new_base, new_ranker, new_y = pairs(seed=1, n=2000)
    fused = fusion.join(new_base, new_ranker, FREQUENCY)
    assert hit_rate(fused, new_y) > max(hit_rate(new_base, new_y), hit_rate(new_ranker, new_y))
    assert 0 < fusion.weight_ <= 1


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_ranker_changes_nothing(value):
    base, ranker, y = pairs()
    ranker.data[:] = value
    fusion = RerankFusion().fit(base, ranker, y, FREQUENCY)
    assert fusion.weight_ == 0
    assert (fusion.join(base, ranker, FREQUENCY) != base).nnz == 0


def test_the_better_score_gets_the_weight():
    base, ranker, y = pairs(noise=(5.0, 0.3))
    assert RerankFusion().fit(base, ranker, y, FREQUENCY).weight_ >= 0.8
    base, ranker, y = pairs(noise=(0.3, 5.0))
    assert RerankFusion().fit(base, ranker, y, FREQUENCY).weight_ <= 0.4


def test_candidates_stay():
    base, ranker, y = pairs()
    fused = RerankFusion().fit(base, ranker, y, FREQUENCY).join(base, ranker, FREQUENCY)
    np.testing.assert_array_equal(fused.indices, base.indices)
    np.testing.assert_array_equal(fused.indptr, base.indptr)
    assert fused.dtype == np.float32
    assert np.isfinite(fused.data).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_rows(n):
    base, ranker, y = pairs(n=n)
    fused = RerankFusion().fit(base, ranker, y, FREQUENCY).join(base, ranker, FREQUENCY)
    assert np.isfinite(fused.data).all()


def test_without_candidates():
    empty = sp.csr_array((4, 30), dtype=np.float32)
    y = sp.csr_array(np.eye(4, 30, dtype=np.float32))
    assert RerankFusion().fit(*pairs(), FREQUENCY).join(empty, empty, FREQUENCY).nnz == 0
    assert RerankFusion().fit(empty, empty, y, FREQUENCY).join(empty, empty, FREQUENCY).nnz == 0


class Dense(BaseEstimator):
    def fit(self, X, y):
        self.scores_ = np.arange(12.0).reshape(3, 4)
        return self

    def decision_function(self, X):
        return self.scores_


class Sparse(Dense):
    def decision_function(self, X):
        return sp.csr_array([[5.0, 0, -2.0, 0], [0, 0, 0, 0], [0, 1.0, 0, 0]])


class Asked(Dense):
    def fit(self, X, y, *, candidates):
        return self

    def decision_function(self, X, *, candidates):
        return candidates * 2


def test_scores_of_candidates_from_any_ranker():
    candidates = sp.csr_array([[1.0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]])
    features = sp.csr_array(np.eye(3))
    asked = Asked()
    assert takes(asked, "candidates")
    assert not takes(Dense(), "candidates")
    assert score_candidates(asked, features, candidates).data.tolist() == [2] * 5
    dense = score_candidates(Dense().fit(features, None), features, candidates)
    assert dense.data.tolist() == [0, 1, 6, 9, 11]
    # Left out by the ranker: below all of the row.
    sparse = score_candidates(Sparse().fit(features, None), features, candidates)
    assert sparse.data.tolist() == [5, -3, -1, 1, -1]
    for scores in (dense, sparse):
        np.testing.assert_array_equal(scores.indices, candidates.indices)
