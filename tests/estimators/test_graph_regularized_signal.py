"""A planted world in which only the graph tells what some words mean.

60 concepts; a label is a pair of them. Samples, labels and anchors name a concept by words of their
own, labels by one of two. Training rows have labels of the first half, test rows of the other half.
A graph that is only decoration fails here: true links must help. Shuffled ones must harm beside the
task, and cost next to nothing before it, where the task has the last word.
"""

from functools import cache

import numpy as np
import pytest
import scipy.sparse as sp

from skxc import AnchorGraph, GraphRegularizedXC
from skxc.encoders import BagEncoder
from skxc.graphs import Pruning

pytest.importorskip("torch")

from skxc.estimators._graph_regularized.bandit import Bandit
from skxc.estimators._graph_regularized.terms import GraphTerms

CONCEPTS, LABELS, ROWS, TESTS = 60, 400, 300, 600
SEEDS = (0, 1, 2)


def one_hot(columns):
    """Return rows with ones at the given columns; documents, anchors and labels share 4 * 60."""
    rows = np.repeat(np.arange(len(columns)), columns.shape[1])
    ones = np.ones(columns.size, dtype=np.float32)
    matrix = sp.csr_array((ones, (rows, columns.ravel())), shape=(len(columns), 4 * CONCEPTS))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


@cache
def world(seed):
    """Return samples, y, test samples and their labels, label features, edges of labels."""
    rng = np.random.default_rng(seed)
    pairs = np.array([(a, b) for a in range(CONCEPTS) for b in range(a)])
    concepts = pairs[rng.choice(len(pairs), LABELS, replace=False)]
    synonym = rng.integers(2, size=concepts.shape)
    labels = one_hot((2 + synonym) * CONCEPTS + concepts)

    def documents(sources):
        noise = rng.integers(CONCEPTS, size=(len(sources), 1))
        return one_hot(np.hstack([concepts[sources], noise]))

    train, test = rng.integers(LABELS // 2, size=ROWS), rng.integers(LABELS // 2, size=TESTS)
    y = sp.csr_array((np.ones(ROWS, "f"), (np.arange(ROWS), train)), shape=(ROWS, LABELS))
    test += LABELS // 2
    links = sp.csr_array(one_hot(concepts)[:, :CONCEPTS])
    return documents(train), y, documents(test), test, labels, links, links[train]


def shuffled(links, rng):
    columns = rng.permutation(links.indices)
    return sp.csr_array((links.data, columns, links.indptr), shape=links.shape)


def with_fakes(links, n_fakes, rng):
    fakes = sp.csr_array(
        (
            np.ones(links.shape[0] * n_fakes, dtype=np.float32),
            rng.integers(CONCEPTS, size=links.shape[0] * n_fakes),
            np.arange(links.shape[0] + 1) * n_fakes,
        ),
        shape=links.shape,
    )
    return sp.csr_array(links + fakes)


def make(seed, loss="decoupled", n_epochs=30, cls=GraphRegularizedXC, **terms):
    return cls(
        encoder=BagEncoder(dim=64),
        loss=loss,
        terms=GraphTerms(loss=loss).set_params(**terms),
        n_epochs=n_epochs,
        batch_size=64,
        label_vectors=False,
        votes=False,
        random_state=seed,
        calibration="held_out",
    )


def fit(model, labels, samples):
    X, y, _, _, label_features, _, _ = world(model.random_state)
    anchors = one_hot(CONCEPTS + np.arange(CONCEPTS)[:, None])
    edges = {"graph": AnchorGraph(labels, texts=anchors), "sample_graph": samples}
    return model.fit(X, y, label_features=label_features, **(edges if labels is not None else {}))


def precision(case, **params):
    """Return the mean precision at 1 on labels never seen in training, percent."""
    found = []
    for seed in SEEDS:
        *_, X, test, _, labels, samples = world(seed)
        if case == "shuffled":
            rng = np.random.default_rng(5)
            labels, samples = shuffled(labels, rng), shuffled(samples, rng)
        if case == "none":
            labels = samples = None
        best = fit(make(seed, **params), labels, samples).predict_topk(X, k=1)[0][:, 0]
        found.append(100 * np.mean(best == test))
    return np.mean(found)


@pytest.mark.parametrize("loss", ["decoupled", "triplet"])
def test_links_first_help_labels_without_rows_and_shuffled_links_cost_little(loss):
    none, both, wrong = (precision(case, loss=loss) for case in ("none", "both", "shuffled"))
    assert both > none + 3
    assert wrong > none - 2


def test_links_beside_the_task_help_and_shuffled_links_harm():
    paper = {
        "loss": "triplet",
        "schedule": "constant",
        "weights": Bandit(init=1.0),
        "n_epochs": 60,
    }
    none, both, wrong = (precision(case, **paper) for case in ("none", "both", "shuffled"))
    assert both > none + 2
    assert wrong < none - 8


def test_pruning_raises_the_precision_of_edges():
    tasks = []

    class Recorder(GraphRegularizedXC):
        def _task(self, fit):
            tasks.append(super()._task(fit))
            return tasks[-1]

    links = world(0)[5]
    rng = np.random.default_rng(0)
    labels, samples = with_fakes(links, 4, rng), with_fakes(world(0)[6], 6, rng)
    pruning = Pruning(warmup=15, interval=5)
    model = make(0, cls=Recorder, prune=pruning, weights=0.5, schedule="constant")
    model = fit(model, labels, samples)
    term = next(term for term in tasks[0].terms if term.side == "labels")
    truth, kept = links.toarray() > 0, term.edges.toarray() > 0
    # Labels without training rows never take part, so the seen half shows what pruning does.
    truth, kept, before = (m[: LABELS // 2] for m in (truth, kept, labels.toarray() > 0))
    assert (kept & truth).sum() / truth.sum() > 0.8
    assert (kept & truth).sum() / kept.sum() > (before & truth).sum() / before.sum() + 0.05
    shares = model.edge_survival_["anchors (labels)"]
    assert model.edge_survival_["epoch"].tolist() == [15, 20, 25]
    assert ((shares > 0.3) & (shares < 1)).all()
