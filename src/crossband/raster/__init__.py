"""Rasters on disk: open, window, plan, write."""
