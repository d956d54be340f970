import numpy as np
import pytest
import scipy.sparse as sp

from skxc.linear import Solver, search, train_trees
from skxc.linear import _train as module
from skxc.linear._tree import flat_tree
from tests.linear.models import SETTINGS, small_problem, small_tree, train


def assert_same(one, other):
    for name, a, b in zip(one.arrays._fields, one.arrays, other.arrays, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
def test_threads_do_not_change_the_model(loss):
    X, y = small_problem()
    tree = small_tree(X, y)
    models = [train(tree, X, y, loss=loss, n_jobs=n_jobs) for n_jobs in (1, 2, 4)]
    assert_same(models[0], models[1])
    assert_same(models[0], models[2])


def test_nodes_see_their_own_rows_only():
    X, y = small_problem()
    tree = small_tree(X, y)
    model = train(tree, X, y)
    # A row without labels is a negative of the root's children and of no others.
    y_more = sp.csr_array(sp.vstack([y, sp.csr_array((1, y.shape[1]))]))
    X_more = sp.csr_array(sp.vstack([X, X[[0]]]))
    wider = train(tree, X_more, y_more, sample_weight=np.ones(121))
    n_top = tree.child_start[1]
    assert (model.bias[1:n_top] != wider.bias[1:n_top]).all()
    np.testing.assert_array_equal(model.bias[n_top:], wider.bias[n_top:])


def test_weights_repeat_rows_and_labels():
    X, y = small_problem()
    tree = small_tree(X, y)
    exact = {"solver": Solver(tol=1e-3, max_iter=1000, prune=0.0)}
    weight = np.random.default_rng(0).integers(1, 3, 120)
    weighted = train(tree, X, y, sample_weight=weight.astype(float), **exact)
    often = np.repeat(np.arange(120), weight)
    repeated = train(tree, X[often], y[often], sample_weight=np.ones(len(often)), **exact)
    np.testing.assert_allclose(weighted.bias, repeated.bias, atol=0.01)
    twice = train(tree, X, y, sample_weight=np.full(120, 2.0), **exact)
    assert_same(twice, train(tree, X, y, C=2.0, **exact))
    factor = np.ones(23, np.float32)
    factor[3] = 5
    plain, heavy = train(tree, X, y, **exact), train(tree, X, y, label_weight=factor, **exact)
    changed = np.flatnonzero(plain.bias != heavy.bias) - len(plain.first_child)
    assert plain.labels[changed].tolist() == [3]


def test_flat_blocks():
    # More labels than one block has.
    X, y = small_problem(n_labels=150)
    labels = np.unique(y.indices).astype(np.int64)
    ones = np.ones(150, np.float32)
    model = train(flat_tree(labels), X, y, label_weight=ones, solver=Solver())
    indices, scores = search(model, X, 150, beam_width=1, loss="squared_hinge")
    assert (np.sort(indices[:, : len(labels)], axis=1) == labels).all()
    assert (indices[:, len(labels) :] == -1).all()
    hits = y[np.arange(120), indices[:, 0]]
    assert hits.mean() > 0.9
    for label in labels[::40]:
        one = sp.csr_array(y[:, [label]])
        alone = train(flat_tree(np.array([0])), X, one, label_weight=ones[:1], solver=Solver())
        row, column = np.nonzero(indices == label)
        _, expected = search(alone, X, 1, beam_width=1, loss="squared_hinge")
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


def test_several_trees_are_one_model():
    X, y = small_problem()
    labels = np.unique(y.indices).astype(np.int64)
    # The second tree has no inner node but its root.
    trees = [(small_tree(X, y, 0), 0), (flat_tree(labels), 1), (small_tree(X, y, 1), 2)]
    joined, n_iter = train_trees(trees, X, y, **SETTINGS)
    alone = [train_trees([tree], X, y, **SETTINGS) for tree in trees]
    assert n_iter == max(passes for _, passes in alone)
    settings = {"beam_width": 50, "loss": "logistic"}
    total = np.zeros((120, 23))
    for model, _ in alone:
        indices, scores = search(model, X, 23, **settings)
        rows, places = np.nonzero(indices >= 0)
        total[rows, indices[rows, places]] += np.exp(scores[rows, places]) / 3
    indices, scores = search(joined, X, 22, **settings)
    np.testing.assert_allclose(
        np.exp(scores), np.take_along_axis(total, indices.astype(int), axis=1), rtol=1e-4
    )
    assert (np.diff(scores, axis=1) <= 0).all()
