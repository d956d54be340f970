"""What all estimators share that train with torch: checkpoints, threads, callbacks, precision."""

import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp

from skxc import DualEncoderXC, LabelGraph
from skxc.encoders import BagEncoder
from skxc.losses import Softmax
from skxc.metrics import topk_scorer
from skxc.negatives import InBatch, make_negatives
from tests.toys import assert_same_model

torch = pytest.importorskip("torch")

from skxc.estimators import _neural  # noqa: E402
from skxc.estimators._dual_encoder.classifier import ClassifierStage  # noqa: E402
from skxc.training import Checkpoint, LabelQueries, PoolTask, Training  # noqa: E402

TINY = {
    "encoder": BagEncoder(dim=8),
    "n_epochs": 3,
    "batch_size": 16,
    "random_state": 0,
}
STAGE = ClassifierStage(n_epochs=2)


def make(**params):
    """Return an estimator; parameters of training may be given by their names alone."""
    training = {name: params.pop(name) for name in list(params) if name in Training().get_params()}
    return DualEncoderXC(**{**TINY, "training": Training(**training), **params})


def every_epoch(negatives):
    """Return negatives that are renewed before every epoch but the first."""
    return make_negatives(negatives).set_params(refresh_every=1)


def weights(model):
    """Return every number that training made."""
    return {
        **model.encoder_.__getstate__()["module_arrays"],
        "labels": model.label_embeddings_,
        "classifiers": model.classifier_weights_,
    }


def assert_same_weights(first, second):
    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


class KilledError(Exception):
    pass


@pytest.fixture
def quick_disk(monkeypatch):
    """Do not wait for the disk in this process: it takes longer than a tiny training."""
    monkeypatch.setattr("skxc.persistence._files.flush", lambda path: None)


# ---- checkpoints


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.filterwarnings("ignore:The graph masks")
@pytest.mark.parametrize("label_vectors", ["joint", STAGE])
@pytest.mark.parametrize(
    "params",
    [
        {"negatives": "in_batch"},
        {"negatives": every_epoch("clustered"), "max_grad_norm": 1.0},
        {"negatives": every_epoch("mined"), "micro_batch_size": 5},
        {"patience": 1, "n_epochs": 6},
        {
            "graph": "cooccurrence",
            "label_queries": LabelQueries(weight=1.0),
            "negatives": InBatch(n_positives=1),
        },
    ],
    ids=["in_batch", "clustered", "mined", "patience", "graph"],
)
def test_a_killed_fit_ends_like_an_unbroken_one(
    features, label_vectors, params, tmp_path, monkeypatch
):
    """Small data train twice, so both trainings are killed after each of their epochs."""
    X, y, side = features
    params = {**params, "label_vectors": label_vectors}
    expected = make(**params).fit(X, y, label_features=side)
    write, n_written = Checkpoint.write, [0]

    def write_and_count(self, *arguments):
        write(self, *arguments)
        n_written[0] += 1
        if n_written[0] == dies_after:
            raise KilledError

    monkeypatch.setattr(Checkpoint, "write", write_and_count)
    dies_after = 0
    unbroken = make(**params, checkpoint_dir=tmp_path / "unbroken").fit(X, y, label_features=side)
    assert_same_weights(unbroken, expected)
    total = n_written[0]
    assert total >= 2 if "patience" in params else total >= 6
    for epoch in range(1, total + 1):
        model = make(**params, checkpoint_dir=tmp_path / str(epoch))
        n_written[0], dies_after = 0, epoch
        with pytest.raises(KilledError):
            model.fit(X, y, label_features=side)
        dies_after = 0
        # Another process would not have this object either.
        resumed = make(**params, checkpoint_dir=tmp_path / str(epoch))
        resumed.fit(X, y, label_features=side)
        assert n_written[0] == total, "no epoch is trained twice"
        assert_same_weights(resumed, expected)
        assert_same_model(resumed, expected, X)
        assert resumed.history_ == expected.history_
        for name in ("n_refreshes_", "pool_size_", "positives_per_query_in_pool_"):
            assert getattr(resumed, name) == getattr(expected, name)


