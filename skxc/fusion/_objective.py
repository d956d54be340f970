"""What a fusion is tuned for: a ranking metric, or a blend, as a mean over rows.

Every metric here is a weighted mean of one value per row, so that the standard error of a
difference between two combinations is that of a mean. PSP@k is a ratio of two sums; its value of a
row is the gain of the row over the mean of what the rows could gain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from skxc.metrics._inputs import Ranking
from skxc.metrics._propensity import gains_and_best
from skxc.metrics._ranking import ndcg, precision, recall

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranked(Ranking):
    """The best predictions of every row, and what the metrics need besides.

    Attributes
    ----------
    row_weight : ndarray of float64, shape (n,)
    inverse_propensity : ndarray of float64, shape (L,)
    """

    row_weight: Floats
    inverse_propensity: Floats


def _psp(ranked: Ranked, k: int) -> Floats:
    gains, best = gains_and_best(ranked, ranked.inverse_propensity, k)
    mean = np.average(best.sum(axis=1), weights=ranked.row_weight)
    return gains.sum(axis=1) / mean if mean > 0 else np.zeros(len(gains))


METRICS: dict[str, Callable[[Ranked, int], Floats]] = {
    "precision": precision,
    "recall": recall,
    "ndcg": ndcg,
    "psp": _psp,
}


@dataclass(frozen=True)
class Objective:
    """A blend of metrics; made by :func:`make_objective`.

    Attributes
    ----------
    terms : tuple of (name, k, weight)
    """

    terms: tuple[tuple[str, int, float], ...]

    @property
    def depth(self) -> int:
        """The largest k."""
        return max(k for _, k, _ in self.terms)

    def values(self, ranked: Ranked) -> Floats:
        """Return one value per row, shape (n,), whose weighted mean is the blend."""
        return np.sum([w * METRICS[name](ranked, k) for name, k, w in self.terms], axis=0)


def make_objective(objective: str | Mapping[str, float]) -> Objective:
    """Return the objective of a name such as "precision@1", or of a blend.

    Parameters
    ----------
    objective : str or dict of str to float
        "precision@k", "recall@k", "ndcg@k" or "psp@k"; or such names with non-negative weights,
        ``{"precision@1": 0.5, "psp@5": 0.5}``.

    Returns
    -------
    Objective

    Raises
    ------
    ValueError
        An unknown metric, no k, or weights that are negative or all zero.

    Examples
    --------
    >>> from skxc.fusion import make_objective
    >>> make_objective("psp@5").terms
    (('psp', 5, 1.0),)
    """
    blend = {objective: 1.0} if isinstance(objective, str) else dict(objective)
    valid = all(isinstance(w, Real) and w >= 0 and np.isfinite(w) for w in blend.values())
    if not valid or not sum(blend.values()):
        raise ValueError(
            "`objective` must give metrics non-negative weights that are not all zero, but is "
            f"{blend!r}. Write {{'precision@1': 0.5, 'psp@5': 0.5}}, for example."
        )
    return Objective(tuple((*_parse(name), float(weight)) for name, weight in blend.items()))


def _parse(metric: str) -> tuple[str, int]:
    name, _, k = str(metric).partition("@")
    if name not in METRICS or not k.isdecimal() or int(k) < 1:
        raise ValueError(
            f"`objective` must be one of {', '.join(METRICS)} with a k, but is {metric!r}. "
            "Write 'precision@1', for example."
        )
    return name, int(k)
