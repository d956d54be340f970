"""What is called: a function per area draws an input and returns the call that uses it."""

import contextlib
import copy
import functools
import gzip
import io
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer

import skxc
from skxc import metrics
from skxc.commands import main
from skxc.datasets import (
    labels_from_names,
    load_xc_repository,
    make_planted_xc,
    names_from_labels,
    save_xc_repository,
)
from tests.fuzz import inputs

N, D, L = 20, 8, 6
TINY = {"encoder__dim": 8, "encoder__n_buckets": 64}
NEURAL = ("DualEncoderXC", "GraphRegularizedXC", "UnifiedXC", "LabelGraphXC", "LearnedIndexXC")


class Nonsense(Exception):
    """An answer that cannot be."""


def demand(holds, what):
    if not holds:
        raise Nonsense(what)


def estimator(name, with_texts):
    """Return an estimator that is quick to fit."""
    vectorizer = TfidfVectorizer() if with_texts else None
    if name == "FusionXC":
        names = ("KNeighborsXC", "LinearTreeXC")
        members = [(name.lower(), estimator(name, with_texts)) for name in names]
        return skxc.FusionXC(members, random_state=0)
    if name == "KNeighborsXC":
        return skxc.KNeighborsXC(vectorizer=vectorizer, n_neighbors=3)
    made = getattr(skxc, name)(random_state=0)
    return made.set_params(n_epochs=1, **TINY) if name in NEURAL else made


@functools.cache
def fitted(name, with_texts, layout):
    """Return a fitted estimator; the cache is what makes calls cheap."""
    rng = np.random.default_rng(0)
    y = (rng.random((N, L)) < 0.4).astype(int)
    X = sp.random_array((N, D), density=0.5, random_state=rng, format="csr")
    if with_texts:
        X = [" ".join(rng.choice(inputs.WORDS, 3)) for _ in range(N)]
    y = {"sparse": sp.csr_array(y), "dense": y, "classes": y[:, 0] + y[:, 1]}[layout]
    return estimator(name, with_texts).fit(X, y)


def size(X):
    shape = getattr(X, "shape", None)
    return shape[0] if shape else len(X) if hasattr(X, "__len__") else None


def check_answers(model, X, k=3):
    """Demand that all answers of a fitted model are possible."""
    n, n_labels = size(X), model.n_labels_
    ids, scores = model.predict_topk(X, k)
    demand(ids.shape == scores.shape and n in (None, len(ids)), f"shape {ids.shape} for {n} rows")
    demand(ids.shape[1] <= k, "more than k")
    demand(((ids >= -1) & (ids < n_labels)).all(), "ids out of range")
    found = ids >= 0
    demand(np.isfinite(scores[found]).all(), "scores are not finite")
    for row, values in zip(ids, scores, strict=True):
        kept = row[row >= 0]
        demand(len(set(kept.tolist())) == len(kept), "a label twice")
        demand((np.diff(values[row >= 0]) <= 0).all(), "scores are not sorted")
    if n is None:  # an iterator is used up
        return
    columns = (n_labels,)
    for name in ("predict_proba", "decision_function"):
        if not hasattr(model, name):  # no probabilities without calibration
            demand(name == "predict_proba" and model.calibration is None, f"{name} is missing")
            return
        answer = getattr(model, name)(X)
        values = answer.data if sp.issparse(answer) else np.asarray(answer)
        demand(not np.isnan(values).any(), f"NaN in {name}")
        demand(answer.shape[0] == n and answer.shape[1:] in (columns, ()), f"shape of {name}")
        if name == "predict_proba":
            demand(((values >= 0) & (values <= 1)).all(), "probabilities outside [0, 1]")
    demand(model.predict(X).shape[0] == n, "shape of predict")
    demand(len(model.predict_labels(X, k=k)) == n, "length of predict_labels")


