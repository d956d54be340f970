"""Synthetic data whose best possible ranking is known.

The world. C topics; a label is a pair of distinct topics, no two labels the same pair. A sample has
one source label s, drawn by popularity; its text shows the words of the two topics of s and of m
other topics, in random order, so the words alone leave several sources possible. Given s, the label
s is relevant, and every label related to s is relevant with probability rho, independently.

The best ranking. The m other topics are drawn without replacement, so every label whose two topics
both show is an equally likely explanation of the text T, up to its popularity:

    P(s | T)  =  popularity(s) / sum of popularity(r) over labels r whose topics are in T
    P(l | T)  =  sum over s of P(s | T) R(s, l),     R = I + rho * (relation of labels)

No scorer of the text has a higher expected precision at k than P(l | T).

The vocabulary gap. Samples and labels name a topic by different words, and metadata by a third one.
Labels without training samples then cannot be told from their texts alone; links to shared metadata
nodes reveal which words mean the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc.datasets._dataset import Anchors, XCDataset
from skxc.datasets._ones import ones
from skxc.metrics import evaluate
from skxc.utils._random import root_seed, stream
from skxc.utils._sparse import row_ids

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PlantedXC(XCDataset):
    """A data set with the truth that it was drawn from; see `make_planted_xc`.

    Attributes
    ----------
    train_relevance, test_relevance : csr_array of float64, shape (n, L)
        Probability that a label is relevant, given the text of the sample. In training it is 0 for
        the labels unseen there.
    train_sources, test_sources : ndarray of int64, shape (n,)
        The label that each sample was made from.
    label_topics : ndarray of int64, shape (L, 2)
        The two topics of every label, the lower one first.
    true_graph : csr_array of float32 ones, shape (L, L)
        Which labels are related: the graph "related" before noise.
    """

    train_relevance: sp.csr_array
    test_relevance: sp.csr_array
    train_sources: Ints
    test_sources: Ints
    label_topics: Ints
    true_graph: sp.csr_array


def make_planted_xc(
    n_samples: int = 2000,
    n_labels: int = 400,
    *,
    n_test: int = 500,
    n_topics: int | None = None,
    n_anchors: int | None = None,
    n_noise_words: int = 1,
    n_synonyms: int = 1,
    vocabulary_gap: float = 1.0,
    tail: float = 0.5,
    unseen_fraction: float = 0.2,
    related_probability: float = 0.5,
    graph_noise: float = 0.0,
    random_state: int | np.random.RandomState | None = None,
) -> PlantedXC:
    """Make texts, labels, metadata and a label graph whose best possible ranking is known.

    The model is described at the top of the module. With one seed, `graph_noise` changes nothing
    but the graphs, and `vocabulary_gap` nothing but the words of the labels. A million labels take
    a few seconds.

    Parameters
    ----------
    n_samples : int, default=2000
        Training samples, n.
    n_labels : int, default=400
        Labels, L.
    n_test : int, default=500
        Test samples.
    n_topics : int or None, default=None
        Topics, C. None takes ``2 * sqrt(2 * n_labels)``: a quarter of all pairs are labels. Fewer
        topics make texts more ambiguous and lower the best possible precision.
    n_anchors : int or None, default=None
        Metadata nodes, M; None takes one per topic. With fewer, topics share a node; with more,
        a topic has several and every link picks one of them.
    n_noise_words : int, default=1
        Words of other topics in a text, m. 0 makes every source certain.
    n_synonyms : int, default=1
        Words by which labels name a topic; every label picks one. With more, some words occur only
        with unseen labels, and nothing but metadata tells what they mean.
    vocabulary_gap : float in [0, 1], default=1.0
        Share of the topics that labels name by other words than samples.
    tail : float >= 0, default=0.5
        Zipf exponent: the r-th most popular label is source with weight ``r ** -tail``.
    unseen_fraction : float in [0, 1), default=0.2
        Share of the labels that no training sample has; the same share of the test samples has
        such a label as its source.
    related_probability : float in [0, 1], default=0.5
        Probability that a label related to the source is relevant, rho. A label has up to four
        related ones, each of which shares a topic with it.
    graph_noise : float in [0, 1], default=0.0
        Share of the links to metadata nodes, and of the edges of the label graph, that lead to a
        random end instead.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    PlantedXC
        With texts and bag-of-words features of both sides, the anchors "topic" and the label graph
        "related". `bayes_scores` gives the scores of the best ranking.

    Raises
    ------
    ValueError
        If a parameter is out of range, or there are too few topics for the labels.

    Examples
    --------
    >>> from skxc.datasets import bayes_scores, make_planted_xc
    >>> data = make_planted_xc(random_state=0)
    >>> data
    PlantedXC(n_train=2000, n_test=500, n_labels=400, graphs=['related'], anchors=['topic'])
    >>> len(data.train_texts[0].split()), len(data.label_texts[0].split())
    (3, 2)
    >>> 0.5 < bayes_scores(data)["P@1"] < 1.0
    True
    """
    n_topics = int(np.ceil(2 * np.sqrt(2 * n_labels))) if n_topics is None else n_topics
    n_anchors = n_topics if n_anchors is None else n_anchors
    _check_ranges(
        n_samples=(n_samples, 1, np.inf),
        n_labels=(n_labels, 1, np.inf),
        n_test=(n_test, 1, np.inf),
        n_noise_words=(n_noise_words, 0, np.inf),
        n_synonyms=(n_synonyms, 1, np.inf),
        n_anchors=(n_anchors, 1, np.inf),
        n_topics=(n_topics, n_noise_words + 2, np.inf),
        vocabulary_gap=(vocabulary_gap, 0, 1),
        tail=(tail, 0, np.inf),
        unseen_fraction=(unseen_fraction, 0, 1),
        related_probability=(related_probability, 0, 1),
        graph_noise=(graph_noise, 0, 1),
    )
    n_unseen = round(unseen_fraction * n_labels)
    _check_counts(n_labels, n_topics, n_unseen)

    seed = root_seed(random_state)
    topics = _label_topics(n_labels, n_topics, stream(seed, "topics"))
    true_graph = _related(topics)
    is_seen = stream(seed, "seen").permutation(n_labels) >= n_unseen
    ranks = stream(seed, "popularity").permutation(n_labels) + 1
    popularity = ranks.astype(np.float64) ** -tail
    relevance = _given_source(true_graph, related_probability)

    # Training and test differ in which labels can be sources, and in which can be relevant at all.
    priors = _priors(popularity, is_seen, n_test)
    sizes = {"train": n_samples, "test": n_test}
    given = {"train": _keep_columns(relevance, is_seen), "test": relevance}
    fields: dict[str, Any] = {}
    shown = {}
    for side, size in sizes.items():
        rng = stream(seed, side)
        sources = _sources(priors[side], is_seen, size, rng)
        shown[side] = _shown_topics(topics[sources], n_topics, n_noise_words, rng)
        posterior = _posterior(shown[side], topics, n_topics, priors[side])
        fields[f"{side}_sources"] = sources
        fields[f"{side}_relevance"] = sp.csr_array(posterior @ given[side])
        fields[f"{side}_labels"] = _draw(given[side], sources, rng)

    words = _Words(n_topics, n_synonyms, vocabulary_gap, stream(seed, "words"))
    for side, numbers in (*shown.items(), ("label", words.of_labels(topics))):
        fields[f"{side}_texts"] = words.texts(numbers)
        fields[f"{side}_features"] = words.features(numbers)
    nodes = _Nodes(n_topics, n_anchors, graph_noise, stream(seed, "anchors"))
    anchors = Anchors(
        nodes.link(topics[fields["train_sources"]]), nodes.link(topics), nodes.texts()
    )
    return PlantedXC(
        **fields,
        feature_names=words.vocabulary,
        label_topics=topics,
        true_graph=true_graph,
        graphs={"related": _rewired(true_graph, graph_noise, stream(seed, "graph"))},
        anchors={"topic": anchors},
    )


def bayes_scores(dataset: PlantedXC, k: Sequence[int] = (1, 3, 5, 10)) -> dict[str, float]:
    """Return the scores that the true probabilities reach on the drawn test labels.

    Ranking by ``P(label | text)`` has the highest expected precision at every k; on one draw
    another ranking can be luckier by about one standard error. For recall, whose denominator
    varies with the sample, it is best up to that coupling.

    Parameters
    ----------
    dataset : PlantedXC
        From `make_planted_xc`.
    k : sequence of int, default=(1, 3, 5, 10)
        Depths.

    Returns
    -------
    dict of str to float
        "P@k": mean share of the top k that is relevant; "R@k": mean share of the relevant labels
        that is in the top k. Fractions in [0, 1].
    """
    if dataset.test_labels is None:
        raise ValueError("`dataset` has no test labels. Use the one that make_planted_xc returned.")
    names = {f"P@{depth}": f"precision@{depth}" for depth in k}
    names |= {f"R@{depth}": f"recall@{depth}" for depth in k}
    found = evaluate(dataset.test_labels, dataset.test_relevance, metrics=list(names.values()))
    return {short: found[name] for short, name in names.items()}


# ---------------------------------------------------------------- labels
def _label_topics(n_labels: int, n_topics: int, rng: np.random.Generator) -> Ints:
    """Draw distinct pairs (low, high) of topics; pair number low + high * (high - 1) / 2."""
    numbers = rng.choice(n_topics * (n_topics - 1) // 2, size=n_labels, replace=False)
    high = ((1 + np.sqrt(1 + 8 * numbers)) // 2).astype(np.int64)
    low = numbers - high * (high - 1) // 2
    return np.column_stack([low, high])


def _related(topics: Ints) -> sp.csr_array:
    """Link every label to the next one that shares its low topic, and its high topic."""
    edges = []
    for shared, other in ((0, 1), (1, 0)):
        order = np.lexsort((topics[:, other], topics[:, shared]))
        same = topics[order[:-1], shared] == topics[order[1:], shared]
        edges.append(np.stack([order[:-1][same], order[1:][same]]))
    return _symmetric(np.hstack(edges), len(topics))


def _symmetric(edges: Ints, n_labels: int) -> sp.csr_array:
    both = np.hstack([edges, edges[::-1]])
    return ones(both[0], both[1], (n_labels, n_labels))


def _given_source(true_graph: sp.csr_array, related_probability: float) -> sp.csr_array:
    """Return R: the probability of every label, given the source of the sample."""
    related = true_graph.astype(np.float64) * related_probability
    return sp.csr_array(sp.eye_array(true_graph.shape[0], format="csr") + related)


def _keep_columns(matrix: sp.csr_array, keep: NDArray[np.bool_]) -> sp.csr_array:
    kept = matrix.copy()
    kept.data *= keep[kept.indices]
    kept.eliminate_zeros()
    return kept


# ---------------------------------------------------------------- samples
def _priors(popularity: Floats, is_seen: NDArray[np.bool_], n_test: int) -> dict[str, Floats]:
    """Return the source probabilities of training and test samples."""
    seen, unseen = popularity * is_seen, popularity * ~is_seen
    seen /= seen.sum()
    if is_seen.all():
        return {"train": seen, "test": seen}
    share = round(np.mean(~is_seen) * n_test) / n_test
    return {"train": seen, "test": (1 - share) * seen + share * unseen / unseen.sum()}


def _sources(
    prior: Floats, is_seen: NDArray[np.bool_], size: int, rng: np.random.Generator
) -> Ints:
    """Draw sources; the numbers of seen and unseen ones are exact, their places random."""
    n_unseen = round(prior[~is_seen].sum() * size)
    drawn = []
    for part, count in ((is_seen, size - n_unseen), (~is_seen, n_unseen)):
        if count:
            weight = prior * part
            drawn.append(rng.choice(len(prior), size=count, p=weight / weight.sum()))
    return rng.permutation(np.concatenate(drawn))


def _shown_topics(own: Ints, n_topics: int, n_noise_words: int, rng: np.random.Generator) -> Ints:
    """Add distinct other topics to those of the sources, and shuffle every row."""
    shown = own
    for _ in range(n_noise_words):
        # A number among the topics that are not shown yet, then moved past those that are.
        extra = rng.integers(n_topics - shown.shape[1], size=len(shown))
        for taken in np.sort(shown, axis=1).T:
            extra += extra >= taken
        shown = np.column_stack([shown, extra])
    return rng.permuted(shown, axis=1)


def _posterior(shown: Ints, topics: Ints, n_topics: int, prior: Floats) -> sp.csr_array:
    """Return P(source | text): the prior of all labels whose two topics show, rescaled to sum 1."""
    codes = topics[:, 0] * n_topics + topics[:, 1]
    order = np.argsort(codes)
    ordered, known = np.sort(shown, axis=1), codes[order]
    rows, labels = [], []
    for i, j in itertools.combinations(range(shown.shape[1]), 2):
        code = ordered[:, i] * n_topics + ordered[:, j]
        place = np.minimum(np.searchsorted(known, code), len(known) - 1)
        found = np.flatnonzero(known[place] == code)
        rows.append(found)
        labels.append(order[place[found]])
    candidates = ones(np.concatenate(rows), np.concatenate(labels), (len(shown), len(topics)))
    weights = prior[candidates.indices]
    totals = np.bincount(row_ids(candidates), weights=weights, minlength=len(shown))
    parts = (weights / totals[row_ids(candidates)], candidates.indices, candidates.indptr)
    posterior = sp.csr_array(parts, shape=candidates.shape)
    posterior.eliminate_zeros()
    return posterior


def _draw(given: sp.csr_array, sources: Ints, rng: np.random.Generator) -> sp.csr_array:
    """Draw the labels of every sample, each independently with its probability given the source."""
    rows = sp.csr_array(given[sources])
    kept = rng.random(rows.nnz) < rows.data
    return ones(row_ids(rows)[kept], rows.indices[kept], rows.shape)


# ---------------------------------------------------------------- words and graphs
class _Words:
    """The vocabulary: word c is what samples call topic c, behind it come the labels' own words."""

    def __init__(
        self, n_topics: int, n_synonyms: int, gap: float, rng: np.random.Generator
    ) -> None:
        own = np.sort(rng.permutation(n_topics)[: round(gap * n_topics)])
        names = [
            f"name{c}" if n_synonyms == 1 else f"name{c}of{k}"
            for c in own
            for k in range(n_synonyms)
        ]
        self.vocabulary = [f"word{c}" for c in range(n_topics)] + names
        self._rng = rng
        self._label_words = np.repeat(np.arange(n_topics)[:, None], n_synonyms, axis=1)
        self._label_words[own] = n_topics + np.arange(len(names)).reshape(len(own), n_synonyms)

    def of_labels(self, topics: Ints) -> Ints:
        """Pick a word of the labels for every topic."""
        return self._label_words[
            topics, self._rng.integers(self._label_words.shape[1], size=topics.shape)
        ]

    def texts(self, numbers: Ints) -> list[str]:
        return [" ".join([self.vocabulary[j] for j in row]) for row in numbers.tolist()]

    def features(self, numbers: Ints) -> sp.csr_array:
        rows = np.repeat(np.arange(len(numbers)), numbers.shape[1])
        return ones(rows, numbers.ravel(), (len(numbers), len(self.vocabulary)))


