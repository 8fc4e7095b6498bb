"""Scenes, and windows of one huge scene, on the workers of a dask.distributed cluster.

>>> from crossband.cluster import Cluster
>>> with Cluster("tcp://localhost:8786") as cluster:  # doctest: +SKIP
...     model.translate("huge.tif", "nir.tif", cluster=cluster)

`client` hands out the windows of one scene, `scenes` many scenes; `worker` is what workers do.
"""

from crossband.cluster.client import Cluster, Workers

__all__ = ["Cluster", "Workers"]
