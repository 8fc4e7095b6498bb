"""The algorithm Check data: `crossband data check` of a table of pairs."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputBoolean,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
)

from .base import CrossbandAlgorithm
from .enums import FILE
from .evaluate import MANIFESTS
from .run import run_crossband


class CheckData(CrossbandAlgorithm):
    """Opens every file of a table of pairs, and says what is wrong with it."""

    NAME, TITLE, PAGE = "checkdata", "Check data", "data-check.md"
    HELP = (
        "Opens every file of a table of pairs, and says what is wrong: files that cannot be read, "
        "shifts, wrong units, duplicates, leaks between splits. Changes nothing."
    )

    def initAlgorithm(self, configuration: Any = None) -> None:
        """Add the parameters."""
        self.add(
            QgsProcessingParameterFile(
                "MANIFEST", "Table of pairs", FILE, "", None, False, MANIFESTS
            )
        )
        self.add_text("SOURCE", "Bands of the source, as red,green,blue (--source)")
        self.add_text("TARGET", "Bands of the target, as nir (--target)")
        self.add_number("MAX_SHIFT", "Source pixels that a target may be shifted by (--max-shift)")
        self.add_overwrite()
        self.add(QgsProcessingParameterFileDestination("OUTPUT", "Page", "HTML files (*.html)"))
        self.addOutput(QgsProcessingOutputBoolean("CLEAN", "Nothing was found"))

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Run the command; findings are an answer, and no error."""
        page = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        words = [
            *("data", "check", self.parameterAsString(parameters, "MANIFEST", context), "-o", page),
            *self.text(parameters, "SOURCE", "--source", context),
            *self.text(parameters, "TARGET", "--target", context),
            *self.number(parameters, "MAX_SHIFT", "--max-shift", context),
            *self.overwrite(parameters, context),
        ]
        done = run_crossband(words, [page], feedback, findings=(1,))
        return {"OUTPUT": page, "CLEAN": done.exit_code == 0}
