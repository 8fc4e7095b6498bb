"""Families of metrics: one file each; every module in this package joins by itself."""
