"""The files of a saved model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FORMAT_VERSION = 2
STRUCTURE = "model.json"


@dataclass(frozen=True)
class Layout:
    """Where the parts of one save lie.

    ============================  =================================================================
    ``model.json``                format version, save id, and the estimator: parameters, names,
                                  structure, with references to arrays by name
    ``arrays-<id>.safetensors``   dense arrays
    ``sparse-<id>.npz``           the pieces of sparse matrices
    ============================  =================================================================

    A new save in the same folder brings data files with a new id. Replacing ``model.json`` switches
    to them in one step, and only then the old ones are removed.

    Attributes
    ----------
    folder : Path
    save_id : str
        Hexadecimal digits.
    """

    folder: Path
    save_id: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{1,32}", self.save_id):
            raise ValueError(f"the save id {self.save_id!r} is not a hexadecimal number")

    @property
    def structure(self) -> Path:
        """The JSON file."""
        return self.folder / STRUCTURE

    @property
    def arrays(self) -> Path:
        """The safetensors file."""
        return self.folder / f"arrays-{self.save_id}.safetensors"

    @property
    def sparse(self) -> Path:
        """The npz file."""
        return self.folder / f"sparse-{self.save_id}.npz"

    def leftovers(self) -> list[Path]:
        """Return the files of earlier saves, finished or not."""
        patterns = ("arrays-*.safetensors", "sparse-*.npz", f".{STRUCTURE}.*.tmp")
        found = (path for pattern in patterns for path in self.folder.glob(pattern))
        return [path for path in found if path not in (self.arrays, self.sparse)]
