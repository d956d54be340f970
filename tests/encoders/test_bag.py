import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from skxc.encoders import BagEncoder, SubwordVectorizer  # noqa: E402

FRESH = ["red wine", "unseen redwine grape", "", "!", "grapes grapes machinery", "oak"]


def naive_forward(encoder, texts):
    """Return vectors by loops over words: own embedding plus n-grams, summed by tf-idf."""
    module, vectorizer = encoder.module_, encoder.vectorizer_
    n_words = len(vectorizer.vocabulary_)
    rows = vectorizer.transform(texts).toarray()
    hidden = []
    for row in rows:
        total = torch.zeros(encoder.dim_)
        for column in np.flatnonzero(row):
            if column >= n_words:
                total = total + row[column] * encoder.ngram_weight * module.ngrams[column - n_words]
                continue
            vector = module.tokens[column]
            spelling = vectorizer.spelling_[[column]].toarray()[0]
            for gram in np.flatnonzero(spelling):
                weight = float(spelling[gram]) * encoder.ngram_weight
                vector = vector + weight * module.ngrams[gram]
            total = total + float(row[column]) * vector
        hidden.append(total)
    hidden = torch.stack(hidden)
    if encoder.residual:
        return hidden + functional.gelu(module.block(hidden))
    return hidden


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("n_buckets", [0, 13, 500])
def test_training_forward_and_gradients(residual, n_buckets, texts):
    if not n_buckets and not residual:
        pytest.skip("covered by the others")
    encoder = BagEncoder(
        dim=6, dropout=0.0, n_buckets=n_buckets, ngram_weight=0.3, residual=residual
    ).fit(texts)
    if not n_buckets:
        encoder.module_.ngrams = torch.nn.Parameter(torch.zeros(1, 6))
    encoder.module_.train()
    weight = torch.randn(len(FRESH), 6, generator=torch.Generator().manual_seed(1))
    batch = encoder.prepare(np.array(FRESH, dtype=object))
    actual = encoder.module_(batch)
    torch.testing.assert_close(actual, naive_forward(encoder, FRESH))
    (actual * weight).sum().backward()
    gradients = {
        name: (p.grad.to_dense() if p.grad.is_sparse else p.grad.clone())
        for name, p in encoder.module_.named_parameters()
        if p.grad is not None
    }
    assert encoder.module_.tokens.grad.is_sparse
    encoder.module_.zero_grad()
    (naive_forward(encoder, FRESH) * weight).sum().backward()
    assert set(gradients) >= {"tokens"} | ({"block.weight", "block.bias"} if residual else set())
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, encoder.module_.get_parameter(name).grad, rtol=1e-4, atol=1e-6
        )


def test_gradients_touch_the_tokens_of_the_batch_only(texts):
    encoder = BagEncoder(dim=6, dropout=0.0).fit(texts)
    encoder.module_.train()
    encoder.module_(encoder.prepare(["red oak"])).sum().backward()
    vocabulary = encoder.vectorizer_.vocabulary_
    touched = encoder.module_.tokens.grad.coalesce().indices()[0].tolist()
    assert touched == sorted([vocabulary["red"], vocabulary["oak"]])
    spelled = encoder.vectorizer_.spelling_[touched]
    grams = encoder.module_.ngrams.grad.coalesce().indices()[0].tolist()
    assert grams == np.unique(spelled.indices).tolist()


@pytest.mark.parametrize("source", ["texts", "features"])
def test_evaluation_equals_training_without_dropout(source, texts):
    rows = texts
    if source == "features":
        rows = sp.csr_array(np.maximum(np.random.default_rng(0).normal(size=(40, 9)), 0))
    encoder = BagEncoder(dim=6, dropout=0.0, n_buckets=50).fit(rows)
    batch = encoder.prepare(rows if source == "features" else np.array(FRESH, dtype=object))
    encoder.module_.train()
    training = encoder.module_(batch)
    encoder.module_.eval()
    torch.testing.assert_close(training, encoder.module_(batch))


