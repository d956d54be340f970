import math
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from skxc.training import Plan, Progress, Task, _loop, train  # noqa: E402
from skxc.training._optim import warmup_then_decay  # noqa: E402


def test_batches_modes_and_history(toy_task):
    task = toy_task()
    progress = train(task, Plan(n_epochs=3, seed=0))
    assert (progress.epoch, progress.stopped) == (3, False)
    assert task.refreshed == [0, 1, 2]
    assert all(task.modes)
    assert not task.layer.training
    for epoch in range(3):
        assert sorted(np.concatenate(task.seen[3 * epoch : 3 * epoch + 3])) == list(range(12))
    assert task.seen[:3] != task.seen[3:6]
    assert [list(record) for record in progress.history] == [["loss"]] * 3
    assert progress.history[-1]["loss"] < progress.history[0]["loss"]


def test_the_rate_follows_the_schedule(toy_task, monkeypatch):
    factors = []
    scale = _loop.scale_learning_rate
    monkeypatch.setattr(_loop, "scale_learning_rate", lambda o, f: (factors.append(f), scale(o, f)))
    train(toy_task(), Plan(n_epochs=4, seed=0, warmup=0.25))
    expected = [warmup_then_decay((step + 0.5) / 12, 0.25) for step in range(12)]
    assert factors == pytest.approx(expected)
    assert max(factors) == pytest.approx(expected[3])


def test_one_step_by_hand(toy_task):
    """One epoch is three AdamW steps on the drawn batches with the drawn noise."""
    task, twin = toy_task(), toy_task()
    train(task, Plan(n_epochs=1, seed=0))
    parameters = list(twin.layer.parameters())
    dense = torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1)
    sparse = torch.optim.SparseAdam(list(twin.table.parameters()), lr=0.2)
    rng = _loop.stream(0, "toy", 0)
    with torch.random.fork_rng():
        torch.manual_seed(int(rng.integers(2**31)))
        twin.refresh(0, rng)
        for step, rows in enumerate(list(twin.batches(0, rng))):
            factor = warmup_then_decay((step + 0.5) / 3)
            dense.param_groups[0]["lr"] = 0.1 * factor
            sparse.param_groups[0]["lr"] = 0.2 * factor
            twin.backward(twin.prepare(rows, rng))
            for optimizer in (dense, sparse):
                optimizer.step()
                optimizer.zero_grad()
    for name, tensor in task.weights().items():
        torch.testing.assert_close(tensor, twin.weights()[name], rtol=1e-4, atol=1e-5)


def test_a_run_is_a_function_of_its_seed(toy_task, assert_same_weights):
    first, second, other = toy_task(), toy_task(), toy_task()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    train(first, Plan(n_epochs=2, seed=3))
    torch.manual_seed(6)
    np.random.seed(6)  # noqa: NPY002
    train(second, Plan(n_epochs=2, seed=3))
    assert_same_weights(first, second)
    train(other, Plan(n_epochs=2, seed=4))
    assert not torch.equal(first.weights()["layer.weight"], other.weights()["layer.weight"])


