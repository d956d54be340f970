"""The demo: its parts on planted data, and the quick variant from start to end."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from skxc import load
from skxc.commands import main
from skxc.commands._demo import UNSEEN, first_rows, label_cosine
from skxc.datasets import load_xc_repository


@pytest.fixture
def data(text_folder):
    return load_xc_repository(text_folder)


def test_label_cosine_equals_the_dense_product(data):
    vectorizer = TfidfVectorizer(sublinear_tf=True).fit(data.train_texts)
    texts = vectorizer.transform(data.test_texts).toarray()
    labels = vectorizer.transform(data.label_texts).toarray()
    scores = label_cosine(data).toarray()
    np.testing.assert_allclose(scores, texts @ labels.T, atol=1e-6)


def test_first_rows_keep_all_labels(data):
    few = first_rows(data, 7)
    assert (few.n_train, few.n_test, few.n_labels) == (7, 7, data.n_labels)
    assert few.train_texts == data.train_texts[:7]
    assert few.test_filter.shape == (7, data.n_labels)
    np.testing.assert_array_equal(few.test_labels.toarray(), data.test_labels.toarray()[:7])


def test_an_output_that_is_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--quick", "--output", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err


@pytest.mark.slow
def test_quick_demo(tmp_path, capsys):
    for _ in range(2):  # the second one replaces the model of the first
        assert main(["demo", "--quick", "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.startswith("| ")]
    names = [row.split("|")[1].strip() for row in rows]
    assert names[1:4] == ["cosine to the label text", "KNeighborsXC", "DualEncoderXC"]
    assert all(text in out for text in UNSEEN)
    assert (tmp_path / "precision_by_frequency.png").stat().st_size > 5_000
    assert len(load(tmp_path / "model").predict_labels(UNSEEN, k=5)[0]) == 5
