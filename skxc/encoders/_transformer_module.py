"""The torch side of `TransformerEncoder`: pad, run, pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from skxc.encoders._transformer import TokenRows


class TransformerModule(nn.Module):
    """A transformer and its pooling.

    Parameters
    ----------
    model : PreTrainedModel
    pooling : {"mean", "cls"}
    """

    def __init__(self, model: nn.Module, pooling: str) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(self, rows: TokenRows) -> Tensor:
        """Return vectors of shape (b, hidden size), not normalised."""
        device = next(self.model.parameters()).device
        ids, mask = (torch.from_numpy(array).to(device) for array in rows.padded())
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.pooling == "cls":
            return hidden[:, 0]
        # In float32, which autocast would not choose for sums.
        weight = mask[:, :, None].float()
        return (hidden.float() * weight).sum(dim=1) / weight.sum(dim=1)
