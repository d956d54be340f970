"""Cross-validation of estimators with CSR targets."""

from skxc.model_selection._validation import cross_val_predict, cross_validate, learning_curve

__all__ = ["cross_val_predict", "cross_validate", "learning_curve"]
