"""The algorithm Index through time: `crossband series` of dated layers."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputFile,
    QgsProcessingOutputMultipleLayers,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMultipleLayers,
)

from .base import CrossbandAlgorithm, raster_path
from .enums import ANY_GEOMETRY, RASTER
from .layers import show
from .run import run_crossband


class IndexThroughTime(CrossbandAlgorithm):
    """Makes a spectral index of several dates, and its mean in places."""

    NAME, TITLE, PAGE = "series", "Index through time", "series.md"
    HELP = (
        "Translates scenes of several dates, and writes a spectral index as one raster with a band "
        "for each date, and its means in places as a table and a plot.\n\n"
        "Dates come from the files' metadata, or from their names by the pattern, as %Y%m%d."
    )

    def initAlgorithm(self, configuration: Any = None) -> None:
        """Add the parameters."""
        self.add(QgsProcessingParameterMultipleLayers("INPUT", "Scenes", RASTER))
        self.add_model()
        self.add_radiometry()
        self.add_indices("Spectral indices (--index)", default=["NDVI"])
        self.add_text(
            "DATE_PATTERN",
            "Pattern of the date in names, as %Y%m%d (--date-pattern)",
            advanced=False,
        )
        self.add_text("BANDS", "Bands, as red=3,green=2,blue=1 (--bands)")
        self.add(
            QgsProcessingParameterFeatureSource(
                "PLACES",
                "Places: points or polygons (all pixels where none)",
                [ANY_GEOMETRY],
                None,
                True,
            )
        )
        self.add(
            QgsProcessingParameterField(
                "PLACE_NAME", "Field with the names of the places", None, "PLACES", optional=True
            )
        )
        self.add_computing()
        self.add(QgsProcessingParameterFolderDestination("OUTPUT", "Folder of the results"))
        self.addOutput(QgsProcessingOutputMultipleLayers("STACKS", "Indices, a band for each date"))
        self.addOutput(QgsProcessingOutputFile("TABLE", "Table of places and dates"))

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Run the command, and show the stacks."""
        layers = self.parameterAsLayerList(parameters, "INPUT", context)
        if not layers:
            raise QgsProcessingException("Scenes: no raster layer that can be read")
        folder = self.parameterAsString(parameters, "OUTPUT", context)
        words = [
            *("series", *(raster_path(layer, "Scenes") for layer in layers), "-o", folder),
            *self.model(parameters, context),
            *self.radiometry(parameters, context),
            *self.indices(parameters, context),
            *self.text(parameters, "DATE_PATTERN", "--date-pattern", context),
            *self.text(parameters, "BANDS", "--bands", context),
            *self._places(parameters, context, feedback),
            *self.computing(parameters, context),
        ]
        done = run_crossband(words, [folder], feedback, scenes=len(layers))
        stacks = [path for path in done.files if path.endswith(".tif")]
        tables = [path for path in done.files if path.endswith(".csv")]
        show(stacks, context, self.model(parameters, context)[0].partition("=")[2])
        return {"OUTPUT": folder, "STACKS": stacks, "TABLE": tables[0] if tables else None}

    def _places(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> list[str]:
        """Return the options of the places; a layer of another format is written as GeoJSON."""
        self.check_used(parameters, "PLACES", "PLACE_NAME")
        if parameters.get("PLACES") in (None, ""):
            return []
        path = self.parameterAsCompatibleSourceLayerPath(
            parameters, "PLACES", context, ["geojson", "json"], "geojson", feedback
        )
        return [f"--places={path}", *self.text(parameters, "PLACE_NAME", "--place-name", context)]
