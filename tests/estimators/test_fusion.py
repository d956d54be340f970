import pickle
import warnings
from dataclasses import dataclass, replace

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

import skxc
from skxc import (
    AnchorGraph,
    DualEncoderXC,
    FusionXC,
    KNeighborsXC,
    LabelGraph,
    LinearTreeXC,
    _hold_out,
)
from skxc.base import BaseXC, Model, params
from skxc.encoders import BagEncoder
from skxc.estimators._dual_encoder.model import DualEncoderModel
from skxc.fusion import collect_candidates, learn_combiner
from skxc.linear import LabelTree
from skxc.metrics import inverse_propensity, precision_at_k
from skxc.training import Checkpoint, Training
from skxc.utils._sparse import top_k
from tests.toys import (
    CentroidXC,
    SampleGraphXC,
    assert_same_model,
    dense,
    small_data,
    small_texts,
)

X, Y, GRAPH = small_data(n=60)


@dataclass(frozen=True, eq=False)
class Half(Model):
    """Reads one half of the labels from columns of X."""

    n_half: int
    start: int
    noise: float

    def search(self, queries, k):
        X = np.asarray(queries.toarray(), dtype=np.float64)
        # Nothing of the other half: as if all its labels were equally likely.
        scores = np.full(X.shape, -2.0)
        mine = slice(self.start * self.n_half, (self.start + 1) * self.n_half)
        scores[:, mine] = X[:, mine] + self.noise * np.sin(1e4 * X[:, mine])
        return top_k(scores, k)


