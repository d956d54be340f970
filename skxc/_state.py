"""The state of a fitted estimator: whole or absent, and validated when it is used."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from skxc._hold_out import calibrate
from skxc._model import Model
from skxc._params import Parameterized, hints_of
from skxc.exceptions import FormatVersionError
from skxc.utils._bases import Classifier
from skxc.utils._loaded import check_ids, check_number, sizes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from skxc._own_labels import OwnLabels
    from skxc.calibration import TopKCalibrator

# Written into pickles; another one than this is refused.
STATE_VERSION = 2
# Fitted parts, None or absent where there are none.
PARTS = {
    "calibrator_": "TopKCalibrator",
    "own_labels_": "OwnLabels",
    "calibration_rows_": "CalibrationRows",
}
TARGET_LAYOUTS = ("sparse", "dense", "classes")
# What is made again from the rest.
_DERIVED = ("_checked_parameters", "_recalibrated")


class StateMixin(Classifier):
    """A classifier whose fitted attributes change all at once, and whose pickles have a version."""

    model_: Any
    calibrator_: TopKCalibrator
    calibrated_settings_: str
    own_labels_: OwnLabels | None
    classes_: NDArray
    n_labels_: int
    label_names_: list[str] | None
    # Only where `fit` was given one.
    label_separator_: str | None = None
    label_frequency_: NDArray
    n_samples_fit_: float
    input_layout_: str
    target_layout_: str
    target_dtype_: str

    # The values of the parameters that were last found valid.
    _checked_parameters: list[Any] | None = None
    # The settings and the calibrator of parameters that were changed after `fit`.
    _recalibrated: tuple[str, Any] | None = None

    def _commit(self: Any, fitted: dict[str, Any]) -> None:
        """Replace all fitted attributes: the one line that changes a fitted estimator."""
        kept = {name: value for name, value in vars(self).items() if not _is_fitted(name)}
        settings = {"calibrated_settings_": self._search_settings()}
        checked = {"_checked_parameters": _leaves(self)}
        self.__dict__ = {**kept, **fitted, **settings, **checked}

    def _add(self, fitted: dict[str, Any]) -> None:
        """Replace some fitted attributes."""
        self.__dict__ = {**vars(self), **fitted, "_recalibrated": None}

    def __sklearn_is_fitted__(self) -> bool:
        return "model_" in vars(self)

    def _check_changed_parameters(self: Any) -> None:
        """Validate the parameters, unless they are those that were last found valid."""
        values = _leaves(self)
        known = self._checked_parameters
        if known is None or len(known) != len(values) or not all(map(_is, known, values)):
            self._validate_params()
            self._checked_parameters = values

    def _search_settings(self: Any) -> str:
        """Return the values of the parameters that change scores after `fit`, as a text."""
        return repr([self._part(name) for name in self._search_parameters])

    def _current_calibrator(self: Any) -> TopKCalibrator:
        """Return the calibrator of the present parameters, fitted anew where these changed."""
        if "calibrator_" not in vars(self):
            raise ValueError(
                f"`calibration` of {type(self).__name__} was None in fit, so there are no "
                "probabilities. Use predict_topk, or fit again with calibration='auto'."
            )
        settings = self._search_settings()
        if settings == self.calibrated_settings_:
            return self.calibrator_
        if self._recalibrated is None or self._recalibrated[0] != settings:
            rows = vars(self).get("calibration_rows_")
            if rows is None:
                raise ValueError(
                    f"{list(self._search_parameters)} of {type(self).__name__} were changed after "
                    "fit, and no held-out rows are kept to calibrate the new scores by. Fit again, "
                    "or fit with calibration='held_out'."
                )
            self._recalibrated = settings, calibrate(self, self.model_, rows, self.n_labels_)
        return self._recalibrated[1]

    def save(
        self: Any,
        path: str | Path,
        *,
        dtype: Literal["float32", "float16", "int8"] = "float32",
        keep_for: Literal["prediction", "training"] = "training",
    ) -> None:
        """Save the fitted estimator as a folder without pickles; ``skxc.load`` reads it.

        Parameters
        ----------
        path : str or Path
            Folder to write.
        dtype, keep_for : str
            See `skxc.save`.
        """
        from skxc.persistence import save

        save(self, path, dtype=dtype, keep_for=keep_for)

    def _for_prediction(self) -> Self:
        """Return a copy without the rows that calibrate anew."""
        enough = copy.copy(self)
        vars(enough).pop("calibration_rows_", None)
        return enough

    def _check_loaded(self: Any) -> None:
        """Raise ValueError unless the fitted attributes belong together."""
        if "model_" not in vars(self):
            return
        if not isinstance(self.model_, Model) or not isinstance(self.n_labels_, int):
            raise ValueError(f"`model_` of {type(self).__name__} must be a model of labels")
        n_labels, names = str(self.n_labels_), self.label_names_
        sizes_of(self, classes_=n_labels, label_frequency_=n_labels, label_names_=n_labels)
        if self.target_layout_ != "classes":
            expected = np.arange(self.n_labels_)
            if not np.array_equal(self.classes_, expected):
                raise ValueError("`classes_` must number the columns of an indicator matrix")
        check_ids("labels of `model_`", np.array([self.model_.n_labels]), self.n_labels_ + 1, 1)
        check_number("n_samples_fit_", self.n_samples_fit_, 0)
        check_number("smallest `label_frequency_`", self.label_frequency_.min(), 0)
        known = self.target_layout_ in TARGET_LAYOUTS and self.input_layout_ in ("texts", "matrix")
        if not known or not np.issubdtype(np.dtype(self.target_dtype_), np.generic):
            raise ValueError("`target_layout_` or `input_layout_` is unknown")
        if names is not None and not all(isinstance(name, str) for name in names):
            raise ValueError("`label_names_` must be texts or None")
        if not isinstance(self.label_separator_, str | None):
            raise ValueError("`label_separator_` must be a text or None")
        for name, kind in PARTS.items():
            part = vars(self).get(name)
            if part is not None and type(part).__name__ != kind:
                raise ValueError(f"`{name}` must be a {kind}, but is a {type(part).__name__}")
        rows = vars(self).get("calibration_rows_")
        if rows is not None and rows.y.shape[1] > self.n_labels_:
            raise ValueError(f"`calibration_rows_` must have {n_labels} labels at most")
        if self.own_labels_ is not None:
            sizes_of(self.own_labels_, hashes=f"{n_labels} 2")
        if "vectorizer_" in vars(self):
            self._check_vectorizer()

    def _check_vectorizer(self: Any) -> None:
        """Raise ValueError unless the vectoriser reads a text."""
        try:
            self._vectorize(self.vectorizer_, np.array(["text"], dtype=object))
        except Exception as error:  # whatever a damaged transformer of scikit-learn does
            raise ValueError(f"`vectorizer_` cannot read a text: {error!r}") from error

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        state = {name: value for name, value in state.items() if name not in _DERIVED}
        return {**state, "_skxc_state_version": STATE_VERSION}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop("_skxc_state_version", STATE_VERSION)
        if version != STATE_VERSION:
            cure = "Update skxc." if version > STATE_VERSION else "Fit the model again."
            raise FormatVersionError(
                f"The pickle of {type(self).__name__} has state version {version}, but the "
                f"installed skxc reads version {STATE_VERSION}. {cure}"
            )
        super().__setstate__(state)  # type: ignore[misc]


def _is_fitted(name: str) -> bool:
    return name in _DERIVED or (name.endswith("_") and not name.startswith("_"))


def _is(first: Any, second: Any) -> bool:
    return first is second


def _leaves(owner: Any) -> list[Any]:
    """Return the values of all parameters, those of parts included."""
    values = []
    cls: Any = type(owner)
    for name in hints_of(cls):
        value = getattr(owner, name)
        values.append(value)
        if isinstance(value, Parameterized):
            values += _leaves(value)
    return values
