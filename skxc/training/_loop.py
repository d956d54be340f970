"""The training loop of every torch estimator, to be read from top to bottom.

A method describes itself as a `Task`: its modules, its batches, and the gradients of one batch. The
loop adds what all methods share: the learning-rate schedule, clipping, seeds, progress, early
stopping, and checkpoints from which a killed run goes on as if nothing had happened.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from skxc._params import NonNegativeInt, Part, PositiveFloat, PositiveInt, params
from skxc.training._checkpoint import Checkpoint
from skxc.training._optim import (
    build_optimizers,
    clip_gradients,
    scale_learning_rate,
    warmup_then_decay,
)
from skxc.training._prefetch import ahead
from skxc.utils._random import stream, torch_seed

_LOG = logging.getLogger("skxc")


class Task:
    """What a method trains; a subclass overrides what it needs.

    Attributes
    ----------
    name : str
        Names the stage in progress bars, seeds and checkpoints.
    modules : nn.ModuleDict
        Everything that training changes.
    """

    name = "training"
    modules: nn.ModuleDict

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return optimiser groups (see `build_optimizers`)."""
        raise NotImplementedError

    def refresh(self, epoch: int, rng: np.random.Generator) -> None:
        """Renew what depends on the current model before an epoch: clusters, mined negatives."""

    def batches(self, epoch: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Yield the row ids of each batch of an epoch."""
        raise NotImplementedError

    def prepare(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Any:
        """Return what `backward` takes of a batch: all that is drawn, looked up and stacked.

        It reads neither what training changes nor torch's generators, because another thread calls
        it some batches ahead.
        """
        return rows

    def backward(self, batch: Any) -> Tensor:
        """Compute the loss of a prepared batch, accumulate its gradients, return it detached.

        It stays on its device, so that nobody waits for it.
        """
        raise NotImplementedError

    def epoch_record(self) -> dict[str, float]:
        """Return what the record of the last epoch holds beside the loss."""
        return {}

    def evaluate(self) -> float:
        """Return the figure on held-out rows that early stopping watches, higher is better."""
        raise NotImplementedError

    def get_state(self) -> dict[str, NDArray]:
        """Return arrays beyond the modules that a resumed run needs."""
        return {}

    def set_state(self, state: dict[str, NDArray]) -> None:
        """Take the arrays of `get_state` back."""


@params
class Training(Part):
    """How the steps of a training are run.

    Parameters
    ----------
    micro_batch_size : int or None, default=None
        Rows encoded at once with gradient caching, which bounds the memory of a step whatever the
        size of the pool; gradients do not depend on it. None: all at once.
    max_grad_norm : float or None, default=None
        Bound on the norm of all gradients of a step.
    precision : {"auto", "bfloat16", "float32"}, default="auto"
        Number format of transformers; "auto" is bfloat16 where the hardware has it.
    patience : int or None, default=None
        Epochs without a better precision@1 on held-out training rows after which a stage stops;
        the best epoch is kept. A second training on all rows ends after as many epochs. None: no
        early stopping.
    checkpoint_dir : str, Path or None, default=None
        Folder for a checkpoint after every epoch. A killed fit that is started again with the same
        parameters and data goes on from there and ends with the same model.
    keep_checkpoints : bool, default=False
        Whether the files stay when `fit` has finished, so that it need not be repeated either.
    n_jobs : int or None, default=None
        Threads that torch uses in `fit`; None: torch's own number.
    prefetch : int, default=2
        Batches that another thread draws, stacks and looks up while the present one is trained on;
        0: none. Results are the same, bit for bit.
    """

    micro_batch_size: PositiveInt | None = None
    max_grad_norm: PositiveFloat | None = None
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    patience: PositiveInt | None = None
    checkpoint_dir: str | PathLike[str] | None = None
    keep_checkpoints: bool = False
    n_jobs: int | None = None
    prefetch: NonNegativeInt = 2


@dataclass
class Plan:
    """How long and how a task is trained.

    Attributes
    ----------
    n_epochs : int
    seed : int
    stop_after : int or None
        Epochs after which training ends, on the schedule of `n_epochs`; None: all of them.
    warmup : float
        Share of all steps in which the learning rate rises.
    max_grad_norm : float or None
        Bound on the joint norm of all gradients.
    prefetch : int
        Batches that a thread prepares ahead.
    patience : int or None
        Epochs without improvement on held-out rows before training stops; None: never.
    checkpoint : Checkpoint or None
        Where to keep the state after every epoch.
    verbose : int
        0 is silent, 1 shows a progress bar.
    phase : str
        What the bar says beside the task's name: which of two trainings this is.
    start_epoch : callable or None
        Called before every epoch; returns what is called with the epoch's record after it, and
        stops training by returning True.
    """

    n_epochs: int
    seed: int
    stop_after: int | None = None
    warmup: float = 0.1
    max_grad_norm: float | None = None
    prefetch: int = 0
    patience: int | None = None
    checkpoint: Checkpoint | None = None
    verbose: int = 0
    phase: str = ""
    start_epoch: Callable[[], Callable[[dict[str, float]], bool]] | None = None


@dataclass
class Progress:
    """Where a run stands; saved with a checkpoint.

    Attributes
    ----------
    epoch : int
        Number of finished epochs.
    history : list of dict
        One record per epoch: loss, and the held-out figure where there is one.
    best : float
        Best held-out figure so far.
    best_epoch : int
        Number of epochs after which it was reached.
    stopped : bool
        Whether training ended before its last epoch.
    """

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = -math.inf
    best_epoch: int = 0
    stopped: bool = False


def train(task: Task, plan: Plan) -> Progress:
    """Train a task; its modules end where training does, or at the best epoch if it stops early.

    Parameters
    ----------
    task : Task
    plan : Plan

    Returns
    -------
    Progress
    """
    optimizers = build_optimizers(task.parameter_groups())
    progress, best = Progress(), None
    if plan.checkpoint is not None:
        progress, best = plan.checkpoint.resume(task, optimizers, progress)
    n_epochs = plan.n_epochs if plan.stop_after is None else plan.stop_after
    bar = tqdm(
        total=n_epochs,
        initial=progress.epoch,
        desc=f"{task.name}, {plan.phase}" if plan.phase else task.name,
        unit="epoch",
        disable=not plan.verbose,
    )
    with bar:
        while progress.epoch < n_epochs and not progress.stopped:
            end_epoch = plan.start_epoch() if plan.start_epoch is not None else None
            record = _train_epoch(task, optimizers, plan, progress.epoch)
            progress.epoch += 1
            if plan.patience is not None:
                record["held_out"] = task.evaluate()
                if record["held_out"] > progress.best:
                    progress.best, progress.best_epoch = record["held_out"], progress.epoch
                    best = copy.deepcopy(task.modules.state_dict())
                progress.stopped = progress.epoch - progress.best_epoch >= plan.patience
            progress.history.append(record)
            bar.update()
            bar.set_postfix({name: f"{value:.4g}" for name, value in record.items()})
            _LOG.debug("%s epoch %d: %s", task.name, progress.epoch, record)
            if end_epoch is not None and end_epoch(record):
                progress.stopped = True
            if plan.checkpoint is not None:
                plan.checkpoint.write(task, optimizers, progress, best)
    if best is not None:
        task.modules.load_state_dict(best)
    task.modules.eval()
    return progress


def _train_epoch(
    task: Task, optimizers: list[torch.optim.Optimizer], plan: Plan, epoch: int
) -> dict[str, float]:
    # Every epoch seeds itself, and leaves the global generators as they were.
    rng = stream(plan.seed, task.name, epoch)
    losses: list[Tensor] = []
    with torch_seed(int(rng.integers(2**31)), _cuda_devices(task.modules)):
        task.refresh(epoch, rng)
        task.modules.train()
        batches = list(task.batches(epoch, rng))
        # Nobody else draws from the stream meanwhile, so threads do not change what is drawn.
        steps = ahead((task.prepare(rows, rng) for rows in batches), plan.prefetch)
        with closing(steps):
            for number, batch in enumerate(steps):
                done = (epoch + (number + 0.5) / len(batches)) / plan.n_epochs
                scale_learning_rate(optimizers, warmup_then_decay(done, plan.warmup))
                losses.append(task.backward(batch))
                if plan.max_grad_norm is not None:
                    clip_gradients(optimizers, plan.max_grad_norm)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
    return {"loss": mean_loss(losses), **task.epoch_record()}


def mean_loss(losses: list[Tensor]) -> float:
    """Return the mean loss of an epoch, read once at its end: no step waits for a device."""
    return torch.stack(losses).double().mean().item() if losses else math.nan


def _cuda_devices(modules: nn.Module) -> list[int]:
    return sorted({p.device.index for p in modules.parameters() if p.device.type == "cuda"})