@params
class HalfXC(BaseXC):
    """Knows its half of the labels by planted columns of X, and guesses at the others."""

    start: int = 0
    noise: float = 0.0

    seen = []  # training and held-out rows of every training in this process

    def _train(self, fit):
        held_out = fit.held_out and fit.held_out.n_samples
        self.seen.append((fit.data.n_samples, held_out))
        return Half(fit.data.n_labels // 2, self.start, self.noise)


def halves(n=1000, seed=0, n_labels=20):
    """Return (X, y): X holds the log-odds of every label, whose signs are mixed up a little."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(size=(n, n_labels)) * 2 - 3
    y = rng.random((n, n_labels)) < 1 / (1 + np.exp(-odds))
    return sp.csr_array(odds), sp.csr_array(y.astype(np.int64))


TWO = [("low", HalfXC(start=0)), ("high", HalfXC(start=1))]


# ---- what a fusion is for


@pytest.mark.parametrize("method", ["linear", "trees"])
def test_two_halves_are_better_together(method):
    train, test = halves(), halves(seed=1)
    model = FusionXC(TWO, method=method).fit(*train)
    score = model.score(*test)
    alone = [member.score(*test) for member in model.estimators_]
    possible = precision_at_k(test[1], test[0].toarray(), 1)
    assert score > max(alone) + 0.1
    assert score > possible - 0.03


@pytest.mark.parametrize("objective", ["precision@1", "recall@5"])
@pytest.mark.parametrize("seed", range(3))
def test_not_worse_than_the_best_member(objective, seed):
    members = [
        ("good", LinearTreeXC(tree=LabelTree(flat=False))),
        ("bad", HalfXC(start=0, noise=9.0)),
    ]
    (rows, y), (other, y_other) = halves(600, seed), halves(1000, 10 + seed)
    model = FusionXC(members, objective=objective, random_state=0).fit(rows, y)
    metric = {"precision@1": 1, "recall@5": 5}[objective]
    scores = [
        precision_at_k(y_other, one.predict_topk(other, 5)[0], metric)
        for one in (model, *model.estimators_)
    ]
    assert scores[0] > max(scores[1:]) - 0.02


def test_default_members_are_fused():
    data = skxc.datasets.make_planted_xc(n_samples=400, n_labels=60, random_state=0)
    model = FusionXC(random_state=0)
    model.fit(data.train_texts, data.train_labels, label_features=data.label_texts)
    assert list(model.named_estimators_) == ["tree", "dual"]
    assert [type(member) for member in model.estimators_] == [LinearTreeXC, DualEncoderXC]
    scores = [one.score(data.test_texts, data.test_labels) for one in (model, *model.estimators_)]
    # A fifth of the test labels has no training row: the tree must not take them from the encoder.
    assert scores[0] > max(scores[1:]) - 0.02


def test_candidates_are_the_union():
    rows, y = halves(300)
    model = FusionXC(TWO, top_k=3, method="linear").fit(rows, y)
    lists = [member.predict_topk(rows[:20], 3) for member in model.estimators_]
    union = collect_candidates(lists, 20)
    found = model.predict_topk(rows[:20], 20)[0]
    deep = [member.predict_topk(rows[:20], 20) for member in model.estimators_]
    for row in range(20):
        assert set(model.predict_topk(rows[:20], 3)[0][row]) <= set(
            union.labels[union.rows == row].tolist()
        )
        assert set(found[row]) == set(deep[0][0][row])


def test_fixed_weights():
    rows, y = halves(300)
    alone = FusionXC(TWO, weights=[0, 1], method="linear").fit(rows, y)
    member = alone.estimators_[1]
    assert alone.combiner_.shares.tolist() == [0, 1]
    np.testing.assert_array_equal(alone.predict_topk(rows, 5)[0], member.predict_topk(rows, 5)[0])
    search = GridSearchCV(FusionXC(TWO, method="linear"), {"weights": [[1, 1], [0, 1]]}, cv=2)
    assert search.fit(rows, y).best_params_ == {"weights": [1, 1]}


@pytest.mark.parametrize("method", ["linear", "trees"])
def test_probabilities_are_calibrated(method):
    rows, y = halves(20_000)
    other, y_other = halves(2000, seed=5)
    model = FusionXC(TWO, method=method).fit(rows, y)
    probabilities = model.predict_proba(other)
    truth = y_other.toarray()[
        np.repeat(np.arange(2000), np.diff(probabilities.indptr)), probabilities.indices
    ]
    assert probabilities.data.mean() == pytest.approx(truth.mean(), abs=0.01)
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1.0)):
        inside = (probabilities.data >= low) & (probabilities.data < high)
        assert probabilities.data[inside].mean() == pytest.approx(truth[inside].mean(), abs=0.05)


# ---- rows


class CountedXC(OneVsRestClassifier):
    """A classifier of scikit-learn that notes how many rows it is fitted on."""

    seen = []

    def fit(self, X, y):
        self.seen.append(X.shape[0])
        return super().fit(X, y)


@pytest.mark.parametrize("n", [300, 2200])
@pytest.mark.parametrize("calibration", ["auto", "held_out", None])
def test_members_are_fitted_without_the_held_out_rows_and_then_on_all(n, calibration, monkeypatch):
    """Each member is fitted twice at most: the fusion's held-out rows serve the members too."""
    rows, y = halves(n)
    n_held = {300: 60, 2200: 110 if calibration == "held_out" else 400}[n]
    members = [
        ("one", HalfXC()),
        ("own", HalfXC(calibration="held_out")),
        ("other", CountedXC(LogisticRegression())),
    ]
    monkeypatch.setattr(HalfXC, "seen", [])
    monkeypatch.setattr(CountedXC, "seen", [])
    model = FusionXC(members, method="linear", calibration=calibration).fit(rows, y)
    own = [_hold_out.n_held_out(size) for size in (n - n_held, n)]
    first = [(n - n_held, n_held), (n - n_held - own[0], own[0])]
    if calibration == "held_out":
        assert HalfXC.seen == first
        assert CountedXC.seen == [n - n_held]
    else:
        assert HalfXC.seen == [*first, (n, None), (n - own[1], own[1])]
        assert CountedXC.seen == [n - n_held, n]
    assert ("calibration_rows_" in vars(model.estimators_[0])) == (calibration == "held_out")
    assert model.estimators_[0].predict_proba(rows).shape == (n, 20)


def test_members_keep_what_the_held_out_rows_chose(monkeypatch):
    """What scales probabilities and weighs votes comes from the first fit, as by itself."""
    data = skxc.datasets.make_planted_xc(n_samples=2400, n_labels=40, random_state=0)
    arguments = data.train_texts, data.train_labels
    dual = DualEncoderXC(encoder=BagEncoder(dim=16), n_epochs=2, random_state=0)
    monkeypatch.setattr(DualEncoderModel, "with_best_weight", weigh_by_rows)
    alone = clone(dual).fit(*arguments, label_features=data.label_texts)
    model = FusionXC([("dual", dual)], method="linear", random_state=0)
    model.fit(*arguments, label_features=data.label_texts)
    (member,) = model.estimators_
    assert alone.vote_weight_ > 100
    assert_same_model(member, alone, data.test_texts[:50])
    assert (member.predict_proba(data.test_texts) != alone.predict_proba(data.test_texts)).nnz == 0


def weigh_by_rows(model, held_out):
    return model if held_out is None else replace(model, vote_weight=float(held_out.n_samples))


def test_a_killed_fusion_goes_on(tmp_path, monkeypatch):
    """The checkpoints of the first fit are not those of the fit on all rows."""
    data = skxc.datasets.make_planted_xc(n_samples=200, n_labels=30, random_state=0)
    write, n_written = Checkpoint.write, []

    def fit(folder, dies_after=99):
        def write_and_die(self, *arguments):
            write(self, *arguments)
            n_written.append(self.path)
            if len(n_written) == dies_after:
                raise KeyboardInterrupt

        monkeypatch.setattr(Checkpoint, "write", write_and_die)
        n_written.clear()
        training = Training(checkpoint_dir=folder, patience=2)
        dual = DualEncoderXC(encoder=BagEncoder(dim=8), n_epochs=3, training=training)
        model = FusionXC([("dual", dual)], method="linear", random_state=0)
        return model.fit(data.train_texts, data.train_labels, label_features=data.label_texts)

    whole = fit(tmp_path / "whole")
    n_total, n_first = len(n_written), n_written.count(n_written[0])
    assert len(set(n_written)) == 2
    for dies_after in (1, n_first, n_first + 1):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / str(dies_after), dies_after)
        resumed = fit(tmp_path / str(dies_after))
        assert len(n_written) == n_total - dies_after
        assert_same_model(resumed, whole, data.test_texts[:50])
        assert not list((tmp_path / str(dies_after)).iterdir()), "a finished fit removes its files"


