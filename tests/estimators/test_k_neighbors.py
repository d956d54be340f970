import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone

import skxc
from skxc import KNeighborsXC
from skxc.estimators import _k_neighbors
from skxc.indices import ExactIndex, FaissIndex, VectorSearch
from tests.toys import small_data


def naive_votes(X, train, y, weight, n_neighbors, power):
    """Return dense (n, L) votes by loops; rows of `train` are all different."""
    votes = np.zeros((len(X), y.shape[1]))
    for row, x in enumerate(X):
        similarity = []
        for i, other in enumerate(train):
            norms = np.linalg.norm(x) * np.linalg.norm(other)
            similarity.append((-(x @ other) / norms if norms else 0.0, i))
        for minus, i in sorted(similarity)[:n_neighbors]:
            if -minus > 1e-9:
                votes[row] += weight[i] * (-minus) ** power * y[i]
    return votes


def problem(kind, seed=0):
    """Return (X, train, y): text-like with many zeros, or dense with negative values."""
    rng = np.random.default_rng(seed)
    train, X = rng.normal(size=(25, 10)), rng.normal(size=(12, 10))
    if kind == "sparse":
        train, X = np.maximum(train - 0.3, 0), np.maximum(X - 0.3, 0)
    return X, train, (rng.random((25, 6)) < 0.3).astype(int)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize(
    ("n_neighbors", "power"), [(1, 1.0), (5, 1.0), (5, 0.0), (20, 2.5), (99, 1), (99, 0)]
)
def test_votes(kind, n_neighbors, power):
    X, train, y = problem(kind)
    weight = np.random.default_rng(1).integers(1, 4, size=25)
    model = KNeighborsXC(n_neighbors=n_neighbors, power=power)
    model.fit(sp.csr_array(train), sp.csr_array(y), sample_weight=weight)
    assert sp.issparse(model.samples_) == (kind == "sparse")
    expected = naive_votes(X, train, y, weight, n_neighbors, power)
    scores = model.decision_function(sp.csr_array(X))
    np.testing.assert_allclose(scores.toarray(), expected, rtol=1e-5)
    assert scores.nnz == np.count_nonzero(expected)


@pytest.mark.parametrize(
    "index", ["hnsw", "ivf", FaissIndex("ivf", n_cells=4, n_probes=4), ExactIndex()]
)
def test_indices_over_dense_rows(index, tmp_path):
    """On so few rows, approximate search finds all neighbours."""
    X, train, y = problem("dense")
    exact = KNeighborsXC(n_neighbors=5).fit(train, sp.csr_array(y)).decision_function(X)
    model = KNeighborsXC(n_neighbors=5, index=index).fit(train, sp.csr_array(y))
    found = model.decision_function(X)
    np.testing.assert_allclose(found.toarray(), exact.toarray(), rtol=1e-4, atol=1e-6)
    # The index itself is no part of a pickle.
    assert "_built" in vars(model.samples_)
    assert "_built" not in vars(pickle.loads(pickle.dumps(model)).samples_)
    model.save(tmp_path / "model")
    for again in (clone(model).fit(train, sp.csr_array(y)), skxc.load(tmp_path / "model")):
        np.testing.assert_array_equal(again.decision_function(X).toarray(), found.toarray())


def test_what_may_be_changed_after_fit():
    """Votes follow their parameters; the index acts at the next fit."""
    X, train, y = problem("dense")
    changed = {"n_neighbors": 3, "power": 2.0}
    expected = KNeighborsXC(**changed).fit(train, sp.csr_array(y)).decision_function(X).toarray()
    model = KNeighborsXC(n_neighbors=5, index="exact").fit(train, sp.csr_array(y))
    before = model.decision_function(X).toarray()
    model.set_params(index="hnsw")
    np.testing.assert_array_equal(model.decision_function(X).toarray(), before)
    assert not isinstance(model.samples_, VectorSearch)
    model.set_params(**changed)
    np.testing.assert_array_equal(model.decision_function(X).toarray(), expected)
    assert (expected != before).any()
    # No held-out rows are kept to give the new votes their probabilities.
    with pytest.raises(ValueError, match=r"'power'.*changed after fit, and no held-out rows"):
        model.predict_proba(X)
    model.fit(train[:20], sp.csr_array(y[:20]))
    assert model.model_.index == "hnsw"
    assert len(model.samples_) == 20


