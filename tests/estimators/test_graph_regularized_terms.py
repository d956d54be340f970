"""Graph terms: what they draw, mask, prune, and where their gradients go."""

import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

from skxc.batching import UniformBatches  # noqa: E402
from skxc.encoders import BagEncoder  # noqa: E402
from skxc.estimators._dual_encoder.task import DualEncoderTask  # noqa: E402
from skxc.estimators._graph_regularized.bandit import (  # noqa: E402
    Bandit,
    BanditWeights,
    FixedWeights,
)
from skxc.estimators._graph_regularized.edges import GraphTerm  # noqa: E402
from skxc.estimators._graph_regularized.first import AnchorTask  # noqa: E402
from skxc.estimators._graph_regularized.terms import (  # noqa: E402
    SCHEDULES,
    SIDES,
    GraphRegularizedTask,
    GraphTerms,
    make_weights,
)
from skxc.graphs import Pruning  # noqa: E402
from skxc.losses import DecoupledSoftmax, Triplet  # noqa: E402
from skxc.negatives import InBatch, membership  # noqa: E402
from skxc.training import Plan, PoolSettings, train  # noqa: E402

N, L, M, WORDS = 24, 10, 8, 15


def problem(seed=0):
    """Return features whose words belong to one side each, labels, and edges of both sides."""
    rng = np.random.default_rng(seed)
    sides = []
    for number, size in enumerate((N, L, M)):
        block = np.zeros((size, 3 * WORDS), dtype=np.float32)
        block[:, number * WORDS : (number + 1) * WORDS] = rng.random((size, WORDS)) < 0.3
        block[:, number * WORDS] += block.sum(axis=1) == 0
        sides.append(sp.csr_array(block))
    y = rng.random((N, L)) < 0.2
    edges = {side: rng.random((size, M)) < 0.25 for side, size in zip(SIDES, (N, L), strict=True)}
    edges["samples"][:3] = False
    edges["labels"][0] = False
    return *sides, csr(y), {side: csr(matrix) for side, matrix in edges.items()}


def csr(matrix):
    return sp.csr_array(np.asarray(matrix).astype(np.float32))


def settings():
    return PoolSettings(
        loss=Triplet(),
        negatives=InBatch(),
        batches=UniformBatches(N, 8),
        search=None,
    )


def arguments(X, Z, y, dropout=0.0):
    encoder = BagEncoder(dim=6, dropout=dropout).fit(X, Z)
    return {
        "encoder": encoder,
        "samples": encoder.prepare(X),
        "labels": encoder.prepare(Z),
        "y": y,
        "sample_weight": np.arange(1.0, N + 1),
        "device": torch.device("cpu"),
    }


def make_task(edges=None, weights=1.0, sides=SIDES, hidden=None, **options):
    X, Z, A, y, planted = problem()
    edges = planted if edges is None else edges
    terms = [GraphTerm("tag", side, edges[side], (hidden or {}).get(side)) for side in sides]
    chosen = {"loss": Triplet(), "schedule": "constant", "prune": False, **options}
    more = {name: chosen.pop(name) for name in ("micro_batch_size", "dropout") if name in chosen}
    known = arguments(X, Z, y, more.pop("dropout", 0.0))
    if not hasattr(weights, "weights"):
        weights = FixedWeights(np.full(len(terms), float(weights)))
    return GraphRegularizedTask(
        settings(),
        GraphTerms(**chosen),
        terms=terms,
        weights=weights,
        anchors=known["encoder"].prepare(A),
        n_epochs=4,
        seed=7,
        **known,
        **more,
    )


def base_task(**more):
    X, Z, _, y, _ = problem()
    return DualEncoderTask(settings(), **arguments(X, Z, y), **more)


def step(task, rows=tuple(range(12)), seed=0):
    """Return the loss of a step and the gradient of every word."""
    task.modules.train()
    task.modules.zero_grad()
    torch.manual_seed(seed)
    loss = float(task.backward(task.prepare(np.array(rows), np.random.default_rng(seed))))
    task.epoch_record()
    tokens = dict(task.modules.named_parameters())["encoder.tokens"].grad
    return loss, tokens.to_dense() if tokens.is_sparse else tokens


def by_side(gradient):
    """Return the largest gradient on the words of samples, labels and anchors."""
    return [float(gradient[n * WORDS : (n + 1) * WORDS].abs().max()) for n in range(3)]


