"""The files of a saved model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from skxc.persistence._files import temporaries

FORMAT_VERSION = 2
STRUCTURE = "model.json"
# Data files (those of 0.1 too), and what the safetensors library leaves when it is killed.
_OURS = re.compile(r"arrays-[0-9a-f]{1,32}\.safetensors|sparse-[0-9a-f]{1,32}\.npz|\.tmp\w{6}")


@dataclass(frozen=True)
class Layout:
    """Where the parts of one save lie.

    ============================  =================================================================
    ``model.json``                format version, save id, and the estimator: parameters, names,
                                  structure, with references to arrays by name
    ``arrays-<id>.safetensors``   arrays, those of sparse matrices included
    ============================  =================================================================

    A new save in the same folder brings a data file with a new id. Replacing ``model.json``
    switches to it in one step, and only then the old one is removed.

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

    def leftovers(self) -> list[Path]:
        """Return the files of other saves, finished or not."""
        data = [path for path in self.folder.iterdir() if _OURS.fullmatch(path.name)]
        found = data + temporaries(self.structure)
        return [path for path in found if path != self.arrays and path.is_file()]
