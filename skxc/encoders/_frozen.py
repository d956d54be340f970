"""Frozen embeddings: computed elsewhere or once, with a small trainable head on top.

f(x) = e(x) + B e(x)        e: the given embedding; B starts at zero, so training starts from e
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import clone

from skxc._params import PositiveInt, ShareBelowOne, params
from skxc.encoders.base import Encoder, Rows

if TYPE_CHECKING:
    import torch
    from torch import nn


@params
class FrozenEncoder(Encoder):
    """Fixed embeddings and a trainable linear head; an epoch is matrix work only.

    Parameters
    ----------
    encoder : Encoder or None, default=None
        Embeds texts or features once, when they are prepared, and is not trained. None: the rows
        that the estimator gets are embeddings already.
    dim : int or None, default=None
        Width of the vectors; None: the embedding's own, and the head starts at the identity.
    dropout : float, default=0.0
        Share of an embedding's components that is zeroed at each training step.
    precision : {"auto", "bfloat16", "float32"}, default="auto"
        Number format in which `encoder` computes, if it gains from a shorter one.
    """

    encoder: Encoder | None = field(default=None, kw_only=False)
    dim: PositiveInt | None = None
    dropout: ShareBelowOne = 0.0
    precision: Literal["auto", "bfloat16", "float32"] = "auto"

    averages_rows = True

    def _learn(self, *collections: Rows) -> None:
        if self.encoder is None:
            self.inner_ = None
            self.input_dim_ = _as_matrix(collections[0]).shape[1]
        else:
            self.inner_ = clone(self.encoder).fit(*collections)
            self.input_dim_ = self.inner_.dim_
        self.dim_ = self.input_dim_ if self.dim is None else self.dim

    def prepare(self, rows: Rows) -> NDArray[np.float32]:
        """Return the embeddings of the rows."""
        if self.inner_ is None:
            return _as_matrix(rows)
        return self.inner_.encode(self.inner_.prepare(rows), precision=self.precision)

    def stack(self, batches: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return batches one below the other."""
        return np.concatenate(batches)

    def to(self, device: torch.device) -> Encoder:
        """Move both modules to a device and return self."""
        if self.inner_ is not None:
            self.inner_.to(device)
        return super().to(device)

    def _check_loaded(self) -> None:
        super()._check_loaded()
        if hasattr(self, "module_"):
            for name, size in (("input_dim_", "in_features"), ("dim_", "out_features")):
                if getattr(self, name) != getattr(self.module_.linear, size):
                    raise ValueError(f"`{name}` of FrozenEncoder must be that of its head")

    def _build(self) -> nn.Module:
        from skxc.encoders._head import LinearHead

        return LinearHead(self.input_dim_, self.dim_, dropout=self.dropout)

    def parameter_groups(self, learning_rate: float | None) -> list[dict[str, Any]]:
        """Return the head."""
        rate = 1e-3 if learning_rate is None else learning_rate
        return [{"params": list(self.module_.parameters()), "lr": rate, "weight_decay": 0.01}]


def _as_matrix(rows: Rows) -> NDArray[np.float32]:
    if sp.issparse(rows):
        return rows.toarray().astype(np.float32, copy=False)
    matrix = np.asarray(rows)
    if matrix.ndim != 2 or matrix.dtype == object:
        raise ValueError(
            "`X` must hold embeddings because FrozenEncoder has no encoder of its own, but holds "
            "texts. Pass a matrix, or FrozenEncoder(TransformerEncoder(folder))."
        )
    return matrix.astype(np.float32, copy=False)
