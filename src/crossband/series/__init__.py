"""Dated scenes with one model: an index through time, synthetic and, where it was measured, true.

`dates` tells when scenes were taken, `stack` takes stacks apart, `places` finds points and polygons
in a scene, `maps` reads indices by windows, `measure` takes their statistics, `write` makes the
files, `run` does it for scenes and `arrays` for a DataArray.
"""
