import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

from skxc.batching import ClusteredBatches, UniformBatches  # noqa: E402
from skxc.indices import ExactIndex  # noqa: E402
from skxc.losses import DecoupledSoftmax, Triplet  # noqa: E402
from skxc.negatives import AllLabels, InBatch, Mined  # noqa: E402
from skxc.training import HeldOut, PoolSettings, PoolTask  # noqa: E402

CPU = torch.device("cpu")
Y = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 1]])
WEIGHT = np.array([1.0, 2.0, 3.0, 4.0])
# 1 - 2 both ways, 2 -> 4, 5 -> 0, labels 0 and 3 and 4 without neighbours of their own.
GRAPH = np.zeros((6, 6), dtype=np.float32)
GRAPH[1, 2], GRAPH[2, 1], GRAPH[2, 4], GRAPH[5, 0] = 0.5, 0.5, 2.0, 3.0


def search(queries, vectors, k):
    index = ExactIndex()
    index.add(vectors)
    return index.search(queries, k)


def settings(**options):
    defaults = {
        "loss": DecoupledSoftmax(temperature=0.5),
        "negatives": InBatch(),
        "batches": UniformBatches(4, 2),
        "search": search,
    }
    return PoolSettings(**{**defaults, **options})


def task(y=Y, weight=WEIGHT, cls=PoolTask, **options):
    matrix = sp.csr_array(np.asarray(y, dtype=np.float32))
    return cls(settings(**options), y=matrix, sample_weight=weight, device=CPU)


def rng(seed=0):
    return np.random.default_rng(seed)


def draw(rows, seed=0, **options):
    return task(**options).draw(np.array(rows), rng(seed))


def graph(matrix=GRAPH):
    return sp.csr_array(matrix)


def test_a_pool_has_complete_targets():
    pool = draw([0, 3])
    assert pool.labels.tolist() == [0, 1, 5]
    assert pool.positives.tolist() == [[True, True, False], [False, True, True]]
    assert pool.row_weight.tolist() == [1, 4]
    assert pool.row_weight.dtype == np.float32
    assert pool.ignored is None
    assert pool.positive_weight is None
    assert len(pool.queries) == 0


@pytest.mark.parametrize("seed", range(5))
def test_few_positives_enter_but_all_that_are_in_count(seed):
    """n_positives decides which labels enter the pool, not which count."""
    pool = draw([0, 3], seed, negatives=InBatch(n_positives=1))
    assert 1 <= len(pool.labels) <= 2
    np.testing.assert_array_equal(pool.positives, Y[[0, 3]][:, pool.labels] > 0)


def test_all_labels():
    pool = draw([2, 1], negatives=AllLabels())
    assert pool.labels.tolist() == list(range(6))
    np.testing.assert_array_equal(pool.positives, Y[[2, 1]] > 0)


def naive_mask(rows, labels, neighbours):
    """Return which cells neighbour a positive of their row, positives excepted, by loops."""
    mask = np.zeros((len(rows), len(labels)), dtype=bool)
    for i, row in enumerate(rows):
        for j, label in enumerate(labels):
            near = any(Y[row, p] and neighbours[p, label] for p in range(6))
            mask[i, j] = near and not Y[row, label]
    return mask


@pytest.mark.parametrize("negatives", [InBatch(), AllLabels()])
@pytest.mark.parametrize("rows", [[0, 1], [3, 1, 0], [2, 1]])
def test_neighbours_of_positives_are_masked(negatives, rows):
    pool = draw(rows, negatives=negatives, graph=graph(), mask_neighbors=True)
    expected = naive_mask(rows, pool.labels, GRAPH)
    if not expected.any():
        assert pool.ignored is None  # no mask at all is cheaper than an empty one
        return
    np.testing.assert_array_equal(pool.ignored, expected)
    assert not (pool.ignored & pool.positives).any()


