"""The stages of ECLARE: surrogate, shortlister and ranker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.estimators._label_graph.classifiers import Classifiers
from skxc.estimators._label_graph.clusters import LabelClusters
from skxc.estimators._label_graph.member import DocumentMap, Ranker, Scorer, ShortlistRanker
from skxc.estimators._label_graph.model import LabelGraphFigures, LabelGraphModel
from skxc.estimators._label_graph.problem import CENTROID_WORDS, Outputs, Problem, text_vectors
from skxc.estimators._label_graph.task import FusedClassifierTask
from skxc.estimators._neural import NeuralFit
from skxc.graphs import (
    RandomWalk,
    correlation_graph,
    keep_edges,
    keep_strongest,
    normalize_degrees,
    strongest_products,
    without_columns,
)
from skxc.indices import VectorSearch
from skxc.losses import LogitLoss
from skxc.utils._sparse import normalize_rows, row_ids, share_found

STAGES = ("surrogate", "shortlister", "ranker")


@dataclass(frozen=True, eq=False)
class Stages:
    """The stages of one training.

    Attributes
    ----------
    fit : NeuralFit
    problem : Problem
    walk : RandomWalk or None
    edges : list of csr_array, shape (L, L)
        What `Problem.edges` returned; empty: no graph.
    clusters, classifiers, ranker : LabelClusters, Classifiers, Ranker
    loss : LogitLoss
    batch_size : int
    n_epochs, learning_rate : tuple of 3 numbers
        Of the three stages.
    """

    fit: NeuralFit
    problem: Problem
    walk: RandomWalk | None
    edges: list[sp.csr_array]
    clusters: LabelClusters
    classifiers: Classifiers
    ranker: Ranker
    loss: LogitLoss
    batch_size: int
    n_epochs: tuple[int, int, int]
    learning_rate: tuple[float, float, float]

    def surrogate(self, model: LabelGraphModel) -> LabelGraphModel:
        """Return the model after stage I: token embeddings, trained on clusters of labels."""
        problem, graphs = self.problem, self._graphs()
        unseen = keep_edges(problem.texts, problem.unseen[row_ids(problem.texts)])
        words = keep_strongest(sp.csr_array(problem.y.T @ problem.rows + unseen), CENTROID_WORDS)
        if graphs:
            words = strongest_products(normalize_degrees(graphs[0]), words, CENTROID_WORDS)
        clusters = self._clusters(words, graphs, "surrogate")
        task = self._task("surrogate", clusters, continues=False)
        labels = Outputs.of(problem.identity, problem.texts, [])
        model = self._run(task, model, 0, lambda: self._untrained(clusters, task, labels))
        problem.encoder.module_.eval()
        return model

    def member(self, model: LabelGraphModel, number: int) -> LabelGraphModel:
        """Return the model with one more member behind so many, after stages II to IV."""
        problem = self.problem
        rows, texts = (text_vectors(problem.encoder, x) for x in (problem.rows, problem.texts))
        graphs = self._graphs(texts)
        labels = Outputs.of(problem.identity, problem.texts, graphs)
        vectors = normalize_rows(problem.y.T @ normalize_rows(rows))
        vectors[problem.unseen] = normalize_rows(texts[problem.unseen])
        if labels.graph is not None:
            vectors = normalize_rows(labels.graph @ vectors)
        clusters = self._clusters(vectors, graphs, f"member-{number}")

        task = self._task(f"shortlister-{number}", clusters)
        model = self._run(task, model, number, lambda: self._untrained(clusters, task, labels))
        member = model.members[number]
        shortlist = member.shortlist(problem.rows, model.settings, problem.device)
        width = self.ranker.max_candidates
        candidates = member.candidates(shortlist, len(problem.labels) if width is None else width)
        ranking = self._task(
            f"ranker-{number}",
            labels,
            # A label without rows would be nothing but a negative.
            candidates=without_columns(candidates, problem.unseen),
        )
        model = self._run(ranking, model, number, lambda: member.with_ranker(ranking))
        if number > 0:
            return model
        return replace(model, figures=self._figures(model, ranking, shortlist, labels.graph))

    def _graphs(self, texts: NDArray[np.float32] | None = None) -> list[sp.csr_array]:
        """Return the label graphs with self-loops, not normalised.

        Only after the surrogate there are vectors of `texts` to prune a walk by.
        """
        if self.walk is None:
            return []
        top_k, distance = self.walk.top_k, self.classifiers.prune_distance
        if texts is None or distance is None or self.problem.given is not None:
            return [correlation_graph(edges, top_k) for edges in self.edges]
        return [
            correlation_graph(edges, top_k, vectors=texts, max_distance=distance)
            for edges in self.edges
        ]

    def _clusters(self, vectors: Any, graphs: list[sp.csr_array], place: str) -> Outputs:
        # Hubs are apart with or without a graph.
        walk = self.walk or RandomWalk()
        return self.clusters.outputs(self.problem, vectors, graphs, walk, place=place)

    def _task(self, name: str, outputs: Outputs, **options: Any) -> FusedClassifierTask:
        """Return what a stage trains."""
        return FusedClassifierTask(
            name,
            self.problem,
            outputs,
            self.classifiers,
            loss=self.loss,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate[_stage_of(name)],
            n_negatives=self.ranker.n_negatives,
            **options,
        )

    def _run(
        self,
        task: FusedClassifierTask,
        model: LabelGraphModel,
        number: int,
        member: Callable[[], ShortlistRanker],
    ) -> LabelGraphModel:
        """Train a stage; return the model whose last member its weights make."""

        def current() -> LabelGraphModel:
            return replace(model, members=(*model.members[:number], member()))

        progress = self.fit.run(task, self.n_epochs[_stage_of(task.name)], current)
        task.fit_offset()
        records: list[dict[str, Any]] = [
            {"stage": task.name, **record} for record in progress.history
        ]
        figures = replace(model.figures, history=[*model.figures.history, *records])
        return replace(current(), figures=figures)

    def _untrained(
        self, clusters: Outputs, shortlister: FusedClassifierTask, labels: Outputs
    ) -> ShortlistRanker:
        """Return a member whose labels are scored by their texts, without a ranker."""
        problem, encoder = self.problem, self.problem.encoder
        texts = text_vectors(encoder, labels.texts)
        if labels.graph is not None:
            texts = np.asarray(labels.graph @ texts, dtype=np.float32)
        dim = encoder.dim_
        plain = DocumentMap(np.zeros((dim, dim), np.float32), np.zeros(dim, np.float32))
        return ShortlistRanker(
            membership=clusters.membership,
            unseen=problem.unseen,
            clusters=Scorer.of(shortlister, clusters.graph),
            labels=Scorer(encoder, plain, VectorSearch(texts), 0.0, labels.graph),
        )

    def _figures(
        self,
        model: LabelGraphModel,
        ranker: FusedClassifierTask,
        shortlist: sp.csr_array,
        graph: sp.csr_array | None,
    ) -> LabelGraphFigures:
        """Return the figures of a model with what its first member has learned."""
        problem = self.problem
        weights = ranker.fusion_weights()
        fusion = np.zeros((problem.n_labels, weights.shape[1]), dtype=np.float32)
        fusion[problem.labels] = weights
        return replace(
            model.figures,
            label_graph=problem.with_all_labels(graph),
            fusion_weights=fusion,
            shortlist_recall=self._recall(model, shortlist),
        )

    def _recall(self, model: LabelGraphModel, shortlist: sp.csr_array) -> dict[str, float]:
        """Return the share of pairs whose label is in the shortlist."""
        problem, member, held = self.problem, model.members[0], self.problem.held_out
        # A cluster counts as often as the row has labels in it.
        recall = {"train": share_found(sp.csr_array(problem.y @ member.membership.T), shortlist)}
        if held is not None:
            found = member.shortlist(held.samples, model.settings, problem.device)
            recall["held_out"] = share_found(sp.csr_array(held.y @ member.membership.T), found)
        return recall


def _stage_of(name: str) -> int:
    return STAGES.index(name.partition("-")[0])
