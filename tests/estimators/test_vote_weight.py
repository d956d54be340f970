"""The weight of neighbours' votes: chosen on held-out rows, changeable without another fit."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from skxc import DualEncoderXC
from skxc._training_set import TrainingSet
from skxc.datasets import make_planted_xc
from skxc.metrics import ndcg_at_k
from skxc.ranking import NeighborVotes

pytest.importorskip("torch")

from skxc.estimators._dual_encoder.model import (
    USUAL_VOTE_WEIGHT,
    VOTE_WEIGHTS,
    DualEncoderModel,
)


@pytest.fixture(scope="module")
def data():
    return make_planted_xc(n_samples=400, n_labels=60, n_test=150, random_state=0)


@pytest.fixture(scope="module")
def model(data):
    return fit(data)


def fit(data, **params):
    return DualEncoderXC(**{"n_epochs": 4, "random_state": 0, **params}).fit(
        data.train_texts, data.train_labels, label_features=data.label_texts
    )


def rows_of(texts, y):
    texts = np.array(texts, dtype=object)
    return TrainingSet(texts, y, np.ones(len(texts)))


def gains(estimator, texts, y):
    """Return the nDCG@5 of some rows at every weight, through the public interface."""
    found = []
    for weight in VOTE_WEIGHTS:
        estimator.set_params(votes__weight=weight)
        found.append(ndcg_at_k(y, estimator.predict_topk(texts, 10)[0]))
    estimator.set_params(votes__weight="auto")
    return np.array(found)


def test_the_best_weight_on_held_out_rows_is_chosen(model, data):
    expected = gains(model, data.test_texts, data.test_labels)
    assert expected.max() > expected.min()
    chosen = model.model_.with_best_weight(rows_of(data.test_texts, data.test_labels))
    assert chosen.vote_weight == VOTE_WEIGHTS[int(np.argmax(expected))]


def test_the_weight_is_not_learned_on_training_rows(monkeypatch):
    """A training row votes for itself, so on training rows the largest weight looks best."""
    # Half of the labels are noise: near rows tell little of a new one, and all of themselves.
    data = make_planted_xc(400, 40, n_test=300, vocabulary_gap=0.0, random_state=0)
    rng = np.random.default_rng(0)
    rows, labels = data.train_labels.nonzero()
    labels = np.where(rng.random(len(labels)) < 0.5, rng.integers(40, size=len(labels)), labels)
    noisy = sp.csr_array((np.ones(len(labels)), (rows, labels)), shape=(400, 40))
    noisy.data[:] = 1
    seen = []

    def remember(self, held_out, choose=DualEncoderModel.with_best_weight):
        seen.append(held_out)
        return choose(self, held_out)

    monkeypatch.setattr(DualEncoderModel, "with_best_weight", remember)
    model = DualEncoderXC(
        n_epochs=4, random_state=0, calibration="held_out", votes=NeighborVotes(n_neighbors=3)
    ).fit(data.train_texts, noisy, label_features=data.label_texts)
    (held_out,) = seen
    assert held_out.n_samples + len(model.sample_embeddings_) == model.n_samples_fit_ - 1
    on_training_rows = gains(model, data.train_texts, noisy)
    on_held_out_rows = gains(model, held_out.X, held_out.y)
    assert VOTE_WEIGHTS[int(np.argmax(on_training_rows))] == max(VOTE_WEIGHTS)
    assert model.vote_weight_ == VOTE_WEIGHTS[int(np.argmax(on_held_out_rows))] < 0.3


def test_without_held_out_rows_the_usual_weight_is_taken(model):
    # 400 rows are few, so the held-out ones were given back to a second training.
    assert model.vote_weight_ == USUAL_VOTE_WEIGHT
    assert replace(model.model_, vote_weight=0.1).with_best_weight(None).vote_weight == 0.1


def test_a_given_weight_is_not_chosen(model, data):
    given = replace(model.model_, votes=NeighborVotes(weight=0.2))
    assert given.with_best_weight(rows_of(data.test_texts, data.test_labels)) is given


def test_auto_predicts_with_the_chosen_weight(data):
    model = fit(data, calibration="held_out")
    assert model.vote_weight_ in VOTE_WEIGHTS
    auto = model.decision_function(data.test_texts)
    model.set_params(votes__weight=model.vote_weight_)
    fixed = model.decision_function(data.test_texts)
    assert (auto != fixed).nnz == 0
    model.set_params(votes__weight=model.vote_weight_ + 0.1)
    assert (auto != model.decision_function(data.test_texts)).nnz > 0


def test_without_votes_no_training_embeddings_are_kept(data):
    model = fit(data, n_epochs=1, votes=False)
    assert model.sample_embeddings_ is None
    assert model.predict_topk(data.test_texts[:2], k=3)[0].shape == (2, 3)


def test_the_choice_is_weighted(model, data):
    """Rows of weight zero have no say, whatever they prefer."""
    texts, y = list(data.test_texts), data.test_labels
    for part in (slice(0, 40), slice(40, 150)):
        weight = np.zeros(150)
        weight[part] = 1
        rows = replace(rows_of(texts, y), sample_weight=weight)
        alone = model.model_.with_best_weight(rows_of(texts[part], y[part]))
        assert model.model_.with_best_weight(rows).vote_weight == alone.vote_weight
