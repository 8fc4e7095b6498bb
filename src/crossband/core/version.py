"""The version of Crossband: in tags of results, in model folders, asked of dask workers."""

__version__ = "0.1.0"
