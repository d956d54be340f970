"""What estimators with one encoder for samples and label texts share, whatever they train with it.

Both sides are prepared once; prediction embeds the samples, block by block, and searches; labels
are added by their text.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from skxc.base import Features, TrainingSet
from skxc.encoders import Encoder, make_encoder
from skxc.estimators._neural import NeuralBase, Run
from skxc.exceptions import LabelTextWarning
from skxc.graphs import cooccurrence, without_diagonal
from skxc.indices import ExactIndex, Index, LabelIndex, make_index
from skxc.utils._same_text import same_text_pairs
from skxc.utils._sparse import TopK, normalize_rows

if TYPE_CHECKING:
    from skxc.training import HeldOut, PoolTask, Progress

# Cells above which masking a graph's neighbours out of the negatives costs more than it can give.
LARGE_MASKED_SHARE = 0.2
# Share of unknown words above which new labels deserve a warning.
LARGE_UNKNOWN_SHARE = 0.5


class EncoderBase(NeuralBase):
    """Base of estimators that encode samples and label texts alike and predict by a search."""

    _named_graphs: ClassVar[tuple[str, ...]] = ("cooccurrence",)
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralBase._parameter_constraints,
        "encoder": [str, PathLike, Encoder],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "n_positives": [Interval(Integral, 1, None, closed="left"), None],
        "refresh_every": [Interval(Integral, 1, None, closed="left")],
        "index": [StrOptions({"auto", "exact", "hnsw", "ivf"}), Index, LabelIndex],
    }

    # ---- what a subclass writes

    def _vectors(self, side: str) -> NDArray[np.float32]:
        """Return the vectors that the index of this name holds."""
        raise NotImplementedError(f"{type(self).__name__} must define `_vectors`.")

    # ---- fit

    def _is_trial(self, run: Run) -> bool:
        """Return whether another training follows, which has no held-out rows to choose by."""
        n_held_out = 0 if run.held_out is None else run.held_out.n_samples
        return n_held_out > 0 and self._gives_rows_back(run.data.n_samples + n_held_out)

    def _fit_encoder(self, run: Run) -> Encoder:
        """Return a fresh encoder, or the trained one to go on with."""
        data = run.data
        if self.warm_start and hasattr(self, "encoder_"):
            n_labels = len(self._trained_labels())
            if n_labels != data.n_labels:
                raise ValueError(
                    f"`y` has {data.n_labels} labels but the model to go on with has "
                    f"{n_labels}. Use add_labels for new labels, or "
                    "warm_start=False."
                )
            # A copy, because a trial training must not move what the real one starts from.
            return copy.deepcopy(self.encoder_)
        encoder = make_encoder(self.encoder)
        if data.label_features is None and not encoder.averages_rows:
            raise ValueError(
                f"`label_features` must be given for {type(encoder).__name__}, which cannot "
                "average training rows into labels, but is None. Pass one text per label."
            )
        sides = [data.X] if data.label_features is None else [data.X, data.label_features]
        return encoder.fit(*sides, seed=run.seed).to(run.device)

    def _prepare_labels(self, encoder: Encoder, samples: Any, data: TrainingSet) -> Any:
        """Return the prepared label side; without one a label averages its training rows."""
        if data.label_features is not None:
            return encoder.prepare(data.label_features)
        if self.input_layout_ == "texts" and self.vectorizer is None:
            warnings.warn(
                "`X` holds texts but there are no label texts: labels are averages of their "
                "training rows, and those without any cannot be predicted. Pass label_features, "
                "one text per label.",
                LabelTextWarning,
                stacklevel=2,
            )
        weight = data.sample_weight.astype(np.float32)
        return normalize_rows(sp.csr_array(data.y.T.multiply(weight)) @ samples)

    def _watched(
        self, held_out: TrainingSet | None, prepare: Callable[[Features], Any]
    ) -> HeldOut | None:
        """Return the rows that early stopping watches, prepared as a task takes them."""
        from skxc.training import HeldOut

        if held_out is None:
            return None
        own = same_text_pairs(held_out.X, held_out.label_features, held_out.y)
        return HeldOut(prepare(held_out.X), held_out.y, own)

    def _warn_if_much_is_masked(self) -> None:
        if self.masked_fraction_ > LARGE_MASKED_SHARE:
            warnings.warn(
                f"The graph masks {self.masked_fraction_:.0%} of all negatives. Keep only its "
                "strongest edges, or set mask_neighbors=False.",
                stacklevel=2,
            )

    # ---- search

    def _search(self, X: Features, k: int) -> TopK:
        return self._search_in_blocks(self._embed(X), k)

    def _index(self, side: str) -> Index:
        """Return the index over these vectors, built when it is first asked for."""
        built = self._built_indices
        key = (side, repr(self.index))
        if key not in built:
            vectors = self._vectors(side)
            built[key] = make_index(self.index, len(vectors))
            built[key].add(vectors)
        return built[key]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without indices, which are built again from the vectors."""
        state = super().__getstate__()
        if "_built_indices" in state:
            state["_built_indices"] = {}
        return state

    # ---- new labels

    def _prepare_new_labels(self, features: Features) -> Any:
        """Return new labels prepared for the encoder; warn if it knows few of their words."""
        prepared = self.encoder_.prepare(features)
        unknown = self.encoder_.unknown_share(prepared)
        if unknown > LARGE_UNKNOWN_SHARE:
            warnings.warn(
                f"{unknown:.0%} of the words of the new labels were not seen in training, so their "
                "vectors rest on parts of words. Fit again with rows that have these labels.",
                LabelTextWarning,
                stacklevel=3,
            )
        return prepared

    def _indices_of(self, sides: Iterable[str]) -> dict[Any, Index]:
        """Return the indices that stay valid when labels are added."""
        return {key: index for key, index in self._built_indices.items() if key[0] in sides}


def label_graph(data: TrainingSet) -> sp.csr_array | None:
    """Return the label graph without self loops, or None where no edge is left."""
    if data.graph is None:
        return None
    if isinstance(data.graph, str):
        graph = cooccurrence(data.y)
    else:
        graph = without_diagonal(data.graph.to_csr())
    return graph if graph.nnz else None


def search_exactly(queries: NDArray, vectors: NDArray, k: int) -> TopK:
    """Return the k best vectors of every query by inner product, from an index used once."""
    index = ExactIndex()
    index.add(vectors)
    return index.search(queries, k)


def figures(task: PoolTask, progress: Progress) -> dict[str, Any]:
    """Return the fitted attributes that tell how training on pools went."""
    report = task.report
    return {
        "history_": progress.history,
        "n_iter_": max(progress.epoch, 1),
        "n_refreshes_": int(report.n_refreshes),
        "pool_size_": report.pool_size / max(report.n_steps, 1),
        "positives_per_query_in_pool_": report.positives / max(report.n_rows, 1),
        "masked_fraction_": report.masked / max(report.cells, 1),
    }
