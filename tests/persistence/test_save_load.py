import json
import os
import pickle
import time

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skxc import KNeighborsXC
from skxc.exceptions import FormatVersionError
from skxc.persistence import load, save

TEXTS = ["red wine and cheese", "white wine", "deep learning of texts", "learning to rank texts"]


@pytest.fixture
def no_pickle(monkeypatch):
    """Make every way to read or write a pickle raise."""

    def refuse(*args, **kwargs):
        raise AssertionError("a pickle was opened")

    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr("joblib.load", refuse)
    monkeypatch.setattr("joblib.dump", refuse)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "new" / "model"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder):
    """Return the file names without save ids."""
    return sorted(path.name.partition("-")[0].partition(".")[0] for path in folder.iterdir())


@pytest.mark.parametrize(
    "vectorizer",
    [
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(max_features=3, stop_words=["and"], dtype=np.float32),
        TfidfVectorizer(vocabulary={"wine": 0, "learning": 1}, token_pattern=r"\S+"),
        CountVectorizer(analyzer="char_wb", ngram_range=(3, 3), binary=True),
        HashingVectorizer(n_features=64, stop_words="english"),
        make_pipeline(TfidfVectorizer(), Normalizer("l1")),
        make_pipeline(CountVectorizer(), TruncatedSVD(2, random_state=0)),
    ],
    ids=repr,
)
def test_vectorizers(vectorizer, folder, no_pickle):
    vectorizer.fit(TEXTS)
    save(vectorizer, folder)
    loaded = load(folder)
    assert type(loaded) is type(vectorizer)
    new = [*TEXTS, "rank the wine", ""]
    for mine, theirs in [(loaded.transform(new), vectorizer.transform(new))]:
        assert mine.dtype == theirs.dtype
        difference = mine - theirs
        assert (difference.nnz if sp.issparse(difference) else np.abs(difference).sum()) == 0
    assert repr(loaded) == repr(vectorizer)


def test_unfitted_and_dense_estimators(folder, no_pickle):
    X = np.random.default_rng(0).standard_normal((30, 4))
    save(PCA(2), folder)
    assert repr(load(folder)) == "PCA(n_components=2)"
    model = LogisticRegression().fit(X, np.where(X[:, 0] > 0, "yes", "no"))
    save(model, folder)
    assert load(folder).classes_.tolist() == ["no", "yes"]
    np.testing.assert_array_equal(load(folder).predict_proba(X), model.predict_proba(X))


def test_the_files(folder):
    save(TfidfVectorizer().fit(TEXTS), str(folder))
    assert names(folder) == ["arrays", "model"]
    structure = json.loads((folder / "model.json").read_text())
    assert structure["format_version"] == 2
    assert set(structure) == {"format_version", "skxc_version", "save_id", "estimator"}
    assert structure["estimator"]["object"][0].endswith(":TfidfVectorizer")
    assert not any(
        b"csklearn" in content or b"cnumpy" in content for content in files(folder).values()
    )


def test_loaded_from_a_copied_or_moved_folder(folder, tmp_path):
    model = TfidfVectorizer().fit(TEXTS)
    save(model, folder)
    folder.rename(tmp_path / "elsewhere")
    assert load(tmp_path / "elsewhere").vocabulary_ == model.vocabulary_


def test_replacing_a_save(folder):
    save(TfidfVectorizer().fit(TEXTS), folder)
    (folder / "README.md").write_text("mine")
    save(Normalizer("max"), folder)
    assert repr(load(folder)) == "Normalizer(norm='max')"
    assert names(folder) == ["README", "arrays", "model"]


def test_a_model_can_be_saved_over_itself(folder):
    save(TfidfVectorizer().fit(TEXTS), folder)
    loaded = load(folder)
    expected = loaded.transform(TEXTS)
    save(loaded, folder)
    save(load(folder), folder)
    assert (load(folder).transform(TEXTS) != expected).nnz == 0
    assert (loaded.transform(TEXTS) != expected).nnz == 0


