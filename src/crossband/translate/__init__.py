"""Model + scene -> scene: any size, seam-free, resumable.

One scene goes `scene` -> `tiling` -> `stream` -> `engine` -> file; `lazy` does the same for arrays
of dask.
"""
