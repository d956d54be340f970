"""Stochastic rounding to bfloat16, with which small steps are not lost but taken now and then."""

from __future__ import annotations

import torch
from torch import Tensor


def store_rows(table: Tensor, ids: Tensor, rows: Tensor) -> None:
    """Write float32 rows into a table, in float32 as they are, in bfloat16 rounded at random.

    A step of Adam is often below half a unit in the last of bfloat16's eight digits, where nearest
    rounding would undo it every time. Rounding up with the probability of the remainder is right on
    average (Gupta et al., "Deep Learning with Limited Numerical Precision", ICML 2015).

    Parameters
    ----------
    table : Tensor of float32 or bfloat16, shape (n, d)
    ids : Tensor of int64, shape (m,)
        Distinct rows.
    rows : Tensor of float32, shape (m, d)
    """
    if table.dtype == torch.bfloat16:
        rows = round_stochastically(rows)
    table.index_copy_(0, ids, rows)


def round_stochastically(values: Tensor) -> Tensor:
    """Return float32 values as bfloat16, each of the two neighbours as likely as it is near."""
    # bfloat16 is the upper half of float32: a random number is added to the lower half, whose carry
    # rounds up, and the half is cut off.
    bits = values.contiguous().view(torch.int32)
    noise = torch.randint(2**16, bits.shape, dtype=torch.int32, device=bits.device)
    rounded = bits.add(noise).bitwise_and_(-(2**16)).view(torch.float32)
    # Infinity and NaN have no neighbours, and a carry would make other numbers of them.
    return torch.where(values.isfinite(), rounded, values).to(torch.bfloat16)
