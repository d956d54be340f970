"""TopKCalibrator: order, range, smoothness, degenerate data, and Platt's curve against a grid."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skxc.calibration import TopKCalibrator

METHODS = ["auto", "isotonic", "platt"]


def to_csr(scores, ids, n_labels):
    n, k = scores.shape
    indptr = np.arange(0, n * k + 1, k, dtype=np.int32)
    return sp.csr_array((scores.ravel(), ids.ravel().astype(np.int32), indptr), shape=(n, n_labels))


def sample(n=60, k=5, n_labels=30, seed=0, curve=lambda s: 1 / (1 + np.exp(-1.5 * s))):
    """Draw scores of k labels per row and hits with probability curve(score)."""
    rng = np.random.default_rng(seed)
    ids = np.sort(np.argsort(rng.random((n, n_labels)), axis=1)[:, :k], axis=1)
    scores = to_csr(rng.normal(size=(n, k)).astype(np.float32), ids, n_labels)
    truth = scores.copy()
    truth.data = (rng.random(n * k) < curve(scores.data)).astype(np.float32)
    truth.eliminate_zeros()
    return scores, truth


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 3, 60, 2000])
def test_probabilities_are_inside_and_increase_strictly(method, n):
    scores, truth = sample(n=n)
    proba = TopKCalibrator(method=method).fit(scores, truth).transform(scores)
    assert isinstance(proba, sp.csr_array)
    assert proba.data.dtype == np.float64
    assert (proba.data > 0).all()
    assert (proba.data < 1).all()
    order = np.argsort(scores.data)
    rising = np.diff(scores.data[order]) > 0
    assert (np.diff(proba.data[order])[rising] > 0).all()


@pytest.mark.parametrize("method", ["isotonic", "platt"])
def test_order_survives_far_outside_the_fitted_range(method):
    calibrator = TopKCalibrator(method=method).fit(*sample())
    sizes = np.geomspace(1, 3e38, 200).astype(np.float32)
    far = np.concatenate([-sizes[::-1], np.nextafter(-sizes[::-1], np.float32(np.inf))])
    far = np.unique(np.concatenate([far, -far]))
    proba = calibrator.transform_array(far)
    assert (np.diff(proba) > 0).all()
    assert proba[0] > 0
    assert proba[-1] < 1


def test_isotonic_ties_keep_the_ranking():
    # Hits do not depend on the score, so isotonic regression alone is flat nearly everywhere.
    scores, truth = sample(n=3000, curve=lambda s: 0.3 + 0 * s)
    calibrator = TopKCalibrator().fit(scores, truth)
    assert calibrator.method_ == "isotonic"
    grid = np.linspace(-2, 2, 500)
    # Platt's share makes the rise visible, not only the tie breaker.
    assert (np.diff(calibrator.transform_array(grid)) > 1e-8).all()
    assert np.abs(calibrator.transform_array(grid) - 0.3).max() < 0.1


def test_transform_keeps_the_structure_and_the_input():
    scores, truth = sample()
    before = scores.copy()
    proba = TopKCalibrator().fit(scores, truth).transform(scores)
    np.testing.assert_array_equal(proba.indptr, before.indptr)
    np.testing.assert_array_equal(proba.indices, before.indices)
    assert proba.indices.dtype == np.int32
    np.testing.assert_array_equal(scores.data, before.data)
    proba.indices[:] = 0  # the result owns its arrays
    np.testing.assert_array_equal(scores.indices, before.indices)


def test_stored_zeros_and_negative_scores_are_scores():
    scores = sp.csr_array(
        (np.array([0.0, -1.0, 2.0]), np.array([0, 2, 1]), np.array([0, 2, 3])), shape=(2, 3)
    )
    truth = sp.csr_array(np.array([[1, 0, 0], [0, 1, 0]]))
    proba = TopKCalibrator().fit(scores, truth).transform(scores)
    assert proba.nnz == 3
    assert proba[0, 2] < proba[0, 0] < proba[1, 1]


def test_transform_array_agrees_with_transform_and_keeps_the_shape():
    scores, truth = sample(n=20, k=4, n_labels=4)
    calibrator = TopKCalibrator().fit(scores, truth)
    dense = calibrator.transform_array(scores.toarray())
    assert dense.shape == (20, 4)
    np.testing.assert_array_equal(dense, calibrator.transform(scores).toarray())
    assert calibrator.transform_array(0.5).shape == ()
    assert calibrator.transform_array(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "scores", "truth"),
    [
        ("no positives", [[1.0, 2.0, 3.0]], [[0, 0, 0]]),
        ("no negatives", [[1.0, 2.0, 3.0]], [[1, 1, 1]]),
        ("one distinct score", [[2.0, 2.0, 2.0]], [[1, 0, 0]]),
        ("one entry", [[2.0, 0.0, 0.0]], [[1, 0, 0]]),
        ("separable", [[-1e6, 1.0, 1e6]], [[0, 0, 1]]),
        ("against the score", [[-3.0, 1.0, 3.0]], [[1, 0, 0]]),
        ("nothing stored", [[0.0, 0.0, 0.0]], [[1, 0, 0]]),
        ("tiny scores", [[1e-30, 2e-30, 3e-30]], [[0, 0, 1]]),
        ("huge scores", [[1e30, 2e30, 3e30]], [[0, 0, 1]]),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_degenerate_data_give_increasing_probabilities(name, scores, truth, method):
    scores, truth = sp.csr_array(np.array(scores)), sp.csr_array(np.array(truth))
    calibrator = TopKCalibrator(method=method).fit(scores, truth)
    size = np.abs(scores.data).max(initial=1.0)
    proba = calibrator.transform_array(size * np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0]))
    assert np.isfinite(proba).all()
    assert (np.diff(proba) > 0).all()
    assert proba[0] > 0
    assert proba[-1] < 1


def test_base_rates_of_degenerate_data_are_smoothed():
    ones = sp.csr_array(np.ones((1, 8)))
    none = TopKCalibrator().fit(ones, sp.csr_array((1, 8))).transform_array(1.0)
    every = TopKCalibrator().fit(ones, ones).transform_array(1.0)
    assert none == pytest.approx(1 / 10, abs=1e-4)
    assert every == pytest.approx(9 / 10, abs=1e-4)


def test_platt_reaches_the_minimum_of_its_loss():
    scores, truth = sample(n=40)
    calibrator = TopKCalibrator(method="platt").fit(scores, truth)
    hits = truth.toarray()[np.nonzero(scores.toarray())]
    z = (scores.data.astype(float) - scores.data.mean(dtype=float)) / scores.data.std(dtype=float)
    n_hits = hits.sum()
    targets = [(n_hits + 1) / (n_hits + 2) if h else 1 / (len(z) - n_hits + 2) for h in hits]

    def loss(a, b):
        total = 0.0
        for score, target in zip(z, targets, strict=True):
            p = 1 / (1 + np.exp(-(a * score + b)))
            total -= target * np.log(p) + (1 - target) * np.log(1 - p)
        return total

    a, b = calibrator.slope_, calibrator.intercept_
    best = loss(a, b)
    for da, db in [(1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3), (1e-3, 1e-3), (-1e-3, 1e-3)]:
        assert loss(a + da, b + db) > best


def test_slope_bounds_and_the_intercept_that_goes_with_them():
    rng = np.random.default_rng(0)
    scores = sp.csr_array(rng.normal(size=(50, 4)))
    against = sp.csr_array((scores.toarray() < -1).astype(float))
    calibrator = TopKCalibrator(method="platt").fit(scores, against)
    assert calibrator.slope_ == 0.01
    mean = calibrator.transform(scores).data.mean()
    assert mean == pytest.approx(against.nnz / scores.nnz, abs=0.01)


def test_fit_is_safe_on_heavy_tails():
    """At the optimum, probabilities and targets have one sum; plain Newton steps diverge."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(40, 60))
        score = rng.standard_cauchy(n)
        hit = score > np.quantile(score, rng.random())
        scores = sp.csr_array((score, np.arange(n), np.array([0, n])), shape=(1, n))
        calibrator = TopKCalibrator(method="platt").fit(scores, sp.csr_array(hit[None]))
        z = (score - calibrator.center_) / calibrator.scale_
        logit = np.clip(calibrator.slope_ * z + calibrator.intercept_, -700, 700)
        fitted = 1 / (1 + np.exp(-logit))
        n_hits = hit.sum()
        targets = np.where(hit, (n_hits + 1) / (n_hits + 2), 1 / (n - n_hits + 2))
        assert fitted.sum() == pytest.approx(targets.sum(), abs=1e-5)


