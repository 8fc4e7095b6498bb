"""What `import crossband` gives: models that translate tensors, scenes, arrays and series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from crossband import model as models
from crossband.core.options import keywords
from crossband.core.python_words import public
from crossband.errors import CrossbandError
from crossband.model.folder import load_as
from crossband.raster.options import ReadOptions
from crossband.series.options import SeriesKeywords, SeriesOptions
from crossband.translate.options import (
    CLASSES,
    IntervalOptions,
    TileOptions,
    TranslateKeywords,
    TranslateOptions,
)

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from crossband.translate.executor import Executor
    from crossband.translate.statistics import Statistics
    from crossband.translate.stream import Progress


class Model(models.Model):
    """A model that translates tensors (`model(tensor)`), scenes, arrays and series of scenes."""

    @public(*CLASSES)
    def translate(
        self,
        source: str | Path | xr.DataArray,
        output: str | Path | None = None,
        *,
        skip: bool = False,
        cluster: Executor | None = None,
        progress: Progress | None = None,
        statistics: Statistics | None = None,
        **options: Unpack[TranslateKeywords],
    ) -> xr.DataArray | Path:
        """Translate a scene.

        Args:
            source: any raster that GDAL reads, a product of several files, or a DataArray, in
                memory or in chunks of dask.
            output: path of the file, `.tif` (COG) or `.png`; not for a DataArray.
            skip: leave a file that this model made of this source with these options.
            cluster: its workers compute the windows, see `crossband.jobs.dask`; by default this
                process computes them.
            progress: called with (pixels done, pixels in all).
            statistics: receives what was done, and the time of each step.
            **options: how the scene is read (`bands`, `sensor`, `scale`, `offset`,
                `source_nodata`, `extent`, `window`), computed (`device`, `precision`, `tile`,
                `batch`, `overlap`, `seed`, `whole`), written (`dtype`, `out_scale`, `out_offset`,
                `nodata`, `compress`, `blocksize`, `indices`, `overwrite`, `resume`), corrected by a
                guide (`guide`, `guide_method`, `guide_sensor`, `guide_bands`), and whether
                intervals are added (`interval`, `promise`, `familiarity`). They are documented in
                `raster.options.ReadOptions` and in the classes of `translate.options`.

        Returns:
            The path, if there is an `output`. Otherwise a rioxarray-compatible DataArray
            (band, y, x) in physical units with CRS and nodata. If the source is a DataArray, the
            result has its dimensions, and is lazy if the source is.

        Raises:
            CrossbandError: the source, the options or the output is wrong; in one line.
        """
        of_files = {"skip": skip, "cluster": cluster, "progress": progress,
                    "statistics": statistics}  # fmt: skip
        if output is None and (given := [k for k, v in of_files.items() if v]):
            raise CrossbandError(f"{', '.join(given)}: of files only; give an output")
        if not isinstance(source, str | Path):
            from crossband.translate import lazy

            if output is not None:
                raise CrossbandError(
                    "a DataArray gives a DataArray: leave the output out, and write the result "
                    "with result.rio.to_raster"
                )
            lazy.check_keywords(source, options)
            every = TranslateOptions.of(**options)
            return lazy.translate_array(self, source, every.read, every.tile, every.interval)
        if output is None:
            from crossband.translate.to_dataarray import translate_to_array

            if options.get("indices"):
                raise CrossbandError(
                    "indices are files: give an output, or compute them from the array"
                )
            values = (ReadOptions, TileOptions, IntervalOptions)
            known = {"indices", *(name for kind in values for name in keywords(kind))}
            others = [name for name in options if name not in known]
            if others:
                raise CrossbandError(f"translate to an array takes no {', '.join(others)}")
            every = TranslateOptions.of(**options)
            return translate_to_array(self, source, every.read, every.tile, every.interval)
        from crossband.translate.scene import translate_scene

        return translate_scene(
            self,
            source,
            output,
            TranslateOptions.of(**options),
            skip=skip,
            executor=cluster,
            progress=progress,
            statistics=statistics,
        )

    @public(*CLASSES, SeriesOptions)
    def series(
        self,
        scenes: Sequence[str | Path] | str | Path | xr.DataArray,
        index: str | Sequence[str] = "NDVI",
        *,
        places: Any = None,
        output: str | Path | None = None,
        **options: Unpack[SeriesKeywords],
    ) -> xr.Dataset | pd.DataFrame:
        """Compute spectral indices through time from dated scenes; see docs/series.md.

        Args:
            scenes: files, patterns, lists, manifests, STAC items, NetCDF or Zarr data cubes; or a
                DataArray with dimensions of time, bands, rows and columns.
            index: one spectral index, or several.
            places: GeoJSON file of points and polygons, or a list of `series.places.Place`.
            output: folder that keeps the files; not for a DataArray.
            **options: those of `translate`, and `place_name`; for scenes also those of
                `series.options.SeriesOptions` (`dates`, `date_pattern`, `align`, ...).

        Returns:
            Without places a Dataset (time, y, x) with `NDVI`, and where bands were measured
            `NDVI_true` and `NDVI_difference`. It is lazy for a lazy DataArray, and for scenes with
            `output`. With places a table of their statistics on each date.

        Raises:
            CrossbandError: see `series.run.series` and `series.array_series.index_dataset`.
        """
        from crossband.series.result import series_result

        return series_result(self, scenes, index, places=places, output=output, **options)


def load(name: str | Path) -> Model:
    """Load a model.

    Args:
        name: a bundled name (`rgb2nir`), a model folder, or `hf://owner/name`.

    Raises:
        ModelError: unknown name; a missing or wrong key; weights whose hash differs or that are in
            pickle form, which is never opened.
    """
    return load_as(Model, name)
