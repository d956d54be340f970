import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

from skxc.batching import UniformBatches  # noqa: E402
from skxc.estimators._dual_encoder.classifier import ClassifierTask  # noqa: E402
from skxc.losses import DecoupledSoftmax  # noqa: E402
from skxc.negatives import AllLabels, InBatch  # noqa: E402
from skxc.training import Plan, PoolSettings, train  # noqa: E402
from skxc.utils._sparse import normalize_rows  # noqa: E402

N, L, D = 40, 6, 8


def make_task(dropout=0.0, negatives=None, rows=None, start=None, **options):
    rng = np.random.default_rng(0)
    y = rng.random((N, L)) < 0.3
    centres = rng.normal(size=(L, D))
    samples = normalize_rows(y @ centres + 0.1 * rng.normal(size=(N, D))).astype(np.float32)
    texts = normalize_rows(rng.normal(size=(L, D))).astype(np.float32)
    settings = PoolSettings(
        loss=DecoupledSoftmax(temperature=0.2),
        negatives=negatives or AllLabels(),
        batches=UniformBatches(N, 10),
        search=None,
        **{name: options.pop(name) for name in ("graph", "graph_weight") if name in options},
    )
    return ClassifierTask(
        settings,
        samples=samples,
        texts=texts,
        start=texts if start is None else start,
        dropout=dropout,
        y=sp.csr_array(y.astype(np.float32)),
        sample_weight=np.ones(N),
        device=torch.device("cpu"),
        **options,
    )


def test_it_starts_at_the_given_vectors_and_leaves_them_alone():
    task = make_task(learning_rate=0.1)
    texts, samples = task.texts.copy(), task.samples.copy()
    np.testing.assert_allclose(task.label_vectors(), texts, rtol=1e-6)
    train(task, Plan(n_epochs=2, seed=0))
    assert (task.label_vectors() != texts).all()
    np.testing.assert_array_equal(task.texts, texts)
    np.testing.assert_array_equal(task.samples, samples)
    np.testing.assert_allclose(np.linalg.norm(task.label_vectors(), axis=1), 1, rtol=1e-5)


def test_a_step_against_a_loop():
    task = make_task()
    rows = np.array([0, 3, 7])
    task.modules.train()
    loss = float(task.backward(task.prepare(rows, np.random.default_rng(0))))
    weight = torch.tensor(task.texts, requires_grad=True)
    unit = weight / weight.norm(dim=1, keepdim=True)
    total, count = 0.0, 0
    for row in rows:
        has = task.y[[row]].toarray()[0] > 0
        scores = torch.from_numpy(task.samples[row]) @ unit.T / 0.2
        for p in np.flatnonzero(has):
            left = torch.stack([scores[p], *scores[torch.from_numpy(~has)]])
            total = total - torch.log_softmax(left, 0)[0] / has.sum()
        count += has.any()
    (total / count).backward()
    assert loss == pytest.approx(float(total.detach() / count), rel=1e-5)
    torch.testing.assert_close(task.table.weight.grad.to_dense(), weight.grad, rtol=1e-4, atol=1e-6)


def test_dropout_is_on_the_samples():
    task = make_task(dropout=0.5)
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(float(task.backward(task.prepare(np.arange(5), np.random.default_rng(0)))))
    assert losses[0] == losses[1] != losses[2]


def test_training_raises_precision():
    task = make_task(learning_rate=0.05)

    def precision():
        best = (task.samples @ task.label_vectors().T).argmax(axis=1)
        return task.y.toarray()[np.arange(N), best].mean()

    before = precision()
    train(task, Plan(n_epochs=20, seed=0))
    assert precision() > before + 0.3


def test_a_label_without_rows_learns_from_its_text():
    """Label texts are queries whose own label is in the pool, and a positive."""
    graph = sp.csr_array(([1.0], ([2], [4])), shape=(L, L)).astype(np.float32)
    start = np.zeros((L, D), dtype=np.float32)
    task = make_task(
        negatives=InBatch(), graph=graph, graph_weight=1.0, start=start, learning_rate=0.05
    )
    task.y = sp.csr_array(task.y.toarray() * (np.arange(L) != 2).astype(np.float32))
    task.settings.negatives.prepare(task.y)
    train(task, Plan(n_epochs=20, seed=0))
    assert task.texts[2] @ task.label_vectors()[2] > 0.3


def test_rates_and_vectors():
    task = make_task(learning_rate=0.3)
    (group,) = task.parameter_groups()
    assert group["lr"] == 0.3
    assert group["sparse"]
    assert task.sample_vectors() is task.samples
    other = np.ones((2, D), np.float32)
    assert task.sample_vectors(other) is other
