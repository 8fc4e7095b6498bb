"""The style of a result: a stretch for bands, a ramp for indices, a legend that says synthetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qgis.core import (
    QgsColorRampShader,
    QgsContrastEnhancement,
    QgsMultiBandColorRenderer,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
    QgsRasterShader,
    QgsSingleBandGrayRenderer,
    QgsSingleBandPseudoColorRenderer,
)
from qgis.PyQt.QtGui import QColor

from .catalogue import INDICES
from .enums import CUMULATIVE_CUT, INTERPOLATED, STRETCH

#: Share of the pixels that the stretch leaves out at either end.
CUT = 0.02
#: Values and colours of an index of vegetation: bare soil is brown, dense leaves are green.
VEGETATION = (
    (-0.2, "#8c6d46"),
    (0.0, "#d8c6a0"),
    (0.2, "#f3efc2"),
    (0.4, "#b7d67a"),
    (0.6, "#5fae4b"),
    (0.9, "#0f5a2b"),
)
#: The same of an index of water.
WATER = ((-0.8, "#8c6d46"), (-0.3, "#e6dcc0"), (0.0, "#d4ebf2"), (0.3, "#5ba7d1"), (0.8, "#08407f"))
#: Of dissimilarity: above 1 the surroundings are unfamiliar.
FAMILIARITY = ((0.0, "#ffffff"), (1.0, "#fdd49e"), (2.0, "#d7301f"))
#: Written behind the numbers of a legend.
SUFFIX = " (synthetic)"


def style(layer: QgsRasterLayer, bands: Sequence[str], tags: Mapping[str, str]) -> None:
    """Give a layer its renderer.

    Args:
        layer: of a file of Crossband.
        bands: its names.
        tags: of the file.
    """
    colours = ramp_of(bands, tags)
    if colours is not None:
        layer.setRenderer(_pseudo_color(layer, shown_band(bands), colours))
    elif len(bands) >= 3 and set(bands[:3]) == {"red", "green", "blue"}:
        layer.setRenderer(
            _colours(layer, [bands.index(name) + 1 for name in ("red", "green", "blue")])
        )
    else:
        layer.setRenderer(_gray(layer, 1))


def ramp_of(bands: Sequence[str], tags: Mapping[str, str]) -> Any:
    """Return the values and colours of an index or of familiarity; None for a measured band."""
    index = tags.get("CROSSBAND_INDEX") or bands[0].partition("_")[0]
    if bands[0] == "dissimilarity":
        return FAMILIARITY
    if index == "NDWI":
        return WATER
    return VEGETATION if index in INDICES else None


def shown_band(bands: Sequence[str]) -> int:
    """Return the band to show: of dates the last one, else the first."""
    return len(bands) if len(bands) > 2 else 1


def _stretch(layer: QgsRasterLayer, band: int) -> QgsContrastEnhancement:
    """Return a stretch between quantiles of a band."""
    provider = layer.dataProvider()
    low, high = provider.cumulativeCut(band, CUT, 1 - CUT, layer.extent(), 250_000)
    enhancement = QgsContrastEnhancement(provider.dataType(band))
    enhancement.setMinimumValue(low)
    enhancement.setMaximumValue(high if high > low else low + 1e-6)
    enhancement.setContrastEnhancementAlgorithm(STRETCH)
    return enhancement


def _origin() -> QgsRasterMinMaxOrigin:
    origin = QgsRasterMinMaxOrigin()
    origin.setLimits(CUMULATIVE_CUT)
    origin.setCumulativeCutLower(CUT)
    origin.setCumulativeCutUpper(1 - CUT)
    return origin


def _gray(layer: QgsRasterLayer, band: int) -> QgsSingleBandGrayRenderer:
    renderer = QgsSingleBandGrayRenderer(layer.dataProvider(), band)
    renderer.setContrastEnhancement(_stretch(layer, band))
    renderer.setMinMaxOrigin(_origin())
    _say_synthetic(renderer.legendSettings(), renderer.setLegendSettings)
    return renderer


def _colours(layer: QgsRasterLayer, bands: Sequence[int]) -> QgsMultiBandColorRenderer:
    renderer = QgsMultiBandColorRenderer(layer.dataProvider(), *bands)
    setters = (
        renderer.setRedContrastEnhancement,
        renderer.setGreenContrastEnhancement,
        renderer.setBlueContrastEnhancement,
    )
    for band, stretch in zip(bands, setters):
        stretch(_stretch(layer, band))
    renderer.setMinMaxOrigin(_origin())
    return renderer


def _pseudo_color(
    layer: QgsRasterLayer, band: int, colours: Sequence[tuple[float, str]]
) -> QgsSingleBandPseudoColorRenderer:
    ramp = QgsColorRampShader(colours[0][0], colours[-1][0])
    ramp.setColorRampType(INTERPOLATED)
    ramp.setColorRampItemList(
        [
            QgsColorRampShader.ColorRampItem(value, QColor(colour), f"{value:g}{SUFFIX}")
            for value, colour in colours
        ]
    )
    shader = QgsRasterShader()
    shader.setRasterShaderFunction(ramp)
    renderer = QgsSingleBandPseudoColorRenderer(layer.dataProvider(), band, shader)
    renderer.setClassificationMin(colours[0][0])
    renderer.setClassificationMax(colours[-1][0])
    _say_synthetic(ramp.legendSettings(), ramp.setLegendSettings)
    return renderer


def _say_synthetic(settings: Any, keep: Any) -> None:
    """Write into a continuous legend that the values are synthetic."""
    from qgis.core import QgsColorRampLegendNodeSettings

    own = QgsColorRampLegendNodeSettings(settings) if settings else QgsColorRampLegendNodeSettings()
    own.setSuffix(SUFFIX)
    keep(own)
