"""Label classifiers fused from texts and a free vector, and the document side they meet.

    B(u)   = u + kappa (R drop(ReLU(u)) + b)                  R: spectral norm 1, starts as identity
    x^     = drop(ReLU(B(E^T x)))                             a document
    c_1    = B_1(E^T z_l)                                     the label's own text
    c_2    = B_2(sum_m G_lm E^T z_m)                          the text of its neighbours in a graph
    c_3    = v_l                                              a free vector, starts at c_2's input
    alpha  = softmax(A [q_1; q_2; q_3]),   q_i = T ReLU(drop(c_i)) + t       T, A: spectral norm 1
    w_l    = sum_i alpha_i c_i,            score = cos(w_l, x^) / temperature + offset

The paper's score is w_l . x^. With unit vectors, the size of the token embeddings does not decide
how fast the blocks learn, and with an offset that starts at the log-odds of the mean target, the
first epochs need not push all scores down: a tenth of the steps is enough.

Source: ECLARE (WWW 2021) and its code; its ancestor DECAF (WSDM 2021) adds texts without a graph.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from skxc.training._label_table import LabelVectors

# One would follow the slowly changing singular vectors too late.
_POWER_ITERATIONS = 4


class ResidualBlock(nn.Module):
    """``B(u) = u + kappa (R drop(ReLU(u)) + b)``; R starts as the identity, kappa at 1.

    Parameters
    ----------
    dim : int
    dropout : float
        Share of components that is zeroed inside the block in training.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        linear = nn.Linear(dim, dim)
        nn.init.zeros_(linear.bias)
        self.linear = spectral_norm(linear, n_power_iterations=_POWER_ITERATIONS)
        # Assigned after the registration: it would lose what is written into the weight in place.
        self.linear.weight = torch.eye(dim)
        # A look in training mode fits the norm's estimate to the new matrix.
        _weight_and_bias(self.linear)
        self.kappa = nn.Parameter(torch.ones(()))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the vectors, shape (m, dim), plus what the block adds."""
        hidden = functional.dropout(functional.relu(vectors), self.dropout, self.training)
        return vectors + self.kappa * self.linear(hidden)


class DocumentBlock(nn.Module):
    """``x^ = drop(ReLU(B(u)))`` of document vectors u."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.block = ResidualBlock(dim, dropout)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the documents, shape (b, dim), as classifiers meet them."""
        return functional.dropout(functional.relu(self.block(vectors)), self.dropout, self.training)

    @torch.no_grad()
    def to_numpy(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (M, m) with ``x^ = ReLU(u + ReLU(u) @ M + m)`` in prediction."""
        block = self.block.eval()
        weight, bias = _weight_and_bias(block.linear)
        matrix = (block.kappa * weight.T).cpu().numpy()
        return np.ascontiguousarray(matrix), (block.kappa * bias).cpu().numpy()


class AttentionFusion(nn.Module):
    """Weights of the components of a classifier, by an attention that all labels share.

    Parameters
    ----------
    dim, n_components : int
    dropout : float
    """

    def __init__(self, dim: int, n_components: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        shared, score = nn.Linear(dim, dim), nn.Linear(n_components * dim, n_components, bias=False)
        nn.init.xavier_uniform_(shared.weight)
        nn.init.zeros_(shared.bias)
        nn.init.xavier_uniform_(score.weight)
        self.shared = spectral_norm(shared, n_power_iterations=_POWER_ITERATIONS)
        self.score = spectral_norm(score, n_power_iterations=_POWER_ITERATIONS)

    def forward(self, components: list[Tensor]) -> Tensor:
        """Return alpha, shape (m, n_components), whose rows add up to 1."""
        # The matrix once for all components: every use would run the power iteration again.
        weight, bias = _weight_and_bias(self.shared)
        hidden = [
            functional.linear(self._drop(functional.relu(component)), weight, bias)
            for component in components
        ]
        return torch.softmax(self.score(torch.cat(hidden, dim=1)), dim=1)

    def _drop(self, vectors: Tensor) -> Tensor:
        return functional.dropout(vectors, self.dropout, self.training)


def _weight_and_bias(linear: nn.Module) -> tuple[Tensor, Tensor]:
    return cast(Tensor, linear.weight), cast(Tensor, linear.bias)


class SumFusion(nn.Module):
    """Every component with weight 1: what the attention has to beat."""

    def forward(self, components: list[Tensor]) -> Tensor:
        """Return ones, shape (m, n_components)."""
        return components[0].new_ones(len(components[0]), len(components))


class FusedClassifiers(nn.Module):
    """One classifier per label, fused from its texts and, if there is one, its free vector.

    Parameters
    ----------
    dim : int
    n_texts : int
        Text components: the label's own text, and one for every hop over the graph.
    start : ndarray of float32, shape (L, dim), or None
        Initial free vectors; None: none.
    fusion : {"attention", "sum"}
    dropout : float
    """

    def __init__(
        self,
        dim: int,
        n_texts: int,
        *,
        start: NDArray[np.float32] | None,
        fusion: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(dim, dropout) for _ in range(n_texts))
        self.refinement = None if start is None else LabelVectors(start)
        n_components = n_texts + (start is not None)
        self.offset = nn.Parameter(torch.zeros(()))
        self.fusion: nn.Module = SumFusion()
        if fusion == "attention":
            self.fusion = AttentionFusion(dim, n_components, dropout)

    def components(self, ids: NDArray[np.int64], texts: list[Tensor]) -> list[Tensor]:
        """Return the components of distinct, sorted labels, each of shape (m, dim).

        Parameters
        ----------
        ids : ndarray of int, shape (m,)
        texts : list of Tensor, shape (m, dim)
            Their own text vectors, and those of their neighbours.
        """
        parts = [block(text) for block, text in zip(self.blocks, texts, strict=True)]
        return parts if self.refinement is None else [*parts, self.refinement(ids)]

    def forward(self, ids: NDArray[np.int64], texts: list[Tensor]) -> Tensor:
        """Return the classifiers of these labels, shape (m, dim)."""
        parts = self.components(ids, texts)
        alpha = self.fusion(parts)
        return sum(alpha[:, i, None] * part for i, part in enumerate(parts))
