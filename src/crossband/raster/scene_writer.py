"""Write one result window by window, with a context manager that leaves a whole file or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from crossband.errors import CrossbandError
from crossband.raster.disk_space import check_disk_space
from crossband.raster.encoding import Encoding
from crossband.raster.grid import Box, Grid
from crossband.raster.journal import Store
from crossband.raster.output import OutputFile, finish_files
from crossband.raster.output_paths import check_output


class SceneWriter:
    """Writes one result window by window; use as a context manager.

    Windows are written to a raw file in a hidden folder beside the result. `commit` makes the COG
    or PNG of it and renames it into place. Leaving the context without `commit` removes all of it.

    Args:
        path: final name, `.tif` or `.png`.
        grid: grid of the result.
        bands: names of the bands.
        unit: physical unit, written as the bands' unit.
        encoding: how values are stored.
        tags: dataset tags.
        overwrite: replace an existing file at commit.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        bands: tuple[str, ...],
        unit: str,
        encoding: Encoding,
        tags: Mapping[str, str],
        *,
        overwrite: bool = False,
    ) -> None:
        check_output(path, overwrite)
        self._output = OutputFile(path, grid, bands, unit, encoding, dict(tags))
        check_disk_space([self._output])
        self._store = Store.open(path, {})
        try:
            check_output(path, overwrite)  # another process may have written it meanwhile
            self._output.begin(self._store, "values")
        except CrossbandError:
            self._store.remove()
            raise

    def write(self, box: Box, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Write physical values [C, h, w] and mask [h, w] at `box` of the result's grid."""
        self._output.write(box, values, mask)

    def commit(self) -> Path:
        """Make the file, rename it into place and return its path."""
        finish_files([self._output], self._store)
        self._store.remove()
        return self._output.path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.remove()
