"""Degradations: what a coarser sensor would have seen of a fine image."""

from crossband.data.degrade.base import Degradation, coarse_mask, parse_degradation

__all__ = ["Degradation", "coarse_mask", "parse_degradation"]