def test_an_interrupted_second_fit_leaves_the_old_fusion(monkeypatch):
    rows, y = halves(300)
    model = FusionXC(TWO, method="linear").fit(rows, y)
    before, answers = dict(vars(model)), model.predict_topk(rows, 3)
    train = HalfXC._train

    def fail(self, fit):
        if fit.held_out is None:
            raise KeyboardInterrupt
        return train(self, fit)

    monkeypatch.setattr(HalfXC, "_train", fail)
    with pytest.raises(KeyboardInterrupt):
        model.fit(rows[:, :10], y[:, :10])
    assert vars(model) == before
    np.testing.assert_array_equal(model.predict_topk(rows, 3), answers)


def test_default_members_learn_from_a_graph():
    data = skxc.datasets.make_planted_xc(n_samples=120, n_labels=30, random_state=0)
    graph, sample_graph = data.anchor_graph("topic")
    kinds = {}
    for name, arguments in {
        "none": {},
        "name": {"graph": "cooccurrence"},
        "labels": {"graph": data.graphs["related"]},
        "anchors": {"graph": graph},
        "both": {"graph": graph, "sample_graph": sample_graph},
    }.items():
        model = FusionXC(method="linear", calibration="held_out", random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of graphs that mask much of so few labels
            model.fit(
                data.train_texts, data.train_labels, label_features=data.label_texts, **arguments
            )
        kinds[name] = type(model.named_estimators_["dual"]).__name__
    graph_kind = "GraphRegularizedXC"
    plain = dict.fromkeys(("none", "name"), "DualEncoderXC")
    assert kinds == {**plain, **dict.fromkeys(("labels", "anchors", "both"), graph_kind)}
    model = FusionXC(graph=graph).set_params(dual__n_epochs=1)
    assert type(model.estimators[1][1]).__name__ == graph_kind


@pytest.mark.parametrize("n", [300, 2200])
def test_frequencies_leave_the_held_out_rows_out(n, monkeypatch):
    """A label that only held-out rows have must look unseen, or frequency tells what is right."""
    rows, y = halves(n)
    seen = []

    def learn(candidates, truth, *, label_frequency, inverse_propensity, **options):
        seen.append((truth, label_frequency, inverse_propensity))
        options.update(label_frequency=label_frequency, inverse_propensity=inverse_propensity)
        return learn_combiner(candidates, truth, **options)

    monkeypatch.setattr("skxc.estimators._fusion.recipe.learn_combiner", learn)
    model = FusionXC(TWO, method="linear").fit(rows, y)
    ((truth, frequency, weight),) = seen
    total = np.asarray(y.sum(axis=0)).ravel()
    rest = total - np.asarray(truth.sum(axis=0)).ravel()
    np.testing.assert_array_equal(frequency, rest)
    np.testing.assert_allclose(weight, inverse_propensity(rest, n - truth.shape[0]))
    np.testing.assert_array_equal(model.label_frequency_, total)
    np.testing.assert_array_equal(model.member_frequency_, total)
    held = FusionXC(TWO, method="linear", calibration="held_out").fit(rows, y)
    rest = total - np.asarray(seen[1][0].sum(axis=0)).ravel()
    np.testing.assert_array_equal(held.member_frequency_, rest)


def test_frozen_members_without_frequencies_get_no_tilt():
    rows, y = halves(200)
    frozen = FrozenEstimator(OneVsRestClassifier(LogisticRegression()).fit(rows[:100], y[:100]))
    model = FusionXC([("ovr", frozen)]).fit(rows[100:], y[100:])
    assert set(model.member_frequency_) == {0}
    assert set(model.model_.inverse_propensity(np.arange(20))) == {1}


def test_few_rows_choose_nothing():
    model = FusionXC([("a", CentroidXC()), ("b", KNeighborsXC())]).fit(X[:8], Y[:8])
    assert model.combiner_.shares.tolist() == [0.5, 0.5]
    assert model.combiner_.trees is None


def test_frozen_members_stay_as_they_are():
    rows, y = halves(400)
    member = KNeighborsXC().fit(rows[:200], y[:200])
    model = FusionXC([("frozen", FrozenEstimator(member)), ("half", HalfXC(start=1))])
    again = clone(model).fit(rows[200:], y[200:])
    assert again.estimators_[0].estimator is member
    assert again.n_samples_fit_ == 200
    assert again.score(rows[200:], y[200:]) > 0.3


def test_all_frozen_members_learn_on_all_rows():
    rows, y = halves(400)
    members = [("a", KNeighborsXC()), ("b", HalfXC(start=1))]
    frozen = [(name, FrozenEstimator(one.fit(rows[:300], y[:300]))) for name, one in members]
    model = FusionXC(frozen).fit(rows[300:], y[300:])
    np.testing.assert_array_equal(model.label_frequency_, members[0][1].label_frequency_)
    assert model.n_samples_fit_ == 300
    held = [precision_at_k(y[300:], one.predict_topk(rows[300:], 5)[0], 1) for _, one in members]
    np.testing.assert_allclose(model.member_objectives_, held)
    with pytest.raises(ValueError, match="frozen member 'a' must know the 5 labels of `y`"):
        FusionXC(frozen).fit(rows[300:], y[300:, :5])


# ---- members of other kinds


def test_pipelines_and_classifiers_of_scikit_learn():
    members = [
        ("pipe", make_pipeline(MaxAbsScaler(), KNeighborsXC())),
        ("ovr", OneVsRestClassifier(LogisticRegression())),
    ]
    model = FusionXC(members, random_state=0).fit(X, Y)
    assert model.score(X, Y) > 0.5
    indices, _ = model.predict_topk(X, 12)
    assert sorted(indices[0]) == list(range(12))


def test_inside_a_pipeline():
    pipe = make_pipeline(MaxAbsScaler(), FusionXC([("near", KNeighborsXC())]))
    assert pipe.fit(X, Y).score(X, Y) > 0.5


def test_members_with_vectorisers_of_their_own():
    texts, y, label_texts = small_texts(60)
    members = [
        ("near", KNeighborsXC(vectorizer=TfidfVectorizer())),
        ("pipe", make_pipeline(TfidfVectorizer(), KNeighborsXC(n_neighbors=3))),
        ("text", CentroidXC()),
    ]
    model = FusionXC(members).fit(texts, y, label_features=label_texts)
    assert model.score(texts, y) > 0.5
    assert len(model.predict_labels(texts[:2], 3)) == 2


# ---- parameters


def test_parameters_of_members():
    model = FusionXC([("near", KNeighborsXC())])
    assert model.get_params()["near__n_neighbors"] == 20
    assert "near" not in model.get_params(deep=False)
    model.set_params(near__n_neighbors=3, method="linear")
    assert model.estimators[0][1].n_neighbors == 3
    model.set_params(near=CentroidXC())
    assert isinstance(model.estimators[0][1], CentroidXC)
    search = GridSearchCV(FusionXC([("near", KNeighborsXC())]), {"near__n_neighbors": [1, 5]}, cv=2)
    assert search.fit(X, Y).best_params_["near__n_neighbors"] in (1, 5)


def test_parameters_of_default_members():
    model = FusionXC().set_params(dual__n_epochs=2, dual__encoder__dim=8, top_k=5)
    assert model.estimators[1][1].n_epochs == 2
    assert model.top_k == 5
    assert clone(model).estimators[1][1].encoder.dim == 8
    assert FusionXC().set_params(top_k=3).estimators is None
    with pytest.raises(ValueError, match="Invalid parameter 'other'"):
        FusionXC().set_params(other=1)


def test_seeds_of_members():
    model = FusionXC([("a", LinearTreeXC()), ("b", LinearTreeXC(random_state=5))], random_state=0)
    first, second = model._fresh_members()
    assert isinstance(first.random_state, int)
    assert second.random_state == 5
    assert model.estimators[0][1].random_state is None
    assert [m.random_state for m in clone(model)._fresh_members()] == [first.random_state, 5]
    assert FusionXC([("a", LinearTreeXC())])._fresh_members()[0].random_state is None


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"estimators": []}, "`estimators` must be a list of .* with at least one pair"),
        ({"estimators": [KNeighborsXC()]}, "`estimators` must be a list of"),
        ({"estimators": [("a", KNeighborsXC)]}, "'a' is <class"),
        ({"estimators": [("a", MaxAbsScaler())]}, "with predict_topk or decision_function"),
        ({"estimators": [("a", KNeighborsXC())] * 2}, "not unique"),
        ({"estimators": [("top_k", KNeighborsXC())]}, "conflict with constructor"),
        ({"objective": "accuracy"}, "`objective` must be one of precision"),
        ({"method": "mean"}, "The 'method' parameter of FusionXC"),
        ({"weights": [1, 1]}, "`weights` must hold 1 non-negative numbers"),
        ({"weights": [0]}, "not all zero"),
    ],
)
def test_wrong_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        FusionXC(**{"estimators": [("a", KNeighborsXC())], **params}).fit(X, Y)


