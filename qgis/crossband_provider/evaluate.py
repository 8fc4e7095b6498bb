"""The algorithm Evaluate: `crossband evaluate` of a model on true pairs."""

from __future__ import annotations

import os
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputHtml,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
)

from .base import CrossbandAlgorithm
from .enums import FILE
from .run import run_crossband

#: Tables of pairs, as a file dialog filters them.
MANIFESTS = "Tables of pairs (*.csv *.parquet)"


class Evaluate(CrossbandAlgorithm):
    """Holds a model against true pairs and baselines."""

    NAME, TITLE, PAGE = "evaluate", "Evaluate", "evaluating.md"
    HELP = (
        "Holds a model against true pairs of source and target, beside trivial baselines on the "
        "same pixels, and writes a page with tables, plots and pictures.\n\n"
        "Pairs are a table with the columns source and target (and bands, sensor, group, split)."
    )

    def initAlgorithm(self, configuration: Any = None) -> None:
        """Add the parameters."""
        self.add(
            QgsProcessingParameterFile(
                "MANIFEST", "Table of pairs", FILE, "", None, False, MANIFESTS
            )
        )
        self.add_model()
        self.add_text("SPLIT", "Split: train, val or test (--split)", advanced=False)
        self.add_indices("Spectral indices to judge (--index)")
        self.add_computing()
        self.add(QgsProcessingParameterFolderDestination("OUTPUT", "Folder of the report"))
        self.addOutput(QgsProcessingOutputHtml("PAGE", "Page of the report"))

    def processAlgorithm(
        self,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Run the command."""
        folder = self.parameterAsString(parameters, "OUTPUT", context)
        words = [
            *("evaluate", "--manifest", self.parameterAsString(parameters, "MANIFEST", context)),
            *("-o", folder),
            *self.model(parameters, context),
            *self.text(parameters, "SPLIT", "--split", context),
            *self.indices(parameters, context),
            *self.computing(parameters, context),
        ]
        run_crossband(words, [folder], feedback)
        return {"OUTPUT": folder, "PAGE": os.path.join(folder, "index.html")}
