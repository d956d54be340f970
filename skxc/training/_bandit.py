"""Weights of extra losses, tuned while training by what they do for the task.

    draw        w ~ Normal(mean, scale^2), not below the floor, held for `window` steps
    reward      r = mean over the window of what `step` is told, the accuracy of the task
    advantage   a = r - baseline,     baseline <- decay * baseline + (1 - decay) * r
    update      mean <- mean + learning_rate * clip((w - mean) / scale^2 * a, -1, 1), not below it

Source: RAMEN (arXiv 2402.18434), whose public code gives the rule with a baseline. There the stored
mean can sink below the floor and stay; here it cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skxc.utils._random import stream


@dataclass(frozen=True)
class BanditSettings:
    """How weights are tuned.

    Attributes
    ----------
    learning_rate : float
        Largest change of a mean per window.
    init, floor : float
        Mean at the start, and the smallest weight.
    scale : float
        Standard deviation of the draws.
    window : int
        Steps for which a draw is held.
    decay : float
        Share of the baseline that an update keeps.
    """

    learning_rate: float = 0.01
    init: float = 0.1
    floor: float = 0.1
    scale: float = 0.1
    window: int = 20
    decay: float = 0.8


class FixedWeights:
    """Weights that do not change; they take the place of a `Bandit`."""

    learns = False

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self.weights = weights

    def step(self, reward: float) -> None:
        """Ignore the reward."""

    def forget(self) -> None:
        """Do nothing."""

    def get_state(self) -> dict[str, NDArray]:
        """Return nothing."""
        return {}

    def set_state(self, state: dict[str, NDArray]) -> None:
        """Do nothing."""


class Bandit:
    """One Gaussian policy per weight; all share the reward.

    Parameters
    ----------
    n_weights : int
    settings : BanditSettings
    seed : int

    Attributes
    ----------
    weights : ndarray of float64, shape (n_weights,)
        The weights of the current window.
    mean : ndarray of float64, shape (n_weights,)
    baseline : float
        NaN until a window has ended since the start or `forget`.
    """

    learns = True

    def __init__(self, n_weights: int, settings: BanditSettings, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.mean = np.full(n_weights, max(settings.init, settings.floor))
        self.baseline = np.nan
        self._window, self._n_steps, self._total = 0, 0, 0.0
        self._draw()

    def step(self, reward: float) -> None:
        """Count a step's reward; the last one of a window updates the means and draws anew."""
        self._total += reward
        self._n_steps += 1
        if self._n_steps < self.settings.window:
            return
        self._update(self._total / self._n_steps)
        self._window, self._n_steps, self._total = self._window + 1, 0, 0.0
        self._draw()

    def forget(self) -> None:
        """Drop the baseline: what follows is harder or easier than what was before."""
        self.baseline = np.nan

    def _update(self, reward: float) -> None:
        settings = self.settings
        if np.isnan(self.baseline):
            self.baseline = reward
            return
        step = (self.weights - self.mean) / settings.scale**2 * (reward - self.baseline)
        moved = self.mean + settings.learning_rate * np.clip(step, -1, 1)
        self.mean = np.maximum(moved, settings.floor)
        self.baseline = settings.decay * self.baseline + (1 - settings.decay) * reward

    def _draw(self) -> None:
        # A stream per window, so that a resumed run draws the same.
        noise = stream(self.seed, "bandit", self._window).normal(size=len(self.mean))
        drawn = self.mean + self.settings.scale * noise
        self.weights: NDArray[np.float64] = np.maximum(drawn, self.settings.floor)

    def get_state(self) -> dict[str, NDArray]:
        """Return means, weights and running sums as arrays."""
        counters = [self.baseline, self._window, self._n_steps, self._total]
        return {"mean": self.mean, "weights": self.weights, "counters": np.array(counters)}

    def set_state(self, state: dict[str, NDArray]) -> None:
        """Take the arrays of `get_state` back."""
        self.mean, self.weights = state["mean"], state["weights"]
        self.baseline, window, n_steps, self._total = state["counters"].tolist()
        self._window, self._n_steps = int(window), int(n_steps)
