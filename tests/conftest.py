"""A tiny data folder with planted labels: the words of a text are those of its labels."""

import gzip

import numpy as np
import pytest
import scipy.sparse as sp

N_TRAIN, N_TEST, N_LABELS = 60, 15, 12


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def write_csr(path, dense):
    path.parent.mkdir(parents=True, exist_ok=True)
    sp.save_npz(path, sp.csr_array(np.asarray(dense, dtype=np.float32)))


def label_text(label):
    return f"alpha{label} beta{label} gamma{label}"


def _planted(rng, n):
    y = np.zeros((n, N_LABELS))
    texts = []
    for row in range(n):
        labels = rng.choice(N_LABELS, size=rng.integers(1, 4), replace=False)
        y[row, labels] = 1
        words = [f"{rng.choice(['alpha', 'beta', 'gamma'])}{label}" for label in labels]
        texts.append(" ".join([*words, f"noise{rng.integers(5)}"]))
    return texts, y


@pytest.fixture
def text_folder(tmp_path):
    """Texts, label texts, names, a filter, one set of anchors and one label graph."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "planted"
    train_texts, y_train = _planted(rng, N_TRAIN)
    test_texts, y_test = _planted(rng, N_TEST)
    write_lines(folder / "train_texts.txt.gz", train_texts)
    write_lines(folder / "test_texts.txt.gz", test_texts)
    write_lines(folder / "label_texts.txt.gz", map(label_text, range(N_LABELS)))
    write_lines(folder / "label_ids.txt.gz", (f"name-{label}" for label in range(N_LABELS)))
    write_csr(folder / "train_labels.npz", y_train)
    write_csr(folder / "test_labels.npz", y_test)
    write_csr(folder / "test_filter.npz", (rng.random(y_test.shape) < 0.2) * (1 - y_test))
    graphs = folder / "graphs"
    write_csr(graphs / "sample_anchors_kind.npz", np.eye(4)[rng.integers(0, 4, N_TRAIN)])
    write_csr(graphs / "label_anchors_kind.npz", np.eye(4)[rng.integers(0, 4, N_LABELS)])
    write_lines(graphs / "anchor_texts_kind.txt.gz", ["one", "two", "three", "four"])
    write_csr(graphs / "label_graph_near.npz", rng.random((N_LABELS, N_LABELS)) < 0.2)
    return folder


@pytest.fixture
def feature_folder(tmp_path):
    """Features only: every label has a feature of its own."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "features"
    for side, n in (("train", N_TRAIN), ("test", N_TEST)):
        _, y = _planted(rng, n)
        write_csr(folder / f"{side}_labels.npz", y)
        write_csr(folder / f"{side}_features.npz", 3 * y + (rng.random(y.shape) < 0.1))
    return folder
