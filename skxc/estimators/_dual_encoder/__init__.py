"""The dual encoder: recipe, what it trains, and the model that it returns."""

from skxc.estimators._dual_encoder.classifier import ClassifierStage
from skxc.estimators._dual_encoder.recipe import DualEncoderXC
from skxc.estimators._dual_encoder.task import JointVectors

__all__ = ["ClassifierStage", "DualEncoderXC", "JointVectors"]
