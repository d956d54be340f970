"""What estimators that train with torch share: device, threads, seeds, callbacks, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from joblib import effective_n_jobs

from skxc._hold_out import MODERATE_SAMPLE
from skxc._label_side import EmbeddingMixin, LabelSideXC
from skxc._params import Parameterized, PositiveFloat, PositiveInt, Verbose, params
from skxc.base import Fit
from skxc.training import Checkpoint, Plan, Progress, Task, Training, fingerprint, train
from skxc.utils._bases import CallbackSupport
from skxc.utils._callbacks import NullCallbackContext
from skxc.utils._memory import check_memory
from skxc.utils._precision import resolve_device

if TYPE_CHECKING:
    from skxc.base import Model, TrainingSet

# Parameters that do not change what is trained, or whose content is hashed as data.
_NOT_IN_FINGERPRINT = {
    *("device", "graph", "label_features", "random_state", "verbose"),
    *("training.checkpoint_dir", "training.keep_checkpoints", "training.n_jobs"),
    "training.prefetch",
}


@dataclass(frozen=True, eq=False)
class NeuralFit(Fit):
    """A training with torch, whose stages are run one by one.

    Attributes
    ----------
    estimator : NeuralXC
    training : Training
    device : torch.device
    fingerprint : str
        Of parameters and data; names the checkpoints.
    callbacks : CallbackContext
    """

    estimator: NeuralXC
    training: Training
    device: torch.device
    fingerprint: str
    callbacks: Any

    def run(self, task: Task, n_epochs: int, model: Callable[[], Model]) -> Progress:
        """Train one stage; callbacks see each epoch, and the model of its weights."""
        X, y = self.data.source

        def start_epoch() -> Callable[[dict[str, float]], bool]:
            step = self.callbacks.subcontext(task_name=f"{task.name} epoch")
            step.call_on_fit_task_begin(estimator=self.estimator, X=X, y=y)
            return lambda record: step.call_on_fit_task_end(
                estimator=self.estimator,
                X=X,
                y=y,
                metadata=record,
                reconstruction_attributes=lambda: {
                    **self.data.attributes,
                    "model_": self.with_choices(model()),
                },
            )

        checkpoint, folder = None, self.training.checkpoint_dir
        if folder is not None:
            checkpoint = Checkpoint(Path(folder), self.fingerprint, task.name)
            if not self.training.keep_checkpoints:
                self.trial.checkpoints.append(checkpoint)
        is_second = self.trial.calibrator is not None
        watched = self.trial.watched.get(task.name) if is_second else None
        plan = Plan(
            n_epochs=n_epochs,
            stop_after=None if watched is None else len(watched),
            seed=self.seed,
            max_grad_norm=self.training.max_grad_norm,
            prefetch=self.training.prefetch,
            # Very small data leave no rows to stop on; a second training follows the first.
            patience=None if self.held_out is None else self.training.patience,
            checkpoint=checkpoint,
            verbose=self.estimator.verbose,
            phase="held-out fit" if self.is_trial else "fit on all rows" if is_second else "",
            start_epoch=start_epoch,
        )
        progress = train(task, plan)
        if plan.patience is not None:
            best = progress.history[: progress.best_epoch]
            self.trial.watched[task.name] = [record["held_out"] for record in best]
        for record, figure in zip(progress.history, watched or (), strict=False):
            record["held_out"] = figure
        return progress


@params
class NeuralXC(CallbackSupport, EmbeddingMixin, LabelSideXC):
    """Base of estimators that train epoch by epoch; their recipes run one stage or several.

    Parameters
    ----------
    n_epochs : int, default=7
        Epochs of training.
    batch_size : int or "auto", default="auto"
        Rows per step; "auto" is 1,024, less for small data.
    learning_rate : float or None, default=None
        None: the encoder's own.
    training : Training or None, default=None
        How steps are run: micro-batches, precision, early stopping, checkpoints; see
        `skxc.training.Training`. None: its defaults.
    device : str, default="auto"
        Where torch computes; "auto" is a GPU where there is one.
    verbose : int, default=0
        1 shows a progress bar.
    """

    n_epochs: PositiveInt = 7
    batch_size: PositiveInt | Literal["auto"] = "auto"
    learning_rate: PositiveFloat | None = None
    training: Training | None = None
    device: str = "auto"
    verbose: Verbose = 0

    _accepts_texts: ClassVar[bool] = True
    #: Arrays of a vector per label that `fit` holds at once.
    _label_arrays: ClassVar[int] = 1
    #: Steps that an epoch of small data has at least with ``batch_size="auto"``.
    _fewest_steps: ClassVar[int] = 8

    def _refits(self, n_samples: int) -> bool:
        return n_samples <= MODERATE_SAMPLE

    def _size_of_batches(self, n_samples: int) -> int:
        """Return the batch size; "auto" is a power of two that makes enough steps an epoch.

        It is at least 64, below which more steps take longer and teach no more.
        """
        if self.batch_size != "auto":
            return self.batch_size
        return min(1024, 2 ** (max(n_samples // self._fewest_steps, 64).bit_length() - 1))

    def _needed_bytes(self, data: TrainingSet) -> int:
        """Return what vectors of labels and rows take at the peak of `fit`; 0: nobody knows."""
        dim = getattr(self._part("encoder"), "dim", None) or 0
        is_trained = getattr(self, "label_vectors", None) is not False
        n_labels = data.n_labels * (self._label_arrays if is_trained else 1)
        return 4 * dim * (n_labels + data.n_samples)

    def _run_training(self, fit: Fit) -> Any:
        if needed := self._needed_bytes(fit.data):
            check_memory(type(self).__name__, needed, verbose=self.verbose)
        with self._open(fit) as opened:
            return self._train(opened)

    @contextmanager
    def _open(self, fit: Fit) -> Iterator[NeuralFit]:
        """Open a training: seed, device, threads, and the root of the callbacks' tasks."""
        training = self._part("training")
        seed, name = fit.seed, ""
        if training.checkpoint_dir is not None:
            seed, name = self._seed_and_fingerprint(fit)
        # Callbacks see the real training only.
        context: Any = NullCallbackContext()
        if not fit.is_trial:
            context = self._init_callback_context(max_subtasks=None)
        X, y = fit.data.source
        opened = NeuralFit(
            data=fit.data,
            held_out=fit.held_out,
            is_trial=fit.is_trial,
            seed=seed,
            trial=fit.trial,
            estimator=self,
            training=training,
            device=resolve_device(self.device),
            fingerprint=name,
            callbacks=context,
        )
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        threads = torch.get_num_threads()
        try:
            if training.n_jobs is not None:
                torch.set_num_threads(effective_n_jobs(training.n_jobs))
            yield opened
        finally:
            torch.set_num_threads(threads)
        context.call_on_fit_task_end(estimator=self, X=X, y=y)

    def _seed_and_fingerprint(self, fit: Fit) -> tuple[int, str]:
        """Return a seed, and a hash of parameters and data that names the checkpoints."""
        drawn = None if self.random_state is None else fit.seed
        data, held_out = fit.data, fit.held_out
        name = fingerprint(
            [pair for pair in _leaves(self) if pair[0] not in _NOT_IN_FINGERPRINT],
            *(data.X, data.y, data.sample_weight, data.label_features, data.sample_graph),
            *_parts_of_graph(data.graph),
            *((None, None) if held_out is None else (held_out.X, held_out.y)),
            *sorted(fit.trial.watched.items()),
            drawn,
        )
        # A resumed run must draw what the killed one drew, so without a seed the data give one.
        return (int(name[:7], 16) if drawn is None else drawn), name


def _leaves(owner: Parameterized, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the names and values of all parameters, those of parts included."""
    found = []
    for name in sorted(owner.get_params(deep=False)):
        part = owner._part(name)
        if isinstance(part, Parameterized):
            found += [(prefix + name, type(part).__name__), *_leaves(part, f"{prefix}{name}.")]
        else:
            found.append((prefix + name, part))
    return found


def _parts_of_graph(graph: Any) -> tuple[Any, ...]:
    """Return what a checkpoint's name has to tell apart about a graph."""
    if graph is None or isinstance(graph, str):
        return (graph,)
    return graph.to_csr(), getattr(graph, "texts", None), getattr(graph, "groups", None)
