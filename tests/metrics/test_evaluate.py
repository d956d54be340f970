"""One call for all metrics: the same values as the functions, one ranking, and its speed."""

from __future__ import annotations

import time

import numpy as np
import pytest
import scipy.sparse as sp

from skxc import metrics
from skxc.metrics import _evaluate, evaluate
from tests.metrics.naive import random_case


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("drop", [False, True])
def test_values_are_those_of_the_functions(seed, drop):
    truth, scores, filtered = random_case(seed, 9)
    weights = np.linspace(1, 3, 9)
    keywords = {"filter_pairs": filtered, "drop_empty_rows": drop}
    result = evaluate(truth, scores, ks=[1, 4], inverse_propensity=weights, **keywords)
    expected = {}
    for k in (1, 4):
        for name in ("precision", "recall", "ndcg", "coverage", "macro_f1"):
            function = getattr(metrics, f"{name}_at_k")
            expected[f"{name}@{k}"] = function(truth, scores, k, **keywords)
        expected[f"psp@{k}"] = metrics.psp_at_k(truth, scores, weights, k, **keywords)
        expected[f"psndcg@{k}"] = metrics.psndcg_at_k(truth, scores, weights, k, **keywords)
    assert result == expected
    assert all(type(value) is float for value in result.values())


def test_default_names_depend_on_the_weights():
    truth, scores, _ = random_case(0, 6)
    plain = {"precision", "recall", "ndcg", "coverage", "macro_f1"}
    assert {name.partition("@")[0] for name in evaluate(truth, scores)} == plain
    weighted = evaluate(truth, scores, inverse_propensity=np.ones(6))
    assert {name.partition("@")[0] for name in weighted} == plain | {"psp", "psndcg"}
    assert [name for name in weighted if name.startswith("psp")] == ["psp@1", "psp@3", "psp@5"]


def test_names_may_carry_their_own_k():
    truth, scores, _ = random_case(0, 6)
    result = evaluate(truth, scores, ks=(1, 3), metrics=["recall@100", "precision"])
    assert list(result) == ["recall@100", "precision@1", "precision@3"]
    assert evaluate(truth, scores, metrics="ndcg@2") == {
        "ndcg@2": metrics.ndcg_at_k(truth, scores, 2)
    }
    assert evaluate(truth, scores, metrics=[]) == {}


def test_ranks_once(monkeypatch):
    calls = []
    original = _evaluate.rank
    monkeypatch.setattr(_evaluate, "rank", lambda *a: calls.append(a) or original(*a))
    truth, scores, _ = random_case(0, 6)
    evaluate(truth, scores, ks=range(1, 9), inverse_propensity=np.ones(6))
    assert len(calls) == 1


def test_refusals():
    truth, scores, _ = random_case(0, 6)
    with pytest.raises(ValueError, match=r"must be one of precision, .*Got 'map'"):
        evaluate(truth, scores, metrics=["map"])
    for name in ("precision@", "precision@0", "precision@x", "precision@-1", "precision@1.5"):
        with pytest.raises(ValueError, match="`k` must be an integer of at least 1"):
            evaluate(truth, scores, metrics=[name])
    with pytest.raises(ValueError, match="'psp' needs the weights"):
        evaluate(truth, scores, metrics=["psp"])
    with pytest.raises(ValueError, match="6 positive finite weights"):
        evaluate(truth, scores, inverse_propensity=np.ones(5))


def test_all_metrics_of_a_large_prediction_take_about_a_third_of_a_second():
    rng = np.random.default_rng(0)
    n, k, n_labels = 35_000, 100, 30_000
    # Distinct labels per row: a random start and steps of at least 1.
    ids = np.cumsum(rng.integers(1, 299, size=(n, k)), axis=1) % n_labels
    indptr = np.arange(0, n * k + 1, k)
    scores = sp.csr_array(
        (rng.random(n * k, dtype=np.float32), ids.ravel(), indptr), shape=(n, n_labels)
    )
    scores.sort_indices()
    truth = sp.csr_array(
        (np.ones(4 * n), ids[:, :: k // 4][:, :4].ravel(), np.arange(0, 4 * n + 1, 4)),
        shape=(n, n_labels),
    )
    weights = 1 + rng.random(n_labels)
    names = ["precision", "recall", "ndcg", "coverage", "macro_f1", "psp", "psndcg", "ece"]
    start = time.process_time()
    result = evaluate(
        truth, scores, ks=(1, 3, 5, 10, 100), metrics=names, inverse_propensity=weights
    )
    seconds = time.process_time() - start
    assert len(result) == 40
    assert seconds < 2.0  # CPU; about 0.35 on an idle core
