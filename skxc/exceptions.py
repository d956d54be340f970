"""Errors and warnings of the package: a short tree whose docstrings are the advice.

Each error is also the built-in error that scikit-learn would raise, so ``except ValueError`` keeps
working.
"""

from __future__ import annotations

__all__ = [
    "DenseOutputError",
    "FormatVersionError",
    "GraphWarning",
    "LabelTextWarning",
    "SlicedLabelSideError",
    "UnknownLabelWarning",
]


class SlicedLabelSideError(ValueError):
    """A graph or label features lost rows on their way into ``fit``.

    Cross-validation tools of scikit-learn cut every fit argument that looks like an array with as
    many rows as there are samples, so a label-side matrix is cut when n_labels == n_samples. Wrap
    it in :class:`skxc.LabelGraph`, :class:`skxc.AnchorGraph` or :class:`skxc.LabelTexts`, or give
    it to the constructor of the estimator: neither is ever cut.
    """


class DenseOutputError(ValueError):
    """A dense answer of shape (n_samples, n_labels) would be too large to build.

    Fit with a sparse ``y``: the answers are then CSR arrays with at most ``top_k`` entries per row.
    Or call ``predict_topk``, which never builds the full array.
    """


class FormatVersionError(ValueError):
    """A saved or pickled model was written by a newer version of the package.

    Update the package, or save the model again with the installed version.
    """


class LabelTextWarning(UserWarning):
    """Texts were given for samples, but not for labels.

    A label is then described by the average of its training rows: labels without a training row
    cannot be predicted, and new ones cannot be added. Pass ``label_features`` with one text per
    label.
    """


class GraphWarning(UserWarning):
    """A graph was given, but part of it or all of it cannot act.

    It has no edge, or edges on one side only (samples or labels), which aligns neither with the
    other, or training ends before its edges would be pruned.
    """


class UnknownLabelWarning(UserWarning):
    """A model is evaluated on labels that were not there in ``fit``.

    They count as labels that were missed. ``unknown_labels="error"`` makes this an error.
    """
