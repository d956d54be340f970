"""Extra losses on a dual encoder: samples and labels are drawn to the texts of their graph anchors.

    total = L + sum_t ( w_x^t R_x^t + w_z^t R_z^t )

L is the task's loss. R_x^t scores the samples of a batch against anchors of graph t, R_z^t the
labels of the batch: an anchor is drawn for every row with neighbours, and the other rows' anchors
are its negatives, except those that are neighbours too. One encoder embeds samples, labels and
anchors, and there is no other parameter. After a warm-up the graphs keep only the edges that the
encoder agrees with.

Source: RAMEN (arXiv 2402.18434).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from skxc.graphs import edge_cosines, keep_edges
from skxc.losses import Loss
from skxc.negatives import membership, sample_positives
from skxc.training._bandit import Bandit, FixedWeights
from skxc.training._dual_encoder import DualEncoderTask
from skxc.training._pool import Ids, Pool, PoolSettings
from skxc.utils._random import stream
from skxc.utils._sparse import pair_ids


@dataclass
class GraphTerm:
    """One metadata graph on one side.

    Attributes
    ----------
    graph : str
        Name of the graph.
    side : {"points", "labels"}
    walked : csr_array of shape (n or L, n_anchors)
        All edges, before pruning; columns of other graphs are empty.
    hidden : csr_array of the same shape, or None
        Pairs that are neither positives nor negatives, such as an anchor with the row's own text.
    edges : csr_array
        The edges that are left: what is drawn, and what counts as a positive.
    """

    graph: str
    side: str
    walked: sp.csr_array
    hidden: sp.csr_array | None = None
    edges: sp.csr_array = field(init=False)

    def __post_init__(self) -> None:
        self.edges = self.walked

    @property
    def name(self) -> str:
        """Such as "tag (labels)"."""
        return f"{self.graph} ({self.side})"


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
    weights : ndarray of float, shape (n_terms,)
        Weights of the terms at this step.
    more_labels : ndarray of int, shape (e,)
        Labels beside the pool that take part in the label-side terms.
    anchors : ndarray of int, shape (a,)
        Anchors to encode, sorted and distinct.
    draws : list of TermDraw
    """

    weights: NDArray[np.float64]
    more_labels: Ids
    anchors: Ids
    draws: list[TermDraw]


@dataclass
class TermSettings:
    """How terms are drawn, scored and weighed.

    Attributes
    ----------
    loss : Loss
    temperature : float
        Divides the cosines, for losses that use one.
    schedule : callable
        Factor of all weights at a share of training that is done, in [0, 1].
    prune_from, prune_every : int or None
        Epoch of the first pruning, None for never, and epochs between two.
    prune_threshold : float
        Cosine that an edge must exceed.
    anchor_fraction : float
        Share of the rows that take part in a step.
    random_labels : bool
        Whether as many labels as the batch has samples, drawn from all, join the label side.
    """

    loss: Loss
    temperature: float
    schedule: Callable[[float], float]
    prune_from: int | None = None
    prune_every: int = 5
    prune_threshold: float = 0.0
    anchor_fraction: float = 1.0
    random_labels: bool = False


