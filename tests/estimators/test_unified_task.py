"""The invariants of UniDEC's training step, against loops and against the tasks it is made of."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

from skxc.batching import UniformBatches  # noqa: E402
from skxc.encoders import BagEncoder  # noqa: E402
from skxc.estimators._dual_encoder.classifier import ClassifierTask  # noqa: E402
from skxc.estimators._dual_encoder.task import DualEncoderTask  # noqa: E402
from skxc.estimators._unified.heads import HeadsModule  # noqa: E402
from skxc.estimators._unified.task import UnifiedTask, make_unified_loss  # noqa: E402
from skxc.indices import ExactIndex  # noqa: E402
from skxc.losses import make_loss  # noqa: E402
from skxc.negatives import AllLabels, InBatch, Mined  # noqa: E402
from skxc.training import (  # noqa: E402
    HeldOut,
    LabelVectors,
    Plan,
    PoolSettings,
    _grad_cache,
    build_optimizers,
    train,
)
from skxc.training._pool import share_of_epoch  # noqa: E402
from skxc.utils._sparse import normalize_rows  # noqa: E402

CPU = torch.device("cpu")
N, L, DIM = 10, 7, 5
ROWS = np.array([0, 2, 3, 5, 8])


def search(queries, vectors, k):
    index = ExactIndex()
    index.add(vectors)
    return index.search(queries, k)


def problem(seed=0):
    """Return features of samples and labels, and labels, the last of which has rows."""
    rng = np.random.default_rng(seed)
    X, Z = (sp.csr_array(np.maximum(rng.normal(size=(m, 12)), 0).astype("f")) for m in (N, L))
    y = rng.random((N, L)) < 0.3
    y[[0, 3], L - 1] = True
    return X, Z, sp.csr_array(y.astype(np.float32))


def make_task(loss="decoupled", negatives=None, dropout=0.0, dtype="float32", data=None, **options):
    X, Z, y = problem() if data is None else data
    encoder = BagEncoder(dim=6, dropout=dropout).fit(X, Z)
    pool = ("graph", "graph_weight", "mask_neighbors")
    settings = PoolSettings(
        loss=make_loss(loss, temperature=0.2),
        negatives=AllLabels() if negatives is None else negatives,
        batches=UniformBatches(y.shape[0], 5),
        search=search,
        **{name: options.pop(name) for name in pool if name in options},
    )
    torch.manual_seed(1)
    start = np.random.default_rng(2).normal(size=(y.shape[1], DIM)).astype(np.float32)
    return UnifiedTask(
        settings,
        encoder=encoder,
        samples=encoder.prepare(X),
        labels=encoder.prepare(Z),
        heads=HeadsModule(6, DIM, dropout=dropout),
        table=LabelVectors(start, dropout=dropout, dtype=dtype),
        y=y,
        sample_weight=np.arange(1.0, y.shape[0] + 1),
        device=CPU,
        **options,
    )


def gradients(task, rows=ROWS, seed=0):
    """Return the dense gradients of a step, None where there is none, and its loss."""
    task.modules.train()
    task.modules.zero_grad()
    torch.manual_seed(seed)
    loss = float(task.backward(task.prepare(rows, np.random.default_rng(seed))))
    dense = {
        name: p.grad.to_dense() if p.grad is not None and p.grad.is_sparse else p.grad
        for name, p in task.modules.named_parameters()
    }
    return dense, loss


def naive_loss(scores, y, weight, kind):
    """Return the full multi-label loss of a score matrix, cell by cell."""
    total, mass = 0.0, 0.0
    for i in range(len(y)):
        positives, negatives = np.flatnonzero(y[i]), np.flatnonzero(y[i] == 0)
        if not len(positives):
            continue
        for p in positives:
            if kind == "decoupled":
                others = scores[i, [p, *negatives]]
                log_mass = torch.logsumexp(others, 0)
            elif kind == "softmax":
                log_mass = torch.logsumexp(scores[i], 0)
            else:
                share = torch.ones(len(y[i]))
                share[positives] = 1 / len(positives)
                log_mass = torch.logsumexp(scores[i] + share.log(), 0)
            total = total - weight[i] / len(positives) * (scores[i, p] - log_mass)
        mass += weight[i]
    return total / mass


def both_scores(task, rows, temperature=0.2):
    """Return the scores of both heads for all labels, from the formulas of the paper."""
    unit = torch.nn.functional.normalize
    heads, encode = task.heads, task.encoder.vectors
    queries, texts = encode(task.samples[rows]), encode(task.labels)
    a = [unit(torch.tanh(h @ heads.text.weight.T + heads.text.bias)) for h in (queries, texts)]
    c = queries @ heads.label.weight.T + heads.label.bias
    w = task.table.weight.float()
    if task.unit_classifier:
        c, w = unit(c), unit(w)
    return a[0] @ a[1].T / temperature, c @ w.T / temperature


# ---- pool


@pytest.mark.parametrize("kind", ["decoupled", "softmax", "balanced"])
@pytest.mark.parametrize("unit_classifier", [True, False])
def test_all_labels_give_the_full_multi_label_loss(kind, unit_classifier):
    task = make_task(kind, head_weight=0.3, unit_classifier=unit_classifier)
    actual, loss = gradients(task)
    task.modules.zero_grad()
    y, weight = task.y.toarray()[ROWS], ROWS + 1.0
    text, label = both_scores(task, ROWS)
    expected = 0.3 * naive_loss(text, y, weight, kind) + 0.7 * naive_loss(label, y, weight, kind)
    expected = expected * share_of_epoch(task.sample_weight, ROWS)
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    for name, parameter in task.modules.named_parameters():
        assert parameter.grad is not None, name
        gradient = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
        torch.testing.assert_close(actual[name], gradient, rtol=1e-3, atol=1e-5)


def test_the_order_of_a_pool_and_hopeless_labels_change_nothing():
    task = make_task()
    pool = task.draw(ROWS, np.random.default_rng(0))
    queries, labels = torch.randn(5, DIM), torch.randn(L, DIM)
    expected = task.pool_loss(queries, labels, pool)
    order = np.random.default_rng(3).permutation(L)
    shuffled = replace(pool, positives=pool.positives[:, order].copy())
    torch.testing.assert_close(task.pool_loss(queries, labels[order], shuffled), expected)
    wider = replace(pool, positives=np.pad(pool.positives, ((0, 0), (0, 1))))
    queries, labels = (
        torch.nn.functional.pad(queries, (0, 1), value=1.0),
        torch.nn.functional.pad(labels, (0, 1)),
    )
    hopeless = torch.zeros(1, DIM + 1)
    hopeless[0, -1] = -1e20
    torch.testing.assert_close(
        task.pool_loss(queries, torch.cat([labels, hopeless]), wider), expected
    )


def test_every_positive_in_the_pool_counts_however_it_got_there():
    """Label 1 enters as the sample of row 1, label 3 is mined for row 1; both are row 0's too."""
    y = sp.csr_array(np.array([[1, 1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0]] * 5, dtype=np.float32))
    negatives = Mined(n_negatives=1, n_positives=1)
    X, Z, _ = problem()
    task = make_task(negatives=negatives, data=(X, Z, y))
    negatives.set_state({"candidates": np.array([[4], [3]] * 5, dtype=np.int32)})
    seen = set()
    for seed in range(30):
        pool = task.draw(np.array([0, 1]), np.random.default_rng(seed))
        labels = pool.labels.tolist()
        assert {1, 3, 4} <= set(labels)
        assert pool.positives[0].tolist() == [label in (0, 1, 3) for label in labels]
        assert pool.positives[1].tolist() == [label == 1 for label in labels]
        seen.add(tuple(labels))
    assert len(seen) == 2, "row 0 sometimes samples label 0, which no other row brings"


