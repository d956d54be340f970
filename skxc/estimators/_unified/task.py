"""What UniDEC trains: a dual encoder and a classifier on one encoder, in the same steps.

    L = head_weight * loss(a_q . a_S / t)  +  (1 - head_weight) * loss(c_q . w_S / t)

over one pool S of labels per batch: several positives of every sample, and labels that the current
dual encoder mines. The module of the heads has a and c; w is a free vector per label.

Source: UniDEC (WWW 2025).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skxc._params import MadeBy, OneOf, Part, ShareBelowOne, params
from skxc._training_set import TrainingSet
from skxc.estimators._encoding import EncoderTask
from skxc.estimators._neural import NeuralFit
from skxc.estimators._unified.heads import HeadsModule
from skxc.losses import Loss, make_loss
from skxc.training import HeldOut, LabelVectors, PoolSettings
from skxc.training._label_table import unit_rows
from skxc.training._pool import Ids, Pool
from skxc.utils._random import stream
from skxc.utils._sparse import normalize_rows
from skxc.utils._unit_length import unit_length

# UniDEC's, of a loss that is given by its name.
USUAL_TEMPERATURE = 1 / 18
# Losses that are a mean over all positives of a row.
LOSSES = ("decoupled", "softmax", "balanced")
# UniDEC's 0.001 is for 150 epochs. A label vector of unit length has components of about 0.05, and
# a rare label is touched a few times per epoch: in 10 epochs it would stay where it starts.
TABLE_RATE = 0.01
# Rows of the table that are copied at once.
ROWS_AT_ONCE = 65_536
# Label vectors that are computed at once beside the whole table, for the sake of memory.
LABELS_AT_ONCE = 16_384


def make_unified_loss(name: str) -> Loss:
    """Return the loss of a name at UniDEC's temperature."""
    return make_loss(name, temperature=USUAL_TEMPERATURE)


#: The type of a parameter that takes a loss of both heads.
UnifiedLoss = Annotated[str, OneOf(LOSSES), MadeBy(f"{__name__}:make_unified_loss")] | Loss


@params
class LabelTable(Part):
    """The label vectors of the classifier, one per label, as they are trained.

    Parameters
    ----------
    start : {"rows", "text", "random"}, default="rows"
        "rows": label vectors start at the mean of what the classifier's head makes of the label's
        training rows, and where it has none, of its text. "text": all start at their texts, as in
        NGAME. "random" is UniDEC's way. With the first two, vectors of labels without a training
        row, which training only pushes away from samples, end halfway between where it left them
        and their text.
    similarity : {"cosine", "dot"}, default="cosine"
        How the classifier compares a sample with a label vector in training. Prediction uses the
        cosine; "dot" is UniDEC's way, which normalises in prediction only.
    dropout : float, default=0.1
        Share of a label vector's components that is zeroed at each training step.
    dtype : {"float32", "bfloat16"}, default="float32"
        Number format of the label vectors in training, and of their optimiser state. bfloat16, with
        stochastic rounding, takes half the memory.
    device : {"auto", "cpu"}, default="auto"
        Where the label vectors are in training; "auto" is the device of everything else.

    References
    ----------
    UniDEC (WWW 2025); NGAME (WSDM 2023) for vectors that start at label texts.
    """

    start: Literal["rows", "text", "random"] = "rows"
    similarity: Literal["cosine", "dot"] = "cosine"
    dropout: ShareBelowOne = 0.1
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: Literal["auto", "cpu"] = "auto"


def new_vectors(
    table: LabelTable, encoder: Any, heads: HeadsModule, samples: Any, labels: Any, fit: NeuralFit
) -> LabelVectors:
    """Return label vectors as training starts from them, one per prepared row of `labels`."""
    shape = (labels.shape[0], heads.dim)
    if table.start == "random":  # Xavier
        bound = np.sqrt(6 / sum(shape))
        start = stream(fit.seed, "table").uniform(-bound, bound, shape).astype(np.float32)
    else:

        def embed(rows: Any) -> NDArray[np.float32]:
            out = np.empty((rows.shape[0], heads.dim), dtype=np.float32)
            head = heads.eval().unit_against_labels
            return encoder.encode(rows, precision=fit.training.precision, head=head, out=out)

        start = embed(labels)
        if table.start == "rows":
            centroids = _centroids(embed, samples, fit.data)
            seen = np.bincount(fit.data.y.indices, minlength=shape[0]) > 0
            start[seen] = centroids[seen]
    vectors = LabelVectors(start, dropout=table.dropout, dtype=table.dtype, device=fit.device)
    return vectors.to(fit.device if table.device == "auto" else torch.device("cpu"))