def fit(draw):
    """Fit with one strange argument, or none, then predict what was fitted."""
    names = ["KNeighborsXC", "LinearTreeXC"] * 6 + ["FusionXC", *NEURAL]
    name, with_texts = draw(st.sampled_from(names)), draw(st.booleans())
    subject = draw(st.sampled_from(["X", "y", "rows", "weight", "labels", "graph", "set", "none"]))
    n = draw(st.sampled_from([0, 1, 2, 3, 21])) if subject == "rows" else N
    make = inputs.texts if with_texts else functools.partial(inputs.matrices, m=D)
    X = draw(make(n, strange=subject == "X") | (inputs.odd if subject == "X" else st.nothing()))
    y = draw(inputs.targets(draw(st.sampled_from([n, N])), L, strange=subject == "y"))
    arguments, changed = {}, {}
    if subject == "weight":
        arguments["sample_weight"] = draw(inputs.weights(N))
    if subject == "labels" and name != "KNeighborsXC":
        arguments["label_features"] = draw(inputs.label_sides(L, D, with_texts))
    if subject == "graph" and name != "KNeighborsXC":
        arguments["graph"] = draw(inputs.graphs(L))
    model = estimator(name, with_texts)
    if subject == "set":
        names = [name for name in sorted(model.get_params()) if "vectorizer__" not in name]
        changed = {draw(st.sampled_from(names)): draw(inputs.odd | st.integers(1, 9))}
    again = copy.deepcopy(X) if hasattr(X, "__len__") else None

    def call():
        model.set_params(**changed).fit(X, y, **arguments)
        if again is not None:
            check_answers(model, again)

    return (name, subject, changed, X, y, arguments), call


def predict(draw):
    """Ask a fitted model for anything."""
    with_texts = draw(st.booleans())
    name = draw(st.sampled_from(["KNeighborsXC", "LinearTreeXC", "FusionXC", "DualEncoderXC",
                                 "LearnedIndexXC"]))  # fmt: skip
    layout = draw(st.sampled_from(["sparse", "dense", "classes"]))
    subject = draw(st.sampled_from(["X", "X", "k", "set", "none"]))
    n = draw(st.sampled_from([0, 1, 2, 5]))
    make = inputs.texts if with_texts else functools.partial(inputs.matrices, m=D)
    X = draw(make(n, strange=subject == "X") | (inputs.odd if subject == "X" else st.nothing()))
    k = draw(inputs.odd | st.just(2**31)) if subject == "k" else draw(st.integers(1, 9))
    changed = {}
    if subject == "set":
        setting = st.sampled_from(["top_k", "threshold", "beam_width", "n_jobs", "index", "power"])
        changed = {draw(setting): draw(inputs.odd | st.integers(1, 5))}

    def call():
        model = copy.copy(fitted(name, with_texts, layout))
        changes = {key: value for key, value in changed.items() if key in model.get_params()}
        check_answers(model.set_params(**changes), X, k)

    return (name, layout, changed, k, X), call


def measure(draw):
    """Compute a metric of anything."""
    names = [name for name in metrics.__all__ if name.endswith("_at_k")]
    name = draw(st.sampled_from([*names, "evaluate"]))
    n, m = draw(st.sampled_from([0, 1, 4, 4, 4])), draw(st.sampled_from([1, 5, 5, 5]))
    subject = draw(st.sampled_from(["truth", "guess", "ids", "k", "weight", "filter", "none"]))
    truth = draw(inputs.targets(n, m, strange=subject == "truth"))
    guess = draw(inputs.matrices(n, m, strange=subject == "guess"))
    if subject == "ids":
        row = st.lists(st.integers(-1, m), min_size=3, max_size=3, unique=True)
        guess = np.array(draw(st.lists(row, min_size=n, max_size=n))).reshape(n, 3)
        guess = draw(st.sampled_from([guess, guess.tolist(), (guess, -guess), guess * 1.0]))
    k = draw(inputs.odd) if subject == "k" else draw(st.integers(1, 7))
    arguments = {"ks": [k]} if name == "evaluate" else {"k": k}
    if name.startswith("ps") or (name == "evaluate" and draw(st.booleans())):
        weights = inputs.weights(m) if subject == "weight" else st.just(np.arange(1.0, m + 1))
        arguments["inverse_propensity"] = draw(weights)
    if subject == "filter":
        arguments["filter_pairs"] = draw(inputs.mostly(inputs.matrices(n, m, binary=True)))

    def call():
        found = getattr(metrics, name)(truth, guess, **arguments)
        values = found.values() if isinstance(found, dict) else [found]
        # Ratios of inversely weighted sums may exceed one.
        top = 1 + 1e-9 if not name.startswith("ps") and name != "evaluate" else np.inf
        demand(all(0 <= value <= top for value in values), f"{found} is no metric")

    return (name, truth, guess, arguments), call


