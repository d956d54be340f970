import numpy as np
import pytest
import scipy.sparse as sp

torch = pytest.importorskip("torch")

from skxc.training import (  # noqa: E402
    Checkpoint,
    LabelVectors,
    Plan,
    Progress,
    Task,
    build_optimizers,
    fingerprint,
    train,
)
from skxc.training._loop import _train_epoch  # noqa: E402

FIGURES = [0.1, 0.4, 0.2, 0.6, 0.3]


class KilledError(Exception):
    pass


def plan(folder, name="a", **options):
    return Plan(
        n_epochs=5, seed=0, max_grad_norm=1.0, checkpoint=Checkpoint(folder, name, "toy"), **options
    )


def killed(task, after, options, folder, monkeypatch, in_callback):
    """Train until the checkpoint after this epoch is written, or its callback is called."""
    written = [0]
    write = Checkpoint.write

    def write_and_die(self, *arguments):
        write(self, *arguments)
        written[0] += 1
        if written[0] == after:
            raise KilledError

    def start_epoch():
        def end_epoch(record):
            if written[0] == after - 1:
                raise KilledError
            return False

        return end_epoch

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        if not in_callback:
            patch.setattr(Checkpoint, "write", write_and_die)
            train(task, plan(folder, **options))
        else:
            patch.setattr(Checkpoint, "write", count(write, written))
            train(task, plan(folder, start_epoch=start_epoch, **options))


def count(write, written):
    def write_and_count(self, *arguments):
        write(self, *arguments)
        written[0] += 1

    return write_and_count


@pytest.mark.parametrize("in_callback", [False, True])
@pytest.mark.parametrize("options", [{}, {"patience": 2}, {"patience": 1}])
@pytest.mark.parametrize("after", [1, 2, 3, 4, 5])
def test_a_killed_run_ends_like_an_unbroken_one(
    after, options, in_callback, toy_task, tmp_path, monkeypatch, assert_same_weights
):
    unbroken = toy_task(FIGURES)
    expected = train(unbroken, plan(tmp_path, "unbroken", **options))
    if after > expected.epoch:
        pytest.skip("early stopping ends before")
    killed(toy_task(FIGURES), after, options, tmp_path, monkeypatch, in_callback)
    done = after - in_callback
    resumed = toy_task(FIGURES[done:])
    torch.manual_seed(99)  # the state of the process must not matter
    progress = train(resumed, plan(tmp_path, **options))
    assert progress == expected
    assert_same_weights(resumed, unbroken)
    np.testing.assert_array_equal(resumed.memory, unbroken.memory)
    assert resumed.refreshed == list(range(done, expected.epoch))


def test_a_finished_run_is_not_trained_again(toy_task, tmp_path, assert_same_weights):
    first, second = toy_task(), toy_task()
    expected = train(first, plan(tmp_path))
    assert train(second, plan(tmp_path)) == expected
    assert second.seen == []
    assert_same_weights(first, second)


def test_other_names_and_stages_have_files_of_their_own(toy_task, tmp_path):
    folder = tmp_path / "new" / "folder"
    train(toy_task(), plan(folder, "a"))
    task = toy_task()
    train(task, plan(folder, "b"))
    assert len(task.seen) == 15
    assert sorted(path.name for path in folder.iterdir()) == [
        "toy-a.safetensors",
        "toy-b.safetensors",
    ]


def test_a_damaged_file_is_named(toy_task, tmp_path):
    train(toy_task(), plan(tmp_path))
    path = tmp_path / "toy-a.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"toy-a\.safetensors.*damaged"):
        train(toy_task(), plan(tmp_path))


def csr(n_columns=4):
    return sp.csr_array(([1.0, 2.0], ([0, 1], [0, 2])), shape=(2, n_columns))


def test_fingerprints_tell_everything_apart():
    texts = np.array(["ab", "c"], dtype=object)
    parts = [
        [("a", 1)],
        [("a", 1.0)],
        [("a", "1")],
        None,
        "None",
        texts,
        np.array(["a", "bc"], dtype=object),
        np.array(["ab\0c"], dtype=object),
        np.array(["ab\\x00c"], dtype=object),
        np.array(["ab", "c", ""], dtype=object),
        csr(),
        csr(5),
        csr() * 2,
        csr().astype(np.float32),
        csr()[[1, 0]],
        np.arange(6),
        np.arange(6).astype(np.int32),
        np.arange(6).reshape(2, 3),
        np.array([], dtype=object),
    ]
    names = [fingerprint(part) for part in parts]
    assert len(set(names)) == len(parts)
    assert [fingerprint(part) for part in parts] == names
    assert fingerprint(texts, None) != fingerprint(texts)
    assert fingerprint(texts[:1], texts[1:]) != fingerprint(texts)
    assert all(len(name) == 16 for name in names)


def test_fingerprints_do_not_depend_on_memory():
    array = np.arange(12.0).reshape(3, 4)
    assert fingerprint(array) == fingerprint(np.asfortranarray(array))
    read_only = array.copy()
    read_only.flags.writeable = False
    assert fingerprint(array) == fingerprint(read_only)
    assert fingerprint(np.array(["\ud800"], dtype=object)) == fingerprint(
        np.array(["\ud800"], dtype=object)
    )


class TableTask(Task):
    """Pull half of a bfloat16 table to zero in every step."""

    name = "table"

    def __init__(self):
        start = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
        self.table = LabelVectors(start, dtype="bfloat16")
        self.modules = torch.nn.ModuleDict({"table": self.table})

    def parameter_groups(self):
        return [{"params": [self.table.weight], "lr": 0.01, "sparse": True}]

    def batches(self, epoch, rng):
        return iter([np.arange(3), np.arange(3, 6)])

    def backward(self, rows):
        loss = self.table(rows).pow(2).sum()
        loss.backward()
        return loss.detach()


def test_bfloat16_tables_resume_exactly(tmp_path):
    def checkpoint():
        return Checkpoint(tmp_path, "x", "table")

    unbroken, broken, resumed = TableTask(), TableTask(), TableTask()
    train(unbroken, Plan(n_epochs=4, seed=0))
    die = {"start_epoch": lambda: lambda record: True}
    train(broken, Plan(n_epochs=4, seed=0, checkpoint=checkpoint(), **die))
    optimizers = build_optimizers(resumed.parameter_groups())
    progress, _ = checkpoint().resume(resumed, optimizers, Progress())
    assert progress.epoch == 1
    assert torch.equal(resumed.table.weight, broken.table.weight)
    state = optimizers[0].state[resumed.table.weight]
    assert state["mean"].dtype == torch.bfloat16
    assert state["mean"].any()
    for epoch in range(1, 4):
        _train_epoch(resumed, optimizers, Plan(n_epochs=4, seed=0), epoch)
    assert torch.equal(resumed.table.weight, unbroken.table.weight)
