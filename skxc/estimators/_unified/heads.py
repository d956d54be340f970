"""The two heads of UniDEC on one encoder h.

    a(x) = norm(dropout(tanh(W h(x) + b)))     dual encoder: samples and label texts, against texts
    c(x) = dropout(V h(x) + d)                 classifier: samples, against one vector per label

Source: UniDEC (WWW 2025).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from skxc._params import Part, PositiveInt, Share, params
from skxc.utils._random import stream, torch_seed
from skxc.utils._unit_length import unit_length

# Width of a head, unless it is given or the encoder is narrower.
WIDEST_HEAD = 384


@params
class TwoHeads(Part):
    """A dual encoder and a classifier on one encoder.

    Parameters
    ----------
    weight : float, default=0.5
        Weight of the dual encoder's loss in [0, 1], lambda; the classifier's has the rest. 1 trains
        a dual encoder only, 0 a classifier only; the other head is then not trained at all.
    symmetric : bool, default=False
        Whether both losses also score the pool's labels against the batch's samples, with half the
        weight.
    dim : int or None, default=None
        Width of each head; None: that of the encoder, but 384 (UniDEC's) at most.
    prediction : {"both", "dual_encoder", "classifier"}, default="both"
        Which head scores: both, or one. May be changed after `fit`. Where one head alone was
        trained, "both" is that one.

    References
    ----------
    UniDEC (WWW 2025).
    """

    weight: Share = 0.5
    symmetric: bool = False
    dim: PositiveInt | None = None
    prediction: Literal["both", "dual_encoder", "classifier"] = "both"


def trained_heads(weight: float) -> str:
    """Return the value of `TwoHeads.prediction` that asks for exactly the trained heads."""
    if weight in (0, 1):
        return "dual_encoder" if weight else "classifier"
    return "both"


def scoring_head(wanted: str, trained: str) -> str:
    """Return the head that `TwoHeads.prediction` asks for, among the trained ones.

    Raises
    ------
    ValueError
        That head was not trained.
    """
    if wanted in ("both", trained):
        return trained
    if trained == "both":
        return wanted
    raise ValueError(
        f"`heads__prediction` must be {trained!r} or 'both' because only that head is trained with "
        f"heads__weight={int(trained == 'dual_encoder')}, but is {wanted!r}. Fit with another "
        "heads__weight."
    )


class HeadsModule(nn.Module):
    """Two projections of the encoder's vectors; each trains with its own loss.

    Parameters
    ----------
    input_dim : int
        Width of the encoder's vectors.
    dim : int
        Width of each head.
    dropout : float, default=0.1
        Share of a projected vector's components that is zeroed at each training step.
    """

    def __init__(self, input_dim: int, dim: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.dim = dim
        self.text = nn.Linear(input_dim, dim)
        self.label = nn.Linear(input_dim, dim)
        self.dropout = dropout
        for layer in (self.text, self.label):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    @classmethod
    def fresh(cls, input_dim: int, dim: int | None, seed: int) -> HeadsModule:
        """Return untrained heads; `dim` as in `TwoHeads`."""
        with torch_seed(int(stream(seed, "heads").integers(2**31))):
            return cls(input_dim, dim or min(input_dim, WIDEST_HEAD))

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.float32]]) -> HeadsModule:
        """Return the heads of `to_arrays`, for prediction."""
        dim, input_dim = arrays["label.weight"].shape
        with torch.device("meta"):  # fresh weights would draw from the global generator
            heads = cls(input_dim, dim)
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        heads.load_state_dict(tensors, assign=True)
        return heads.eval()

    def to_arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return copies of the weights by name."""
        return {
            name: tensor.to("cpu", copy=True).numpy() for name, tensor in self.state_dict().items()
        }

    def against_texts(self, vectors: Tensor) -> Tensor:
        """Return a(x), unit vectors of shape (b, dim)."""
        return unit_length(self._drop(torch.tanh(self.text(vectors))))

    def against_labels(self, vectors: Tensor) -> Tensor:
        """Return c(x), shape (b, dim), not normalised."""
        return self._drop(self.label(vectors))

    def unit_against_labels(self, vectors: Tensor) -> Tensor:
        """Return c(x) at unit length, shape (b, dim), as prediction scores it."""
        return unit_length(self.against_labels(vectors))

    def side_by_side(self, vectors: Tensor) -> Tensor:
        """Return a(x) and c(x), both at unit length, shape (b, 2 * dim).

        The inner product of two of these is the sum of two cosines, so that one search ranks by it.
        """
        return torch.cat([self.against_texts(vectors), self.unit_against_labels(vectors)], dim=1)

    def _drop(self, vectors: Tensor) -> Tensor:
        return functional.dropout(vectors, self.dropout, self.training)
