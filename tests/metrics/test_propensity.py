"""Propensities by the formula, and both definitions of PSnDCG against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.metrics import evaluate, inverse_propensity, psndcg_at_k, psp_at_k
from tests.metrics.naive import naive, random_case, ranked_lists

PRESETS = {"default": (0.55, 1.5), "amazon": (0.6, 2.6), "wikipedia": (0.5, 0.4)}


def formula(frequency, n, a, b):
    return [1 + (math.log(n) - 1) * (b + 1) ** a * (f + b) ** -a for f in frequency]


@pytest.mark.parametrize("n", [3, 100, 10**6])
def test_the_formula(n):
    frequency = [0, 1, 2, 17, n]
    np.testing.assert_allclose(
        inverse_propensity(frequency, n), formula(frequency, n, 0.55, 1.5), rtol=1e-14
    )
    np.testing.assert_allclose(
        inverse_propensity(frequency, n, 0.3, 2), formula(frequency, n, 0.3, 2), rtol=1e-14
    )
    for preset, (a, b) in PRESETS.items():
        np.testing.assert_array_equal(
            inverse_propensity(frequency, n, preset=preset), inverse_propensity(frequency, n, a, b)
        )


def test_weights_fall_with_the_frequency_and_exceed_one():
    weights = inverse_propensity(np.arange(50), 3)
    assert weights.dtype == np.float64
    assert (np.diff(weights) < 0).all()
    assert (weights > 1).all()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_training_rows_are_explained(n):
    with pytest.raises(ValueError, match=rf"`n_samples` must be at least 3.*Got {n}"):
        inverse_propensity([0, 1], n)


def test_refusals():
    with pytest.raises(ValueError, match="`preset` must be one of default, amazon, wikipedia"):
        inverse_propensity([1], 10, preset="books")
    with pytest.raises(ValueError, match="must not be negative"):
        inverse_propensity([1], 10, a=-1)
    for frequency in ([[1, 0], [0, 1]], [-1.0], [np.nan]):
        with pytest.raises(ValueError, match="`label_frequency` must be one finite count"):
            inverse_propensity(frequency, 10)
    truth = np.eye(3, dtype=int)
    for weights in (np.ones(2), np.ones((3, 1)), [1, 0, 1], [1, np.nan, 1]):
        with pytest.raises(ValueError, match="3 positive finite weights"):
            psp_at_k(truth, truth.astype(float), weights)
    with pytest.raises(ValueError, match="`ratio_of` must be"):
        psndcg_at_k(truth, truth.astype(float), np.ones(3), ratio_of="rows")


@pytest.mark.parametrize("seed", range(60))
def test_against_loops(seed):
    truth, scores, filtered = random_case(seed)
    rng = np.random.default_rng(seed)
    weights = inverse_propensity(rng.integers(0, 5, size=truth.shape[1]), 50)
    k = seed % 6 + 1
    for pairs in (None, filtered):
        lists = ranked_lists(scores, pairs)
        for drop in (False, True):
            keywords = {"filter_pairs": pairs, "drop_empty_rows": drop}
            value = psp_at_k(sp.csr_array(truth), scores, weights, k, **keywords)
            assert value == pytest.approx(naive("psp", truth, lists, k, weights), abs=1e-12)
            for ratio_of in ("row_means", "sums"):
                value = psndcg_at_k(truth, scores, weights, k, ratio_of=ratio_of, **keywords)
                expected = naive("psndcg", truth, lists, k, weights, ratio_of=ratio_of)
                assert value == pytest.approx(expected, abs=1e-12)
                assert 0 <= value <= 1


def test_definitions_of_psndcg_differ_and_the_default_is_the_ratio_of_row_means():
    truth = np.array([[1, 1, 1, 1], [1, 0, 0, 0]])
    ids = np.array([[3, 2], [1, 0]])
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    d = 1 / math.log2(3)
    rows = (4 + 3 * d) / (1 + d) + d, (4 + 3 * d) / (1 + d) + 1
    assert psndcg_at_k(truth, ids, weights, 2) == pytest.approx(rows[0] / rows[1])
    sums = 4 + 3 * d + d, 4 + 3 * d + 1
    assert psndcg_at_k(truth, ids, weights, 2, ratio_of="sums") == pytest.approx(sums[0] / sums[1])


def test_best_labels_first_give_one_and_hits_of_rare_labels_count_more():
    truth = np.array([[1, 0, 1, 1], [0, 1, 0, 1]])
    weights = np.array([1.0, 5.0, 3.0, 2.0])
    best = np.array([[2, 3, 0], [1, 3, -1]])
    for k in (1, 2, 3):
        assert psp_at_k(truth, best, weights, k) == pytest.approx(1.0)
        assert psndcg_at_k(truth, best, weights, k) == pytest.approx(1.0)
    assert psp_at_k(truth, np.array([[0], [3]]), weights, 1) == pytest.approx(3 / 8)


def test_equal_weights_leave_precision_and_ndcg_normalised_by_the_best():
    truth, scores, _ = random_case(5, 9)
    one, seven = (psp_at_k(truth, scores, np.full(9, w), 3) for w in (1.0, 7.0))
    assert one == pytest.approx(seven)


@pytest.mark.parametrize("n_samples", [10**400, -(10**400), np.inf, np.nan, "7"])
def test_sizes_that_are_no_numbers_of_rows(n_samples):
    with pytest.raises(ValueError, match="`n_samples` must be"):
        inverse_propensity([7, 6], n_samples)


@pytest.mark.parametrize("weights", ["x", ["a", "b"], [None, 1.0]])
def test_weights_that_are_no_numbers(weights):
    with pytest.raises(ValueError, match="`inverse_propensity` must hold 2 positive finite"):
        evaluate(np.eye(2), np.eye(2), inverse_propensity=weights)