class Crash(BaseException):
    """Not an Exception, like KeyboardInterrupt."""


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("step", ["write_arrays", "write_atomically"])
def test_a_crash_at_any_step_leaves_the_old_model(folder, monkeypatch, step, old):
    if old:
        save(Normalizer("max"), folder)
        before = files(folder)

    def crash(path, *args):
        path.write_bytes(b"half")
        raise Crash

    def crash_before_the_switch(path, write):
        write(path.with_name(".model.json.0.tmp"))
        raise Crash

    replacement = crash_before_the_switch if step == "write_atomically" else crash
    monkeypatch.setattr(f"skxc.persistence._save_load.{step}", replacement)
    with pytest.raises(Crash):
        save(TfidfVectorizer().fit(TEXTS), folder)
    monkeypatch.undo()
    if old:
        after = files(folder)
        after.pop(".model.json.0.tmp", None)
        assert after == before
        assert repr(load(folder)) == "Normalizer(norm='max')"
    else:
        with pytest.raises(FileNotFoundError, match=r"must hold a saved model, but .*model\.json"):
            load(folder)


def test_a_killed_process_leaves_the_old_model_and_the_next_save_cleans_up(folder, monkeypatch):
    save(Normalizer("max"), folder)
    # Nothing that follows the crash is run, as after SIGKILL.
    monkeypatch.setattr("skxc.persistence._save_load.remove", lambda paths: None)
    monkeypatch.setattr("skxc.persistence._save_load.write_atomically", lambda path, write: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(TfidfVectorizer().fit(TEXTS), folder)
    monkeypatch.undo()
    (folder / ".model.json.ab.tmp").write_text('{"format_ver')
    (folder / ".tmpAb12Cd").write_text("of the safetensors library")
    assert len(files(folder)) == 5
    assert repr(load(folder)) == "Normalizer(norm='max')"
    save(Normalizer("l1"), folder)
    assert names(folder) == ["arrays", "model"]
    assert repr(load(folder)) == "Normalizer(norm='l1')"


def test_a_folder_with_leftovers_of_a_first_save_is_usable(folder, monkeypatch):
    monkeypatch.setattr("skxc.persistence._save_load.remove", lambda paths: None)
    monkeypatch.setattr("skxc.persistence._save_load.flush", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(Normalizer(), folder)
    monkeypatch.undo()
    (folder / ".tmpAb12Cd").write_text("of the safetensors library")
    save(Normalizer("l1"), folder)
    assert names(folder) == ["arrays", "model"]
    assert repr(load(folder)) == "Normalizer(norm='l1')"


def test_a_reader_sees_the_old_or_the_new_model(folder, monkeypatch):
    """A save that finishes between two steps of a load."""
    import skxc.persistence._save_load as module

    save(Normalizer("max"), folder)
    parse, saved = module._parse, []

    def parse_slowly(content, path):
        if not saved:
            saved.append(save(Normalizer("l1"), folder))
        return parse(content, path)

    monkeypatch.setattr(module, "_parse", parse_slowly)
    assert repr(load(folder)) == "Normalizer(norm='l1')"


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (TfidfVectorizer(tokenizer=str.split), r"`TfidfVectorizer\.tokenizer` must be built of"),
        (
            make_pipeline(TfidfVectorizer(preprocessor=lambda text: text)).fit(TEXTS),
            r"`Pipeline\.steps\[0\]\[1\]\.preprocessor` must be built of .*lambda",
        ),
        (np.zeros(3), "`estimator` must be an estimator, but is a ndarray"),
        (TfidfVectorizer, "`estimator` must be an estimator, but is a type"),
    ],
    ids=["method", "lambda", "array", "class"],
)
def test_what_cannot_be_saved_writes_nothing(estimator, message, folder):
    with pytest.raises(ValueError, match=message):
        save(estimator, folder)
    assert not folder.parent.exists()
    save(Normalizer("max"), folder)
    before = files(folder)
    with pytest.raises(ValueError, match=message):
        save(estimator, folder)
    assert files(folder) == before


