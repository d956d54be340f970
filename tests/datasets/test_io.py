import dataclasses
import gzip
import json

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.datasets import Anchors, XCDataset, load_xc_repository, save_xc_repository


def csr(rows):
    return sp.csr_array(np.array(rows, dtype=np.float32))


def put(folder, **files):
    """Write files; `__` in a name stands for a dot, `sub__` is kept simple."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


TEXT = {
    "trn_X_Y__txt": "2 3\n0:1 2:1.0\n1:1\n",
    "tst_X_Y__txt": "1 3\n2:1\n",
    "trn_X_Xf__txt": "2 4\n0:.5\n3:2\n",
    "tst_X_Xf__txt": "1 4\n1:1\n",
    "lbl_X_Xf__txt": "3 4\n0:1\n1:1\n2:1\n",
    "filter_labels_train__txt": "1 0\n",
    "filter_labels_test__txt": "0 0\n0 1\n",
}
RAW = {"trn_X__txt": "one\ntwo\n", "tst_X__txt": "three\n", "Y__txt": "a\nb\nc\n"}
Y_TRAIN, Y_TEST = [[1, 0, 1], [0, 1, 0]], [[0, 0, 1]]


def check_labels(data):
    assert data.train_labels.toarray().tolist() == Y_TRAIN
    assert data.test_labels.toarray().tolist() == Y_TEST
    assert data.train_labels.dtype == data.test_labels.dtype == np.float32


def check_texts(data):
    assert data.train_texts == ["one", "two"]
    assert data.test_texts == ["three"]
    assert data.label_texts == ["a", "b", "c"]


def check_filters(data):
    assert data.train_filter.toarray().tolist() == [[0, 0, 0], [1, 0, 0]]
    assert data.test_filter.toarray().tolist() == [[1, 1, 0]]


# ---------------------------------------------------------------- text
@pytest.mark.parametrize("place", [".", "raw", "raw_data", "raw_text"])
def test_text_format(tmp_path, place):
    put(tmp_path, **TEXT)
    put(tmp_path / place, **RAW)
    data = load_xc_repository(tmp_path)
    check_labels(data)
    check_texts(data)
    check_filters(data)
    assert data.train_features.toarray().tolist() == [[0.5, 0, 0, 0], [0, 0, 0, 2]]
    assert data.test_features.toarray().tolist() == [[0, 1, 0, 0]]
    assert data.label_features.shape == (3, 4)


def test_text_format_with_npz_matrices_and_packed_files(tmp_path):
    sp.save_npz(tmp_path / "Y.trn.npz", csr(Y_TRAIN))
    sp.save_npz(tmp_path / "Y.tst.npz", csr(Y_TEST))
    sp.save_npz(tmp_path / "X.trn.npz", csr([[1, 2], [3, 4]]))
    (tmp_path / "X.trn.txt").write_text("one\ntwo\n")
    (tmp_path / "X.tst.txt").write_text("three\n")
    (tmp_path / "Y.txt.gz").write_bytes(gzip.compress(b"a\nb\nc\n"))
    data = load_xc_repository(tmp_path)
    check_labels(data)
    check_texts(data)
    assert data.train_features.toarray().tolist() == [[1, 2], [3, 4]]
    assert data.test_features is None


def test_text_format_without_options(tmp_path):
    data = load_xc_repository(put(tmp_path, trn_X_Y__txt=TEXT["trn_X_Y__txt"]))
    assert data.train_labels.toarray().tolist() == Y_TRAIN
    assert data.test_labels is None and data.train_texts is None and data.train_filter is None


def test_relevances_become_ones_and_zeros_vanish(tmp_path):
    data = load_xc_repository(put(tmp_path, trn_X_Y__txt="1 3\n0:0.4 1:0 2:7\n"))
    assert data.train_labels.toarray().tolist() == [[1, 0, 1]]
    assert data.train_labels.nnz == 2
    with pytest.raises(ValueError, match=r"trn_X_Y.txt: 1 values are negative"):
        load_xc_repository(put(tmp_path, trn_X_Y__txt="1 3\n0:-1\n"))


# ---------------------------------------------------------------- bow
@pytest.mark.parametrize("names", [("train", "test"), ("eurlex_train", "eurlex_test")])
def test_bow_format(tmp_path, names):
    put(tmp_path, filter_labels_train__txt="1 0\n", filter_labels_test__txt="0 0\n0 1\n", **RAW)
    (tmp_path / f"{names[0]}.txt").write_text("2 4 3\n0,2 0:.5\n1 3:2\n")
    (tmp_path / f"{names[1]}.txt").write_text("1 4 3\n2 1:1\n")
    data = load_xc_repository(tmp_path)
    check_labels(data)
    check_texts(data)
    check_filters(data)
    assert data.train_features.toarray().tolist() == [[0.5, 0, 0, 0], [0, 0, 0, 2]]


def test_filters_alone_are_no_bag_of_words(tmp_path):
    put(tmp_path, filter_labels_train__txt="1 0\n")
    with pytest.raises(ValueError, match=r"must hold .* but holds filter_labels_train.txt"):
        load_xc_repository(tmp_path)


# ---------------------------------------------------------------- json
def json_lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


JSON = {
    "trn__json": json_lines(
        {"uid": "t0", "title": "one", "content": "", "target_ind": [0, 2], "target_rel": [1, 1]},
        {"uid": "t1", "title": "two", "content": "", "target_ind": [1], "target_rel": [1]},
    ),
    "tst__json": json_lines({"uid": "t2", "title": "three", "target_ind": [2]}),
    "lbl__json": json_lines(*({"uid": u.upper(), "title": u} for u in "abc")),
}


@pytest.mark.parametrize("packed", [False, True])
def test_json_format(tmp_path, packed):
    put(tmp_path, filter_labels_train__txt="1 0\n", filter_labels_test__txt="0 0\n0 1\n", **JSON)
    for name in JSON if packed else ():
        path = tmp_path / name.replace("__", ".")
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    data = load_xc_repository(tmp_path)
    check_labels(data)
    check_texts(data)
    check_filters(data)
    assert (data.train_ids, data.test_ids, data.label_names) == (["t0", "t1"], ["t2"], list("ABC"))


def test_json_without_labels_counts_those_named(tmp_path):
    put(tmp_path, **{**JSON, "lbl__json": ""})
    (tmp_path / "lbl.json").unlink()
    data = load_xc_repository(tmp_path)
    check_labels(data)
    assert data.label_texts is None and data.label_names is None


def test_json_with_too_few_labels(tmp_path):
    put(tmp_path, **{**JSON, "lbl__json": json_lines({"title": "a"}, {"title": "b"})})
    with pytest.raises(ValueError, match=r"trn.json, line 1: label 2 is out of range"):
        load_xc_repository(tmp_path)


# ---------------------------------------------------------------- choosing
def test_the_format_can_be_named(tmp_path):
    put(tmp_path, **TEXT, **JSON)
    assert load_xc_repository(tmp_path).train_ids is None
    assert load_xc_repository(tmp_path, format="json").train_ids == ["t0", "t1"]
    with pytest.raises(ValueError, match=r"must hold train.txt \(format 'bow'\), but holds "):
        load_xc_repository(tmp_path, format="bow")
    with pytest.raises(ValueError, match=r"must hold train_labels.npz \(format 'npz'\)"):
        load_xc_repository(tmp_path, format="npz")
    with pytest.raises(ValueError, match=r"`format` must be one of"):
        load_xc_repository(tmp_path, format="csv")


def test_no_format_fits(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"must hold train_labels.npz \(format 'npz'\), trn_X_Y.txt \(format 'text'\), "
        r"trn.json.gz \(format 'json'\), train.txt \(format 'bow'\), but holds nothing",
    ):
        load_xc_repository(tmp_path)
    with pytest.raises(ValueError, match=r"nowhere is no folder"):
        load_xc_repository(tmp_path / "nowhere")


def test_files_that_contradict_each_other(tmp_path):
    put(tmp_path, **{**TEXT, **RAW, "Y__txt": "a\nb\n"})
    with pytest.raises(ValueError, match=r"`label_texts` must have 3 rows .* has 2"):
        load_xc_repository(tmp_path)


def test_encoding(tmp_path):
    put(tmp_path, **TEXT)
    (tmp_path / "trn_X.txt").write_bytes(b"one\n\xe9t\xe9\n")
    with pytest.raises(ValueError, match=r"trn_X.txt, line 2: not utf-8"):
        load_xc_repository(tmp_path)
    assert load_xc_repository(tmp_path, encoding="latin-1").train_texts[1] == "été"


# ---------------------------------------------------------------- saving
@pytest.fixture
def data():
    return XCDataset(
        train_labels=csr(Y_TRAIN),
        test_labels=csr(Y_TEST),
        train_texts=["one", "two"],
        test_texts=["three"],
        label_texts=["a", "b", "c"],
        train_features=csr([[0.1, 0], [0, 3]]),
        test_features=csr([[1e-9, 1]]),
        label_features=csr([[1, 0], [0, 1], [1, 1]]),
        train_filter=csr([[0, 0, 0], [1, 0, 0]]),
        test_filter=csr([[1, 1, 0]]),
    )


@pytest.mark.parametrize("format", ["text", "bow", "npz"])
def test_round_trip_of_all_that_the_format_holds(tmp_path, data, format, recwarn):
    save_xc_repository(data, tmp_path / "new" / "set", format=format)
    assert not recwarn
    again = load_xc_repository(tmp_path / "new" / "set")
    check_labels(again)
    check_texts(again)
    check_filters(again)
    for side in ("train", "test", "label"):
        a, b = (getattr(d, f"{side}_features").toarray() for d in (data, again))
        np.testing.assert_array_equal(a, b)


def test_round_trip_of_json(tmp_path, data, recwarn):
    data = dataclasses.replace(
        data,
        train_texts=["one\nline", "two"],
        train_ids=["t0", "t1"],
        test_ids=["t2"],
        label_names=["A", "B", "C"],
        train_features=None,
        test_features=None,
        label_features=None,
    )
    save_xc_repository(data, tmp_path / "set", format="json")
    assert not recwarn
    again = load_xc_repository(tmp_path / "set")
    check_labels(again)
    check_filters(again)
    for name in (
        "train_texts",
        "test_texts",
        "label_texts",
        "train_ids",
        "test_ids",
        "label_names",
    ):
        assert getattr(again, name) == getattr(data, name)


@pytest.mark.parametrize("format", ["text", "bow", "json", "npz"])
def test_sets_without_a_test_side(tmp_path, data, format):
    data = dataclasses.replace(
        data, test_labels=None, test_texts=None, test_features=None, test_filter=None
    )
    if format == "json":
        data = dataclasses.replace(data, train_features=None, label_features=None)
    save_xc_repository(data, tmp_path / "set", format=format)
    again = load_xc_repository(tmp_path / "set")
    assert again.train_labels.toarray().tolist() == Y_TRAIN
    assert again.test_labels is None


def test_what_a_format_cannot_hold_is_named(tmp_path, data):
    data = dataclasses.replace(
        data,
        label_names=["A", "B", "C"],
        graphs={"near": csr(np.eye(3))},
        anchors={"tag": Anchors(csr([[1], [1]]))},
    )
    with pytest.warns(
        UserWarning, match=r"'text' format has no place for label_names, graphs, anch"
    ):
        save_xc_repository(data, tmp_path / "text", format="text")
    with pytest.warns(UserWarning, match=r"no place for train_features, test_features, label_feat"):
        save_xc_repository(data, tmp_path / "json", format="json")


def test_errors_of_saving(tmp_path, data):
    with pytest.raises(ValueError, match=r"`format` must be one of .* but is 'csv'"):
        save_xc_repository(data, tmp_path / "a", format="csv")
    assert not (tmp_path / "a").exists()
    put(tmp_path / "b", left__txt="")
    with pytest.raises(ValueError, match=r"b is not empty, .* Pass a new folder"):
        save_xc_repository(data, tmp_path / "b")
    for field, format in [
        ("train_features", "bow"),
        ("test_features", "bow"),
        ("train_texts", "json"),
        ("test_texts", "json"),
        ("label_texts", "json"),
    ]:
        less = dataclasses.replace(data, **{field: None})
        with pytest.raises(ValueError, match=f"has no `{field}`, but the '{format}' format"):
            save_xc_repository(less, tmp_path / field, format=format)
    broken = dataclasses.replace(data, label_texts=["a", "b\nb", "c"])
    with pytest.raises(ValueError, match=r"Text 1 for .*Y.txt contains a line break"):
        save_xc_repository(broken, tmp_path / "c", format="text")
