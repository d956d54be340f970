"""The percentages of a benchmark line against loops over rows and ranks."""

import math

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.benchmark import by_frequency, percentages
from skxc.datasets import XCDataset


def _data(seed=0, n_labels=30, with_filter=True):
    rng = np.random.default_rng(seed)
    train = (rng.random((50, n_labels)) < 0.1).astype(np.float32)
    test = (rng.random((20, n_labels)) < 0.12).astype(np.float32)
    test[3] = 0  # a row without labels
    drop = ((rng.random(test.shape) < 0.2) * (1 - test)).astype(np.float32)
    scores = np.round(rng.random(test.shape), 1) * (rng.random(test.shape) < 0.7)  # with ties
    data = XCDataset(
        train_labels=sp.csr_array(train),
        test_labels=sp.csr_array(test),
        test_filter=sp.csr_array(drop) if with_filter else None,
    )
    return data, train, test, drop if with_filter else 0 * drop, scores.astype(np.float32)


def _naive(train, test, drop, scores, wanted):
    n, n_labels = test.shape
    c = (math.log(len(train)) - 1) * 2.5**0.55
    weight = [1 + c * (train[:, label].sum() + 1.5) ** -0.55 for label in range(n_labels)]
    ranked = [
        sorted(
            (label for label in range(n_labels) if scores[i, label] and not drop[i, label]),
            key=lambda label: (-scores[i, label], label),
        )
        for i in range(n)
    ]
    found = {}
    for name in wanted:
        metric, k = name.split("@")[0], int(name.split("@")[1])
        total, best = 0.0, 0.0
        for i in range(n):
            true = [label for label in range(n_labels) if test[i, label]]
            hits = [label in true for label in ranked[i][:k]]
            if metric == "P":
                total, best = total + sum(hits) / k, n
            elif metric == "R":
                total, best = total + (sum(hits) / len(true) if true else 0), n
            elif metric == "nDCG":
                gain = sum(hit / math.log2(j + 2) for j, hit in enumerate(hits))
                ideal = sum(1 / math.log2(j + 2) for j in range(min(k, max(len(true), 1))))
                total, best = total + gain / ideal, n
            else:
                total += sum(weight[label] for label in ranked[i][:k] if label in true)
                best += sum(sorted((weight[label] for label in true), reverse=True)[:k])
        found[name] = 100 * total / best
    return found


@pytest.mark.parametrize("with_filter", [True, False])
@pytest.mark.parametrize("n_labels", [30, 110])
def test_equal_to_loops(with_filter, n_labels):
    data, train, test, drop, scores = _data(n_labels=n_labels, with_filter=with_filter)
    found = percentages(sp.csr_array(scores), data)
    wanted = [f"{m}@{k}" for m in ("P", "nDCG", "PSP") for k in (1, 3, 5)] + ["R@10"]
    wanted += ["R@100"] if n_labels == 110 else []
    assert list(found) == wanted
    expected = _naive(train, test, drop, scores, wanted)
    for name in wanted:
        assert found[name] == pytest.approx(expected[name], abs=6e-4), name


def test_the_filter_matters():
    data, *_, scores = _data()
    unfiltered, *_ = _data(with_filter=False)
    matrix = sp.csr_array(scores)
    assert percentages(matrix, data)["P@1"] > percentages(matrix, unfiltered)["P@1"]


def test_contributions_of_the_frequencies_add_up_to_precision():
    data, train, *_, scores = _data()
    bins = by_frequency(sp.csr_array(scores), data, k=3, n_bins=4)
    expected = percentages(sp.csr_array(scores), data)["P@3"]
    assert 100 * bins.contribution.sum() == pytest.approx(expected, abs=6e-4)
    frequency = train.sum(axis=0).astype(int)
    assert bins.lowest[0] == frequency.min()
    assert bins.highest[-1] == frequency.max()
