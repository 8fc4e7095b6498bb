"""Sensors: which bands an instrument has, and how stored numbers become physical values.

Everywhere physical = stored x scale + offset, as GDAL, STAC and CF mean it. Units are

- `reflectance`: 0..1, surface or top of atmosphere,
- `db`: radar backscatter in decibels,
- `kelvin`: temperature,
- `display`: 0..1, image values without a physical meaning (8-bit stretches, camera output).

Sources: Sentinel-2 Products Specification (PSD 15.0: quantification 10000, BOA_ADD_OFFSET and
RADIO_ADD_OFFSET -1000 in stored numbers from processing baseline 04.00); USGS Landsat Collection 2
Level-2 Science Product Guide (SR = DN x 2.75e-5 - 0.2, ST = DN x 0.00341802 + 149.0, fill 0);
USDA NAIP and SPOT-6 product pages; ESA Sentinel-1 Product Specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from crossband.errors import UnitError, nearest

REFLECTANCE, DECIBEL, KELVIN, DISPLAY = "reflectance", "db", "kelvin", "display"

#: Valid range of each unit: used to clip values that are written, never to guess units of a file.
VALID_RANGE: dict[str, tuple[float, float]] = {
    REFLECTANCE: (0.0, 2.0),
    DECIBEL: (-60.0, 40.0),
    KELVIN: (0.0, 500.0),
    DISPLAY: (0.0, 1.0),
}

#: A physical value below or above these is no measurement, in whatever unit, but a fill value that
#: a file of floats does not declare: -9999, -3.4e38, 1e20. What lacks its scale lies between them.
POSSIBLE = (-5e3, 1e6)


@dataclass(frozen=True)
class Band:
    """One channel: STAC common name, the product's own label, centre wavelength in nanometres."""

    name: str
    label: str
    wavelength: float | None = None


@dataclass(frozen=True)
class Sensor:
    """A list of bands, and how stored numbers become physical values.

    Attributes:
        name: the value of `--sensor`.
        title: description in one line.
        unit: physical unit of the values.
        bands: its bands in the product's own order.
        scale: physical = stored x scale + offset, by stored data type; the key `""` is any type.
        offset: see scale.
        nodata: stored number that means "no data" when the file declares none.
        ordered: files of this sensor have exactly these bands in this order, so that bands can be
            identified by position when the file does not name them.
        power: values are linear power, converted to decibels (10 log10) after scaling.
        gsd: size in metres of the smallest pixels of its products; None where it varies.
    """

    name: str
    title: str
    unit: str
    bands: tuple[Band, ...]
    scale: dict[str, float]
    offset: float = 0.0
    nodata: float | None = None
    ordered: bool = False
    power: bool = False
    gsd: float | None = None

    def scale_for(self, dtype: str) -> float:
        """Return the scale for a stored data type; UnitError if the sensor has none for it."""
        if dtype in self.scale:
            return self.scale[dtype]
        if "" in self.scale:
            return self.scale[""]
        known = ", ".join(self.scale)
        raise UnitError(
            f"sensor {self.name} is stored as {known}, but the file is {dtype}: "
            f"give --scale and --offset (physical = stored x scale + offset)"
        )

    def common_name(self, label: str) -> str | None:
        """Return the common name of a band given by name or by the product's label.

        >>> get("sentinel-2-l2a").common_name("b8")
        'nir'
        >>> get("landsat-c2-l2").common_name("B5")  # and SR_B5, as its files have it
        'nir'
        >>> get("sentinel-1-grd-db").common_name("Sigma0_VV_db")  # as SNAP writes it
        'vv'
        """
        radar = _RADAR.fullmatch(label.strip().lower())
        wanted = _plain(radar["polarisation"] if radar else label)
        for band in self.bands:
            short = band.label.removeprefix("SR_")
            if wanted in (_plain(band.name), _plain(band.label), _plain(short)):
                return band.name
        return None


