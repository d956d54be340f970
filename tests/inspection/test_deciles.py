"""P@k by label frequency against a loop over rows and labels."""

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.inspection import plot_precision_by_frequency, precision_by_frequency


def _case(seed=0, n=40, n_labels=25):
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, n_labels)) < 0.15).astype(np.float32)
    scores = np.round(rng.random((n, n_labels)), 1) * (rng.random((n, n_labels)) < 0.6)
    frequency = rng.integers(0, 9, n_labels)
    return truth, scores, frequency


def _naive_top(row, k):
    stored = [label for label in range(len(row)) if row[label] != 0]
    return sorted(stored, key=lambda label: (-row[label], label))[:k]


@pytest.mark.parametrize("k", [1, 3, 40])
def test_counts_equal_a_loop(k):
    truth, scores, frequency = _case()
    result = precision_by_frequency(
        sp.csr_array(truth), sp.csr_array(scores), frequency, k=k, n_bins=4
    )
    for low, high, n_labels, n_true, n_predicted, n_hits in zip(
        result.lowest,
        result.highest,
        result.n_labels,
        result.n_true,
        result.n_predicted,
        result.n_hits,
        strict=True,
    ):
        inside = [label for label in range(25) if low <= frequency[label] <= high]
        top = [[label for label in _naive_top(row, k) if label in inside] for row in scores]
        assert n_labels == len(inside)
        assert n_true == truth[:, inside].sum()
        assert n_predicted == sum(map(len, top))
        assert n_hits == sum(truth[i, label] for i, labels in enumerate(top) for label in labels)
    np.testing.assert_array_equal(result.recall, result.n_hits / np.maximum(result.n_true, 1))
    np.testing.assert_array_equal(
        result.precision, result.n_hits / np.maximum(result.n_predicted, 1)
    )


def test_contributions_add_up_to_precision_at_k():
    truth, scores, frequency = _case(seed=3)
    result = precision_by_frequency(sp.csr_array(truth), sp.csr_array(scores), frequency, k=5)
    hits = sum(truth[i, label] for i, row in enumerate(scores) for label in _naive_top(row, 5))
    assert result.contribution.sum() == pytest.approx(hits / (5 * len(truth)))


def test_bins_cover_all_labels_without_overlap_and_keep_equal_frequencies_together():
    truth, scores, frequency = _case(seed=1, n_labels=60)
    for n_bins in (1, 2, 10, 100):
        result = precision_by_frequency(
            sp.csr_array(truth), sp.csr_array(scores), frequency, n_bins=n_bins
        )
        assert len(result.names) <= min(n_bins, len(np.unique(frequency)))
        assert result.n_labels.sum() == 60
        assert np.all(result.lowest[1:] > result.highest[:-1])
        assert result.lowest[0] == frequency.min()
        assert result.highest[-1] == frequency.max()


def test_bins_hold_about_the_same_number_of_true_pairs():
    n_labels = 1000
    truth = sp.csr_array(np.ones((2, n_labels), dtype=np.float32))
    result = precision_by_frequency(truth, truth, np.arange(n_labels), n_bins=10)
    np.testing.assert_array_equal(result.n_true, np.full(10, 200))
    assert result.names[0] == "0-99"


def test_no_true_pair_at_all_gives_zero_contributions():
    nothing = sp.csr_array((3, 4), dtype=np.float32)
    result = precision_by_frequency(nothing, nothing, [0, 0, 1, 2])
    assert result.contribution.sum() == 0
    assert result.n_labels.sum() == 4


def test_the_truth_of_the_caller_keeps_its_stored_zeros():
    truth = sp.csr_array((np.array([1.0, 0.0]), np.array([0, 1]), np.array([0, 2])), shape=(1, 2))
    result = precision_by_frequency(truth, truth, [1, 1], k=2)
    assert truth.nnz == 2
    assert result.n_true.sum() == 1
    assert result.n_hits.sum() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_score": sp.csr_array((2, 3))}, "y_score"),
        ({"label_frequency": [1, 2]}, "label_frequency"),
        ({"k": 0}, "`k` must be an integer of at least 1. Got 0"),
        ({"n_bins": 0}, "`n_bins`"),
    ],
)
def test_wrong_input_is_named(changes, message):
    arguments = {
        "y_true": sp.csr_array((3, 3)),
        "y_score": sp.csr_array((3, 3)),
        "label_frequency": [1, 1, 1],
    }
    with pytest.raises(ValueError, match=message):
        precision_by_frequency(**arguments | changes)


def test_plot_draws_one_bar_per_bin_and_name():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    truth, scores, frequency = _case()
    one = precision_by_frequency(sp.csr_array(truth), sp.csr_array(scores), frequency, n_bins=3)
    ax = plot_precision_by_frequency({"first": one, "second": one})
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, np.tile(100 * one.contribution, 2))
    shares = [f"{100 * n / one.n_true.sum():.0f}%" for n in one.n_true]
    ticks = [text.get_text() for text in ax.get_xticklabels()]
    assert ticks == [f"{name}\n{share}" for name, share in zip(one.names, shares, strict=True)]
    assert "first" in ax.get_legend().get_texts()[0].get_text()
    assert plot_precision_by_frequency({"first": one}, ax=ax) is ax


def test_plot_refuses_results_of_different_bins():
    truth, scores, frequency = _case()
    truth, scores = sp.csr_array(truth), sp.csr_array(scores)
    one = precision_by_frequency(truth, scores, frequency, n_bins=2)
    other = precision_by_frequency(truth, scores, frequency, n_bins=4)
    with pytest.raises(ValueError, match="the same bins"):
        plot_precision_by_frequency({"one": one, "other": other})
    with pytest.raises(ValueError, match="at least one"):
        plot_precision_by_frequency({})
