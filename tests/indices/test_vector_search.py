import copy
import pickle

import numpy as np
import pytest

from skxc.indices import ExactIndex, FaissIndex, VectorSearch


@pytest.fixture
def vectors():
    drawn = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.mark.parametrize("spec", ["auto", "exact", "hnsw", "ivf", FaissIndex("ivf", n_probes=2)])
def test_search_equals_that_of_the_index(vectors, spec):
    queries = vectors[:5] + np.float32(0.1)
    index = ExactIndex() if isinstance(spec, str) and spec in {"auto", "exact"} else None
    index = index or (FaissIndex(spec) if isinstance(spec, str) else FaissIndex("ivf", n_probes=2))
    index.add(vectors)
    for found, expected in zip(
        VectorSearch(vectors).search(queries, 7, spec), index.search(queries, 7), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_an_index_is_built_once(vectors):
    search = VectorSearch(vectors)
    assert search._index("hnsw") is search._index("hnsw")
    assert search._index("hnsw") is not search._index("exact")


def test_an_index_whose_parameters_changed_is_built_again(vectors):
    search, index = VectorSearch(vectors), FaissIndex("ivf", n_probes=1)
    before = search._index(index)
    index.set_params(n_probes=2)
    assert search._index(index).n_probes == 2
    assert before.n_probes == 1


def test_the_indices_are_no_part_of_the_state(vectors):
    search = VectorSearch(vectors)
    search.search(vectors, 1, "hnsw")
    for other in (copy.deepcopy(search), copy.copy(search), pickle.loads(pickle.dumps(search))):
        assert vars(other).keys() == {"vectors"}
        np.testing.assert_array_equal(other.search(vectors, 1)[0][:, 0], np.arange(60))
    assert len(pickle.dumps(search)) == len(pickle.dumps(VectorSearch(vectors)))


def test_more_vectors_stand_behind_the_old_ones(vectors):
    search = VectorSearch(vectors[:50])
    search.search(vectors, 1)
    longer = search.extended(vectors[50:].astype(float))
    assert (len(search), len(longer), longer.vectors.dtype) == (50, 60, np.float32)
    np.testing.assert_array_equal(
        longer.search(vectors, 3)[0], VectorSearch(vectors).search(vectors, 3)[0]
    )


def test_without_vectors_there_is_nothing_to_find():
    ids, scores = VectorSearch(np.zeros((0, 8), dtype=np.float32)).search(np.ones((2, 8)), 1)
    assert (ids.tolist(), scores.tolist()) == ([[-1], [-1]], [[-np.inf], [-np.inf]])