def test_a_neighbour_that_is_a_positive_stays_one():
    near = np.zeros((6, 6))
    near[0, 1] = 1  # both are positives of row 0
    pool = draw([0], negatives=AllLabels(), graph=graph(near), mask_neighbors=True)
    assert pool.positives[0].tolist() == [True, True, False, False, False, False]
    assert pool.ignored is None or not pool.ignored.any()


def test_masking_removes_cells_and_nothing_else():
    """The loss and its gradients are those of a loop over the cells that are left."""
    tests = task(negatives=AllLabels(), graph=graph(), mask_neighbors=True)
    pool = tests.draw(np.array([0, 1, 3]), rng())
    assert pool.ignored.any()
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(3, 4, generator=generator).requires_grad_()
    labels = torch.randn(6, 4, generator=generator).requires_grad_()
    loss = tests.pool_loss(queries, labels, pool)
    total, mass = 0.0, 0.0
    for i, row in enumerate([0, 1, 3]):
        scores = [queries[i] @ labels[j] / 0.5 for j in range(6)]
        negatives = [j for j in range(6) if not Y[row, j] and not pool.ignored[i, j]]
        positives = [j for j in range(6) if Y[row, j]]
        value = 0.0
        for p in positives:
            others = torch.stack([scores[p], *(scores[j] for j in negatives)])
            value = value + (torch.logsumexp(others, 0) - scores[p]) / len(positives)
        total, mass = total + WEIGHT[row] * value, mass + WEIGHT[row]
    total = total * float(WEIGHT[[0, 1, 3]].mean() / WEIGHT.mean())
    torch.testing.assert_close(loss, total / mass)
    actual = torch.autograd.grad(loss, [queries, labels], retain_graph=True)
    expected = torch.autograd.grad(total / mass, [queries, labels])
    for first, second in zip(actual, expected, strict=True):
        torch.testing.assert_close(first, second)


def test_losses_of_cosines_get_cosines():
    tests = task(loss=Triplet(margin=0.3), negatives=AllLabels())
    pool = tests.draw(np.array([1]), rng())
    queries, labels = torch.eye(6)[:1], torch.eye(6)
    # Positive cosine 0 (label 2), one negative with cosine 1 (label 0): a hinge near 1.3.
    assert 0.3 <= float(tests.pool_loss(queries, labels, pool)) <= 1.3


def test_excluded_pairs_are_neither_positive_nor_negative():
    excluded = sp.csr_array(np.eye(4, 6, k=2))  # rows 0..3 with labels 2..5
    pool = draw([0, 3, 2], negatives=AllLabels(), excluded=excluded)
    expected = np.zeros((3, 6), dtype=bool)
    expected[0, 2] = expected[2, 4] = True  # label 5 is a positive of row 3 and stays one
    np.testing.assert_array_equal(pool.ignored, expected)
    both = draw(
        [0, 1], negatives=AllLabels(), excluded=excluded, graph=graph(), mask_neighbors=True
    )
    expected = naive_mask([0, 1], range(6), GRAPH)
    expected[0, 2] = expected[1, 3] = True
    np.testing.assert_array_equal(both.ignored, expected)
    assert draw([1], excluded=excluded).ignored is None, "its pool has no such pair"


# ---- label texts as queries


def test_label_texts_are_queries():
    pool = draw([0, 1], graph=graph(), graph_weight=0.25, seed=3)
    # round(2 rows * 6 labels / 4 samples) = 3 queries are wanted, 2 rows are the most.
    assert len(pool.queries) == 2
    assert set(pool.queries) <= {1, 2, 5}
    assert pool.row_weight.tolist() == [1, 2, 0.25 * 1.5, 0.25 * 1.5]
    assert pool.positives.shape == pool.ignored.shape == pool.positive_weight.shape
    for i, query in enumerate(pool.queries):
        for j, label in enumerate(pool.labels):
            assert pool.positives[2 + i, j] == (GRAPH[query, label] > 0)
            assert pool.ignored[2 + i, j] == (query == label)
            if pool.positives[2 + i, j]:
                assert pool.positive_weight[2 + i, j] == GRAPH[query, label]
    assert (pool.positive_weight[:2] == 1).all()
    assert pool.positives[2:].any(axis=1).all(), "a neighbour of every query enters the pool"


