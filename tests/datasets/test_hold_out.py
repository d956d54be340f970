"""Held-out training rows: who goes together, and what is no answer."""

import numpy as np
import pytest
import scipy.sparse as sp

from skxc.datasets import Anchors, XCDataset, hold_out


def _packages(n_sources=40, per_source=3, n_edges=4, seed=0):
    """Packages that depend on each other; those of one source are filtered for each other."""
    rng = np.random.default_rng(seed)
    n = n_sources * per_source
    names = [f"package {i}" for i in range(n)]
    source = np.arange(n) // per_source
    targets = rng.integers(n, size=(n, n_edges))
    labels = np.zeros((n, n), np.float32)
    labels[np.arange(n)[:, None], targets] = 1
    same = (source[:, None] == source[None, :]).astype(np.float32)
    labels[same > 0] = 0
    links = sp.csr_array(np.eye(n, dtype=np.float32))
    data = XCDataset(
        train_labels=sp.csr_array(labels),
        train_texts=[f"text of {name}" for name in names],
        train_features=sp.csr_array(np.diag(np.arange(1, n + 1)).astype(np.float32)),
        train_ids=names,
        label_names=names,
        train_filter=sp.csr_array(same),
        anchors={"own": Anchors(links)},
    )
    return data, labels, source


def _position(names):
    return [int(name.split()[-1]) for name in names]


def test_rows_are_split_and_their_fields_go_along():
    data, labels, source = _packages()
    part = hold_out(data, 30)
    train, test = _position(part.train_ids), _position(part.test_ids)
    assert not set(train) & set(test)
    assert 20 <= len(test) <= 30
    assert len(train) >= 90
    assert part.train_texts == [f"text of package {i}" for i in train]
    assert part.test_texts == [f"text of package {i}" for i in test]
    for features, rows in ((part.train_features, train), (part.test_features, test)):
        assert (features.sum(1) == np.array(rows) + 1).all()
    assert (part.train_labels.toarray() == labels[train]).all()
    assert (part.train_filter.toarray() == (source[train][:, None] == source)).all()
    assert (part.anchors["own"].sample_anchors.indices == train).all()


def test_a_family_is_never_divided():
    data, _, source = _packages()
    part = hold_out(data, 30)
    assert not set(source[_position(part.train_ids)]) & set(source[_position(part.test_ids)])


def test_reverse_of_a_training_pair_is_filtered_and_no_answer():
    data, labels, source = _packages(n_edges=20)
    part = hold_out(data, 30)
    kept, held = set(_position(part.train_ids)), _position(part.test_ids)
    answers, excluded = np.zeros((2, len(held), data.n_labels))
    for i, a in enumerate(held):
        for b in range(data.n_labels):
            known = bool(labels[a, b] and b in kept and labels[b, a])
            answers[i, b] = labels[a, b] and not known
            excluded[i, b] = known or source[a] == source[b]
    assert (labels[held] - answers).sum() > 20
    assert (part.test_labels.toarray() == answers).all()
    assert (part.test_filter.toarray() == excluded).all()


def test_without_filter_and_names_every_row_is_alone():
    labels = sp.csr_array(np.eye(50, dtype=np.float32))
    part = hold_out(XCDataset(train_labels=labels), 20, random_state=1)
    assert part.n_test == 20
    assert part.n_train == 30
    assert part.test_filter.nnz == 0
    again = hold_out(XCDataset(train_labels=labels), 20, random_state=2)
    assert (part.test_labels != again.test_labels).nnz


@pytest.mark.parametrize("n_rows", [0, 120, -3])
def test_impossible_numbers_are_explained(n_rows):
    with pytest.raises(ValueError, match=f"between 1 and 119.*but is {n_rows}"):
        hold_out(_packages()[0], n_rows)


def test_families_that_do_not_fit_are_explained():
    with pytest.raises(ValueError, match=r"2 of 120 rows do not\. Hold out more rows"):
        hold_out(_packages()[0], 2)
