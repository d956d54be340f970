"""A campaign: ``python -m tests.fuzz --tries 10000``; exit status 1 if anything was found.

Every line names area and seed, with which ``--only AREA:SEED`` repeats it.
"""

import argparse
import collections
import json
import queue
import subprocess
import sys
import threading
import time

from tests.fuzz.areas import AREAS

BATCH = 50
LONGEST = 120  # seconds of one try
FOUND = ("crash", "hang", "foreign", "nonsense")


class Worker:
    """A process that tries inputs, with a successor for the case that it dies."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker"], stdin=-1, stdout=-1, text=True
        )
        self.answers = queue.Queue()
        threading.Thread(target=self._listen, args=(self.process,), daemon=True).start()
        if self.answers.get() != "ready":
            raise RuntimeError("the worker died before its first try")

    def _listen(self, process):
        for line in process.stdout:
            self.answers.put(json.loads(line))
        self.answers.put(None)

    def outcomes(self, area, seed, n):
        """Yield the outcomes of n tries, of which a death or a hang is the last."""
        self.process.stdin.write(f"{area} {seed} {n}\n")
        self.process.stdin.flush()
        while True:
            try:
                answer = self.answers.get(timeout=LONGEST)
            except queue.Empty:
                self.process.kill()
                self.process.wait()
                yield ["hang", f"more than {LONGEST} s", ""]
                return
            if answer is None:
                yield ["crash", f"status {self.process.wait()}", ""]
                return
            if answer == "end":
                return
            if answer != "start":
                yield answer

    @property
    def is_alive(self):
        return self.process.poll() is None

    def close(self):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()


def plan(n, seed):
    """Yield area, seed and number of batches that make n tries."""
    for area, share in AREAS.items():
        left = max(1, round(n * share / sum(AREAS.values())))
        for number in range(-(-left // BATCH)):
            yield area.__name__, seed * 100_000 + number, min(BATCH, left - number * BATCH)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="AREA:SEED", help="one batch")
    options = parser.parse_args()
    batches = list(plan(options.tries, options.seed))
    if options.only:
        area, seed = options.only.split(":")
        batches = [(area, int(seed), BATCH)]
    counts, begun = collections.defaultdict(collections.Counter), time.perf_counter()
    worker = Worker()
    for area, seed, n in batches:
        if not worker.is_alive:
            worker = Worker()
        for kind, said, shown in worker.outcomes(area, seed, n):
            counts[area][kind] += 1
            if kind in FOUND:
                where = f"{area}:{seed} try {sum(counts[area].values())}"
                print(f"{kind.upper()} {where}: {said}\n    {shown}", flush=True)
    worker.close()
    print(f"| area | tries | answers | good errors | {' | '.join(FOUND)} |")
    print("|---|" + "---:|" * (3 + len(FOUND)))
    total = collections.Counter()
    for area, kinds in counts.items():
        total.update(kinds)
        print(row(area, kinds))
    print(row("all", total))
    print(f"{time.perf_counter() - begun:.0f} s, seed {options.seed}")
    return int(any(total[kind] for kind in FOUND))


def row(name, kinds):
    figures = [sum(kinds.values()), *(kinds[kind] for kind in ("answer", "good error", *FOUND))]
    return f"| {name} | {' | '.join(map(str, figures))} |"


if __name__ == "__main__":
    sys.exit(main())
