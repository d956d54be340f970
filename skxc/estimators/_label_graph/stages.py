"""The stages of ECLARE: surrogate, shortlister and ranker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.estimators._encoding import search_exactly
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
from skxc.metrics._weighted import weighted_at_k
from skxc.utils._sparse import normalize_rows, rank_rows, row_ids, share_found

STAGES = ("surrogate", "shortlister", "ranker")


@dataclass(frozen=True, eq=False)
class Stages:
    """The stages of one training.

    Attributes
    ----------
    fit : NeuralFit
    problem : Problem
    walk : RandomWalk or None
    edges : csr_array of shape (L, L) or None
        Visits of the walk, or the user's graph; None: no graph.
    clusters, classifiers, ranker : LabelClusters, Classifiers, Ranker
    loss : LogitLoss
    batch_size : int
    n_epochs, learning_rate : tuple of 3 numbers
        Of the three stages.
    """

    fit: NeuralFit
    problem: Problem
    walk: RandomWalk | None
    edges: sp.csr_array | None
    clusters: LabelClusters
    classifiers: Classifiers
    ranker: Ranker
    loss: LogitLoss
    batch_size: int
    n_epochs: tuple[int, int, int]
    learning_rate: tuple[float, float, float]

    def surrogate(self, model: LabelGraphModel) -> LabelGraphModel:
        """Return the model after stage I: token embeddings, trained on clusters of labels."""
        problem, graph = self.problem, self._graph()
        unseen = keep_edges(problem.texts, problem.unseen[row_ids(problem.texts)])
        words = keep_strongest(sp.csr_array(problem.y.T @ problem.rows + unseen), CENTROID_WORDS)
        if graph is not None:
            words = strongest_products(normalize_degrees(graph), words, CENTROID_WORDS)
        clusters = self._clusters(words, graph, "surrogate")
        task = self._task("surrogate", clusters, continues=False)
        labels = Outputs.labels(problem.texts, None, 1)
        model = self._run(task, model, 0, lambda: self._untrained(clusters, task, labels))
        problem.encoder.module_.eval()
        return model

    def member(self, model: LabelGraphModel, number: int) -> LabelGraphModel:
        """Return the model with one more member behind so many, after stages II to IV."""
        problem = self.problem
        rows, texts = (text_vectors(problem.encoder, x) for x in (problem.rows, problem.texts))
        graph = self._graph(texts)
        labels = Outputs.labels(problem.texts, graph, self.classifiers.n_hops)
        vectors = normalize_rows(problem.y.T @ normalize_rows(rows))
        vectors[problem.unseen] = normalize_rows(texts[problem.unseen])
        if labels.graph is not None:
            vectors = normalize_rows(labels.graph @ vectors)
        clusters = self._clusters(vectors, graph, f"member-{number}")

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
            held_out=lambda task: self._precision(member.with_ranker(task), model),
        )
        model = self._run(ranking, model, number, lambda: member.with_ranker(ranking))
        if number > 0:
            return model
        return replace(model, figures=self._figures(model, ranking, shortlist, labels.graph))

    def _graph(self, texts: NDArray[np.float32] | None = None) -> sp.csr_array | None:
        """Return the label graph with self-loops, not normalised; None without a graph.

        Only after the surrogate there are vectors of `texts` to prune a walk by.
        """
        if self.edges is None or self.walk is None:
            return None
        distance = self.classifiers.prune_distance
        if texts is None or distance is None or self.problem.given is not None:
            return correlation_graph(self.edges, self.walk.top_k)
        return correlation_graph(self.edges, self.walk.top_k, vectors=texts, max_distance=distance)

    def _clusters(self, vectors: Any, graph: sp.csr_array | None, place: str) -> Outputs:
        # Hubs are apart with or without a graph.
        walk, n_hops = self.walk or RandomWalk(), self.classifiers.n_hops
        return self.clusters.outputs(self.problem, vectors, graph, walk, n_hops=n_hops, place=place)

    def _task(self, name: str, outputs: Outputs, **options: Any) -> FusedClassifierTask:
        """Return what a stage trains; it watches the precision among its own outputs."""
        if self.problem.held_rows is not None:
            options.setdefault("held_out", lambda task: self._own_precision(task, outputs))
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
        encoder = self.problem.encoder
        texts = text_vectors(encoder, labels.texts)
        if labels.graph is not None:
            texts = np.asarray(labels.graph @ texts, dtype=np.float32)
        dim = encoder.dim_
        plain = DocumentMap(np.zeros((dim, dim), np.float32), np.zeros(dim, np.float32))
        return ShortlistRanker(
            membership=clusters.membership,
            clusters=Scorer.of(shortlister, clusters.graph),
            labels=Scorer(encoder, plain, VectorSearch(texts), 0.0, labels.graph),
        )

    # ---- figures

    def _own_precision(self, task: FusedClassifierTask, outputs: Outputs) -> float:
        """Return the precision@1 of a task on held-out rows, among its own outputs."""
        truth = sp.csr_array(self.problem.held_y @ outputs.membership.T)
        truth.data[:] = 1
        vectors = text_vectors(task.encoder, self.problem.held_rows)
        documents = DocumentMap(*task.document.to_numpy())(vectors)
        best = search_exactly(documents, task.classifier_weights(), 1)[0]
        return weighted_at_k("precision", truth, best, 1, self.problem.held_weight)

    def _precision(self, member: ShortlistRanker, model: LabelGraphModel) -> float:
        """Return a member's precision@1 on held-out rows."""
        problem = self.problem
        scores = member.scores(problem.held_rows, model.settings, problem.device)
        best = rank_rows(scores, 1)[0]
        return weighted_at_k("precision", problem.held_y, best, 1, problem.held_weight)

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
        """Return the share of pairs whose label is in the shortlist, with and without GAME."""
        problem, member, settings = self.problem, model.members[0], model.settings
        plain = replace(settings, propagate_clusters=False)
        sides: dict[str, Any] = {"train": (problem.rows, problem.y, shortlist)}
        if problem.held_rows is not None:
            found = member.shortlist(problem.held_rows, settings, problem.device)
            sides["held_out"] = (problem.held_rows, problem.held_y, found)
        recall = {}
        for name, (rows, y, found) in sides.items():
            # A cluster counts as often as the row has labels in it.
            truth = sp.csr_array(y @ member.membership.T)
            recall[name] = share_found(truth, found)
            without = member.shortlist(rows, plain, problem.device)
            recall[f"{name}_without_propagation"] = share_found(truth, without)
        return recall


def _stage_of(name: str) -> int:
    return STAGES.index(name.partition("-")[0])
