import sys

import numpy as np
import pytest

from skxc.indices._int8 import Int8Copy, int8_is_fast, largest_norm, quantise


def approximate(copy, queries, block):
    codes, steps, error = copy.prepare(queries, np.linalg.norm(queries, axis=1))
    return copy.products(codes, block) * copy.steps[block] * steps[:, None], error[:, None]


def test_quantise_by_hand():
    codes, step, residual = quantise(np.array([[127.0, -63.4, 0.6], [0, 0, 0]], dtype=np.float32))
    np.testing.assert_array_equal(codes, [[127, -63, 1], [0, 0, 0]])
    np.testing.assert_allclose(step, [[1.0], [0.0]])
    np.testing.assert_allclose(residual, [[np.hypot(0.4, 0.4)], [0.0]], rtol=1e-5)


def test_largest_norm():
    assert largest_norm(np.array([[3, 4], [1, 0]], dtype=np.float32)) == 5
    assert largest_norm(np.zeros((0, 2), dtype=np.float32)) == 0


@pytest.mark.parametrize("d", [2, 17, 64, 300])
def test_the_bound_holds_and_is_not_idle(d):
    pytest.importorskip("torch")
    rng = np.random.default_rng(d)
    vectors = (rng.standard_normal((400, d)) * rng.lognormal(size=(400, 1))).astype(np.float32)
    queries = rng.standard_cauchy((30, d)).astype(np.float32)
    scores, error = approximate(Int8Copy(vectors), queries, slice(100, 350))
    assert scores.shape == (30, 250)
    truth = queries.astype(float) @ vectors[100:350].T.astype(float)
    rounding = 1e-5 * np.linalg.norm(queries, axis=1, keepdims=True) * largest_norm(vectors)
    assert (np.abs(scores - truth) <= error + rounding).all()
    assert error.max() < 0.1 * np.linalg.norm(queries, axis=1).max() * largest_norm(vectors)


def test_copy_of_several_blocks(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr("skxc.indices._int8._BLOCK", 7)
    vectors = np.random.default_rng(0).standard_normal((23, 5)).astype(np.float32)
    scores, error = approximate(Int8Copy(vectors), vectors, slice(None))
    assert (np.abs(scores - vectors @ vectors.T) <= error + 1e-5).all()


def test_needs_a_loaded_torch_and_few_enough_columns(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert int8_is_fast(256)
    assert not int8_is_fast(1)
    assert not int8_is_fast(200_000)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not int8_is_fast(256)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert not int8_is_fast(256)
