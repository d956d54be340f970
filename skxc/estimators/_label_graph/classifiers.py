"""Label classifiers made of texts and a free vector, and the document side they meet.

    B(u)   = u + kappa (R drop(ReLU(u)) + b)                  R: spectral norm 1, starts as identity
    x^     = drop(ReLU(B(E^T x)))                             a document
    c_1    = B_1(E^T z_l)                                     the label's own text
    c_2    = B_2(sum_m G_lm E^T z_m)                          the text of its neighbours in a graph
    c_3    = v_l                                              a free vector

    gated        w_l = a_1 c_1 + a_3 c_3 + g c_2              a: attention over c_1 and c_3
    attention    w_l = a_1 c_1 + a_2 c_2 + a_3 c_3            a: attention over all three

    a = softmax(A [q_1; q_2; ...]),   q_i = T ReLU(drop(c_i)) + t

The gate g is one number for all labels of about the same frequency. It starts at 0, and G has no
self-loops here. A row is trained with the graph of other rows: in one that rests on the row itself,
neighbours are labels of the row, and gates would learn to trust them more than other rows can.
Labels without rows have a fixed gate: as negatives of every row they would learn one of 0.

T and A have spectral norm 1, and all labels share them. A label without training rows has no free
vector, because nothing would train it.

Sources: ECLARE (WWW 2021) and its code for the attention over three; its ancestor DECAF (WSDM 2021)
adds texts without a graph. The gate is not in either.
"""

from __future__ import annotations

from numbers import Real
from typing import Annotated, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from skxc._params import Interval, Part, ShareBelowOne, params
from skxc.training import LabelVectors

# One would follow the slowly changing singular vectors too late.
POWER_ITERATIONS = 4
# About what labels with a single row learn where their graph rests on other rows than theirs.
UNSEEN_GATE = 0.3


@params
class Classifiers(Part):
    """What classifiers are made of, those of labels and those of clusters alike.

    Parameters
    ----------
    fusion : {"gated", "attention"}, default="gated"
        How the text of the neighbours enters. "gated": with a weight that labels of similar
        frequency share, learned on rows that the graph does not rest on. "attention": it competes
        with own text and free vector, and the latter starts at it, as in the paper.
    prune_distance : float or None, default=1.0
        After the surrogate, edges of the walk between labels whose texts have a larger cosine
        distance are dropped; None: none are.
    freeze_embeddings : bool, default=False
        Whether token embeddings stay as the surrogate left them, as in the official code. False:
        shortlister and ranker go on to train copies of their own.
    dropout : float, default=0.2
        Share of components that is zeroed at each training step.
    """

    fusion: Literal["gated", "attention"] = "gated"
    prune_distance: Annotated[float, Interval(Real, 0, 2, closed="both")] | None = 1.0
    freeze_embeddings: bool = False
    dropout: ShareBelowOne = 0.2


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
        self.linear = spectral_norm(linear, n_power_iterations=POWER_ITERATIONS)
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