SCRIPT = """
import sys
import numpy as np, scipy.sparse as sp, torch
from skxc import DualEncoderXC
from skxc.encoders import BagEncoder
from skxc.training import Training
torch.set_num_threads(1)
data = np.load(sys.argv[1])
DualEncoderXC(
    encoder=BagEncoder(dim=8), n_epochs=40, batch_size=16, random_state=0, negatives="clustered",
    training=Training(checkpoint_dir=sys.argv[2]),
).fit(sp.csr_array(data["X"]), sp.csr_array(data["y"]))
"""


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_process_killed_at_any_moment(features, tmp_path):
    X, y, _ = features
    np.savez(tmp_path / "data.npz", X=X.toarray(), y=y.toarray())
    folder = tmp_path / "checkpoints"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "data.npz"), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 400
    while not list(folder.glob("encoder-*.safetensors")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was still training"
    params = {"n_epochs": 40, "negatives": "clustered"}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        resumed = make(**params, checkpoint_dir=folder).fit(X, y)
        expected = make(**params).fit(X, y)
    finally:
        torch.set_num_threads(threads)
    assert_same_weights(resumed, expected)


def n_files(folder):
    return len(list(folder.glob("*.safetensors")))


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.filterwarnings("ignore:The graph masks")
def test_other_data_and_parameters_start_from_the_beginning(features, tmp_path):
    X, y, side = features
    graph = sp.csr_array(np.roll(np.eye(9), 1, axis=1))
    weight = np.ones(60)
    weight[3] = 2

    def fit(params=None, X=X, y=y, **arguments):
        kept = {"checkpoint_dir": tmp_path, "keep_checkpoints": True}
        make(**kept, **(params or {})).fit(X, y, **arguments)
        return n_files(tmp_path)

    seen = [
        fit(),
        fit({"loss": "softmax"}),
        fit({"loss": Softmax(temperature=0.2)}),
        fit({"max_grad_norm": 1.0}),
        fit({"random_state": 1}),
        fit(label_features=side),
        fit(label_features=2 * side),
        fit(graph=graph),
        fit(graph=LabelGraph(2 * graph)),
        fit({"graph": "cooccurrence"}),
        fit(sample_weight=weight),
        fit(X=X[:50], y=y[:50]),
        fit(y=y[:, [1, 0, 2, 3, 4, 5, 6, 7, 8]]),
        fit(y=y[:, :8]),
    ]
    assert seen == [2 * (i + 1) for i in range(len(seen))], "two trainings each"
    assert fit({"n_jobs": 1}) == fit({"graph": None, "verbose": 0}) == seen[-1]


@pytest.mark.usefixtures("quick_disk")
def test_a_finished_fit_leaves_no_checkpoints(features, tmp_path):
    X, y, _ = features
    other = tmp_path / "encoder-0123456789abcdef.safetensors"
    other.write_bytes(b"of another training")
    make(checkpoint_dir=tmp_path).fit(X, y)
    assert list(tmp_path.iterdir()) == [other]
    first = make(checkpoint_dir=tmp_path, keep_checkpoints=True).fit(X, y)
    assert n_files(tmp_path) == 3, "one for every training"
    assert_same_weights(make(checkpoint_dir=tmp_path).fit(X, y), first)
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.usefixtures("quick_disk")
def test_without_a_seed_the_data_give_one(features, tmp_path):
    X, y, _ = features
    first, second = (
        make(checkpoint_dir=tmp_path / name, random_state=None).fit(X, y) for name in "ab"
    )
    assert_same_weights(first, second)
    state = np.random.RandomState(0)
    third, fourth = (make(checkpoint_dir=tmp_path, random_state=state).fit(X, y) for _ in range(2))
    assert (third.label_embeddings_ != fourth.label_embeddings_).any()


@pytest.mark.parametrize("stage", ["encoder", "classifier"])
def test_the_training_on_all_rows_ends_where_the_first_one_was_best(features, stage, monkeypatch):
    """It has no held-out rows to stop on; figures 0.2, 0.3, 0.1 stop the first one."""
    X, y, side = features
    figures, run, runs = iter([0.2, 0.3, 0.1]), _neural.train, []
    monkeypatch.setattr(
        PoolTask, "evaluate", lambda task: next(figures) if task.name == stage else 0.0
    )

    def recorded(task, plan):
        progress = run(task, plan)
        runs.append((task.name, plan.patience, progress.epoch))
        return progress

    monkeypatch.setattr(_neural, "train", recorded)
    vectors = "joint" if stage == "encoder" else ClassifierStage(n_epochs=5)
    model = make(label_vectors=vectors, n_epochs=5, patience=1, calibration="refit")
    model.fit(X, y, label_features=side)
    assert [run[1:] for run in runs if run[0] == stage] == [(1, 3), (None, 2)]
    if stage == "encoder":
        assert [record["held_out"] for record in model.history_] == [0.2, 0.3]
    assert next(figures, None) is None


# ---- threads


def test_fits_in_threads_are_those_of_one_after_the_other(features):
    X, y, side = features

    def fit(seed):
        return make(random_state=seed).fit(X, y, label_features=side)

    alone = [fit(seed) for seed in range(4)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(fit, range(4)))
    for first, second in zip(alone, together, strict=True):
        assert_same_weights(first, second)


# ---- callbacks


class Recorder:
    """Counts tasks, keeps what it is told, and stops after some epochs."""

    def __init__(self, stop_after=99):
        self.stop_after = stop_after
        self.begun, self.ended, self.scores = [], [], []
        self.n_setups = self.n_teardowns = 0

    def setup(self, estimator, context):
        self.n_setups += 1

    def teardown(self, estimator, context):
        self.n_teardowns += 1

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context.task_name)

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator, metadata):
        self.ended.append((context.task_name, metadata))
        if context.task_name != "fit":
            self.scores.append(fitted_estimator.score(X, y))
            assert fitted_estimator.predict_topk(X, 2)[0].shape == (X.shape[0], 2)
        return len(self.scores) >= self.stop_after


