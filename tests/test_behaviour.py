"""What every estimator must do, on planted data whose right answer is known."""

import copy
from functools import cache
from pkgutil import resolve_name

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils._param_validation import generate_invalid_param_val, make_constraint

import skxc
from skxc import (
    AnchorGraph,
    DualEncoderXC,
    FusionXC,
    GraphRegularizedXC,
    GraphTerms,
    IndexClusters,
    KNeighborsXC,
    LabelGraphXC,
    LabelTexts,
    LabelTree,
    LearnedIndexXC,
    LinearTreeXC,
    UnifiedXC,
)
from skxc._params import OneOf, Parameterized, _alternatives, declared, hints_of
from skxc.calibration import TopKCalibrator
from skxc.datasets import make_planted_xc
from skxc.estimators import all_estimators
from skxc.metrics import ece_at_k
from tests.toys import CentroidXC, assert_same_model, small_data, small_texts, takes_labels

EVERY = [estimator for _, estimator in all_estimators()]
every_estimator = pytest.mark.parametrize("estimator", EVERY)
every_label_side = pytest.mark.parametrize("estimator", [*filter(takes_labels, EVERY)])
every_error = pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
pytestmark = [
    pytest.mark.filterwarnings("ignore::skxc.exceptions.LabelTextWarning"),
    pytest.mark.filterwarnings("ignore::skxc.exceptions.GraphWarning"),
]


def make(estimator, **params):
    """Return an estimator that learns small data in a second."""
    quick = {"n_epochs": 4, "random_state": 0}
    if estimator is FusionXC:
        members = [("tree", LinearTreeXC(label_weight=1.0)), ("dual", DualEncoderXC(n_epochs=3))]
        quick |= {"estimators": members, "method": "linear"}
    if estimator is LabelGraphXC:  # so many in each of three stages
        quick |= {"n_epochs": 2}
    if estimator is LearnedIndexXC:
        quick |= {"n_epochs": 3, "batch_size": 32, "clusters": IndexClusters(n_epochs=3)}
    if estimator is LinearTreeXC:
        quick |= {"label_weight": 1.0}
    known = estimator().get_params(deep=False)
    return estimator(**{name: quick[name] for name in quick.keys() & known.keys()} | params)


def sides(estimator, **arguments):
    """Return those arguments of fit that an estimator takes."""
    return arguments if takes_labels(estimator) else {}


def answers(model, X):
    """Return what a model says, in a form that can be compared."""
    return {
        "topk": [part.tolist() for part in model.predict_topk(X, 5)],
        "labels": model.predict_labels(X, 5),
        "probabilities": model.predict_proba(X).toarray().tolist(),
    }


# ---- it learns


@cache
def planted():
    """Return 300 texts that are mostly the words of their labels; a tenth of these has no rows."""
    return make_planted_xc(
        300, 40, n_test=200, vocabulary_gap=0.0, unseen_fraction=0.1, random_state=0
    )


def fit_texts(estimator, y=None, texts=None, sample_weight=None, **params):
    """Return an estimator fitted on the planted texts, or on others with the same labels."""
    data = planted()
    params = {"calibration": None, **params}
    if not estimator._accepts_texts:
        params["vectorizer"] = TfidfVectorizer()
    return make(estimator, **params).fit(
        data.train_texts if texts is None else texts,
        data.train_labels if y is None else y,
        sample_weight=sample_weight,
        **sides(estimator, label_features=data.label_texts),
    )


learned = cache(fit_texts)


@every_estimator
def test_it_beats_popular_and_shuffled_labels(estimator):
    data = planted()
    popular = data.train_labels.sum(axis=0).argmax()
    share_of_popular = data.test_labels[:, [popular]].mean()
    order = np.random.default_rng(0).permutation(data.n_train)
    shuffled = fit_texts(estimator, data.train_labels[order])
    precision = learned(estimator).score(data.test_texts, data.test_labels)
    assert precision > share_of_popular + 0.4
    assert precision > shuffled.score(data.test_texts, data.test_labels) + 0.35


# ---- labels without training rows


def recall_of_unseen(model, k):
    """Return which share of the right answers without training rows is among the best k."""
    data = planted()
    unseen = np.flatnonzero(data.train_labels.sum(axis=0) == 0)
    truth = data.test_labels.toarray()[:, unseen] > 0
    found = (model.predict_topk(data.test_texts, k)[0][:, :, None] == unseen).any(axis=1)
    return found[truth].mean()


