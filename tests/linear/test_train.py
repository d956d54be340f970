import numpy as np
import pytest
import scipy.sparse as sp

from skxc.linear import Solver, flat_tree, join_models, search
from skxc.linear import _train as module
from tests.linear.models import random_model, small_problem, trainer


def assert_same(one, other):
    for name, a, b in zip(
        type(one).__dataclass_fields__, one.arrays(), other.arrays(), strict=True
    ):
        np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize("method", ["train", "train_matched"])
@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
def test_threads_do_not_change_the_model(method, loss):
    X, y = small_problem()
    arguments = () if method == "train" else (2,)
    models = [
        getattr(trainer(X, y, solver=Solver(loss=loss), n_jobs=n_jobs), method)(*arguments)
        for n_jobs in (1, 2, 4)
    ]
    assert_same(models[0], models[1])
    assert_same(models[0], models[2])


def test_nodes_see_their_own_rows_only():
    X, y = small_problem()
    work = trainer(X, y)
    model = work.train()
    # A row without labels is a negative of the root's children and of no others.
    y_more = sp.csr_array(sp.vstack([y, sp.csr_array((1, y.shape[1]))]))
    X_more = sp.csr_array(sp.vstack([X, X[[0]]]))
    more = trainer(X, y)
    wider = module.TreeTrainer(
        more.tree,
        X_more,
        y_more,
        sample_weight=np.ones(121),
        label_weight=np.ones(23, np.float32),
        solver=work.solver,
        seed=0,
    ).train()
    n_top = work.tree.child_start[1]
    assert (model.bias[1:n_top] != wider.bias[1:n_top]).all()
    np.testing.assert_array_equal(model.bias[n_top:], wider.bias[n_top:])


def test_matched_rows_join_the_others():
    X, y = small_problem()
    plain, matched = trainer(X, y), trainer(X, y)
    before = plain.train()
    after = matched.train_matched(2)
    indptr, rows = matched.members
    grown = 0
    for node in range(plain.tree.n_inner):
        old = set(plain.members[1][slice(*plain.members[0][node : node + 2])])
        new = rows[slice(*indptr[node : node + 2])].tolist()
        assert sorted(set(new)) == new
        assert old <= set(new)
        grown += len(new) - len(old)
    assert grown > 0
    # Every row is in at most two more nodes per level, and in two at least.
    for begin, end in zip(
        matched.tree.level_starts[1:-1], matched.tree.level_starts[2:], strict=True
    ):
        of_level = np.repeat(np.arange(end), np.diff(indptr[: end + 1]))
        counts = np.bincount(rows[: indptr[end]][of_level >= begin], minlength=120)
        assert counts.min() >= 2
    n_top = plain.tree.child_start[1]
    np.testing.assert_array_equal(before.bias[:n_top], after.bias[:n_top])
    assert (before.bias[n_top:] != after.bias[n_top:]).any()


def test_weights_repeat_rows_and_labels():
    X, y = small_problem()
    solver = Solver(tol=1e-3, max_iter=1000, prune=0.0)
    rng = np.random.default_rng(0)
    weight = rng.integers(1, 3, 120)
    weighted = trainer(X, y, solver=solver, sample_weight=weight.astype(float))
    often = np.repeat(np.arange(120), weight)
    repeated = module.TreeTrainer(
        weighted.tree,
        X[often],
        y[often],
        sample_weight=np.ones(len(often)),
        label_weight=np.ones(23, np.float32),
        solver=solver,
        seed=0,
    )
    np.testing.assert_allclose(weighted.train().bias, repeated.train().bias, atol=0.01)
    factor = np.ones(23, np.float32)
    factor[3] = 5
    plain = trainer(X, y, solver=solver).train()
    heavy = trainer(X, y, solver=solver, label_weight=factor).train()
    changed = np.flatnonzero(plain.bias != heavy.bias) - len(plain.first_child)
    assert plain.labels[changed].tolist() == [3]


def test_flat_blocks():
    # More labels than one block has.
    X, y = small_problem(n_labels=150)
    labels = np.unique(y.indices).astype(np.int64)
    settings = {
        "sample_weight": np.ones(120),
        "label_weight": np.ones(150, np.float32),
        "solver": Solver(),
        "seed": 0,
    }
    model = module.TreeTrainer(flat_tree(labels), X, y, **settings).train()
    indices, scores = search(model, X, 150, beam_size=1, loss="squared_hinge")
    assert (np.sort(indices[:, : len(labels)], axis=1) == labels).all()
    assert (indices[:, len(labels) :] == -1).all()
    hits = y[np.arange(120), indices[:, 0]]
    assert hits.mean() > 0.9
    for label in labels[::40]:
        one = sp.csr_array(y[:, [label]])
        alone = module.TreeTrainer(
            flat_tree(np.array([0])),
            X,
            one,
            **(settings | {"label_weight": np.ones(1, np.float32)}),
        ).train()
        row, column = np.nonzero(indices == label)
        _, expected = search(alone, X, 1, beam_size=1, loss="squared_hinge")
        np.testing.assert_allclose(scores[row, column], expected[:, 0], rtol=1e-5, atol=1e-6)


def test_parts_are_balanced_and_complete():
    rng = np.random.default_rng(0)
    for n_jobs in (1, 2, 5):
        work = rng.random(400)
        parts = module._parts(work, n_jobs)
        assert np.concatenate(parts).tolist() == list(range(400))
        if n_jobs > 1:
            assert len(parts) == 8 * n_jobs
            assert max(work[part].sum() for part in parts) < 1.3 * work.sum() / len(parts)
    assert [part.tolist() for part in module._parts(np.zeros(3), 2)] == [[0, 1, 2]]


def test_join_models():
    models = [random_model(seed)[1] for seed in range(3)]
    assert join_models(models[:1]) is models[0]
    joined = join_models(models)
    X = small_problem(4)[0]
    settings = {"beam_size": 50, "loss": "logistic"}
    total = np.zeros((120, 23))
    for model in models:
        indices, scores = search(model, X, 23, **settings)
        rows, places = np.nonzero(indices >= 0)
        total[rows, indices[rows, places]] += np.exp(scores[rows, places]) / 3
    indices, scores = search(joined, X, 22, **settings)
    np.testing.assert_allclose(
        np.exp(scores), np.take_along_axis(total, indices.astype(int), axis=1), rtol=1e-4
    )
    assert (np.diff(scores, axis=1) <= 0).all()