@pytest.mark.parametrize("head_weight", [0.0, 0.5])
def test_mined_labels_are_hard_for_the_current_model_and_no_positives(head_weight):
    negatives = Mined(depth=3, refresh_every=1, pool_size=6)
    task = make_task(negatives=negatives, learning_rate=0.05, head_weight=head_weight)
    y = task.y.toarray() > 0
    lists = []
    for epoch in (1, 2):
        train(task, Plan(n_epochs=10, seed=epoch))
        task.refresh(epoch, np.random.default_rng(0))
        mined = negatives.get_state()["candidates"]
        assert task.label_vectors().shape == (L, DIM)
        scores = task.sample_vectors() @ task.label_vectors().T
        hard, others = [], []
        for row in range(N):
            found = mined[row][mined[row] >= 0]
            assert not y[row, found].any()
            hard += scores[row, found].tolist()
            others += np.delete(scores[row], [*found, *np.flatnonzero(y[row])]).tolist()
        assert np.mean(hard) > np.mean(others) + 0.5 * np.std(others)
        lists.append(mined.copy())
    assert (lists[0] != lists[1]).any()


@pytest.mark.parametrize("pool_size", [1, 3])
@pytest.mark.parametrize("mined", [True, False])
def test_a_pool_never_exceeds_its_capacity_and_small_ones_train(pool_size, mined):
    negatives = InBatch(pool_size=pool_size)
    if mined:
        negatives = Mined(refresh_every=1, pool_size=pool_size)
    task = make_task(negatives=negatives)
    for seed in range(20):
        assert len(task.draw(ROWS, np.random.default_rng(seed)).labels) <= pool_size
    progress = train(task, Plan(n_epochs=3, seed=0))
    assert np.isfinite([record["loss"] for record in progress.history]).all()
    assert all(p.isfinite().all() for p in task.modules.parameters())


