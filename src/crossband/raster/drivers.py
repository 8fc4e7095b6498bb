"""GDAL's drivers that may open rasters; drivers of services and vector data may not."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from rasterio.env import ensure_env_with_credentials
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader

from crossband.raster.lost_errors import raise_lost_tags

# `gdal()` silences it, too, but `warnings.catch_warnings` of one thread ends that of another. This
# concerns what Crossband opens, and nothing that a caller opens.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning, module=r"crossband\.")

#: Of files that name no others.
SELF_CONTAINED = ("GTiff", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID", "JPEG", "PNG", "WEBP")
#: Of files.
RASTERS = (
    *SELF_CONTAINED,
    *("VRT", "netCDF", "HDF5", "HDF5Image", "HDF4", "HDF4Image", "BAG", "KEA", "GRIB", "Zarr"),
    *("ENVI", "EHdr", "ERS", "HFA", "PCIDSK", "NITF", "SENTINEL2", "SAFE", "DIMAP", "ECW", "MrSID"),
    *("JPEGXL", "AVIF", "HEIF", "GIF", "BMP", "PNM", "GPKG", "MBTiles", "AAIGrid", "SAGA", "RMF"),
    *("SRTMHGT", "USGSDEM", "DTED", "XYZ", "GSAG", "GSBG", "GS7BG", "ILWIS", "RST", "ISIS3", "PDS"),
    *("PDS4", "VICAR", "FITS", "TSX", "RS2", "COSAR", "ISCE", "ROI_PAC", "SIGDEM", "TGA"),
)


def open_with(path: str, drivers: Sequence[str]) -> Any:
    """Open a raster with one of several drivers of GDAL, as `rasterio.open` does with any.

    Raises:
        RasterioError: it cannot be opened, or not by these.
        OSError: one of its tags cannot be read.
    """
    opened = ensure_env_with_credentials(lambda fp: DatasetReader(fp, driver=list(drivers)))
    with raise_lost_tags():
        return opened(path)
