"""Which rows share a batch. numpy only."""

from __future__ import annotations

from skxc.batching._clustered import ClusteredBatches, growth_epochs
from skxc.batching._uniform import UniformBatches
from skxc.batching.base import Batching

__all__ = ["Batching", "ClusteredBatches", "UniformBatches", "growth_epochs"]
