"""UniDEC's pool: the labels that both heads are scored against in a step, and the rows of a step.

Source: UniDEC (WWW 2025).
"""

from __future__ import annotations

from typing import Any

from skxc._params import NonNegativeInt, Part, PositiveInt, params
from skxc.batching import Batching, ClusteredBatches, UniformBatches
from skxc.estimators._encoding import PoolFigures
from skxc.negatives import AllLabels, InBatch, Mined, Negatives
from skxc.training import PoolTask

# Capacity of a pool in rows of the batch, unless it is given.
POOL_PER_ROW = 3
# Labels that are searched for every row when mining.
MINED_DEPTH = 100


@params
class LabelPool(Part):
    """The pool of labels that both heads share in a step.

    Where a step brings more labels than there are places, those of most rows stay; positives that
    were not drawn fill free places.

    Parameters
    ----------
    size : int or None, default=None
        Capacity; None: three times the batch size. Where all labels fit, the pool is all labels and
        the loss is exact.
    n_positives : int or None, default=3
        Positives of a row that enter the pool at each step, beta; None: all.
    n_negatives : int, default=6
        Mined labels of a row that enter the pool at each step, eta. 0 switches mining off, for
        comparison: it is then no longer UniDEC.
    clustered : bool, default=True
        Whether batches are clusters of similar samples, from the first refresh on.
    refresh_every : int, default=3
        Epochs between minings and clusterings. Before the first, batches are random and pools hold
        positives only.

    References
    ----------
    UniDEC (WWW 2025).
    """

    size: PositiveInt | None = None
    n_positives: PositiveInt | None = 3
    n_negatives: NonNegativeInt = 6
    clustered: bool = True
    refresh_every: PositiveInt = 3


def negatives_of(pool: LabelPool, n_labels: int, batch_size: int) -> Negatives:
    """Return the source of pools: all labels where they fit, picked ones otherwise."""
    shared: dict[str, Any] = {"n_positives": pool.n_positives, "refresh_every": pool.refresh_every}
    capacity = POOL_PER_ROW * batch_size if pool.size is None else pool.size
    if capacity >= n_labels:
        return AllLabels(**shared)
    if not pool.n_negatives:
        return InBatch(pool_size=capacity, **shared)
    return Mined(
        depth=MINED_DEPTH,
        n_negatives=pool.n_negatives,
        n_kept=pool.n_negatives * pool.refresh_every,
        pool_size=capacity,
        **shared,
    )


def batches_of(pool: LabelPool, n_samples: int, batch_size: int) -> Batching:
    """Return the batches: clusters from the first refresh on, or random ones."""
    if not pool.clustered:
        return UniformBatches(n_samples, batch_size)
    return ClusteredBatches(n_samples, batch_size, refresh_every=pool.refresh_every, growth=None)


def pool_report(task: PoolTask, figures: PoolFigures) -> dict[str, float]:
    """Return what the pools of a training were like; most silent failures show here."""
    negatives: Any = task.settings.negatives
    report = task.report
    is_mined = isinstance(negatives, Mined)
    mined = report.unmatched if is_mined else 0
    empty = negatives.n_empty_ / task.y.shape[0] if is_mined and report.n_refreshes else 0
    return {
        "pool_size": figures.pool_size,
        "positives_per_query": figures.positives_per_query,
        "n_refreshes": float(figures.n_refreshes),
        "mined_share": mined / max(report.pool_size, 1),
        "empty_lists": float(empty),
        "masked_fraction": figures.masked_fraction,
    }