@pytest.fixture
def with_callbacks():
    return pytest.importorskip("sklearn.callback")


def test_callbacks_see_every_epoch_of_the_final_training(features, with_callbacks):
    X, y, side = features
    recorder = Recorder()
    model = make(label_vectors=STAGE).set_callbacks(recorder).fit(X, y, label_features=side)
    epochs = ["encoder epoch"] * 3 + ["classifier epoch"] * 2
    assert recorder.begun == ["fit", *epochs]
    assert [name for name, _ in recorder.ended] == [*epochs, "fit"]
    assert [record for _, record in recorder.ended[:3]] == model.history_
    assert recorder.n_setups == recorder.n_teardowns == 1
    # Watching must not change the training.
    assert_same_weights(model, make(label_vectors=STAGE).fit(X, y, label_features=side))
    assert recorder.scores[-1] == model.score(X, y)


def test_a_callback_stops_the_training(features, with_callbacks):
    X, y, side = features
    model = make(n_epochs=9).set_callbacks(Recorder(stop_after=2)).fit(X, y, label_features=side)
    assert model.n_iter_ == 2
    assert 0 <= model.score(X, y) <= 1


def test_scoring_monitor(features, with_callbacks):
    X, y, side = features
    monitor = with_callbacks.ScoringMonitor(scoring=topk_scorer(ks=(1,), metrics=("precision",)))
    model = make().set_callbacks(monitor).fit(X, y, label_features=side)
    logged = [record for record in monitor.get_logs().data if "precision@1" in str(record)]
    assert len(logged) >= 3
    assert str(model.score(X, y))[:6] in str(logged[-1])


def test_progress_bar_of_scikit_learn(features, with_callbacks, capsys):
    X, y, side = features
    pytest.importorskip("rich")
    make().set_callbacks(with_callbacks.ProgressBar()).fit(X, y, label_features=side)
    assert "DualEncoderXC" in capsys.readouterr().out


# ---- texts and precision with a transformer


def small_texts(n=24):
    rng = np.random.default_rng(0)
    y = rng.random((n, 5)) < 0.4
    names = np.array(["red wine", "oak barrel", "deep learning", "tree", "white grape"])
    return [" ".join(names[row]) for row in y], sp.csr_array(y.astype(np.int64)), names.tolist()


@pytest.mark.parametrize("label_vectors", ["joint", False])
def test_bfloat16(label_vectors, tiny_transformer):
    """The loss of the first step is near that of float32, and training ends near as well."""
    texts, y, names = small_texts()
    models = {
        precision: make(
            encoder=tiny_transformer,
            precision=precision,
            n_epochs=4,
            learning_rate=1e-3,
            patience=3,
            label_vectors=label_vectors,
            votes=False,
        ).fit(texts, y, label_features=names)
        for precision in ("float32", "bfloat16")
    }
    first = [model.history_[0]["loss"] for model in models.values()]
    assert first[0] != first[1]
    assert first[1] == pytest.approx(first[0], rel=0.02)
    scores = [model.score(texts, y) for model in models.values()]
    assert abs(scores[0] - scores[1]) < 0.2
    for model in models.values():
        assert {p.dtype for p in model.encoder_.module_.parameters()} == {torch.float32}
        assert model.label_embeddings_.dtype == np.float32
        again = pickle.loads(pickle.dumps(model))
        assert_same_model(model, again, texts)


def test_a_transformer_refuses_features(features, tiny_transformer):
    X, y, side = features
    with pytest.raises(ValueError, match="`X` must hold texts for a transformer"):
        make(encoder=tiny_transformer).fit(X, y, label_features=side)
