import sys

import numpy as np
import pytest

from skxc.indices import ExactIndex, FaissIndex

faiss = pytest.importorskip("faiss")


def clustered_vectors(n, d=16, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((20, d))
    vectors = centres[rng.integers(0, 20, n)] + 0.5 * rng.standard_normal((n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def recall(index, vectors, queries, k=10):
    exact = ExactIndex()
    exact.add(vectors)
    pairs = zip(index.search(queries, k)[0], exact.search(queries, k)[0], strict=True)
    return np.mean([len(set(found) & set(true)) / k for found, true in pairs])


@pytest.mark.parametrize(
    ("index", "bound"),
    [(FaissIndex("hnsw"), 0.98), (FaissIndex("ivf", n_probes=20), 0.8)],
    ids=["hnsw", "ivf"],
)
def test_recall(index, bound):
    vectors, queries = clustered_vectors(3000), clustered_vectors(100, seed=1)
    index.add(vectors)
    assert recall(index, vectors, queries) > bound


def test_effort_raises_recall():
    vectors, queries = clustered_vectors(3000), clustered_vectors(100, seed=1)
    for low, high in [
        (FaissIndex("ivf", n_probes=1), FaissIndex("ivf", n_probes=300)),
        (FaissIndex("hnsw", n_links=4, search_width=10), FaissIndex("hnsw")),
        (FaissIndex("ivf", n_cells=1000, n_probes=2), FaissIndex("ivf", n_cells=2, n_probes=2)),
    ]:
        low.add(vectors)
        high.add(vectors)
        assert recall(low, vectors, queries) < recall(high, vectors, queries)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_recall_after_removal(kind):
    vectors, queries = clustered_vectors(2000), clustered_vectors(50, seed=1)
    index = FaissIndex(kind, n_probes=100)
    index.add(vectors)
    removed = np.random.default_rng(0).choice(2000, 1000, replace=False)
    index.remove(removed)
    ids, _ = index.search(queries, 10)
    assert not np.isin(ids, removed).any()
    exact = ExactIndex()
    exact.add(vectors)
    exact.remove(removed)
    truth, _ = exact.search(queries, 10)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids, truth, strict=True)]) > 0.95


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_building_is_deterministic(kind):
    vectors, queries = clustered_vectors(3000), clustered_vectors(40, seed=1)
    results = []
    for _ in range(2):
        index = FaissIndex(kind, n_links=4, search_width=10, n_probes=3)
        index.add(vectors[:2000])
        index.add(vectors[2000:])
        results.append(index.search(queries, 10))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_number_of_threads_is_restored(monkeypatch):
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(before + 1)
    try:
        index = FaissIndex("hnsw")
        index.add(np.eye(4))
        monkeypatch.setattr(index._index, "add", lambda vectors: 1 / 0, raising=False)
        with pytest.raises(ZeroDivisionError):
            index.add(np.eye(4))
        assert faiss.omp_get_max_threads() == before + 1
    finally:
        faiss.omp_set_num_threads(before)
    assert index.n_items == 4


def test_few_vectors_write_nothing(capfd):
    index = FaissIndex("ivf")
    index.add(clustered_vectors(30))
    index.search(clustered_vectors(2, seed=1), 3)
    assert capfd.readouterr() == ("", "")


def test_graph_found_less_than_k_is_padded():
    """A search that is cut short pads: two components of which one is reached."""
    index = FaissIndex("ivf", n_cells=4, n_probes=1)
    index.add(np.repeat(np.eye(4, dtype=np.float32), 5, axis=0))
    ids, scores = index.search(np.eye(4)[:1], 20)
    n_found = (ids[0] >= 0).sum()
    assert 5 <= n_found < 20
    np.testing.assert_array_equal(ids[0, :5], np.arange(5))
    assert (ids[0, n_found:] == -1).all()
    assert (scores[0, n_found:] == -np.inf).all()


@pytest.mark.parametrize("name, value", [("kind", "tree"), ("n_links", 0), ("n_probes", None)])
def test_parameters_are_checked_before_anything_is_added(name, value):
    index = FaissIndex().set_params(**{name: value})
    with pytest.raises(ValueError, match=f"'{name}' parameter of FaissIndex must be"):
        index.add(np.eye(3))
    assert index.n_items == 0


def test_construction_does_not_need_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    index = FaissIndex("hnsw")
    assert index.search(np.eye(3), 1)[0][0, 0] == -1
    with pytest.raises(ImportError):
        index.add(np.eye(3))