# ---- the label side


def test_arguments_reach_the_members_that_take_them():
    edges = sp.csr_array(Y.astype(np.float32))
    members = [("sides", SampleGraphXC()), ("near", KNeighborsXC()), ("plain", CentroidXC())]
    model = FusionXC(members).fit(
        X,
        Y,
        graph=LabelGraph(GRAPH),
        sample_graph=edges,
        label_features=X[:12],
        sample_weight=np.full(60, 2.0),
    )
    data = model.estimators_[0].data_
    np.testing.assert_array_equal(data.graph.to_csr().toarray(), GRAPH.toarray())
    np.testing.assert_array_equal(data.sample_graph.toarray(), data.y.toarray())
    assert data.label_features.shape == (12, 16)
    assert set(data.sample_weight) == {2}
    assert model.estimators_[1].n_samples_fit_ == 120
    bare = FusionXC([("plain", CentroidXC())]).fit(X, Y, graph=GRAPH, label_features=X[:12])
    direct = CentroidXC().fit(X, Y, graph=GRAPH, label_features=X[:12])
    np.testing.assert_array_equal(bare.estimators_[0].label_vectors_, direct.label_vectors_)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"graph": GRAPH}, "graph"),
        ({"graph": "cooccurrence"}, "graph"),
        ({"graph": AnchorGraph(np.eye(12, 3), texts=sp.csr_array(np.eye(3, X.shape[1])))}, "graph"),
        ({"sample_graph": sp.csr_array(Y)}, "sample_graph"),
    ],
    ids=["matrix", "name", "anchors", "samples"],
)
def test_a_graph_that_no_member_takes(arguments, name):
    with pytest.raises(ValueError, match=rf"`{name}` must be of a kind .* \['KNeighborsXC'\]"):
        FusionXC([("near", KNeighborsXC())]).fit(X, Y, **arguments)


