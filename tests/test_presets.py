"""Published methods: their settings as the papers give them, and that each of them learns."""

import inspect
import pickle

import numpy as np
import pytest

import skxc
from skxc import presets
from skxc.datasets import make_planted_xc
from skxc.metrics import precision_at_k

pytest.importorskip("torch")

# What makes a preset small, and what its `fit` takes beside labels.
SMALL = {
    "ngame": {"n_epochs": 6, "label_vectors__n_epochs": 3, "encoder__dim": 64},
    "dexml": {"n_epochs": 3, "encoder__dim": 64},
    "siamese_xml": {"n_epochs": 6, "label_vectors__n_epochs": 3, "encoder__dim": 64},
    "ramen": {"n_epochs": 5, "encoder__dim": 64},
    "eclare": {"n_epochs": (4, 3, 3), "n_estimators": 1, "encoder__dim": 64},
    "unidec": {"n_epochs": 5, "encoder__dim": 64, "heads__dim": 64},
    "elias": {"n_epochs": 4, "clusters__n_epochs": 3, "encoder__dim": 64},
    "elias_plus_plus": {
        "index__n_epochs": 2,
        "index__encoder__dim": 64,
        "calibration": "held_out",
    },
}
METADATA = {"ramen": ("graph", "sample_graph"), "elias": (), "elias_plus_plus": ()}

# Settings of the papers, as they stand in the papers or in the authors' code.
PAPERS = {
    "ngame": {
        "loss__margin": 0.3,
        "loss__n_hard": 10,
        "loss__temperature": 0.1,
        "negatives__clustered": True,
        "negatives__n_positives": 1,
        "negatives__refresh_every": 5,
        "label_vectors__n_epochs": 100,
        "n_epochs": 300,
        "batch_size": 1600,
    },
    "dexml": {
        "loss__temperature": 0.05,
        "label_vectors": False,
        "votes": False,
        "n_epochs": 100,
        "batch_size": 3000,
        "training__micro_batch_size": 3000,
    },
    "siamese_xml": {
        "encoder__dim": 300,
        "loss__c": 0.9,
        "loss__d": 1.5,
        "loss__n_hard": 1,
        "label_vectors__n_epochs": 20,
        "n_epochs": 50,
        "batch_size": 4095,
        "learning_rate": 0.01,
    },
    "ramen": {
        "loss__margin": 0.3,
        "terms__loss__margin": 0.3,
        "terms__schedule": "constant",
        "terms__sides": "both",
        "terms__weights__learning_rate": 0.01,
        "terms__weights__window": 20,
        "terms__weights__init": 0.1,
        "terms__walk__restart": 0.8,
        "terms__walk__length": 400,
        "terms__prune__warmup": 10,
        "terms__prune__interval": 5,
        "terms__prune__threshold": 0.0,
        "label_vectors": False,
        "n_epochs": 300,
        "batch_size": 1024,
    },
    "eclare": {
        "encoder__dim": 300,
        "walk__restart": 0.8,
        "walk__length": 400,
        "walk__top_k": 10,
        "walk__hub_threshold": 500,
        "clusters__beam_width": 50,
        "clusters__power": 1.0,
        "clusters__propagate": True,
        "classifiers__dropout": 0.2,
        "classifiers__freeze_embeddings": True,
        "classifiers__prune_distance": 1.0,
        "ranker__propagate": True,
        "n_estimators": 3,
        "n_epochs": (20, 10, 10),
        "batch_size": 255,
        "learning_rate": (0.005, 0.004, 0.004),
    },
    "unidec": {
        "loss__temperature": 1 / 18,
        "pool__n_positives": 3,
        "pool__n_negatives": 6,
        "pool__refresh_every": 5,
        "heads__weight": 0.5,
        "heads__dim": 384,
        "label_table__start": "random",
        "label_table__similarity": "dot",
        "label_table__dropout": 0.1,
        "fusion": "sum",
        "n_epochs": 150,
        "batch_size": 1024,
    },
    "elias": {
        "clusters__n_epochs": 20,
        "clusters__learning_rate": 5e-3,
        "edges__fine_tuning": 3e-5 / 2e-4,
        "classifiers__n_scored": None,
        "label_weight": 0.0,
        "classifiers__path_loss_weight": 0.05,
        "classifiers__dropout": 0.5,
        "classifiers__learning_rate": 5e-3,
        "n_epochs": 50,
        "batch_size": 420,
    },
    "elias_plus_plus": {
        "index__clusters__n_epochs": 20,
        "index__label_weight": 0.0,
        "index__n_epochs": 50,
        "tree__label_weight": 0.0,
        "top_k": 100,
    },
}
# Of what the papers train with a transformer.
RATES = {"ngame": 2e-4, "dexml": 3e-4, "ramen": 2e-4, "elias": 2e-4}
LOSSES = {
    "ngame": "Triplet",
    "dexml": "DecoupledSoftmax",
    "siamese_xml": "ProbContrastive",
    "ramen": "Triplet",
    "eclare": "BinaryCrossEntropy",
    "unidec": "DecoupledSoftmax",
}