@dataclass(frozen=True)
class _Nodes:
    """Metadata nodes: node m belongs to topic m modulo C; if M < C, topic c to node c modulo M."""

    n_topics: int
    n_anchors: int
    noise: float
    rng: np.random.Generator

    def texts(self) -> list[str]:
        if self.n_anchors <= self.n_topics:
            return [f"node{m}" for m in range(self.n_anchors)]
        return [f"node{m % self.n_topics} kind{m}" for m in range(self.n_anchors)]

    def link(self, topic_rows: Ints) -> sp.csr_array:
        """Link every row to one node of each of its topics, except where noise picks any node."""
        n_choices = np.maximum(1, -(-(self.n_anchors - topic_rows) // self.n_topics))
        choice = self.rng.integers(n_choices)
        nodes = (topic_rows + choice * self.n_topics) % self.n_anchors
        is_noise = self.rng.random(nodes.shape) < self.noise
        nodes = np.where(is_noise, self.rng.integers(self.n_anchors, size=nodes.shape), nodes)
        rows = np.repeat(np.arange(len(nodes)), nodes.shape[1])
        return ones(rows, nodes.ravel(), (len(nodes), self.n_anchors))


def _rewired(graph: sp.csr_array, noise: float, rng: np.random.Generator) -> sp.csr_array:
    """Return the symmetric graph with a share of its edges led to a random other label."""
    n_labels = graph.shape[0]
    starts, ends = row_ids(graph), graph.indices.astype(np.int64)
    starts, ends = starts[starts < ends], ends[starts < ends]
    is_noise = rng.random(len(ends)) < noise
    other = (starts + rng.integers(1, max(n_labels, 2), size=len(ends))) % n_labels
    return _symmetric(np.stack([starts, np.where(is_noise, other, ends)]), n_labels)


# ---------------------------------------------------------------- checks
def _check_ranges(**ranges: tuple[float, float, float]) -> None:
    for name, (value, low, high) in ranges.items():
        if not low <= value <= high:
            limits = f"at least {low}" if high == np.inf else f"between {low} and {high}"
            raise ValueError(f"`{name}` must be {limits}, but is {value}.")


def _check_counts(n_labels: int, n_topics: int, n_unseen: int) -> None:
    n_pairs = n_topics * (n_topics - 1) // 2
    if n_labels > n_pairs:
        raise ValueError(
            f"{n_topics} topics make {n_pairs} pairs, but {n_labels} labels need one each. "
            "Raise `n_topics`, or pass None."
        )
    if n_unseen >= n_labels:
        raise ValueError(
            f"`unseen_fraction` leaves none of the {n_labels} labels for training. Lower it."
        )