def trained(task, n_epochs=4, **plan):
    progress = train(task, Plan(n_epochs=n_epochs, seed=7, **plan))
    return progress.history, {k: v.clone() for k, v in task.modules.state_dict().items()}


# ---- the base


@pytest.mark.parametrize("case", ["weights 0", "no edge", "faded", "no term"])
def test_without_weight_or_edge_training_is_the_base(case, monkeypatch):
    monkeypatch.setitem(SCHEDULES, "never", lambda done: 0.0)
    options = {
        "weights 0": {"weights": 0.0, "prune": Pruning(warmup=1, interval=1)},
        "no edge": {"edges": {"samples": csr(np.zeros((N, M))), "labels": csr(np.zeros((L, M)))}},
        "faded": {"schedule": "never"},
        "no term": {"sides": ()},
    }[case]
    history, weights = trained(make_task(**options))
    expected, base = trained(base_task())
    assert history == expected
    assert all(torch.equal(weights[name], base[name]) for name in base)


def test_graph_terms_change_training():
    assert trained(make_task())[0] != trained(base_task())[0]


def test_the_model_has_no_parameter_beyond_the_base():
    shapes = [
        {name: p.shape for name, p in task.modules.named_parameters()}
        for task in (make_task(), base_task())
    ]
    assert shapes[0] == shapes[1]


def test_rows_without_edges_contribute_nothing():
    one = np.zeros((N, M))
    one[5, 2] = 1
    task = make_task(edges={"samples": csr(one), "labels": csr(np.zeros((L, M)))})
    loss, _ = step(task)
    base, _ = step(base_task())
    # The one drawn anchor is the only column, and its row has no negative.
    assert loss == base
    assert task.figures.losses[-1][1:].tolist() == pytest.approx([0.0, np.nan], nan_ok=True)


# ---- gradients


@pytest.mark.parametrize(("side", "untouched"), [("samples", 1), ("labels", 0)])
def test_gradients_stay_on_their_sides(side, untouched):
    task = make_task(sides=(side,))
    plain = base_task()
    extra = step(task)[1] - step(plain)[1]
    sizes = by_side(extra)
    assert sizes[untouched] < 1e-7
    assert all(size > 1e-4 for n, size in enumerate(sizes) if n != untouched)


def test_micro_batches_do_not_change_gradients():
    direct = step(make_task())
    for size in (1, 5):
        loss, gradient = step(make_task(micro_batch_size=size))
        assert loss == pytest.approx(direct[0], abs=1e-6)
        torch.testing.assert_close(gradient, direct[1], atol=1e-6, rtol=1e-4)


# ---- what a step computes


def naive_triplet(scores, positives, ignored, row_weight, margin=0.3, n_hard=10, temperature=0.1):
    """Return the loss by loops over rows, positives and negatives."""
    total = weight_sum = 0.0
    for row in range(len(scores)):
        mine = np.flatnonzero(positives[row])
        others = [
            j for j in range(scores.shape[1]) if not positives[row, j] and not ignored[row, j]
        ]
        hard = sorted(others, key=lambda j: -scores[row, j])[:n_hard]
        value = 0.0
        for p in mine:
            hinge = {j: scores[row, j] - scores[row, p] + margin for j in hard}
            active = {j: h for j, h in hinge.items() if h > 0}
            mass = {j: np.exp(scores[row, j] / temperature) for j in active}
            value += sum(mass[j] / sum(mass.values()) * h for j, h in active.items()) / len(mine)
        total += row_weight[row] * value
        weight_sum += row_weight[row]
    return total / weight_sum


@pytest.mark.parametrize("side", SIDES)
def test_a_term_by_loops(side):
    *_, y, edges = problem()
    hidden = csr(np.random.default_rng(3).random(edges[side].shape) < 0.3)
    task = make_task(sides=(side,), hidden={side: hidden})
    rows = np.arange(12)
    task.modules.train()
    pool = task.draw(rows, np.random.default_rng(0))
    (draw,) = pool.draws
    ids = rows if side == "samples" else np.flatnonzero(y[rows].sum(axis=0))
    ids = [i for i in ids if edges[side][[i]].nnz]
    columns = pool.anchors[draw.columns]
    assert set(columns) <= set(edges[side][ids].indices)
    # One anchor of every row has been drawn; it is the positive, all others that are known hide.
    assert draw.positives.sum(axis=1).tolist() == [1] * len(ids)
    vectors = {"samples": task.sample_vectors(), "labels": task.text_vectors()}[side]
    anchors = task.encoder.encode(task.anchors)
    neighbours = edges[side].toarray()[np.ix_(ids, columns)] > 0
    assert (neighbours | ~draw.positives).all()
    assert set(np.argmax(draw.positives, axis=1)) == set(range(len(columns)))
    known = neighbours | (hidden.toarray()[np.ix_(ids, columns)] > 0)
    ignored = known & ~draw.positives
    weight = np.arange(1.0, N + 1)[rows]
    weight = np.ones(len(ids)) if side == "labels" else weight[ids]
    scores = vectors[ids] @ anchors[columns].T
    expected = naive_triplet(scores, draw.positives, ignored, weight)
    task._step = 0  # the same draws once more
    step(task, rows)
    assert expected > 0.01
    assert task.figures.losses[-1][1] == pytest.approx(expected, abs=1e-5)


