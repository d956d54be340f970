"""Hugging Face transformers, by name or local folder, fine-tuned end to end.

Texts are tokenised once; a batch is padded to its own longest row. bfloat16 autocast is on where
the hardware has it. The saved state is weights, configuration and tokenizer as numbers and JSON, so
that loading needs neither the folder nor any code from a file. Folders are read without remote code
and without pickles (see `_transformer_config`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skxc._params import PositiveInt, params
from skxc.encoders._transformer_config import build, read, safe_config, shapes
from skxc.encoders.base import Encoder, Rows

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import nn


class TokenRows:
    """Tokenised texts of different lengths; slicing by ids or a slice gives a batch.

    Parameters
    ----------
    tokens : ndarray of int32
        Token ids of all rows, one row after the other.
    offsets : ndarray of int64, shape (n + 1,)
        Where each row starts.
    """

    def __init__(self, tokens: NDArray[np.int32], offsets: NDArray[np.int64]) -> None:
        self.tokens = tokens
        self.offsets = offsets

    @property
    def shape(self) -> tuple[int]:
        """Number of rows, as a tuple."""
        return (len(self.offsets) - 1,)

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> TokenRows:
        """Return the given rows."""
        ids = np.arange(self.shape[0])[rows]
        lengths = np.diff(self.offsets)[ids]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return TokenRows(self.tokens[places + np.repeat(self.offsets[ids], lengths)], offsets)

    def padded(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return token ids and attention mask, both (n, longest row)."""
        lengths = np.diff(self.offsets)
        mask = np.arange(max(lengths.max(initial=0), 1)) < lengths[:, None]
        ids = np.zeros(mask.shape, dtype=np.int64)
        ids[mask] = self.tokens
        # A row without tokens attends to its padding, because attention to nothing is NaN.
        mask[lengths == 0, 0] = True
        return ids, mask.astype(np.int64)


@params
class TransformerEncoder(Encoder):
    """A pretrained transformer with pooling, trained end to end.

    Parameters
    ----------
    model : str or Path
        Local folder, or a name that the transformers library can find. A folder is never looked up
        elsewhere.
    pooling : {"mean", "cls"}, default="mean"
        Mean over the tokens that are not padding, or the first token.
    max_length : int, default=32
        Longest row in tokens; 32 suits titles, 128 to 256 full texts.
    gradient_checkpointing : bool, default=False
        Recompute activations in the backward pass: less memory, about a third more time.

    Attributes
    ----------
    config_ : dict
        Configuration of the transformer.
    tokenizer_json_ : str
        The tokenizer, in the format of the tokenizers library.
    """

    model: str | PathLike[str] = field(kw_only=False)
    pooling: Literal["mean", "cls"] = "mean"
    max_length: PositiveInt = 32
    gradient_checkpointing: bool = False

    accepts_features = False
    autocasts = True
    rows_at_once = 256

    def _learn(self, *collections: Rows) -> None:
        from transformers import AutoTokenizer, PretrainedConfig

        if any(sp.issparse(rows) for rows in collections):
            raise ValueError(
                "`X` must hold texts for a transformer, but is a feature matrix. Pass texts, or "
                'use encoder="bag".'
            )
        with self._readable():
            # Not AutoConfig, which builds what the file asks for before anybody can look at it.
            config = safe_config(PretrainedConfig.get_config_dict(self.model)[0])
            self.config_ = config.to_dict()
            tokenizer = AutoTokenizer.from_pretrained(
                self.model, config=config, use_fast=True, trust_remote_code=False
            )
            self.tokenizer_json_ = tokenizer.backend_tokenizer.to_str()
        self.dim_ = self._config.hidden_size

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Let whatever the library stumbles over in a folder be a ValueError."""
        try:
            yield
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(
                f"`encoder` must be a transformer's folder or name, but {self.model!r} cannot be "
                f"read ({reason[:500]}). Pass a folder with config.json, a fast tokenizer and "
                "safetensors weights."
            ) from error

    @property
    def _config(self) -> Any:
        return safe_config(self.config_)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer_json_)
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_length)
        return tokenizer

    def _check_loaded(self) -> None:
        super()._check_loaded()
        if hasattr(self, "module_") and self.dim_ != self._config.hidden_size:
            raise ValueError("`dim_` of TransformerEncoder must be that of `config_`")

    def prepare(self, rows: Rows) -> TokenRows:
        """Return the tokenised texts."""
        encoded = self._tokenizer.encode_batch(list(rows))
        tokens = [np.array(row.ids, dtype=np.int32) for row in encoded]
        offsets = np.cumsum([0, *(len(row) for row in tokens)])
        return TokenRows(np.concatenate([np.empty(0, np.int32), *tokens]), offsets)

    def stack(self, batches: list[TokenRows]) -> TokenRows:
        """Return batches one below the other."""
        starts = np.cumsum([0, *(batch.offsets[-1] for batch in batches[:-1])])
        parts = [batch.offsets[1:] + start for batch, start in zip(batches, starts, strict=True)]
        return TokenRows(
            np.concatenate([batch.tokens for batch in batches]), np.concatenate([[0], *parts])
        )

    def row_lengths(self, cache: TokenRows) -> NDArray[np.integer]:
        """Return the number of tokens of each row; a batch is padded to its longest."""
        return np.diff(cache.offsets)

    def _build(self) -> nn.Module:
        with self._readable():
            return self._wrap(read(self.model, self._config))

    def _skeleton(self) -> nn.Module:
        # Not on the meta device: constants such as position ids are in no state.
        return self._wrap(build(self._config))

    def _restore(self, arrays: dict[str, NDArray]) -> None:
        stored = {name.removeprefix("model."): array.shape for name, array in arrays.items()}
        if stored != {name: tuple(shape) for name, shape in shapes(self._config).items()}:
            raise ValueError("`module_arrays` of TransformerEncoder must be those of `config_`")
        super()._restore(arrays)

    def _wrap(self, model: Any) -> nn.Module:
        from skxc.encoders._transformer_module import TransformerModule

        if self.gradient_checkpointing:
            renamed = getattr(model, "activation_checkpointing_enable", None)  # transformers 5
            (renamed or model.gradient_checkpointing_enable)()
        return TransformerModule(model.float(), self.pooling)

    def parameter_groups(self, learning_rate: float | None) -> list[dict[str, Any]]:
        """Return all weights; biases and normalisation layers do not decay."""
        rate = 1e-4 if learning_rate is None else learning_rate
        named = [(n, p) for n, p in self.module_.named_parameters() if p.requires_grad]
        decaying = [p for _, p in named if p.ndim > 1]
        fixed = [p for _, p in named if p.ndim <= 1]
        return [
            {"params": decaying, "lr": rate, "weight_decay": 0.01},
            {"params": fixed, "lr": rate},
        ]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the tokenizer object, which its JSON rebuilds."""
        state = super().__getstate__()
        state.pop("_tokenizer", None)
        return state
