"""Steps that recipes with an encoder share: prepare both sides, watch held-out rows, warn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from torch import Tensor

from skxc._model import Model, of_model
from skxc._training_set import Features, TrainingSet
from skxc.encoders import Encoder, make_encoder
from skxc.estimators._neural import NeuralFit
from skxc.exceptions import LabelTextWarning
from skxc.graphs import cooccurrence, without_diagonal
from skxc.indices import ExactIndex, FaissIndex, Index
from skxc.labels import AnchorGraph
from skxc.training import (
    HeldOut,
    LabelQueries,
    PoolSettings,
    PoolTask,
    Progress,
    backward_in_chunks,
)
from skxc.training._pool import Ids, Pool
from skxc.utils._precision import resolve_device
from skxc.utils._record import Record
from skxc.utils._row_sparse import send
from skxc.utils._same_text import same_text_pairs
from skxc.utils._sparse import TopK, normalize_rows
from skxc.utils._validation import warn_of_unknown_texts

# Cells above which masking a graph's neighbours out of the negatives costs more than it can give.
LARGE_MASKED_SHARE = 0.2
# Vectors and queries from which on mining does not compare all pairs: learning the cells pays off.
LARGE_INDEX, MANY_QUERIES = 200_000, 10_000
# Share of unknown words above which new labels deserve a warning.
LARGE_UNKNOWN_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class EncoderModel(Model):
    """A model that encodes samples, and labels by their texts, with one encoder.

    Attributes
    ----------
    encoder : Encoder
    device : str
        Where the encoder computes, which a loaded model chooses anew.
    precision : str
        Number format of transformers.
    """

    encoder: Encoder
    device: str
    precision: str

    def embed(self, X: Features) -> NDArray[np.float32]:
        """Return the unit vectors of samples, shape (n, d)."""
        encoder = self.encoder.to(resolve_device(self.device))
        return encoder.encode(prepared_samples(encoder, X), precision=self.precision)

    def queries(self, X: Features) -> NDArray[np.float32]:
        """Return the vectors of samples."""
        return self.embed(X)

    def prepare_new_labels(self, features: Features) -> Any:
        """Return new labels prepared for the encoder; warn if it knows few of their words."""
        prepared = self.encoder.prepare(features)
        unknown = self.encoder.unknown_share(prepared)
        if unknown > LARGE_UNKNOWN_SHARE:
            warnings.warn(
                f"{unknown:.0%} of the words of the new labels were not seen in training, so their "
                "vectors rest on parts of words. Fit again with rows that have these labels.",
                LabelTextWarning,
                stacklevel=4,
            )
        return prepared


@dataclass(frozen=True, eq=False)
class PoolFigures(Record):
    """How training on pools of labels went.

    Attributes
    ----------
    history : list of dict
        Loss per epoch, and the held-out precision with early stopping.
    n_iter : int
        Epochs that were trained.
    n_refreshes : int
        Clusterings and minings.
    pool_size, positives_per_query, masked_fraction : float
        Means over all steps; they expose most silent failures.
    """

    history: list[dict[str, float]]
    n_iter: int
    n_refreshes: int
    pool_size: float
    positives_per_query: float
    masked_fraction: float

    _may_be_nan = ("history", "losses", "weights", "survival")

    @classmethod
    def of(cls, task: PoolTask, progress: Progress) -> PoolFigures:
        """Return the figures of a training as far as it went."""
        report = task.report
        return cls(
            history=progress.history,
            n_iter=max(progress.epoch, 1),
            n_refreshes=int(report.n_refreshes),
            pool_size=report.pool_size / max(report.n_steps, 1),
            positives_per_query=report.positives / max(report.n_rows, 1),
            masked_fraction=report.masked / max(report.cells, 1),
        )

    def warn_of_masking(self) -> None:
        """Warn if a graph masks many negatives."""
        if self.masked_fraction > LARGE_MASKED_SHARE:
            warnings.warn(
                f"The graph masks {self.masked_fraction:.0%} of all negatives. Keep only its "
                "strongest edges, or set label_queries__mask_neighbors=False.",
                stacklevel=2,
            )


class PoolFiguresMixin:
    """Gives an estimator what its model's `PoolFigures` hold as attributes."""

    history_ = of_model("figures.history", "Records of the epochs.")
    n_iter_ = of_model("figures.n_iter", "Epochs that were trained.")
    n_refreshes_ = of_model("figures.n_refreshes", "Clusterings and minings.")
    pool_size_ = of_model("figures.pool_size", "Mean size of the pools.")
    positives_per_query_in_pool_ = of_model("figures.positives_per_query", "Mean over all steps.")
    masked_fraction_ = of_model("figures.masked_fraction", "Mean over all steps.")


def fitted_encoder(encoder: Any, fit: NeuralFit) -> Encoder:
    """Return a fresh encoder that has learned its vocabulary from samples and label texts."""
    data, encoder = fit.data, make_encoder(encoder)
    if data.label_features is None and not encoder.averages_rows:
        raise ValueError(
            f"`label_features` must be given for {type(encoder).__name__}, which cannot "
            "average training rows into labels, but is None. Pass one text per label."
        )
    sides = [data.X] if data.label_features is None else [data.X, data.label_features]
    return encoder.fit(*sides, seed=fit.seed).to(fit.device)


def prepared_samples(encoder: Encoder, X: Features) -> Any:
    """Return new samples, prepared; warn where it knows no word of most of them."""
    prepared = encoder.prepare(X)
    unknown = encoder.without_words(prepared)
    if unknown is not None:
        warn_of_unknown_texts(X, unknown)
    return prepared


