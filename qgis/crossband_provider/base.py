"""What the algorithms share: their names, help, and parameters that become options."""

from __future__ import annotations

import math
from typing import Any

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
    QgsProviderRegistry,
    QgsRasterLayer,
)
from qgis.PyQt.QtGui import QIcon

from .catalogue import DEVICES, FROM_FILE, INDICES, MODELS, SENSORS
from .enums import ADVANCED, DOUBLE, FOLDER

_PAGES = "https://github.com/crossband/crossband/blob/main/docs/"


class CrossbandAlgorithm(QgsProcessingAlgorithm):
    """An algorithm that is one command of Crossband.

    Attributes:
        NAME, TITLE, HELP: name in commands, title in the toolbox, and text beside the dialog.
        PAGE: file of the documentation.
    """

    NAME = TITLE = HELP = PAGE = ""

    def createInstance(self) -> QgsProcessingAlgorithm:
        """Return another instance; each run has its own."""
        return type(self)()

    def name(self) -> str:
        """Return the name after the colon."""
        return self.NAME

    def displayName(self) -> str:
        """Return the title in the toolbox."""
        return self.TITLE

    def shortHelpString(self) -> str:
        """Return the text beside the dialog."""
        return self.HELP

    def helpUrl(self) -> str:
        """Return the address of the documentation."""
        return _PAGES + self.PAGE

    def icon(self) -> QIcon:
        """Return the plugin's icon."""
        from .provider import icon

        return icon()

    def add(self, parameter: QgsProcessingParameterDefinition, *, advanced: bool = False) -> None:
        """Add a parameter."""
        if advanced:
            parameter.setFlags(parameter.flags() | ADVANCED)
        self.addParameter(parameter)

    def add_choice(
        self,
        name: str,
        title: str,
        names: tuple[str, ...],
        *,
        default: Any = None,
        several: bool = False,
        advanced: bool = False,
    ) -> None:
        """Add a choice among names, whose value is the name itself."""
        parameter = QgsProcessingParameterEnum(
            name, title, list(names), several, default, default is None, True
        )
        if several:  # QGIS 3.22 shows the names in a list of its own as empty lines
            parameter.setMetadata({"widget_wrapper": {"useCheckBoxes": True, "columns": 4}})
        self.add(parameter, advanced=advanced)

    def add_number(self, name: str, title: str, **limits: Any) -> None:
        """Add an optional number among the advanced parameters."""
        self.add(
            QgsProcessingParameterNumber(name, title, DOUBLE, None, True, **limits), advanced=True
        )

    def add_text(self, name: str, title: str, *, advanced: bool = True) -> None:
        """Add an optional text."""
        self.add(QgsProcessingParameterString(name, title, None, False, True), advanced=advanced)

    def add_model(self) -> None:
        """Add the parameters of the model."""
        self.add_choice("MODEL", "Model", MODELS, default=MODELS[0])
        folder = QgsProcessingParameterFile(
            "MODEL_FOLDER", "A model of your own (folder)", FOLDER, "", None, True
        )
        self.add(folder, advanced=True)

    def add_radiometry(self) -> None:
        """Add what the files may not say: sensor, scale and offset."""
        self.add_choice("SENSOR", "Sensor (--sensor)", SENSORS, default=FROM_FILE)
        self.add_number("SCALE", "Scale: physical = stored x scale + offset (--scale)")
        self.add_number("OFFSET", "Offset (--offset)")

    def add_indices(self, title: str, default: Any = None) -> None:
        """Add the choice of spectral indices."""
        self.add_choice("INDEX", title, INDICES, default=default, several=True)

    def add_computing(self) -> None:
        """Add the device, and whether existing files are replaced."""
        self.add_choice("DEVICE", "Device", DEVICES, default=DEVICES[0], advanced=True)
        self.add_overwrite()

    def add_overwrite(self) -> None:
        """Add whether existing files are replaced."""
        text = "Replace existing files (--overwrite)"
        self.add(QgsProcessingParameterBoolean("OVERWRITE", text, False))

    def model(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """Return the options of the model."""
        folder = self.parameterAsString(parameters, "MODEL_FOLDER", context)
        chosen = folder or self.parameterAsEnumString(parameters, "MODEL", context)
        return [f"--model={chosen}"]

    def radiometry(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """Return the options of sensor, scale and offset."""
        sensor = self.parameterAsEnumString(parameters, "SENSOR", context)
        return [
            *([f"--sensor={sensor}"] if sensor and sensor != FROM_FILE else []),
            *self.number(parameters, "SCALE", "--scale", context),
            *self.number(parameters, "OFFSET", "--offset", context),
        ]

    def indices(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """Return the options of the spectral indices."""
        return [
            f"--index={n}" for n in self.parameterAsEnumStrings(parameters, "INDEX", context) if n
        ]

    def computing(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """Return the options of the device and of existing files."""
        device = self.parameterAsEnumString(parameters, "DEVICE", context)
        return [f"--device={device}", *self.overwrite(parameters, context)]

    def overwrite(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """Return the option of existing files."""
        return self.flag(parameters, "OVERWRITE", "--overwrite", context)

    def flag(
        self, parameters: dict[str, Any], name: str, flag: str, context: QgsProcessingContext
    ) -> list[str]:
        """Return an option without a value where it is true; QGIS takes any text for true."""
        value = parameters.get(name)
        if isinstance(value, str) and value.lower() not in ("", "true", "false", "1", "0"):
            raise QgsProcessingException(f"{name} {value}: neither true nor false")
        return [flag] if self.parameterAsBool(parameters, name, context) else []

    def check_used(self, parameters: dict[str, Any], owner: str, *names: str) -> None:
        """Raise QgsProcessingException for parameters that would do nothing without another."""
        if parameters.get(owner) not in (None, ""):
            return
        for name in names:
            value = parameters.get(name)
            if value not in (None, "", self.parameterDefinition(name).defaultValue()):
                raise QgsProcessingException(f"{name} {value}: does nothing without {owner}")

    def number(
        self, parameters: dict[str, Any], name: str, flag: str, context: QgsProcessingContext
    ) -> list[str]:
        """Return the option of a number; nothing where it is not given."""
        if parameters.get(name) in (None, ""):
            return []
        return [f"{flag}={checked_number(name, parameters[name])!r}"]

    def text(
        self, parameters: dict[str, Any], name: str, flag: str, context: QgsProcessingContext
    ) -> list[str]:
        """Return the option of a text; nothing where it is not given."""
        value = self.parameterAsString(parameters, name, context)
        return [f"{flag}={value}"] if value else []


def checked_number(name: str, value: Any) -> float:
    """Return a number.

    Raises:
        QgsProcessingException: it is none, which QGIS takes for 0.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise QgsProcessingException(f"{name} {value}: not a number")
    return number


def raster_path(layer: QgsRasterLayer | None, title: str) -> str:
    """Return the file of a layer, as GDAL names it.

    Raises:
        QgsProcessingException: there is no layer, or GDAL does not read it.
    """
    if layer is None or not layer.isValid():
        raise QgsProcessingException(f"{title}: no raster layer that can be read")
    if layer.providerType() != "gdal":
        raise QgsProcessingException(
            f"{title}: {layer.name()} is no file ({layer.providerType()}); save it as one first"
        )
    parts = QgsProviderRegistry.instance().decodeUri("gdal", layer.source())
    if parts.get("layerName"):
        return str(layer.source())
    return (
        str(parts.get("vsiPrefix", "") or "")
        + str(parts["path"])
        + str(parts.get("vsiSuffix", "") or "")
    )
