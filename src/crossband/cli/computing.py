"""Connect to the cluster that the options --engine and --scheduler name."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from crossband.errors import CrossbandError, nearest


@contextmanager
def connected(a: argparse.Namespace) -> Iterator[Any]:
    """Yield the cluster of --engine dask; None for this process."""
    if a.engine not in ("local", "dask"):
        raise CrossbandError(f"--engine {a.engine}: {nearest(a.engine, ('local', 'dask'))}")
    if (a.engine == "dask") != (a.scheduler is not None):
        raise CrossbandError("--engine dask and --scheduler ADDRESS go together")
    if a.scheduler is None:
        yield None
        return
    from crossband.jobs.dask import Cluster

    # Errors are reported in one line, so its log of many lines is silenced. Importing it sets its
    # log levels, so it is imported before. `Cluster` reports a missing installation.
    with suppress(ImportError):
        import distributed  # noqa: F401
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with Cluster(a.scheduler) as cluster:
        yield cluster
