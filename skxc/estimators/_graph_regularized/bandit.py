"""Weights of extra losses, tuned while training by what they do for the task.

    draw        w ~ Normal(mean, scale^2), not below the floor, held for `window` steps
    reward      r = mean over the window of what `step` is told, the accuracy of the task
    advantage   a = r - baseline,     baseline <- decay * baseline + (1 - decay) * r
    update      mean <- mean + learning_rate * clip((w - mean) / scale^2 * a, -1, 1), not below it

Source: RAMEN (arXiv 2402.18434), whose public code gives the rule with a baseline. There the stored
mean can sink below the floor and stay; here it cannot.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from skxc._params import NonNegativeFloat, Part, PositiveFloat, PositiveInt, ShareBelowOne, params
from skxc.utils._random import stream


@params
class Bandit(Part):
    """Weights that are draws around means, which move with the accuracy of the task.

    One Gaussian policy per weight; all share the reward, the share of training rows of a batch
    whose best label is right.

    Parameters
    ----------
    learning_rate : float or "auto", default="auto"
        Largest change of a mean per window; 0.01 in the paper. "auto": that, or more in short
        trainings, such that a mean can move by 1.
    init : float, default=0.3
        Mean at the start; 0.1 in the paper.
    floor : float, default=0.1
        Smallest weight, before a schedule scales it.
    scale : float, default=0.1
        Standard deviation of the draws.
    window : int or "auto", default="auto"
        Steps for which a draw is held; 20 in the paper. "auto": that, or less in short trainings,
        so that there are 50 windows. The first window after a start, a pruning, a clustering or a
        mining only finds the level of the reward.
    decay : float in [0, 1), default=0.8
        Share of the baseline that an update keeps.

    References
    ----------
    "Graph Regularized Encoder Training for Extreme Classification" (RAMEN), arXiv 2402.18434.
    """

    learning_rate: NonNegativeFloat | Literal["auto"] = "auto"
    init: NonNegativeFloat = 0.3
    floor: NonNegativeFloat = 0.1
    scale: PositiveFloat = 0.1
    window: PositiveInt | Literal["auto"] = "auto"
    decay: ShareBelowOne = 0.8


# "auto" is at least so many windows, and what the paper has where there are more.
FEWEST_WINDOWS, LONGEST_WINDOW, SMALLEST_RATE = 50, 20, 0.01


class FixedWeights:
    """Weights that do not change; they take the place of `BanditWeights`."""

    learns = False

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self.weights = weights

    def step(self, reward: float | Tensor) -> None:
        """Ignore the reward."""

    def forget(self) -> None:
        """Do nothing."""

    def get_state(self) -> dict[str, NDArray]:
        """Return nothing."""
        return {}

    def set_state(self, state: dict[str, NDArray]) -> None:
        """Do nothing."""


class BanditWeights:
    """The weights of a bandit as training goes on.

    Parameters
    ----------
    n_weights : int
    settings : Bandit
    seed : int
    n_steps : int
        Steps of the whole training.

    Attributes
    ----------
    weights : ndarray of float64, shape (n_weights,)
        The weights of the current window.
    mean : ndarray of float64, shape (n_weights,)
    baseline : float
        NaN until a window has ended since the start or `forget`.
    """

    learns = True

    def __init__(self, n_weights: int, settings: Bandit, seed: int, n_steps: int) -> None:
        self.settings = settings
        self.seed = seed
        automatic = min(max(n_steps // FEWEST_WINDOWS, 1), LONGEST_WINDOW)
        self.window = automatic if settings.window == "auto" else settings.window
        rate = max(SMALLEST_RATE, self.window / max(n_steps, 1))
        self.learning_rate = rate if settings.learning_rate == "auto" else settings.learning_rate
        self.mean = np.full(n_weights, max(settings.init, settings.floor))
        self.baseline = np.nan
        self._window, self._n_steps = 0, 0
        self._total: float | Tensor = 0.0
        self._draw()

    def step(self, reward: float | Tensor) -> None:
        """Count a step's reward; the last one of a window updates the means and draws anew.

        A reward on a device is read with the others at the end of the window.
        """
        self._total = self._total + reward
        self._n_steps += 1
        if self._n_steps < self.window:
            return
        self._update(float(self._total) / self._n_steps)
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
        moved = self.mean + self.learning_rate * np.clip(step, -1, 1)
        self.mean = np.maximum(moved, settings.floor)
        self.baseline = settings.decay * self.baseline + (1 - settings.decay) * reward

    def _draw(self) -> None:
        # A stream per window, so that a resumed run draws the same.
        noise = stream(self.seed, "bandit", self._window).normal(size=len(self.mean))
        drawn = self.mean + self.settings.scale * noise
        self.weights: NDArray[np.float64] = np.maximum(drawn, self.settings.floor)

    def get_state(self) -> dict[str, NDArray]:
        """Return means, weights and running sums as arrays."""
        counters = [self.baseline, self._window, self._n_steps, float(self._total)]
        return {"mean": self.mean, "weights": self.weights, "counters": np.array(counters)}

    def set_state(self, state: dict[str, NDArray]) -> None:
        """Take the arrays of `get_state` back."""
        self.mean, self.weights = state["mean"], state["weights"]
        self.baseline, window, n_steps, self._total = state["counters"].tolist()
        self._window, self._n_steps = int(window), int(n_steps)
