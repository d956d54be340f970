import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

from skxc.encoders import BagEncoder, FrozenEncoder, TransformerEncoder  # noqa: E402


def unit(matrix):
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_training_starts_from_the_embeddings(form):
    embeddings = np.random.default_rng(0).normal(size=(12, 5))
    encoder = FrozenEncoder().fit(form(embeddings))
    vectors = encoder.encode(encoder.prepare(form(embeddings)))
    np.testing.assert_allclose(vectors, unit(embeddings), rtol=1e-5)
    assert encoder.dim_ == 5


def test_another_width():
    embeddings = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    encoder = FrozenEncoder(dim=3).fit(embeddings)
    weight = encoder.module_.linear.weight.detach().numpy()
    expected = unit(embeddings @ weight.T)
    np.testing.assert_allclose(encoder.encode(encoder.prepare(embeddings)), expected, rtol=1e-4)
    assert encoder.dim_ == 3


def test_the_head_is_residual_and_trained_alone():
    embeddings = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    encoder = FrozenEncoder().fit(embeddings)
    with torch.no_grad():
        encoder.module_.linear.weight.copy_(torch.arange(25.0).reshape(5, 5) / 25)
    head = np.arange(25.0).reshape(5, 5) / 25
    np.testing.assert_allclose(
        encoder.encode(encoder.prepare(embeddings)),
        unit(embeddings + embeddings @ head.T),
        rtol=1e-4,
    )
    (group,) = encoder.parameter_groups(None)
    assert [p.shape for p in group["params"]] == [(5, 5)]


def test_dropout_in_training_only():
    embeddings = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    module = FrozenEncoder(dropout=0.4).fit(embeddings).module_
    module.train()
    dropped = module(embeddings).detach().numpy() / embeddings
    assert 0 < (dropped > 0).mean() < 1
    np.testing.assert_allclose(dropped[dropped > 0], 1 / 0.6, rtol=1e-5)
    module.eval()
    np.testing.assert_allclose(module(embeddings).detach().numpy(), embeddings)


def test_another_encoder_embeds_texts_once(texts):
    inner = BagEncoder(dim=6, n_buckets=20)
    encoder = FrozenEncoder(inner).fit(texts)
    assert not hasattr(inner, "module_")
    prepared = encoder.prepare(texts)
    expected = inner.fit(texts)
    np.testing.assert_array_equal(prepared, expected.encode(expected.prepare(texts)))
    tokens = encoder.inner_.module_.tokens.detach().clone()
    encoder.module_.train()
    encoder.unit_vectors(prepared).sum().backward()
    assert encoder.inner_.module_.tokens.grad is None
    torch.testing.assert_close(encoder.inner_.module_.tokens, tokens, rtol=0, atol=0)


def test_texts_need_an_encoder(texts):
    for rows in (texts, texts.tolist()):
        with pytest.raises(ValueError, match=r"`X` must hold embeddings .* holds texts\. Pass"):
            FrozenEncoder().fit(rows)


def test_precision_and_device_of_the_inner_encoder(tiny_transformer, texts, monkeypatch):
    exact, short = (
        FrozenEncoder(TransformerEncoder(tiny_transformer), precision=precision).fit(texts)
        for precision in ("float32", "bfloat16")
    )
    difference = np.abs(exact.prepare(texts) - short.prepare(texts))
    assert 0 < difference.max() < 0.05
    moved = []
    monkeypatch.setattr(TransformerEncoder, "to", lambda self, device: moved.append(device))
    assert exact.to(torch.device("cpu")) is exact
    assert moved == [torch.device("cpu")]
