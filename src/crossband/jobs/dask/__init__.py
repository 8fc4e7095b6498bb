"""Translate scenes, and the windows of one huge scene, on a dask.distributed cluster.

>>> from crossband.jobs.dask import Cluster
>>> with Cluster("tcp://localhost:8786") as cluster:  # doctest: +SKIP
...     model.translate("huge.tif", "nir.tif", cluster=cluster)

`client` sends the windows of one scene to the workers, `scenes` sends whole scenes; `worker` has
the functions that run there.
"""

from crossband.jobs.dask.client import ClusterComputer
from crossband.jobs.dask.cluster import Cluster

__all__ = ["Cluster", "ClusterComputer"]
