"""What estimators that train with torch share: device, threads, seeds, callbacks, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse as sp
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from skxc.base import BaseXC, EmbeddingMixin, Features, TrainingSet
from skxc.calibration import TopKCalibrator
from skxc.utils._callbacks import CallbackSupportMixin
from skxc.utils._random import root_seed
from skxc.utils._same_text import same_text_pairs
from skxc.utils._sparse import TopK, drop_pairs

if TYPE_CHECKING:
    import torch

    from skxc.training import Progress, Task

# Queries searched at once: bounds the memory of a prediction, however many rows and labels.
BLOCK_ROWS = 1024
# Parameters that do not change what is trained, or whose content is hashed as data.
_NOT_IN_FINGERPRINT = {
    "checkpoint_dir",
    "device",
    "graph",
    "label_features",
    "n_jobs",
    "random_state",
    "verbose",
    "warm_start",
}


@dataclass(frozen=True)
class Run:
    """One fit: what all its stages share.

    Attributes
    ----------
    data : TrainingSet
    held_out : TrainingSet or None
        Rows that steer and are not trained on.
    seed : int
    device : torch.device
    fingerprint : str
        Of parameters and data; names the checkpoints.
    callbacks : CallbackContext
    """

    data: TrainingSet
    held_out: TrainingSet | None
    seed: int
    device: torch.device
    fingerprint: str
    callbacks: Any


class NeuralBase(CallbackSupportMixin, EmbeddingMixin, BaseXC):
    """Base of estimators that train epoch by epoch; a subclass calls `_train` for each stage."""

    _accepts_texts: ClassVar[bool] = True
    #: Steps that an epoch of small data has at least with ``batch_size="auto"``.
    _fewest_steps: ClassVar[int] = 8
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseXC._parameter_constraints,
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "micro_batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
        "precision": [StrOptions({"auto", "bfloat16", "float32"})],
        "early_stopping": ["boolean"],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "checkpoint_dir": [str, PathLike, None],
    }

    def _gives_rows_back(self, n_samples: int) -> bool:
        # A second training on all rows would have none left to stop on.
        return not self.early_stopping and super()._gives_rows_back(n_samples)

    def _batch_size(self, n_samples: int) -> int:
        """Return the batch size; "auto" is a power of two that makes enough steps an epoch.

        It is at least 64, below which more steps take longer and teach no more.
        """
        if self.batch_size != "auto":
            return self.batch_size
        return min(1024, 2 ** (max(n_samples // self._fewest_steps, 64).bit_length() - 1))

    def _device(self) -> torch.device:
        """Return the device to train and predict on, which a loaded model chooses anew."""
        from skxc.utils._precision import resolve_device

        return resolve_device(self.device)

    @contextmanager
    def _run(self, data: TrainingSet, held_out: TrainingSet | None) -> Iterator[Run]:
        """Open a fit: seed, device, threads, and the root of the callbacks' tasks."""
        import torch

        seed, fingerprint = self._seed_and_fingerprint(data, held_out)
        X, y = data.source
        context = self._init_callback_context(max_subtasks=None)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        threads = torch.get_num_threads()
        try:
            if self.n_jobs is not None:
                torch.set_num_threads(effective_n_jobs(self.n_jobs))
            yield Run(data, held_out, seed, self._device(), fingerprint, context)
        finally:
            torch.set_num_threads(threads)
        context.call_on_fit_task_end(estimator=self, X=X, y=y)

    def _seed_and_fingerprint(
        self, data: TrainingSet, held_out: TrainingSet | None
    ) -> tuple[int, str]:
        """Return the seed, and a hash of parameters and data where checkpoints need one."""
        from skxc.training import fingerprint

        if self.checkpoint_dir is None:
            return root_seed(self.random_state), ""
        drawn = None if self.random_state is None else root_seed(self.random_state)
        params = self.get_params().items()
        name = fingerprint(
            [(key, value) for key, value in params if key not in _NOT_IN_FINGERPRINT],
            *(data.X, data.y, data.sample_weight, data.label_features, data.sample_graph),
            *_parts_of_graph(data.graph),
            *((None, None) if held_out is None else (held_out.X, held_out.y)),
            self._trained_labels() if self.warm_start else None,
            drawn,
        )
        # A resumed run must draw what the killed one drew, so without a seed the data give one.
        return (int(name[:7], 16) if drawn is None else drawn), name

    def _trained_labels(self) -> Any:
        """Return the label vectors of the last fit, one row per label, or None before the first."""
        return getattr(self, "label_embeddings_", None)

    def _train(self, run: Run, task: Task, n_epochs: int) -> Progress:
        """Train one stage; callbacks see each epoch as a task of the fit."""
        from skxc.training import Checkpoint, Plan, train

        X, y = run.data.source

        def start_epoch() -> Callable[[dict[str, float]], bool]:
            step = run.callbacks.subcontext(task_name=f"{task.name} epoch")
            step.call_on_fit_task_begin(estimator=self, X=X, y=y)
            return lambda record: step.call_on_fit_task_end(
                estimator=self,
                X=X,
                y=y,
                metadata=record,
                reconstruction_attributes=lambda: self._attributes(task, run.data),
            )

        checkpoint = None
        if self.checkpoint_dir is not None:
            checkpoint = Checkpoint(self.checkpoint_dir, run.fingerprint, task.name)
        plan = Plan(
            n_epochs=n_epochs,
            seed=run.seed,
            max_grad_norm=self.max_grad_norm,
            patience=self.n_iter_no_change if self._can_stop_early(run) else None,
            checkpoint=checkpoint,
            verbose=self.verbose,
            start_epoch=start_epoch,
        )
        return train(task, plan)

    def _can_stop_early(self, run: Run) -> bool:
        """Return whether there are rows to stop on, which very small data leave none of."""
        return self.early_stopping and run.held_out is not None

    def _attributes(self, task: Any, data: TrainingSet) -> dict[str, Any]:
        """Return the fitted attributes that the current state of a task amounts to."""
        raise NotImplementedError(f"{type(self).__name__} must define `_attributes`.")

    def _set(self, attributes: dict[str, Any], **more: Any) -> None:
        self.__dict__.update(attributes, **more)

    # ---- search

    def _search_block(self, queries: Any, k: int) -> TopK:
        """Return the best labels of a block of embedded or prepared samples."""
        raise NotImplementedError(f"{type(self).__name__} must define `_search_block`.")

    def _embed(self, X: Features) -> NDArray[np.float32]:
        encoder = self.encoder_.to(self._device())
        return encoder.encode(encoder.prepare(X), precision=self.precision)

    def _search_in_blocks(self, queries: Any, k: int) -> TopK:
        """Return the best labels of all queries, whose number does not bound the memory."""
        blocks = [
            self._search_block(queries[start : start + BLOCK_ROWS], k)
            for start in range(0, queries.shape[0], BLOCK_ROWS)
        ]
        labels, scores = zip(*blocks, strict=True)
        return np.concatenate(labels), np.concatenate(scores)

    def _calibrate(self, held_out: TrainingSet) -> TopKCalibrator:
        scores = without_own(self._retrieve(held_out.X, self.top_k), held_out)
        return TopKCalibrator().fit(scores, held_out.y, held_out.sample_weight)


def without_own(scores: sp.csr_array, data: TrainingSet) -> sp.csr_array:
    """Return the scores of rows without labels whose text is the row's, which are no answers."""
    own = same_text_pairs(data.X, data.label_features, data.y)
    return scores if own is None else drop_pairs(scores, own)


def _parts_of_graph(graph: Any) -> tuple[Any, ...]:
    """Return what a checkpoint's name has to tell apart about a graph."""
    if graph is None or isinstance(graph, str):
        return (graph,)
    return graph.to_csr(), getattr(graph, "texts", None), getattr(graph, "groups", None)
