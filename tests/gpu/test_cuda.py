"""What only a GPU can show; run it with `make test-gpu`, which prints the figures too."""

import json
import time
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from skxc import (  # noqa: E402
    DualEncoderXC,
    GraphRegularizedXC,
    LabelGraphXC,
    LearnedIndexXC,
    UnifiedXC,
)
from skxc.datasets import make_planted_xc  # noqa: E402
from skxc.encoders import BagEncoder  # noqa: E402
from skxc.training import Training, _loop  # noqa: E402

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="There is no CUDA device here, so nothing is checked on a GPU.",
    ),
]
SMALL = {"encoder": BagEncoder(dim=32), "n_epochs": 6, "batch_size": 32, "random_state": 0}
BFLOAT16 = {"label_table__dtype": "bfloat16"}


@pytest.fixture(scope="module")
def planted():
    return make_planted_xc(n_samples=600, n_labels=60, n_test=200, random_state=0)


def fit(data, cls, device, **params):
    model, arguments = cls(**SMALL, device=device).set_params(**params), {}
    if cls is GraphRegularizedXC:
        arguments["graph"], arguments["sample_graph"] = data.anchor_graph("topic")
    return model.fit(
        data.train_texts, data.train_labels, label_features=data.label_texts, **arguments
    )


def precision(model, data):
    best = model.predict_topk(data.test_texts, k=1)[0][:, 0]
    return float(data.test_labels[np.arange(len(best)), best].mean())


def test_a_training_without_dropout_is_that_of_the_cpu(planted):
    here, there = (
        fit(planted, DualEncoderXC, device, label_vectors__dropout=0.0, calibration=None)
        for device in ("cpu", DEVICE)
    )
    np.testing.assert_allclose(
        [record["loss"] for record in there.history_],
        [record["loss"] for record in here.history_],
        rtol=1e-2,
    )
    cosines = (here.label_embeddings_ * there.label_embeddings_).sum(axis=1)
    assert cosines.min() > 0.99
    best = [model.predict_topk(planted.test_texts, k=1)[0] for model in (here, there)]
    assert np.mean(best[0] == best[1]) > 0.95


@pytest.mark.parametrize(
    ("cls", "params"),
    [
        (DualEncoderXC, {"training": Training(max_grad_norm=1.0, micro_batch_size=16)}),
        (DualEncoderXC, {"negatives": "mined"}),
        (DualEncoderXC, {"loss": "soft_topk"}),
        (UnifiedXC, {}),
        (UnifiedXC, BFLOAT16),
        (UnifiedXC, {"label_table__device": "cpu"}),
        (GraphRegularizedXC, {}),
        (LabelGraphXC, {}),
        (LearnedIndexXC, {}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(value) or "default",
)
def test_every_estimator_is_as_right_as_on_the_cpu(planted, cls, params):
    here, there = (precision(fit(planted, cls, d, **params), planted) for d in ("cpu", DEVICE))
    assert there > here - 0.1, (here, there)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_transformer_trains(tiny_transformer, precision):
    texts = ["red wine", "white wine", "deep learning", "machine learning", "oak tree"] * 8
    y = np.tile(np.eye(5, dtype=np.float32), (8, 1))
    losses = {}
    for device in ("cpu", DEVICE):
        model = DualEncoderXC(
            encoder=tiny_transformer,
            label_vectors=False,
            n_epochs=3,
            batch_size=8,
            random_state=0,
            calibration=None,
            training=Training(precision=precision if device == DEVICE else "float32"),
            device=device,
        ).fit(texts, y, label_features=texts[:5])
        losses[device] = [record["loss"] for record in model.history_]
    assert np.isfinite(losses[DEVICE]).all()
    np.testing.assert_allclose(losses[DEVICE], losses["cpu"], rtol=0.1)


def test_no_step_waits(planted, monkeypatch):
    """torch itself says where the host waits; reading the loss at the end of an epoch may."""
    scale, waits = _loop.scale_learning_rate, []

    def start_step(optimizers, factor):
        torch.cuda.set_sync_debug_mode("warn")
        scale(optimizers, factor)

    def stack(losses):
        torch.cuda.set_sync_debug_mode("default")
        return torch.stack(losses)

    monkeypatch.setattr(_loop, "scale_learning_rate", start_step)
    monkeypatch.setattr(_loop, "mean_loss", lambda losses: stack(losses).double().mean().item())
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            model = fit(planted, DualEncoderXC, DEVICE, calibration=None)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [str(w.message) for w in seen if "synchroniz" in str(w.message)]
    n_steps = SMALL["n_epochs"] * -(-600 // SMALL["batch_size"])
    assert len(waits) <= n_steps, waits[:3]
    assert len(model.history_) == SMALL["n_epochs"]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_throughput(prefetch, tmp_path):
    """Prints a JSON line: rows per second, share of time in kernels, peak memory, top kernels."""
    n_epochs, n_samples = 2, 40_000
    data = make_planted_xc(n_samples=n_samples, n_labels=10_000, n_test=10, random_state=0)
    model = DualEncoderXC(
        n_epochs=n_epochs,
        random_state=0,
        calibration=None,
        votes=False,
        training=Training(prefetch=prefetch),
        device=DEVICE,
    )
    spans, epoch = [], _loop._train_epoch

    def timed(*given):
        torch.cuda.synchronize()
        start = time.perf_counter()
        record = epoch(*given)
        torch.cuda.synchronize()
        spans.append(time.perf_counter() - start)
        return record

    torch.cuda.reset_peak_memory_stats()
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with pytest.MonkeyPatch.context() as patch, torch.profiler.profile(activities=activities) as p:
        patch.setattr(_loop, "_train_epoch", timed)
        model.fit(data.train_texts, data.train_labels, label_features=data.label_texts)
    rows = sorted(p.key_averages(), key=lambda row: -row.self_device_time_total)
    share = sum(row.self_device_time_total for row in rows) / 1e6 / sum(spans)
    figures = {
        "prefetch": prefetch,
        "device": torch.cuda.get_device_name(),
        "rows_per_second": round(n_samples / spans[-1]),
        "share_of_time_in_kernels": round(share, 3),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3),
        "kernels": {row.key[:60]: round(row.self_device_time_total / 1e3, 1) for row in rows[:8]},
    }
    print(json.dumps(figures))
    assert figures["rows_per_second"] > 1000
    assert 0 < share < 1.05
    assert figures["peak_gib"] < 8