@pytest.mark.parametrize("seed", range(8))
def test_the_own_label_takes_no_part(seed):
    pool = draw([0, 1, 3], seed, graph=graph(), graph_weight=1.0, negatives=AllLabels())
    for i, query in enumerate(pool.queries):
        assert not pool.positives[3 + i, query]
        assert pool.ignored[3 + i, query]


@pytest.mark.parametrize("seed", range(8))
def test_where_queries_have_other_parameters_the_own_label_is_a_positive(seed):
    class Heads(PoolTask):
        own_label_is_positive = True

    for negatives in (InBatch(), AllLabels()):
        pool = task(cls=Heads, graph=graph(), graph_weight=1.0, negatives=negatives).draw(
            np.array([0, 1]), rng(seed)
        )
        for i, query in enumerate(pool.queries):
            assert query in pool.labels
            cell = 2 + i, np.searchsorted(pool.labels, query)
            assert pool.positives[cell]
            assert pool.positive_weight[cell] == 1
        assert not pool.ignored[2:].any()


def test_labels_without_neighbours_are_never_queries():
    drawn = {q for s in range(30) for q in draw([0, 1], s, graph=graph(), graph_weight=1.0).queries}
    assert drawn == {1, 2, 5}


def test_few_labels_make_few_queries():
    tall = np.tile(Y, (10, 1))
    pool = task(tall, np.ones(40), graph=graph(), graph_weight=1.0).draw(np.arange(20), rng())
    assert len(pool.queries) == 3  # 20 rows * 6 labels / 40 samples


def test_without_weight_or_mask_a_graph_changes_nothing():
    plain, with_graph = (
        task(negatives=InBatch(n_positives=1), graph=each) for each in (None, graph())
    )
    for seed in range(5):
        first, second = (each.draw(np.array([0, 3, 1]), rng(seed)) for each in (plain, with_graph))
        assert first.labels.tolist() == second.labels.tolist()
        assert second.ignored is None
        assert len(second.queries) == 0


def test_masking_and_queries_together():
    pool = draw([0, 1], graph=graph(), graph_weight=1.0, mask_neighbors=True, negatives=AllLabels())
    np.testing.assert_array_equal(pool.ignored[:2], naive_mask([0, 1], range(6), GRAPH))
    np.testing.assert_array_equal(pool.ignored[2:], np.equal.outer(pool.queries, np.arange(6)))


# ---- report, refreshing, evaluation, state


class Vectors(PoolTask):
    """Fixed vectors: rows and labels on a circle."""

    def sample_vectors(self, samples=None):
        return samples if samples is not None else np.eye(4, 6, dtype=np.float32)

    def label_vectors(self):
        return np.eye(6, dtype=np.float32)


def test_report():
    tests = task(graph=graph(), graph_weight=1.0, mask_neighbors=True)
    pools = [tests.draw(np.array(rows), rng(i)) for i, rows in enumerate(([0, 1], [3], [2, 1]))]
    report = tests.report
    assert (report.n_steps, report.n_rows) == (3, 5)
    assert report.pool_size == sum(len(pool.labels) for pool in pools)
    n_rows = [2, 1, 2]
    assert report.positives == sum(
        p.positives[:n].sum() for p, n in zip(pools, n_rows, strict=True)
    )
    assert report.masked == sum(p.ignored[:n].sum() for p, n in zip(pools, n_rows, strict=True)) > 0
    assert report.cells == sum(n * len(p.labels) for p, n in zip(pools, n_rows, strict=True))
    assert type(report).from_array(report.as_array()) == report