def in_decibels(label: str) -> bool:
    """Return whether the name of a radar band says that its numbers are decibels.

    >>> [in_decibels(label) for label in ("VV_dB", "Sigma0_VH_db", "VV", "Gamma0_VV")]
    [True, True, False, False]
    """
    radar = _RADAR.fullmatch(label.strip().lower())
    return radar is not None and radar["decibels"] is not None


#: Names of radar bands: the polarisation, perhaps with the calibration and the unit.
_RADAR = re.compile(
    r"(?:(?:sigma|gamma|beta)(?:0|_?nought)[_ -])?"
    r"(?P<polarisation>vv|vh|hv|hh)(?P<decibels>[_ -]?db)?"
)


def _plain(label: str) -> str:
    """Normalise a label: B8, B08, b08 and Band 8 become the same."""
    text = label.lower().replace("band", "b").replace(" ", "").replace("_", "").replace("-", "")
    return text[0] + text[1:].lstrip("0") if text[:1] == "b" and text[1:2].isdigit() else text


def _bands(table: str) -> tuple[Band, ...]:
    """Parse `name label wavelength; ...`."""
    out = []
    for row in table.split(";"):
        name, label, *wavelength = row.split()
        out.append(Band(name, label, float(wavelength[0]) if wavelength else None))
    return tuple(out)


_S2_L2A = _bands(
    "coastal B01 443; blue B02 490; green B03 560; red B04 665; rededge071 B05 704;"
    "rededge075 B06 740; rededge078 B07 783; nir B08 842; nir08 B8A 865; nir09 B09 945;"
    "swir16 B11 1610; swir22 B12 2190"
)
_S2_L1C = (*_S2_L2A[:10], Band("cirrus", "B10", 1375.0), *_S2_L2A[10:])
_LANDSAT = _bands(
    "coastal SR_B1 443; blue SR_B2 482; green SR_B3 561; red SR_B4 655; nir SR_B5 865;"
    "swir16 SR_B6 1609; swir22 SR_B7 2201"
)
_RGBN = _bands("red R 650; green G 560; blue B 470; nir N 830")
_VISIBLE_IR = _bands(
    "coastal coastal 443; blue blue 480; green green 560; red red 660; rededge rededge 720;"
    "nir nir 840; nir08 nir08 865; swir16 swir16 1610; swir22 swir22 2200"
)
_S1 = _bands("vv VV; vh VH")
#: Reflectance stored as float 0..1; integers have no default scale.
_FLOAT = {"float32": 1.0, "float64": 1.0, "float16": 1.0}
_PICTURE = {"uint8": 1 / 255, "uint16": 1 / 65535, **_FLOAT}

