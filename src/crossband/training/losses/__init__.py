"""Losses; `core.registry` finds the classes by name."""

from crossband.training.losses.base import Loss, Prediction, masked_mean

__all__ = ["Loss", "Prediction", "masked_mean"]