def test_held_out_rows_calibrate_changed_votes():
    X, Y, _ = small_data(n=300, n_labels=10)
    model = KNeighborsXC(calibration="held_out").fit(X, Y)
    first = model.predict_proba(X)
    second = model.set_params(power=3.0).predict_proba(X)
    assert second.shape == first.shape
    assert model._current_calibrator() is not model.calibrator_
    np.testing.assert_array_equal(
        model.set_params(power=1.0).predict_proba(X).toarray(), first.toarray()
    )


def test_sparse_rows_are_searched_exactly():
    _, train, y = problem("sparse")
    with pytest.raises(ValueError, match=r'`index` must be "exact" for rows of which most'):
        KNeighborsXC(index="hnsw").fit(sp.csr_array(train), sp.csr_array(y))


def test_top_k_labels_are_the_best():
    X, train, y = problem("sparse")
    full = KNeighborsXC().fit(train, sp.csr_array(y)).decision_function(X).toarray()
    few = KNeighborsXC(top_k=2).fit(train, sp.csr_array(y)).decision_function(X)
    for row in range(len(X)):
        kept = np.argsort(-full[row], kind="stable")[:2]
        kept = sorted(kept[full[row, kept] > 0])
        assert few.indices[slice(*few.indptr[row : row + 2])].tolist() == kept


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("cells", [1, 100])
def test_blocks_change_nothing(monkeypatch, kind, cells):
    X, train, y = problem(kind)
    model = KNeighborsXC().fit(train, sp.csr_array(y))
    whole = model.decision_function(X).toarray()
    monkeypatch.setattr(_k_neighbors, "BLOCK_CELLS", cells)
    np.testing.assert_array_equal(whole, model.decision_function(X).toarray())


def test_all_rows_are_kept():
    X, Y, _ = small_data(n=3000, n_labels=30)
    model = KNeighborsXC(n_neighbors=3).fit(X, Y)
    assert model.votes_.shape == (3000, 30)
    assert model.samples_.shape == (16, 3000)


def test_rows_without_neighbours_get_nothing():
    train = sp.csr_array(np.array([[1.0, 0, 0], [0, 1.0, 0]]))
    model = KNeighborsXC().fit(train, sp.csr_array(np.eye(2, dtype=int)))
    X = np.array([[0.0, 0, 1], [0, 0, 0], [0, 2, 0]])
    assert model.decision_function(X).toarray().tolist() == [[0, 0], [0, 0], [0, 1]]
    assert model.predict_topk(X, 1)[0].ravel().tolist() == [-1, -1, 1]
    assert model.predict_labels(X) == [[], [], [1]]


@pytest.mark.parametrize(
    "params", [{"n_neighbors": 0}, {"power": -1}, {"n_neighbors": 2.0}, {"index": "nearest"}]
)
def test_parameters_are_checked(params):
    with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter of KNeighborsXC"):
        KNeighborsXC(**params).fit(np.eye(2), np.eye(2))


@pytest.mark.slow
def test_memory_stays_far_below_a_dense_answer():
    import tracemalloc

    rng = np.random.default_rng(0)
    n, n_labels = 20_000, 100_000
    rows = np.repeat(np.arange(n), 10)
    X = sp.csr_array((np.ones(10 * n), (rows, rng.integers(0, 5000, 10 * n))), shape=(n, 5000))
    y = sp.csr_array(
        (np.ones(n), (np.arange(n), rng.integers(0, n_labels, n))), shape=(n, n_labels)
    )
    tracemalloc.start()
    model = KNeighborsXC().fit(X, y)
    model.predict(X[:2000])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * n * n_labels * 4
