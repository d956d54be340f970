"""Checkpoints: one file per run and stage, written atomically after every epoch.

The file's name holds a fingerprint of parameters and data, so that a run finds its own file and no
other. Because every epoch seeds itself, module, optimiser and task arrays are the whole state.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from skxc.persistence import read_state, write_state
from skxc.persistence._files import remove, remove_abandoned, temporaries

if TYPE_CHECKING:
    from skxc.training._loop import Progress, Task


class Checkpoint:
    """The saved state of one stage of one run.

    Parameters
    ----------
    folder : str or Path
        Created if missing.
    fingerprint : str
        Identifies parameters and data (see `fingerprint`).
    stage : str
    """

    def __init__(self, folder: str | Path, fingerprint: str, stage: str) -> None:
        self.path = Path(folder) / f"{stage}-{fingerprint}.safetensors"

    def write(
        self,
        task: Task,
        optimizers: list[torch.optim.Optimizer],
        progress: Progress,
        best: dict[str, torch.Tensor] | None,
    ) -> None:
        """Replace the file by the current state."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"module/{name}": _array(t) for name, t in task.modules.state_dict().items()}
        arrays |= {f"task/{name}": array for name, array in task.get_state().items()}
        arrays |= {f"best/{name}": _array(tensor) for name, tensor in (best or {}).items()}
        steps = {}
        for number, optimizer in enumerate(optimizers):
            for key, state in optimizer.state_dict()["state"].items():
                for name, value in state.items():
                    place = f"optimizer/{number}/{key}/{name}"
                    if isinstance(value, torch.Tensor):
                        arrays[place] = _array(value)
                    else:
                        steps[place] = value
        write_state(self.path, arrays, {"progress": asdict(progress), "steps": steps})

    def resume(
        self, task: Task, optimizers: list[torch.optim.Optimizer], fresh: Progress
    ) -> tuple[Progress, dict[str, torch.Tensor] | None]:
        """Load the file, if there is one, into task and optimisers; return progress and best."""
        found = read_state(self.path)
        if found is None:
            return fresh, None
        arrays, meta = found
        task.modules.load_state_dict(_tensors(_under(arrays, "module/")))
        task.set_state(_under(arrays, "task/"))
        for number, optimizer in enumerate(optimizers):
            optimizer.load_state_dict(
                {**optimizer.state_dict(), "state": _optimizer_state(arrays, meta["steps"], number)}
            )
        best = _under(arrays, "best/")
        return type(fresh)(**meta["progress"]), _tensors(best) if best else None

    def remove(self) -> None:
        """Remove the file, and what a killed process was writing."""
        if self.path.exists():
            remove([self.path])
            remove_abandoned(temporaries(self.path))


def fingerprint(*parts: Any) -> str:
    """Return a short hash of parameters, arrays, CSR matrices and texts."""
    digest = hashlib.sha256()
    for part in parts:
        _update(digest, part)
    return digest.hexdigest()[:16]


def _update(digest: Any, part: Any) -> None:
    if hasattr(part, "indptr"):
        _update(digest, part.shape)
        for array in (part.indptr, part.indices, part.data):
            _update(digest, array)
    elif isinstance(part, np.ndarray) and part.dtype != object:
        _update(digest, (part.dtype.str, part.shape))
        digest.update(np.ascontiguousarray(part).data)
    elif isinstance(part, np.ndarray):
        _update(digest, part.shape)
        for item in part:
            digest.update(repr(item).encode() + b"\0")
    else:
        digest.update(repr(part).encode() + b"\0")


def _optimizer_state(
    arrays: dict[str, NDArray], steps: dict[str, Any], number: int
) -> dict[int, dict[str, Any]]:
    prefix = f"optimizer/{number}/"
    state: dict[int, dict[str, Any]] = {}
    values = {**_tensors(_under(arrays, prefix)), **_under(steps, prefix)}
    for place, value in values.items():
        key, name = place.split("/")
        state.setdefault(int(key), {})[name] = value
    return state


def _under(mapping: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name[len(prefix) :]: value for name, value in mapping.items() if name.startswith(prefix)
    }


def _array(tensor: torch.Tensor) -> NDArray:
    if tensor.dtype == torch.bfloat16:  # numpy has no such type; float32 holds it exactly
        tensor = tensor.float()
    return tensor.detach().cpu().numpy()


def _tensors(arrays: dict[str, NDArray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
