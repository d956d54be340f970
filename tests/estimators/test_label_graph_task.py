"""What the stages of a LabelGraphXC train: cells, targets, gradients."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skxc.encoders import BagEncoder
from skxc.estimators._label_graph.classifiers import Classifiers
from skxc.estimators._label_graph.problem import Outputs, Problem, text_vectors
from skxc.estimators._label_graph.task import FusedClassifierTask, candidate_targets
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
        held_rows=None,
        held_y=None,
        held_weight=None,
    )


def make(rows=ROWS, y=Y, excluded=None, hops=(HOP,), batch_size=4, freeze=True, **options):
    given = problem(rows, y, excluded)
    eye = sp.csr_array(sp.eye_array(L, dtype=np.float32))
    part = Classifiers(dropout=0.0, freeze_embeddings=freeze)
    defaults = {"loss": BinaryCrossEntropy(), "batch_size": batch_size, "learning_rate": 0.01}
    outputs = Outputs(eye, given.texts, list(hops))
    return FusedClassifierTask("ranker-0", given, outputs, part, **{**defaults, **options})


def full_scores(task):
    task.modules.eval()
    rows = np.arange(N)
    with torch.no_grad():
        documents = task.document_vectors(rows).numpy()
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
    scores, positives, ignored = task.batch_scores(rows)
    labels, cells, _, _ = task._cells(rows, None)
    for i, row in enumerate(rows):
        seen = {}
        for j in range(scores.shape[1]):
            if ignored is not None and ignored[i, j]:
                continue
            label = labels[j] if cells is None else labels[cells[i, j]]
            seen[int(label)] = bool(positives[i, j])
            assert float(scores[i, j].detach()) == pytest.approx(expected[row, label], abs=1e-4)
        listed = set(range(L))
        if candidates is not None:
            listed = set(candidates[[row]].indices) | set(Y[[row]].indices)
        assert set(seen) == listed
        assert {label for label, is_true in seen.items() if is_true} == set(Y[[row]].indices)


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
    scores, positives, ignored = task.batch_scores(rows, pool)
    np.testing.assert_allclose(scores.detach(), expected[np.ix_(rows, pool)], atol=1e-4)
    np.testing.assert_array_equal(positives, Y.toarray()[np.ix_(rows, pool)] > 0)
    assert ignored is None


def test_pads_teach_nothing():
    """A row with many candidates makes others longer, but not what they teach."""

    def gradient(rows, lists):
        task = make(candidates=lists)
        task.modules.train()
        with torch.no_grad():
            task.classifiers.offset.fill_(-2.0)
        weight = torch.from_numpy(np.array([1.0] + [0.0] * (len(rows) - 1), dtype=np.float32))
        scores, positives, ignored = task.batch_scores(rows)
        task.loss(scores, positives, row_weight=weight, ignored=ignored).backward()
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
    _, _, ignored = make(excluded=excluded).batch_scores(np.array([row]))
    assert torch.nonzero(ignored).tolist() == [[0, label]]
    # In a pool too, into which another row may have brought the label.
    task = make(excluded=excluded, candidates=CANDIDATES, n_negatives=2)
    _, _, ignored = task.batch_scores(np.array([row]), np.array([label]))
    assert ignored.tolist() == [[True]]


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
        task = make(rows=rows, hops=[sp.csr_array(sp.eye_array(L, dtype=np.float32))])
        with torch.no_grad():
            task.classifiers.refinement.weight.copy_(torch.from_numpy(start))
        task.modules.eval()
        scores, positives, _ = task.batch_scores(np.flatnonzero(np.diff(Y.indptr)))
        losses.append(float(task.loss(scores, positives).detach()))
    assert losses[0] < losses[1]


def test_free_vectors_move_only_where_they_are_candidates():
    lists = np.zeros((N, L), dtype=np.float32)
    lists[:, :3] = 1
    y = sp.csr_array(np.eye(N, L, dtype=np.float32) * (np.arange(L) < 3))
    task = make(candidates=sp.csr_array(lists), y=y)
    start = task.classifiers.refinement.to_numpy()
    np.testing.assert_array_equal(start, (HOP @ TEXTS).astype(np.float32))
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
        assert task.fusion_weights().shape == (L, 3)
        np.testing.assert_allclose(task.fusion_weights().sum(axis=1), 1, rtol=1e-5)


def test_stages_that_continue_train_a_copy():
    given = problem()
    eye = sp.csr_array(sp.eye_array(L, dtype=np.float32))
    outputs = Outputs(eye, given.texts, [])
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
    _, positives, ignored = task.batch_scores(np.arange(N))
    expected = Y.toarray().reshape(N, 3, 3).any(axis=1)
    np.testing.assert_array_equal(positives, expected)
    # Every other pair is excluded, but not those of clusters that are right.
    np.testing.assert_array_equal(ignored, ~expected)
