"""Frozen dataclasses of what is fitted: arrays and parts, without what is derived from them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar


class Record:
    """A frozen dataclass whose state is its fields: what it derives from them is made again.

    A method ``_check_loaded()`` says which states are possible; `skxc.load` calls it.
    """

    #: Fields that may hold NaN or infinity.
    _may_be_nan: ClassVar[tuple[str, ...]] = ()

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
