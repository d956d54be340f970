"""The fusion of estimators: recipe, members, and the model that it returns."""

from skxc.estimators._fusion.recipe import FusionXC

__all__ = ["FusionXC"]