def test_a_named_graph_goes_to_those_who_know_it():
    members = [("near", CentroidXC()), ("dual", DualEncoderXC(n_epochs=1))]
    model = FusionXC(members, graph="cooccurrence", random_state=0).fit(X, Y)
    assert model.score(X, Y) > 0.2


# ---- samples that are labels


def own_texts(n=120, n_right=0):
    """Return (texts, y, label_texts): every sample is a label as well, and points to the next."""
    rng = np.random.default_rng(0)
    texts = [f"w{a} w{b} id{i}" for i, (a, b) in enumerate(rng.integers(0, 12, size=(n, 2)))]
    y = np.roll(np.eye(n, dtype=int), 1, axis=1)
    y[:n_right] |= np.eye(n, dtype=int)[:n_right]
    return texts, sp.csr_array(y), texts


def test_own_labels_are_dropped_where_they_are_never_right():
    texts, y, label_texts = own_texts()
    model = FusionXC([("text", CentroidXC())]).fit(texts, y, label_features=label_texts)
    assert model.own_labels_ is not None
    indices, _ = model.predict_topk(texts, 100)
    assert not (indices == np.arange(120)[:, None]).any()
    other = model.predict_topk(["w1 w2 something new"], 120)[0]
    assert sorted(other[0]) == list(range(120))


