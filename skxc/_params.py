"""Parameters: a field of a dataclass declares one, and its type hint is its constraint.

Estimators and their parts derive from `Parameterized`. The standard library writes the constructor,
scikit-learn's validation reads the hints, and a part's parameters are documented where the part is.
"""

from __future__ import annotations

import inspect
import re
import sys
import typing
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import import_module
from numbers import Integral, Real
from os import PathLike
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np
from sklearn.utils import _param_validation
from sklearn.utils._param_validation import Options, StrOptions

from skxc.utils._bases import Estimator
from skxc.utils._validation import LARGEST_TOTAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self, dataclass_transform

else:

    def dataclass_transform(**_: Any) -> Any:
        return lambda decorator: decorator


__all__ = ["MadeBy", "OneOf", "Parameterized", "Part", "params"]


class Interval(_param_validation.Interval):
    """An interval of numbers, of which True and False are none."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether a value is a number of the interval."""
        return not isinstance(val, bool | np.bool_) and super().is_satisfied_by(val)


PositiveInt = Annotated[int, Interval(Integral, 1, None, closed="left")]
NonNegativeInt = Annotated[int, Interval(Integral, 0, None, closed="left")]
PositiveFloat = Annotated[float, Interval(Real, 0, None, closed="neither")]
#: At most the root of the largest number of float32, so that products stay finite.
NonNegativeFloat = Annotated[float, Interval(Real, 0, LARGEST_TOTAL, closed="both")]
#: A share in [0, 1].
Share = Annotated[float, Interval(Real, 0, 1, closed="both")]
#: A share in [0, 1), such as a rate of dropout.
ShareBelowOne = Annotated[float, Interval(Real, 0, 1, closed="left")]
RandomState = Annotated["int | np.random.RandomState | None", "random_state"]
Verbose = Annotated[int, "verbose"]

PLAIN: dict[Any, Any] = {bool: "boolean", int: Integral, float: Real, Any: object}


class OneOf(StrOptions):
    """The names of a registry: ``Annotated[str, OneOf(NAMES)]``."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(set(names))


@dataclass(frozen=True)
class MadeBy:
    """Says what makes an object of a name: ``Annotated[str, MadeBy("skxc.losses:make_loss")]``."""

    function: str

    def __call__(self, value: Any) -> Any:
        """Return the object."""
        module, _, name = self.function.partition(":")
        return getattr(import_module(module), name)(value)


Class = TypeVar("Class")
Function = TypeVar("Function", bound="Callable[..., Any]")


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
def params(cls: type[Class]) -> type[Class]:
    """Make a class whose annotated fields are its keyword-only parameters.

    Parameters that it inherits join its docstring, so that each is written once.
    """
    document = cls.__doc__
    made: Any = dataclass(kw_only=True, eq=False, repr=False)(cls)
    made.__doc__ = document and _with_inherited_parameters(made, document)
    return made


def constraints(hint: Any) -> list[Any]:
    """Return scikit-learn's constraints for a type hint."""
    origin = get_origin(hint)
    if origin is Annotated:
        given = [extra for extra in get_args(hint)[1:] if not isinstance(extra, MadeBy)]
        return given or constraints(get_args(hint)[0])
    if origin in (Union, UnionType):
        return [constraint for part in get_args(hint) for constraint in constraints(part)]
    if origin is Literal:
        values = get_args(hint)
        kinds = dict.fromkeys(type(value) for value in values)
        return [Options(kind, {v for v in values if type(v) is kind}) for kind in kinds]
    hint = origin or hint
    return [None] if hint in (None, NoneType) else [PLAIN.get(hint, hint)]


@cache
def hints_of(cls: Any) -> dict[str, Any]:
    """Return the type hints of the parameters of a class, in order."""
    found: dict[str, Any] = {}
    for name in (parameter.name for parameter in fields(cls)):
        owner = next(base for base in cls.__mro__ if name in vars(base).get("__annotations__", {}))
        # Hint by hint: other annotations of a class may name what only type checkers import.
        alone = type("alone", (), {"__annotations__": {name: owner.__annotations__[name]}})
        scope = vars(sys.modules[owner.__module__])
        found |= typing.get_type_hints(alone, scope, include_extras=True)
    return found


@cache
def declared(cls: Any) -> dict[str, list[Any]]:
    """Return the constraints of every parameter of a class."""
    return {name: constraints(hint) for name, hint in hints_of(cls).items()}