def _centroids(
    embed: Callable[[Any], NDArray[np.float32]], samples: Any, data: TrainingSet
) -> NDArray[np.float32]:
    """Return the unit mean of the vectors of every label's rows, as they weigh; 0 without any."""
    total: Any = 0
    weighted = data.y.multiply(data.sample_weight[:, None].astype(np.float32)).tocsr()
    for start in range(0, data.n_samples, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        total = total + weighted[rows].T @ embed(samples[rows])
    return normalize_rows(total)


class UnifiedTask(EncoderTask):
    """Train an encoder, two heads and a label table on pools of labels.

    Heads learn at twice the rate of the encoder's dense parameters, the table at `TABLE_RATE`;
    another `learning_rate` than the encoder's own scales all.

    Parameters
    ----------
    settings : PoolSettings
    heads : HeadsModule
    table : LabelVectors
        The label vectors of the classifier; stays on its own device.
    head_weight : float
        Weight of the dual encoder's loss; 1 and 0 leave the other head exactly as it is.
    symmetric : bool
        Whether labels are also scored against the batch's queries.
    unit_classifier : bool
        Whether the classifier's scores are cosines in training, as they are in prediction, or
        inner products.
    **arguments
        See `EncoderTask`.
    """

    name = "unified"
    # True of the classifier, whose label vectors are no texts; the dual encoder ignores the cell.
    own_label_is_positive = True

    def __init__(
        self,
        settings: PoolSettings,
        *,
        heads: HeadsModule,
        table: LabelVectors,
        head_weight: float = 0.5,
        symmetric: bool = False,
        unit_classifier: bool = True,
        **arguments: Any,
    ) -> None:
        super().__init__(settings, **arguments)
        self.heads = heads
        self.table = table
        self.head_weight = head_weight
        self.symmetric = symmetric
        self.unit_classifier = unit_classifier
        self.modules = nn.ModuleDict({"encoder": self.encoder.module_, "heads": heads})
        self.modules.to(self.device)["table"] = table

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the groups of the encoder, the heads and the table."""
        own = self.encoder.parameter_groups(None)
        first, scale = own[0]["lr"], 1.0
        if self.learning_rate is not None:
            scale = self.learning_rate / first
        dense = next((group["lr"] for group in own if not group.get("sparse")), first / 10)
        heads = list(self.heads.parameters())
        return [
            *self.encoder.parameter_groups(self.learning_rate),
            {"params": heads, "lr": 2 * scale * dense, "weight_decay": 0.01},
            {"params": [self.table.weight], "lr": scale * TABLE_RATE, "sparse": True},
        ]

    # ---- a step

    def _parts(self, pool: Pool) -> list[tuple[Any, Ids]]:
        """Return (prepared rows, ids) to encode; the classifier needs no text of a pool label."""
        samples, labels = super()._parts(pool)
        return [samples, labels if self.head_weight else (self.labels, pool.queries)]

    def _encode(self, batch: Any) -> Tensor:
        return self.encoder.vectors(batch, self.precision)

    def _loss_of(self, vectors: Tensor, pool: Pool) -> Tensor:
        n_queries = len(pool.rows) + len(pool.queries)
        queries, texts = vectors[:n_queries], vectors[n_queries:]
        parts = []
        if self.head_weight > 0:
            sides = self.heads.against_texts(queries), self.heads.against_texts(texts)
            parts.append(self.head_weight * self._head_loss(*sides, _without_own_label(pool)))
        if self.head_weight < 1:
            sides = self.heads.against_labels(queries), self.table(pool.labels)
            if self.unit_classifier:
                sides = unit_length(sides[0]), unit_rows(sides[1])
            parts.append((1 - self.head_weight) * self._head_loss(*sides, pool))
        return sum(parts[1:], parts[0])

    def _head_loss(self, queries: Tensor, labels: Tensor, pool: Pool) -> Tensor:
        loss = self.pool_loss(queries, labels, pool)
        if not self.symmetric:
            return loss
        return (loss + self.pool_loss(labels, queries, pool.transposed())) / 2

    # ---- vectors

    def project(
        self,
        cache: Any,
        head: Callable[[Tensor], Tensor],
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return what a head makes of prepared rows, in `out` or a new array of shape (n, dim)."""
        self.heads.eval()
        if out is None:
            out = np.empty((cache.shape[0], self.heads.dim), dtype=np.float32)
        return self.encoder.encode(cache, precision=self.precision, head=head, out=out)

    def sample_vectors(self, samples: Any = None) -> NDArray[np.float32]:
        """Return the unit vectors that mine and cluster: of the dual encoder, where it is trained.

        By default of all training rows.
        """
        samples = self.samples if samples is None else samples
        head = self.heads.against_texts if self.head_weight else self.heads.unit_against_labels
        return self.project(samples, head)

    def label_vectors(self) -> NDArray[np.float32]:
        """Return the unit vectors of the labels that are mined, shape (L, dim)."""
        if self.head_weight:
            return self.project(self.labels, self.heads.against_texts)
        return normalize_rows(self.table.to_numpy())

    @property
    def prediction_dim(self) -> int:
        """Width of `prediction_vectors`: once or twice that of a head."""
        return self.heads.dim * (int(self.head_weight > 0) + int(self.head_weight < 1))

    def prediction_vectors(self, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the unit label vectors of the trained heads side by side, shape (L, dim or more).

        In `out` or a new array: one from the start, because it is the largest there is.
        """
        dim, n_labels = self.heads.dim, self.labels.shape[0]
        if out is None:
            out = np.empty((n_labels, self.prediction_dim), dtype=np.float32)
        if self.head_weight:
            self.project(self.labels, self.heads.against_texts, out[:, :dim])
        if self.head_weight < 1:
            for start in range(0, n_labels, ROWS_AT_ONCE):
                rows = slice(start, start + ROWS_AT_ONCE)
                out[rows, -dim:] = normalize_rows(self.table.to_numpy(rows))
        return out

    @property
    def temperature(self) -> float:
        """What divides cosines in the loss, or the usual one where it takes them as they are."""
        loss: Any = self.settings.loss
        return loss.temperature if loss.uses_temperature else USUAL_TEMPERATURE

    def kept_vectors(
        self, frequency: NDArray[np.float64], *, toward_texts: bool
    ) -> NDArray[np.float32]:
        """Return the label vectors that prediction keeps.

        Parameters
        ----------
        frequency : ndarray of float64, shape (L,)
            Weighted number of rows of every label.
        toward_texts : bool
            Whether labels without rows get the mean of their trained vector and their text's.

        Returns
        -------
        ndarray of float32, shape (L, dim), or (L, 2 * dim + 1) where both heads are trained
            The last column of the latter is temperature * log(1 + rows of the label).
        """
        n_columns, is_fused = self.prediction_dim, 0 < self.head_weight < 1
        n_labels = self.y.shape[1]
        kept = np.empty((n_labels, n_columns + is_fused), dtype=np.float32)
        vectors = self.prediction_vectors(kept[:, :n_columns])
        if is_fused:
            kept[:, -1] = self.temperature * np.log1p(frequency)
        if toward_texts and self.head_weight < 1:
            # Only ever negatives, they have learned which samples are not theirs and no more.
            unseen = np.flatnonzero(np.bincount(self.y.indices, minlength=n_labels) == 0)
            self._average_with_texts(vectors[:, -self.heads.dim :], unseen)
        return kept

    def _average_with_texts(self, weights: NDArray[np.float32], labels: Ids) -> None:
        """Move label vectors of the classifier halfway to those of their texts, in place."""
        for start in range(0, len(labels), LABELS_AT_ONCE):
            ids = labels[start : start + LABELS_AT_ONCE]
            texts = self.project(self.labels[ids], self.heads.unit_against_labels)
            weights[ids] = normalize_rows(weights[ids] + texts)

    def evaluate(self) -> float:
        """Return precision@1 on the held-out rows, by the heads that are trained."""
        held_out = cast(HeldOut, self.held_out)
        samples = held_out.samples
        if 0 < self.head_weight < 1:
            queries = np.empty((samples.shape[0], 2 * self.heads.dim), dtype=np.float32)
            self.project(samples, self.heads.side_by_side, queries)
        else:
            queries = self.sample_vectors(samples)
        return held_out.precision(queries, self.prediction_vectors(), self.settings.search)


def _without_own_label(pool: Pool) -> Pool:
    """Return the pool in which the label of a text that is a query takes no part.

    Query and label share encoder and head here, so their cosine is 1 whatever is trained.
    """
    if not len(pool.queries):
        return pool
    ignored = np.zeros_like(pool.positives) if pool.ignored is None else pool.ignored.copy()
    ignored[len(pool.rows) :] |= pool.queries[:, None] == pool.labels[None, :]
    return replace(pool, ignored=ignored)
