"""How the components of a classifier are joined: every label gets a weight for each of them.

    w_l = sum_i alpha_i c_i        c_i: own text, text of the neighbours (per hop), free vector

    attention    alpha = softmax(A [q_1; q_2; q_3]),   q_i = T ReLU(drop(c_i)) + t
    sum          alpha = 1

T and A have spectral norm 1, and all labels share them. A new way is a class and a line in `NAMES`.

Source: ECLARE (WWW 2021) and its code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import cast

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

# One would follow the slowly changing singular vectors too late.
POWER_ITERATIONS = 4


@dataclass(frozen=True, eq=False)
class Components:
    """What the classifiers of a stage are made of.

    Attributes
    ----------
    dim : int
        Width of every component.
    n_hops : int
        Texts of neighbours, after the own text.
    has_free_vectors : bool
        Whether a free vector comes last.
    frequency : ndarray of float, shape (L,)
        Training rows of every label.
    dropout : float
    """

    dim: int
    n_hops: int
    has_free_vectors: bool
    frequency: NDArray[np.floating]
    dropout: float

    def __len__(self) -> int:
        return 1 + self.n_hops + self.has_free_vectors


class Fusion(nn.Module, ABC):
    """Weighs the components of classifiers; a subclass writes `forward`.

    Parameters
    ----------
    components : Components
    """

    def __init__(self, components: Components) -> None:
        super().__init__()

    @staticmethod
    def start(own: NDArray[np.float32], hops: list[sp.csr_array]) -> NDArray[np.float32]:
        """Return the initial free vectors, shape (L, dim): the texts of the neighbours.

        Parameters
        ----------
        own : ndarray of float32, shape (L, dim)
            Vectors of the labels' own texts, which they start at without a graph.
        hops : list of csr_array, shape (L, L)
            The normalised graph and its powers.
        """
        return hops[0] @ own if hops else own

    @abstractmethod
    def forward(self, ids: NDArray[np.int64], components: list[Tensor]) -> Tensor:
        """Return the weights of these labels, shape (m, n_components).

        Parameters
        ----------
        ids : ndarray of int64, shape (m,)
            Distinct, sorted.
        components : list of Tensor, shape (m, dim)
        """


class AttentionFusion(Fusion):
    """Weights that add up to 1, by an attention that all labels share."""

    def __init__(self, components: Components) -> None:
        super().__init__(components)
        self.dropout = components.dropout
        dim, n = components.dim, len(components)
        shared, score = nn.Linear(dim, dim), nn.Linear(n * dim, n, bias=False)
        nn.init.xavier_uniform_(shared.weight)
        nn.init.zeros_(shared.bias)
        nn.init.xavier_uniform_(score.weight)
        self.shared = spectral_norm(shared, n_power_iterations=POWER_ITERATIONS)
        self.score = spectral_norm(score, n_power_iterations=POWER_ITERATIONS)

    def forward(self, ids: NDArray[np.int64], components: list[Tensor]) -> Tensor:
        """Return alpha, shape (m, n_components)."""
        # The matrix once for all components: every use would run the power iteration again.
        weight, bias = weight_and_bias(self.shared)
        hidden = [
            functional.linear(self._drop(functional.relu(component)), weight, bias)
            for component in components
        ]
        return torch.softmax(self.score(torch.cat(hidden, dim=1)), dim=1)

    def _drop(self, vectors: Tensor) -> Tensor:
        return functional.dropout(vectors, self.dropout, self.training)


class SumFusion(Fusion):
    """Every component with weight 1: what the attention has to beat."""

    def forward(self, ids: NDArray[np.int64], components: list[Tensor]) -> Tensor:
        """Return ones, shape (m, n_components)."""
        return components[0].new_ones(len(components[0]), len(components))


#: Every fusion by its name.
NAMES: dict[str, type[Fusion]] = {"attention": AttentionFusion, "sum": SumFusion}


def weight_and_bias(linear: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the two tensors of a linear layer, each computed once."""
    return cast(Tensor, linear.weight), cast(Tensor, linear.bias)