# ---- heads


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_moves_both_heads_and_no_label_outside_the_pool(dtype):
    task = make_task(negatives=InBatch(n_positives=1), dtype=dtype)
    before = {name: p.detach().clone() for name, p in task.modules.named_parameters()}
    optimizers = build_optimizers(task.parameter_groups())
    rows = np.array([0, 2])
    gradients(task, rows)
    for optimizer in optimizers:
        optimizer.step()
    after = dict(task.modules.named_parameters())
    inside = task.draw(rows, np.random.default_rng(0)).labels
    outside = np.setdiff1d(np.arange(L), inside)
    assert len(inside)
    assert len(outside)
    for name in ("encoder.tokens", "heads.text.weight", "heads.label.weight"):
        assert not torch.equal(after[name], before[name]), name
    table = after["table.weight"]
    assert (table[inside] != before["table.weight"][inside]).any(dim=1).all()
    assert torch.equal(table[outside], before["table.weight"][outside])
    moments = optimizers[-1].state[table]
    assert not moments["mean"][outside].any()
    assert not moments["square"][outside].any()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    ("head_weight", "still"), [(1.0, ("heads.label", "table")), (0.0, ("heads.text",))]
)
def test_a_head_without_weight_has_no_gradient_at_all(head_weight, still, symmetric):
    step, _ = gradients(make_task(head_weight=head_weight, symmetric=symmetric))
    for name, gradient in step.items():
        is_still = name.startswith(still)
        assert (gradient is None or not gradient.any()) == is_still, name


def test_a_head_without_weight_keeps_every_bit_through_training():
    for head_weight, still in ((1.0, "label"), (0.0, "text")):
        task = make_task(head_weight=head_weight)
        before = task.heads.state_dict()[f"{still}.weight"].clone()
        table = task.table.to_numpy()
        train(task, Plan(n_epochs=2, seed=0))
        assert torch.equal(task.heads.state_dict()[f"{still}.weight"], before)
        assert np.array_equal(task.table.to_numpy(), table) == (head_weight == 1)


