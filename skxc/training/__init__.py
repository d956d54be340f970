"""Training: the loop, and what the methods train with it. Imports torch."""

from __future__ import annotations

from skxc.training._checkpoint import Checkpoint, fingerprint
from skxc.training._grad_cache import backward_in_chunks
from skxc.training._label_table import LabelVectors
from skxc.training._loop import Plan, Progress, Task, Training, train
from skxc.training._optim import RowSparseAdam, build_optimizers
from skxc.training._pool import HeldOut, LabelQueries, PoolSettings, PoolTask, share_of_epoch

__all__ = [
    "Checkpoint",
    "HeldOut",
    "LabelQueries",
    "LabelVectors",
    "Plan",
    "PoolSettings",
    "PoolTask",
    "Progress",
    "RowSparseAdam",
    "Task",
    "Training",
    "backward_in_chunks",
    "build_optimizers",
    "fingerprint",
    "share_of_epoch",
    "train",
]