def test_estimators_of_users_are_refused(folder):
    class Mine(BaseEstimator):
        pass

    with pytest.raises(ValueError, match=r"`Mine` must be built of .* an object of .*Mine"):
        save(Mine(), folder)


def test_other_folders_and_files_are_not_touched(folder, tmp_path):
    folder.mkdir(parents=True)
    save(Normalizer(), folder)  # empty is fine
    (tmp_path / "work.txt").write_text("mine")
    with pytest.raises(ValueError, match="`folder` must be new, empty or a saved model, but"):
        save(Normalizer(), tmp_path)
    with pytest.raises(ValueError, match=r"`folder` must be a folder, but .*work\.txt is a file"):
        save(Normalizer(), tmp_path / "work.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "work.txt"]


@pytest.mark.parametrize("content", ['{"layers": 3}', "[1]", "", "\x00", '{"save_id": "ab"}', None])
def test_a_model_json_of_others_is_not_touched(folder, content):
    folder.mkdir(parents=True)
    path = folder / "model.json"
    os.mkfifo(path) if content is None else path.write_text(content)
    with pytest.raises(ValueError, match=r"the model\.json of .* is damaged or not of skxc"):
        save(Normalizer(), folder)
    assert list(folder.iterdir()) == [path]
    assert content is None or path.read_text() == content


@pytest.mark.parametrize(("version", "cure"), [(1, "Fit and save the model again"), (3, "Update")])
def test_other_formats(folder, version, cure):
    save(Normalizer(), folder)
    path = folder / "model.json"
    path.write_text(path.read_text().replace('"format_version": 2', f'"format_version": {version}'))
    with pytest.raises(
        FormatVersionError,
        match=rf"has format version {version} \(skxc .*reads version 2\. {cure}",
    ):
        load(folder)


def test_missing_files(folder):
    with pytest.raises(FileNotFoundError, match="`folder` must hold a saved model, but"):
        load(folder)
    for folder_name in ("a", "b"):
        folder = folder / folder_name
        save(Normalizer(), folder)
        next(folder.glob("arrays-*")).unlink()
        with pytest.raises(FileNotFoundError, match=r"is missing from the saved model\. Copy the"):
            load(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff\xfe\x00",
        b'{"format_version": "new"}',
        b'{"format_version": true}',
        b'{"format_version": 1.9}',
        b'{"format_version": Infinity}',
        b'{"format_version": 2.0}',
        b'{"format_version": 0}',
        b'{"format_version": -1}',
        b'{"format_version": 2}',
        b'{"format_version": 2, "save_id": "../../etc", "estimator": null}',
        b"[" * 100_000,
    ],
    ids=lambda content: repr(content[:30]),
)
def test_damaged_json(folder, content):
    save(Normalizer(), folder)
    (folder / "model.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.json is damaged \(.*\)\. Copy or save the model"):
        load(folder)


@pytest.mark.parametrize("damage", ["cut", "empty", "pickle", "header"])
def test_damaged_arrays(folder, damage):
    model = make_pipeline(TfidfVectorizer())
    model.extra_ = sp.csr_array(np.eye(50))
    save(model.fit(TEXTS), folder)
    path = next(folder.glob("arrays-*"))
    content = path.read_bytes()
    damages = {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "pickle": pickle.dumps(model),
        "header": (10**12).to_bytes(8, "little") + content[8:],
    }
    path.write_bytes(damages[damage])
    with pytest.raises(ValueError, match=rf"{path.name} is damaged"):
        load(folder)


