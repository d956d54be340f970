"""Fit every neural estimator on the CPU and on the emulated device; print what differs and counts.

A program of its own, because torch must know the device before its first backward pass.
"""

from __future__ import annotations

import json
import sys
import warnings
from itertools import pairwise

import numpy as np
import torch

from skxc import (
    DualEncoderXC,
    FusionXC,
    GraphRegularizedXC,
    LabelGraphXC,
    LearnedIndexXC,
    LinearTreeXC,
    UnifiedXC,
)
from skxc.datasets import make_planted_xc
from skxc.encoders import BagEncoder
from skxc.estimators._dual_encoder.classifier import ClassifierStage
from skxc.estimators._graph_regularized.terms import GraphTerms
from skxc.training import Training, _loop, _row_step
from skxc.training._pool import Pool
from skxc.utils import _row_sparse
from tests.emulated_device import COUNTS, NAME, emulated, register

DATA = make_planted_xc(n_samples=90, n_labels=24, n_test=20, random_state=0)
TINY = {"encoder": BagEncoder(dim=8), "n_epochs": 2, "batch_size": 16, "calibration": None}


def fused(device, prefetch):
    members = [
        ("dual", DualEncoderXC(**TINY, device=device, training=Training(prefetch=prefetch))),
        ("tree", LinearTreeXC()),
    ]
    return FusionXC(members, calibration=None, random_state=0)


def neural(cls, *, training=(), **params):
    def make(device, prefetch):
        how = Training(prefetch=prefetch, **dict(training))
        return cls(**{**TINY, **params, "training": how, "device": device, "random_state": 0})

    return make


MINED = {"negatives": "mined", "negatives__refresh_every": 1}
CASES = {
    "DualEncoderXC": neural(DualEncoderXC),
    "DualEncoderXC clipped": neural(DualEncoderXC, training={"max_grad_norm": 0.1}),
    "DualEncoderXC chunks": neural(DualEncoderXC, training={"micro_batch_size": 8}),
    "DualEncoderXC mined": lambda *how: neural(DualEncoderXC)(*how).set_params(**MINED),
    "DualEncoderXC stage": neural(DualEncoderXC, label_vectors=ClassifierStage(n_epochs=1)),
    "DualEncoderXC soft_topk": neural(DualEncoderXC, loss="soft_topk"),
    "DualEncoderXC triplet": neural(DualEncoderXC, loss="triplet"),
    "DualEncoderXC dropout": neural(DualEncoderXC, encoder=BagEncoder(dim=8, dropout=0.3)),
    "UnifiedXC": neural(UnifiedXC),
    "GraphRegularizedXC": neural(GraphRegularizedXC),
    "GraphRegularizedXC fade": neural(GraphRegularizedXC, terms=GraphTerms(schedule="fade")),
    "LabelGraphXC": neural(LabelGraphXC, n_epochs=1),
    "LearnedIndexXC": neural(LearnedIndexXC),
    "FusionXC": fused,
}


def answers(name, device, prefetch):
    """Fit and predict; return the answers, and the counts before every step, epoch by epoch."""
    model, seen = CASES[name](device, prefetch), []
    X, arguments = DATA.train_texts, {"label_features": DATA.label_texts}
    if isinstance(model, GraphRegularizedXC):
        arguments["graph"], arguments["sample_graph"] = DATA.anchor_graph("topic")
    scale, epoch = _loop.scale_learning_rate, _loop._train_epoch

    def start_step(optimizers, factor):
        seen[-1].append(dict(COUNTS))
        scale(optimizers, factor)

    def start_epoch(*given):
        seen.append([])
        return epoch(*given)

    _loop.scale_learning_rate, _loop._train_epoch = start_step, start_epoch
    model.fit(X, DATA.train_labels, **arguments)
    _loop.scale_learning_rate, _loop._train_epoch = scale, epoch
    return model.predict_topk(DATA.test_texts, k=5), seen


def per_step(seen, kind):
    """Return the mean over all steps but the last of every epoch, which the next one's end."""
    pairs = [pair for epoch in seen for pair in pairwise(epoch)]
    return float(np.mean([after.get(kind, 0) - before.get(kind, 0) for before, after in pairs]))


def compare(name):
    """Return whether both give the same bits, and what a step costs on the device."""
    expected, _ = answers(name, "cpu", 0)
    with emulated():
        found, seen = answers(name, NAME, 2)
    equal = all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    return {"equal": equal, **{kind: per_step(seen, kind) for kind in ("sync", "copy", "kernel")}}


def mistakes():
    """Return what is said of targets left on the CPU, and the syncs of a loss that is read."""
    sent, clip = Pool.sent, _loop.clip_gradients
    Pool.sent = lambda self, device: sent(self, torch.device("cpu"))
    try:
        with emulated():
            answers("DualEncoderXC", NAME, 0)
        said = ""
    except RuntimeError as error:
        said = str(error)
    Pool.sent = sent
    _loop.clip_gradients = lambda *given: clip(*given).item()
    with emulated():
        _, seen = answers("DualEncoderXC clipped", NAME, 0)
    _loop.clip_gradients = clip
    return {"said": said, "sync": per_step(seen, "sync")}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    register()
    # The device has torch's operations, from which compiled loops differ by rounding.
    _row_sparse.runs_loops = _row_step.runs_loops = lambda device: False
    found = {name: compare(name) for name in CASES}
    json.dump({"cases": found, "mistakes": mistakes()}, sys.stdout)