FINDERS = {
    DualEncoderXC: 0.4,
    FusionXC: 0.4,
    GraphRegularizedXC: 0.4,
    LabelGraphXC: 0.4,
    LinearTreeXC: 0.4,
    UnifiedXC: 0.4,
}


@pytest.mark.parametrize("estimator", FINDERS)
def test_labels_without_rows_are_found_by_their_texts(estimator):
    assert recall_of_unseen(learned(estimator), 5) > FINDERS[estimator]


def test_the_learned_index_reaches_labels_without_rows():
    """Their classifiers saw a text each, so they come late; chance is a half."""
    model = fit_texts(LearnedIndexXC, label_weight=1.0, n_epochs=10)
    assert recall_of_unseen(model, 20) > 0.65


def test_a_neighbour_search_never_answers_labels_without_rows():
    assert recall_of_unseen(learned(KNeighborsXC), 40) == 0


@pytest.mark.parametrize("estimator", [LinearTreeXC, LearnedIndexXC])
def test_without_rows_of_labels_they_are_not_answered(estimator):
    assert recall_of_unseen(fit_texts(estimator, label_weight=0.0), 40) == 0


# ---- weights


@every_estimator
def test_wrong_labels_count_by_their_weight(estimator):
    """Every text twice, once with its labels and once with those of another one."""
    data = planted()
    n = data.n_train
    order = np.roll(np.arange(n), 7)
    texts = [*data.train_texts, *data.train_texts]
    y = sp.csr_array(sp.vstack([data.train_labels, data.train_labels[order]]))

    def fit(weight_of_wrong):
        weight = np.repeat([1.0, weight_of_wrong], n)
        return fit_texts(estimator, y, texts, sample_weight=weight)

    plain = learned(estimator)
    ignored = fit(0.0)
    for one, other in zip(
        ignored.predict_topk(data.test_texts, 10),
        plain.predict_topk(data.test_texts, 10),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    right = plain.score(data.test_texts, data.test_labels)
    assert fit(1e-3).score(data.test_texts, data.test_labels) > right - 0.15
    assert fit(30.0).score(data.test_texts, data.test_labels) < right - 0.3


# ---- a refit forgets


@every_estimator
def test_a_refit_is_a_first_fit(estimator):
    X, y, graph = small_data()
    names = [f"first {label}" for label in range(12)]
    frames = pd.DataFrame(X.toarray()).add_prefix("x"), pd.DataFrame(y.toarray(), columns=names)
    weight = np.linspace(0.5, 2.0, 30)
    model = make(estimator, n_epochs=2) if hasattr(estimator, "n_epochs") else make(estimator)
    model.fit(*frames, sample_weight=weight, **sides(estimator, graph=graph, label_features=X[:12]))
    fresh = copy.deepcopy(model).__sklearn_clone__()
    arguments = {"X": X[:, :8], "y": y[:, :5]}
    arguments |= sides(estimator, label_features=LabelTexts(X[:5, :8], names=list("abcde")))
    model.fit(**arguments)
    fresh.fit(**arguments)
    assert vars(model).keys() == vars(fresh).keys()
    assert_same_model(model, fresh, X[:, :8])
    assert answers(model, X[:, :8]) == answers(fresh, X[:, :8])
    assert model.label_names_ == (list("abcde") if takes_labels(estimator) else None)
    # And with texts, which have a vectoriser or none, and no number of features.
    texts, y, label_texts = small_texts()
    arguments = {"X": texts, "y": y, **sides(estimator, label_features=label_texts)}
    for again in (model, fresh):
        again.set_params(vectorizer=TfidfVectorizer())
    fresh = fresh.__sklearn_clone__()
    assert answers(model.fit(**arguments), texts) == answers(fresh.fit(**arguments), texts)
    assert vars(model).keys() == vars(fresh).keys()


# ---- the graph of the truth


def partners(seed, n=340, n_pairs=12):
    """Return a world in which only edges tell what half of the labels mean.

    Label 2p has rows with its words. Label 2p + 1, its partner, has no row and words of its own.
    Anchor p has a word of its own.
    """
    rng = np.random.default_rng(seed)
    pair = rng.integers(n_pairs, size=n)
    n_words, n_labels = 6 * n_pairs + 40, 2 * n_pairs
    words = np.zeros((n, n_words + n_pairs), dtype=np.float32)
    for row in range(n):
        words[row, 6 * pair[row] + rng.choice(6, 2, replace=False)] = 1
    side = np.zeros((n_labels, words.shape[1]), dtype=np.float32)
    for p in range(n_pairs):
        side[2 * p, 6 * p : 6 * p + 6] = 1
        side[2 * p + 1, 6 * n_pairs + rng.choice(40, 4, replace=False)] = 1
    y = np.eye(n_labels, dtype=np.float32)[2 * pair]
    train, test = slice(0, 240), slice(240, n)
    return {
        "train": {
            "X": sp.csr_array(words[train]),
            "y": sp.csr_array(y[train]),
            "label_features": sp.csr_array(side),
        },
        "test": (sp.csr_array(words[test]), 2 * pair[test] + 1),
        "graph": sp.csr_array(np.eye(n_labels, dtype=np.float32)[np.arange(n_labels) ^ 1]),
        "label_anchors": sp.csr_array(np.eye(n_pairs, dtype=np.float32)[np.arange(n_labels) // 2]),
        "sample_anchors": sp.csr_array(np.eye(n_pairs, dtype=np.float32)[pair[train]]),
        "anchors": sp.csr_array(np.eye(n_pairs, words.shape[1], k=n_words, dtype=np.float32)),
    }


def shuffled(edges, seed):
    """Return the edges with their ends exchanged."""
    ends = np.random.default_rng(seed).permutation(edges.indices)
    return sp.csr_array((edges.data, ends, edges.indptr), shape=edges.shape)


def edges_of(world, case, seed, *, anchors):
    """Return the arguments of fit that hold the true edges, none, or shuffled ones."""
    change = (lambda edges: edges) if case == "true" else (lambda edges: shuffled(edges, seed))
    if case == "none":
        return {}
    if not anchors:
        return {"graph": change(world["graph"])}
    graph = AnchorGraph(change(world["label_anchors"]), texts=world["anchors"])
    return {"graph": graph, "sample_graph": change(world["sample_anchors"])}


GRAPHS = {
    "DualEncoderXC": DualEncoderXC(n_epochs=5, votes=False),
    "FusionXC": FusionXC(
        [("tree", LinearTreeXC()), ("dual", DualEncoderXC(n_epochs=5))], method="linear"
    ),
    "GraphRegularizedXC": GraphRegularizedXC(n_epochs=5, votes=False),
    "GraphRegularizedXC, anchors": GraphRegularizedXC(
        n_epochs=5, votes=False, terms=GraphTerms(n_epochs=10)
    ),
    "LabelGraphXC": LabelGraphXC(n_epochs=2),
    "UnifiedXC": UnifiedXC(n_epochs=5),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_true_graph_tells_what_texts_do_not(name):
    model, recall, world = GRAPHS[name], {}, partners(0)
    model.set_params(random_state=0, calibration=None)
    X, partner = world["test"]
    for case in ("true", "none", "shuffled"):
        edges = edges_of(world, case, 0, anchors="anchors" in name)
        model.fit(**world["train"], **edges)
        recall[case] = (model.predict_topk(X, 2)[0] == partner[:, None]).any(axis=1).mean()
    assert recall["true"] > 0.8
    assert recall["none"] < 0.2
    assert recall["shuffled"] < 0.2


CLUSTERINGS = {
    "LinearTreeXC": LinearTreeXC(
        beam_width=1,
        top_k=5,
        tree=LabelTree(max_leaf_size=8, branching=2, flat=False, graph_weight=1.0),
    ),
    "LearnedIndexXC": LearnedIndexXC(
        beam_width=1, edges=False, n_epochs=1, batch_size=32
    ).set_params(clusters__n_clusters=8, clusters__graph_weight=1.0, clusters__n_epochs=4),
}


@pytest.mark.parametrize("name", CLUSTERINGS)
def test_the_true_graph_makes_clusters_that_a_narrow_beam_can_follow(name):
    """Related labels are right together, so that they should be in one cluster."""
    recall = {"true": [], "none": [], "shuffled": []}
    for seed in range(2):
        data = make_planted_xc(
            300, 60, n_test=300, vocabulary_gap=0.0, unseen_fraction=0.0, random_state=seed
        )
        truth = data.test_labels.toarray()
        for case in recall:
            related = data.graphs["related"]
            graphs = {"true": related, "none": None, "shuffled": shuffled(related, seed)}
            model = CLUSTERINGS[name].set_params(random_state=seed, calibration=None)
            model.fit(data.train_texts, data.train_labels, graph=graphs[case])
            best = model.predict_topk(data.test_texts, 5)[0]
            hits = np.take_along_axis(truth, np.maximum(best, 0), axis=1) * (best >= 0)
            recall[case].append(hits.sum() / truth.sum())
    true, none, wrong = map(np.mean, recall.values())
    assert true > none + 0.02
    assert none > wrong + 0.01


@pytest.mark.parametrize("estimator", [LearnedIndexXC, LinearTreeXC])
def test_a_graph_does_not_hurt_where_it_only_arranges_labels(estimator):
    data, scores = planted(), []
    for graph in (data.graphs["related"], None):
        model = make(estimator, calibration=None).fit(
            data.train_texts, data.train_labels, graph=graph
        )
        scores.append(model.score(data.test_texts, data.test_labels))
    assert scores[0] > scores[1] - 0.05


# ---- a fitted model is whole or absent


class Breaking:
    """A function that raises an error instead of its next call, after some calls."""

    def __init__(self, function, error=None, after=0):
        self.function, self.error, self.after, self.calls = function, error, after, 0

    def __call__(self, *arguments, **keywords):
        self.calls += 1
        if self.error is not None and self.calls > self.after:
            raise self.error
        return self.function(*arguments, **keywords)


# What a training calls again and again: once an epoch, or once a training.
STEPS = {
    KNeighborsXC: "skxc.estimators._k_neighbors.NeighborsModel",
    LinearTreeXC: "skxc.linear._train._join",
}


def broken(monkeypatch, place, error=None, after=0):
    """Let a function of the package break; return what counts its calls."""
    breaking = Breaking(resolve_name(place), error, after)
    monkeypatch.setattr(place, breaking)
    return breaking


@cache
def n_steps(estimator):
    """Return how many steps the fit of `other_data` has."""
    with pytest.MonkeyPatch.context() as patch:
        counter = broken(patch, step_of(estimator))
        quick(estimator).fit(**other_data(estimator))
    return counter.calls


def step_of(estimator):
    return STEPS.get(estimator, "skxc.training._loop._train_epoch")


def other_data(estimator):
    X, y, _ = small_data(n=24, n_labels=7, n_features=9, seed=1)
    return {"X": X, "y": y, **sides(estimator, label_features=X[:7])}


@cache
def kept(estimator):
    """Return a fitted model that must stay as it is, its attributes and its answers."""
    X, y, _ = small_data()
    model = quick(estimator)
    names = LabelTexts(X[:12], names=[f"name {label}" for label in range(12)])
    model.fit(X, y, **sides(estimator, label_features=names))
    return model, dict(vars(model)), answers(model, X)


def quick(estimator, **params):
    known = estimator().get_params(deep=False)
    return make(estimator, **({"n_epochs": 2} if "n_epochs" in known else {}), **params)


def assert_kept(model, attributes, said):
    """Fail unless a model has the same attributes, which are the same objects, and answers."""
    assert vars(model).keys() == attributes.keys()
    assert all(vars(model)[name] is value for name, value in attributes.items())
    assert answers(model, small_data()[0]) == said


@every_estimator
@every_error
@pytest.mark.parametrize("place", ["after the first", "the last", "calibration"])
def test_a_fit_that_breaks_off_changes_nothing(estimator, error, place, monkeypatch):
    model, attributes, said = kept(estimator)
    new = quick(estimator)
    after = {"after the first": 1, "the last": n_steps(estimator) - 1}
    assert n_steps(estimator) > 1
    for one in (model, new):
        with monkeypatch.context() as patch, pytest.raises(error, match="broken"):
            if place in after:
                broken(patch, step_of(estimator), error("broken"), after[place])
            else:
                broken(patch, "skxc.calibration.TopKCalibrator.fit", error("broken"))
            one.fit(**other_data(estimator))
    assert_kept(model, attributes, said)
    assert not [name for name in vars(new) if name.endswith("_")]
    with pytest.raises(NotFittedError):
        new.predict_topk(small_data()[0])


def refuse(text):
    if "boom" in text:
        raise RuntimeError("broken")
    return text


@every_estimator
def test_a_failing_vectoriser_changes_nothing(estimator):
    texts, y, label_texts = small_texts()
    model = quick(estimator, vectorizer=TfidfVectorizer(preprocessor=refuse))
    model.fit(texts, y, **sides(estimator, label_features=label_texts))
    attributes, said = dict(vars(model)), answers(model, texts)
    with pytest.raises(RuntimeError, match="broken"):
        model.fit([*texts[:20], "boom"], y[:21, :9])
    assert all(vars(model)[name] is value for name, value in attributes.items())
    assert answers(model, texts) == said


@every_estimator
@every_error
def test_a_failing_save_leaves_the_earlier_one(estimator, error, tmp_path, monkeypatch):
    X, y, _ = small_data()
    model, attributes, said = kept(estimator)
    model.save(tmp_path / "model")
    files = sorted(path.name for path in (tmp_path / "model").iterdir())
    other = quick(estimator).fit(X[:20], y[:20, :5])
    # The arrays reach the disk, then the text that names them, which then takes its place.
    for place, after in (("os.fsync", 0), ("os.fsync", 1), ("pathlib.Path.replace", 0)):
        with monkeypatch.context() as patch, pytest.raises(error, match="broken"):
            broken(patch, place, error("broken"), after)
            other.save(tmp_path / "model")
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises((ValueError, OSError)):
            model.save(wrong)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == files
    assert answers(skxc.load(tmp_path / "model"), X) == said
    assert_kept(model, attributes, said)


@every_estimator
def test_what_is_not_fitted_is_not_saved(estimator, tmp_path):
    with pytest.raises(NotFittedError):
        estimator().save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


# ---- labels with the text of the sample


def catalogue(n, n_test, *, right, seed=0, size=4):
    """Return texts and labels of which 40 % of the rows are labels as well.

    Labels come in families, and all of a family are right together; a third of the rows has those
    of a wrong family, so that no model can be sure. A label is a row once at most.
    """
    rng = np.random.default_rng(seed)
    n_rows = n + n_test
    n_labels = size * (-(-round(0.4 * n_rows) // size))
    own = np.full(n_rows, -1)
    own[rng.permutation(n_rows)[:n_labels]] = rng.permutation(n_labels)
    family = np.where(own >= 0, own // size, rng.integers(n_labels // size, size=n_rows))
    filler = rng.integers(40, size=(n_rows, 2))
    labels = [f"family{i // size} item{i}" for i in range(n_labels)]
    texts = [
        labels[own[row]] if own[row] >= 0 else f"family{family[row]} word{a} word{b}"
        for row, (a, b) in enumerate(filler)
    ]
    is_noise = rng.random(n_rows) < 0.3
    told = np.where(is_noise, rng.integers(n_labels // size, size=n_rows), family)
    y = np.arange(n_labels) // size == told[:, None]
    rows = np.flatnonzero(own >= 0)
    y[rows, own[rows]] = right
    y = sp.csr_array(y.astype(int))
    return labels, (texts[:n], y[:n], own[:n]), (texts[n:], y[n:], own[n:])


def fit_catalogue(estimator, labels, rows, **params):
    if estimator is FusionXC:
        params |= {"estimators": [("tree", LinearTreeXC(random_state=0)), ("text", CentroidXC())]}
    else:
        params |= {"n_epochs": 1 if estimator is LabelGraphXC else 2}
    known = estimator().get_params(deep=False)
    model = make(estimator, **{name: value for name, value in params.items() if name in known})
    return model.fit(rows[0], rows[1], label_features=labels)


@every_label_side
def test_own_labels_that_are_never_right_are_no_answers(estimator, monkeypatch):
    labels, train, (texts, y, own) = catalogue(1800, 800, right=False)
    given, fit = {}, TopKCalibrator.fit

    def recording(self, scores, truth, weight):
        given[self] = scores, truth
        return fit(self, scores, truth, weight)

    monkeypatch.setattr(TopKCalibrator, "fit", recording)
    model = fit_catalogue(estimator, labels, train, calibration="held_out", top_k=20)
    assert not (model.predict_topk(texts, len(labels))[0] == own[:, None])[own >= 0].any()
    assert model.score(texts, y) > 0.3
    assert ece_at_k(y, model.predict_proba(texts), k=1) < 0.09
    # What calibrates holds them neither: the one of a family of four that is no answer.
    scores, truth = given[model.calibrator_]
    rows = np.flatnonzero(np.diff(truth.indptr) == 3)
    answers = truth[rows].indices.reshape(-1, 3)
    is_stored = sp.csr_array((np.ones(scores.nnz), scores.indices, scores.indptr), scores.shape)
    assert len(rows) > 50
    assert is_stored[rows, answers[:, 0]].mean() > 0.2
    assert not is_stored[rows, answers[:, 0] // 4 * 4 + 6 - (answers % 4).sum(axis=1)].any()


@pytest.mark.parametrize("estimator", [DualEncoderXC, UnifiedXC])
def test_a_label_that_is_added_later_is_no_answer_to_its_own_text(estimator):
    labels, train, (texts, _, own) = catalogue(300, 100, right=False)
    model = fit_catalogue(estimator, labels, train, calibration=None)
    text = texts[np.flatnonzero(own < 0)[0]]
    model.add_labels([text])
    first, second = model.predict_topk([text, f"{text} more"], 20)[0]
    assert len(labels) not in first
    assert len(labels) in second


@every_label_side
def test_own_labels_that_are_right_are_answers(estimator):
    labels, train, (texts, _, own) = catalogue(300, 100, right=True)
    model = fit_catalogue(estimator, labels, train, calibration=None)
    found = (model.predict_topk(texts, 20)[0] == own[:, None]).any(axis=1)
    assert found[own >= 0].mean() > 0.5


# ---- parameters


@every_estimator
@pytest.mark.parametrize("wrong", [{"threshold": 5}, {"threshold": "0.1"}, {"top_k": 0}], ids=str)
def test_a_wrong_parameter_set_after_fit_is_refused(estimator, wrong):
    X, _, _ = small_data()
    model, _, said = kept(estimator)
    right = {name: getattr(model, name) for name in wrong}
    (name,) = wrong
    for method in ("predict", "predict_proba", "predict_topk", "predict_labels"):
        with pytest.raises(ValueError, match=f"'{name}' parameter of {estimator.__name__}"):
            getattr(model.set_params(**wrong), method)(X)
    assert answers(model.set_params(**right), X) == said


def wrong_values(constraints):
    """Return some values that none of a parameter's constraints allows."""
    checks, values = [make_constraint(constraint) for constraint in constraints], [object()]
    for check in checks:
        try:
            values.append(generate_invalid_param_val(check))
        except NotImplementedError:
            continue
    return [v for v in values if not any(check.is_satisfied_by(v) for check in checks)]


def parts_of(owner, path=""):
    """Return (name as in `set_params`, part) of all that parameters can be set to."""
    found = []
    for name, hint in hints_of(type(owner)).items():
        for kind in _alternatives(hint):
            extras = getattr(kind, "__metadata__", ())
            names = [n for e in extras if isinstance(e, OneOf) for n in sorted(e.options)]
            if isinstance(kind, type) and issubclass(kind, Parameterized):
                names = [None]
            for part in (owner._make_part(name, value) for value in names):
                if isinstance(part, Parameterized):
                    found += [(path + name, part), *parts_of(part, f"{path}{name}__")]
    return found


@every_estimator
def test_wrong_values_are_refused_with_the_name_of_their_part(estimator):
    X, y, _ = small_data()
    n_refused = 0
    for path, part in [("", estimator()), *parts_of(estimator())]:
        for name, constraints in declared(type(part)).items():
            for value in wrong_values(constraints):
                wrong = clone(part).set_params(**{name: value})
                model = estimator().set_params(**{path: wrong}) if path else wrong
                message = f"'{name}' parameter of {type(part).__name__} must be"
                with pytest.raises(ValueError, match=message):
                    model.fit(X, y)
                n_refused += 1
    assert n_refused > 10


@pytest.mark.parametrize("wrong", [LinearTreeXC(beam_width=0), DualEncoderXC(n_epochs=0)])
def test_wrong_members_are_refused(wrong):
    X, y, _ = small_data()
    with pytest.raises(ValueError, match="parameter of"):
        FusionXC([("near", KNeighborsXC()), ("wrong", wrong)]).fit(X, y)
