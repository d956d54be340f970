"""What the stages of a LabelGraphXC train: cells, targets, gradients."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skxc.encoders import BagEncoder
from skxc.estimators._label_graph.classifiers import Classifiers
from skxc.estimators._label_graph.problem import Outputs, Problem, text_vectors
from skxc.estimators._label_graph.task import FusedClassifierTask, candidate_targets
from skxc.graphs import RandomWalk
from skxc.losses import BinaryCrossEntropy
from skxc.training import Plan, train
from skxc.utils._sparse import normalize_rows

N, L, DIM = 12, 9, 6
RNG = np.random.default_rng(0)
Y = sp.csr_array((RNG.random((N, L)) < 0.25).astype(np.float32))
CANDIDATES = sp.csr_array((RNG.random((N, L)) < 0.5).astype(np.float32) * 0.3)
HOP = sp.csr_array(RNG.random((L, L)).astype(np.float32) / L)
ROWS, TEXTS = (RNG.normal(size=(n, DIM)).astype(np.float32) for n in (N, L))


def problem(rows=ROWS, y=Y, excluded=None):
    """Return a problem whose rows and label texts have a token each, with these vectors."""
    tokens = sp.csr_array(sp.eye_array(N + L, dtype=np.float32))
    encoder = BagEncoder(dim=DIM, residual=False).fit(tokens, seed=0)
    with torch.no_grad():
        encoder.module_.tokens.copy_(torch.from_numpy(np.concatenate([rows, TEXTS])))
    encoder.module_.eval()
    return Problem(
        seed=0,
        device=torch.device("cpu"),
        encoder=encoder,
        labels=np.arange(L),
        n_labels=L,
        rows=tokens[:N],
        y=y,
        sample_weight=np.ones(N),
        texts=tokens[N:],
        excluded=excluded,
        frequency=y.sum(axis=0),
        unseen=np.zeros(L, dtype=bool),
        given=None,
        held_out=None,
    )


def make(rows=ROWS, y=Y, excluded=None, graphs=(HOP,), freeze=True, fusion="gated", **options):
    given = problem(rows, y, excluded)
    part = Classifiers(fusion=fusion, dropout=0.0, freeze_embeddings=freeze)
    defaults = {"loss": BinaryCrossEntropy(), "batch_size": 4, "learning_rate": 0.01}
    outputs = Outputs(given.identity, given.texts, list(graphs))
    return FusedClassifierTask("ranker-0", given, outputs, part, **{**defaults, **options})


def full_scores(task):
    task.modules.eval()
    rows = np.arange(N)
    with torch.no_grad():
        vectors = task.document(torch.from_numpy(text_vectors(task.encoder, task.rows[rows])))
    documents = normalize_rows(vectors.numpy())
    return documents @ task.classifier_weights().T + float(task.classifiers.offset.detach())


def test_targets_of_candidates():
    excluded = sp.csr_array((np.random.default_rng(5).random((N, L)) < 0.3).astype(np.float32))
    marks = candidate_targets(CANDIDATES, Y, excluded).toarray()
    for row in range(N):
        for label in range(L):
            if Y[row, label] > 0:  # missed by the candidates or not
                assert marks[row, label] == 1
            else:
                listed = CANDIDATES[row, label] > 0 and not excluded[row, label]
                assert marks[row, label] == (-1 if listed else 0)


@pytest.mark.parametrize("candidates", [None, CANDIDATES])
def test_scores_of_a_batch_equal_the_materialised_ones(candidates):
    task = make(candidates=candidates)
    expected = full_scores(task)
    rows = np.array([7, 2, 10])
    batch = task.scored(rows)
    listed, labels = np.ones((3, L), dtype=bool), np.arange(L)
    if candidates is not None:
        listed = (candidates + Y).toarray()[rows] > 0
        labels = np.flatnonzero(listed.any(axis=0))
    scores = task.scores(batch).detach()
    np.testing.assert_allclose(scores, expected[np.ix_(rows, labels)], atol=1e-4)
    np.testing.assert_array_equal(batch.positives, Y.toarray()[np.ix_(rows, labels)] > 0)
    if candidates is not None:
        np.testing.assert_array_equal(batch.ignored, ~listed[:, labels])


def test_a_pool_holds_the_labels_of_the_batch_and_some_candidates():
    rows = np.array([7, 2, 10])
    own = set(Y[rows].indices)
    listed = sp.csr_array(CANDIDATES[rows])
    others = [set(listed[[i]].indices) - set(Y[[row]].indices) for i, row in enumerate(rows)]
    task = make(candidates=CANDIDATES, n_negatives=1)
    drawn = {tuple(task.pool(rows, np.random.default_rng(seed))) for seed in range(20)}
    assert len(drawn) > 1
    for pool in drawn:
        assert list(pool) == sorted(set(pool))
        assert own <= set(pool) <= own.union(*others)
        assert len(pool) <= len(own) + sum(min(1, len(other)) for other in others)
    everything = make(candidates=CANDIDATES, n_negatives=L).pool(rows, RNG)
    assert set(everything) == own.union(*others)
    # Without candidates it is the outputs of the batch, or all where there are not more than rows.
    assert set(make(n_negatives=2).pool(rows, RNG)) == own
    assert len(make(n_negatives=2).pool(np.arange(N), RNG)) == L
    assert make(candidates=CANDIDATES).pool(rows, RNG) is None


def test_a_pool_is_scored_by_every_row():
    task = make(candidates=CANDIDATES, n_negatives=2)
    expected, rows, pool = full_scores(task), np.array([7, 2, 10]), np.array([0, 3, 4, 8])
    batch = task.scored(rows, pool)
    scores = task.scores(batch).detach()
    np.testing.assert_allclose(scores, expected[np.ix_(rows, pool)], atol=1e-4)
    np.testing.assert_array_equal(batch.positives, Y.toarray()[np.ix_(rows, pool)] > 0)
    assert batch.ignored is None


def test_candidates_of_other_rows_teach_nothing():
    """Without pools, a row with many candidates changes nothing about the others."""

    def gradient(rows, lists):
        task = make(candidates=lists)
        task.modules.train()
        with torch.no_grad():
            task.classifiers.offset.fill_(-2.0)
        weight = torch.from_numpy(np.array([1.0] + [0.0] * (len(rows) - 1), dtype=np.float32))
        batch = task.scored(rows)
        masks = [torch.from_numpy(mask) for mask in (batch.positives, batch.ignored)]
        loss = task.loss(task.scores(batch), masks[0], row_weight=weight, ignored=masks[1])
        loss.backward()
        return task.classifiers.refinement.weight.grad.to_dense()

    long = CANDIDATES.toarray()
    row = int(np.flatnonzero(np.diff(Y.indptr))[0])
    other = (row + 1) % N
    long[other] = 1
    alone = gradient(np.array([row]), CANDIDATES)
    together = gradient(np.array([row, other]), sp.csr_array(long))
    assert alone.abs().sum() > 0
    torch.testing.assert_close(together, alone)


def test_excluded_pairs_are_ignored():
    excluded = sp.csr_array((N, L), dtype=np.float32).tolil()
    row = int(np.flatnonzero(np.diff(Y.indptr))[0])
    label = int(np.flatnonzero(Y.toarray()[row] == 0)[0])
    excluded[row, label] = 1
    excluded = sp.csr_array(excluded)
    ignored = make(excluded=excluded).scored(np.array([row])).ignored
    assert np.argwhere(ignored).tolist() == [[0, label]]
    # In a pool too, into which another row may have brought the label.
    task = make(excluded=excluded, candidates=CANDIDATES, n_negatives=2)
    assert task.scored(np.array([row]), np.array([label])).ignored.tolist() == [[True]]


@pytest.mark.parametrize("candidates", [None, CANDIDATES])
def test_the_offset_gives_the_mean_target(candidates):
    task = make(candidates=candidates)
    listed = np.ones((N, L), dtype=bool)
    if candidates is not None:
        listed = (candidates.toarray() > 0) | (Y.toarray() > 0)
    probabilities = 1 / (1 + np.exp(-full_scores(task)[listed]))
    assert probabilities.mean() == pytest.approx(Y.toarray()[listed].mean(), abs=1e-4)


def test_training_fits_the_targets():
    task = make(learning_rate=0.1)
    before = full_scores(task)
    progress = train(task, Plan(n_epochs=40, seed=0))
    assert progress.history[-1]["loss"] < progress.history[0]["loss"] / 3
    truth = Y.toarray() > 0
    after = full_scores(task)

    def gap(scores):
        return scores[truth].mean() - scores[~truth].mean()

    assert gap(after) > gap(before) + 1


def test_a_random_start_is_worse():
    rows = normalize_rows(Y @ TEXTS).astype(np.float32)
    losses = []
    for start in (TEXTS, np.random.default_rng(1).normal(size=(L, DIM)).astype(np.float32)):
        task = make(rows=rows, graphs=())
        with torch.no_grad():
            task.classifiers.refinement.weight.copy_(torch.from_numpy(start))
        task.modules.eval()
        batch = task.scored(np.flatnonzero(np.diff(Y.indptr)))
        loss = task.loss(task.scores(batch), torch.from_numpy(batch.positives))
        losses.append(float(loss.detach()))
    assert losses[0] < losses[1]


def test_free_vectors_move_only_where_they_are_candidates():
    lists = np.zeros((N, L), dtype=np.float32)
    lists[:, :3] = 1
    y = sp.csr_array(np.eye(N, L, dtype=np.float32) * (np.arange(L) < 3))
    task = make(candidates=sp.csr_array(lists), y=y)
    start = task.classifiers.refinement.to_numpy()
    np.testing.assert_array_equal(start, TEXTS)
    train(task, Plan(n_epochs=1, seed=0))
    moved = np.abs(task.classifiers.refinement.to_numpy() - start).sum(axis=1)
    assert (moved[:3] > 0).all()
    assert (moved[3:] == 0).all()


def test_an_encoder_is_trained_or_frozen():
    for freeze in (True, False):
        task = make(freeze=freeze)
        before = task.encoder.module_.tokens.detach().clone()
        train(task, Plan(n_epochs=1, seed=0))
        moved = float((task.encoder.module_.tokens - before).detach().abs().max())
        assert (moved == 0) if freeze else (moved > 1e-3)
        weights = task.fusion_weights()
        assert weights.shape == (L, 3)
        np.testing.assert_allclose(weights[:, 0] + weights[:, 2], 1, rtol=1e-5)
        assert (weights[:, 1] != 0).all()


def test_free_vectors_of_the_published_form_start_at_the_neighbours():
    start = make(fusion="attention").classifiers.refinement.to_numpy()
    np.testing.assert_allclose(start, HOP @ TEXTS, rtol=1e-5)


@pytest.mark.parametrize("fusion", ["gated", "attention"])
def test_classifiers_rest_on_the_neighbours_texts_of_the_moment(fusion):
    task = make(freeze=False, fusion=fusion, learning_rate=0.1)
    train(task, Plan(n_epochs=2, seed=0))
    texts = text_vectors(task.encoder, task.texts)
    assert np.abs(texts - TEXTS).max() > 0.05
    near = HOP @ texts
    if fusion == "gated":  # the mean over the others
        others = HOP.toarray() * (1 - np.eye(L))
        near = others / others.sum(axis=1, keepdims=True) @ texts
    sides = [torch.from_numpy(x.astype(np.float32)) for x in (texts, near)]
    with torch.no_grad():
        expected = normalize_rows(task.classifiers(np.arange(L), sides).numpy())
    found = normalize_rows(task.classifier_weights())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_rows_are_trained_with_the_graph_that_does_without_them():
    """And classifiers end with the graph of all."""
    graphs = [sp.csr_array(k * HOP.toarray() + np.eye(L)[::-1]) for k in (1, 2, 3)]
    task = make(graphs=graphs, freeze=False)
    found = [task.neighbors[number].numpy() for number in range(3)]
    for one, graph in zip(found, graphs, strict=True):
        others = graph.toarray() * (1 - np.eye(L))
        expected = others / others.sum(axis=1, keepdims=True) @ TEXTS
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-5)
    seen = []
    for rows in task.batches(0, np.random.default_rng(0)):
        batch = task.prepare(rows, np.random.default_rng(0))
        assert set(rows % 2) == {batch.graph - 1}
        seen += list(rows)
    assert sorted(seen) == list(range(N))
    with torch.no_grad():
        task.classifiers.gates.fill_(1.0)
    before = task.classifier_weights()
    for number, changes in ((1, False), (0, True)):
        task.graphs[number] = sp.csr_array((L, L), dtype=np.float32)
        assert np.allclose(task.classifier_weights(), before) == (not changes)


def test_graphs_of_parts_do_without_the_rows_of_the_part():
    given = problem()
    walk = RandomWalk(hub_threshold=None)
    whole, *parts = given.edges(walk, apart=True)
    np.testing.assert_array_equal(whole.toarray(), walk.visits(Y).toarray())
    for part, (other, graph) in enumerate(zip((1, 0), parts, strict=True)):
        np.testing.assert_allclose(graph.toarray(), walk.visits(Y[other::2]).toarray(), rtol=1e-6)
        assert (given.graph_of_rows(3)[part::2] == part + 1).all()
    weights = given.rows_of_graphs(3)
    np.testing.assert_array_equal(weights[1], np.arange(N) % 2 == 1)
    # What the gates know of a label is how often it is in half of the rows.
    np.testing.assert_array_equal(weights.sum(axis=1), [N / 2] * 3)
    assert len(given.edges(walk, apart=False)) == 1


def test_stages_that_continue_train_a_copy():
    given = problem()
    outputs = Outputs(given.identity, given.texts, [])
    options = {"loss": BinaryCrossEntropy(), "batch_size": 4, "learning_rate": 0.01}
    first = FusedClassifierTask(
        "surrogate", given, outputs, Classifiers(), continues=False, **options
    )
    assert first.encoder is given.encoder
    assert first.classifiers.refinement is None
    second = FusedClassifierTask("shortlister-0", given, outputs, Classifiers(), **options)
    train(second, Plan(n_epochs=1, seed=0))
    np.testing.assert_array_equal(text_vectors(given.encoder, given.texts), TEXTS)
    assert np.abs(text_vectors(second.encoder, given.texts) - TEXTS).max() > 1e-3


def test_clusters_are_right_where_one_of_their_labels_is():
    given = problem(excluded=sp.csr_array(np.ones((N, L), dtype=np.float32) - Y.toarray()))
    membership = sp.csr_array(np.eye(3, dtype=np.float32)[:, np.arange(L) % 3])
    outputs = Outputs(membership, sp.csr_array(membership @ given.texts), [])
    task = FusedClassifierTask(
        "surrogate", given, outputs, Classifiers(), continues=False,
        loss=BinaryCrossEntropy(), batch_size=4, learning_rate=0.01,
    )  # fmt: skip
    batch = task.scored(np.arange(N))
    expected = Y.toarray().reshape(N, 3, 3).any(axis=1)
    np.testing.assert_array_equal(batch.positives, expected)
    # Every other pair is excluded, but not those of clusters that are right.
    np.testing.assert_array_equal(batch.ignored, ~expected)
