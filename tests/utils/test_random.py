import numpy as np
import pytest

from skxc.utils._random import root_seed, stream


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
