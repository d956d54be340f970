"""One compiled loop for the row-sparse Adam on a CPU: each row is read and written once.

Built from torch's operations, a step reads and writes its rows a dozen times, and memory traffic is
all that it costs. The arithmetic is the same, up to rounding.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skxc.utils._compiled import compiled
from skxc.utils._row_sparse import runs_loops
from skxc.utils._threads import in_parts


class Rule(NamedTuple):
    """Adam's numbers in one step, all float32.

    Attributes
    ----------
    towards : float
        1 - beta1.
    beta2, rest2 : float
        The second decay, and 1 minus it.
    correction2 : float
        Bias correction of the second moment.
    eps : float
    kept : float
        Factor of the weights, below 1 with weight decay.
    rate : float
        Learning rate over the bias correction of the first moment.
    """

    towards: np.float32
    beta2: np.float32
    rest2: np.float32
    correction2: np.float32
    eps: np.float32
    kept: np.float32
    rate: np.float32


def can_fuse(parameter: Tensor) -> bool:
    """Return whether `fused_step` takes this table; torch's operations take every table."""
    return (
        runs_loops(parameter.device)
        and parameter.dtype in (torch.float32, torch.bfloat16)
        and parameter.dim() == 2
        and parameter.is_contiguous()
    )


def fused_step(tables: tuple[Tensor, ...], ids: Tensor, gradient: Tensor, rule: Rule) -> None:
    """Move the rows that have a gradient, in place.

    Parameters
    ----------
    tables : tuple of three Tensors of float32 or bfloat16, shape (n, d)
        Weights, and first and second moments.
    ids : Tensor of int64, shape (m,)
        Distinct rows.
    gradient : Tensor of float32, shape (m, d)
    rule : Rule
    """
    rows, values = ids.contiguous().numpy(), gradient.contiguous().numpy()
    halves, seed = tables[0].dtype == torch.bfloat16, 0
    if halves:
        # One draw a step; what a row adds depends on its number alone, not on threads.
        seed = int(torch.randint(2**62, ()))
        tables = tuple(table.view(torch.int16) for table in tables)
    arrays = [table.numpy() for table in tables]

    def move(first: int, last: int) -> None:
        run: Any = _move_halves if halves else _move_floats
        run(*arrays, rows, values, first, last, rule, seed)

    in_parts(move, len(rows), values.size)


@compiled
def _move(weight: Any, mean: Any, square: Any, gradient: Any, rule: Rule) -> None:
    for j in range(len(gradient)):
        value = gradient[j]
        first = mean[j] + rule.towards * (value - mean[j])
        second = square[j] * rule.beta2 + rule.rest2 * value * value
        mean[j], square[j] = first, second
        denominator = np.float32(math.sqrt(second / rule.correction2)) + rule.eps
        weight[j] = weight[j] * rule.kept - rule.rate * (first / denominator)


@compiled
def _move_floats(
    weight: NDArray,
    mean: NDArray,
    square: NDArray,
    ids: NDArray,
    gradient: NDArray,
    first: int,
    last: int,
    rule: Rule,
    seed: int,
) -> None:
    for i in range(first, last):
        row = ids[i]
        _move(weight[row], mean[row], square[row], gradient[i], rule)


@compiled
def _move_halves(
    weight: NDArray,
    mean: NDArray,
    square: NDArray,
    ids: NDArray,
    gradient: NDArray,
    first: int,
    last: int,
    rule: Rule,
    seed: int,
) -> None:
    tables = (weight, mean, square)
    bits = np.empty((3, weight.shape[1]), dtype=np.uint32)
    rows = bits.view(np.float32)
    for i in range(first, last):
        for table, wide in zip(tables, bits):  # noqa: B905 - numba knows no `strict`
            half = table[ids[i]]
            for j in range(len(half)):
                wide[j] = np.uint32(np.uint16(half[j])) << np.uint32(16)
        _move(rows[0], rows[1], rows[2], gradient[i], rule)
        state = np.uint64(seed) + np.uint64(ids[i]) * np.uint64(0xD1B54A32D192ED03)
        for number in range(3):
            state = _round(bits[number], tables[number][ids[i]], state)


@compiled
def _round(wide: Any, half: Any, state: np.uint64) -> np.uint64:
    """Round float32 bits to bfloat16 at random (see `skxc.utils._rounding`)."""
    for j in range(len(half)):
        # SplitMix64 (Steele et al., OOPSLA 2014).
        state += np.uint64(0x9E3779B97F4A7C15)
        noise = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        noise = (noise ^ (noise >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        value = wide[j]
        if value & np.uint32(0x7F800000) != np.uint32(0x7F800000):  # infinity and NaN stay
            value += np.uint32(noise >> np.uint64(48))
        elif value & np.uint32(0xFFFF):
            value |= np.uint32(0x400000)  # a NaN of low bits only would be cut to infinity
        half[j] = np.int16(np.uint16(value >> np.uint32(16)))
    return state