SENSORS: dict[str, Sensor] = {
    s.name: s
    for s in (
        Sensor(
            "sentinel-2-l2a",
            "Sentinel-2 surface reflectance, processing baseline 04.00 on (BOA_ADD_OFFSET -1000)",
            REFLECTANCE,
            _S2_L2A,
            {"uint16": 1e-4, "int16": 1e-4},
            -0.1,
            nodata=0,
            gsd=10.0,
        ),
        Sensor(
            "sentinel-2-l2a-no-offset",
            "Sentinel-2 surface reflectance before baseline 04.00, or harmonised by the provider",
            REFLECTANCE,
            _S2_L2A,
            {"uint16": 1e-4, "int16": 1e-4},
            nodata=0,
            gsd=10.0,
        ),
        Sensor(
            "sentinel-2-l1c",
            "Sentinel-2 top of atmosphere, processing baseline 04.00 on (RADIO_ADD_OFFSET -1000)",
            REFLECTANCE,
            _S2_L1C,
            {"uint16": 1e-4, "int16": 1e-4},
            -0.1,
            nodata=0,
            gsd=10.0,
        ),
        Sensor(
            "sentinel-2-l1c-no-offset",
            "Sentinel-2 top of atmosphere before baseline 04.00, or harmonised by the provider",
            REFLECTANCE,
            _S2_L1C,
            {"uint16": 1e-4, "int16": 1e-4},
            nodata=0,
            gsd=10.0,
        ),
        Sensor(
            "hls",
            "Harmonized Landsat Sentinel-2 surface reflectance (L30, S30)",
            REFLECTANCE,
            _VISIBLE_IR,
            {"int16": 1e-4, "uint16": 1e-4},
            nodata=-9999,
            gsd=30.0,
        ),
        Sensor(
            "landsat-c2-l2",
            "Landsat 8/9 Collection 2 Level-2 surface reflectance",
            REFLECTANCE,
            _LANDSAT,
            {"uint16": 2.75e-5},
            -0.2,
            nodata=0,
            gsd=30.0,
        ),
        Sensor(
            "landsat-c2-l2-st",
            "Landsat 8/9 Collection 2 Level-2 surface temperature",
            KELVIN,
            _bands("thermal ST_B10 10895"),
            {"uint16": 0.00341802},
            149.0,
            nodata=0,
            ordered=True,
            gsd=30.0,
        ),
        Sensor(
            "naip",
            "USDA NAIP aerial imagery, 8-bit red, green, blue, near infrared (display, no "
            "reflectance)",
            DISPLAY,
            _RGBN,
            {"uint8": 1 / 255},
            ordered=True,
        ),
        Sensor(
            "spot-6",
            "SPOT-6/7 multispectral, reflectance x 10000 (Pleiades/SPOT REFLECTANCE product)",
            REFLECTANCE,
            _bands("blue B0 485; green B1 560; red B2 660; nir B3 825"),
            {"uint16": 1e-4},
            nodata=0,
        ),
        Sensor(
            "sentinel-1-grd-db",
            "Sentinel-1 GRD backscatter in decibels",
            DECIBEL,
            _S1,
            {"": 1.0},
            gsd=10.0,
        ),
        Sensor(
            "sentinel-1-grd-linear",
            "Sentinel-1 GRD backscatter as linear power (turned into decibels)",
            DECIBEL,
            _S1,
            {"": 1.0},
            power=True,
            gsd=10.0,
        ),
        Sensor(
            "thermal-camera",
            "thermal camera with automatic gain, 8-bit (display: no temperature)",
            DISPLAY,
            _bands("thermal thermal 10500"),
            {"uint8": 1 / 255},
            ordered=True,
        ),
        Sensor(
            "thermal-kelvin",
            "thermal camera or product in kelvin; integers need --scale",
            KELVIN,
            _bands("thermal thermal 10500"),
            _FLOAT,
            ordered=True,
        ),
        Sensor(
            "reflectance",
            "any optical sensor, values already reflectance 0..1 as float; integers need --scale",
            REFLECTANCE,
            _VISIBLE_IR,
            _FLOAT,
        ),
        Sensor(
            "display",
            "a picture: 8 or 16 bit stretched to the full range, or float 0..1; measures nothing",
            DISPLAY,
            _RGBN,
            _PICTURE,
        ),
    )
}


def get(name: str) -> Sensor:
    """Return a sensor by name; the UnitError for an unknown name suggests the nearest one."""
    if name not in SENSORS:
        raise UnitError(f"unknown sensor {name!r}: {nearest(name, SENSORS)}")
    return SENSORS[name]


def sensors_with(bands: Iterable[str]) -> list[str]:
    """Return the names of the sensors that have all these bands.

    >>> sensors_with(["vv", "vh"])
    ['sentinel-1-grd-db', 'sentinel-1-grd-linear']
    """
    wanted = set(bands)
    return [s.name for s in SENSORS.values() if wanted <= {band.name for band in s.bands}]


#: STAC common names (eo:common_name, v2) of single bands.
COMMON_NAMES = frozenset(
    {
        *("pan", "coastal", "blue", "green", "green05", "yellow", "red"),
        *("rededge", "rededge071", "rededge075", "rededge078"),
        *("nir", "nir08", "nir09", "cirrus", "swir16", "swir22"),
        *("lwir", "lwir11", "lwir12", "thermal"),
        *("vv", "vh", "hh", "hv"),
    }
)


def wavelength(name: str) -> float | None:
    """Return a typical centre wavelength in nanometres of a common name."""
    for sensor in SENSORS.values():
        for band in sensor.bands:
            if band.name == name and band.wavelength:
                return band.wavelength
    return None
