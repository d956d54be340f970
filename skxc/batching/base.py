"""What a batching is: it cuts the training rows of an epoch into batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import field

import numpy as np
from numpy.typing import NDArray

from skxc._params import NonNegativeInt, Parameterized, PositiveInt, params

Rows = NDArray[np.int64]


@params
class Batching(Parameterized, ABC):
    """Cuts the rows of an epoch into batches that partition them.

    Parameters
    ----------
    n : int
        Number of rows.
    batch_size : int
        Wanted rows per batch.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """

    n: NonNegativeInt = field(kw_only=False)
    batch_size: PositiveInt = field(kw_only=False)

    def __post_init__(self) -> None:
        self._validate_params()

    @abstractmethod
    def batches(self, epoch: int, rng: np.random.Generator) -> Iterator[Rows]:
        """Yield the batches of an epoch; every row occurs in exactly one.

        Parameters
        ----------
        epoch : int
            The first epoch is 0.
        rng : Generator
            Source of the order; the same state gives the same batches.

        Yields
        ------
        ndarray of int64
            Row numbers of a batch.
        """

    def needs_refresh(self, epoch: int) -> bool:
        """Return whether `refresh` is due before this epoch."""
        return False

    def refresh(self, query_vectors: NDArray, epoch: int, rng: np.random.Generator) -> None:
        """Cluster again on the current vectors of all rows, (n, d); nothing to do by default."""

    def get_state(self) -> dict[str, NDArray]:
        """Return the clusters as arrays, to go on exactly after a restart."""
        return {}

    def set_state(self, state: dict[str, NDArray]) -> None:
        """Take up a state returned by `get_state`."""
