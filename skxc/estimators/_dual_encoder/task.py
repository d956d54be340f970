"""What a dual encoder trains: one encoder for samples and label texts.

    s(x, l) = f(x) . v_l / temperature,   f, v of unit length
    v_l     = f(text of l)                         pure dual encoder
    v_l     = norm(f(text of l) + w_l)             with a free vector w_l per label, trained jointly

Sources: DEXML (ICLR 2024), NGAME (WSDM 2023); for text plus free vector, PRIME (NAACL 2025).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from skxc._params import Part, ShareBelowOne, params
from skxc.estimators._encoding import EncoderTask
from skxc.training import LabelVectors, PoolSettings
from skxc.training._label_table import unit_rows
from skxc.training._pool import Pool
from skxc.utils._sparse import BLOCK_ROWS, normalize_rows


@params
class JointVectors(Part):
    """A free vector per label, added to the vector of its text and trained with the encoder.

    Parameters
    ----------
    dropout : float, default=0.7
        Share of a free vector's components that is zeroed at each training step.

    References
    ----------
    PRIME (NAACL 2025).
    """

    dropout: ShareBelowOne = 0.7


class DualEncoderTask(EncoderTask):
    """Train an encoder, and a label table where there is one, on pools of labels.

    Parameters
    ----------
    settings : PoolSettings
    table : LabelVectors or None
        Free label vectors, trained jointly.
    **arguments
        See `EncoderTask`.
    """

    name = "encoder"

    def __init__(
        self, settings: PoolSettings, *, table: LabelVectors | None = None, **arguments: Any
    ) -> None:
        super().__init__(settings, **arguments)
        self.table = table
        self.modules = nn.ModuleDict({"encoder": self.encoder.module_})
        if table is not None:
            self.modules["table"] = table
        self.modules.to(self.device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the encoder's groups, and the table at the encoder's rate for tables."""
        groups = self.encoder.parameter_groups(self.learning_rate)
        if self.table is not None:
            rate = max(self.encoder.parameter_groups(None)[0]["lr"], 1e-3)
            rate = rate if self.learning_rate is None else self.learning_rate
            groups.append({"params": [self.table.weight], "lr": rate, "sparse": True})
        return groups

    def _encode(self, batch: Any) -> Tensor:
        return self.encoder.unit_vectors(batch, self.precision)

    def _loss_of(self, vectors: Tensor, pool: Pool) -> Tensor:
        n_queries = len(pool.rows) + len(pool.queries)
        labels = vectors[n_queries:]
        if self.table is not None:
            labels = unit_rows(labels + self.table(pool.labels))
        return self.pool_loss(vectors[:n_queries], labels, pool)

    def sample_vectors(self, samples: Any = None) -> NDArray[np.float32]:
        """Return unit vectors of prepared samples, by default of all training rows."""
        samples = self.samples if samples is None else samples
        return self.encoder.encode(samples, precision=self.precision)

    def text_vectors(self) -> NDArray[np.float32]:
        """Return the unit vectors of all label texts, shape (L, d)."""
        return self.encoder.encode(self.labels, precision=self.precision)

    def label_vectors(self, texts: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the unit vectors that labels are scored with, shape (L, d).

        Parameters
        ----------
        texts : ndarray of float32, shape (L, d), or None
            What `text_vectors` returned, where it is known.
        """
        texts = self.text_vectors() if texts is None else texts
        if self.table is None:
            return texts
        vectors = np.empty_like(texts)
        for start in range(0, len(texts), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            vectors[block] = normalize_rows(texts[block] + self.table.to_numpy(block))
        return vectors
