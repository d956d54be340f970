"""Linear classifiers on given candidates."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.svm import LinearSVC

from skxc.linear import SparseRanker


def data(seed=0, n=80, n_labels=5, n_features=12, n_block=4):
    """Return rows whose first columns are all stored, labels, and scores of candidates."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, n_features)) * (rng.random((n, n_features)) < 0.6)
    X[:, :n_block] += 0.01
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    scores = X @ rng.normal(size=(n_features, n_labels))
    y = scores > np.quantile(scores, 0.7, axis=0)
    candidates = rng.random((n, n_labels)) * (rng.random((n, n_labels)) < 0.5)
    as_csr = sp.csr_array
    return as_csr(X.astype(np.float32)), as_csr(y.astype(np.float32)), as_csr(candidates)


@pytest.mark.parametrize("n_block", [0, 4, 12])
def test_every_label_is_a_support_vector_machine_of_its_candidates(n_block):
    X, y, candidates = data(n_block=n_block)
    ranker = SparseRanker(tol=1e-4, max_iter=3000, prune=0.0).fit(X, y, candidates=candidates)
    margins = ranker.decision_function(X, candidates=candidates)
    for label in range(5):
        seen = (candidates.toarray()[:, label] > 0) | (y.toarray()[:, label] > 0)
        # A constant feature with the same penalty as the others.
        rows = np.hstack([X.toarray(), np.ones((80, 1))])
        machine = LinearSVC(C=1.0, fit_intercept=False, tol=1e-8, max_iter=100_000)
        machine.fit(rows[seen], y.toarray()[seen, label])
        asked = candidates.toarray()[:, label] > 0
        expected = machine.decision_function(rows[asked])
        np.testing.assert_allclose(margins.toarray()[asked, label], expected, atol=2e-3)


def test_answers_are_stored_where_candidates_are():
    X, y, candidates = data()
    margins = (
        SparseRanker().fit(X, y, candidates=candidates).decision_function(X, candidates=candidates)
    )
    np.testing.assert_array_equal(margins.indices, candidates.indices)
    np.testing.assert_array_equal(margins.indptr, candidates.indptr)
    assert margins.dtype == np.float32


def test_margins_are_weights_times_features():
    X, y, candidates = data()
    ranker = SparseRanker().fit(X, y, candidates=candidates)
    every = sp.csr_array(np.ones(candidates.shape))
    expected = X @ ranker.weights_.toarray().T + ranker.bias_
    margins = ranker.decision_function(X, candidates=every)
    np.testing.assert_allclose(margins.toarray(), expected, atol=1e-5)


def test_rows_that_are_no_candidates_do_not_matter():
    X, y, candidates = data()
    first = SparseRanker().fit(X, y, candidates=candidates)
    outside = (candidates.toarray() + y.toarray()).sum(axis=1) == 0
    candidates = candidates.toarray()
    candidates[:3], y = 0, y.toarray()
    y[:3] = 0
    changed = X.toarray()
    changed[:3] = 5
    second, third = (
        SparseRanker().fit(sp.csr_array(rows), sp.csr_array(y), candidates=sp.csr_array(candidates))
        for rows in (X.toarray(), changed)
    )
    assert not outside.all()
    np.testing.assert_array_equal(second.bias_, third.bias_)
    assert (second.weights_ != third.weights_).nnz == 0
    assert not np.array_equal(first.bias_, second.bias_)


def test_a_label_without_rows_gets_no_weights():
    X, y, candidates = data()
    y = y.toarray()
    y[:, 2] = 0
    ranker = SparseRanker().fit(X, sp.csr_array(y), candidates=candidates)
    assert ranker.weights_[[2]].nnz == 0
    assert ranker.bias_[2] == -1


def test_pruning_drops_small_weights():
    X, y, candidates = data()
    ranker = SparseRanker(prune=0.3).fit(X, y, candidates=candidates)
    full = SparseRanker(prune=0.0).fit(X, y, candidates=candidates)
    assert abs(ranker.weights_.data).min() >= 0.3
    assert ranker.weights_.nnz == (abs(full.weights_.data) >= 0.3).sum()


@pytest.mark.parametrize("changes", [{"C": 5.0}, {"n_negatives": 1}, {"max_iter": 1}])
def test_every_setting_does_something(changes):
    X, y, candidates = data()
    plain = SparseRanker().fit(X, y, candidates=candidates)
    changed = SparseRanker(**changes).fit(X, y, candidates=candidates)
    assert abs(plain.bias_ - changed.bias_).max() > 1e-3


def test_weights_of_rows_count():
    X, y, candidates = data()
    weight = np.where(np.arange(80) < 40, 3.0, 1e-6)
    exact = {"tol": 1e-4, "max_iter": 2000}
    weighted = SparseRanker(**exact).fit(X, y, candidates=candidates, sample_weight=weight)
    half = SparseRanker(C=3.0, **exact).fit(X[:40], y[:40], candidates=candidates[:40])
    np.testing.assert_allclose(weighted.bias_, half.bias_, atol=2e-3)


def test_it_is_an_estimator():
    with pytest.raises(ValueError, match="n_negatives"):
        SparseRanker(n_negatives=0).fit(*data()[:2], candidates=data()[2])
    assert clone(SparseRanker(C=2.0)).C == 2.0


def test_only_the_best_candidates_are_trained_on():
    X, y, candidates = data()
    best = candidates.toarray()
    best[best < best.max(axis=1, keepdims=True)] = 0
    first = SparseRanker(n_negatives=1).fit(X, y, candidates=candidates)
    second = SparseRanker().fit(X, y, candidates=sp.csr_array(best))
    np.testing.assert_array_equal(first.bias_, second.bias_)


def test_rows_of_the_labels_are_positive_rows_of_their_own_label():
    X, y, candidates = data()
    side = sp.csr_array(np.random.default_rng(3).random((5, 12)).astype(np.float32) + 0.01)
    exact = {"tol": 1e-4, "max_iter": 2000, "label_weight": 0.7}
    ranker = SparseRanker(**exact).fit(X, y, candidates=candidates, label_features=side)
    rows = sp.vstack([X, side], format="csr")
    more = sp.vstack([y, sp.eye_array(5)], format="csr")
    asked = sp.vstack([candidates, sp.csr_array((5, 5))], format="csr")
    weight = np.r_[np.ones(80), np.full(5, 0.7)]
    by_hand = SparseRanker(**exact).fit(rows, more, candidates=asked, sample_weight=weight)
    np.testing.assert_allclose(ranker.bias_, by_hand.bias_, atol=1e-3)
    plain = SparseRanker(**exact).fit(X, y, candidates=candidates)
    assert abs(ranker.bias_ - plain.bias_).max() > 0.01
