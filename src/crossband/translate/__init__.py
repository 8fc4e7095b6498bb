"""Translate scenes of any size with a model: without seams, and resumable.

`scene` opens a scene, `tiling` cuts it, `stream` sends its tiles through the `engine` into the
file. `lazy` does the same for DataArrays in dask chunks.
"""
