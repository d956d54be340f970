import pickle

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer

import skxc
from skxc import DualEncoderXC, KNeighborsXC, LabelTexts
from skxc.indices import ExactIndex, FaissIndex

WORDS = ["wine", "red", "white", "deep", "learning", "text", "graph", "label", "rank", "tail"]


@pytest.fixture
def no_pickle(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a pickle was opened")

    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)


def make_data(seed=0, n=60, n_labels=8):
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, 4)) for _ in range(n)]
    y = sp.csr_array((rng.random((n, n_labels)) < 0.3).astype(np.int64))
    features = sp.csr_array(rng.random((n, 12)) * (rng.random((n, 12)) < 0.5))
    return texts, features, y


def fitted(case):
    texts, features, y = make_data()
    if case == "texts":
        return KNeighborsXC(vectorizer=TfidfVectorizer(), n_neighbors=5).fit(texts, y), texts
    if case == "sparse":
        return KNeighborsXC(n_neighbors=5).fit(features, y), features
    if case == "dense":
        return KNeighborsXC(n_neighbors=5).fit(features.toarray(), y.toarray()), features.toarray()
    classes = np.array(["no", "yes"])[y.toarray()[:, 0]]
    return KNeighborsXC(n_neighbors=5).fit(features, classes), features


def assert_same_answers(loaded, model, X):
    for method in ("decision_function", "predict_proba", "predict"):
        mine, theirs = getattr(loaded, method)(X), getattr(model, method)(X)
        assert type(mine) is type(theirs)
        assert mine.dtype == theirs.dtype
        if sp.issparse(mine):
            for piece in ("data", "indices", "indptr"):
                np.testing.assert_array_equal(getattr(mine, piece), getattr(theirs, piece))
        else:
            np.testing.assert_array_equal(mine, theirs)
    for mine, theirs in zip(loaded.predict_topk(X, 3), model.predict_topk(X, 3), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert loaded.predict_labels(X, 3) == model.predict_labels(X, 3)


@pytest.mark.parametrize("case", ["texts", "sparse", "dense", "classes"])
def test_saved_models_answer_the_same(case, tmp_path, no_pickle):
    model, X = fitted(case)
    model.save(tmp_path / "model")
    loaded = skxc.load(tmp_path / "model")
    # What is made again from the rest is not saved.
    assert set(vars(loaded)) == set(vars(model)) - {"_checked_parameters"}
    assert repr(loaded) == repr(model)
    assert_same_answers(loaded, model, X)


def test_models_with_torch_modules_answer_the_same(tmp_path, request):
    texts, _, y = make_data()
    label_texts = LabelTexts(WORDS[:8], names=[f"name {i}" for i in range(8)])
    model = DualEncoderXC(n_epochs=1, label_features=label_texts, random_state=0).fit(texts, y)
    # Not before torch is imported, which makes subclasses of the unpickler.
    request.getfixturevalue("no_pickle")
    model.save(tmp_path / "model")
    assert_same_answers(skxc.load(tmp_path / "model"), model, texts)
    # Once more from the loaded model: the state of a state is the same state.
    skxc.load(tmp_path / "model").save(tmp_path / "again")
    assert_same_answers(skxc.load(tmp_path / "again"), model, texts)


def test_a_loaded_model_can_be_cloned_and_fitted(tmp_path):
    model, texts = fitted("texts")
    model.save(tmp_path / "model")
    loaded = skxc.load(tmp_path / "model")
    y = make_data()[2]
    assert_same_answers(clone(loaded).fit(texts, y), model, texts)
    assert_same_answers(loaded.fit(texts, y), model, texts)


@pytest.mark.parametrize("case", ["texts", "sparse", "dense"])
def test_joblib_memory_maps_predict_and_refit(case, tmp_path):
    model, X = fitted(case)
    joblib.dump(model, tmp_path / "model.joblib")
    before = (tmp_path / "model.joblib").read_bytes()
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert_same_answers(mapped, model, X)
    y = make_data()[2]
    assert_same_answers(mapped.fit(X, y if case != "dense" else y.toarray()), model, X)
    assert (tmp_path / "model.joblib").read_bytes() == before


def test_newer_states_are_refused(tmp_path):
    model, _ = fitted("sparse")
    model.save(tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    path.write_text(
        path.read_text().replace('"_skxc_state_version": 2', '"_skxc_state_version": 9')
    )
    with pytest.raises(skxc.exceptions.FormatVersionError, match="state version 9"):
        skxc.load(tmp_path / "model")


def test_indices_as_parameters(tmp_path):
    for index in (ExactIndex(block_shape=(8, 16)), FaissIndex("ivf", n_probes=3)):
        skxc.save(index, tmp_path / "index")
        assert repr(skxc.load(tmp_path / "index")) == repr(index)


def test_a_filled_faiss_index_is_refused(tmp_path):
    pytest.importorskip("faiss")
    index = FaissIndex("hnsw")
    index.add(np.eye(4))
    with pytest.raises(ValueError, match=r"`FaissIndex\._index` must be built of .*faiss"):
        skxc.save(index, tmp_path / "index")
    assert not (tmp_path / "index").exists()
