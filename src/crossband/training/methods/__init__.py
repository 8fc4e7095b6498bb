"""Training methods, each a LightningModule; recipes name them by class name."""

from crossband.training.methods.base import Method

__all__ = ["Method"]
