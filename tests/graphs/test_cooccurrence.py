import numpy as np
import pytest
import scipy.sparse as sp

from skxc.graphs import cooccurrence


@pytest.mark.parametrize("top_k", [2, 10])
def test_cosine_of_label_columns(top_k):
    dense = np.random.default_rng(0).random((30, 7)) < 0.3
    dense[:, 4] = False
    graph = cooccurrence(sp.csr_array(dense.astype(np.float32)), top_k=top_k)
    assert graph.dtype == np.float32
    for first in range(7):
        cosine = []
        for second in range(7):
            both = sum(a and b for a, b in zip(dense[:, first], dense[:, second], strict=True))
            norm = np.sqrt(dense[:, first].sum() * dense[:, second].sum())
            cosine.append(both / norm if both and first != second else 0)
        best = sorted((-c, label) for label, c in enumerate(cosine) if c)[:top_k]
        row = graph[[first]].toarray()[0]
        assert np.flatnonzero(row).tolist() == sorted(label for _, label in best)
        for minus, label in best:
            assert row[label] == pytest.approx(-minus, rel=1e-5)


def test_labels_that_always_go_together_have_weight_one():
    y = sp.csr_array(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=np.float32))
    np.testing.assert_allclose(cooccurrence(y).toarray(), [[0, 1, 0], [1, 0, 0], [0, 0, 0]])


def test_no_labels_at_all():
    assert cooccurrence(sp.csr_array((5, 3), dtype=np.float32)).nnz == 0
