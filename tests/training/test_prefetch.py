import threading
import time
from contextlib import closing

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from skxc.training import Plan, train  # noqa: E402
from skxc.training._prefetch import ahead  # noqa: E402


def n_threads():
    return sum(thread.name == "skxc-prefetch" for thread in threading.enumerate())


@pytest.mark.parametrize("n", [0, 1, 2, 100])
def test_the_items_in_their_order(n):
    assert list(ahead(iter(range(50)), n)) == list(range(50))
    assert list(ahead(iter(()), n)) == []
    assert n_threads() == 0


def test_so_many_are_made_ahead_and_no_more():
    made = []

    def items():
        for i in range(20):
            made.append((i, threading.current_thread().name))
            yield i

    with closing(ahead(items(), 3)) as found:
        assert next(found) == 0
        deadline = time.monotonic() + 10
        while len(made) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert made == [(i, "skxc-prefetch") for i in range(3)]
    assert n_threads() == 0


@pytest.mark.parametrize("n", [0, 2])
def test_an_error_is_raised_where_the_item_is_asked_for(n):
    def items():
        yield 1
        raise ZeroDivisionError

    found = ahead(items(), n)
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert n_threads() == 0


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_thread_ends_when_a_step_fails(error, toy_task, monkeypatch):
    task = toy_task()
    monkeypatch.setattr(task, "backward", lambda batch: (_ for _ in ()).throw(error))
    with pytest.raises(error):
        train(task, Plan(n_epochs=2, seed=3, prefetch=2))
    assert n_threads() == 0


@pytest.mark.parametrize("prefetch", [1, 5])
def test_a_run_does_not_depend_on_it(prefetch, toy_task, assert_same_weights, monkeypatch):
    plain, other = toy_task(), toy_task()
    train(plain, Plan(n_epochs=3, seed=0))
    rng = np.random.default_rng(0)
    prepare, backward = other.prepare, other.backward

    def wait(function):
        def slow(*arguments):
            time.sleep(0.01 * rng.random())
            return function(*arguments)

        return slow

    monkeypatch.setattr(other, "prepare", wait(prepare))
    monkeypatch.setattr(other, "backward", wait(backward))
    progress = train(other, Plan(n_epochs=3, seed=0, prefetch=prefetch))
    assert_same_weights(plain, other)
    assert other.seen == plain.seen
    assert progress.epoch == 3