def test_the_dual_encoder_alone_is_a_dual_encoder_on_the_same_pools():
    """With its projection as part of the encoder, DualEncoderTask takes the same step."""
    unified = make_task(head_weight=1.0, negatives=InBatch(pool_size=5, n_positives=1))
    encoder, heads = unified.encoder, unified.heads
    projected = SimpleNamespace(
        module_=torch.nn.ModuleDict({"encoder": encoder.module_, "heads": heads}),
        stack=encoder.stack,
        training_batch=encoder.training_batch,
        unit_vectors=lambda batch, precision: heads.against_texts(encoder.vectors(batch)),
    )
    plain = DualEncoderTask(
        unified.settings,
        encoder=projected,
        samples=unified.samples,
        labels=unified.labels,
        y=unified.y,
        sample_weight=unified.sample_weight,
        device=CPU,
    )
    first, loss = gradients(unified)
    second, expected = gradients(plain)
    assert loss == pytest.approx(expected, rel=1e-6)
    for name, gradient in second.items():
        mine = first[name.removeprefix("encoder.")]
        assert (gradient is None) == (mine is None)
        if gradient is not None:
            torch.testing.assert_close(mine, gradient)


def test_the_classifier_alone_is_a_sampled_softmax_on_a_frozen_encoder():
    unified = make_task(head_weight=0.0, negatives=InBatch(pool_size=5, n_positives=1))
    plain = ClassifierTask(
        unified.settings,
        samples=unified.sample_vectors(),
        texts=np.zeros((L, DIM), dtype=np.float32),
        start=unified.table.to_numpy(),
        dropout=0.0,
        y=unified.y,
        sample_weight=unified.sample_weight,
        device=CPU,
    )
    first, loss = gradients(unified)
    second, expected = gradients(plain)
    assert loss == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(first["table.weight"], second["table.weight"], rtol=1e-4, atol=1e-6)


# ---- symmetric term


def test_swapping_queries_and_labels_swaps_the_two_terms():
    task = make_task()
    task.sample_weight[:] = 1
    pool = task.draw(ROWS, np.random.default_rng(0))
    queries, labels = torch.randn(len(ROWS), DIM), torch.randn(L, DIM)
    down = task.pool_loss(queries, labels, pool)
    across = task.pool_loss(labels, queries, pool.transposed())
    assert float(down) != pytest.approx(float(across), rel=1e-3)
    swapped = pool.transposed()
    torch.testing.assert_close(task.pool_loss(labels, queries, swapped), across)
    torch.testing.assert_close(task.pool_loss(queries, labels, swapped.transposed()), down)
    task.symmetric = True
    both = task._head_loss(queries, labels, pool)
    torch.testing.assert_close(both, (down + across) / 2)
    torch.testing.assert_close(task._head_loss(labels, queries, swapped), both)


def test_labels_are_scored_against_the_queries_of_the_batch_and_anchors_have_one():
    """The second term by loops: labels without a query are no anchors, queries have weights."""
    task = make_task()
    pool = task.draw(ROWS[[0, 2, 4]], np.random.default_rng(0))
    queries, labels = torch.randn(3, DIM), torch.randn(L, DIM)
    scores, y = (labels @ queries.T) / 0.2, pool.positives.T
    assert not y.any(axis=1).all(), "a pool label without a query"
    assert (y.sum(axis=1) > 1).any(), "a pool label with queries of different weights"
    terms = []
    for label in np.flatnonzero(y.any(axis=1)):
        own, other = np.flatnonzero(y[label]), np.flatnonzero(~y[label])
        weight = pool.row_weight[own] / pool.row_weight[own].sum()
        terms.append(
            sum(
                w * (torch.logsumexp(scores[label, [p, *other]], 0) - scores[label, p])
                for w, p in zip(weight, own, strict=True)
            )
        )
    expected = sum(terms) / len(terms) * pool.scale
    actual = task.pool_loss(labels, queries, pool.transposed())
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


# ---- graph