def hold(draw):
    """Make holders and tables of labels of anything."""
    kind = draw(st.sampled_from(["LabelTexts", "LabelGraph", "AnchorGraph", "from", "to", "prop"]))
    subject = draw(st.sampled_from(["lines", "names", "square", "lists", "groups", "none"]))
    lines = draw(inputs.texts(4, strange=subject == "lines"))
    names = st.sampled_from([list("abcd"), ["a", "a", "b", "c"], lines]) | inputs.odd
    names = draw(names) if subject == "names" else draw(st.sampled_from([None, list("abcd")]))
    square = draw(inputs.matrices(4, 4, strange=subject == "square"))
    lists = st.lists(st.lists(st.sampled_from(list("abcd")), max_size=2), min_size=4, max_size=4)
    lists = draw(st.lists(inputs.odd, max_size=3) | inputs.odd if subject == "lists" else lists)
    if kind == "prop" and subject != "lists":
        lists = draw(st.lists(st.integers(0, 9), max_size=4))
    groups = draw(st.sampled_from([None, {"a": (0, 2), "b": (2, 4)}]))
    groups = draw(inputs.odd) if subject == "groups" else groups
    number = draw(inputs.odd) if subject == "none" else draw(st.integers(3, 9))

    def call():
        if kind == "LabelTexts":
            side = skxc.LabelTexts(lines, names)
            demand(len(side) == len(side.texts), "length of LabelTexts")
        elif kind == "LabelGraph":
            demand(np.isfinite(skxc.LabelGraph(square).to_csr().data).all(), "graph not finite")
        elif kind == "AnchorGraph":
            skxc.AnchorGraph(square, lines, groups)
        elif kind == "from":
            y, found = labels_from_names(lists, names)
            demand(y.shape[1] == len(found) and (y.data == 1).all(), "labels_from_names")
        elif kind == "to":
            names_from_labels(square, names)
        else:
            values = metrics.inverse_propensity(lists, number)
            demand(np.isfinite(values).all() and (values > 0).all(), "propensities")

    return (kind, lines, names, square, lists, groups, number), call


@functools.cache
def dataset():
    return make_planted_xc(n_samples=12, n_labels=8, n_test=4, n_topics=6, random_state=0)