class Parameterized(Estimator):
    """Base of estimators and of their parts: parameters are the fields of a dataclass."""

    @property
    def _parameter_constraints(self) -> dict[str, list[Any]]:
        cls: Any = type(self)
        return declared(cls)

    def _hint(self, name: str) -> Any:
        """Return the type hint of a parameter, None where there is no such parameter."""
        cls: Any = type(self)
        return hints_of(cls).get(name)

    def _validate_params(self) -> None:
        """Raise unless every parameter, those of parts included, is what its hint allows."""
        super()._validate_params()
        for value in self.get_params(deep=False).values():
            if isinstance(value, Parameterized):
                value._validate_params()

    def _part(self, name: str) -> Any:
        """Return a part: itself, the part with its defaults for None, or None where it is off."""
        value = getattr(self, name)
        if value is False:
            return None
        return self._make_part(name, value)

    def _make_part(self, name: str, value: Any) -> Any:
        """Return the object that None, or a name, stands for; anything else as it is."""
        if not isinstance(value, str | PathLike | None):
            return value
        for hint in _alternatives(self._hint(name)):
            if value is None and inspect.isclass(hint) and issubclass(hint, Parameterized):
                # None for "an encoder or none" stands for no class in particular.
                return None if inspect.isabstract(hint) else hint()
            for extra in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
                if isinstance(extra, MadeBy) and value is not None:
                    return extra(value)
        return value

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also of parts such as ``votes__n_neighbors``.

        A part that is None, or a name such as ``encoder="bag"``, first becomes an object.

        Parameters
        ----------
        **params : dict
            Parameters, or ``part__parameter``.

        Returns
        -------
        self
        """
        made = {}
        for name in {key.partition("__")[0] for key in params if "__" in key}:
            if self._hint(name) is not None:
                value = params.get(name, getattr(self, name))
                part = made[name] = self._make_part(name, value)
                if not hasattr(part, "set_params"):
                    raise ValueError(
                        f"`{name}` of {type(self).__name__} is {value!r}, which has no parameters "
                        f"of its own. Set `{name}` to an object."
                    )
        return super().set_params(**{**params, **made})


class Part(Parameterized):
    """A group of parameters of an estimator, documented in the room that reads them.

    Fields only: an estimator validates its parts in `fit` and never changes them.
    """


def _alternatives(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, UnionType):
        return [other for part in get_args(hint) for other in _alternatives(part)]
    return [hint]


# ---- docstrings

_HEADER = re.compile(r"^(?P<name>\w[\w ]*)\n-+\n", re.MULTILINE)


def _with_inherited_parameters(cls: type, document: str) -> str:
    """Return the docstring with the entries of inherited parameters after its own ones."""
    text = inspect.cleandoc(document)
    names = [parameter.name for parameter in fields(cls)]
    before, entries, after = _parameter_section(text)
    documented = {name for entry in entries for name in _names_of(entry)}
    for base in cls.__mro__[1:]:
        for entry in _parameter_section(inspect.cleandoc(base.__doc__ or ""))[1]:
            if set(_names_of(entry)) & set(names) - documented:
                entries.append(entry)
                documented |= set(_names_of(entry))
    if not entries:
        return document
    section = "Parameters\n----------\n" + "\n".join(entries)
    return "\n\n".join(part for part in (before, section, after) if part) + "\n"


def joins_docstring(base: Callable[..., Any]) -> Callable[[Function], Function]:
    """Add to the docstring of a method what its `base` says of parameters that both have."""

    def join(function: Function) -> Function:
        before, own, _ = _parameter_section(inspect.cleandoc(function.__doc__ or ""))
        _, known, after = _parameter_section(inspect.cleandoc(base.__doc__ or ""))
        entry_of = {name: entry for entry in [*known, *own] for name in _names_of(entry)}
        entries = [
            entry_of[name] for name in inspect.signature(function).parameters if name != "self"
        ]
        section = "Parameters\n----------\n" + "\n".join(entries)
        function.__doc__ = "\n\n".join([before, section, after]) + "\n"
        return function

    return join


def _parameter_section(text: str) -> tuple[str, list[str], str]:
    """Split a docstring into what stands before its parameters, their entries, and the rest."""
    headers = list(_HEADER.finditer(text))
    for number, header in enumerate(headers):
        if header["name"] == "Parameters":
            end = headers[number + 1].start() if number + 1 < len(headers) else len(text)
            body = text[header.end() : end].rstrip()
            entries = [entry.rstrip() for entry in re.split(r"\n(?=\S)", body) if entry.strip()]
            return text[: header.start()].rstrip(), entries, text[end:].rstrip()
    end = headers[0].start() if headers else len(text)
    return text[:end].rstrip(), [], text[end:].rstrip()


def _names_of(entry: str) -> list[str]:
    return re.split(r"\s*,\s*", entry.partition("\n")[0].partition(" :")[0])