def test_label_texts_as_queries_have_their_own_label_for_the_classifier_only():
    graph = sp.csr_array(np.roll(np.eye(L, dtype=np.float32), 1, axis=1))
    task = make_task(graph=graph, graph_weight=0.5, mask_neighbors=False, unit_classifier=True)
    pool = task.draw(ROWS, np.random.default_rng(0))
    assert len(pool.queries)
    n = len(pool.rows)
    for row, label in enumerate(pool.queries, start=n):
        expected = {label, (label + 1) % L}
        assert set(pool.labels[pool.positives[row]]) == expected
    seen = []
    task._head_loss = lambda queries, labels, given: (
        seen.append((len(queries), given)),
        queries.sum(),
    )[1]
    task._loss_of(task.encoder.vectors(texts_of(task, pool)), pool)
    (n_queries, text), (_, label) = seen
    assert n_queries == n + len(pool.queries)
    assert label is pool
    own = pool.queries[:, None] == pool.labels[None, :]
    np.testing.assert_array_equal(text.ignored[n:], own)
    assert not text.ignored[:n].any()
    assert pool.ignored is None or not pool.ignored[n:].any()


def texts_of(task, pool):
    return task.encoder.stack([cache[ids] for cache, ids in task._parts(pool)])


# ---- gradient caching


@pytest.mark.parametrize("micro_batch_size", [1, 4, 7, 100])
@pytest.mark.parametrize("head_weight", [0.0, 0.5, 1.0])
def test_micro_batches_change_nothing(micro_batch_size, head_weight):
    """Also with dropout on tokens, heads and label vectors, and label texts as queries."""
    graph = sp.csr_array(np.roll(np.eye(L, dtype=np.float32), 1, axis=1))
    options = {"dropout": 0.4, "graph": graph, "graph_weight": 0.5, "head_weight": head_weight}
    results, states = [], []
    for size in (None, micro_batch_size):
        results.append(gradients(make_task(micro_batch_size=size, symmetric=True, **options)))
        states.append(torch.get_rng_state())
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)
    for name, gradient in results[0][0].items():
        other = results[1][0][name]
        assert (gradient is None) == (other is None)
        if gradient is not None:
            torch.testing.assert_close(other, gradient, rtol=1e-3, atol=1e-5)
    assert torch.equal(*states)


def test_micro_batches_of_texts_of_one_length():
    """Padding is what a transformer wastes; the order is undone before the loss."""
    expected, loss = gradients(make_task())
    task = make_task(micro_batch_size=4)
    lengths = np.random.default_rng(0).permutation(12)
    seen = []
    task.encoder.row_lengths = lambda texts: lengths
    task.encoder.training_batch = lambda batch: (seen.append(batch), batch)[1]
    actual, ordered = gradients(task)
    assert ordered == pytest.approx(loss, rel=1e-5)
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=1e-3, atol=1e-5)
    texts = texts_of(task, task.draw(ROWS, np.random.default_rng(0)))[np.argsort(lengths)]
    assert (sp.vstack(seen) != texts).nnz == 0
    assert [batch.shape[0] for batch in seen] == [4, 4, 4]


def test_micro_batches_need_the_replay(monkeypatch):
    direct, _ = gradients(make_task(dropout=0.4))
    monkeypatch.setattr(_grad_cache._RandomState, "restore", lambda self: None)
    cached, _ = gradients(make_task(dropout=0.4, micro_batch_size=3))
    assert any((direct[name] - cached[name]).abs().max() > 1e-3 for name in direct)


# ---- vectors, rates, cost


