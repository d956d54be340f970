"""What a batching is: it cuts the training rows of an epoch into batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class Batching(ABC):
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
        If `batch_size` is below 1.
    """

    def __init__(self, n: int, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, but is {batch_size}.")
        self.n = n
        self.batch_size = batch_size

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

    def refresh(  # noqa: B027 - an optional hook
        self, query_vectors: NDArray, epoch: int, rng: np.random.Generator
    ) -> None:
        """Cluster again on the current vectors of all rows, (n, d); nothing to do by default."""

    def get_state(self) -> dict[str, NDArray]:
        """Return the clusters as arrays, to go on exactly after a restart."""
        return {}

    def set_state(self, state: dict[str, NDArray]) -> None:  # noqa: B027 - an optional hook
        """Take up a state returned by `get_state`."""
