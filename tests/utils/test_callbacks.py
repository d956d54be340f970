import importlib
import sys

import pytest

from skxc.utils import _callbacks


def test_null_context_accepts_what_fit_says():
    context = _callbacks.NullCallbackSupportMixin()._init_callback_context(max_subtasks=3)
    step = context.subcontext(task_name="epoch")
    step.call_on_fit_task_begin(estimator=None, X=None, y=None)
    assert step.call_on_fit_task_end(estimator=None, metadata={"loss": 1.0}) is False


def test_without_scikit_learn_callbacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    old = importlib.reload(_callbacks)
    try:
        assert old.CallbackSupportMixin is old.NullCallbackSupportMixin
        assert old.with_callbacks(len) is len
    finally:
        monkeypatch.undo()
        importlib.reload(_callbacks)


def test_with_scikit_learn_callbacks():
    callback = pytest.importorskip("sklearn.callback")
    assert _callbacks.CallbackSupportMixin is callback.CallbackSupportMixin
