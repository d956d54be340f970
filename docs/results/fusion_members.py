"""FusionXC() and its members on the test rows of a data folder, one JSON line per seed.

The members are fitted once, and the rule is learned for each of three objectives:

    python docs/results/fusion_members.py FOLDER [--seed 0 1 2] [--graph NAME[,NAME]]
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from skxc import FusionXC
from skxc.benchmark._data import GraphChoice, fit_arguments, load_folder, sample_rows
from skxc.benchmark._measure import predict
from skxc.benchmark._scores import percentages

OBJECTIVES = ("precision@1", "recall@10", "psprecision@5")
METRICS = ("P@1", "P@5", "R@10", "PSP@1", "PSP@5")


class ThreeRules(FusionXC):
    """A fusion that learns a rule for each objective; its own is the first."""

    def _learn(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        self.rules, learned = {}, {}
        start = time.process_time()
        for objective in OBJECTIVES:
            asked = copy.copy(self)
            asked.objective = objective
            learned[objective] = super(ThreeRules, asked)._learn(*arguments, **options)
            self.rules[objective] = learned[objective]["model_"].combiner
        self.learn_cpu_s = (time.process_time() - start) / len(OBJECTIVES)
        return learned[OBJECTIVES[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--graph", default="")
    given = parser.parse_args()
    data = load_folder(given.folder)
    graph = GraphChoice(anchors=tuple(filter(None, given.graph.split(","))))
    for seed in given.seed:
        model = ThreeRules(random_state=seed)
        start = time.process_time()
        model.fit(sample_rows(data), data.train_labels, **fit_arguments(model, data, graph, seed))
        # Two of the three rules are not part of a fit.
        cpu = time.process_time() - start - (len(OBJECTIVES) - 1) * model.learn_cpu_s
        figures = {}
        whole = model.model_
        for objective, rule in model.rules.items():
            model.model_ = replace(whole, combiner=rule)
            figures[f"fusion for {objective}"] = percentages(predict(model, data)[0], data)
        for name, member in model.named_estimators_.items():
            figures[name] = percentages(predict(member, data)[0], data)
        record = {
            "dataset": given.folder.name,
            "seed": seed,
            "graph": graph.name,
            "fit_cpu_s": round(cpu, 1),
            "learn_cpu_s": round(model.learn_cpu_s, 1),
            "figures": {of: {m: found[m] for m in METRICS} for of, found in figures.items()},
            "rules": {
                objective: [rule.shares.round(3).tolist(), rule.tilt, rule.tree_share]
                for objective, rule in model.rules.items()
            },
        }
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
