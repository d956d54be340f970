"""Ranking metrics against plain loops, scikit-learn and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import f1_score, ndcg_score

from skxc import metrics
from tests.metrics.naive import naive, random_case, ranked_lists

FUNCTIONS = {
    "precision": metrics.precision_at_k,
    "recall": metrics.recall_at_k,
    "ndcg": metrics.ndcg_at_k,
    "coverage": metrics.coverage_at_k,
    "macro_f1": metrics.macro_f1_at_k,
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("seed", range(60))
def test_against_loops(name, seed):
    truth, scores, filtered = random_case(seed)
    k = seed % 6 + 1
    for pairs in (None, filtered):
        lists = ranked_lists(scores, pairs)
        for drop in (False, True):
            value = FUNCTIONS[name](
                sp.csr_array(truth), scores, k, filter_pairs=pairs, drop_empty_rows=drop
            )
            assert value == pytest.approx(
                naive(name, truth, lists, k, drop_empty_rows=drop), abs=1e-12
            )
            assert 0 <= value <= 1


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("n_labels", [1, 2, 3])
def test_very_few_labels(name, n_labels):
    for seed in range(10):
        truth, scores, _ = random_case(seed, n_labels)
        expected = naive(name, truth, ranked_lists(scores), 2)
        assert FUNCTIONS[name](truth, scores, 2) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_default_k_is_five_and_results_are_floats(name):
    truth, scores, _ = random_case(3, 11)
    value = FUNCTIONS[name](truth, scores)
    assert value == FUNCTIONS[name](truth, scores, 5)
    assert type(value) is float


def test_values_by_hand():
    # Row 0 has labels 0, 2, 3 and predicts 0, 1, 2; row 1 has label 1 and predicts 3, 1.
    truth = np.array([[1, 0, 1, 1], [0, 1, 0, 0]])
    ids = np.array([[0, 1, 2], [3, 1, -1]])
    assert metrics.precision_at_k(truth, ids, 3) == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert metrics.recall_at_k(truth, ids, 3) == pytest.approx((2 / 3 + 1) / 2)
    d = [1, 1 / math.log2(3), 1 / 2]
    expected = ((d[0] + d[2]) / sum(d) + d[1] / d[0]) / 2
    assert metrics.ndcg_at_k(truth, ids, 3) == pytest.approx(expected)
    assert metrics.coverage_at_k(truth, ids, 3) == pytest.approx(3 / 4)
    assert metrics.coverage_at_k(truth, ids, 1) == pytest.approx(1 / 4)
    # Label 0: F1 1, label 1: 2 / 3, label 2: 1, label 3: predicted once, occurs once, never right.
    assert metrics.macro_f1_at_k(truth, ids, 3) == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)


def test_perfect_predictions():
    truth = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]])
    for name in ("recall", "ndcg", "coverage"):
        assert FUNCTIONS[name](truth, truth.astype(float), 3) == 1.0
    assert metrics.precision_at_k(truth, truth.astype(float), 2) == 1.0
    assert metrics.macro_f1_at_k(truth, sp.csr_array(truth.astype(float)), 3) == 1.0


def test_ndcg_agrees_with_scikit_learn_without_ties():
    rng = np.random.default_rng(0)
    truth = (rng.random((30, 8)) < 0.4).astype(int)
    truth[:, 0] = 1
    scores = rng.permuted(np.tile(np.arange(8.0), (30, 1)), axis=1)
    for k in (1, 3, 8):
        assert metrics.ndcg_at_k(truth, scores, k) == pytest.approx(ndcg_score(truth, scores, k=k))


def test_macro_f1_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    truth = (rng.random((30, 8)) < 0.2).astype(int)
    scores = rng.normal(size=(30, 8))
    best = np.argsort(-scores, axis=1)[:, :3]
    predicted = np.zeros_like(truth)
    np.put_along_axis(predicted, best, 1, axis=1)
    expected = f1_score(truth, predicted, average="macro", zero_division=0)
    assert metrics.macro_f1_at_k(truth, scores, 3) == pytest.approx(expected)
