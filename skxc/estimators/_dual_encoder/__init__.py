"""The dual encoder: recipe, what it trains, and the model that it returns."""

from skxc.estimators._dual_encoder.recipe import DualEncoderXC

__all__ = ["DualEncoderXC"]