class TextMatch(ClassifierMixin, BaseEstimator):
    """Puts the label with the sample's text first: no estimator of this package, it has no rule."""

    def __init__(self, label_texts):
        self.label_texts = label_texts

    def fit(self, X, y):
        self.words_ = TfidfVectorizer(token_pattern=r"\w+").fit(self.label_texts)
        return self

    def decision_function(self, X):
        return (self.words_.transform(X) @ self.words_.transform(self.label_texts).T).toarray()


def test_the_rule_of_own_labels_is_the_fusions():
    """It holds for members that have none, on the held-out rows and for answers."""
    texts, y, label_texts = own_texts()
    match = TextMatch(label_texts)
    assert (match.fit(texts, y).decision_function(texts).argmax(axis=1) == np.arange(120)).all()
    model = FusionXC([("match", match), ("text", CentroidXC())])
    model.fit(texts, y, label_features=label_texts)
    own = np.arange(120)[:, None]
    assert not (model.predict_topk(texts, 100)[0] == own).any()
    # A member of this package leaves them out by itself.
    assert not (model.estimators_[1].predict_topk(texts, 100)[0] == own).any()
    unruly = FusionXC([("match", match)], method="linear").fit(texts, y)
    assert unruly.own_labels_ is None
    assert (unruly.predict_topk(texts, 1)[0] == own).mean() > 0.9
    ruly = FusionXC([("match", match)], method="linear")
    ruly.fit(texts, y, label_features=label_texts)
    assert ruly.objective_ >= unruly.objective_


