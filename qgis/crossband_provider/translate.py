"""The algorithm Translate: `crossband translate` of a layer."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputMultipleLayers,
    QgsProcessingParameterBand,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterExtent,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
)

from .base import CrossbandAlgorithm, checked_number, raster_path
from .catalogue import BANDS, FROM_FILE, GUIDE_METHODS, PROMISES, SENSORS
from .layers import show
from .run import run_crossband


class Translate(CrossbandAlgorithm):
    """Translates a raster layer into a band that its sensor did not take."""

    NAME, TITLE, PAGE = "translate", "Translate", "translating.md"
    HELP = (
        "Makes from the image of one sensor the image that another would have taken: near infrared "
        "from colours, colours from radar, finer pixels.\n\n"
        "The result is synthetic, and says so in its name, legend and tags. Bands, units, nodata "
        "and georeference are read from the file; what it does not say is stated here, and never "
        "guessed.\n\n"
        "Indices, intervals and familiarity are written beside the result, as nir_NDVI.tif. An "
        "interval holds the truth with the probability that is given. Familiarity says how unlike "
        "the places of the training a place is.\n\n"
        "A guide is a coarser or earlier measurement of the bands that are made. It corrects them."
    )

    def initAlgorithm(self, configuration: Any = None) -> None:
        """Add the parameters."""
        self.add(QgsProcessingParameterRasterLayer("INPUT", "Scene"))
        self.add_model()
        self.add_radiometry()
        for band in BANDS:
            self.add(
                QgsProcessingParameterBand(
                    f"BAND_{band.upper()}",
                    f"Band of {band}, where the file does not say",
                    None,
                    "INPUT",
                    True,
                ),
                advanced=band not in BANDS[:3],
            )
        self.add_indices("Spectral indices (--index)")
        self.add(QgsProcessingParameterExtent("EXTENT", "Only this part (--extent)", None, True))
        self.add(QgsProcessingParameterRasterLayer("GUIDE", "Guide (--guide)", None, True))
        self.add_choice(
            "GUIDE_SENSOR",
            "Sensor of the guide (--guide-sensor)",
            SENSORS,
            default=FROM_FILE,
            advanced=True,
        )
        self.add_choice(
            "GUIDE_METHOD",
            "How the guide corrects (--guide-method)",
            GUIDE_METHODS,
            default=GUIDE_METHODS[0],
            advanced=True,
        )
        self.add_text("GUIDE_BANDS", "Bands of the guide, as nir=4 (--guide-bands)")
        self.add_number(
            "INTERVAL",
            "Interval: its probability, as 0.9 (--interval)",
        )
        self.add_choice(
            "PROMISE",
            "What the probability means (--promise)",
            PROMISES,
            default=PROMISES[0],
            advanced=True,
        )
        self.add(
            QgsProcessingParameterBoolean(
                "FAMILIARITY", "Familiarity of the places (--familiarity)", False
            ),
            advanced=True,
        )
        self.add(
            QgsProcessingParameterBoolean(
                "FLOAT", "Store physical units as float32 (--dtype)", False
            ),
            advanced=True,
        )
        self.add_computing()
        self.add(QgsProcessingParameterRasterDestination("OUTPUT", "Synthetic image"))
        self.addOutput(QgsProcessingOutputMultipleLayers("BESIDE", "Files beside it"))

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Run the command, and show its files."""
        layer = self.parameterAsRasterLayer(parameters, "INPUT", context)
        source = raster_path(layer, "Scene")
        output = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        words = [
            *("translate", source, "-o", output),
            *self.model(parameters, context),
            *self.radiometry(parameters, context),
            *self._bands(parameters),
            *self.indices(parameters, context),
            *self._extent(parameters, context, layer),
            *self._guide(parameters, context),
            *self._interval(parameters, context),
            *self.flag(parameters, "FLOAT", "--dtype=float32", context),
            *self.computing(parameters, context),
        ]
        done = run_crossband(words, [output], feedback)
        beside = [path for path in done.files[1:] if path.endswith(".tif")]
        show([output, *beside], context, self._model_name(parameters, context))
        return {"OUTPUT": output, "BESIDE": beside}

    def _model_name(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        return (
            self.model(parameters, context)[0]
            .partition("=")[2]
            .rstrip("/\\")
            .replace("\\", "/")
            .rpartition("/")[2]
        )

    def _bands(self, parameters: dict[str, Any]) -> list[str]:
        """Return the option of the bands that were chosen."""
        chosen = []
        for band in BANDS:
            name = f"BAND_{band.upper()}"
            if parameters.get(name) not in (None, ""):
                number = checked_number(name, parameters[name])
                if not number.is_integer():
                    raise QgsProcessingException(f"{name} {parameters[name]}: not a whole number")
                chosen.append(f"{band}={int(number)}")
        return [f"--bands={','.join(chosen)}"] if chosen else []

    def _extent(
        self, parameters: dict[str, Any], context: QgsProcessingContext, layer: Any
    ) -> list[str]:
        if parameters.get("EXTENT") in (None, ""):
            return []
        extent = self.parameterAsExtent(parameters, "EXTENT", context, layer.crs())
        if extent.isEmpty():
            raise QgsProcessingException(
                f"EXTENT {parameters['EXTENT']}: not xmin,xmax,ymin,ymax, or it is empty"
            )
        sides = (extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum())
        return [f"--extent={','.join(repr(side) for side in sides)}"]

    def _guide(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        self.check_used(parameters, "GUIDE", "GUIDE_SENSOR", "GUIDE_METHOD", "GUIDE_BANDS")
        if parameters.get("GUIDE") in (None, ""):
            return []
        guide = raster_path(self.parameterAsRasterLayer(parameters, "GUIDE", context), "Guide")
        sensor = self.parameterAsEnumString(parameters, "GUIDE_SENSOR", context)
        method = self.parameterAsEnumString(parameters, "GUIDE_METHOD", context)
        return [
            f"--guide={guide}",
            # A network that takes a guide refuses every method.
            *([f"--guide-method={method}"] if method != GUIDE_METHODS[0] else []),
            *([f"--guide-sensor={sensor}"] if sensor and sensor != FROM_FILE else []),
            *self.text(parameters, "GUIDE_BANDS", "--guide-bands", context),
        ]

    def _interval(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        self.check_used(parameters, "INTERVAL", "PROMISE")
        words = self.number(parameters, "INTERVAL", "--interval", context)
        if words:
            words.append(f"--promise={self.parameterAsEnumString(parameters, 'PROMISE', context)}")
        return [*words, *self.flag(parameters, "FAMILIARITY", "--familiarity", context)]
