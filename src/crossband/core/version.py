"""The version of Crossband: written to results and model folders, compared with dask workers."""

__version__ = "0.1.0"