def prepared_labels(encoder: Encoder, samples: Any, data: TrainingSet) -> Any:
    """Return the prepared label side; without one a label averages its training rows."""
    if data.label_features is not None:
        return encoder.prepare(data.label_features)
    if not sp.issparse(data.X):
        warnings.warn(
            "`X` holds texts but there are no label texts: labels are averages of their "
            "training rows, and those without any cannot be predicted. Pass label_features, "
            "one text per label.",
            LabelTextWarning,
            stacklevel=2,
        )
    weight = data.sample_weight.astype(np.float32)
    return normalize_rows(sp.csr_array(data.y.T.multiply(weight)) @ samples)


def watched(held_out: TrainingSet | None, prepare: Callable[[Features], Any]) -> HeldOut | None:
    """Return the rows that early stopping watches, prepared as a task takes them."""
    if held_out is None:
        return None
    own = same_text_pairs(held_out.X, held_out.label_features, held_out.y)
    return HeldOut(prepare(held_out.X), held_out.y, held_out.sample_weight, own)


def label_graph(data: TrainingSet) -> sp.csr_array | None:
    """Return the label graph without self loops, or None where no edge is left."""
    if data.graph is None:
        return None
    if isinstance(data.graph, str):
        graph = cooccurrence(data.y)
    else:
        graph = without_diagonal(data.graph.to_csr())
    return graph if graph.nnz else None


def graph_settings(data: TrainingSet, queries: LabelQueries | None) -> dict[str, Any]:
    """Return what a label graph changes about pools of labels; nothing where it is of anchors."""
    if queries is None or isinstance(data.graph, AnchorGraph):
        return {}
    return {
        "graph": label_graph(data),
        "graph_weight": queries.weight,
        "mask_neighbors": queries.mask_neighbors,
    }


@dataclass(frozen=True)
class PoolBatch:
    """A pool, and what the encoder takes of its texts.

    Attributes
    ----------
    pool : Pool
    chunks : list
        What is encoded at once; several with gradient caching.
    place : ndarray of int64 or None
        Where each text is in the chunks; None: in the one chunk, in order.
    """

    pool: Pool
    chunks: list[Any]
    place: Ids | None = None


class EncoderTask(PoolTask):
    """Train an encoder of samples and label texts on pools; a subclass says how they are scored.

    Parameters
    ----------
    settings : PoolSettings
    encoder : fitted Encoder
    samples, labels : what ``encoder.prepare`` returned
        Training rows, and label texts or features.
    learning_rate : float or None
        None: the encoder's own rate.
    micro_batch_size : int or None
        Rows encoded at once, with gradient caching; None: all, directly.
    precision : str
        See `autocast`; acts on encoders that gain from it.
    **pool_arguments
        See `PoolTask`.
    """

    def __init__(
        self,
        settings: PoolSettings,
        *,
        encoder: Any,
        samples: Any,
        labels: Any,
        learning_rate: float | None = None,
        micro_batch_size: int | None = None,
        precision: str = "auto",
        **pool_arguments: Any,
    ) -> None:
        super().__init__(settings, **pool_arguments)
        self.encoder = encoder
        self.samples = samples
        self.labels = labels
        self.learning_rate = learning_rate
        self.micro_batch_size = micro_batch_size
        self.precision = precision

    def _encode(self, batch: Any) -> Tensor:
        """Return the vectors of a batch of texts."""
        raise NotImplementedError

    def _loss_of(self, vectors: Tensor, pool: Pool) -> Tensor:
        """Return the loss of the vectors of a pool's texts, in the order of `_parts`."""
        raise NotImplementedError

    def prepare(self, rows: Ids, rng: np.random.Generator) -> PoolBatch:
        """Return a pool, and its texts in one chunk or in several."""
        pool = self.draw(rows, rng)
        assert pool.targets  # they are found here, and not in the step
        texts = self.encoder.stack([cache[ids] for cache, ids in self._parts(pool)])
        if self.micro_batch_size is None:
            return PoolBatch(pool, [self.encoder.training_batch(texts)])
        # Short texts first, where a batch is padded to its longest one.
        lengths = self.encoder.row_lengths(texts)
        order = np.arange(texts.shape[0])
        order = order if lengths is None else np.argsort(lengths, kind="stable")
        size = self.micro_batch_size
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        chunks = [self.encoder.training_batch(texts[part]) for part in parts]
        return PoolBatch(pool, chunks, np.argsort(order))

    def backward(self, batch: PoolBatch) -> Tensor:
        """Accumulate the gradients of a pool's loss."""
        pool, chunks = batch.pool, batch.chunks
        if batch.place is None:
            loss = self._loss_of(self._encode(chunks[0]), pool)
            loss.backward()
        else:
            (place,) = send([batch.place], self.device)
            loss = backward_in_chunks(
                self._encode, chunks, lambda x: self._loss_of(x[place], pool), self.device
            )
        return loss.detach()

    def _parts(self, pool: Pool) -> list[tuple[Any, Ids]]:
        """Return (prepared rows, ids) to encode: samples, query labels, pool labels, in order."""
        return [
            (self.samples, pool.rows),
            (self.labels, np.concatenate([pool.queries, pool.labels])),
        ]


def search_once(queries: NDArray, vectors: NDArray, k: int) -> TopK:
    """Return the k best vectors of every query by inner product, from an index used once.

    Exact, but where many queries meet very many vectors and faiss is there: then in the nearest of
    as many cells as the square root of their number.
    """
    large = len(vectors) >= LARGE_INDEX and len(queries) >= MANY_QUERIES
    index: Index = ExactIndex()
    if large and find_spec("faiss") is not None:
        index = FaissIndex("ivf", n_cells=int(len(vectors) ** 0.5), n_probes=32)
    index.add(vectors)
    return index.search(queries, k)