def test_auto_chooses_by_the_rarer_outcome():
    few = TopKCalibrator().fit(*sample(n=35))
    many = TopKCalibrator().fit(*sample(n=50))
    assert few.method_ == "platt"
    assert few.thresholds_.size == 0
    assert many.method_ == "isotonic"
    assert many.thresholds_.size == many.levels_.size > 0
    rare = TopKCalibrator().fit(*sample(n=800, curve=lambda s: 0.02 + 0 * s))
    assert rare.method_ == "platt"


def test_isotonic_learns_a_curve_that_platt_cannot():
    def curve(s):
        return np.where(s < 0, 0.1, 0.6)

    scores, truth = sample(n=4000, curve=curve)
    grid = np.array([-1.5, -0.7, 0.7, 1.5])
    isotonic = TopKCalibrator().fit(scores, truth).transform_array(grid)
    platt = TopKCalibrator(method="platt").fit(scores, truth).transform_array(grid)
    np.testing.assert_allclose(isotonic, curve(grid), atol=0.05)
    assert np.abs(platt - curve(grid)).max() > 0.1


@pytest.mark.parametrize("shift", [0.0, 1e3, -1e5])
@pytest.mark.parametrize("n", [3, 20, 35])
def test_rounding_errors_of_scores_stay_invisible_on_small_data(n, shift):
    scores, truth = sample(n=n)
    scores.data = scores.data + np.float32(shift)
    calibrator = TopKCalibrator().fit(scores, truth)
    moved = scores.data.astype(np.float64) * (1 + 1e-7)
    change = calibrator.transform_array(moved) - calibrator.transform_array(scores.data)
    assert np.abs(change).max() < 1e-4


