"""Families of metrics, one file each. `known_families` finds every module of this package."""
