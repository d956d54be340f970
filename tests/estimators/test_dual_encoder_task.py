import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

from skxc.batching import UniformBatches  # noqa: E402
from skxc.encoders import BagEncoder, FrozenEncoder  # noqa: E402
from skxc.estimators._dual_encoder.task import DualEncoderTask  # noqa: E402
from skxc.indices import ExactIndex  # noqa: E402
from skxc.losses import DecoupledSoftmax  # noqa: E402
from skxc.negatives import AllLabels, InBatch, Mined  # noqa: E402
from skxc.training import (  # noqa: E402
    LabelVectors,
    Plan,
    PoolSettings,
    _grad_cache,
    train,
)
from skxc.training._pool import share_of_epoch  # noqa: E402
from skxc.utils._sparse import normalize_rows  # noqa: E402

CPU = torch.device("cpu")
N, L = 10, 7


def problem(seed=0):
    """Return features of samples and labels, and labels, the last of which has rows."""
    rng = np.random.default_rng(seed)
    X, Z = (sp.csr_array(np.maximum(rng.normal(size=(m, 12)), 0).astype("f")) for m in (N, L))
    y = rng.random((N, L)) < 0.3
    y[[0, 3], L - 1] = True
    return X, Z, sp.csr_array(y.astype(np.float32))


def make_task(dropout=0.0, label_dropout=0.0, joint=True, negatives=None, seed=0, **options):
    X, Z, y = problem(seed)
    encoder = BagEncoder(dim=6, dropout=dropout).fit(X, Z)
    with torch.no_grad():  # so that every part of the model has a gradient
        encoder.module_.block.weight.normal_(generator=torch.Generator().manual_seed(1))
    graph = {name: options.pop(name) for name in ("graph", "graph_weight") if name in options}
    settings = PoolSettings(
        loss=DecoupledSoftmax(temperature=0.2),
        negatives=AllLabels() if negatives is None else negatives,
        batches=UniformBatches(N, 5),
        search=None,
        **graph,
    )
    start = np.random.default_rng(2).normal(size=(L, 6)).astype(np.float32)
    return DualEncoderTask(
        settings,
        encoder=encoder,
        samples=encoder.prepare(X),
        labels=encoder.prepare(Z),
        table=LabelVectors(start, dropout=label_dropout) if joint else None,
        y=y,
        sample_weight=np.arange(1.0, N + 1),
        device=CPU,
        **options,
    )


def gradients(task, rows, seed=0):
    """Return the dense gradients of a step, and its loss."""
    task.modules.train()
    task.modules.zero_grad()
    torch.manual_seed(seed)
    loss = float(task.backward(task.prepare(np.array(rows), np.random.default_rng(seed))))
    dense = {
        name: p.grad.to_dense() if p.grad.is_sparse else p.grad
        for name, p in task.modules.named_parameters()
    }
    return dense, loss


@pytest.mark.parametrize("joint", [True, False])
def test_all_labels_give_the_full_multi_label_loss(joint):
    task = make_task(joint=joint)
    rows = [0, 3, 4, 7]
    actual, loss = gradients(task, rows)
    task.modules.zero_grad()
    # The same loss, label by label and without pools.
    module, y = task.encoder.module_, task.y.toarray()
    queries = torch.nn.functional.normalize(module(task.samples[rows]), dim=1)
    labels = torch.nn.functional.normalize(module(task.labels), dim=1)
    if joint:
        labels = torch.nn.functional.normalize(labels + task.table.weight, dim=1)
    total, mass = 0.0, 0.0
    for i, row in enumerate(rows):
        positives = np.flatnonzero(y[row])
        negatives = np.flatnonzero(y[row] == 0)
        if not len(positives):
            continue
        for p in positives:
            scores = torch.stack([queries[i] @ labels[j] / 0.2 for j in (p, *negatives)])
            total = total - (row + 1) / len(positives) * torch.log_softmax(scores, 0)[0]
        mass += row + 1
    # A batch counts in the epoch as it weighs.
    expected_loss = total / mass * share_of_epoch(task.sample_weight, np.array(rows))
    expected_loss.backward()
    assert loss == pytest.approx(float(expected_loss.detach()), rel=1e-5)
    for name, parameter in task.modules.named_parameters():
        expected = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
        torch.testing.assert_close(actual[name], expected, rtol=1e-3, atol=1e-5)


def test_the_last_label_gets_its_gradient_as_a_positive():
    task = make_task()
    vectors = torch.from_numpy(task.sample_vectors())
    step, _ = gradients(task, [0])
    # A step against the gradient brings the label nearer to its row.
    before = torch.nn.functional.normalize(
        torch.from_numpy(task.text_vectors()) + task.table.weight.detach(), dim=1
    )[-1]
    with torch.no_grad():
        task.table.weight -= 0.1 * step["table.weight"]
    after = torch.from_numpy(task.label_vectors())[-1]
    assert vectors[0] @ after > vectors[0] @ before


@pytest.mark.parametrize("micro_batch_size", [1, 4, 7, 100])
@pytest.mark.parametrize("joint", [True, False])
def test_micro_batches_change_nothing(micro_batch_size, joint):
    """Also with dropout on tokens and free vectors, and with label texts as queries."""
    graph = sp.csr_array(np.roll(np.eye(L, dtype=np.float32), 1, axis=1))
    options = {"dropout": 0.4, "label_dropout": 0.3, "joint": joint, "graph": graph}
    results, states = [], []
    for size in (None, micro_batch_size):
        task = make_task(micro_batch_size=size, graph_weight=0.5, **options)
        results.append(gradients(task, [0, 2, 3, 5, 8]))
        states.append(torch.get_rng_state())
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)
    for name, gradient in results[0][0].items():
        torch.testing.assert_close(results[1][0][name], gradient, rtol=1e-3, atol=1e-6)
    assert torch.equal(*states)


