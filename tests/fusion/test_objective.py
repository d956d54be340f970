from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.fusion import make_objective
from skxc.fusion._objective import Ranked
from skxc.metrics import ndcg_at_k, precision_at_k, psp_at_k, recall_at_k
from skxc.utils._sparse import top_k


def ranked_data(seed, depth, n=12, n_labels=9):
    rng = np.random.default_rng(seed)
    truth = rng.random((n, n_labels)) < 0.3
    truth[0] = False
    scores = rng.normal(size=(n, n_labels))
    labels, _ = top_k(scores, depth)
    labels = labels.astype(np.int64)
    labels[3, 2:] = -1
    hits = np.where(labels >= 0, np.take_along_axis(truth, labels, axis=1), False)
    weight = 1 + rng.random(n_labels) * 5
    truth = sp.csr_array(truth.astype(np.float32))
    values = np.where(labels >= 0, np.take_along_axis(scores, labels, axis=1), -np.inf)
    return Ranked(truth, labels, hits, values, np.ones(n), weight)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("k", [1, 3, 5])
def test_means_are_the_metrics(seed, k):
    ranked = ranked_data(seed, depth=5)
    for name, metric in [
        ("precision", precision_at_k),
        ("recall", recall_at_k),
        ("ndcg", ndcg_at_k),
    ]:
        values = make_objective(f"{name}@{k}").values(ranked)
        assert values.shape == (12,)
        assert values.mean() == pytest.approx(metric(ranked.truth, ranked.labels, k))
    expected = psp_at_k(ranked.truth, ranked.labels, ranked.inverse_propensity, k)
    values = make_objective(f"psp@{k}").values(ranked)
    assert values.mean() == pytest.approx(expected)


def test_lists_shorter_than_k():
    ranked = ranked_data(0, depth=2)
    for name, metric in [("precision", precision_at_k), ("ndcg", ndcg_at_k)]:
        values = make_objective(f"{name}@4").values(ranked)
        assert values.mean() == pytest.approx(metric(ranked.truth, ranked.labels, 4))


def test_a_blend_is_the_weighted_sum():
    ranked = ranked_data(1, depth=5)
    blend = make_objective({"precision@1": 0.5, "psp@5": 2})
    parts = [make_objective(name).values(ranked) for name in ("precision@1", "psp@5")]
    np.testing.assert_allclose(blend.values(ranked), 0.5 * parts[0] + 2 * parts[1])
    assert blend.depth == 5


def test_no_row_with_labels_gives_zero():
    ranked = ranked_data(1, depth=3)
    nothing = sp.csr_array((12, 9), dtype=np.float32)
    ranked = replace(ranked, truth=nothing, hits=np.zeros_like(ranked.hits))
    for name in ("precision", "recall", "ndcg", "psp"):
        assert make_objective(f"{name}@3").values(ranked).tolist() == [0] * 12


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("accuracy", "one of precision, recall, ndcg, psp with a k, but is 'accuracy'"),
        ("psprecision@5", "one of precision, recall, ndcg, psp with a k, but is 'psprecision@5'"),
        ("precision", "with a k, but is 'precision'"),
        ("precision@0", "with a k, but is 'precision@0'"),
        ("precision@x", "with a k"),
        ({}, "not all zero, but is {}"),
        ({"precision@1": 0}, "not all zero"),
        ({"precision@1": -1, "recall@1": 2}, "non-negative weights"),
        ({"precision@1": "a"}, "non-negative weights"),
    ],
)
def test_wrong_objectives(objective, message):
    with pytest.raises(ValueError, match=message):
        make_objective(objective)
