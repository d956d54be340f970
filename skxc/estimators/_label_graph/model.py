"""What ECLARE answers with: members whose probabilities are averaged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._model import Model, Reasons, in_blocks
from skxc._training_set import Features
from skxc.encoders import Encoder
from skxc.estimators._encoding import prepared_samples
from skxc.estimators._label_graph.member import SearchSettings, ShortlistRanker
from skxc.utils._loaded import check_ids
from skxc.utils._precision import resolve_device
from skxc.utils._record import Record
from skxc.utils._sparse import TopK, normalize_rows, rank_rows, values_at

# Probabilities of rows x labels that are computed at once.
LARGEST_BLOCK = 1 << 22


@dataclass(frozen=True, eq=False)
class LabelGraphFigures(Record):
    """How training went, and what the first member has learned.

    Attributes
    ----------
    history : list of dict
        Stage, loss and, with early stopping, held-out precision of every epoch.
    label_graph : csr_array of float32, shape (n_labels, n_labels), or None
    fusion_weights : ndarray of float32, shape (n_labels, n_components), or None
    shortlist_recall : dict of str to float, or None
    """

    history: list[dict[str, Any]]
    label_graph: sp.csr_array | None = None
    fusion_weights: NDArray[np.float32] | None = None
    shortlist_recall: dict[str, float] | None = None

    _may_be_nan = ("history", "shortlist_recall")

    @property
    def n_iter(self) -> int:
        """Epochs of all stages."""
        return max(len(self.history), 1)


@dataclass(frozen=True, eq=False)
class LabelGraphModel(Model):
    """Members, and the labels that they know.

    Attributes
    ----------
    members : tuple of ShortlistRanker
    labels : ndarray of int64, shape (L,)
        Ids of the labels that can be predicted, in the order of the members.
    settings : SearchSettings
    device : str
        Where the encoders compute, which a loaded model chooses anew.
    figures : LabelGraphFigures
    """

    members: tuple[ShortlistRanker, ...]
    labels: NDArray[np.int64]
    settings: SearchSettings
    device: str
    figures: LabelGraphFigures

    _chosen = ("figures.shortlist_recall",)

    @property
    def n_labels(self) -> int:
        """Largest label that can be predicted, plus one."""
        return int(self.labels.max()) + 1

    def _check_loaded(self) -> None:
        n_known = self.labels.size
        if not self.members or not n_known or len(np.unique(self.labels)) != n_known:
            raise ValueError("`LabelGraphModel` must have members, and different labels")
        check_ids("labels", self.labels, np.iinfo(np.int64).max)
        for member in self.members:
            if member.membership.shape[1] != n_known:
                raise ValueError(f"`members` must know {n_known} labels, as `labels` says")

    @property
    def encoder(self) -> Encoder:
        """The token embeddings of the first member's ranker."""
        return self.members[0].labels.encoder

    @property
    def n_clusters(self) -> int:
        """Clusters of the first member."""
        return int(self.members[0].membership.shape[0])

    def queries(self, X: Features) -> sp.csr_array:
        """Return samples as bags of words at unit length."""
        return normalize_rows(prepared_samples(self.encoder, X))

    def embed(self, X: Features) -> NDArray[np.float32]:
        """Return the unit vectors of samples, shape (n, d)."""
        return self.encoder.to(resolve_device(self.device)).encode(self.queries(X))

    def search(self, queries: sp.csr_array, k: int) -> TopK:
        """Return the labels of the highest mean probability over the members."""
        return in_blocks(self._search, queries, k)

    def score_pairs(
        self, queries: sp.csr_array, rows: NDArray[np.integer], labels: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """Return the mean probabilities of pairs, as if all clusters and labels were followed."""
        n_known = self.members[0].membership.shape[1]
        widest = max(member.membership.shape[0] for member in self.members)
        everything = replace(self.settings, beam_width=widest, width=n_known)
        place = np.full(max(self.n_labels, int(labels.max(initial=0)) + 1), -1)
        place[self.labels] = np.arange(n_known)
        scores = np.full(len(rows), -np.inf, dtype=np.float32)
        known = place[labels] >= 0
        size = max(1, LARGEST_BLOCK // n_known)
        for start in range(0, queries.shape[0], size):
            inside = known & (rows >= start) & (rows < start + size)
            if inside.any():
                found = self._mean(queries[start : start + size], everything)
                at = rows[inside] - start, place[labels[inside]]
                scores[inside] = values_at(found, *at, -np.inf)
        return scores

    def reasons(self, query: sp.csr_array, label: int) -> Reasons:
        """Return what each member adds to the mean probability."""
        n = len(self.members)
        alone = [replace(self, members=(member,)) for member in self.members]
        terms = {f"member {m}": one._score(query, label) / n for m, one in enumerate(alone, 1)}
        return Reasons(terms)

    def _search(self, queries: sp.csr_array, k: int) -> TopK:
        found, scores = rank_rows(self._mean(queries, self.settings), k)
        labels = np.append(self.labels, -1).astype(found.dtype)
        return labels[found], scores

    def _mean(self, queries: sp.csr_array, settings: SearchSettings) -> sp.csr_array:
        """Return the mean probabilities of the labels that the members find."""
        device = resolve_device(self.device)
        total = sum(member.scores(queries, settings, device) for member in self.members)
        return sp.csr_array(total / np.float32(len(self.members)))