def test_micro_batches_need_the_replay(monkeypatch):
    direct, _ = gradients(make_task(dropout=0.4), [0, 2, 3, 5, 8])
    monkeypatch.setattr(_grad_cache._RandomState, "restore", lambda self: None)
    cached, _ = gradients(make_task(dropout=0.4, micro_batch_size=3), [0, 2, 3, 5, 8])
    assert any((direct[name] - cached[name]).abs().max() > 1e-3 for name in direct)


def test_labels_outside_the_pool_are_untouched():
    task = make_task(negatives=InBatch())
    before = task.table.to_numpy()
    step, _ = gradients(task, [0, 1])
    pool = np.flatnonzero(task.y[[0, 1]].toarray().any(axis=0))
    assert 0 < len(pool) < L
    assert np.flatnonzero(step["table.weight"].abs().sum(dim=1)).tolist() == pool.tolist()
    np.testing.assert_array_equal(task.table.to_numpy(), before)


def test_vectors():
    task = make_task()
    texts = task.encoder.encode(task.labels)
    np.testing.assert_array_equal(task.text_vectors(), texts)
    expected = texts + task.table.to_numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(task.label_vectors(), expected, rtol=1e-5)
    np.testing.assert_array_equal(task.sample_vectors(), task.encoder.encode(task.samples))
    np.testing.assert_array_equal(
        task.sample_vectors(task.samples[[2]]), task.encoder.encode(task.samples[[2]])
    )
    pure = make_task(joint=False)
    np.testing.assert_array_equal(pure.label_vectors(), pure.text_vectors())


def test_rates():
    assert [g["lr"] for g in make_task().parameter_groups()] == [0.01, 0.001, 0.01]
    assert [g["lr"] for g in make_task(learning_rate=0.5).parameter_groups()] == [0.5, 0.05, 0.5]
    assert len(make_task(joint=False).parameter_groups()) == 2


def test_training_brings_labels_to_their_rows():
    task = make_task(learning_rate=0.1)
    y = task.y.toarray() > 0

    def gap():
        cosine = task.sample_vectors() @ task.label_vectors().T
        return cosine[y].mean() - cosine[~y].mean()

    before = gap()
    train(task, Plan(n_epochs=30, seed=0))
    assert gap() > before + 0.3


@pytest.mark.parametrize("max_grad_norm", [None, 10.0])
def test_a_label_without_text_learns_from_its_rows(max_grad_norm):
    """Its vector starts at zero, where the gradient of a unit vector has no bound."""
    rng = np.random.default_rng(0)
    centres = np.linalg.qr(rng.normal(size=(24, 24)))[0][:4]
    noise = 2 * rng.normal(size=(200, 24)) / np.sqrt(24)
    X = normalize_rows(np.repeat(centres, 50, axis=0) + noise).astype(np.float32)
    texts = centres.astype(np.float32)
    texts[2] = 0
    settings = PoolSettings(
        loss=DecoupledSoftmax(temperature=0.1),
        negatives=AllLabels(),
        batches=UniformBatches(200, 8),
        search=None,
    )
    task = DualEncoderTask(
        settings,
        encoder=FrozenEncoder().fit(X),
        samples=X,
        labels=texts,
        table=LabelVectors(np.zeros((4, 24), np.float32)),
        learning_rate=0.01,
        y=sp.csr_array(np.repeat(np.eye(4, dtype=np.float32), 50, axis=0)),
        sample_weight=np.ones(200),
        device=CPU,
    )
    table = task.parameter_groups()[-1:]
    task.parameter_groups = lambda: table  # the samples stay where they are
    train(task, Plan(n_epochs=10, seed=0, max_grad_norm=max_grad_norm))
    mean = task.sample_vectors()[100:150].mean(axis=0)
    assert task.label_vectors()[2] @ mean / np.linalg.norm(mean) > 0.7


def test_mined_labels_are_hard_negatives():
    """No positives, scores far above those of random labels, and other lists after training."""

    def search(queries, vectors, k):
        index = ExactIndex()
        index.add(vectors)
        return index.search(queries, k)

    negatives = Mined(depth=3, refresh_every=1)
    task = make_task(negatives=negatives, learning_rate=0.05)
    task.settings.search = search
    y = task.y.toarray() > 0
    lists = []
    for epoch in (1, 2):
        task.refresh(epoch, np.random.default_rng(0))
        mined = negatives.get_state()["candidates"]
        scores = task.sample_vectors() @ task.label_vectors().T
        hard, others = [], []
        for row in range(N):
            found = mined[row][mined[row] >= 0]
            assert not y[row, found].any()
            hard += scores[row, found].tolist()
            others += np.delete(scores[row], [*found, *np.flatnonzero(y[row])]).tolist()
        assert np.mean(hard) > np.mean(others) + 0.2
        lists.append(mined.copy())
        train(task, Plan(n_epochs=5, seed=0))
    assert (lists[0] != lists[1]).any()
    assert task.report.n_refreshes >= 2