def test_refreshing_is_due_when_batches_or_negatives_say_so():
    batches = ClusteredBatches(4, 2, refresh_every=2, growth=(1,))
    tests = task(cls=Vectors, batches=batches, negatives=Mined(refresh_every=3, depth=2))
    for epoch, n in ((0, 0), (1, 0), (2, 1), (3, 2), (5, 2), (6, 3)):
        tests.refresh(epoch, rng())
        assert tests.report.n_refreshes == n
    # The best labels of row i are i and the lowest other; its own labels are no negatives.
    mined = tests.settings.negatives.get_state()["candidates"]
    for row in range(4):
        assert not {label for label in mined[row] if label >= 0} & set(np.flatnonzero(Y[row]))


def test_precision_on_held_out_rows():
    matrix = sp.csr_array(Y.astype(np.float32))
    samples = np.eye(6, dtype=np.float32)[[0, 5, 3, 1]]  # found: labels 0, 5, 3, 1
    samples[1, 2] = 0.5  # behind label 5 comes label 2, which is right
    own = sp.csr_array((np.ones(1, np.float32), ([1], [5])), shape=Y.shape)
    for pairs, expected in ((None, 0.5), (own, 0.75)):
        watched = HeldOut(samples, matrix, np.ones(matrix.shape[0]), pairs)
        tests = Vectors(settings(), y=matrix, sample_weight=WEIGHT, device=CPU, held_out=watched)
        assert tests.evaluate() == expected


def test_precision_on_held_out_rows_is_weighted():
    matrix = sp.csr_array(Y.astype(np.float32))
    samples = np.eye(6, dtype=np.float32)[[0, 5, 3, 1]]  # right: rows 0 and 3
    for weight, expected in (([1, 1, 1, 1], 0.5), ([5, 1, 1, 1], 0.75), ([1, 6, 1, 0], 1 / 8)):
        watched = HeldOut(samples, matrix, np.array(weight, dtype=float))
        tests = Vectors(settings(), y=matrix, sample_weight=WEIGHT, device=CPU, held_out=watched)
        assert tests.evaluate() == pytest.approx(expected)


def test_a_batch_counts_in_the_epoch_as_it_weighs():
    """A mean over the batch alone gives a batch of tiny weights the gradient of any other."""
    gradients = []
    for weight in ([1.0, 1.0, 1.0, 1.0], [1e-3, 1e-3, 1.999, 1.999], [2.0, 2.0, 2.0, 2.0]):
        tests = task(weight=np.array(weight))
        vectors = torch.eye(6)[:2].clone().requires_grad_()
        pool = tests.draw(np.array([0, 1]), rng())
        labels = torch.eye(6)[pool.labels] + 0.1
        tests.pool_loss(vectors, labels, pool).backward()
        gradients.append(vectors.grad)
    torch.testing.assert_close(gradients[1], gradients[0] * 1e-3)
    torch.testing.assert_close(gradients[2], gradients[0])


def test_state_round_trip():
    options = {"negatives": Mined(refresh_every=1), "graph": graph()}
    first = task(cls=Vectors, batches=ClusteredBatches(4, 2, growth=(1,)), **options)
    first.refresh(5, rng())
    first.draw(np.array([0, 3]), rng())
    second = task(
        cls=Vectors,
        batches=ClusteredBatches(4, 2, growth=(1,)),
        negatives=Mined(refresh_every=1),
        graph=graph(),
    )
    second.set_state({name: array.copy() for name, array in first.get_state().items()})
    assert second.report == first.report
    for seed in range(4):
        one, two = (each.draw(np.array([0, 3]), rng(seed)) for each in (first, second))
        assert one.labels.tolist() == two.labels.tolist()
    for one, two in zip(first.batches(6, rng()), second.batches(6, rng()), strict=True):
        assert one.tolist() == two.tolist()


def test_what_a_task_must_write():
    for call in (task().sample_vectors, task().label_vectors):
        with pytest.raises(NotImplementedError):
            call()
