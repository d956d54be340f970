"""Label classifiers fused from texts and a free vector, and the document side they meet.

    B(u)   = u + kappa (R drop(ReLU(u)) + b)                  R: spectral norm 1, starts as identity
    x^     = drop(ReLU(B(E^T x)))                             a document
    c_1    = B_1(E^T z_l)                                     the label's own text
    c_2    = B_2(sum_m G_lm E^T z_m)                          the text of its neighbours in a graph
    c_3    = v_l                                              a free vector, starts at c_2's input
    w_l    = sum_i alpha_i c_i                                alpha: see `fusion`

Source: ECLARE (WWW 2021) and its code; its ancestor DECAF (WSDM 2021) adds texts without a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Annotated

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from skxc._params import OneOf, Part, PositiveInt, ShareBelowOne, params
from skxc.estimators._label_graph.fusion import (
    NAMES,
    POWER_ITERATIONS,
    Components,
    weight_and_bias,
)
from skxc.training import LabelVectors
from skxc.utils._row_sparse import SparseMap, distinct, send, sparse_matmul


@params
class Classifiers(Part):
    """What classifiers are made of, those of labels and those of clusters alike.

    Parameters
    ----------
    fusion : {"attention", "sum"}, default="attention"
        How components are joined: with weights from an attention, or with weight 1.
    n_hops : int, default=1
        Hops over the graph; each adds a component of the neighbours' texts.
    prune_distance : float or None, default=1.0
        After the surrogate, edges of the walk between labels whose texts have a larger cosine
        distance are dropped; None: none are.
    refinement : bool, default=True
        Whether shortlister and ranker have free vectors.
    freeze_embeddings : bool, default=False
        Whether token embeddings stay as the surrogate left them, as in the official code. False:
        shortlister and ranker go on to train copies of their own.
    dropout : float, default=0.2
        Share of components that is zeroed at each training step.
    """

    fusion: Annotated[str, OneOf(NAMES)] = "attention"
    n_hops: PositiveInt = 1
    prune_distance: Annotated[float, Interval(Real, 0, 2, closed="both")] | None = 1.0
    refinement: bool = True
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
        weight_and_bias(self.linear)
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
        weight, bias = weight_and_bias(block.linear)
        matrix = (block.kappa * weight.T).cpu().numpy()
        return np.ascontiguousarray(matrix), (block.kappa * bias).cpu().numpy()


class FusedClassifiers(nn.Module):
    """One classifier per label, fused from its texts and its free vector.

    Free vectors begin at `start`, an array of float32 of shape (L, dim); None: there are none.
    """

    def __init__(
        self, components: Components, fusion: str, start: NDArray[np.float32] | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(components.dim, components.dropout) for _ in range(1 + components.n_hops)
        )
        self.refinement = None if start is None else LabelVectors(start)
        self.offset = nn.Parameter(torch.zeros(()))
        self.fusion = NAMES[fusion](components)

    def components(self, ids: NDArray[np.int64], texts: list[Tensor]) -> list[Tensor]:
        """Return the components of distinct, sorted labels, each of shape (m, dim).

        Parameters
        ----------
        ids : ndarray of int, shape (m,)
        texts : list of Tensor, shape (m, dim)
            What `TextComponents` returned.
        """
        parts = [block(text) for block, text in zip(self.blocks, texts, strict=True)]
        return parts if self.refinement is None else [*parts, self.refinement(ids)]

    def forward(self, ids: NDArray[np.int64], texts: list[Tensor]) -> Tensor:
        """Return the classifiers of these labels, shape (m, dim)."""
        parts = self.components(ids, texts)
        alpha = self.fusion(ids, parts)
        return sum(alpha[:, i, None] * part for i, part in enumerate(parts))


class TextComponents:
    """The text components of labels, computed from their texts and those of their neighbours.

    Parameters
    ----------
    encode : callable
        From some prepared texts to vectors.
    texts : csr_array of shape (L, V)
        Prepared texts of the labels.
    hops : list of csr_array, shape (L, L)
        The normalised graph and its powers.
    """

    def __init__(
        self,
        encode: Callable[[sp.csr_array], Tensor],
        texts: sp.csr_array,
        hops: list[sp.csr_array],
    ) -> None:
        self.encode = encode
        self.texts = texts
        self.hops = hops

    def __call__(self, ids: NDArray[np.int64]) -> list[Tensor]:
        """Return the components of distinct, sorted labels, each of shape (m, dim)."""
        texts = self.gather(ids)
        return texts.components(self.encode(texts.rows))

    def gather(self, ids: NDArray[np.int64]) -> GatheredTexts:
        """Return the prepared texts that the components of distinct, sorted labels need."""
        parts = [sp.csr_array(hop[ids]) for hop in self.hops]
        columns = [ids, *(part.indices for part in parts)]
        needed, place = distinct(np.concatenate(columns), self.texts.shape[0])
        own, *places = np.split(place, np.cumsum([len(c) for c in columns])[:-1])
        maps = [
            SparseMap(sp.csr_array((p.data, at, p.indptr), shape=(len(ids), len(needed))))
            for p, at in zip(parts, places, strict=True)
        ]
        return GatheredTexts(self.texts[needed], own.astype(np.int64), maps)


@dataclass
class GatheredTexts:
    """What the text components of some labels are computed from.

    Attributes
    ----------
    rows : csr_array of shape (n, V)
        The texts of the labels and of their neighbours, once each.
    own : ndarray of int64, shape (m,)
        Place of every label's own text.
    maps : list of SparseMap, shape (m, n)
        The hops from these texts.
    """

    rows: sp.csr_array
    own: NDArray[np.int64]
    maps: list[SparseMap]

    def components(self, vectors: Tensor) -> list[Tensor]:
        """Return the components that the vectors of these texts make."""
        own, *sent = send([self.own, *(a for m in self.maps for a in m.arrays)], vectors.device)
        for number, each in enumerate(self.maps):
            each.tensors = sent[6 * number : 6 * number + 6]
        return [vectors[own], *(sparse_matmul(each, vectors) for each in self.maps)]
