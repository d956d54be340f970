"""From files to a saved model, to label names and to a table."""

import io
import re

import pytest

from skxc import load
from skxc.commands import main
from skxc.commands._fit import read_text_files

TEXTS = ["red wine", "white wine", "deep learning", "machine learning"] * 3
LABELS = ["wine\tred", "wine", "ml", "ml\t"] * 3
KNN = ["--estimator", "KNeighborsXC(n_neighbors=3)"]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    return ["--texts", str(tmp_path / "texts.txt"), "--labels", str(tmp_path / "labels.txt")]


def test_fit_then_predict_a_file(files, tmp_path, capsys):
    model = tmp_path / "model"
    assert main(["fit", *files, *KNN, "--output", str(model)]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "KNeighborsXC on 12 samples and 3 labels" in captured.err

    queries = tmp_path / "queries.txt"
    queries.write_text("a red wine\r\nabout learning\n\n", encoding="utf-8")
    assert main(["predict", str(model), str(queries), "-k", "2"]) == 0
    first, second, empty = capsys.readouterr().out.splitlines()
    assert first.split("\t")[::2] == ["wine", "red"]
    assert second.split("\t")[::2] == ["ml"]
    assert float(first.split("\t")[1]) >= float(first.split("\t")[3]) > 0
    assert empty == ""


def test_predict_reads_standard_input_and_agrees_with_the_estimator(
    files, tmp_path, capsys, monkeypatch
):
    model = tmp_path / "model"
    main(["fit", *files, *KNN, "--output", str(model)])
    capsys.readouterr()
    monkeypatch.setattr("sys.stdin", io.StringIO("red wine\ndeep learning"))
    assert main(["predict", str(model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    texts = ["red wine", "deep learning"]
    indices, scores = load(model).predict_topk(texts, k=5)
    names = ["ml", "red", "wine"]
    for line, ids, values in zip(lines, indices, scores, strict=True):
        found = [
            (names[label], value) for label, value in zip(ids, values, strict=True) if label >= 0
        ]
        assert line.split("\t")[::2] == [name for name, _ in found]
        assert [float(value) for value in line.split("\t")[1::2]] == pytest.approx(
            [value for _, value in found], rel=1e-3
        )


def test_fit_and_evaluate_a_folder(text_folder, tmp_path, capfd):
    model = tmp_path / "model"
    assert main(["fit", str(text_folder), *KNN, "-o", str(model)]) == 0
    assert load(model).label_names_ == [f"name-{label}" for label in range(12)]
    capfd.readouterr()
    assert main(["evaluate", str(model), str(text_folder)]) == 0
    table = capfd.readouterr().out
    assert main(["benchmark", str(text_folder), KNN[1]]) == 0
    record = capfd.readouterr().out
    for line in table.splitlines()[2:]:
        name, value = (cell.strip() for cell in line.strip("|").split("|"))
        assert f'"{name}": {float(value)}'[:-1] in record
    assert "| P@1 |" in table


def test_label_texts_give_order_names_and_texts(files, tmp_path):
    path = tmp_path / "described.txt"
    path.write_text("wine\ta drink\nml\tlearning from data\nred\ta colour\nnew\tnot seen\n")
    data = read_text_files(tmp_path / "texts.txt", tmp_path / "labels.txt", path)
    assert data.label_names == ["wine", "ml", "red", "new"]
    assert data.label_texts == ["a drink", "learning from data", "a colour", "not seen"]
    assert data.train_labels.toarray()[:3].tolist() == [[1, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]]


def test_names_are_the_texts_of_labels_without_other_texts(files, tmp_path):
    data = read_text_files(tmp_path / "texts.txt", tmp_path / "labels.txt", None)
    assert data.label_texts == data.label_names == ["ml", "red", "wine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either a data folder, or --texts with --labels"),
        (["folder", "--texts", "texts.txt", "--labels", "labels.txt"], "either a data folder"),
        (["--texts", "texts.txt"], "--texts with --labels"),
        (["--texts", "texts.txt", "--labels", "short.txt"], "12 lines but .* has 1"),
        (["--texts", "texts.txt", "--labels", "missing.txt"], "missing.txt"),
        (
            ["--texts", "texts.txt", "--labels", "labels.txt", "--label-texts", "short.txt"],
            "short.txt, line 1: no tab",
        ),
        (["nowhere"], "nowhere is no folder"),
    ],
)
def test_mistakes_of_fit(files, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("wine\n")
    assert main(["fit", *arguments, *KNN, "--output", "model"]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "model").exists()


def test_fit_does_not_overwrite(files, tmp_path, capsys):
    (tmp_path / "model").mkdir()
    assert main(["fit", *files, *KNN, "--output", str(tmp_path / "model")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_mistakes_of_predict_and_evaluate(files, text_folder, tmp_path, capsys):
    model = tmp_path / "model"
    main(["fit", *files, *KNN, "--output", str(model)])
    capsys.readouterr()
    assert main(["predict", str(model), "-k", "0"]) == 2
    assert "-k must be at least 1, but is 0" in capsys.readouterr().err
    assert main(["predict", str(tmp_path / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err
    assert main(["evaluate", str(model), str(text_folder)]) == 2
    assert "knows 3 labels but the data set has 12" in capsys.readouterr().err