def test_a_softmax_term_divides_by_the_temperature():
    task = make_task(sides=("samples",), loss=DecoupledSoftmax(temperature=0.2))
    step(task)
    vectors = task.sample_vectors()
    task._step = 0
    pool = task.draw(np.arange(12), np.random.default_rng(0))
    (draw,) = pool.draws
    anchors = task.encoder.encode(task.anchors)[pool.anchors[draw.columns]]
    scores = torch.from_numpy(vectors[draw.rows] @ anchors.T / 0.2)
    value = DecoupledSoftmax()(
        scores,
        torch.from_numpy(draw.positives),
        row_weight=torch.from_numpy(draw.row_weight),
        ignored=torch.from_numpy(draw.ignored),
    )
    assert task.figures.losses[0][1] == pytest.approx(float(value), rel=1e-4)


def test_if_all_columns_are_positives_there_is_no_loss():
    edges = {"samples": csr(np.ones((N, M))), "labels": csr(np.ones((L, M)))}
    task = make_task(edges=edges)
    assert step(task)[0] == step(base_task())[0]
    assert task.figures.losses[-1][1:].tolist() == [0, 0]


def test_an_anchor_drawn_twice_is_one_column_and_no_negative():
    twice = np.zeros((N, M))
    twice[:, 1] = 1
    twice[0, 4] = 1
    task = make_task(sides=("samples",), edges={"samples": csr(twice)})
    (draw,) = task.draw(np.arange(12), np.random.default_rng(0)).draws
    assert len(set(draw.columns)) == len(draw.columns) <= 2
    columns = np.array([1, 4])[: len(draw.columns)]
    known = draw.positives | draw.ignored
    np.testing.assert_array_equal(known, twice[np.ix_(draw.rows, columns)] > 0)


def test_the_schedule_scales_the_weights():
    task = make_task(schedule="fade", weights=2.0)
    trained(task)
    steps = np.array(task.figures.steps)
    done = (np.arange(12) + 0.5) / 12
    np.testing.assert_allclose(steps[:, 1], 2 * (1 - done))
    assert steps[:, 0].tolist() == np.repeat(np.arange(4), 3).tolist()


# ---- pruning


def test_pruning_keeps_what_the_encoder_finds_alike_and_starts_late():
    task = make_task(prune=Pruning(warmup=2, interval=2))
    seen = []

    def start_epoch():
        return lambda record: seen.append([term.edges.nnz for term in task.terms])

    trained(task, start_epoch=start_epoch)
    full = [term.walked.nnz for term in task.terms]
    assert seen[0] == seen[1] == full
    assert seen[2] == seen[3] != full
    assert [row[0] for row in task.figures.survival] == [2]
    task._prune(9, 0.0)
    anchors = task.encoder.encode(task.anchors)
    for term, vectors in zip(task.terms, (task.sample_vectors(), task.text_vectors()), strict=True):
        expected = (term.walked.toarray() > 0) & (vectors @ anchors.T > 0)
        np.testing.assert_array_equal(term.edges.toarray() > 0, expected)
    shares = [term.edges.nnz / term.walked.nnz for term in task.terms]
    np.testing.assert_allclose(task.figures.survival[-1], [9, *shares])


def test_pruning_twice_is_pruning_once_and_edges_can_come_back():
    task = make_task()
    task._prune(0, 0.0)
    first = [term.edges.toarray() for term in task.terms]
    task._prune(0, 0.0)
    assert all(
        np.array_equal(edges, t.edges.toarray()) for edges, t in zip(first, task.terms, strict=True)
    )
    task._prune(0, 1.5)
    assert [term.edges.nnz for term in task.terms] == [0, 0]
    task._prune(0, -1.5)
    assert [term.edges.nnz for term in task.terms] == [term.walked.nnz for term in task.terms]


