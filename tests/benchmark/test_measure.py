"""Predictions in blocks and the time of one row, with estimators that count their calls."""

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.benchmark import _measure, fit, predict
from skxc.benchmark._scores import n_predictions
from skxc.datasets import XCDataset


def data_set(n_test, n_labels, dropped=None):
    """Return texts, and a filter that drops so many labels of a row."""
    pairs = np.zeros((n_test, n_labels))
    pairs[1, : dropped or 0] = 1
    return XCDataset(
        train_labels=sp.csr_array(np.eye(3, n_labels)),
        test_labels=sp.csr_array((n_test, n_labels)),
        train_texts=["a", "b", "c"],
        test_texts=[f"text {i}" for i in range(n_test)],
        test_filter=None if dropped is None else sp.csr_array(pairs),
    )


class Counter:
    """Predicts label 0 and remembers how many rows each call had."""

    def __init__(self):
        self.calls = []

    def predict_topk(self, X, k):
        self.calls.append((len(X) if isinstance(X, list) else X.shape[0], k))
        n = self.calls[-1][0]
        return np.tile([0, -1], (n, 1)), np.tile([1.0, -np.inf], (n, 1))


def test_blocks_cover_all_rows(monkeypatch):
    monkeypatch.setattr(_measure, "BLOCK_ROWS", 4)
    counter = Counter()
    scores, cost = predict(counter, data_set(n_test=10, n_labels=3))
    assert counter.calls == [(2, 3), (4, 3), (4, 3), (2, 3)]
    assert scores.shape == (10, 3)
    np.testing.assert_array_equal(scores.toarray(), np.tile([1, 0, 0], (10, 1)))
    assert cost >= 0


def test_latency_takes_one_row_at_a_time(monkeypatch):
    monkeypatch.setattr(_measure, "LATENCY_ROWS", 5)
    counter = Counter()
    assert 0 < _measure.median_latency(counter, data_set(n_test=8, n_labels=3)) < 1e6
    assert counter.calls == [(1, 3)] * (_measure.WARM_UP_CALLS + 5)


def test_latency_stops_when_time_is_up(monkeypatch):
    monkeypatch.setattr(_measure, "LATENCY_SECONDS", 0.0)
    counter = Counter()
    _measure.median_latency(counter, data_set(n_test=50, n_labels=20))
    assert counter.calls == [(1, 10)] * (_measure.WARM_UP_CALLS + 1)


@pytest.mark.parametrize(("dropped", "margin"), [(None, 0), (0, 0), (7, 7), (35, 20)])
def test_margin_is_the_largest_number_of_dropped_pairs_up_to_20(dropped, margin):
    assert n_predictions(data_set(3, 200, dropped)) == 100 + margin
    assert n_predictions(data_set(3, 110, dropped)) == min(100 + margin, 110)
    assert n_predictions(data_set(3, 40, dropped)) == 40


class Busy:
    """Its `fit` takes a while."""

    def fit(self, X, y):
        self.given = X, y
        sum(i * i for i in range(1_000_000))


def test_fit_gets_the_training_rows_and_is_timed():
    data, estimator = data_set(3, 40), Busy()
    costs = fit(estimator, data)
    assert estimator.given == (data.train_texts, data.train_labels)
    assert costs["fit_cpu_s"] > 0.005
    assert costs["fit_wall_s"] > 0.005
