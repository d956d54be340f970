"""Samples that are labels themselves are no negatives, no misses and no votes against."""

import numpy as np
import scipy.sparse as sp

from skxc.batching import UniformBatches
from skxc.losses import make_loss
from skxc.negatives import make_negatives
from skxc.training import PoolSettings, PoolTask
from skxc.utils._same_text import same_text_pairs


def texts(*values):
    return np.array(values, dtype=object)


def test_pairs_of_equal_text_that_are_no_labels():
    samples, labels = texts("a", "b", "c", "a"), texts("b", "a", "a", "d")
    y = sp.csr_array(np.array([[0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]], np.float32))
    expected = [
        (i, j)
        for i, text in enumerate(samples)
        for j, label in enumerate(labels)
        if text == label and not y[i, j]
    ]
    pairs = same_text_pairs(samples, labels, y)
    assert list(zip(*(part.tolist() for part in pairs.nonzero()), strict=True)) == expected


def test_no_such_pairs_and_no_texts_give_none():
    y = sp.csr_array((2, 2), dtype=np.float32)
    assert same_text_pairs(texts("a", "b"), texts("c", "d"), y) is None
    assert same_text_pairs(sp.eye_array(2, format="csr"), texts("a", "b"), y) is None
    assert same_text_pairs(texts("a", "b"), None, y) is None


def test_excluded_pairs_are_ignored_in_pools_and_never_mined():
    y = sp.csr_array(np.eye(3, dtype=np.float32))
    excluded = sp.csr_array(([1.0], ([0], [2])), shape=(3, 3))
    negatives = make_negatives("mined")
    settings = PoolSettings(
        loss=make_loss("decoupled", temperature=1.0),
        negatives=negatives,
        batches=UniformBatches(3, 3),
        search=None,
        excluded=excluded,
    )
    task = PoolTask(settings, y=y, sample_weight=np.ones(3), device=None)
    pool = task.draw(np.arange(3), np.random.default_rng(0))
    assert pool.ignored.nonzero()[0].tolist() == [0]
    assert pool.labels[pool.ignored.nonzero()[1]].tolist() == [2]
    everything = np.tile(np.arange(3), (3, 1))
    negatives.refresh(np.eye(3), np.eye(3), lambda queries, labels, k: (everything, None))
    assert sorted(negatives.get_state()["candidates"][0].tolist()) == [-1, -1, 1]
