"""What an encoder is: texts or features in, vectors out, the same map for samples and labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._params import Parameterized, params
from skxc.utils._random import torch_seed

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# A sequence of str, a matrix of embeddings or a csr_array of features; an encoder says which.
Rows = Any


@params
class Encoder(Parameterized, ABC):
    """Base class of encoders: a vocabulary that `fit` learns, and a module that training moves.

    A subclass writes `_learn` (vocabulary; no label information), `prepare` (rows to an indexable
    cache, so that training never touches raw text again), and `_build` (the torch module, whose
    ``forward`` takes ``prepare(rows)[ids]``); its parameters are the fields of a dataclass.
    Instances are estimator parameters: they are cloned before they are fitted.

    Attributes
    ----------
    module_ : torch.nn.Module
        The trainable map from a prepared batch to vectors of shape (b, dim_), not normalised.
    dim_ : int
        Width of the vectors.
    """

    #: True when the average of prepared rows is a meaningful row (features, bags of words).
    averages_rows = False
    #: True when raw texts are accepted.
    accepts_texts = True
    #: True when CSR features are accepted.
    accepts_features = True
    #: True when the module gains from bfloat16 autocast.
    autocasts = False
    #: Rows that `encode` gives to the module at once.
    rows_at_once = 4096

    def fit(self, *collections: Rows, seed: int = 0) -> Encoder:
        """Learn the vocabulary from collections of rows and build the module from the seed.

        Parameters
        ----------
        *collections : sequences of str, or csr_arrays over the same columns
            All rows that may teach the vocabulary: training samples and label texts.
        seed : int
            Seed of the initial weights.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            A parameter is not what its description allows, or the rows do not suit the encoder.
        """
        self.dim_: int
        self._validate_params()
        self._learn(*collections)
        with torch_seed(seed):
            self.module_ = self._build()
        return self

    @abstractmethod
    def _learn(self, *collections: Rows) -> None:
        """Set everything `prepare` and `_build` need, and `dim_`."""

    @abstractmethod
    def _build(self) -> nn.Module:
        """Return a module with fresh weights."""

    @abstractmethod
    def prepare(self, rows: Rows) -> Any:
        """Return the rows as a cache: ``cache[ids]`` is a batch, ``cache.shape[0]`` the length."""

    @abstractmethod
    def parameter_groups(self, learning_rate: float | None) -> list[dict[str, Any]]:
        """Return groups for `build_optimizers`, with this rate; None: the encoder's own rates."""

    def stack(self, batches: list[Any]) -> Any:
        """Return batches of prepared rows one below the other, as one batch."""
        return sp.csr_array(sp.vstack(batches, format="csr"))

    def training_batch(self, batch: Any) -> Any:
        """Return ``cache[ids]`` as the module takes it in training, with all index work done."""
        return batch

    def row_lengths(self, cache: Any) -> NDArray[np.integer] | None:
        """Return the lengths of prepared rows if a batch costs what its longest row costs."""
        return None

    def without_words(self, cache: Any) -> NDArray[np.bool_] | None:
        """Return which prepared texts have no known word; None where there are no such texts."""
        return None

    def unknown_share(self, cache: Any) -> float:
        """Return the share of the rows' weight that lies on words the vocabulary does not have."""
        return 0.0

    def encode(
        self,
        cache: Any,
        *,
        batch_size: int | None = None,
        precision: str = "auto",
        head: Callable[[Tensor], Tensor] | None = None,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return unit vectors of prepared rows, without dropout or gradients.

        Parameters
        ----------
        cache : what `prepare` returned
        batch_size : int or None
            Rows at once; None: `rows_at_once`.
        precision : {"auto", "bfloat16", "float32"}
            See `vectors`.
        head : callable or None
            Maps a block of `vectors` to what is returned instead, row by row; needs `out`.
        out : ndarray of float32, shape (n, d), or None
            Filled and returned; None: a new array of width ``dim_``.

        Returns
        -------
        ndarray of float32, shape (n, dim_) or that of `out`
        """
        import torch

        from skxc.utils._unit_length import unit_length

        head = unit_length if head is None else head
        self.module_.eval()
        if out is None:
            out = np.empty((cache.shape[0], self.dim_), dtype=np.float32)
        step = self.rows_at_once if batch_size is None else batch_size
        with torch.no_grad():
            for start in range(0, len(out), step):
                vectors = self.vectors(cache[start : start + step], precision)
                out[start : start + step] = head(vectors).cpu().numpy()
        return out

    def unit_vectors(self, batch: Any, precision: str = "auto") -> Tensor:
        """Return the vectors of a prepared batch at unit length (see `vectors`, `unit_length`)."""
        from skxc.utils._unit_length import unit_length

        return unit_length(self.vectors(batch, precision))

    def vectors(self, batch: Any, precision: str = "auto") -> Tensor:
        """Return the vectors of a prepared batch as they are, in float32 and with a graph.

        Parameters
        ----------
        batch : ``cache[ids]``
        precision : {"auto", "bfloat16", "float32"}
            Number format of the module, for encoders that gain from a shorter one.
        """
        from skxc.utils._precision import autocast

        device = next(self.module_.parameters()).device
        with autocast(device, precision if self.autocasts else "float32"):
            return self.module_(batch).float()

    def to(self, device: torch.device) -> Encoder:
        """Move the module to a device and return self."""
        if next(self.module_.parameters()).device != device:
            self.module_.to(device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with the module as CPU numpy arrays, which load on any machine."""
        state = dict(super().__getstate__())
        module = state.pop("module_", None)
        if module is not None:
            state["module_arrays"] = {
                name: tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the module on the CPU from the arrays."""
        state = dict(state)
        arrays = state.pop("module_arrays", None)
        super().__setstate__(state)
        if arrays is not None:
            self._restore(arrays)

    def _check_loaded(self) -> None:
        """Raise ValueError unless vectors are float32, finite, and of width ``dim_``."""
        if not hasattr(self, "module_"):
            if half := [name for name in vars(self) if name.endswith("_")]:
                raise ValueError(f"{type(self).__name__} has {half[0]!r}, but no `module_arrays`")
            return
        self._validate_params()
        for name, tensor in self.module_.state_dict().items():
            if tensor.is_floating_point():
                array = tensor.numpy()
                if array.dtype != np.float32 or not np.isfinite(array).all():
                    raise ValueError(f"`{name}` of {type(self).__name__} must be finite float32")

    def _skeleton(self) -> nn.Module:
        """Return a module of the right shape for a state that is about to be loaded."""
        import torch

        with torch.device("meta"):  # costs neither time nor memory
            return self._build()

    def _restore(self, arrays: dict[str, NDArray]) -> None:
        import torch

        with torch_seed(0):
            self.module_ = self._skeleton()
        # Copies, because memory-mapped arrays are read-only.
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        self.module_.load_state_dict(tensors, assign=True)
        self.module_.eval()
