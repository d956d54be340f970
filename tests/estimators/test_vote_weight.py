"""The weight of neighbours' votes: chosen on held-out rows, changeable without another fit."""

import numpy as np
import pytest

from skxc import DualEncoderXC
from skxc.base import TrainingSet
from skxc.datasets import make_planted_xc
from skxc.estimators._dual_encoder_base import USUAL_VOTE_WEIGHT, VOTE_WEIGHTS
from skxc.metrics import ndcg_at_k


@pytest.fixture(scope="module")
def data():
    return make_planted_xc(n_samples=400, n_labels=60, n_test=150, random_state=0)


@pytest.fixture(scope="module")
def model(data):
    return DualEncoderXC(n_epochs=4, random_state=0).fit(
        data.train_texts, data.train_labels, label_features=data.label_texts
    )


def held_out(data):
    texts = np.array(data.test_texts, dtype=object)
    return TrainingSet(texts, data.test_labels, np.ones(len(texts)))


def test_the_best_weight_on_held_out_rows_is_chosen(model, data):
    gains = []
    for weight in VOTE_WEIGHTS:
        scores = model.set_params(neighbor_weight=weight).decision_function(data.test_texts)
        gains.append(ndcg_at_k(data.test_labels, scores))
    model.set_params(neighbor_weight="auto")
    assert max(gains) > min(gains)
    assert model._choose_vote_weight(held_out(data)) == VOTE_WEIGHTS[int(np.argmax(gains))]


def test_without_held_out_rows_the_usual_weight_is_taken(model):
    # 400 rows are few, so the held-out ones were given back to a second training.
    assert model.neighbor_weight_ == USUAL_VOTE_WEIGHT
    assert model._choose_vote_weight(None) == USUAL_VOTE_WEIGHT


def test_auto_predicts_with_the_chosen_weight(model, data):
    auto = model.decision_function(data.test_texts)
    model.set_params(neighbor_weight=model.neighbor_weight_)
    fixed = model.decision_function(data.test_texts)
    model.set_params(neighbor_weight="auto")
    assert (auto != fixed).nnz == 0


def test_weight_zero_keeps_no_training_embeddings(data):
    model = DualEncoderXC(n_epochs=1, neighbor_weight=0.0, random_state=0).fit(
        data.train_texts, data.train_labels, label_features=data.label_texts
    )
    assert model.sample_embeddings_ is None
    assert model.predict_topk(data.test_texts[:2], k=3)[0].shape == (2, 3)
