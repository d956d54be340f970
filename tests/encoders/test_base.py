import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone

torch = pytest.importorskip("torch")

from skxc.encoders import BagEncoder, FrozenEncoder, TransformerEncoder  # noqa: E402


def fitted(kind, texts, folder, seed=0):
    """Return a fitted encoder of each kind, and rows for it."""
    if kind == "bag":
        return BagEncoder(dim=8, n_buckets=64).fit(texts, seed=seed), texts
    if kind == "plain bag":
        encoder = BagEncoder(dim=8, n_buckets=0, residual=False, dropout=0.0)
        return encoder.fit(texts, seed=seed), texts
    if kind == "transformer":
        return TransformerEncoder(folder).fit(texts, seed=seed), texts
    if kind == "frozen bag":
        inner = BagEncoder(dim=8, n_buckets=64)
        return FrozenEncoder(inner, dim=5).fit(texts, seed=seed), texts
    features = sp.random(40, 12, density=0.3, format="csr", random_state=0, dtype=np.float32)
    features = sp.csr_array(features)
    encoder = FrozenEncoder(dropout=0.3) if kind == "frozen" else BagEncoder(dim=8)
    return encoder.fit(features, seed=seed), features


KINDS = ["bag", "plain bag", "features", "frozen", "frozen bag", "transformer"]


def arrays(encoder):
    return {name: t.detach().numpy().copy() for name, t in encoder.module_.state_dict().items()}


def train_a_little(encoder, rows):
    """Move every weight by a step along the gradient of some function of the vectors."""
    encoder.module_.train()
    vectors = encoder.unit_vectors(encoder.prepare(rows)[np.arange(6)])
    (vectors * torch.linspace(-1, 1, vectors.numel()).reshape(vectors.shape)).sum().backward()
    with torch.no_grad():
        for parameter in encoder.module_.parameters():
            if parameter.grad is not None:
                gradient = parameter.grad
                parameter -= gradient.to_dense() if gradient.is_sparse else gradient
                parameter.grad = None


@pytest.mark.parametrize("kind", KINDS)
def test_vectors(kind, texts, tiny_transformer):
    encoder, rows = fitted(kind, texts, tiny_transformer)
    cache = encoder.prepare(rows)
    assert cache.shape[0] == 40
    vectors = encoder.encode(cache)
    assert vectors.shape == (40, encoder.dim_)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert np.linalg.matrix_rank(vectors) > 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_vectors_do_not_depend_on_the_batch(kind, batch_size, texts, tiny_transformer):
    encoder, rows = fitted(kind, texts, tiny_transformer)
    cache = encoder.prepare(rows)
    whole = encoder.encode(cache, precision="float32")
    np.testing.assert_allclose(
        encoder.encode(cache, batch_size=batch_size, precision="float32"), whole, atol=1e-6
    )
    ids = np.array([5, 5, 0, 39])
    np.testing.assert_allclose(
        encoder.encode(cache[ids], precision="float32"), whole[ids], atol=1e-6
    )
    assert encoder.encode(cache[:0]).shape == (0, encoder.dim_)


@pytest.mark.parametrize("kind", KINDS)
def test_stacked_batches(kind, texts, tiny_transformer):
    encoder, rows = fitted(kind, texts, tiny_transformer)
    cache = encoder.prepare(rows)
    ids = np.array([3, 1, 17])
    stacked = encoder.stack([cache[ids], cache[:0], cache[ids[:1]]])
    assert stacked.shape[0] == 4
    np.testing.assert_allclose(
        encoder.encode(stacked, precision="float32"),
        encoder.encode(cache[np.array([3, 1, 17, 3])], precision="float32"),
        atol=1e-6,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_and_the_global_generator_is_left_alone(kind, texts, tiny_transformer):
    torch.manual_seed(1)
    first = arrays(fitted(kind, texts, tiny_transformer)[0])
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second = arrays(fitted(kind, texts, tiny_transformer)[0])
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())
    if kind not in ("frozen", "transformer"):  # these start from what they are given
        other = arrays(fitted(kind, texts, tiny_transformer, seed=1)[0])
        assert any((first[name] != other[name]).any() for name in first)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read_only", [False, True])
