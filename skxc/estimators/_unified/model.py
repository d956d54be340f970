"""What UniDEC answers with: one search over the label vectors of both heads, side by side.

    s(x, l) = cos(c(x), w_l)  +  u a(x) . a(text of l)  +  v t log(1 + n_l)

n_l rows of the label, t the temperature. Pools take the last term away in training, because they
draw frequent labels as negatives more often. Source of that: Yi et al., "Sampling-Bias-Corrected
Neural Modeling for Large Corpus Item Recommendations", RecSys 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skxc._model import Reasons, in_blocks
from skxc._training_set import Features, TrainingSet
from skxc.estimators._encoding import EncoderModel, PoolFigures, prepared_samples
from skxc.estimators._unified.heads import HeadsModule, scoring_head
from skxc.fusion._learn import N_ERRORS, STEPS, standard_error
from skxc.indices import VectorSearch
from skxc.metrics import inverse_propensity
from skxc.metrics._weighted import values_at_k
from skxc.ranking import inner_products, rank_pairs, union_of_lists
from skxc.utils._loaded import sizes_of
from skxc.utils._precision import resolve_device
from skxc.utils._record import Record
from skxc.utils._same_text import same_text_pairs
from skxc.utils._sparse import TopK

# What fusion="learned" tries for u and for v, and where it stays without evidence.
TEXT_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
FREQUENCY_WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5)
USUAL_WEIGHTS = (0.5, 0.4)
# Labels per list among which the trials choose, and the weights that find them.
TRIAL_DEPTH = 50
# What the heads are called where their scores are explained.
HEADS = {"dual_encoder": "label text", "classifier": "classifier"}
TRIAL_QUERIES = ((0.0, 0.0), (1.5, 0.0), (0.5, 0.6), (1.0, 1.25))


@dataclass(frozen=True, eq=False)
class HeadVectors(Record):
    """Label vectors of the trained heads, which are searched together or head by head.

    Attributes
    ----------
    matrix : ndarray of float32, shape (n_labels, 2 * dim + 1) or (n_labels, dim)
        Unit vectors of the texts, unit vectors of the classifier, and t log(1 + n_l); those of one
        head where one was trained.
    trained : {"both", "dual_encoder", "classifier"}
    """

    matrix: NDArray[np.float32]
    trained: str

    def _check_loaded(self) -> None:
        sizes = sizes_of(self, matrix="L d")
        if self.trained not in ("both", "dual_encoder", "classifier"):
            raise ValueError(f"`HeadVectors.trained` must be a head, but is {self.trained!r}")
        if self.trained == "both" and not sizes["d"] % 2:
            raise ValueError("`HeadVectors.matrix` must have an odd number of columns")

    @property
    def texts(self) -> NDArray[np.float32] | None:
        """Vectors of the label texts, shape (n_labels, dim)."""
        return self._half("dual_encoder", 0)

    @property
    def classifiers(self) -> NDArray[np.float32] | None:
        """Vectors of the classifier, shape (n_labels, dim)."""
        return self._half("classifier", -1)

    def _half(self, head: str, place: int) -> NDArray[np.float32] | None:
        if self.trained == "both":
            return np.split(self.matrix[:, :-1], 2, axis=1)[place]
        return self.matrix if self.trained == head else None

    def of(self, head: str) -> VectorSearch:
        """Return the search of a trained head, or of both."""
        if head not in self._searches:
            half = self.texts if head == "dual_encoder" else self.classifiers
            matrix = self.matrix if head == self.trained else np.ascontiguousarray(half)
            self._searches[head] = VectorSearch(matrix)
        return self._searches[head]

    @cached_property
    def _searches(self) -> dict[str, VectorSearch]:
        return {}

    def extended(self, text: NDArray[np.float32], label: NDArray[np.float32]) -> HeadVectors:
        """Return these vectors and, behind them, those of new labels without rows."""
        no_rows = np.zeros((len(text), 1), dtype=np.float32)
        sides = {"dual_encoder": [text], "classifier": [label], "both": [text, label, no_rows]}
        return replace(self, matrix=np.concatenate([self.matrix, np.hstack(sides[self.trained])]))


@dataclass(frozen=True, eq=False)
class UnifiedModel(EncoderModel):
    """An encoder, two heads, and the label vectors of both.

    Attributes
    ----------
    heads : dict of str to ndarray
        Weights of the heads.
    labels : HeadVectors
    fusion_weights : ndarray of float64, shape (2,)
        u and v of ``fusion="learned"``.
    temperature : float
    prediction : {"both", "dual_encoder", "classifier"}
        Which head scores.
    fusion : {"learned", "sum"}
    index : str or Index
        How vectors are searched.
    figures : PoolFigures
    pool_report : dict of str to float
    """

    heads: dict[str, NDArray[np.float32]]
    labels: HeadVectors
    fusion_weights: NDArray[np.float64]
    temperature: float
    prediction: str
    fusion: str
    index: Any
    figures: PoolFigures
    pool_report: dict[str, float]

    _may_be_nan = ("pool_report",)
    _chosen = ("fusion_weights",)

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return len(self.labels.matrix)

    def _check_loaded(self) -> None:
        sizes_of(self, fusion_weights="2")
        heads = HeadsModule.from_arrays(self.heads)
        if heads.text.in_features != self.encoder.dim_:
            raise ValueError(f"`heads` must be of vectors of {self.encoder.dim_} numbers")
        width = 2 * heads.dim + 1 if self.labels.trained == "both" else heads.dim
        sizes_of(self.labels, matrix=f"L {width}")

    def embed(self, X: Features) -> NDArray[np.float32]:
        """Return the unit vectors of samples by both heads side by side, shape (n, 2 * dim)."""
        return self._project(prepared_samples(self.encoder, X))

    def _project(self, rows: Any) -> NDArray[np.float32]:
        device = resolve_device(self.device)
        encoder, heads = self.encoder.to(device), HeadsModule.from_arrays(self.heads).to(device)
        out = np.empty((rows.shape[0], 2 * heads.dim), dtype=np.float32)
        return encoder.encode(rows, precision=self.precision, head=heads.side_by_side, out=out)

    def search(self, queries: NDArray[np.float32], k: int) -> TopK:
        """Return the best labels by the head that scores, or by both."""
        return in_blocks(self._search, queries, k)

    def _search(self, queries: NDArray[np.float32], k: int) -> TopK:
        head, side = self._asked(queries)
        return self.labels.of(head).search(side, k, self.index)

    def score_pairs(
        self, queries: NDArray[np.float32], rows: NDArray[np.integer], labels: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Return the scores of pairs by the head that scores, or by both."""
        head, side = self._asked(queries)
        return inner_products(side, self.labels.of(head).vectors, rows, labels)

    def reasons(self, query: NDArray[np.float32], label: int) -> Reasons:
        """Return what both heads and the frequency of the label add, or the head that scores."""
        head, side = self._asked(query)
        products = side[0] * self.labels.of(head).vectors[label]
        if head != "both":
            return Reasons({HEADS[head]: float(products.sum())})
        dim = len(products) // 2
        text, classifier, frequency = products[:dim], products[dim:-1], products[-1]
        names = "label text", "classifier", "label frequency"
        sums = map(float, (text.sum(), classifier.sum(), frequency))
        return Reasons(dict(zip(names, sums, strict=True)))

    def _asked(self, queries: NDArray[np.float32]) -> tuple[str, NDArray[np.float32]]:
        """Return the head that scores, and the queries that its label vectors meet."""
        head = scoring_head(self.prediction, self.labels.trained)
        if head == "both":
            return head, self._fused(
                queries, (1.0, 0.0) if self.fusion == "sum" else self.fusion_weights
            )
        text, label = np.split(queries, 2, axis=1)
        return head, np.ascontiguousarray(text if head == "dual_encoder" else label)

    def _search_both(self, queries: NDArray[np.float32], weights: Any, k: int) -> TopK:
        return self.labels.of("both").search(self._fused(queries, weights), k, self.index)

    def _fused(self, queries: NDArray[np.float32], weights: Any) -> NDArray[np.float32]:
        """Return vectors whose inner products with the labels' are the fused scores."""
        dim = queries.shape[1] // 2
        fused = np.empty((len(queries), 2 * dim + 1), dtype=np.float32)
        fused[:, :dim] = weights[0] * queries[:, :dim]
        fused[:, dim:-1] = queries[:, dim:]
        fused[:, -1] = weights[1]
        return fused

    def with_best_weights(self, held_out: TrainingSet | None) -> UnifiedModel:
        """Return the model with the u and v that held-out rows prefer, shrunk to the usual ones.

        They prefer the best nDCG@5 + PSnDCG@5, what is right as well as what is rare, ties to small
        ones. On the way there from the usual ones, the first are taken that the best ones beat by
        no more than two standard errors.
        """
        if self.labels.trained != "both" or held_out is None or not held_out.y.nnz:
            return self
        rows, labels, scores = self._trial_scores(held_out.X)
        n_labels = len(self.labels.matrix)
        shape = held_out.n_samples, min(10, n_labels)
        frequency = np.expm1(self.labels.matrix[:, -1] / self.temperature)
        # The rows that the frequencies count, without the held-out ones.
        n_samples = held_out.attributes["n_samples_fit_"] - held_out.sample_weight.sum()
        rarity = inverse_propensity(frequency, max(n_samples, 3))
        weight = held_out.sample_weight
        own = same_text_pairs(held_out.X, held_out.label_features, held_out.y)

        def quality(weights: Any) -> NDArray[np.float64]:
            """Return one value per row."""
            fused = scores @ np.array([1, *weights], dtype=np.float32)
            best = rank_pairs(rows, labels, fused, shape=shape)[0]
            plain = values_at_k("ndcg", held_out.y, best, 5, weight, own)
            return plain + values_at_k("psndcg", held_out.y, best, 5, weight, own, rarity)

        tried = {pair: quality(pair) for pair in product(TEXT_WEIGHTS, FREQUENCY_WEIGHTS)}
        best = max(tried, key=lambda pair: float(np.average(tried[pair], weights=weight)))
        for step in STEPS:
            closer = (1 - step) * np.array(USUAL_WEIGHTS) + step * np.array(best)
            loss = tried[best] - quality(closer)
            if np.average(loss, weights=weight) <= N_ERRORS * standard_error(loss, weight) + 1e-9:
                break
        return replace(self, fusion_weights=closer)

    def _trial_scores(self, X: Features) -> tuple[NDArray, NDArray, NDArray[np.float32]]:
        """Return the m pairs that any weights may rank high, and what these weigh, shape (m, 3)."""
        queries, n_labels = self.embed(X), len(self.labels.matrix)
        depth = min(TRIAL_DEPTH, n_labels)
        lists = [self._search_both(queries, weights, depth)[0] for weights in TRIAL_QUERIES]
        rows, labels = union_of_lists(lists, n_labels)
        text, label = np.split(queries, 2, axis=1)
        sides: list[tuple[Any, Any]] = [
            (label, self.labels.classifiers),
            (text, self.labels.texts),
        ]
        cosines = [inner_products(asked, kept, rows, labels) for asked, kept in sides]
        return rows, labels, np.stack([*cosines, self.labels.matrix[labels, -1]], axis=1)

    def with_labels(self, features: Features) -> UnifiedModel:
        """Return the model with labels that have the vectors that both heads give to their text."""
        new = self._project(self.prepare_new_labels(features))
        text, label = np.split(new, 2, axis=1)
        return replace(self, labels=self.labels.extended(text, label))
