"""Rasters: open scenes, read windows in physical units, write results."""