def test_own_labels_stay_where_they_are_right_or_rare():
    texts, y, label_texts = own_texts(n_right=120)
    model = FusionXC([("text", CentroidXC())]).fit(texts, y, label_features=label_texts)
    assert model.own_labels_ is None
    texts, y, label_texts = own_texts(n=9)
    model = FusionXC([("text", CentroidXC())]).fit(texts, y, label_features=label_texts)
    assert model.own_labels_ is None


# ---- new labels and state


def test_new_labels_need_members_that_add_them():
    assert not hasattr(FusionXC(), "add_labels")
    assert not hasattr(FusionXC([("a", CentroidXC()), ("b", KNeighborsXC())]), "add_labels")
    texts, y, label_texts = small_texts(60)
    model = FusionXC([("a", CentroidXC()), ("b", CentroidXC(graph=LabelGraph(GRAPH)))])
    names = [f"label {number}" for number in range(12)]
    model.fit(texts, y, label_features=skxc.LabelTexts(label_texts, names))
    before = model.estimators_
    model.add_labels(["red oak", "machine tree"], label_names=["x", "y"])
    assert model.n_labels_ == 14
    assert model.predict_labels(["machine tree"], 1) == [["y"]]
    assert [member.n_labels_ for member in before] == [12, 12]
    with pytest.raises(ValueError, match="label_names"):
        model.add_labels(["one more"])
    assert model.n_labels_ == 14


def test_new_labels_of_frozen_members():
    texts, y, label_texts = small_texts(60)
    member = CentroidXC().fit(texts, y, label_features=label_texts)
    model = FusionXC([("a", FrozenEstimator(member))]).fit(texts, y, label_features=label_texts)
    model.add_labels(["red oak"])
    assert model.predict_topk(["red oak"], 1)[0].tolist() == [[12]]
    assert member.n_labels_ == 12


@pytest.mark.parametrize("method", ["linear", "trees"])
def test_state(method, tmp_path):
    rows, y = halves(900)
    members = [
        ("tree", LinearTreeXC()),
        ("frozen", FrozenEstimator(KNeighborsXC().fit(rows[:50], y[:50]))),
    ]
    model = FusionXC(members, method=method, random_state=0).fit(rows, y)
    assert (model.combiner_.trees is not None) == (method == "trees")
    model.save(tmp_path / "model")
    joblib.dump(model, tmp_path / "model.joblib")
    for again in (
        skxc.load(tmp_path / "model"),
        pickle.loads(pickle.dumps(model)),
        joblib.load(tmp_path / "model.joblib"),
    ):
        assert_same_model(model, again, rows[:50])
    assert_same_model(model, clone(model).fit(rows, y), rows[:50])


def test_jobs_and_blocks_change_nothing(monkeypatch):
    rows, y = halves(300)
    members = [("near", KNeighborsXC()), ("tree", LinearTreeXC())]
    one = FusionXC(members, random_state=0).fit(rows, y)
    with joblib.parallel_config(backend="threading"):
        two = FusionXC(members, random_state=0, n_jobs=2).fit(rows, y)
    assert_same_model(one, two, rows)
    whole = dense(one.decision_function(rows))
    monkeypatch.setattr("skxc.estimators._fusion.model.BLOCK_ROWS", 7)
    np.testing.assert_array_equal(dense(one.decision_function(rows)), whole)
