import numpy as np
import pytest
import scipy.sparse as sp

from skxc.linear import join_models, search
from skxc.linear._chunks import _bucket, _n_bits, best_first, pack_nodes
from tests.linear.models import dense_model, random_model


def naive_search(trees, x, k, beam_size, loss, n_labels):
    """Return [(label, score)] by beam search over dense weights, one float64 product per node."""
    norm = np.linalg.norm(x)
    x = x / norm if norm else x
    total = {}
    for tree in trees:
        beam = [(0.0, 0)]
        while True:
            candidates = []
            for score, node in beam:
                for child in range(tree.child_start[node], tree.child_start[node + 1]):
                    margin = x @ tree.weights[:, child] + tree.bias[child]
                    if loss == "logistic":
                        gain = -np.logaddexp(0, -margin)
                    else:
                        gain = -1e-3 / margin if margin >= 1 else -((1 - margin) ** 3) - 1e-3
                    candidates.append((max(score + gain, -50.0), child))
            if candidates[0][1] >= tree.n_inner:
                break
            beam = sorted(candidates, key=lambda pair: (-pair[0], pair[1]))[:beam_size]
        for score, child in candidates:
            label = tree.labels[child - tree.n_inner]
            total[label] = total.get(label, 0) + np.exp(score) / len(trees)
    ranked = sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
    return [(label, np.log(value)) for label, value in ranked]


@pytest.mark.parametrize("loss", ["squared_hinge", "logistic"])
@pytest.mark.parametrize("n_trees", [1, 3])
@pytest.mark.parametrize("beam_size", [1, 3, 50])
def test_search_against_dense_beam_search(loss, n_trees, beam_size):
    models = [random_model(seed) for seed in range(n_trees)]
    trees = [dense_model(tree, chunks) for tree, chunks in models]
    joined = join_models([chunks for _, chunks in models])
    X = sp.random_array((30, 40), density=0.2, rng=np.random.default_rng(9), format="csr")
    X = sp.csr_array(X, dtype=np.float32)
    X[[3]] *= 0
    X.eliminate_zeros()
    indices, scores = search(joined, X, 12, beam_size=beam_size, loss=loss)
    assert indices.dtype == np.int32
    assert scores.dtype == np.float32
    for row, x in enumerate(X.toarray().astype(float)):
        expected = naive_search(trees, x, 12, beam_size, loss, 23)
        n = len(expected)
        assert n == 12 or beam_size < 50
        # Ids may differ where two scores agree to rounding, so these are compared by score.
        found = dict(zip(indices[row, :n].tolist(), scores[row, :n].tolist(), strict=True))
        np.testing.assert_allclose(scores[row, :n], [s for _, s in expected], rtol=1e-4, atol=1e-5)
        for label, score in expected[:-1]:
            assert found.get(label, score) == pytest.approx(score, rel=1e-4, abs=1e-5)
        assert len(found.keys() & {label for label, _ in expected}) >= n - 1
        assert (indices[row, n:] == -1).all()
        assert (scores[row, n:] == -np.inf).all()


def test_rows_are_searched_alone():
    _, model = random_model(0)
    X = sp.random_array((50, 40), density=0.2, rng=np.random.default_rng(1), format="csr")
    X = sp.csr_array(X, dtype=np.float32)
    settings = {"k": 10, "beam_size": 2, "loss": "squared_hinge"}
    indices, scores = search(model, X, **settings)
    for row in range(50):
        alone = search(model, X[[row]], **settings)
        np.testing.assert_array_equal(alone[0][0], indices[row])
        np.testing.assert_array_equal(alone[1][0], scores[row])
    fewer = search(model, X, 4, beam_size=2, loss="squared_hinge")
    np.testing.assert_array_equal(fewer[0], indices[:, :4])


def test_threads_give_the_same_answer(monkeypatch):
    monkeypatch.setattr("skxc.linear._train.SEARCH_ROWS", 7)
    _, model = random_model(0)
    X = sp.csr_array(sp.random_array((50, 40), density=0.2, rng=np.random.default_rng(1)))
    alone = search(model, X, 10, beam_size=2, loss="logistic")
    threads = search(model, X, 10, beam_size=2, loss="logistic", n_jobs=3)
    np.testing.assert_array_equal(alone[0], threads[0])
    np.testing.assert_array_equal(alone[1], threads[1])


def test_best_first():
    rng = np.random.default_rng(0)
    for trial in range(200):
        n, k = int(rng.integers(0, 30)), int(rng.integers(1, 12))
        scores = rng.integers(0, 6, 30).astype(np.float32)
        ids = rng.permutation(100)[:30]
        expected = sorted(zip(-scores[:n], ids[:n], strict=True))[:k]
        found = best_first(scores, ids, n, k)
        assert found == min(n, k), trial
        assert list(zip(-scores[:found], ids[:found], strict=True)) == expected


def test_packed_nodes_hold_all_entries():
    rng = np.random.default_rng(0)
    entries = [
        sp.coo_array(sp.random_array((300, 9), density=density, rng=rng))
        for density in (0.3, 0.0, 0.02, 1.0)
    ]
    entry_start = np.cumsum([0, *(part.nnz for part in entries)])
    order = [rng.permutation(part.nnz) for part in entries]
    rows = [part.coords[0][o] for part, o in zip(entries, order, strict=True)]
    columns = [part.coords[1][o] for part, o in zip(entries, order, strict=True)]
    values = [part.data[o] for part, o in zip(entries, order, strict=True)]
    packed = pack_nodes(
        entry_start,
        np.concatenate(rows).astype(np.int32),
        np.concatenate(columns).astype(np.int32),
        np.concatenate(values).astype(np.float32),
        300,
    )
    bucket_start, key_start, buckets, keys, starts, children, weights = packed
    for node, part in enumerate(entries):
        mine = slice(key_start[node], key_start[node + 1])
        n_entries = entry_start[node + 1] - entry_start[node]
        ends = np.append(starts[mine], n_entries)[1:]
        dense = np.zeros((300, 9), np.float32)
        for key, begin, end in zip(keys[mine], starts[mine], ends, strict=True):
            inside = entry_start[node] + np.arange(begin, end)
            dense[key, children[inside]] = weights[inside]
        np.testing.assert_array_equal(dense, part.toarray().astype(np.float32))
        assert len(set(keys[mine])) == len(keys[mine])
        bounds = buckets[bucket_start[node] : bucket_start[node + 1]]
        assert bounds[-1] == len(keys[mine])
        for place, key in enumerate(keys[mine]):
            bucket = _bucket(key, _n_bits(len(bounds) - 1))
            assert bounds[bucket] <= place < bounds[bucket + 1]


def test_buckets_are_even():
    counts = np.bincount([_bucket(feature, 6) for feature in range(6400)], minlength=64)
    assert len(counts) == 64
    assert counts.max() < 200
    assert {_bucket(feature, 0) for feature in range(9)} == {0}
    assert [_n_bits(n) for n in (0, 1, 2, 3, 4, 5)] == [0, 0, 1, 2, 2, 3]