def test_weights_equal_repetitions_and_zero_weights_drop_rows():
    scores, truth = sample(n=40)
    weight = np.random.default_rng(1).integers(0, 4, size=40)
    rows = np.repeat(np.arange(40), weight)
    grid = np.linspace(-3, 3, 50)
    for method in ("platt", "isotonic"):
        weighted = TopKCalibrator(method=method).fit(scores, truth, sample_weight=weight)
        repeated = TopKCalibrator(method=method).fit(scores[rows], truth[rows])
        np.testing.assert_allclose(
            weighted.transform_array(grid), repeated.transform_array(grid), rtol=1e-9
        )


def test_rows_of_weight_zero_leave_no_trace():
    scores, truth = sample(n=40)
    weight = np.ones(40)
    weight[7] = 0
    scores.data[7 * 5 : 8 * 5] = 1e6
    for method in ("platt", "isotonic"):
        one = TopKCalibrator(method=method).fit(scores, truth, sample_weight=weight)
        rest = np.flatnonzero(weight)
        other = TopKCalibrator(method=method).fit(scores[rest], truth[rest])
        for name in ("scale_", "slope_", "intercept_", "thresholds_", "levels_"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_order_of_rows_does_not_matter():
    scores, truth = sample(n=200)
    rows = np.random.default_rng(0).permutation(200)
    one = TopKCalibrator().fit(scores, truth)
    other = TopKCalibrator().fit(scores[rows], truth[rows])
    grid = np.linspace(-4, 4, 50)
    np.testing.assert_allclose(one.transform_array(grid), other.transform_array(grid), rtol=1e-10)


def test_explicit_zeros_of_the_truth_are_no_hits():
    scores, truth = sample(n=30)
    stored = scores.copy()
    stored.data = np.isin(np.arange(scores.nnz), np.flatnonzero(truth.toarray()[scores.nonzero()]))
    stored.data = stored.data.astype(float)
    assert stored.nnz > truth.nnz
    one, other = TopKCalibrator().fit(scores, truth), TopKCalibrator().fit(scores, stored)
    assert one.slope_ == other.slope_


def test_state_is_plain_and_survives_pickle_and_clone():
    calibrator = TopKCalibrator(method="isotonic").fit(*sample())
    for name, value in vars(calibrator).items():
        assert isinstance(value, str | bool | float | list | np.ndarray), name
    json.dumps({name: np.asarray(value).tolist() for name, value in vars(calibrator).items()})
    again = pickle.loads(pickle.dumps(calibrator))
    grid = np.linspace(-3, 3, 20)
    np.testing.assert_array_equal(again.transform_array(grid), calibrator.transform_array(grid))
    assert clone(calibrator).get_params() == {"by_rank": False, "method": "isotonic"}


def test_errors_say_what_to_do():
    scores, truth = sample(n=6)
    with pytest.raises(ValueError, match=r"one shape.*\(6, 30\).*\(5, 30\)"):
        TopKCalibrator().fit(scores, truth[:5])
    with pytest.raises(ValueError, match="one weight per row"):
        TopKCalibrator().fit(scores, truth, sample_weight=[1.0])
    with pytest.raises(ValueError, match="finite and non-negative"):
        TopKCalibrator().fit(scores, truth, sample_weight=[-1, 1, 1, 1, 1, 1])
    with pytest.raises(ValueError, match="'method' parameter"):
        TopKCalibrator(method="sigmoid").fit(scores, truth)
    with pytest.raises(NotFittedError):
        TopKCalibrator().transform(scores)
    calibrator = TopKCalibrator().fit(scores, truth)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match=r"must be finite\. Got 1 NaN"):
            calibrator.transform_array([0.0, bad])
    scores.data[3] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        TopKCalibrator().fit(scores, truth)


