"""ECE against loops, a perfectly calibrated forecast and a useless one."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.calibration import TopKCalibrator
from skxc.metrics import ece_at_k, evaluate
from tests.metrics.naive import naive_ece, random_case, ranked_lists


@pytest.mark.parametrize("seed", range(40))
def test_against_loops(seed):
    truth, scores, filtered = random_case(seed)
    rng = np.random.default_rng(seed)
    scores.data = rng.choice([0.0, 1.0, 0.2, 0.5], size=scores.nnz) * rng.random(scores.nnz)
    k, n_bins = seed % 4 + 1, seed % 7 + 1
    for pairs in (None, filtered):
        lists = ranked_lists(scores, pairs)
        value = ece_at_k(truth, scores, k, n_bins=n_bins, filter_pairs=pairs)
        if any(lists):
            assert value == pytest.approx(naive_ece(truth, lists, k, n_bins), abs=1e-12)
        else:
            assert value == 0.0


def test_certainty_shares_a_bin_with_what_is_nearly_certain():
    assert ece_at_k([[0, 1]], np.array([[1.0, 0.98]]), 2) == pytest.approx(abs(1 - 1.98) / 2)


def test_only_the_best_k_count():
    truth = np.array([[1, 0, 0]])
    proba = np.array([[1.0, 0.5, 0.5]])
    assert ece_at_k(truth, proba, 1) == 0.0
    assert ece_at_k(truth, proba, 3) == pytest.approx(2 / 3 * 0.5)


def test_calibrated_forecasts_have_a_small_error_and_shifted_ones_do_not():
    rng = np.random.default_rng(0)
    proba = rng.random((2000, 3))
    truth = (rng.random(proba.shape) < proba).astype(int)
    assert ece_at_k(truth, proba, 3) < 0.03
    assert ece_at_k(truth, proba**3, 3) > 0.15


def test_calibrator_lowers_the_error_on_new_rows():
    rng = np.random.default_rng(0)
    scores = sp.csr_array(rng.normal(size=(4000, 5)))
    truth = (rng.random(scores.shape) < 1 / (1 + np.exp(3 - scores.toarray()))).astype(int)
    calibrator = TopKCalibrator().fit(scores[:2000], sp.csr_array(truth[:2000]))
    bare = sp.csr_array(1 / (1 + np.exp(-scores.toarray())))
    before = ece_at_k(truth[2000:], bare[2000:], 5)
    after = ece_at_k(truth[2000:], calibrator.transform(scores[2000:]), 5)
    assert before > 0.3
    assert after < 0.03


@pytest.mark.parametrize("bad", [-0.1, 1.1])
def test_values_outside_zero_and_one_are_refused(bad):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        ece_at_k([[1, 0]], np.array([[0.5, bad]]), 2)
    for k in (1, 2):  # ids are no probabilities, whatever their number
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            ece_at_k([[1, 0, 0]], np.array([[0, 1]]), k)
        with pytest.raises(ValueError, match="may be scores or label ids"):
            ece_at_k([[1, 0]], np.array([[0, 1]]), k)


def test_evaluate_computes_it_on_request_only():
    truth, proba = np.array([[1, 0]]), np.array([[0.75, 0.5]])
    result = evaluate(truth, proba, ks=[1], metrics=["precision", "ece"])
    assert result == {"precision@1": 1.0, "ece@1": 0.25}
    assert not any(name.startswith("ece") for name in evaluate(truth, proba))
