"""From files to a saved model, to label names and to a table."""

import ast
import gzip
import io
import re

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from skxc import KNeighborsXC, load, save
from skxc.commands import main
from skxc.commands._fit import read_text_files
from skxc.commands._predict import label_lines

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
    typed = io.TextIOWrapper(io.BytesIO(b"red wine\ndeep learning"))
    monkeypatch.setattr("sys.stdin", typed)
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


def test_marks_line_ends_and_packed_files(files, tmp_path, capsys):
    """What one command reads, the other reads too: a mark, lone carriage returns, packed files."""
    texts, labels = "\n".join(TEXTS), "\n".join(LABELS)
    (tmp_path / "texts.txt").write_bytes(f"\ufeff{texts}\n".encode())
    with gzip.open(tmp_path / "labels.txt.gz", "wb") as file:
        file.write(f"\ufeff{labels}\r\n".encode())
    data = read_text_files(tmp_path / "texts.txt", tmp_path / "labels.txt.gz", None)
    assert data.label_names == ["ml", "red", "wine"]
    assert data.train_texts == TEXTS
    model = tmp_path / "model"
    assert main(["fit", *files, *KNN, "--output", str(model)]) == 0
    queries = "\ufeffred wine\rwhite wine\r\ndeep\u2028learning".encode()
    (tmp_path / "queries.txt").write_bytes(queries)
    (tmp_path / "queries.txt.gz").write_bytes(gzip.compress(queries))
    answers = []
    for name in ("queries.txt", "queries.txt.gz"):
        capsys.readouterr()
        assert main(["predict", str(model), str(tmp_path / name), "-k", "1"]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert len(answers[0].splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.txt", "wine\t red\n" * 12, "labels.txt, line 1: the label ' red' has blanks"),
        ("labels.txt", "wine\n" * 11 + " \n", "labels.txt, line 12: the label ' ' is empty"),
        ("names.txt", "wine\ta\nred\tb\nwine\tc\n", "names.txt, line 3: the label 'wine' has a"),
        ("names.txt", "wine\ta\n\tb\n", "names.txt, line 2: the label '' is empty"),
    ],
)
def test_names_in_files_are_checked(files, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    names = tmp_path / "names.txt" if name == "names.txt" else None
    with pytest.raises(ValueError, match=message):
        read_text_files(tmp_path / "texts.txt", tmp_path / "labels.txt", names)


def test_commas_deserve_a_hint(files, tmp_path, caplog):
    (tmp_path / "labels.txt").write_text("Wein,rot\n" * 12)
    data = read_text_files(tmp_path / "texts.txt", tmp_path / "labels.txt", None)
    assert data.label_names == ["Wein,rot"]
    assert "'Wein,rot' counts as one label" in caplog.text


def test_class_values_do_not_break_lines():
    class Classes:
        label_names_, classes_ = None, ["a\tb", "c\nd"]

        def predict_topk(self, texts, k):
            return np.array([[1, 0]]), np.array([[2.0, 1.0]])

    assert list(label_lines(Classes(), ["x"], 2)) == [r"c\nd" + "\t2\t" + r"a\tb" + "\t1"]


def test_names_of_any_kind_can_be_read_back():
    class Classes:
        label_names_, classes_ = None, ["a\\tb", "a\tb", "\x85\u2028\v", "\n\r\\", "été"]

        def predict_topk(self, texts, k):
            return np.arange(5)[None], np.ones((1, 5))

    (line,) = label_lines(Classes(), ["x"], 5)
    assert len(line.splitlines()) == 1
    names = [re.sub(r"\\(\\|[ux\w]\w*)", lambda m: ast.literal_eval(f"'{m[0]}'"), name)
             for name in line.split("\t")[::2]]  # fmt: skip
    assert len(set(line.split("\t")[::2])) == 5
    assert names[2:] == Classes.classes_[2:]


def test_options_stand_anywhere_and_files_come_in_any_encoding(files, tmp_path, capsys):
    texts, labels = (tmp_path / name for name in ("texts.txt", "labels.txt"))
    texts.write_bytes("\n".join(TEXTS).replace("red", "rosé").encode("latin-1"))
    labels.write_bytes("\n".join(LABELS).replace("red", "rosé").encode("latin-1"))
    model, query = tmp_path / "model", tmp_path / "query.txt"
    assert main(["fit", *files, *KNN, "-o", str(model), "--encoding", "latin-1"]) == 0
    query.write_bytes("a rosé wine\n".encode("utf-16"))
    capsys.readouterr()
    for words in (["-k", "2", "--encoding", "utf-16", str(model), str(query)],
                  [str(model), "-k", "2", str(query), "--encoding", "utf-16"]):  # fmt: skip
        assert main(["predict", *words]) == 0
        assert capsys.readouterr().out.split("\t")[::2] == ["wine", "rosé"]
    for encoding, message in [("utf-8", "query.txt, line 1: not utf-8 text"),
                              ("none", "`encoding` must be the name")]:  # fmt: skip
        assert main(["predict", str(model), str(query), "--encoding", encoding]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_models_that_cannot_read_texts_say_so(tmp_path, capsys):
    query = tmp_path / "query.txt"
    query.write_text("a red wine\n")
    model = KNeighborsXC().fit(np.eye(4), np.eye(4))
    model.save(tmp_path / "features")
    save(CountVectorizer().fit(TEXTS), tmp_path / "vectorizer")
    for name, message in [("features", "`X` must be a matrix of numbers, but is a list"),
                          ("vectorizer", "must hold a classifier of skxc, but")]:  # fmt: skip
        assert main(["predict", str(tmp_path / name), str(query)]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_a_text_in_another_encoding_is_named(files, tmp_path, capsys):
    model = tmp_path / "model"
    main(["fit", *files, *KNN, "--output", str(model)])
    (tmp_path / "queries.txt").write_bytes(b"wine\n\xe9t\xe9\n")
    assert main(["predict", str(model), str(tmp_path / "queries.txt")]) == 2
    assert "queries.txt, line 2: not utf-8 text" in capsys.readouterr().err
    (tmp_path / "queries.gz").write_bytes(gzip.compress(b"wine\n" * 1000)[:-9])
    assert main(["predict", str(model), str(tmp_path / "queries.gz")]) == 2


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