def test_dropout_leaves_out_tokens_and_scales_the_others():
    features = sp.csr_array(np.random.default_rng(0).random((30, 40)).astype(np.float32))
    module = BagEncoder(dim=4, dropout=0.25).fit(features).module_
    kept = np.zeros(features.shape)
    for seed in range(40):
        torch.manual_seed(seed)
        dropped = module._drop(features)
        assert dropped.shape == features.shape
        np.testing.assert_array_equal(dropped.indptr[0], 0)
        scaled = dropped.toarray() / features.toarray()
        np.testing.assert_allclose(scaled[scaled > 0], 1 / 0.75, rtol=1e-5)
        kept += scaled > 0
    assert kept.mean() / 40 == pytest.approx(0.75, abs=0.01)
    module.dropout = 0.0
    assert module._drop(features) is features


def test_no_dropout_in_evaluation(texts):
    encoder = BagEncoder(dim=4, dropout=0.9, n_buckets=10).fit(texts)
    cache = encoder.prepare(texts)
    state = torch.get_rng_state()
    np.testing.assert_array_equal(encoder.encode(cache), encoder.encode(cache))
    assert torch.equal(state, torch.get_rng_state())


def test_features_are_scaled_to_unit_length_on_average():
    features = sp.csr_array(5 * np.random.default_rng(0).random((30, 8), dtype=np.float32))
    labels = sp.csr_array(50 * np.random.default_rng(1).random((10, 8), dtype=np.float32))
    encoder = BagEncoder(dim=4).fit(features, labels)
    both = sp.vstack([encoder.prepare(features), encoder.prepare(labels)])
    assert np.sqrt(both.multiply(both).sum(axis=1)).mean() == pytest.approx(1, rel=1e-5)
    assert encoder.prepare(features).dtype == np.float32
    assert encoder.vectorizer_ is None
    assert not hasattr(encoder.module_, "ngrams")
    empty = BagEncoder(dim=4).fit(sp.csr_array((3, 8)))
    assert np.isfinite(empty.feature_scale_)


def test_words_of_both_sides_are_known(texts):
    encoder = BagEncoder(dim=4).fit(texts, ["quince", "wine cellar"])
    assert {"wine", "quince", "cellar"} <= set(encoder.vectorizer_.vocabulary_)
    both = SubwordVectorizer().fit([*texts, "quince", "wine cellar"])
    np.testing.assert_array_equal(encoder.vectorizer_.idf_, both.idf_)


def test_share_of_unknown_words(texts):
    encoder = BagEncoder(dim=4).fit(texts)
    vocabulary = encoder.vectorizer_

    def share(*fresh):
        return encoder.unknown_share(encoder.prepare(np.array(fresh, dtype=object)))

    assert share("red wine", "oak") == pytest.approx(0, abs=1e-6)
    assert share("qqqq", "zzzz") == pytest.approx(1)
    assert share("qqqq", "red") == pytest.approx(0.5, abs=1e-6)
    known, unknown = vocabulary.idf_[vocabulary.vocabulary_["red"]], vocabulary.unknown_idf_
    assert share("qqqq red") == pytest.approx(unknown**2 / (unknown**2 + known**2), rel=1e-5)
    assert share("", "!") == 0
    features = sp.csr_array(np.eye(5))
    plain = BagEncoder(dim=4).fit(features)
    assert plain.unknown_share(plain.prepare(features)) == 0


def test_unknown_words_have_vectors_that_follow_their_spelling(texts):
    encoder = BagEncoder(dim=64).fit(texts)
    fresh = np.array(["grapevine", "grape", "machine"], dtype=object)
    vine, grape, machine = encoder.encode(encoder.prepare(fresh))
    assert vine @ grape > vine @ machine + 0.1


def test_parameter_groups(texts):
    encoder = BagEncoder(dim=4).fit(texts)
    tables, block = encoder.parameter_groups(None)
    assert tables["sparse"]
    assert (tables["lr"], block["lr"]) == (0.01, 0.001)
    assert [group["lr"] for group in encoder.parameter_groups(0.5)] == [0.5, 0.05]
    assert len(BagEncoder(dim=4, residual=False).fit(texts).parameter_groups(None)) == 1
