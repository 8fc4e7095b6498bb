"""Members of enums by the names of QGIS 3.22 to 4, and of Qt 5 and 6.

QGIS 4 knows many of them under `Qgis` only, and Qt 6 by their scope only.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from qgis import core


def member(module: Any, *names: str) -> Any:
    """Return what the first of some dotted names stands for, newest first."""
    for name in names:
        try:
            return reduce(getattr, name.split("."), module)
        except AttributeError:
            continue
    raise ImportError(f"this version of QGIS has none of: {', '.join(names)}")


def _number(name: str) -> Any:
    return member(
        core,
        f"Qgis.ProcessingNumberParameterType.{name}",
        f"QgsProcessingParameterNumber.Type.{name}",
        f"QgsProcessingParameterNumber.{name}",
    )


def _file(name: str) -> Any:
    return member(
        core,
        f"Qgis.ProcessingFileParameterBehavior.{name}",
        f"QgsProcessingParameterFile.Behavior.{name}",
        f"QgsProcessingParameterFile.{name}",
    )


def _ramp(name: str) -> Any:
    return member(
        core,
        f"Qgis.ShaderInterpolationMethod.{name}",
        f"QgsColorRampShader.Type.{name}",
        f"QgsColorRampShader.{name}",
    )


DOUBLE = _number("Double")
FILE, FOLDER = _file("File"), _file("Folder")
INTERPOLATED = _ramp(
    "Linear" if hasattr(core.Qgis, "ShaderInterpolationMethod") else "Interpolated"
)
ADVANCED = member(
    core,
    "Qgis.ProcessingParameterFlag.Advanced",
    "QgsProcessingParameterDefinition.Flag.FlagAdvanced",
    "QgsProcessingParameterDefinition.FlagAdvanced",
)
RASTER = member(
    core,
    "Qgis.ProcessingSourceType.Raster",
    "QgsProcessing.SourceType.TypeRaster",
    "QgsProcessing.TypeRaster",
)
ANY_GEOMETRY = member(
    core,
    "Qgis.ProcessingSourceType.VectorAnyGeometry",
    "QgsProcessing.SourceType.TypeVectorAnyGeometry",
    "QgsProcessing.TypeVectorAnyGeometry",
)
STRETCH = member(
    core,
    "QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum",
    "QgsContrastEnhancement.StretchToMinimumMaximum",
)
CUMULATIVE_CUT = member(
    core,
    "Qgis.RasterRangeLimit.CumulativeCut",
    "QgsRasterMinMaxOrigin.Limits.CumulativeCut",
    "QgsRasterMinMaxOrigin.CumulativeCut",
)
CAN_CANCEL = member(core, "QgsTask.Flag.CanCancel", "QgsTask.CanCancel")