def written(folder, form):
    data = dataset()
    if form == "bow":
        eye = sp.eye_array(12, 12, format="csr"), sp.eye_array(4, 12, format="csr")
        data = type(data)(**(vars(data) | {"train_features": eye[0], "test_features": eye[1]}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_xc_repository(data, folder, format=form)


EXTRA = [b"\n", b"\xff", b":", b"-1", b" ", b"1e400", b"\x00", b",", b"99999999999", b"nan", b"{"]


def damaged(draw, content):
    """Draw a change of the bytes of a file."""
    places = st.integers(0, max(0, len(content) - 1))
    for _ in range(draw(st.integers(1, 3))):
        at, to = draw(places), draw(places)
        kind = draw(st.sampled_from(["cut", "byte", "insert", "drop", "swap", "empty"]))
        extra = draw(st.sampled_from(EXTRA))
        content = {
            "cut": content[:at],
            "byte": content[:at] + extra[:1] + content[at + 1 :],
            "insert": content[:at] + extra + content[at:],
            "drop": content[: min(at, to)] + content[max(at, to) :],
            "swap": content[at:] + content[:at],
            "empty": content if at else b"",
        }[kind]
    return content


def read(draw):
    """Read a folder of which one file is damaged."""
    form = draw(st.sampled_from(["npz", "text", "json", "bow"]))
    which, place = draw(st.integers(0, 30)), tempfile.mkdtemp()
    folder = Path(place) / "set"
    written(folder, form)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    path = paths[which % len(paths)]
    content = path.read_bytes()
    if path.suffix == ".gz" and draw(st.booleans()):
        path.write_bytes(gzip.compress(damaged(draw, gzip.decompress(content)), mtime=0))
    else:
        path.write_bytes(damaged(draw, content))
    encoding = draw(inputs.mostly("utf-8", st.sampled_from(["latin-1", "utf-16", "none", "hex"])))

    def call():
        try:
            data = load_xc_repository(folder, encoding=encoding)
            demand((data.train_labels.data == 1).all(), "labels that are not 1")
            for name in ("train_features", "test_features", "label_features"):
                rows = getattr(data, name)
                demand(rows is None or np.isfinite(rows.data).all(), f"{name} not finite")
        except ValueError as error:
            # Fields that contradict each other are named without their file.
            known = ("/set", "to fit the other fields", "`encoding`")
            demand(any(word in str(error) for word in known), f"no file: {error}")
            raise
        finally:
            shutil.rmtree(place)

    return (form, path.name, encoding), call


@functools.cache
def saved(name):
    folder = Path(tempfile.mkdtemp()) / "model"
    fitted(name, True, "sparse").save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def load(draw):
    """Load a model of which one file is damaged, and ask it."""
    name = draw(st.sampled_from(["KNeighborsXC", "LinearTreeXC", "FusionXC", "DualEncoderXC",
                                 "LearnedIndexXC"]))  # fmt: skip
    files = dict(saved(name))
    which = draw(st.sampled_from(sorted(files)))
    if which.endswith("json") and draw(st.booleans()):
        tree = json.loads(files[which])
        node, key = tree, None
        for _ in range(draw(st.integers(1, 9))):
            if not (isinstance(node, dict | list) and node):
                break
            keys = list(node) if isinstance(node, dict) else range(len(node))
            parent, key = node, draw(st.sampled_from(keys))
            node = node[key]
        parent[key] = draw(st.sampled_from([None, -1, 0, 2**31, 1e308, "x", [], {}, True, [1, 2]]))
        files[which] = json.dumps(tree).encode()
    else:
        files[which] = damaged(draw, files[which])

    def call():
        with tempfile.TemporaryDirectory() as place:
            for path, content in files.items():
                (Path(place) / path).write_bytes(content)
            model = skxc.load(place)
            # Whoever changes a parameter may be refused later.
            check_answers(model, ["red wine", "tree", ""])

    return (name, which), call


@functools.cache
def model_folder(name, with_texts):
    folder = Path(tempfile.mkdtemp()) / "model"
    fitted(name, with_texts, draw_layout(with_texts)).save(folder)
    return folder


def draw_layout(with_texts):
    return "sparse" if with_texts else "classes"


def command(draw):
    """Run a command line in this process."""
    place = Path(tempfile.mkdtemp())
    lines = draw(st.lists(st.lists(st.sampled_from(inputs.WORDS), max_size=3), max_size=6))
    content = "\n".join(" ".join(words) for words in lines).encode()
    content = damaged(draw, content) if draw(st.booleans()) else content
    packed = draw(st.booleans())
    file = place / ("lines.txt.gz" if packed else "lines.txt")
    file.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    name = draw(st.sampled_from(["KNeighborsXC", "LinearTreeXC"]))
    model = str(model_folder(name, draw(st.sampled_from([True, True, True, False]))))
    words = st.sampled_from(
        ["-k", "3", "-1", "--encoding", "utf-8", "latin-1", "--texts", "--labels", "--output", "-o",
         str(place / "new"), str(place), str(file), str(file), model, model, "--seed",
         "--estimator", "KNeighborsXC(", "KNeighborsXC(n_neighbors=2)", "LinearTreeXC(C='a')", "",
         "--graph", "x",
         "((((" * 300, "a.b(1)", "\ud800", "--hold-out", "--help", "--label-texts"]
    )  # fmt: skip
    plans = {
        "predict": ["predict", model, str(file)],
        "fit": ["fit", "--texts", str(file), "--labels", str(file), "-o", str(place / "new"),
                "--estimator", "KNeighborsXC(n_neighbors=2)"],
        "evaluate": ["evaluate", model, str(place)],
    }  # fmt: skip
    which = draw(st.sampled_from(["predict", "predict", "fit", "evaluate", "free"]))
    line = list(plans.get(which, [draw(st.sampled_from(["fit", "predict", "benchmark", "x"]))]))
    for word in draw(st.lists(words, max_size=4 if which in plans else 8)):
        line.insert(draw(st.integers(1, len(line))), word)

    def call():
        out, error = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
                try:
                    status = main(line)
                except SystemExit as ended:
                    status = ended.code
        finally:
            shutil.rmtree(place)
        demand(status in (0, 1, 2), f"status {status}")
        said = [text for text in error.getvalue().split("\n") if text]
        if status == 2:
            demand(said and said[-1].startswith("skxc"), f"status 2 with {said[-1:]}")
            raise ValueError(said[-1])
        if line[0] == "predict":
            for one in out.getvalue().split("\n"):
                demand(len(one.split("\t")) % 2 == 0 or not one or "usage" in out.getvalue(), one)

    return line, call


#: Per area, its share of all tries.
AREAS = {
    fit: 15, predict: 20, measure: 20, hold: 15, read: 15, load: 7, command: 8,
}  # fmt: skip
