"""A small slice of the campaign, and whether the campaign would notice anything."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.fuzz import areas, worker


def test_a_slice_of_the_campaign():
    command = [sys.executable, "-m", "tests.fuzz", "--tries", "80", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    tries, answers, good = map(int, done.stdout.splitlines()[-2].split("|")[2:5])
    assert tries == answers + good >= 75
    assert min(answers, good) > 20


def raising(error):
    def call():
        raise error

    return call


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: None, "answer"),
        (lambda: areas.demand(False, "shape"), "nonsense"),
        (lambda: np.zeros(2) + np.zeros(3), "foreign"),
        (lambda: np.log(np.zeros(2)), "foreign"),
        (lambda: {}["a"], "foreign"),
        (raising(MemoryError()), "foreign"),
        (raising(ValueError("")), "foreign"),
        (lambda: areas.skxc.KNeighborsXC(top_k=0).fit(np.eye(3), np.eye(3)), "good error"),
        (lambda: areas.skxc.load("/nowhere"), "good error"),
    ],
    ids=["fine", "false", "shapes", "warning", "key", "memory", "empty", "parameter", "file"],
)
def test_kinds_of_outcomes(call, kind):
    assert worker.outcome(call)[0] == kind


class Loose:
    """A model whose answers cannot be."""

    n_labels_ = 3

    def predict_topk(self, X, k):
        return self.ids, self.scores


@pytest.mark.parametrize(
    ("ids", "scores"),
    [
        ([[0, 3]], [[2, 1]]),
        ([[0, -2]], [[2, 1]]),
        ([[0, 0]], [[2, 1]]),
        ([[0, 1]], [[1, 2]]),
        ([[0, 1]], [[2, np.nan]]),
        ([[0, 1], [0, 1]], [[2, 1], [2, 1]]),
    ],
)
def test_nonsense_is_noticed(ids, scores):
    model = Loose()
    model.ids, model.scores = np.array(ids), np.array(scores, dtype=float)
    with pytest.raises(areas.Nonsense):
        areas.check_answers(model, ["x"])


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_death_and_a_hang_do_not_end_the_campaign(monkeypatch):
    campaign = pytest.importorskip("tests.fuzz.__main__")
    monkeypatch.setattr(campaign, "LONGEST", 1)
    made = campaign.Worker.__new__(campaign.Worker)
    for code, kind in [("os.kill(os.getpid(), 11)", "crash"), ("time.sleep(60)", "hang")]:
        program = f"import os, time; input(); print('\"start\"', flush=True); {code}"
        made.process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=-1, stdout=-1, text=True
        )
        made.answers = campaign.queue.Queue()
        listen = campaign.threading.Thread(target=made._listen, args=(made.process,), daemon=True)
        listen.start()
        begun = time.monotonic()
        assert [outcome[0] for outcome in made.outcomes("fit", 0, 5)] == [kind]
        assert time.monotonic() - begun < 30
        assert made.process.returncode in (-signal.SIGSEGV, -signal.SIGKILL)
        assert not made.is_alive
