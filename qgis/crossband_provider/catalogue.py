"""Names that the dialogs offer: those of the Crossband of the same version."""

from __future__ import annotations

MODELS = (
    "rgb2nir",
    "rgb2nir-guided",
    "sar2optical",
    "sentinel-2-sharpen",
    "super-resolution-x2",
    "super-resolution-x4",
)
#: The first means: what the file itself says.
FROM_FILE = "as the file says"
INDICES = ("NDVI", "EVI", "NDWI", "SAVI", "GNDVI", "OSAVI", "MSAVI")
GUIDE_METHODS = ("residual", "difference", "linear", "histogram")
PROMISES = ("mean", "places")
DEVICES = ("auto", "cpu", "cuda", "mps")
#: Bands that a model may take, which widgets choose in a layer.
BANDS = ("red", "green", "blue", "nir", "vv", "vh")
SENSORS = (
    FROM_FILE,
    "sentinel-2-l2a",
    "sentinel-2-l2a-no-offset",
    "sentinel-2-l1c",
    "sentinel-2-l1c-no-offset",
    "hls",
    "landsat-c2-l2",
    "landsat-c2-l2-st",
    "naip",
    "spot-6",
    "sentinel-1-grd-db",
    "sentinel-1-grd-linear",
    "thermal-camera",
    "thermal-kelvin",
    "reflectance",
    "display",
)
