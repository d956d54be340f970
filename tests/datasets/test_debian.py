import importlib.resources

import numpy as np
import pytest

from skxc.datasets import load_debian_related, names_from_labels


@pytest.fixture(scope="module")
def data():
    return load_debian_related()


def test_sizes(data):
    assert (data.n_train, data.n_test, data.n_labels) == (9108, 2112, 11920)
    assert (data.train_labels.nnz, data.test_labels.nnz) == (29439, 6598)
    assert set(data.graphs) == {"depends", "samesource"}
    widths = {name: nodes.sample_anchors.shape[1] for name, nodes in data.anchors.items()}
    assert widths == {"depends": 12033, "tag": 598, "maintainer": 2248, "section": 58}


def test_a_known_row(data):
    i = data.train_ids.index("0install-core")
    text = "0install core : cross-distribution packaging system (non-GUI parts)"
    assert data.train_texts[i] == text
    assert names_from_labels(data.train_labels[[i]], data.label_names) == [
        ["cabextract", "lzma", "packagekit", "rpm2cpio", "unzip"]
    ]
    dependencies = data.anchors["depends"]
    linked = [
        dependencies.texts[j].split(" : ")[0] for j in dependencies.sample_anchors[[i]].indices
    ]
    assert linked == ["bzip2", "ca certificates", "gnupg", "libcurl3 gnutls", "libev4", "xdg utils"]


def test_matrices_are_float32_ones_in_canonical_form(data):
    matrices = [data.train_labels, data.test_labels, data.train_filter, data.test_filter]
    matrices += [m for nodes in data.anchors.values() for m in nodes[:2]]
    matrices += data.graphs.values()
    for matrix in matrices:
        assert matrix.dtype == np.float32 and (matrix.data == 1).all()
        assert matrix.has_canonical_format and matrix.indices.dtype == np.int32


def test_the_tail(data):
    frequency = np.bincount(data.train_labels.indices, minlength=data.n_labels)
    assert np.mean(frequency < 5) == pytest.approx(0.902, abs=0.001)
    assert np.mean(frequency == 0) == pytest.approx(0.100, abs=0.001)
    unseen = np.mean(frequency[data.test_labels.indices] == 0)
    assert unseen == pytest.approx(0.200, abs=0.001)


def test_filters_and_sides_do_not_overlap(data):
    assert data.test_filter.multiply(data.test_labels).nnz == 0
    assert data.train_filter.multiply(data.train_labels).nnz == 0
    assert not set(data.train_ids) & set(data.test_ids)
    # a package that is a label is in its own filter
    i = next(i for i, name in enumerate(data.test_ids) if name in set(data.label_names))
    assert data.test_filter[i, data.label_names.index(data.test_ids[i])] == 1


def test_texts_hold_no_address_and_the_graph_is_symmetric(data):
    assert not any("@" in name for name in data.anchors["maintainer"].texts)
    graph = data.graphs["samesource"]
    assert (graph != graph.T).nnz == 0 and graph.diagonal().sum() == 0


def test_holders(data):
    graph, samples = data.anchor_graph(["depends", "tag"])
    assert graph.groups == {"depends": (0, 12033), "tag": (12033, 12631)}
    assert samples.shape == (9108, 12631)


def test_the_files_are_small_and_carry_their_source():
    folder = importlib.resources.files("skxc.datasets") / "data" / "debian_related"
    assert "Source and licence" in (folder / "README.md").read_text()
    with importlib.resources.as_file(folder) as path:
        assert sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) < 3e6
