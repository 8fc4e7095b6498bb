"""Scenes, and windows of one huge scene, on the workers of a dask.distributed cluster.

>>> from crossband.jobs.dask import Cluster
>>> with Cluster("tcp://localhost:8786") as cluster:  # doctest: +SKIP
...     model.translate("huge.tif", "nir.tif", cluster=cluster)

`client` hands out the windows of one scene, `scenes` many scenes; `worker` is what workers do.
"""

from crossband.jobs.dask.client import Workers
from crossband.jobs.dask.cluster import Cluster

__all__ = ["Cluster", "Workers"]
