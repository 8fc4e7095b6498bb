"""Time series of spectral indices from dated scenes, of synthetic bands and of measured ones.

`dates` finds the dates of scenes, `cubes` reads NetCDF and Zarr data cubes, `places` finds points
and polygons in a scene, `maps` reads indices by windows, `measure` computes their statistics,
`index_stack` writes the files, `run` does it for scenes and `array_series` for a DataArray.
"""