@pytest.fixture(scope="module")
def data():
    return make_planted_xc(
        300, 40, n_test=100, vocabulary_gap=0.0, unseen_fraction=0.0, random_state=0
    )


def fitted(name, data):
    graph, sample_graph = data.anchor_graph("topic")
    sides = {"graph": graph, "sample_graph": sample_graph, "label_features": data.label_texts}
    wanted = METADATA.get(name, ())
    wanted = wanted if name.startswith("elias") else (*wanted, "label_features")
    model = getattr(presets, name)(random_state=0, **SMALL[name])
    given = {side: sides[side] for side in wanted}
    return model.fit(data.train_texts, data.train_labels, **given)


def popular(data):
    """Return the precision of predicting the most frequent label for every row."""
    best = np.bincount(data.train_labels.indices, minlength=data.n_labels).argmax()
    return precision_at_k(data.test_labels, np.full((data.n_test, 1), best), k=1)


def test_every_preset_is_listed_and_tested():
    functions = [name for name, _ in inspect.getmembers(presets, inspect.isfunction)]
    own = {name for name in functions if getattr(presets, name).__module__ == presets.__name__}
    assert {name for name in own if not name.startswith("_")} == set(presets.__all__)
    assert set(presets.__all__) == set(SMALL) == set(PAPERS)


@pytest.mark.parametrize("name", presets.__all__)
def test_learns_and_is_saved(name, data, tmp_path):
    model = fitted(name, data)
    ids, scores = model.predict_topk(data.test_texts, k=5)
    assert precision_at_k(data.test_labels, ids, k=1) > 2 * popular(data)
    skxc.save(model, tmp_path / name)
    for copy in (pickle.loads(pickle.dumps(model)), skxc.load(tmp_path / name)):
        np.testing.assert_array_equal(copy.predict_topk(data.test_texts, k=5)[0], ids)
        np.testing.assert_array_equal(copy.predict_topk(data.test_texts, k=5)[1], scores)


@pytest.mark.parametrize("name", presets.__all__)
def test_settings_are_those_of_the_paper(name):
    params = getattr(presets, name)(scale="paper").get_params()
    found = {key: params[key] for key in PAPERS[name]}
    assert found == {
        key: pytest.approx(value) if isinstance(value, float) else value
        for key, value in PAPERS[name].items()
    }
    if name in LOSSES:
        assert type(params["loss"]).__name__ == LOSSES[name]


@pytest.mark.parametrize("name", presets.__all__)
def test_settings_are_valid(name):
    for scale in ("laptop", "paper"):
        getattr(presets, name)(scale=scale)._validate_params()


@pytest.mark.parametrize("name", [name for name in presets.__all__ if name != "elias_plus_plus"])
def test_a_laptop_trains_as_long_as_the_estimator_does(name):
    model = getattr(presets, name)()
    default = type(model)()
    for parameter in ("n_epochs", "batch_size", "learning_rate"):
        assert getattr(model, parameter) == getattr(default, parameter)


@pytest.mark.parametrize("name", RATES)
def test_rates_of_transformers_are_for_transformers(name):
    preset = getattr(presets, name)
    assert preset(scale="paper").learning_rate is None
    assert preset(scale="paper", encoder="some/transformer").learning_rate == RATES[name]
    assert preset(encoder="some/transformer").learning_rate is None
    assert preset(scale="paper", learning_rate=0.5).learning_rate == 0.5


def test_parameters_replace_settings():
    model = presets.ngame(n_epochs=2, random_state=3, encoder__dim=32, loss__margin=0.1)
    assert (model.n_epochs, model.random_state) == (2, 3)
    assert (model.encoder.dim, model.loss.margin) == (32, 0.1)
    assert presets.ngame().loss.margin == 0.3  # nothing is shared between calls
    changes = {"index__encoder": "some/transformer", "method": "linear"}
    both = presets.elias_plus_plus(scale="paper", **changes)
    index = dict(both.estimators)["index"]
    assert (index.encoder, index.learning_rate) == ("some/transformer", 2e-4)
    assert both.method == "linear"


def test_wrong_arguments_are_errors():
    with pytest.raises(ValueError, match="`scale` must be 'laptop' or 'paper', but is 'large'"):
        presets.dexml(scale="large")
    with pytest.raises(ValueError, match="Invalid parameter 'n_epoch'"):
        presets.dexml(n_epoch=3)
    with pytest.raises(ValueError, match="Invalid parameter 'n_epoch'"):
        presets.elias_plus_plus(index__n_epoch=3)
    with pytest.raises(TypeError, match="positional"):
        presets.ramen("paper")
