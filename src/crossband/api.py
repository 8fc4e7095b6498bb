"""What `import crossband` gives: models that translate tensors, scenes, arrays and series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossband import model as models
from crossband.errors import CrossbandError
from crossband.model.folder import load_as

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


class Model(models.Model):
    """A model that translates tensors (`model(tensor)`), scenes, arrays and series of scenes."""

    def translate(
        self,
        source: str | Path | xr.DataArray,
        output: str | Path | None = None,
        **options: Any,
    ) -> xr.DataArray | Path:
        """Translate a scene; see `translate.scene.translate` for the options.

        Args:
            source: any raster that GDAL reads, or a DataArray; see `crossband.translate.lazy`.
            output: the file; of a DataArray none.
            **options: see there.

        Returns:
            The path written, or without `output` a rioxarray-compatible DataArray
            (band, y, x) in physical units with CRS and nodata. Of a DataArray one like it, lazy
            where it is.
        """
        if not isinstance(source, str | Path):
            if output is not None:
                raise CrossbandError(
                    "a DataArray gives a DataArray: leave the output out, and write the result "
                    "with result.rio.to_raster"
                )
            from crossband.translate import lazy

            return lazy.translate_array(self, source, **options)
        from crossband.translate import scene

        if output is None:
            return scene.translate_to_array(self, source, **options)
        return scene.translate(self, source, output, **options)

    def series(
        self,
        scenes: Sequence[str | Path] | str | Path | xr.DataArray,
        index: str | Sequence[str] = "NDVI",
        *,
        places: Any = None,
        **options: Any,
    ) -> xr.Dataset | pd.DataFrame:
        """Return an index through time, of dated scenes; see docs/series.md.

        Args:
            scenes: files, patterns, lists, manifests, STAC items, NetCDF or Zarr stacks; or a
                DataArray with dimensions of time, bands, rows and columns.
            index: one spectral index, or several.
            places: GeoJSON file of points and polygons, or a list of `series.places.Place`.
            **options: `place_name`; of a DataArray those of `translate`. Of scenes those of
                `series.run.series` (`dates`, `date_pattern`, `align`, ...) and of `translate`, and
                `output`: a folder that keeps the files.

        Returns:
            Without places a Dataset (time, y, x): `NDVI`, and where bands were measured `NDVI_true`
            and `NDVI_difference`. It is lazy where the DataArray is, and of scenes with `output`.
            With places a table of their statistics on each date.

        Raises:
            CrossbandError: see `series.run.series` and `series.arrays.dataset`.
        """
        from crossband.series.answer import answer

        return answer(self, scenes, index, places=places, **options)


def load(name: str | Path) -> Model:
    """Load a model.

    Args:
        name: a bundled name (`rgb2nir`), a model folder, or `hf://owner/name`.

    Raises:
        ModelError: unknown name; a missing or wrong key; weights whose hash differs or that are in
            pickle form, which is never opened.
    """
    return load_as(Model, name)
