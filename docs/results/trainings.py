"""Kill trainings at random moments and resume them; prints a line per estimator.

    python docs/results/trainings.py [--kills 12]

A kill is SIGKILL at a random moment of a fit that writes checkpoints. The same fit is then started
again, and must end with the same answers, bit for bit, as one that nobody killed, and leave no file
behind.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import skxc
from skxc.datasets import make_planted_xc

NAMES = ("DualEncoderXC", "GraphRegularizedXC", "UnifiedXC", "LabelGraphXC", "LearnedIndexXC")


def estimator(name: str, folder: Path | None) -> Any:
    """Return an estimator that takes seconds."""
    training = skxc.Training(checkpoint_dir=folder, n_jobs=1)
    epochs = (4, 4, 4) if name == "LabelGraphXC" else 10
    model = getattr(skxc, name)(n_epochs=epochs, random_state=0, training=training)
    return model.set_params(encoder__dim=32, encoder__n_buckets=4096)


def digest_of(name: str, data: Any, folder: Path | None) -> str:
    """Fit, and return a hash of all answers."""
    arguments: dict[str, Any] = {"label_features": skxc.LabelTexts(data.label_texts)}
    if name == "GraphRegularizedXC":
        arguments |= dict(zip(("graph", "sample_graph"), data.anchor_graph(), strict=True))
    model = estimator(name, folder).fit(data.train_texts, data.train_labels, **arguments)
    answers = (*model.predict_topk(data.test_texts, 20), model.predict_proba(data.test_texts).data)
    return hashlib.sha256(b"".join(array.tobytes() for array in answers)).hexdigest()


def started(name: str, data: Any, folder: Path | None, answer: Path) -> int:
    """Fit in a new process that leaves the hash in a file; return its number."""
    child = os.fork()
    if child:
        return child
    try:
        answer.write_text(digest_of(name, data, folder))
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    os._exit(0)


def campaign(name: str, data: Any, kills: int, rng: random.Random) -> dict[str, Any]:
    """Kill and resume, and count what was wrong."""
    counts: dict[str, Any] = {"estimator": name, "kills": 0, "amid training": 0}
    counts |= {"other answers": 0, "left-over files": 0}
    with tempfile.TemporaryDirectory() as place:
        answer = Path(place) / "answer"
        begun = time.perf_counter()
        os.waitpid(started(name, data, None, answer), 0)
        seconds, expected = time.perf_counter() - begun, answer.read_text()
        for number in range(kills):
            folder = Path(place) / str(number)
            answer.unlink(missing_ok=True)
            child = started(name, data, folder, answer)
            # Every other one is killed after its first checkpoint.
            while number % 2 and not os.waitpid(child, os.WNOHANG)[0]:
                if folder.exists() and any(folder.glob("*.safetensors")):
                    break
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.5 if number % 2 else 1) * seconds)
            with suppress(ProcessLookupError, ChildProcessError):  # it may have finished
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            counts["kills"] += 1
            counts["amid training"] += folder.exists() and any(folder.iterdir())
            answer.unlink(missing_ok=True)
            os.waitpid(started(name, data, folder, answer), 0)
            counts["other answers"] += not answer.exists() or answer.read_text() != expected
            counts["left-over files"] += len(list(folder.iterdir())) if folder.exists() else 0
    return counts


def main() -> None:
    """Run a campaign per estimator."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=12, help="per estimator")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    data = make_planted_xc(n_samples=1500, n_labels=300, n_test=100, random_state=0)
    for name in NAMES:
        getattr(skxc, name)  # imported once, not in every process
        line = campaign(name, data, options.kills, random.Random(name))
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
