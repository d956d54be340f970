"""Clusters of equal size. numpy and scipy only."""

from __future__ import annotations

from skxc.clustering._apart import balanced_kmeans_apart
from skxc.clustering._balanced_kmeans import balanced_kmeans

__all__ = ["balanced_kmeans", "balanced_kmeans_apart"]