def test_a_pruned_pair_is_a_negative_later():
    task = make_task(sides=("samples",))
    (term,) = task.terms
    left = term.walked.toarray()
    left[4] = 0
    left[4, term.walked[[4]].indices[0]] = 1
    term.edges = csr(left)
    (draw,) = task.draw(np.arange(12), np.random.default_rng(0)).draws
    row = int(np.flatnonzero(draw.rows == 4)[0])
    assert draw.positives[row].sum() == 1
    assert not draw.ignored[row].any()


def test_after_the_warm_up_an_unlike_draw_drops_its_row():
    task = make_task(sides=("samples",), prune=Pruning(warmup=1))
    task.modules.train()
    found = {}
    for epoch in (0, 1):
        list(task.batches(epoch, np.random.default_rng(0)))
        pool = task.draw(np.arange(12), np.random.default_rng(0))
        (draw,) = pool.draws
        scores = task.sample_vectors()[draw.rows]
        scores = scores @ task.encoder.encode(task.anchors)[pool.anchors[draw.columns]].T
        task.pruning = Pruning(warmup=1, threshold=float(np.median(scores[draw.positives])))
        like = (scores > task.pruning.threshold)[draw.positives]
        assert 0 < like.sum() < len(like)
        keep = like if epoch else np.ones_like(like)
        parts = (part[keep] for part in (scores, draw.positives, draw.ignored, draw.row_weight))
        task._step = 0
        step(task)
        assert task.figures.losses[-1][1] == pytest.approx(naive_triplet(*parts), abs=1e-5)
        found[epoch] = task.figures.losses[-1][1]
    assert found[0] != found[1]


# ---- weights


@pytest.mark.parametrize(
    ("weights", "expected"),
    [(0.25, [0.25, 0.25, 0.25]), ({"tag": (1, 2), "link": (0.0, 3.5)}, [1, 2, 3.5])],
)
def test_fixed_weights(weights, expected):
    names = [("tag", "samples"), ("tag", "labels"), ("link", "labels")]
    terms = [GraphTerm(graph, side, csr(np.eye(2))) for graph, side in names]
    made = make_weights(GraphTerms(weights=weights), terms, seed=0, n_steps=9)
    assert isinstance(made, FixedWeights)
    assert made.weights.tolist() == expected
    assert made.weights.dtype == np.float64


def test_weights_are_a_bandit_by_default():
    terms = [GraphTerm("tag", side, csr(np.eye(2))) for side in SIDES]
    for options in (GraphTerms(), GraphTerms(weights=Bandit())):
        made = make_weights(options, terms, seed=3, n_steps=9)
        assert made.mean.tolist() == [0.3, 0.3]
        assert np.array_equal(made.weights, BanditWeights(2, Bandit(), 3, 9).weights)


def test_the_reward_is_the_accuracy_of_the_task():
    bandit = BanditWeights(2, Bandit(window=1), seed=0, n_steps=12)
    task = make_task(weights=bandit)
    rows = np.arange(12)
    task.modules.train()
    pool = task.draw(rows, np.random.default_rng(0))
    scores = task.sample_vectors()[rows] @ task.text_vectors()[pool.labels].T
    truth = membership(task.y, rows, pool.labels)
    step(task)
    assert bandit.baseline == pytest.approx(truth[rows, scores.argmax(axis=1)].mean())


def test_the_label_with_the_rows_own_text_earns_no_reward():
    bandit = BanditWeights(2, Bandit(window=1), seed=0, n_steps=12)
    task = make_task(weights=bandit)
    rows = np.arange(12)
    task.modules.train()
    pool = task.draw(rows, np.random.default_rng(0))
    truth = membership(task.y, rows, pool.labels)
    best = (task.sample_vectors()[rows] @ task.text_vectors()[pool.labels].T).argmax(axis=1)
    # Let every label that wins wrongly be one that is no answer and no mistake.
    own = np.zeros((N, L), dtype=np.float32)
    own[rows, pool.labels[best]] = ~truth[rows, best]
    task.settings.excluded = csr(own)
    step(task)
    assert bandit.baseline > truth[rows, best].mean()


def test_pruning_forgets_the_baseline():
    bandit = BanditWeights(2, Bandit(window=1), seed=0, n_steps=12)
    task = make_task(weights=bandit, prune=Pruning(warmup=1))
    step(task)
    assert not np.isnan(bandit.baseline)
    task.refresh(0, np.random.default_rng(0))
    assert not np.isnan(bandit.baseline)
    task.refresh(1, np.random.default_rng(0))
    assert np.isnan(bandit.baseline)


