import numpy as np
import scipy.sparse as sp

from skxc.linear import label_vectors


def unit(vector):
    norm = np.linalg.norm(vector)
    return vector / norm if norm else vector


def naive(X, y, weight, features=None, graph=None, graph_weight=0.5):
    n_labels = y.shape[1]
    vectors = np.zeros((n_labels, X.shape[1]))
    for label in range(n_labels):
        for i in range(len(X)):
            vectors[label] += weight[i] * y[i, label] * X[i]
        vectors[label] = unit(vectors[label])
        if features is not None:
            vectors[label] = unit(vectors[label] + unit(features[label]))
    if graph is None:
        return vectors
    both = graph + graph.T
    smooth = np.zeros_like(vectors)
    for label in range(n_labels):
        others = [m for m in range(n_labels) if m != label and both[label, m]]
        smooth[label] = vectors[label]
        for m in others:
            share = both[label, m] / sum(both[label, o] for o in others)
            smooth[label] += graph_weight * share * vectors[m]
        smooth[label] = unit(smooth[label])
    return smooth


def test_label_vectors():
    rng = np.random.default_rng(0)
    X = rng.random((20, 9)) * (rng.random((20, 9)) < 0.4)
    y = (rng.random((20, 7)) < 0.2).astype(float)
    y[:, 4] = 0
    weight = rng.integers(1, 4, 20).astype(float)
    features = rng.random((7, 9)) * (rng.random((7, 9)) < 0.3)
    features[2] = 0
    graph = rng.random((7, 7)) * (rng.random((7, 7)) < 0.3)
    graph[:, 6] = graph[6] = 0
    assert np.diagonal(graph).any()
    as_csr = [sp.csr_array(part) for part in (X, y, features, graph)]
    plain = label_vectors(as_csr[0], as_csr[1], weight)
    np.testing.assert_allclose(plain.toarray(), naive(X, y, weight), atol=1e-6)
    assert plain.dtype == np.float32
    joined = label_vectors(*as_csr[:2], weight, label_features=as_csr[2])
    np.testing.assert_allclose(joined.toarray(), naive(X, y, weight, features), atol=1e-6)
    smooth = label_vectors(
        *as_csr[:2], weight, label_features=as_csr[2], graph=as_csr[3], graph_weight=0.7
    )
    expected = naive(X, y, weight, features, graph, 0.7)
    np.testing.assert_allclose(smooth.toarray(), expected, atol=1e-6)
    assert np.abs(expected[6]).sum() > 0  # a label without neighbours stays
