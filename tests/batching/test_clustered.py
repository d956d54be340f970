from __future__ import annotations

import numpy as np
import pytest

from skxc.batching import ClusteredBatches, UniformBatches, growth_epochs


def vectors(n=203, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((25, 16))
    return centres[rng.integers(0, 25, n)] + 0.3 * rng.standard_normal((n, 16))


def batches_of(batching, seed=0):
    return list(batching.batches(0, np.random.default_rng(seed)))


def clustered(epoch, n=203, batch_size=32, **parameters):
    batching = ClusteredBatches(n, batch_size, **parameters)
    batching.refresh(vectors(n), epoch, np.random.default_rng(1))
    return batching


def mean_cosine(batches, rows):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.mean([(unit[batch] @ unit[batch].T).mean() for batch in batches])


@pytest.mark.parametrize("n", [0, 1, 31, 203])
def test_clusters_of_one_row_are_the_uniform_batches(n):
    expected = batches_of(UniformBatches(n, 32))
    for batching in (ClusteredBatches(n, 32), clustered(0, n=n)):
        actual = batches_of(batching)
        assert [batch.tolist() for batch in actual] == [batch.tolist() for batch in expected]


@pytest.mark.parametrize("epoch", [10, 25, 50, 200])
def test_batches_partition_the_rows_into_whole_clusters(epoch):
    batching = clustered(epoch)
    batches = batches_of(batching)
    assert sorted(row for batch in batches for row in batch) == list(range(203))
    largest = np.bincount(batching.leaf_).max()
    assert 1 < largest <= batching.cluster_size(epoch)
    home = [{int(leaf) for leaf in batching.leaf_[batch]} for batch in batches]
    assert sum(map(len, home)) == len(set().union(*home))
    assert [len(leaves) for leaves in home[:-1]] == [32 // largest] * (len(home) - 1)
    assert max(map(len, batches)) <= 32


@pytest.mark.parametrize(("n", "batch_size"), [(203, 32), (256, 32), (63, 32), (40, 64), (1000, 1)])
def test_unidec_leaves_are_batches_within_a_factor_of_two(n, batch_size):
    batching = clustered(5, n=n, batch_size=batch_size, growth=None)
    batches = batches_of(batching)
    assert sorted(row for batch in batches for row in batch) == list(range(n))
    assert len(batches) == 2 ** int(np.log2(max(n / batch_size, 1)))
    assert all(min(n, batch_size) <= len(batch) <= 2 * batch_size for batch in batches)


@pytest.mark.parametrize(("epoch", "growth"), [(25, (10, 20, 25)), (5, None)])
def test_rows_of_a_batch_are_similar(epoch, growth):
    rows = vectors()
    random = mean_cosine(batches_of(UniformBatches(203, 32)), rows)
    assert mean_cosine(batches_of(clustered(epoch, growth=growth)), rows) > random + 0.1


def test_curriculum():
    batching = ClusteredBatches(500, 24)
    sizes = [batching.cluster_size(epoch) for epoch in (0, 9, 10, 19, 20, 24, 25, 49, 50, 299)]
    assert sizes == [1, 1, 2, 2, 4, 4, 8, 8, 16, 24]
    assert [epoch for epoch in range(31) if batching.needs_refresh(epoch)] == [10, 15, 20, 25, 30]


def test_unidec_schedule():
    batching = ClusteredBatches(500, 24, growth=None, refresh_every=4)
    assert [epoch for epoch in range(13) if batching.needs_refresh(epoch)] == [4, 8, 12]
    assert [batching.cluster_size(epoch) for epoch in (0, 3, 4)] == [1, 1, 32]


def test_growth_scales_with_the_training():
    assert growth_epochs(600) == (20, 40, 50, 100, 150, 200, 250, 300, 400)
    assert growth_epochs(12) == (1, 1, 1, 2, 3, 4, 5, 6, 8)


def test_order_of_clusters_is_random_and_repeats_with_the_seed():
    batching = clustered(50)
    runs = [[batch.tolist() for batch in batches_of(batching, seed)] for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_state_round_trip():
    batching = clustered(50)
    other = ClusteredBatches(203, 32)
    other.set_state(batching.get_state())
    for a, b in zip(batches_of(batching), batches_of(other), strict=True):
        assert a.tolist() == b.tolist()


def test_bad_parameters_are_refused():
    for wrong in ({"refresh_every": 0}, {"growth": "fast"}):
        (name,) = wrong
        with pytest.raises(ValueError, match=f"'{name}' parameter of ClusteredBatches"):
            ClusteredBatches(20, 4, **wrong)
    with pytest.raises(TypeError, match="grow"):
        ClusteredBatches(20, 4, grow=None)
