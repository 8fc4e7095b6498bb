"""Methods: how networks are trained; `training.recipe` finds the classes by name."""

from crossband.training.methods.base import Method

__all__ = ["Method"]
