"""Estimators written as text, such as ``DualEncoderXC(n_epochs=5, loss=SoftTopK(k=5))``.

The text is parsed, never evaluated: a call names a public class of skxc, a function of
`skxc.presets` or one of scikit-learn's text vectorizers. Arguments are literals, lists, tuples,
dicts or further calls.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import skxc

# Where a name is looked for: what users import, then the rooms. Of functions only presets count.
ROOMS = ("skxc", *(f"skxc.{room}" for room in skxc._ROOMS))
PRESETS = "skxc.presets"
VECTORIZERS = ("CountVectorizer", "FeatureUnion", "HashingVectorizer", "TfidfVectorizer")
_VECTORIZER_MODULES = ("sklearn.feature_extraction.text", "sklearn.pipeline")


def build_estimator(expression: str) -> Any:
    """Return the estimator, not fitted; a bare name means its default parameters.

    A text that is no such expression, or describes something else, is a ValueError.
    """
    try:
        node = ast.parse(expression.strip(), mode="eval").body
    except SyntaxError as problem:
        raise ValueError(
            f"{expression!r} is not an estimator expression ({problem.msg}). "
            "Write a call such as DualEncoderXC(n_epochs=5)."
        ) from None
    call = ast.Call(node, [], []) if isinstance(node, ast.Name) else node
    built = _value(call)
    if not (hasattr(built, "fit") and hasattr(built, "predict_topk")):
        raise ValueError(
            f"{expression!r} describes {type(built).__name__}, which is not a classifier of skxc. "
            "Write a call such as DualEncoderXC(n_epochs=5)."
        )
    return built


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        return _call(node)
    if isinstance(node, ast.List | ast.Tuple):
        values = [_value(item) for item in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(k): _value(v) for k, v in zip(node.keys, node.values, strict=True) if k}
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(
            f"{ast.unparse(node)!r} is not allowed in an estimator expression. "
            "Use numbers, strings, True, False, None, lists, tuples, dicts and calls by name."
        ) from None


def _call(node: ast.Call) -> Any:
    text = ast.unparse(node)
    if not isinstance(node.func, ast.Name):
        raise ValueError(f"{text!r} does not call a plain name. Write Name(parameter=value).")
    unpacked = any(isinstance(argument, ast.Starred) for argument in node.args)
    if unpacked or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError(f"{text!r} unpacks arguments with a star. Write each parameter out.")
    make = _find(node.func.id)
    positional = [_value(argument) for argument in node.args]
    named = {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    try:
        return make(*positional, **named)
    except (TypeError, ValueError) as problem:
        raise ValueError(f"{text!r} cannot be built: {str(problem).rstrip('.')}.") from None


def _find(name: str) -> Callable[..., Any]:
    """Return the class or preset of that name; rooms are imported only until it is found."""
    if name in VECTORIZERS:
        modules = map(importlib.import_module, _VECTORIZER_MODULES)
        return next(getattr(module, name) for module in modules if hasattr(module, name))
    known: list[str] = list(VECTORIZERS)
    for room in ROOMS:
        module = importlib.import_module(room)
        names = getattr(module, "__all__", ())
        if name in names:
            found = getattr(module, name)
            if inspect.isclass(found) or room == PRESETS:
                return found
        known += names
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]}?" if close else "`import skxc; skxc.__all__` lists the names."
    raise ValueError(f"{name!r} is no class or preset of skxc and no text vectorizer. {hint}")
