"""Kill savers, and let savers and a reader meet, on one path; prints one line per campaign.

    python docs/results/saving.py [--kills 200] [--pairs 200] [--seconds 0]

A kill is SIGKILL at a random moment of a save, of a first one every other time. A pair is two
savers that start together while a reader loads again and again. Processes are forked from one that
has imported everything, so that moments fall inside the saves.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.preprocessing import StandardScaler

from skxc.persistence import load, save

# Numbers of a model: about 2 MB.
SIZE = 250_000


def model_of(number: int) -> StandardScaler:
    """Return a model all of whose numbers are one number."""
    model = StandardScaler()
    model.mean_ = np.full(SIZE, float(number))
    model.scale_ = np.full(SIZE, float(number))
    return model


def number_of(folder: Path) -> int:
    """Return the number of a saved model; raise unless it is whole."""
    model = load(folder)
    numbers = np.unique(np.concatenate([model.mean_, model.scale_]))
    if len(numbers) != 1 or len(model.mean_) != SIZE:
        raise AssertionError(f"a mixture of {numbers}")
    return int(numbers[0])


def forked(work: Callable[[], object]) -> int:
    """Run a function in a new process; return its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
    os._exit(status)


def report(figures: dict[str, int]) -> None:
    """Write figures as a line of JSON."""
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


def killed(folder: Path, number: int, after: float) -> None:
    """Start a save and kill it after some seconds."""
    child = forked(lambda: save(model_of(number), folder))
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def campaign_of_kills(root: Path, n_kills: int, rng: random.Random) -> dict[str, int]:
    """Kill saves; count what is wrong."""
    folder = root / "timing"
    start = time.perf_counter()
    os.waitpid(forked(lambda: save(model_of(0), folder)), 0)
    whole = time.perf_counter() - start
    wrong = {"lost or mixed models": 0, "blocked paths": 0, "leftovers": 0, "kills amid a save": 0}
    for trial in range(n_kills):
        folder = root / f"kill-{trial}"
        is_first = trial % 2
        if not is_first:
            save(model_of(1), folder)
        killed(folder, 2, rng.random() * whole)
        files = list(folder.iterdir()) if folder.exists() else []
        wrong["kills amid a save"] += len(files) not in (0, 2) or (not is_first and len(files) != 2)
        try:
            if not is_first or (folder / "model.json").exists():
                wrong["lost or mixed models"] += number_of(folder) not in (1, 2)
        except Exception:
            wrong["lost or mixed models"] += 1
        try:
            save(model_of(3), folder)
            wrong["lost or mixed models"] += number_of(folder) != 3
        except Exception:
            wrong["blocked paths"] += 1
        wrong["leftovers"] += len(list(folder.iterdir())) != 2
    return wrong


def campaign_of_pairs(root: Path, n_pairs: int, seconds: float) -> dict[str, int]:
    """Let two savers and a reader meet; count what is wrong."""
    folder, counts = root / "pairs", {"failed savers": 0, "failed readers": 0, "leftovers": 0}
    save(model_of(1), folder)
    end = time.perf_counter() + seconds

    def read() -> None:
        while True:
            number_of(folder)

    pair = 0
    while pair < n_pairs or time.perf_counter() < end:
        reader = forked(read)
        savers = [forked(lambda n=2 * pair + i: save(model_of(n), folder)) for i in (2, 3)]
        for saver in savers:
            counts["failed savers"] += os.waitpid(saver, 0)[1] != 0
        counts["failed readers"] += os.waitpid(reader, os.WNOHANG)[0] == reader
        try:
            os.kill(reader, signal.SIGKILL)
            os.waitpid(reader, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # it has failed before
        try:
            counts["failed readers"] += number_of(folder) not in (2 * pair + 2, 2 * pair + 3)
        except Exception:
            counts["failed readers"] += 1
        counts["leftovers"] += len(list(folder.iterdir())) != 2
        pair += 1
    return counts


def main() -> None:
    """Run both campaigns."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        kills = campaign_of_kills(Path(root), asked.kills, random.Random(0))
        report({"killed saves": asked.kills, **kills})
        pairs = campaign_of_pairs(Path(root), asked.pairs, asked.seconds)
        report({"pairs of savers": asked.pairs, **pairs})


if __name__ == "__main__":
    main()
