"""The classifier stage: a vector per label on frozen embeddings; an epoch is matrix work only.

    s(x, l) = norm(dropout(e(x))) . norm(w_l) / temperature,    w_l starts at the label's own vector

Source: NGAME (WSDM 2023), stage M2.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from skxc._params import MadeBy, NonNegativeInt, OneOf, Part, params
from skxc.estimators._dual_encoder.task import JointVectors
from skxc.training import LabelVectors, PoolSettings, PoolTask
from skxc.training._label_table import unit_rows
from skxc.training._pool import Ids, Pool
from skxc.utils._row_sparse import send
from skxc.utils._sparse import normalize_rows


@params
class ClassifierStage(Part):
    """Classifiers that are trained after the encoder, on its frozen embeddings.

    Parameters
    ----------
    n_epochs : int, default=10
        Epochs of the stage; 0 leaves the classifiers at their labels' vectors.

    References
    ----------
    NGAME (WSDM 2023), stage M2.
    """

    n_epochs: NonNegativeInt = 10


# What the names of `label_vectors` stand for.
LABEL_VECTORS: dict[str, type] = {"joint": JointVectors, "stage": ClassifierStage}
LabelVectorsLike = (
    Annotated[str, OneOf(LABEL_VECTORS), MadeBy(f"{__name__}:make_label_vectors")]
    | JointVectors
    | ClassifierStage
    | Literal[False]
)


def make_label_vectors(name: str) -> JointVectors | ClassifierStage:
    """Return the part of a name."""
    return LABEL_VECTORS[name]()


class ClassifierTask(PoolTask):
    """Train label vectors against fixed sample embeddings.

    Parameters
    ----------
    settings : PoolSettings
    samples : ndarray of float32, shape (n, d)
        Unit embeddings of the training rows.
    texts : ndarray of float32, shape (L, d)
        Unit embeddings of the label texts, which are queries where a graph augments them.
    start : ndarray of float32, shape (L, d)
        Initial label vectors.
    dropout : float, default=0.5
        On the components of query embeddings.
    learning_rate : float, default=1e-3
    **pool_arguments
        See `PoolTask`.
    """

    name = "classifier"
    # Query and label vector are different parameters here: label texts teach their own classifier.
    own_label_is_positive = True

    def __init__(
        self,
        settings: PoolSettings,
        *,
        samples: NDArray[np.float32],
        texts: NDArray[np.float32],
        start: NDArray[np.float32],
        dropout: float = 0.5,
        learning_rate: float = 1e-3,
        **pool_arguments: Any,
    ) -> None:
        super().__init__(settings, **pool_arguments)
        self.samples = samples
        self.texts = texts
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.table = LabelVectors(start)
        self.modules = nn.ModuleDict({"table": self.table}).to(self.device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the table."""
        return [{"params": [self.table.weight], "lr": self.learning_rate, "sparse": True}]

    def prepare(self, rows: Ids, rng: np.random.Generator) -> tuple[Pool, NDArray[np.float32]]:
        """Return a pool, and the vectors of its rows and queries."""
        pool = self.draw(rows, rng)
        assert pool.targets  # they are found here, and not in the step
        return pool, np.concatenate([self.samples[pool.rows], self.texts[pool.queries]])

    def backward(self, batch: tuple[Pool, NDArray[np.float32]]) -> Tensor:
        """Accumulate the gradients of a pool's loss."""
        pool, vectors = batch
        queries = functional.dropout(send([vectors], self.device)[0], self.dropout)
        labels = unit_rows(self.table(pool.labels))
        loss = self.pool_loss(functional.normalize(queries, dim=1), labels, pool)
        loss.backward()
        return loss.detach()

    def sample_vectors(self, samples: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the embeddings as they are."""
        return self.samples if samples is None else samples

    def label_vectors(self) -> NDArray[np.float32]:
        """Return the unit label vectors, shape (L, d)."""
        return normalize_rows(self.table.to_numpy())
