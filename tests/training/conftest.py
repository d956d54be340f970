"""A task small enough to follow by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skxc.training import Task


class ToyTask(Task):
    """Least squares with noise from torch's generator, batches from numpy's."""

    name = "toy"

    def __init__(self, figures=()):
        generator = torch.Generator().manual_seed(0)
        self.X = torch.randn(12, 3, generator=generator)
        self.y = self.X @ torch.tensor([1.0, -2.0, 0.5])
        self.layer = torch.nn.Linear(3, 1)
        self.table = torch.nn.Embedding(12, 1, sparse=True)
        for parameter in (*self.layer.parameters(), *self.table.parameters()):
            torch.nn.init.zeros_(parameter)
        self.modules = torch.nn.ModuleDict({"layer": self.layer, "table": self.table})
        self.figures = list(figures)
        self.seen, self.rates, self.refreshed, self.modes = [], [], [], []
        self.memory = np.zeros(2)

    def parameter_groups(self):
        return [
            {"params": list(self.layer.parameters()), "lr": 0.1, "weight_decay": 0.1},
            {"params": list(self.table.parameters()), "lr": 0.2, "sparse": True},
        ]

    def refresh(self, epoch, rng):
        self.refreshed.append(epoch)
        self.memory = self.memory + 0.01 * rng.random(2)

    def batches(self, epoch, rng):
        return iter(np.split(rng.permutation(12), 3))

    def prepare(self, rows, rng):
        return rows, float(rng.random())

    def backward(self, batch):
        rows, drawn = batch
        self.seen.append(rows.tolist())
        self.modes.append(self.layer.training)
        noise = 0.1 * torch.randn(len(rows)) + 0.1 * drawn + float(self.memory.sum())
        guess = self.layer(self.X[rows])[:, 0] + self.table(torch.from_numpy(rows))[:, 0]
        loss = (guess - self.y[rows] - noise).pow(2).mean()
        loss.backward()
        return loss.detach()

    def evaluate(self):
        self.layer.eval()
        return self.figures.pop(0) if self.figures else 0.0

    def get_state(self):
        return {"memory": self.memory}

    def set_state(self, state):
        self.memory = state["memory"]

    def weights(self):
        return {name: tensor.clone() for name, tensor in self.modules.state_dict().items()}


@pytest.fixture
def toy_task():
    """Return the class; a test makes as many tasks as it compares."""
    return ToyTask


@pytest.fixture
def assert_same_weights():
    """Return a function that compares two tasks, or saved weights, bit for bit."""

    def compare(first, second):
        first, second = (x.weights() if isinstance(x, Task) else x for x in (first, second))
        assert first.keys() == second.keys()
        for name in first:
            assert torch.equal(first[name], second[name]), name

    return compare
