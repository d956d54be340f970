import numpy as np
import pytest

import skxc.estimators._encoding as encoding
from skxc.estimators._encoding import search_once


@pytest.mark.parametrize("large", [False, True])
def test_large_searches_look_into_near_cells(monkeypatch, large):
    pytest.importorskip("faiss")
    monkeypatch.setattr(encoding, "LARGE_INDEX", 4000 if large else 4001)
    monkeypatch.setattr(encoding, "MANY_QUERIES", 50)
    made = []
    cells = encoding.FaissIndex
    monkeypatch.setattr(
        encoding, "FaissIndex", lambda *a, **k: made.append(cells(*a, **k)) or made[-1]
    )
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((100, 16))
    vectors = np.repeat(centers, 40, axis=0) + 0.2 * rng.standard_normal((4000, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids, _ = search_once(vectors[:50], vectors, 10)
    truth = np.argsort(-(vectors[:50] @ vectors.T), axis=1)[:, :10]
    found = np.mean([np.isin(row, best).mean() for row, best in zip(ids, truth, strict=True)])
    assert found > 0.9
    assert len(made) == large
    assert not made or made[0].n_cells == 63
    search_once(vectors[:49], vectors, 1)  # few queries
    assert len(made) == large
