import numpy as np
import pytest
import scipy.sparse as sp

from skxc.datasets import Anchors, XCDataset, load_xc_repository, save_xc_repository
from skxc.datasets._npz_folder import indicator, read_matrix


def csr(rows, dtype=np.float32):
    return sp.csr_array(np.array(rows, dtype=dtype))


def same(a, b):
    """Compare two fields of data sets."""
    if a is None or b is None:
        return a is b
    if sp.issparse(a):
        return a.dtype == b.dtype and a.shape == b.shape and (a != b).nnz == 0 and a.nnz == b.nnz
    return a == b


@pytest.fixture
def full():
    return XCDataset(
        train_labels=csr([[1, 0, 1], [0, 0, 0]]),
        test_labels=csr([[0, 1, 0]]),
        train_texts=["a", "ü"],
        test_texts=[""],
        label_texts=["p", "q", "r"],
        train_features=csr([[0.1, 0], [2, 3]]),
        test_features=csr([[0, 1]]),
        label_features=csr([[1, 0], [0, 1], [-1, 1]]),
        feature_names=["f", "g"],
        train_ids=["0", "1"],
        test_ids=["2"],
        label_names=["P", "Q", "R"],
        train_filter=csr([[0, 1, 0], [1, 0, 0]]),
        test_filter=csr([[1, 0, 1]]),
        graphs={"same_source": csr([[0, 2, 0], [2, 0, 0], [0, 0, 0]]), "near": csr(np.eye(3))},
        anchors={
            "tag": Anchors(csr([[1, 0], [0, 1]]), csr([[1, 0], [1, 0], [0, 1]]), ["s", "t"]),
            "shelf": Anchors(csr([[1], [1]])),
        },
    )


def test_round_trip_keeps_every_field(tmp_path, full):
    save_xc_repository(full, tmp_path / "set")
    again = load_xc_repository(tmp_path / "set")
    for name, value in vars(full).items():
        if name not in ("graphs", "anchors"):
            assert value is not None and same(value, getattr(again, name)), name
    assert set(again.graphs) == set(full.graphs)
    assert all(same(full.graphs[name], again.graphs[name]) for name in full.graphs)
    assert set(again.anchors) == set(full.anchors)
    for name, nodes in full.anchors.items():
        assert all(same(a, b) for a, b in zip(nodes, again.anchors[name], strict=True))


def test_round_trip_of_the_smallest_set(tmp_path):
    save_xc_repository(XCDataset(train_labels=csr([[1, 0]])), tmp_path / "set")
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["train_labels.npz"]
    again = load_xc_repository(tmp_path / "set")
    assert again.train_labels.toarray().tolist() == [[1, 0]]
    assert again.test_labels is None and again.graphs == {} and again.anchors == {}


def test_saving_twice_gives_equal_bytes(tmp_path, full):
    for name in ("one", "two"):
        save_xc_repository(full, tmp_path / name)
    files = sorted(p for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert len(files) == 20
    for path in files:
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == twin.read_bytes()


def test_labels_become_float32_ones(tmp_path):
    matrix = sp.csr_matrix(([3, 0, 1, 1], [1, 2, 0, 0], [0, 2, 4]), shape=(2, 3))
    sp.save_npz(tmp_path / "train_labels.npz", matrix)
    y = load_xc_repository(tmp_path).train_labels
    assert isinstance(y, sp.csr_array) and y.dtype == np.float32 and y.has_canonical_format
    assert y.nnz == 2 and y.toarray().tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("bad", [-1, np.nan, np.inf])
def test_indicator_refuses_odd_relevances(tmp_path, bad):
    with pytest.raises(ValueError, match=r"y.npz: 1 values are negative or not finite, .* relev"):
        indicator(csr([[1, bad]]), tmp_path / "y.npz")


@pytest.mark.parametrize(
    "content", [b"", b"no archive", b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "empty zip"]
)
def test_files_that_are_no_matrix(tmp_path, content):
    path = tmp_path / "train_labels.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train_labels.npz: no readable sparse matrix"):
        load_xc_repository(tmp_path)


def test_a_matrix_with_indices_out_of_range(tmp_path):
    path = tmp_path / "a.npz"
    parts = {"indices": [0, 9], "indptr": [0, 2], "shape": (1, 3), "data": [1.0, 1.0]}
    np.savez(path, format=np.array(b"csr"), **parts)
    with pytest.raises(ValueError, match=r"a.npz: no readable sparse matrix \(.*\)"):
        read_matrix(path)


def test_pickled_content_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, format=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"no readable sparse matrix"):
        read_matrix(path)


def test_texts_of_the_wrong_number(tmp_path, full):
    save_xc_repository(full, tmp_path / "set")
    (tmp_path / "set" / "test_ids.txt.gz").unlink()
    (tmp_path / "set" / "train_ids.txt.gz").rename(tmp_path / "set" / "test_ids.txt.gz")
    with pytest.raises(ValueError, match=r"`test_ids` must have 1 rows .* has 2"):
        load_xc_repository(tmp_path / "set")
