from __future__ import annotations

import numpy as np
import pytest

from skxc.batching import UniformBatches


@pytest.mark.parametrize("n", [0, 1, 7, 8, 23])
def test_batches_partition_the_rows(n):
    batches = list(UniformBatches(n, 8).batches(0, np.random.default_rng(0)))
    assert sorted(row for batch in batches for row in batch) == list(range(n))
    assert [len(batch) for batch in batches[:-1]] == [8] * (len(batches) - 1)


def test_repeats_with_the_seed():
    runs = [
        [batch.tolist() for batch in UniformBatches(20, 6).batches(0, np.random.default_rng(seed))]
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_never_needs_a_refresh_and_has_no_state():
    batching = UniformBatches(20, 6)
    assert not any(batching.needs_refresh(epoch) for epoch in range(20))
    batching.refresh(np.zeros((20, 2)), 5, np.random.default_rng(0))
    batching.set_state(batching.get_state())
    assert batching.get_state() == {}


def test_bad_batch_size_is_refused():
    with pytest.raises(ValueError, match="'batch_size' parameter of UniformBatches"):
        UniformBatches(20, 0)
    with pytest.raises(ValueError, match="'n' parameter of UniformBatches"):
        UniformBatches(-1, 8)
