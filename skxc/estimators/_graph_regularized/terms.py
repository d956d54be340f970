"""How graphs teach an encoder: before the task, or by losses beside it.

Before the task, samples and labels are rows, anchors are the labels, and edges say which are right:

    sum over samples i of L(f(x_i), anchors of i) + sum over labels l of L(f(z_l), anchors of l)

Beside the task, with a weight for each graph t and side:

    total = L + sum_t ( w_x^t R_x^t + w_z^t R_z^t )

R_x^t scores the samples of a batch against anchors of graph t, R_z^t the labels of the batch: an
anchor is drawn for every row with neighbours, and the other rows' anchors are its negatives, except
those that are neighbours too. After a warm-up the graphs keep only the edges that the encoder
agrees with.

One encoder embeds samples, labels and anchors, and there is no other parameter.

Source: RAMEN (arXiv 2402.18434), which trains beside the task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skxc._params import NonNegativeFloat, OneOf, Part, PositiveInt, params
from skxc.estimators._dual_encoder.task import DualEncoderTask
from skxc.estimators._graph_regularized.bandit import Bandit, BanditWeights, FixedWeights
from skxc.estimators._graph_regularized.edges import GraphTerm
from skxc.estimators._graph_regularized.figures import TermFigures
from skxc.graphs import Pruning, RandomWalk, edge_cosines, keep_edges
from skxc.losses import LossLike, make_loss
from skxc.losses.base import Positives
from skxc.negatives import membership, sample_positives
from skxc.training import PoolSettings
from skxc.training._pool import Ids, Pool
from skxc.utils._random import stream
from skxc.utils._row_sparse import send
from skxc.utils._sparse import pair_ids

SIDES = ("samples", "labels")
#: Factor of all weights at a share of training that is done, by the name of a schedule.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "fade": lambda done: max(0.0, 1 - done),
    "constant": lambda done: 1.0,
}


@params
class GraphTerms(Part):
    """How graphs teach the encoder which anchors samples and labels have.

    Parameters
    ----------
    schedule : {"first", "fade", "constant"}, default="first"
        "first": the encoder learns to find anchors, then the task alone. The others are the paper's
        way: an extra loss per graph and side beside the task, with weights that fall from 1 to 0
        over the training ("fade") or stay ("constant").
    n_epochs : int, default=8
        Epochs of "first", before those of the task.
    loss : str or Loss, default="decoupled"
        Loss against anchors, a name or object of `skxc.losses`; "triplet" in the paper. Beside the
        task a row has one positive, the anchor that was drawn, and its others take no part.
    weights : Bandit, float, mapping or None, default=None
        Weights of the losses beside the task. A `Bandit` (None: with its defaults) tunes them while
        training. A number is the weight of all. ``{graph: (sample weight, label weight)}`` fixes
        each.
    sides : {"both", "samples", "labels"}, default="both"
        Whose edges take part.
    walk : RandomWalk, False or None, default=False
        Adds the edges that a random walk over the graph finds, as in the paper. Held-out rows of
        rather dense graphs preferred the edges as they are. None: the defaults of
        `skxc.graphs.RandomWalk`.
    prune : Pruning, False or None, default=False
        Leaves out edges beside the task between texts that the encoder finds unlike, from some
        epoch on, as in the paper. They come back if the encoder changes its mind. None: the
        defaults of `skxc.graphs.Pruning`.

    References
    ----------
    "Graph Regularized Encoder Training for Extreme Classification" (RAMEN), arXiv 2402.18434.
    """

    schedule: Annotated[str, OneOf(("first", *SCHEDULES))] = "first"
    n_epochs: PositiveInt = 8
    loss: LossLike = "decoupled"
    weights: Bandit | NonNegativeFloat | Mapping[str, Any] | None = None
    sides: Literal["both", "samples", "labels"] = "both"
    walk: RandomWalk | Literal[False] | None = False
    prune: Pruning | Literal[False] | None = False


@dataclass
class TermDraw:
    """One term of one step.

    Attributes
    ----------
    number : int
        Position of the term.
    rows, columns : ndarray of int, shapes (r,) and (c,)
        Positions of the rows among all encoded vectors, and of the anchors among the step's.
    positives, ignored : ndarray of bool, shape (r, c)
        The drawn anchor of every row, and the others that are no negatives.
    row_weight : ndarray of float32, shape (r,)
    """

    number: int
    rows: Ids
    columns: Ids
    positives: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    row_weight: NDArray[np.float32]


@dataclass(kw_only=True)
class AnchoredPool(Pool):
    """A pool with the anchors of its rows and labels.

    Attributes
    ----------
    epoch : int
    factor : float
        What the schedule makes of all weights at this step.
    anchors : ndarray of int, shape (a,)
        Anchors to encode, sorted and distinct.
    draws : list of TermDraw
    """

    epoch: int
    factor: float
    anchors: Ids
    draws: list[TermDraw]


def make_weights(
    options: GraphTerms, terms: Sequence[GraphTerm], seed: int, n_steps: int
) -> BanditWeights | FixedWeights:
    """Return the weights of the terms: tuned while training, or fixed."""
    weights = options._part("weights")
    if isinstance(weights, Bandit):
        return BanditWeights(len(terms), weights, seed, n_steps)
    if isinstance(weights, Real):
        return FixedWeights(np.full(len(terms), float(weights)))
    chosen = [weights[term.graph][SIDES.index(term.side)] for term in terms]
    return FixedWeights(np.array(chosen, dtype=np.float64))


class GraphRegularizedTask(DualEncoderTask):
    """Train an encoder on pools of labels and on graph terms.

    What the terms draw comes from a random stream of their own, so that without edges, or with all
    weights at 0, training is that of `DualEncoderTask`, bit for bit.

    Parameters
    ----------
    settings : PoolSettings
    options : GraphTerms
    terms : list of GraphTerm
    weights : BanditWeights or FixedWeights
    anchors : what ``encoder.prepare`` returned
    n_epochs, seed : int
        Of the plan.
    **arguments
        See `DualEncoderTask`.

    Attributes
    ----------
    figures : TermFigures
    """

    def __init__(
        self,
        settings: PoolSettings,
        options: GraphTerms,
        *,
        terms: Sequence[GraphTerm],
        weights: BanditWeights | FixedWeights,
        anchors: Any,
        n_epochs: int,
        seed: int,
        **arguments: Any,
    ) -> None:
        super().__init__(settings, **arguments)
        self.options = options
        self.term_loss = make_loss(options.loss)
        self.pruning: Pruning | None = options._part("prune")
        self.terms = list(terms)
        self.weights = weights
        self.anchors = anchors
        self.n_epochs = n_epochs
        self.seed = seed
        self.figures = TermFigures()
        self._epoch, self._step, self._n_steps = 0, 0, 1
        self._losses: list[Tensor] = []

    # ---- epochs

    def refresh(self, epoch: int, rng: np.random.Generator) -> None:
        """Cluster, mine and prune where it is due, on current vectors."""
        before = self.report.n_refreshes
        super().refresh(epoch, rng)
        if self.terms and self.pruning is not None and self.pruning.is_due(epoch):
            self._prune(epoch, self.pruning.threshold)
        elif self.report.n_refreshes == before:
            return
        self.weights.forget()  # batches or targets have changed, and with them the reward's level

    def _prune(self, epoch: int, threshold: float) -> None:
        """Keep the walked edges whose ends are similar by now; an edge may come back."""
        anchors = self.encoder.encode(self.anchors, precision=self.precision)
        vectors = {"samples": self.sample_vectors(), "labels": self.text_vectors()}
        shares = []
        for term in self.terms:
            similar = edge_cosines(term.walked, vectors[term.side], anchors) > threshold
            term.edges = keep_edges(term.walked, similar)
            shares.append(similar.mean())
        self.figures.survival.append(np.array([epoch, *shares]))

    def batches(self, epoch: int, rng: np.random.Generator) -> Iterator[Ids]:
        """Yield batches of row ids."""
        batches = list(super().batches(epoch, rng))
        self._epoch, self._step, self._n_steps = epoch, 0, len(batches)
        yield from batches

    # ---- one step

    def draw(self, rows: Ids, rng: np.random.Generator) -> Pool:
        """Return the pool of a batch, with anchors for its rows and labels."""
        pool = super().draw(rows, rng)
        graph_rng = stream(self.seed, "graph", self._epoch, self._step)
        done = (self._epoch + (self._step + 0.5) / self._n_steps) / self.n_epochs
        self._step += 1
        factor = SCHEDULES[self.options.schedule](done) if self.terms else 0.0
        return self._add_anchors(pool, factor, graph_rng)

    def _add_anchors(self, pool: Pool, factor: float, rng: np.random.Generator) -> AnchoredPool:
        sides, drawn = self._sides(pool), []
        for number, term in enumerate(self.terms):
            ids, places, row_weight = sides[term.side]
            taken = np.flatnonzero(np.diff(term.edges.indptr)[ids])
            # Weights that learn are not known yet; none of them stays at 0.
            counts = factor and (self.weights.learns or self.weights.weights[number])
            if counts and len(taken):
                anchors = sample_positives(term.edges, ids[taken], 1, rng)
                drawn.append((number, ids[taken], places[taken], row_weight[taken], anchors))
        anchors = np.unique(np.concatenate([np.empty(0, np.int64), *(d[-1] for d in drawn)]))
        draws = [self._term_draw(*one, anchors) for one in drawn]
        return AnchoredPool(
            **vars(pool), epoch=self._epoch, factor=factor, anchors=anchors, draws=draws
        )

    def _sides(self, pool: Pool) -> dict[str, tuple[Ids, Ids, NDArray[np.float32]]]:
        """Return (ids, places, weights) of both sides.

        Places are those among the vectors of a step: samples, queries, labels. Labels that no row
        of the batch has take no part, and the others count once each: weighing them by their rows,
        as the paper's one draw per row does, would favour frequent labels.
        """
        n_rows = len(pool.rows)
        present = np.flatnonzero(pool.positives[:n_rows].any(axis=0))
        places = n_rows + len(pool.queries) + present
        weight = np.ones(len(present), dtype=np.float32)
        samples = (pool.rows, np.arange(n_rows), pool.row_weight[:n_rows])
        return {"samples": samples, "labels": (pool.labels[present], places, weight)}

    def _term_draw(
        self,
        number: int,
        ids: Ids,
        places: Ids,
        row_weight: NDArray[np.float32],
        drawn: Ids,
        anchors: Ids,
    ) -> TermDraw:
        """Return a term's rows and anchors: the drawn one against those that are not known."""
        term, columns = self.terms[number], np.unique(drawn)
        positives = columns == drawn[:, None]
        known = membership(term.edges, ids, columns)
        if term.hidden is not None:
            known |= membership(term.hidden, ids, columns)
        place = np.searchsorted(anchors, columns)
        return TermDraw(number, places, place, positives, known & ~positives, row_weight)

    def _parts(self, pool: Pool) -> list[tuple[Any, Ids]]:
        parts = super()._parts(pool)
        if isinstance(pool, AnchoredPool) and pool.draws:
            parts.append((self.anchors, pool.anchors))
        return parts

    def _loss_of(self, vectors: Tensor, pool: Pool) -> Tensor:
        if not isinstance(pool, AnchoredPool):
            return super()._loss_of(vectors, pool)
        n_vectors = len(pool.rows) + len(pool.queries) + len(pool.labels)
        total = super()._loss_of(vectors[:n_vectors] if pool.draws else vectors, pool)
        weights = self.weights.weights * pool.factor
        self.figures.steps.append(np.array([pool.epoch, *weights]))
        task_loss = total.detach()
        losses = [task_loss, *[torch.full_like(task_loss, math.nan)] * len(self.terms)]
        anchors = vectors[n_vectors:]
        for draw in pool.draws:
            value = self._term_loss(vectors, anchors, draw)
            losses[1 + draw.number] = value.detach()
            total = total + float(weights[draw.number]) * pool.scale * value
        self._losses.append(torch.stack(losses))
        return total

    def epoch_record(self) -> dict[str, float]:
        """Read the losses of the epoch, at once; the record of an epoch holds none of them."""
        if self._losses:
            self.figures.losses += list(torch.stack(self._losses).double().cpu().numpy())
            self._losses = []
        return super().epoch_record()

    def pool_loss(self, queries: Tensor, labels: Tensor, pool: Pool) -> Tensor:
        """Return the loss of the task; tell the weights how well the task is solved."""
        if self.weights.learns and len(self.terms):
            sent, scores = pool.sent(self.device), queries.detach() @ labels.detach().T
            if pool.ignored is not None:  # such as the label with the row's own text
                scores.masked_fill_(sent[4], -torch.inf)
            n_rows = len(pool.rows)
            hits = (scores.argmax(dim=1)[sent[0]] == sent[1]) & (sent[0] < n_rows)
            self.weights.step(hits.sum().double() / n_rows)
        return super().pool_loss(queries, labels, pool)

    def _term_loss(self, vectors: Tensor, anchors: Tensor, draw: TermDraw) -> Tensor:
        """Return the loss of a term's rows against its anchors."""
        drawn = draw.positives.argmax(axis=1)  # one of every row
        arrays = [draw.rows, draw.columns, drawn, draw.row_weight, draw.ignored]
        rows, columns, own, weight, ignored = send(arrays, self.device)
        cosines = vectors[rows] @ anchors[columns].T
        cells = (torch.arange(len(own), device=self.device), own)
        pruning = self.pruning
        if pruning is not None and self._epoch >= pruning.warmup:
            # A drawn edge that pruning would leave out by now drops its row; it is no negative.
            weight = weight * (cosines.detach()[cells] > pruning.threshold)
        weight = weight / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
        positives = Positives(*cells, torch.ones_like(weight), weight)
        return self.term_loss(
            self.term_loss.scaled(cosines),
            positives,
            ignored=ignored if draw.ignored.any() else None,
        )

    # ---- state

    def get_state(self) -> dict[str, NDArray]:
        """Return the arrays of pools, weights, figures and pruned edges."""
        kept = {f"kept/{n}": _is_kept(term) for n, term in enumerate(self.terms)}
        return {
            **super().get_state(),
            **{f"weights/{name}": array for name, array in self.weights.get_state().items()},
            **{f"figures/{name}": array for name, array in self.figures.get_state().items()},
            **kept,
        }

    def set_state(self, state: dict[str, NDArray]) -> None:
        """Take the arrays of `get_state` back."""
        super().set_state(state)
        self.weights.set_state(_under(state, "weights/"))
        self.figures.set_state(_under(state, "figures/"))
        for number, term in enumerate(self.terms):
            term.edges = keep_edges(term.walked, state[f"kept/{number}"])


def _is_kept(term: GraphTerm) -> NDArray[np.bool_]:
    """Return which of the walked edges are left."""
    return np.isin(pair_ids(term.walked), pair_ids(term.edges))


def _under(state: dict[str, NDArray], prefix: str) -> dict[str, NDArray]:
    """Return the part of a state whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
