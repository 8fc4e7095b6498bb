"""Where to compute: options that several commands have, and the cluster that they name."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from crossband.errors import CrossbandError, nearest


@contextmanager
def connected(a: argparse.Namespace) -> Iterator[Any]:
    """Give the cluster that --engine and --scheduler name; None for this process."""
    if a.engine not in ("local", "dask"):
        raise CrossbandError(f"--engine {a.engine}: {nearest(a.engine, ('local', 'dask'))}")
    if (a.engine == "dask") != (a.scheduler is not None):
        raise CrossbandError("--engine dask and --scheduler ADDRESS go together")
    if a.scheduler is None:
        yield None
        return
    from crossband.jobs.dask import Cluster

    # Its messages have many lines; what matters comes back as an error of one. Its levels are set
    # when it is imported; where it is missing, `Cluster` says so.
    with suppress(ImportError):
        import distributed  # noqa: F401
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with Cluster(a.scheduler) as cluster:
        yield cluster