# ---- by rank


def ranked_sample(n=4000, seed=0):
    """Return scores and truth: of two labels with one score, the best of its row is right more."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, 6)) + rng.normal(size=(n, 1)) * 2
    best = scores.argmax(axis=1)
    chance = 1 / (1 + np.exp(-(scores - 3)))
    chance[np.arange(n), best] = 0.5 + chance[np.arange(n), best] / 2
    return sp.csr_array(scores), sp.csr_array((rng.random((n, 6)) < chance).astype(np.float32))


def gaps(calibrator, scores, truth):
    """Return the mean probability minus the share of right ones, of the best and of the others."""
    proba, hits = calibrator.transform(scores).toarray(), truth.toarray()
    best = np.zeros(scores.shape, dtype=bool)
    best[np.arange(len(best)), scores.toarray().argmax(axis=1)] = True
    return [float((proba - hits)[inside].mean()) for inside in (best, ~best)]


def test_the_best_label_of_a_row_has_a_function_of_its_own():
    train, test = ranked_sample(), ranked_sample(seed=1)
    together = gaps(TopKCalibrator().fit(*train), *test)
    apart = gaps(TopKCalibrator(by_rank=True).fit(*train), *test)
    assert abs(together[0]) > 0.1
    assert max(map(abs, apart)) < 0.03


def test_ranks_keep_the_order_within_a_row():
    scores, truth = ranked_sample(500)
    proba = TopKCalibrator(by_rank=True).fit(scores, truth).transform(scores)
    for first, second in zip(scores.toarray(), proba.toarray(), strict=True):
        np.testing.assert_array_equal(np.argsort(first), np.argsort(second))
    tied = sp.csr_array(np.array([[2.0, 2.0, 1.0], [0.5, 3.0, 3.0]]))
    proba = TopKCalibrator(by_rank=True).fit(scores, truth)
    proba = proba.transform(sp.csr_array((tied.data, tied.indices, tied.indptr), shape=(2, 6)))
    assert proba[0, 0] == proba[0, 1] > proba[0, 2]
    assert proba[1, 1] == proba[1, 2] > proba[1, 0]


def test_a_row_alone_has_the_same_probabilities():
    scores, truth = ranked_sample(300)
    calibrator = TopKCalibrator(by_rank=True).fit(scores, truth)
    together = calibrator.transform(scores).toarray()
    for row in range(0, 300, 37):
        alone = calibrator.transform(scores[[row]]).toarray()
        np.testing.assert_array_equal(alone[0], together[row])


def test_few_entries_of_a_rank_have_the_function_of_all():
    scores, truth = ranked_sample(12)
    few = TopKCalibrator(by_rank=True).fit(scores, truth)
    assert few.curves_[0] is None
    empty = TopKCalibrator(by_rank=True).fit(sp.csr_array((3, 6)), sp.csr_array((3, 6)))
    assert empty.curves_ == [None] * 3
