"""The bandit that weighs graph terms: one step by hand, and what it converges to."""

import numpy as np
import pytest

pytest.importorskip("torch")

from skxc.estimators._graph_regularized.bandit import Bandit, BanditWeights


def paper(**params):
    """Return a bandit that starts where the paper's does."""
    return Bandit(**{"init": 0.1, "learning_rate": 0.01, "window": 20, **params})


def play(bandit, reward, n_windows):
    """Give the bandit the reward of its current weights, step by step."""
    for _ in range(n_windows * bandit.window):
        bandit.step(reward(bandit.weights))


def test_one_step_by_hand():
    bandit = BanditWeights(1, paper(window=1), seed=0, n_steps=1)
    bandit.step(0.5)  # the first window sets the baseline only
    assert (bandit.mean.tolist(), bandit.baseline) == ([0.1], 0.5)
    bandit.weights = np.array([0.3])
    bandit.step(0.6)  # (0.2 / 0.01) * 0.1 = 2, clipped to 1
    assert bandit.mean == pytest.approx([0.11])
    assert bandit.baseline == pytest.approx(0.52)


def test_a_small_step_is_not_clipped():
    bandit = BanditWeights(1, paper(window=1, floor=0.0), seed=0, n_steps=1)
    bandit.step(0.5)
    bandit.weights = np.array([0.3])
    bandit.step(0.51)
    assert bandit.mean == pytest.approx([0.1 + 0.01 * 0.2 / 0.01 * 0.01])


def test_nothing_moves_inside_a_window():
    bandit = BanditWeights(3, paper(window=4), seed=0, n_steps=1)
    play(bandit, lambda w: 0.1, 1)
    mean, weights, baseline = bandit.mean.copy(), bandit.weights.copy(), bandit.baseline
    for _ in range(3):
        bandit.step(0.9)
        assert np.array_equal(bandit.mean, mean)
        assert np.array_equal(bandit.weights, weights)
        assert bandit.baseline == baseline
    bandit.step(0.9)
    assert not np.array_equal(bandit.weights, weights)
    assert bandit.baseline == pytest.approx(0.8 * 0.1 + 0.2 * 0.9)


def test_a_window_counts_its_mean():
    bandit = BanditWeights(1, paper(window=2), seed=0, n_steps=1)
    for reward in (0.2, 0.6):
        bandit.step(reward)
    assert bandit.baseline == pytest.approx(0.4)


def test_a_constant_reward_moves_nothing():
    bandit = BanditWeights(2, paper(window=2, init=0.5), seed=0, n_steps=1)
    play(bandit, lambda w: 0.25, 50)
    assert bandit.mean.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_planted_reward_is_climbed(seed):
    best = np.array([0.5, 1.0])
    bandit = BanditWeights(2, paper(window=1), seed=seed, n_steps=1)
    play(bandit, lambda w: 1 - ((w - best) ** 2).sum(), 4000)
    assert np.abs(bandit.mean - best).max() < 0.08


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_harmful_weight_falls_and_a_useful_one_grows(seed):
    bandit = BanditWeights(2, paper(window=1, init=1.0), seed=seed, n_steps=1)
    play(bandit, lambda w: 0.5 + 0.1 * w[0] - 0.1 * w[1], 2000)
    assert bandit.mean[0] > 2
    assert bandit.mean[1] == pytest.approx(0.1, abs=0.1)


def test_the_floor_holds_for_means_and_draws():
    bandit = BanditWeights(1, paper(window=1, init=0.05, floor=0.1), seed=0, n_steps=1)
    lowest = np.inf
    for _ in range(500):
        bandit.step(float(-bandit.weights[0]))
        lowest = min(lowest, bandit.mean[0], bandit.weights[0])
    assert lowest == 0.1


def test_forgetting_the_baseline():
    bandit = BanditWeights(1, paper(window=1), seed=0, n_steps=1)
    play(bandit, lambda w: 0.9, 1)
    bandit.forget()
    mean = bandit.mean.copy()
    bandit.step(0.1)  # would be a large disadvantage
    assert np.array_equal(bandit.mean, mean)
    assert bandit.baseline == 0.1


def test_seed_and_state():
    draws = {seed: BanditWeights(3, paper(), seed, n_steps=1).weights for seed in (0, 1)}
    assert np.array_equal(draws[0], BanditWeights(3, paper(), 0, n_steps=1).weights)
    assert not np.array_equal(draws[0], draws[1])
    bandits = [BanditWeights(3, paper(window=3), 0, n_steps=1) for _ in range(2)]
    rewards = np.random.default_rng(0).random(20)
    for reward in rewards[:10]:
        bandits[0].step(reward)
    bandits[1].set_state(bandits[0].get_state())
    for bandit in bandits:
        for reward in rewards[10:]:
            bandit.step(reward)
    assert np.array_equal(bandits[0].mean, bandits[1].mean)
    assert np.array_equal(bandits[0].weights, bandits[1].weights)


@pytest.mark.parametrize(
    ("n_steps", "window", "rate"),
    [(1, 1, 1), (56, 1, 1 / 56), (500, 10, 0.02), (200_000, 20, 0.01)],
)
def test_short_trainings_have_short_windows_and_long_steps(n_steps, window, rate):
    bandit = BanditWeights(1, Bandit(), 0, n_steps)
    assert (bandit.window, bandit.learning_rate) == (window, pytest.approx(rate))


def test_a_training_of_default_length_moves_the_means():
    bandit = BanditWeights(2, Bandit(), 0, n_steps=56)
    for _ in range(56):
        bandit.step(0.5 + 0.1 * bandit.weights[0] - 0.1 * bandit.weights[1])
    assert bandit.mean[0] > 0.35
    assert bandit.mean[1] < 0.25
