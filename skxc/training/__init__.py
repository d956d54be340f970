"""Training: the loop, and what the methods train with it. Imports torch."""

from __future__ import annotations

from skxc.training._bandit import Bandit, BanditSettings, FixedWeights
from skxc.training._checkpoint import Checkpoint, fingerprint
from skxc.training._classifier import ClassifierTask
from skxc.training._dual_encoder import DualEncoderTask
from skxc.training._edges import LearnedEdges, TreeEdges
from skxc.training._fused_classifier import DocumentBlock, FusedClassifiers, ResidualBlock
from skxc.training._fused_task import FusedClassifierTask
from skxc.training._grad_cache import backward_in_chunks
from skxc.training._graph_terms import GraphRegularizedTask, GraphTerm, TermSettings
from skxc.training._heads import TwoHeads
from skxc.training._label_table import LabelTable
from skxc.training._learned_index import (
    LearnedIndexSettings,
    LearnedIndexTask,
    new_classifiers,
    new_clusters,
)
from skxc.training._loop import Plan, Progress, Task, train
from skxc.training._optim import RowSparseAdam, build_optimizers
from skxc.training._pool import HeldOut, PoolSettings, PoolTask
from skxc.training._unified import UnifiedTask

__all__ = [
    "Bandit",
    "BanditSettings",
    "Checkpoint",
    "ClassifierTask",
    "DocumentBlock",
    "DualEncoderTask",
    "FixedWeights",
    "FusedClassifierTask",
    "FusedClassifiers",
    "GraphRegularizedTask",
    "GraphTerm",
    "HeldOut",
    "LabelTable",
    "LearnedEdges",
    "LearnedIndexSettings",
    "LearnedIndexTask",
    "Plan",
    "PoolSettings",
    "PoolTask",
    "Progress",
    "ResidualBlock",
    "RowSparseAdam",
    "Task",
    "TermSettings",
    "TreeEdges",
    "TwoHeads",
    "UnifiedTask",
    "backward_in_chunks",
    "build_optimizers",
    "fingerprint",
    "new_classifiers",
    "new_clusters",
    "train",
]
