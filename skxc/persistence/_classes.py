"""Which classes a saved model may consist of."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import Any

from sklearn.base import BaseEstimator

PACKAGES = ("skxc", "sklearn")
# Immutable holders, by their public constructor: its arguments are these attributes.
HOLDERS = {
    "skxc.labels:LabelGraph": ("to_csr",),
    "skxc.labels:AnchorGraph": ("to_csr", "texts", "groups"),
    "skxc.labels:LabelTexts": ("texts", "names"),
}


def class_name(cls: type) -> str:
    """Return ``module:name`` of a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def can_be_saved(cls: type) -> bool:
    """Tell whether instances of a class may be part of a saved model."""
    try:
        return find_class(class_name(cls)) is cls
    except ValueError:
        return False


def is_record(cls: type) -> bool:
    """Tell whether instances are saved field by field: dataclasses that are no estimators."""
    return dataclasses.is_dataclass(cls) and not issubclass(cls, BaseEstimator)


def find_class(name: str) -> Any:
    """Return the class called ``module:name`` if its instances may be part of a saved model.

    These are estimators of skxc and scikit-learn, and dataclasses and holders of skxc. No module
    outside these packages is imported, and no script.

    Raises
    ------
    ValueError
        If it is no such class.
    """
    module, _, qualname = name.partition(":")
    parts = module.split(".")
    if parts[0] not in PACKAGES or any(part.startswith("__") for part in parts):
        raise ValueError(f"{name} is not a class of skxc or scikit-learn")
    try:
        found = getattr(import_module(module), qualname, None)
    except ModuleNotFoundError as error:
        # A missing optional package has a message of its own.
        if (error.name or "").partition(".")[0] not in PACKAGES:
            raise
        found = None
    if not isinstance(found, type) or class_name(found) != name:
        raise ValueError(f"there is no class {name} in the installed version")
    is_data = parts[0] == "skxc" and (dataclasses.is_dataclass(found) or name in HOLDERS)
    if not (is_data or issubclass(found, BaseEstimator)):
        raise ValueError(f"{name} is not an estimator")
    return found
