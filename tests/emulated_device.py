"""A second device without hardware: its tensors say that they are on it, and compute on the CPU.

A tensor of the CPU that meets one of the device raises, as on CUDA. What makes the host wait and
what is copied is counted. It does not show kernels, asynchrony, or memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "emulated"
#: The host waits for the result of these.
_WAITS = {
    *("_local_scalar_dense", "nonzero", "bincount", "masked_select", "_unique2", "unique_dim"),
    *("unique_consecutive", "equal", "repeat_interleave"),
}
_COPIES = {"copy_", "_to_copy"}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_INDICES = (torch.int64, torch.int32, torch.bool, torch.uint8)


#: How often the host waited ("sync") and something was copied ("copy"), and the "kernel"s.
COUNTS: Counter[str] = Counter()


def register() -> None:
    """Make the device known to torch, once per process."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    if torch._C._get_privateuse1_backend_name() != NAME:
        _setup_privateuseone_for_python_backend(NAME)


class _Tensor(torch.Tensor):
    @staticmethod
    def __new__(cls, held: torch.Tensor) -> _Tensor:
        options = {"dtype": held.dtype, "layout": held.layout, "device": torch.device(NAME, 0)}
        if held.layout == torch.strided:
            options |= {"strides": held.stride(), "storage_offset": held.storage_offset()}
        return torch.Tensor._make_wrapper_subclass(cls, held.size(), **options)

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"emulated({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


@contextmanager
def emulated() -> Iterator[Counter[str]]:
    """Let torch compute on the device within a block; yield what is counted there."""
    register()
    COUNTS.clear()
    with _Mode():
        yield COUNTS


def _held(x):
    return x.held if isinstance(x, _Tensor) else x


def _on(x):
    return _Tensor(x) if isinstance(x, torch.Tensor) and not isinstance(x, _Tensor) else x


def _run(func, args, kwargs):
    name = func._overloadpacket.__name__
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    there = [t for t in tensors if isinstance(t, _Tensor)]
    here = [t for t in tensors if not isinstance(t, _Tensor)]
    device = kwargs.get("device")
    wanted = torch.device(device).type == NAME if device is not None else bool(there)
    if name in _COPIES:
        return _copy(func, name, args, kwargs, wanted)
    if not there and not wanted:
        return func(*args, **kwargs)
    if there:
        _check(name, there, here)
    if name in _WAITS or (name == "_coalesce" and not args[0].is_coalesced()):
        COUNTS["sync"] += 1
    if name in _INDEXING and any(
        isinstance(t, _Tensor) and t.dtype == torch.bool for t in tree_flatten(args[1])[0]
    ):
        COUNTS["sync"] += 1
    if wanted and not there and here:
        COUNTS["copy"] += len(here)
    COUNTS["kernel"] += 1
    options = {key: _held(value) for key, value in tree_map(_held, kwargs).items()}
    if device is not None:
        options["device"] = torch.device("cpu")
    result = func(*tree_map(_held, args), **options)
    if name == "_local_scalar_dense":
        return result
    # What works in place gives back the tensor that it got.
    known = {id(_held(t)): t for t in there}
    return tree_map(
        lambda x: known.get(id(x), _on(x)) if isinstance(x, torch.Tensor) else x, result
    )


def _copy(func, name, args, kwargs, wanted):
    if name == "copy_":
        target, source = args[0], args[1]
        if isinstance(target, _Tensor) != isinstance(source, _Tensor):
            _count_copy(isinstance(target, _Tensor))
        _held(target).copy_(_held(source))
        return target
    options = {**kwargs, "device": torch.device("cpu")} if kwargs.get("device") else kwargs
    source = args[0]
    result = func(*tree_map(_held, args), **options)
    if isinstance(source, _Tensor) != wanted:
        _count_copy(wanted)
    if result is _held(source):
        result = result.clone()
    return _Tensor(result) if wanted else result


def _count_copy(to_device: bool) -> None:
    COUNTS["copy"] += 1
    if not to_device:  # the host waits for what it reads
        COUNTS["sync"] += 1


def _check(name, there, here):
    """Raise if a tensor of the CPU meets those of the device; numbers and indices may."""
    wrong = [t for t in here if t.dim() > 0]
    if name in _INDEXING:
        indices = [t for t in wrong if t.dtype in _INDICES]
        COUNTS["copy"] += len(indices)
        wrong = [t for t in wrong if t.dtype not in _INDICES]
    if wrong:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {name} got "
            f"{[tuple(t.shape) for t in wrong]} of the CPU and "
            f"{[tuple(t.shape) for t in there]} of the device"
        )
