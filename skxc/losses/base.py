"""What all losses share: float32, hidden cells, dropped rows, weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from skxc._params import Parameterized, PositiveFloat, params

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# The logit of a cell that takes no part. Far enough below any logit to vanish exactly, finite so
# that differences of two hidden cells are 0 and not NaN. It does not fit float16: losses compute in
# float32.
HIDDEN = -1e30


@dataclass(frozen=True)
class Positives:
    """The positive cells of a batch, row by row: all a loss needs to know besides the scores.

    Attributes
    ----------
    rows, columns : Tensor of int64, shape (c,)
        Their positions, sorted by row.
    share : Tensor of float, shape (c,)
        Weight of a positive within its row; sums to 1 over a row, 1/n with equal weights.
    row_weight : Tensor of float, shape (B,)
        Weight of a row within the batch; sums to 1 over the batch, 0 for rows without positives.
    """

    rows: Tensor
    columns: Tensor
    share: Tensor
    row_weight: Tensor

    @classmethod
    def of_mask(
        cls,
        mask: Tensor,
        row_weight: Tensor | None = None,
        positive_weight: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> Positives:
        """Return the True cells of a mask, with weights as `Loss` takes them.

        On a device the host waits for them.
        """
        import torch

        n_rows, n_columns = mask.shape
        flat = _flat_nonzero(mask)
        rows = torch.div(flat, max(n_columns, 1), rounding_mode="floor")
        columns = flat - rows * n_columns
        number = torch.zeros((), dtype=dtype or torch.float32, device=mask.device)
        cell_weight = number.new_ones(len(rows))
        if positive_weight is not None:
            cell_weight = positive_weight[rows, columns].to(number.dtype)
        weight = number.new_ones(n_rows) if row_weight is None else row_weight.to(number.dtype)
        weight = weight * (number.new_zeros(n_rows).index_add_(0, rows, cell_weight) > 0)
        weight = weight / weight.sum().clamp_min(torch.finfo(number.dtype).tiny)
        return cls(rows, columns, _normalise(cell_weight, rows, n_rows), weight)

    @property
    def weight(self) -> Tensor:
        """Weight of every cell in the mean over rows of the mean over positives, shape (c,)."""
        return self.share * self.row_weight[self.rows]

    @property
    def per_row(self) -> Tensor:
        """Number of positives of every row, shape (B,)."""
        # Not bincount, for whose result the host waits.
        ones = self.rows.new_ones(len(self.rows))
        return self.rows.new_zeros(len(self.row_weight)).index_add_(0, self.rows, ones)

    def of(self, matrix: Tensor) -> Tensor:
        """Return the entries of a (B, m) matrix at the positive cells, shape (c,)."""
        return matrix[self.rows, self.columns]

    def lowest(self, key: Tensor, n: int) -> Positives:
        """Return the `n` positives of every row with the lowest key; shares sum to 1 again."""
        import torch

        order = key.argsort(stable=True)
        order = order[self.rows[order].argsort(stable=True)]
        start = self.per_row.cumsum(0) - self.per_row
        rank = torch.arange(len(order), device=order.device) - start[self.rows[order]]
        keep = order[rank < n].sort().values
        rows, share = self.rows[keep], self.share[keep]
        share = _normalise(share, rows, len(self.row_weight))
        return replace(self, rows=rows, columns=self.columns[keep], share=share)


@params
class Loss(Parameterized, ABC):
    """A loss of a score matrix against *all* the positives in it.

    Call it with the scores of a batch. The value is the weighted mean over the rows that have a
    positive; rows without one are dropped, never averaged in. A subclass writes `_loss`; its
    parameters are the fields of a dataclass.

    Attributes
    ----------
    uses_temperature : bool
        True: it expects logits and is a `LogitLoss`. False: it expects cosines.
    """

    uses_temperature: ClassVar[bool] = False

    def __call__(
        self,
        scores: Tensor,
        positives: Tensor | Positives,
        *,
        row_weight: Tensor | None = None,
        ignored: Tensor | None = None,
        positive_weight: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        scores : Tensor of float, shape (B, m)
            Score of every pool label for every row. Half precision is computed in float32.
        positives : Tensor of bool, shape (B, m), or Positives
            True wherever the pool label is relevant to the row, however it got into the pool. Or
            what `Positives.of_mask` made of it and of the weights, without ignored cells.
        row_weight : Tensor of float, shape (B,), default=None
            Non-negative weight of a row in the mean over rows; None means equal weights.
        ignored : Tensor of bool, shape (B, m), default=None
            Cells that are neither positive nor negative, also where `positives` is True.
        positive_weight : Tensor of float, shape (B, m), default=None
            Non-negative weights of the positives within their row (read at the positive cells
            only). They replace 1/n by w_p / sum_q w_q; None means equal weights.

        Returns
        -------
        Tensor of float, scalar
            The loss; 0, with zero gradients, when no row has a positive.

        Raises
        ------
        ValueError
            If a shape does not fit `scores` or a mask is not boolean.
        """
        import torch

        self._validate_params()
        scores = scores if scores.dtype == torch.float64 else scores.float()
        if ignored is not None:
            _check_mask("ignored", ignored, scores)
        if not isinstance(positives, Positives):
            _check_mask("positives", positives, scores)
            mask = positives if ignored is None else positives & ~ignored
            positives = Positives.of_mask(mask, row_weight, positive_weight, scores.dtype)
        if ignored is not None:
            scores = scores.masked_fill(ignored, HIDDEN)
        return self._loss(scores, positives)

    def scaled(self, cosines: Tensor) -> Tensor:
        """Return cosines as `__call__` takes them; or unit vectors, whose products then are."""
        return cosines

    @abstractmethod
    def _loss(self, scores: Tensor, positives: Positives) -> Tensor:
        """Return the scalar loss; hidden cells of `scores` hold at most `HIDDEN`."""


@params
class LogitLoss(Loss):
    """A loss of logits: of cosines divided by a temperature.

    Parameters
    ----------
    temperature : float, default=0.05
        Divides the cosines. The caller does it, with `scaled`: `__call__` takes logits.
    """

    temperature: PositiveFloat = 0.05

    uses_temperature = True

    def scaled(self, cosines: Tensor) -> Tensor:
        """Return the logits (see `Loss.scaled`)."""
        return cosines / self.temperature


def _check_mask(name: str, mask: Tensor, scores: Tensor) -> None:
    import torch

    if mask.dtype != torch.bool or mask.shape != scores.shape:
        raise ValueError(
            f"`{name}` must be a boolean tensor of the shape of `scores`, {tuple(scores.shape)}, "
            f"but is {mask.dtype} of shape {tuple(mask.shape)}. Pass one flag per cell."
        )


def _flat_nonzero(mask: Tensor) -> Tensor:
    """Return the flat positions of the True cells; numpy scans a sparse mask 5 times faster."""
    import torch

    if mask.device.type != "cpu":
        return mask.flatten().nonzero().squeeze(1)
    return torch.from_numpy(mask.numpy().ravel().nonzero()[0])


def _normalise(weight: Tensor, rows: Tensor, n_rows: int) -> Tensor:
    import torch

    total = weight.new_zeros(n_rows).index_add_(0, rows, weight)
    return weight / total.clamp_min(torch.finfo(weight.dtype).tiny)[rows]
