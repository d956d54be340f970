"""Looking into predictions: where, from tail to head, an estimator gains."""

from __future__ import annotations

from skxc.inspection._deciles import (
    FrequencyBins,
    plot_precision_by_frequency,
    precision_by_frequency,
)

__all__ = ["FrequencyBins", "plot_precision_by_frequency", "precision_by_frequency"]
