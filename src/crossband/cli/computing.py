"""Prepare what the options --engine and --scheduler name: ONNX Runtime, or a cluster."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from crossband.errors import CrossbandError, nearest

if TYPE_CHECKING:
    from crossband.model import Model

#: This process with torch or with ONNX Runtime, or the workers of a cluster.
ENGINES = ("local", "onnx", "dask")


def load_model(a: argparse.Namespace) -> Model:
    """Return the model of --model, which ONNX Runtime computes with --engine onnx."""
    from crossband.model import load

    model = load(a.model)
    if a.engine != "onnx":
        return model
    from crossband.model.exporting.onnx_file import on_onnx_runtime

    return on_onnx_runtime(model)


@contextmanager
def connected(a: argparse.Namespace) -> Iterator[Any]:
    """Yield the cluster of --engine dask; None for this process."""
    if a.engine not in ENGINES:
        raise CrossbandError(f"--engine {a.engine}: {nearest(a.engine, ENGINES)}")
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
