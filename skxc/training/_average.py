"""The running mean of weights over the last epochs of a training.

Source: stochastic weight averaging (Izmailov et al., UAI 2018), as in ELIAS (NeurIPS 2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class WeightAverage(nn.Module):
    """The mean of a module's parameters over several moments of its training.

    It is a module itself, so that checkpoints and best states hold it.

    Parameters
    ----------
    module : nn.Module
        What is averaged.
    """

    count: torch.Tensor

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._source = [module]  # in a list: not a part of this module
        for name, parameter in module.named_parameters():
            self.register_buffer(name.replace(".", "/"), torch.zeros_like(parameter))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def started(self) -> bool:
        """Whether anything was added."""
        return int(self.count) > 0

    @torch.no_grad()
    def add(self) -> None:
        """Take the present parameters into the mean."""
        self.count += 1
        for name, parameter in self._source[0].named_parameters():
            self._mean(name).lerp_(parameter, 1 / int(self.count))

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Give the parameters their mean values for a block, if anything was added."""
        if not self.started:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def copy_to_module(self) -> None:
        """Give the parameters their mean values for good, if anything was added."""
        if self.started:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._source[0].named_parameters():
            mean = self._mean(name)
            present = parameter.clone()
            parameter.copy_(mean)
            mean.copy_(present)
        self._source[0].train()  # drops what modules derived from the other values

    def _mean(self, name: str) -> torch.Tensor:
        return getattr(self, name.replace(".", "/"))