# ---- the graph before the task


def first_task(hidden=None, sides=SIDES, batch_size=8, **options):
    """Return the task of the graph before the task of `base_task`."""
    *_, A, _, edges = problem()
    base = base_task(**options)
    terms = [GraphTerm("tag", side, edges[side], (hidden or {}).get(side)) for side in sides]
    return AnchorTask(
        base,
        anchors=base.encoder.prepare(A),
        terms=terms,
        loss=DecoupledSoftmax(temperature=0.1),
        size_of_batches=lambda n_rows: batch_size,
    )


def test_the_loss_of_the_graph_by_loops():
    *_, edges = problem()
    rng = np.random.default_rng(3)
    hidden = {side: csr(rng.random(edges[side].shape) < 0.2) for side in SIDES}
    task = first_task(hidden)
    both = np.vstack([edges[side].toarray() for side in SIDES]) > 0
    hide = np.vstack([hidden[side].toarray() for side in SIDES]) > 0
    rows = np.flatnonzero(both.any(axis=1))
    assert task.rows.tolist() == rows.tolist()
    vectors = np.vstack([task.task.sample_vectors(), task.task.text_vectors()])
    anchors = task.encoder.encode(task.labels)
    weight = np.concatenate([np.arange(1.0, N + 1), np.full(L, (N + 1) / 2)])
    batch = next(iter(task.batches(0, np.random.default_rng(0))))
    ids = rows[batch]
    assert (ids < N).any()
    assert (ids >= N).any(), "one batch has both sides"
    columns = task.draw(batch, np.random.default_rng(0)).labels
    assert np.all(np.isin(columns, np.flatnonzero(both[ids].any(axis=0))))
    assert both[ids][:, columns].any(axis=1).all(), "every row draws an anchor"
    total = 0.0
    for row in ids:
        scores = vectors[row] @ anchors.T / 0.1
        wrong = [j for j in columns if not both[row, j] and not hide[row, j]]
        right = [j for j in columns if both[row, j]]
        losses = [np.log1p(np.exp(scores[wrong] - scores[j]).sum()) for j in right]
        total += weight[row] * np.mean(losses)
    total /= weight[ids].sum()
    total *= weight[ids].mean() / weight[rows].mean()
    assert step(task, batch)[0] == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize(("side", "untouched"), [("samples", 1), ("labels", 0)])
def test_the_graph_moves_the_words_of_its_sides(side, untouched):
    task = first_task(sides=(side,), batch_size=100)
    (batch,) = task.batches(0, np.random.default_rng(0))
    sizes = by_side(step(task, batch)[1])
    assert sizes[untouched] == 0
    assert all(size > 1e-4 for n, size in enumerate(sizes) if n != untouched)
    assert set(task.modules) == {"encoder"}
    assert task.encoder is task.task.encoder


def test_micro_batches_do_not_change_the_gradients_of_the_graph():
    batch = np.arange(12)
    (loss, direct), (other, chunked) = (
        step(first_task(micro_batch_size=size), batch) for size in (None, 5)
    )
    assert loss == pytest.approx(other, abs=1e-6)
    torch.testing.assert_close(chunked, direct, atol=1e-6, rtol=1e-4)


# ---- state


def test_state_resumes_exactly():
    def fresh():
        bandit = BanditWeights(2, Bandit(window=2), seed=0, n_steps=12)
        return make_task(weights=bandit, prune=Pruning(warmup=1), dropout=0.2)

    half = fresh()

    def stop_after_two():
        return lambda record: len(half.figures.steps) >= 6

    train(half, Plan(n_epochs=4, seed=7, start_epoch=stop_after_two))
    other = fresh()
    other.modules.load_state_dict(half.modules.state_dict())
    other.set_state({k: np.array(v) for k, v in half.get_state().items()})
    for a, b in zip(half.terms, other.terms, strict=True):
        np.testing.assert_array_equal(a.edges.toarray(), b.edges.toarray())
        assert a.edges.nnz < a.walked.nnz
    np.testing.assert_array_equal(np.array(half.figures.steps), np.array(other.figures.steps))
    np.testing.assert_array_equal(half.weights.weights, other.weights.weights)
    rows = np.arange(12)
    for task in (half, other):
        list(task.batches(2, np.random.default_rng(1)))
    assert step(half, rows)[0] == step(other, rows)[0]
