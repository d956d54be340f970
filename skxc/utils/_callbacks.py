"""scikit-learn's callbacks (1.9 and later), or stand-ins with the same calls that do nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = [
    "CallbackSupportMixin",
    "NullCallbackContext",
    "NullCallbackSupportMixin",
    "with_callbacks",
]


class NullCallbackContext:
    """A callback context without callbacks: every call is accepted and no task asks to stop."""

    def subcontext(self, **_: Any) -> NullCallbackContext:
        """Return a context for a subtask, which is this one."""
        return self

    def call_on_fit_task_begin(self, **_: Any) -> None:
        """Do nothing."""

    def call_on_fit_task_end(self, **_: Any) -> bool:
        """Return False: go on."""
        return False


class NullCallbackSupportMixin:
    """Stand-in for ``CallbackSupportMixin`` before scikit-learn 1.9."""

    def _init_callback_context(self, **_: Any) -> NullCallbackContext:
        return NullCallbackContext()


def _without_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
    return method


try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:
    CallbackSupportMixin, with_callbacks = NullCallbackSupportMixin, _without_callbacks
