import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from skxc.utils._random import root_seed, stream, torch_seed


def test_root_seed_of_a_number_is_a_function():
    assert root_seed(0) == root_seed(0) != root_seed(1)
    assert 0 <= root_seed(5) < 2**31


def test_root_seed_draws_from_a_generator():
    state = np.random.RandomState(0)
    assert root_seed(state) != root_seed(state)
    assert root_seed(np.random.RandomState(0)) == root_seed(0)


def test_root_seed_of_none_follows_the_global_generator():
    before = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(3)  # noqa: NPY002
        first = root_seed(None)
        assert root_seed(None) != first
        np.random.seed(3)  # noqa: NPY002
        assert root_seed(None) == first
    finally:
        np.random.set_state(before)  # noqa: NPY002


@pytest.mark.parametrize(
    "other", [(1, "encoder", 3), (0, "encoder", 4), (0, "classifier", 3), (0,)]
)
def test_every_place_has_a_stream_of_its_own(other):
    draws = stream(0, "encoder", 3).random(5)
    np.testing.assert_array_equal(draws, stream(0, "encoder", 3).random(5))
    assert not np.isclose(draws, stream(*other).random(5)).any()


def test_torch_seed_lends_the_global_generator():
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    draws = []
    for seed in (3, 3, 4):
        with torch_seed(seed):
            draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    torch.manual_seed(3)
    assert torch.equal(torch.rand(4), draws[0])
    torch.set_rng_state(before)
    with pytest.raises(ZeroDivisionError), torch_seed(1):
        torch.rand(1)
        1 / 0  # noqa: B018
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_take_turns():
    torch = pytest.importorskip("torch")

    def draw(seed):
        parts = []
        with torch_seed(seed):
            for _ in range(20):
                parts.append(torch.rand(3))
                time.sleep(0.0005)  # lets other threads in
        return torch.cat(parts)

    alone = [draw(seed) for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(draw, range(6)))
    for first, second in zip(alone, together, strict=True):
        assert torch.equal(first, second)


def test_a_turn_may_hold_another_one():
    torch = pytest.importorskip("torch")
    with torch_seed(1):
        first = torch.rand(1)
        with torch_seed(2):
            torch.rand(5)
        second = torch.rand(1)
    with torch_seed(1):
        assert torch.equal(torch.rand(2), torch.cat([first, second]))
