"""The index over labels: search against loops, facts about rows, inspection, counting of edges."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.indices import LabelIndex, counted_edges, tree_edges

N_LABELS, N_CLUSTERS, DIM = 64, 8, 6


def queries(n=7, seed=1):
    return np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)


def make_index(seed=0, **params):
    """Return an index in which every cluster has 12 labels, and some labels several clusters."""
    rng = np.random.default_rng(seed)
    labels = np.stack([rng.choice(N_LABELS, 12, replace=False) for _ in range(N_CLUSTERS)])
    labels[2, 9:] = -1
    weights = rng.random((N_CLUSTERS, 12)).astype(np.float32) * (labels >= 0)
    default = {"gain": 1.6, "beam_width": 3, "shortlist_size": 10}
    return LabelIndex(
        cluster_weights=rng.normal(size=(N_CLUSTERS, DIM)).astype(np.float32),
        cluster_bias=rng.normal(size=N_CLUSTERS).astype(np.float32),
        edge_labels=labels.astype(np.int32),
        edge_weights=weights,
        n_labels=N_LABELS,
        **{**default, **params},
    )


def make_tree(seed=0, **params):
    """Return a one-hot index with weights of 1."""
    rng = np.random.default_rng(seed)
    leaf = rng.permutation(np.repeat(np.arange(N_CLUSTERS), N_LABELS // N_CLUSTERS))
    edges = tree_edges(leaf, np.arange(N_LABELS), N_CLUSTERS)
    index = make_index(seed, **params)
    values = {name: getattr(index, name) for name in ("gain", "beam_width", "shortlist_size")}
    tree = LabelIndex(
        cluster_weights=index.cluster_weights,
        cluster_bias=index.cluster_bias,
        edge_labels=edges,
        edge_weights=np.ones(edges.shape, dtype=np.float32),
        n_labels=N_LABELS,
        **values,
    )
    return tree, leaf


def classifiers(seed=2):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(N_LABELS, DIM)).astype(np.float32)
    return weights, rng.normal(size=N_LABELS).astype(np.float32)


def naive_scores(index, query):
    """Return s of one query, by the formula."""
    logits = np.array([query @ w + b for w, b in zip(index.cluster_weights, index.cluster_bias,
                                                     strict=True)])  # fmt: skip
    share = np.exp(logits - logits.max())
    return np.minimum(1, index.gain * share / share.sum())


def naive_paths(index, query, width):
    scores = naive_scores(index, query)
    paths = {}
    for cluster in np.argsort(-scores, kind="stable")[:width]:
        for label, weight in zip(index.edge_labels[cluster], index.edge_weights[cluster],
                                 strict=True):  # fmt: skip
            if label >= 0:
                paths[int(label)] = max(paths.get(int(label), 0), scores[cluster] * weight)
    return paths


def naive_rank(index, query, weights, bias, k, size, width):
    paths = naive_paths(index, query, width)
    kept = sorted(paths, key=lambda label: (-paths[label], label))[:size]
    score = {
        label: np.log(paths[label]) - np.log1p(np.exp(-(query @ weights[label] + bias[label])))
        for label in kept
    }
    return sorted(score.items(), key=lambda pair: (-pair[1], pair[0]))[:k]


@pytest.mark.parametrize("width", [1, 3, 8])
def test_shortlist_against_a_loop(width):
    index = make_index(beam_width=width)
    labels, paths = index.shortlist(queries())
    for row, query in enumerate(queries()):
        expected = naive_paths(index, query, width)
        best = sorted(expected, key=lambda label: (-expected[label], label))[:10]
        found = labels[row][labels[row] >= 0].tolist()
        assert sorted(found) == sorted(best)
        for label, path in zip(found, paths[row], strict=False):
            assert path == pytest.approx(expected[label], rel=1e-5)


@pytest.mark.parametrize(("k", "size", "width"), [(5, 10, 3), (10, 4, 2), (64, 64, 8), (3, 64, 1)])
def test_rank_against_a_loop(k, size, width):
    index, (weights, bias) = make_index(), classifiers()
    labels, scores = index.rank(queries(), weights, bias, k, size=size, beam_width=width)
    assert labels.shape == scores.shape == (7, k)
    for row, query in enumerate(queries()):
        expected = naive_rank(index, query, weights, bias, k, size, width)
        n = len(expected)
        assert labels[row, :n].tolist() == [label for label, _ in expected]
        np.testing.assert_allclose(scores[row, :n], [s for _, s in expected], rtol=2e-5)
        assert (labels[row, n:] == -1).all()
        assert np.isneginf(scores[row, n:]).all()


# ---- 17 to 19: what the method must reduce to


def test_a_tree_is_a_plain_two_level_beam_search():
    (tree, leaf), (weights, bias) = make_tree(shortlist_size=N_LABELS), classifiers()
    labels, scores = tree.rank(queries(), weights, bias, 24)
    for row, query in enumerate(queries()):
        s = naive_scores(tree, query)
        beam = np.argsort(-s, kind="stable")[:3]
        members = np.flatnonzero(np.isin(leaf, beam))
        p = s[leaf[members]] / (1 + np.exp(-(weights[members] @ query + bias[members])))
        order = np.argsort(-p, kind="stable")
        assert labels[row].tolist() == members[order].tolist()
        np.testing.assert_allclose(np.exp(scores[row]), p[order], rtol=2e-5)


def test_all_clusters_at_full_score_are_one_vs_all():
    tree, _ = make_tree(gain=1e6, beam_width=N_CLUSTERS, shortlist_size=N_LABELS)
    weights, bias = classifiers()
    assert (tree.cluster_scores(queries()) == 1).all()
    labels, _ = tree.rank(queries(), weights, bias, N_LABELS)
    expected = np.argsort(-(queries() @ weights.T + bias), axis=1, kind="stable")
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("seed", range(3))
def test_facts_about_rows(seed):
    index, (weights, bias) = make_index(seed), classifiers()
    scores = index.cluster_scores(queries(50, seed))
    assert scores.min() >= 0
    assert scores.max() <= 1
    assert scores.sum(axis=1).max() <= index.gain + 1e-5
    labels, paths = index.shortlist(queries(50, seed), 64)
    assert paths.min() >= 0
    assert paths.max() <= 1
    labels, _ = index.rank(queries(50, seed), weights, bias, 64)
    for row in labels.tolist():
        found = [label for label in row if label >= 0]
        assert len(found) == len(set(found)) > 0
        assert -1 not in row[: len(found)]


def test_one_query_gets_the_answer_it_gets_among_others():
    index, (weights, bias) = make_index(), classifiers()
    labels, scores = index.rank(queries(), weights, bias, 5)
    for row in range(7):
        one = index.rank(queries()[row : row + 1], weights, bias, 5)
        assert one[0].tolist() == labels[row : row + 1].tolist()
        np.testing.assert_allclose(one[1], scores[row : row + 1], rtol=1e-5)


# ---- candidates and inspection


def test_search_gives_candidates_best_path_first():
    index = make_index()
    labels, paths = index.search(queries(), 40)
    assert labels.shape == (7, 40)
    for row, query in enumerate(queries()):
        expected = naive_paths(index, query, 3)
        best = sorted(expected, key=lambda label: (-expected[label], label))
        assert labels[row, : len(best)].tolist() == best
        assert (labels[row, len(best) :] == -1).all()
        assert np.isneginf(paths[row, len(best) :]).all()


def test_more_than_there_are_labels_may_be_asked_for():
    labels, scores = make_index().search(queries(), 100)
    assert labels.shape == scores.shape == (7, 100)


def small_index(names=("red", "orange", "yellow", "unseen")):
    return LabelIndex(
        cluster_weights=np.eye(3, dtype=np.float32),
        cluster_bias=np.zeros(3, dtype=np.float32),
        edge_labels=np.array([[0, 1], [2, 1], [1, -1]], dtype=np.int32),
        edge_weights=np.array([[1.0, 0.5], [0.2, 0.8], [0.05, 0.0]], dtype=np.float32),
        n_labels=4,
        label_names=None if names is None else list(names),
    )


def test_inspection_by_name_and_by_number():
    index = small_index()
    assert index.clusters_of("orange") == index.clusters_of(1) == [(1, 0.8), (0, 0.5), (2, 0.05)]
    assert index.clusters_of("unseen") == []
    assert index.labels_of(1) == [("orange", 0.8), ("yellow", 0.2)]
    assert index.labels_of(1, k=1) == [("orange", 0.8)]
    assert index.shared_labels() == ["orange"]
    assert index.shared_labels(min_weight=0.6) == []
    assert small_index(None).shared_labels() == [1]
    assert index.parents().tolist() == [0, 1, 1, -1]
    assert (index.n_clusters, index.n_edges) == (3, 5)
    assert repr(index) == "LabelIndex(4 labels, 3 clusters, 5 edges)"


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'blue' is no name here"):
        small_index().clusters_of("blue")
    with pytest.raises(ValueError, match="no name here"):
        small_index(None).clusters_of("red")


def test_matrix_of_edges():
    matrix = small_index().to_csr()
    expected = [[1, 0.5, 0, 0], [0, 0.8, 0.2, 0], [0, 0.05, 0, 0]]
    np.testing.assert_allclose(matrix.toarray(), expected, rtol=1e-6)
    assert matrix.has_sorted_indices


def test_coverage_counts_labels_with_training_rows():
    index = small_index()
    assert index.coverage(np.array([3, 1, 1, 0])) == 1
    assert index.coverage(np.array([3, 1, 1, 2])) == 0.75
    assert index.coverage(np.zeros(4)) == 1


def test_saturated_share():
    assert small_index().saturated_share() == pytest.approx(1 / 5)


def test_it_is_immutable_and_shared_by_copies():
    index = small_index()
    with pytest.raises(AttributeError):
        index.n_labels = 3
    assert copy.deepcopy(index) is index
    assert pickle.loads(pickle.dumps(index)).clusters_of("orange") == index.clusters_of("orange")


# ---- 20: counting edges


def test_tree_edges():
    edges = tree_edges(np.array([1, 0, 1, 3]), np.array([9, 4, 2, 7]), 4)
    assert edges.tolist() == [[4, -1], [2, 9], [-1, -1], [7, -1]]


def test_one_hot_beams_count_label_frequencies():
    rng = np.random.default_rng(0)
    y = sp.csr_array((rng.random((40, 9)) < 0.3).astype(np.float32))
    beams = sp.csr_array((np.ones(40), (np.arange(40), rng.integers(5, size=40))), shape=(40, 5))
    labels, counts = counted_edges(beams, y, 9)
    total = np.bincount(labels[labels >= 0], weights=counts[labels >= 0], minlength=9)
    np.testing.assert_allclose(total, y.sum(axis=0))


@pytest.mark.parametrize("n_edges", [1, 3, 9])
@pytest.mark.parametrize("with_tree", [False, True])
def test_heaviest_counts_against_a_loop(n_edges, with_tree):
    rng = np.random.default_rng(1)
    y = sp.csr_array((rng.random((30, 9)) < 0.3).astype(np.float32))
    beams = sp.csr_array(rng.random((30, 4)) * (rng.random((30, 4)) < 0.5))
    tree = tree_edges(rng.permutation(np.arange(8) % 4), np.arange(8), 4) if with_tree else None
    labels, counts = counted_edges(beams, y, n_edges, tree)
    assert labels.shape[1] <= n_edges
    dense = beams.toarray().T @ y.toarray()
    for cluster in range(4):
        own = [] if tree is None else [label for label in tree[cluster] if label >= 0]
        order = sorted(
            [label for label in range(9) if dense[cluster, label] > 0 or label in own],
            key=lambda label: (label not in own, -dense[cluster, label], label),
        )
        kept = labels[cluster][labels[cluster] >= 0].tolist()
        assert kept == order[: labels.shape[1]]
        np.testing.assert_allclose(
            counts[cluster, : len(kept)], dense[cluster, kept], rtol=1e-4, atol=1e-6
        )