def test_state_round_trip(kind, read_only, texts, tiny_transformer):
    encoder, rows = fitted(kind, texts, tiny_transformer)
    train_a_little(encoder, rows)
    state = encoder.__getstate__()
    assert "module_" not in state
    for array in state["module_arrays"].values():
        assert isinstance(array, np.ndarray)
        if read_only:
            array.flags.writeable = False
    torch.manual_seed(1)
    generator = torch.get_rng_state()
    again = clone(encoder)
    again.__setstate__(pickle.loads(pickle.dumps(state)) if not read_only else state)
    assert torch.equal(generator, torch.get_rng_state())
    assert not any(t.is_meta for t in [*again.module_.parameters(), *again.module_.buffers()])
    assert not again.module_.training
    expected = encoder.encode(encoder.prepare(rows))
    np.testing.assert_array_equal(again.encode(again.prepare(rows)), expected)
    train_a_little(again, rows)  # must not write into the state
    assert (again.encode(again.prepare(rows)) != expected).any()
    np.testing.assert_array_equal(encoder.encode(encoder.prepare(rows)), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_hold_no_torch(kind, texts, tiny_transformer, monkeypatch):
    encoder, rows = fitted(kind, texts, tiny_transformer)
    data = pickle.dumps(encoder)
    assert b"torch" not in data
    monkeypatch.setattr(torch.storage, "_load_from_bytes", None)
    again = pickle.loads(data)
    np.testing.assert_array_equal(
        again.encode(again.prepare(rows)), encoder.encode(encoder.prepare(rows))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_weights_count(kind, texts, tiny_transformer):
    """Nothing that evaluation keeps survives a change of the weights."""
    encoder, rows = fitted(kind, texts, tiny_transformer)
    cache = encoder.prepare(rows)
    weights = {name: tensor.clone() for name, tensor in encoder.module_.state_dict().items()}
    before = encoder.encode(cache)
    train_a_little(encoder, rows)
    after = encoder.encode(cache)
    assert (before != after).any()
    encoder.module_.load_state_dict(weights)
    np.testing.assert_array_equal(encoder.encode(cache), before)


@pytest.mark.parametrize("kind", ["bag", "plain bag", "features", "frozen"])
def test_empty_rows_have_no_direction_and_harmless_gradients(kind, texts, tiny_transformer):
    encoder, rows = fitted(kind, texts, tiny_transformer)
    empty = sp.csr_array((2, rows.shape[1])) if sp.issparse(rows) else np.array(["", "!"], object)
    cache = encoder.prepare(empty)
    np.testing.assert_array_equal(encoder.encode(cache), 0)
    encoder.module_.train()
    encoder.unit_vectors(encoder.stack([cache, encoder.prepare(rows)[:3]])).sum().backward()
    for parameter in encoder.module_.parameters():
        if parameter.grad is not None:
            gradient = (
                parameter.grad.coalesce().values() if parameter.grad.is_sparse else parameter.grad
            )
            assert gradient.isfinite().all()
            assert gradient.abs().max() < 100


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_in_one_group(kind, texts, tiny_transformer):
    encoder, _ = fitted(kind, texts, tiny_transformer)
    groups = encoder.parameter_groups(None)
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(
        id(p) for p in encoder.module_.parameters()
    )
    assert all(group["lr"] > 0 for group in groups)
    assert encoder.parameter_groups(0.5)[0]["lr"] == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_clones_are_unfitted(kind, texts, tiny_transformer):
    encoder, rows = fitted(kind, texts, tiny_transformer)
    fresh = clone(encoder)
    assert not hasattr(fresh, "module_")
    assert repr(fresh) == repr(encoder)
    np.testing.assert_array_equal(
        fresh.fit(rows).encode(fresh.prepare(rows)),
        encoder.fit(rows).encode(encoder.prepare(rows)),
    )


def test_autocast_is_for_those_that_gain(texts, tiny_transformer):
    for kind, gains in (("bag", False), ("frozen", False), ("transformer", True)):
        encoder, rows = fitted(kind, texts, tiny_transformer)
        cache = encoder.prepare(rows)
        exact = encoder.encode(cache, precision="float32")
        short = encoder.encode(cache, precision="bfloat16")
        assert short.dtype == np.float32
        assert (exact != short).any() == gains
        np.testing.assert_allclose(exact, short, atol=0.03)


def test_encoding_through_a_head(texts):
    encoder = BagEncoder(dim=6).fit(texts)
    cache = encoder.prepare(texts)
    module = encoder.module_.eval()
    with torch.no_grad():
        raw = encoder.vectors(cache)
        torch.testing.assert_close(raw, module(cache))
    out = np.empty((len(texts), 2), dtype=np.float32)
    found = encoder.encode(cache, batch_size=2, head=lambda h: h[:, :2] * 3, out=out)
    assert found is out
    np.testing.assert_allclose(out, 3 * raw[:, :2].numpy(), rtol=1e-5)