def test_labels_without_rows_are_kept_halfway_to_their_texts():
    X, Z, y = problem()
    y = sp.csr_array(y.toarray() * (np.arange(L) != 2))
    task = make_task(data=(X, Z, y))
    frequency = y.T @ np.arange(1.0, N + 1)
    trained = task.prediction_vectors()
    plain, moved = (task.kept_vectors(frequency, toward_texts=there) for there in (False, True))
    np.testing.assert_array_equal(plain[:, :-1], trained)
    np.testing.assert_allclose(plain[:, -1], 0.2 * np.log1p(frequency), rtol=1e-6)
    text = task.project(task.labels[[2]], task.heads.unit_against_labels)
    expected = plain.copy()
    expected[2, DIM:-1] = normalize_rows(plain[[2], DIM:-1] + text)
    assert np.abs(expected - plain).max() > 0.1
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_a_name_stands_for_a_loss_at_the_temperature_of_unidec():
    task = make_task(make_unified_loss("softmax"))
    assert task.temperature == task.settings.loss.temperature == 1 / 18
    assert make_task("triplet").temperature == 1 / 18, "the usual one, where a loss has none"


def test_vectors():
    task = make_task()
    text, label = (m.detach().numpy() for m in both_scores(task, np.arange(N), temperature=1.0))
    np.testing.assert_allclose(
        task.sample_vectors() @ task.label_vectors().T, text, rtol=1e-4, atol=1e-5
    )
    queries = np.empty((N, 2 * DIM), dtype=np.float32)
    task.project(task.samples, task.heads.side_by_side, queries)
    both = task.prediction_vectors()
    assert both.shape == (L, 2 * DIM)
    np.testing.assert_allclose(queries @ both.T, text + label, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        both[:, DIM:], normalize_rows(task.table.to_numpy()), rtol=1e-5, atol=1e-6
    )
    for head_weight, expected in ((1.0, text), (0.0, label)):
        task.head_weight = head_weight
        scores = task.sample_vectors() @ task.prediction_vectors().T
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_early_stopping_watches_the_heads_that_are_trained():
    task = make_task()
    train(task, Plan(n_epochs=3, seed=0))
    truth = task.y
    task.held_out = HeldOut(task.samples, truth, np.ones(truth.shape[0]))
    text, label = (m.detach().numpy() for m in both_scores(task, np.arange(N)))
    for head_weight, scores in ((0.5, text + label), (1.0, text), (0.0, label)):
        task.head_weight = head_weight
        best = scores.argmax(axis=1)
        expected = np.mean(truth.toarray()[np.arange(N), best])
        assert task.evaluate() == pytest.approx(expected)


def test_rates():
    """Tokens, block, heads at twice the block's rate, label vectors."""
    assert [g["lr"] for g in make_task().parameter_groups()] == [0.01, 0.001, 0.002, 0.01]
    rates = [g["lr"] for g in make_task(learning_rate=0.1).parameter_groups()]
    np.testing.assert_allclose(rates, [0.1, 0.01, 0.02, 0.1])
    task = make_task()
    task.encoder.parameter_groups = lambda rate: [{"params": [], "lr": 1e-4}]
    assert [g["lr"] for g in task.parameter_groups()] == [1e-4, 2e-4, 0.01]


@pytest.mark.slow
def test_the_time_of_a_step_does_not_depend_on_the_number_of_labels():
    rng = np.random.default_rng(0)
    medians = []
    for n_labels in (1000, 100_000):
        X, Z = (
            sp.csr_array((np.ones(3 * m, "f"), rng.integers(50, size=3 * m), 3 * np.arange(m + 1)))
            for m in (2000, n_labels)
        )
        X, Z = (sp.csr_array((m.data, m.indices, m.indptr), shape=(m.shape[0], 50)) for m in (X, Z))
        columns = rng.integers(n_labels, size=4000)
        y = sp.csr_array((np.ones(4000, "f"), columns, 2 * np.arange(2001)), shape=(2000, n_labels))
        y.sum_duplicates()
        task = make_task(negatives=InBatch(pool_size=400), data=(X, Z, y))
        optimizers = build_optimizers(task.parameter_groups())
        times = []
        for _ in range(40):
            start = time.process_time()
            task.backward(task.prepare(rng.choice(2000, 400, replace=False), rng))
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            times.append(time.process_time() - start)
        medians.append(np.median(times[10:]))
    assert medians[1] < 1.3 * medians[0]