@pytest.mark.parametrize("kind", ["pipe", "device", "link", "folder"])
@pytest.mark.parametrize("pattern", ["arrays-*", "model.json"])
def test_files_that_are_none(folder, tmp_path, pattern, kind):
    save(Normalizer(), folder)
    path = next(folder.glob(pattern))
    path.rename(tmp_path / "elsewhere")
    make = {
        "pipe": os.mkfifo,
        "device": lambda path: path.symlink_to("/dev/zero"),
        "link": lambda path: path.symlink_to(tmp_path / "elsewhere"),
        "folder": lambda path: path.mkdir(),
    }
    make[kind](path)
    with pytest.raises(ValueError, match="must be a file of the folder"):
        load(folder)


def test_a_target_that_cannot_be_written_is_an_os_error(folder, monkeypatch):
    save(Normalizer("max"), folder)
    before = files(folder)
    with pytest.raises(OSError):
        save(Normalizer(), "/dev/null/model")
    write = open

    def full(path, mode="r", *args, **kwargs):
        return write("/dev/full" if "w" in mode else path, mode, *args, **kwargs)

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(OSError, match="No space left"):
        save(TfidfVectorizer().fit(TEXTS), folder)
    monkeypatch.undo()
    assert files(folder) == before


def test_the_present_model_stays_where_its_writer_fails_afterwards(folder, monkeypatch):
    monkeypatch.setattr("skxc.persistence._files.remove_abandoned", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(Normalizer("max"), folder)
    monkeypatch.undo()
    assert repr(load(folder)) == "Normalizer(norm='max')"


def test_wrong_shapes(folder):
    from safetensors.numpy import save_file

    save(TfidfVectorizer().fit(TEXTS), folder)
    save_file({"_tfidf.idf_": np.zeros(3)}, next(folder.glob("arrays-*")))
    with pytest.raises(ValueError, match=r"`_tfidf\.idf_` has shape \(3,\) instead of \(11,\)"):
        load(folder)


def test_a_vectoriser_that_lost_a_part(folder):
    model = KNeighborsXC(vectorizer=TfidfVectorizer()).fit(TEXTS, np.eye(len(TEXTS)))
    save(model, folder)
    structure = json.loads((folder / "model.json").read_text())

    def cut(node):
        if isinstance(node, dict):
            node.pop("_tfidf", None)
            node = list(node.values())
        for part in node if isinstance(node, list) else ():
            cut(part)

    cut(structure)
    (folder / "model.json").write_text(json.dumps(structure))
    with pytest.raises(ValueError, match="vectorizer_` cannot read a text"):
        load(folder)


def test_a_class_that_does_not_exist_here(folder):
    save(Normalizer(), folder)
    path = folder / "model.json"
    path.write_text(path.read_text().replace(":Normalizer", ":Gone"))
    with pytest.raises(ValueError, match=r"there is no class sklearn\.preprocessing\._data:Gone"):
        load(folder)


def test_warnings_about_other_versions_of_sklearn_are_kept(folder):
    from sklearn.exceptions import InconsistentVersionWarning

    save(Normalizer(), folder)
    path = folder / "model.json"
    structure = json.loads(path.read_text())
    structure["estimator"]["object"][1]["_sklearn_version"] = "0.1"
    path.write_text(json.dumps(structure))
    with pytest.warns(InconsistentVersionWarning):
        load(folder)


def test_large_vocabularies(folder, no_pickle):
    words = [f"word{i}" for i in range(200_000)]
    vectorizer = TfidfVectorizer(max_features=len(words)).fit([" ".join(words)])
    start = time.process_time()
    save(vectorizer, folder)
    loaded = load(folder)
    assert time.process_time() - start < 10
    assert loaded.vocabulary_ == vectorizer.vocabulary_
    size = sum(len(content) for content in files(folder).values())
    assert size < 80 * len(words)


def test_big_endian_arrays(folder):
    model = Normalizer()
    model.values_ = np.arange(3, dtype=">f8")
    save(model, folder)
    np.testing.assert_array_equal(load(folder).values_, [0, 1, 2])
