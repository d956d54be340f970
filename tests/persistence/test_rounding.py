from pathlib import Path

import numpy as np
import pytest

import skxc
from skxc import DualEncoderXC, KNeighborsXC, LinearTreeXC, load, save
from skxc.datasets import make_planted_xc
from skxc.persistence._rounding import restored, rounded


def size_of(folder):
    return sum(path.stat().st_size for path in Path(folder).glob("arrays-*"))


@pytest.fixture(scope="module")
def data():
    return make_planted_xc(n_samples=300, n_labels=200, random_state=0)


@pytest.fixture(scope="module")
def dual(data):
    model = DualEncoderXC(n_epochs=2, calibration="held_out", random_state=0)
    model.set_params(encoder__dim=32, encoder__n_buckets=512)
    return model.fit(data.train_texts, data.train_labels, label_features=data.label_texts)


def test_codes_are_the_nearest_of_255_steps():
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((9000, 8)) * rng.lognormal(size=(9000, 1))).astype(np.float32)
    rows[4], rows[5] = 0, [127, -127, 63.4, 0.6, 0, 0, 1, -1]
    parts = rounded(rows, "int8")
    assert [part.dtype for part in parts] == [np.int8, np.float32]
    found = restored(parts)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    assert (np.abs(found - rows) <= 0.501 * largest / 127).all()
    np.testing.assert_array_equal(found[5], [127, -127, 63, 1, 0, 0, 1, -1])
    assert not found[4].any()
    # What was rounded once stays as it is.
    np.testing.assert_allclose(restored(rounded(found, "int8")), found, rtol=1e-6)


@pytest.mark.parametrize("stored", ["float16", "int8"])
def test_what_is_not_rounded(stored):
    for array in (
        np.ones((3, 2), np.float32),
        np.ones((9000, 2)),
        np.ones((100, 100), np.float32),
        np.ones(9000, np.int32),
        np.full(9000, 1e6, np.float32),
    ):
        assert rounded(array, stored) == [array]


def test_parts_that_nothing_has_written_are_refused():
    codes, steps = np.zeros((4, 2), np.int8), np.ones(4, np.float32)
    for parts in ([codes], [codes, steps[:3]], [codes.astype(np.int16), steps], [steps]):
        with pytest.raises(ValueError, match="no rounded numbers"):
            restored(parts)


@pytest.mark.parametrize(("dtype", "largest"), [("float16", 0.6), ("int8", 0.45)])
def test_smaller_and_nearly_the_same(dual, data, tmp_path, dtype, largest):
    dual.save(tmp_path / "whole")
    dual.save(tmp_path / "small", dtype=dtype, keep_for="prediction")
    assert size_of(tmp_path / "small") < largest * size_of(tmp_path / "whole")
    small = load(tmp_path / "small")
    vectors = small.classifier_weights_
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, dual.classifier_weights_, atol=1e-2)
    assert (vectors != dual.classifier_weights_).any()
    assert small.label_embeddings_ is None
    assert "calibration_rows_" in vars(dual)
    assert "calibration_rows_" not in vars(small)
    before, after = (m.predict_topk(data.test_texts, 1)[0] for m in (dual, small))
    assert (before == after).mean() > 0.95
    small.predict_proba(data.test_texts)
    small.add_labels(["entirely new words"])
    assert small.predict_topk(["entirely new words"], 1)[0][0, 0] == 200


def test_prediction_alone_changes_no_answer(dual, data, tmp_path):
    dual.save(tmp_path / "model", keep_for="prediction")
    small = load(tmp_path / "model")
    for before, after in zip(
        dual.predict_topk(data.test_texts), small.predict_topk(data.test_texts), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    small.set_params(votes__weight=0.1)
    with pytest.raises(ValueError, match="no held-out rows are kept"):
        small.predict_proba(data.test_texts)


def test_texts_stay_where_they_score(data, tmp_path):
    model = DualEncoderXC(n_epochs=1, label_vectors=False, votes=False, random_state=0)
    model.set_params(encoder__dim=8, encoder__n_buckets=64)
    model.fit(data.train_texts, data.train_labels, label_features=data.label_texts)
    model.save(tmp_path / "model", keep_for="prediction")
    np.testing.assert_array_equal(
        load(tmp_path / "model").predict_topk(data.test_texts, 3)[0],
        model.predict_topk(data.test_texts, 3)[0],
    )


def test_mapped_models_answer_alike(dual, data, tmp_path):
    features = KNeighborsXC().fit(data.train_features, data.train_labels)
    tree = LinearTreeXC(random_state=0).fit(data.train_texts, data.train_labels)
    for model, X in (
        (dual, data.test_texts),
        (tree, data.test_texts),
        (features, data.test_features),
    ):
        model.save(tmp_path / type(model).__name__)
        mapped = load(tmp_path / type(model).__name__, mmap=True)
        for before, after in zip(model.predict_topk(X), mapped.predict_topk(X), strict=True):
            np.testing.assert_array_equal(before, after)
    vectors = load(tmp_path / "DualEncoderXC", mmap=True).classifier_weights_
    assert not vectors.flags.writeable
    while type(vectors) is np.ndarray:
        vectors = vectors.base
    assert isinstance(vectors, np.memmap)
    mapped = load(tmp_path / "DualEncoderXC", mmap=True)
    save(mapped, tmp_path / "again", dtype="int8")
    assert load(tmp_path / "again", mmap=True).predict_topk(data.test_texts, 1)[0].shape == (500, 1)


def test_a_broken_file_is_not_mapped(dual, tmp_path):
    dual.save(tmp_path)
    (path,) = tmp_path.glob("arrays-*")
    content = path.read_bytes()
    for broken in (
        content[:-100],
        content[:7],
        b"\xff" * 20,
        content.replace(b'"F32"', b'"F31"', 1),
    ):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="damaged"):
            load(tmp_path, mmap=True)


@pytest.mark.parametrize("wrong", [{"dtype": "int4"}, {"keep_for": "ever"}])
def test_unknown_ways_of_saving(dual, tmp_path, wrong):
    with pytest.raises(ValueError, match="must be one of"):
        skxc.save(dual, tmp_path / "model", **wrong)
    assert not (tmp_path / "model").exists()