def test_global_generators_are_left_alone(toy_task):
    task = toy_task()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    train(task, Plan(n_epochs=2, seed=3))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_the_generator_comes_back_after_an_error(toy_task, monkeypatch):
    task = toy_task()
    before = torch.get_rng_state()
    monkeypatch.setattr(task, "evaluate", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(task, Plan(n_epochs=2, seed=3, patience=1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("figures", "patience", "n_trained", "best_epoch"),
    [
        ([0.1, 0.3, 0.2, 0.3, 0.9], 2, 4, 2),  # an equal figure is no improvement
        ([0.5, 0.4, 0.3, 0.2, 0.1], 1, 2, 1),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 1, 5, 5),
        ([0.1, 0.5, 0.4, 0.3, 0.2], 9, 5, 2),
    ],
)
def test_early_stopping_keeps_the_best_epoch(
    figures, patience, n_trained, best_epoch, toy_task, assert_same_weights
):
    task = toy_task(figures)
    progress = train(task, Plan(n_epochs=5, seed=0, patience=patience))
    assert (progress.epoch, progress.best_epoch) == (n_trained, best_epoch)
    assert progress.best == max(figures[:n_trained])
    assert progress.stopped == (n_trained < 5)
    assert [record["held_out"] for record in progress.history] == figures[:n_trained]
    # The best epoch is where a callback stops an otherwise equal run.
    twin = toy_task()
    left = iter(range(best_epoch - 1, -1, -1))
    train(twin, Plan(n_epochs=5, seed=0, start_epoch=lambda: lambda record: next(left) == 0))
    assert_same_weights(task, twin)
    assert not task.layer.training
    # And where a second training ends, on the schedule of the first.
    second = toy_task()
    assert train(second, Plan(n_epochs=5, seed=0, stop_after=best_epoch)).epoch == best_epoch
    assert_same_weights(task, second)


def test_callbacks(toy_task):
    calls = []

    def start_epoch():
        calls.append("start")

        def end_epoch(record):
            calls.append(dict(record))
            return len(calls) == 4

        return end_epoch

    progress = train(toy_task(), Plan(n_epochs=9, seed=0, start_epoch=start_epoch))
    assert progress.epoch == 2
    assert progress.stopped
    assert calls == ["start", progress.history[0], "start", progress.history[1]]


def test_other_threads_train_between_epochs(toy_task, assert_same_weights):
    """A callback may wait for another training, and neither disturbs the other."""
    alone, other_alone, task, other = (toy_task() for _ in range(4))
    train(alone, Plan(n_epochs=3, seed=0))
    train(other_alone, Plan(n_epochs=3, seed=1))

    def end_epoch(record):
        if not other.seen:
            thread = threading.Thread(target=train, args=(other, Plan(n_epochs=3, seed=1)))
            thread.start()
            thread.join(60)
            assert not thread.is_alive()
        return False

    train(task, Plan(n_epochs=3, seed=0, start_epoch=lambda: end_epoch))
    assert_same_weights(task, alone)
    assert_same_weights(other, other_alone)


def test_gradients_are_clipped(toy_task, monkeypatch):
    norms = []
    clip = _loop.clip_gradients

    def measure(optimizers, max_norm):
        norms.append((clip(optimizers, max_norm), clip(optimizers, math.inf)))

    monkeypatch.setattr(_loop, "clip_gradients", measure)
    train(toy_task(), Plan(n_epochs=1, seed=0))
    assert norms == []
    train(toy_task(), Plan(n_epochs=1, seed=0, max_grad_norm=0.5))
    assert len(norms) == 3
    for before, after in norms:
        assert after == pytest.approx(min(before, 0.5), rel=1e-5)


@pytest.mark.parametrize("verbose", [0, 1])
def test_progress_bar(verbose, toy_task, capsys):
    train(toy_task(), Plan(n_epochs=2, seed=0, verbose=verbose, phase="held-out fit"))
    out, err = capsys.readouterr()
    assert out == ""
    if not verbose:
        assert err == ""
        return
    assert "toy, held-out fit: " in err
    assert "2/2" in err
    assert "loss" in err


def test_no_epochs_and_no_batches(toy_task, assert_same_weights):
    task = toy_task()
    progress = train(task, Plan(n_epochs=0, seed=0))
    assert progress == Progress()
    assert_same_weights(task, toy_task())
    assert not task.layer.training
    task.batches = lambda epoch, rng: iter(())
    (record,) = train(task, Plan(n_epochs=1, seed=0)).history
    assert math.isnan(record["loss"])


def test_what_a_task_must_write():
    task = Task()
    for call in (
        task.parameter_groups,
        lambda: task.batches(0, None),
        lambda: task.backward(task.prepare(None, None)),
        task.evaluate,
    ):
        with pytest.raises(NotImplementedError):
            call()
    task.refresh(0, None)
    task.set_state(task.get_state())