@dataclass
class TermFigures:
    """What happened to the terms, as rows of figures.

    Attributes
    ----------
    steps : list of ndarray, shape (1 + n_terms,)
        Per step: the epoch, and the weight of every term.
    losses : list of ndarray, shape (1 + n_terms,)
        Per step: the loss of the task, and of every term, NaN where it had no rows.
    survival : list of ndarray, shape (1 + 2 * n_terms,)
        Per pruning: the epoch, the share of its edges that every term keeps, their mean cosines.
    """

    steps: list[NDArray[np.float64]] = field(default_factory=list)
    losses: list[NDArray[np.float64]] = field(default_factory=list)
    survival: list[NDArray[np.float64]] = field(default_factory=list)

    def as_attributes(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the fitted attributes of an estimator whose terms have these names."""
        steps, survival = _table(self.steps, len(names)), _table(self.survival, 2 * len(names))
        kept = survival[:, : 1 + len(names)]
        epochs, losses = steps[:, 0], _table(self.losses, len(names))
        means = [_mean_of_known(losses[epochs == epoch]) for epoch in np.unique(epochs)]
        return {
            "graph_weights_": _columns(["epoch", *names], steps),
            "edge_survival_": _columns(["epoch", *names], kept),
            "loss_history_": _columns(["task", *names], _table(means, len(names))),
        }

    def get_state(self) -> dict[str, NDArray]:
        """Return the non-empty tables."""
        return {name: np.stack(rows) for name, rows in vars(self).items() if rows}

    def set_state(self, state: dict[str, NDArray]) -> None:
        """Take the tables of `get_state` back."""
        for name in vars(self):
            setattr(self, name, list(state.get(name, [])))


def _table(rows: list[NDArray[np.float64]], n_more: int) -> NDArray[np.float64]:
    """Return rows of figures as a matrix of 1 + n_more columns."""
    return np.array(rows, dtype=np.float64).reshape(len(rows), 1 + n_more)


def _mean_of_known(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return column means without NaN, NaN for columns of nothing else."""
    known = ~np.isnan(rows)
    count = known.sum(axis=0)
    total = np.where(known, rows, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _columns(names: Sequence[str], table: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    return dict(zip(names, table.T.copy(), strict=True))


class GraphRegularizedTask(DualEncoderTask):
    """Train an encoder on pools of labels and on graph terms.

    What the terms draw comes from a random stream of their own, so that without edges, or with all
    weights at 0, training is that of `DualEncoderTask`, bit for bit.

    Parameters
    ----------
    settings : PoolSettings
    term_settings : TermSettings
    terms : list of GraphTerm
    weights : Bandit or FixedWeights
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
        term_settings: TermSettings,
        *,
        terms: Sequence[GraphTerm],
        weights: Bandit | FixedWeights,
        anchors: Any,
        n_epochs: int,
        seed: int,
        **arguments: Any,
    ) -> None:
        super().__init__(settings, **arguments)
        self.term_settings = term_settings
        self.terms = list(terms)
        self.weights = weights
        self.anchors = anchors
        self.n_epochs = n_epochs
        self.seed = seed
        self.figures = TermFigures()
        self._epoch, self._step, self._n_steps = 0, 0, 1

    # ---- epochs

    def refresh(self, epoch: int, rng: np.random.Generator) -> None:
        """Cluster, mine and prune where it is due, on current vectors."""
        before = self.report.n_refreshes
        super().refresh(epoch, rng)
        if self._prunes_before(epoch):
            self._prune(epoch)
        elif self.report.n_refreshes == before:
            return
        self.weights.forget()  # batches or targets have changed, and with them the reward's level

    def _prunes_before(self, epoch: int) -> bool:
        first, every = self.term_settings.prune_from, self.term_settings.prune_every
        if first is None or not self.terms:
            return False
        return epoch >= first and (epoch - first) % every == 0

    def _prune(self, epoch: int) -> None:
        """Keep the walked edges whose ends are similar by now; an edge may come back."""
        anchors = self.encoder.encode(self.anchors, precision=self.precision)
        sides = {"points": self.sample_vectors(), "labels": self.text_vectors()}
        shares, means = [], []
        for term in self.terms:
            cosines = edge_cosines(term.walked, sides[term.side], anchors)
            similar = cosines > self.term_settings.prune_threshold
            term.edges = keep_edges(term.walked, similar)
            shares.append(similar.mean())
            means.append(cosines.mean())
        self.figures.survival.append(np.array([epoch, *shares, *means]))

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
        weights = self.weights.weights * self.term_settings.schedule(done)
        self.figures.steps.append(np.array([self._epoch, *weights]))
        return self._add_anchors(pool, weights, graph_rng)

    def _add_anchors(
        self, pool: Pool, weights: NDArray[np.float64], rng: np.random.Generator
    ) -> AnchoredPool:
        more, sides = self._sides(pool, rng)
        drawn = []
        for number, term in enumerate(self.terms):
            ids, places, row_weight = sides[term.side]
            taken = self._rows_to_draw(term, ids, rng) if weights[number] else ids[:0]
            if len(taken):
                anchors = sample_positives(term.edges, ids[taken], 1, rng)
                drawn.append((number, ids[taken], places[taken], row_weight[taken], anchors))
        anchors = np.unique(np.concatenate([np.empty(0, np.int64), *(d[-1] for d in drawn)]))
        draws = [self._term_draw(*one, anchors) for one in drawn]
        return AnchoredPool(
            **vars(pool), weights=weights, more_labels=more, anchors=anchors, draws=draws
        )

    def _sides(
        self, pool: Pool, rng: np.random.Generator
    ) -> tuple[Ids, dict[str, tuple[Ids, Ids, NDArray[np.float32]]]]:
        """Return labels to encode beside the pool, and (ids, places, weights) of both sides.

        Places are those among the vectors of a step: samples, queries, labels, more labels. Labels
        that no row of the batch has take no part, and the others count once each: weighing them by
        their rows, as the paper's one draw per row does, would favour frequent labels.
        """
        n_rows = len(pool.rows)
        first = n_rows + len(pool.queries)
        present = np.flatnonzero(pool.positives[:n_rows].any(axis=0))
        labels, places, more = pool.labels[present], first + present, pool.labels[:0]
        if self.term_settings.random_labels:
            n_labels = self.y.shape[1]
            more = np.sort(rng.choice(n_labels, min(n_rows, n_labels), replace=False))
            more = np.setdiff1d(more, labels, assume_unique=True)
            labels = np.concatenate([labels, more])
            places = np.concatenate([places, first + len(pool.labels) + np.arange(len(more))])
        weight = np.ones(len(labels), dtype=np.float32)
        samples = (pool.rows, np.arange(n_rows), pool.row_weight[:n_rows])
        return more, {"points": samples, "labels": (labels, places, weight)}

    def _rows_to_draw(self, term: GraphTerm, ids: Ids, rng: np.random.Generator) -> Ids:
        """Return the positions of the rows that have neighbours and take part in this step."""
        connected = np.flatnonzero(np.diff(term.edges.indptr)[ids])
        if self.term_settings.anchor_fraction < 1:
            connected = connected[rng.random(len(connected)) < self.term_settings.anchor_fraction]
        return connected

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
            parts += [(self.labels, pool.more_labels), (self.anchors, pool.anchors)]
        return parts

    def _loss_of(self, vectors: Tensor, pool: Pool) -> Tensor:
        if not isinstance(pool, AnchoredPool):
            return super()._loss_of(vectors, pool)
        n_vectors = len(pool.rows) + len(pool.queries) + len(pool.labels)
        total = super()._loss_of(vectors[:n_vectors] if pool.draws else vectors, pool)
        losses = np.full(1 + len(self.terms), np.nan)
        losses[0] = float(total.detach())
        anchors = vectors[n_vectors + len(pool.more_labels) :]
        for draw in pool.draws:
            value = self._term_loss(vectors, anchors, draw)
            losses[1 + draw.number] = float(value.detach())
            total = total + float(pool.weights[draw.number]) * value
        self.figures.losses.append(losses)
        return total

    def pool_loss(self, queries: Tensor, labels: Tensor, pool: Pool) -> Tensor:
        """Return the loss of the task; tell the weights how well the task is solved."""
        if self.weights.learns and len(self.terms):
            n_rows = len(pool.rows)
            best = (queries[:n_rows].detach() @ labels.detach().T).argmax(dim=1).cpu().numpy()
            self.weights.step(float(pool.positives[np.arange(n_rows), best].mean()))
        return super().pool_loss(queries, labels, pool)

    def _term_loss(self, vectors: Tensor, anchors: Tensor, draw: TermDraw) -> Tensor:
        """Return the loss of a term's rows against its anchors."""
        settings, queries = self.term_settings, vectors[torch.from_numpy(draw.rows)]
        cosines = queries @ anchors[torch.from_numpy(draw.columns)].T
        positives = self._tensor(draw.positives)
        if settings.prune_from is not None and self._epoch >= settings.prune_from:
            # A drawn edge that pruning would leave out by now drops its row; it is no negative.
            positives = positives & (cosines.detach() > settings.prune_threshold)
        return settings.loss(
            cosines / settings.temperature if settings.loss.uses_temperature else cosines,
            positives,
            row_weight=self._tensor(draw.row_weight),
            ignored=self._tensor(draw.ignored if draw.ignored.any() else None),
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