class Attention(nn.Module):
    """Weights of `n` components that add up to 1 for every label."""

    def __init__(self, dim: int, n: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        shared, score = nn.Linear(dim, dim), nn.Linear(n * dim, n, bias=False)
        nn.init.xavier_uniform_(shared.weight)
        nn.init.zeros_(shared.bias)
        nn.init.xavier_uniform_(score.weight)
        self.shared = spectral_norm(shared, n_power_iterations=POWER_ITERATIONS)
        self.score = spectral_norm(score, n_power_iterations=POWER_ITERATIONS)

    def forward(self, components: list[Tensor], without_last: Tensor) -> Tensor:
        """Return the weights, shape (m, n); 0 for the last component of the marked labels."""
        if len(components) == 1:
            return torch.ones_like(components[0][:, :1])
        # The matrix once for all components: every use would run the power iteration again.
        weight, bias = _weight_and_bias(self.shared)
        hidden = [functional.linear(self._drop(c), weight, bias) for c in components]
        logits = self.score(torch.cat(hidden, dim=1))
        last = logits[:, -1].masked_fill(without_last, -torch.inf)
        return torch.softmax(torch.cat([logits[:, :-1], last[:, None]], dim=1), dim=1)

    def _drop(self, vectors: Tensor) -> Tensor:
        return functional.dropout(functional.relu(vectors), self.dropout, self.training)


class FusedClassifiers(nn.Module):
    """One classifier per label, made of its own text, its neighbours' and its free vector.

    Parameters
    ----------
    part : Classifiers
    dim : int
    frequency : ndarray of float, shape (L,)
        Training rows of every label.
    graph_frequency : ndarray of float, shape (n_graphs, L)
        Those that each graph rests on; empty: there are no texts of neighbours.
    start : ndarray of float32, shape (L, dim), or None
        Where free vectors begin; None: there are none.
    """

    def __init__(
        self,
        part: Classifiers,
        dim: int,
        frequency: NDArray[np.floating],
        *,
        graph_frequency: NDArray[np.floating],
        start: NDArray[np.float32] | None,
    ) -> None:
        super().__init__()
        has_graph = len(graph_frequency) > 0
        self.blocks = nn.ModuleList(ResidualBlock(dim, part.dropout) for _ in range(1 + has_graph))
        self.refinement = None if start is None else LabelVectors(start)
        self.offset = nn.Parameter(torch.zeros(()))
        self.is_gated = has_graph and part.fusion == "gated"
        n_competing = 1 + (has_graph and not self.is_gated) + (start is not None)
        self.attention = Attention(dim, n_competing, part.dropout)
        # Bin 0 is that of labels without rows.
        bins = 1 + np.log2(np.maximum(graph_frequency, 1)).astype(np.int64)
        bins[graph_frequency == 0] = 0
        self.gates = nn.Parameter(torch.zeros(int(bins.max(initial=1))))
        self.bins: Tensor
        self.register_buffer("bins", torch.from_numpy(bins), persistent=False)
        no_free = np.asarray((start is not None) & (frequency == 0))
        self.no_free: Tensor
        self.register_buffer("no_free", torch.from_numpy(no_free), persistent=False)

    def components(self, ids: NDArray[np.int64], texts: list[Tensor]) -> list[Tensor]:
        """Return the components of distinct, sorted labels, each of shape (m, dim).

        Parameters
        ----------
        ids : ndarray of int, shape (m,)
        texts : list of Tensor, shape (m, dim)
            Vectors of their own texts and, with a graph, of those of their neighbours.
        """
        parts = [block(text) for block, text in zip(self.blocks, texts, strict=True)]
        if self.is_gated:
            # Without neighbours there is nothing to add, not even the block's bias.
            parts[1] = parts[1].masked_fill(~texts[1].any(dim=1, keepdim=True), 0)
        if self.refinement is None:
            return parts
        return [*parts, self.refinement(ids).masked_fill(self._without_free(ids)[:, None], 0)]

    def weights(self, ids: NDArray[np.int64], parts: list[Tensor], graph: int = 0) -> Tensor:
        """Return the weights of the components of these labels, shape (m, n_components)."""
        competing = [parts[0], *parts[2:]] if self.is_gated else parts
        alpha = self.attention(competing, self._without_free(ids))
        if not self.is_gated:
            return alpha
        bins = self.bins[graph, torch.from_numpy(ids).to(self.bins.device)]
        gates = torch.cat([self.gates.new_full((1,), UNSEEN_GATE), self.gates])[bins, None]
        return torch.cat([alpha[:, :1], gates, alpha[:, 1:]], dim=1)

    def _without_free(self, ids: NDArray[np.int64]) -> Tensor:
        return self.no_free[torch.from_numpy(ids).to(self.no_free.device)]

    def forward(self, ids: NDArray[np.int64], texts: list[Tensor], graph: int = 0) -> Tensor:
        """Return the classifiers of these labels, shape (m, dim), with texts of one graph."""
        parts = self.components(ids, texts)
        alpha = self.weights(ids, parts, graph)
        return cast(Tensor, sum(alpha[:, i, None] * part for i, part in enumerate(parts)))


def _weight_and_bias(linear: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the two tensors of a linear layer, each computed once."""
    return cast(Tensor, linear.weight), cast(Tensor, linear.bias)
