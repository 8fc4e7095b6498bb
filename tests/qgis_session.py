"""Run one algorithm in a QGIS without a window; QGIS' Python starts this, and tests read the JSON.

    python qgis_session.py ALGORITHM PARAMETERS [--cancel]

With `--cancel` the user cancels at the first sign of progress. Layers are loaded as in a window.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputLayerDefinition,
    QgsProject,
    QgsRasterLayer,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "qgis"))


class Feedback(QgsProcessingFeedback):
    """Keeps what is said, and cancels at the first sign of progress where it is told to."""

    def __init__(self, cancels):
        super().__init__(False)
        self.cancels, self.said = cancels, []

    def setProgressText(self, text):
        self.said.append(text)
        if self.cancels:
            self.cancel()

    def pushInfo(self, text):
        self.said.append(text)

    def pushWarning(self, text):
        self.said.append(text)


def shown(layer):
    """Return what a window shows of a layer."""
    about = layer.metadata()
    return {
        "name": layer.name(),
        "renderer": layer.renderer().type(),
        "suffix": suffix(layer.renderer()),
        "title": about.title(),
        "abstract": about.abstract(),
        "history": about.history(),
    }


def suffix(renderer):
    """Return what a continuous legend has behind its numbers; None for colours."""
    if renderer.type() == "multibandcolor":
        return None
    gray = renderer.type() == "singlebandgray"
    owner = renderer if gray else renderer.shader().rasterShaderFunction()
    return owner.legendSettings().suffix()


def run(algorithm, parameters, cancels):
    """Run an algorithm; return its results, what it said, and the layers."""
    context, feedback = QgsProcessingContext(), Feedback(cancels)
    project = QgsProject.instance()
    context.setProject(project)
    found = QgsApplication.processingRegistry().algorithmById(algorithm).create()
    if found.parameterDefinition("OUTPUT").type() == "rasterDestination":
        parameters["OUTPUT"] = QgsProcessingOutputLayerDefinition(parameters["OUTPUT"], project)
    try:
        results, _ = found.run(parameters, context, feedback, {}, False)
    except QgsProcessingException as error:
        return {"error": str(error), "said": feedback.said}
    layers = []
    for path, details in context.layersToLoadOnCompletion().items():
        layer = QgsRasterLayer(path, details.name)
        details.postProcessor().postProcessLayer(layer, context, feedback)
        layers.append(shown(layer))
    return {"results": results, "said": feedback.said, "layers": layers}


def main():
    """Start QGIS, register the provider and run."""
    application = QgsApplication([], False)
    application.initQgis()
    from crossband_provider.provider import CrossbandProvider

    provider = CrossbandProvider()
    QgsApplication.processingRegistry().addProvider(provider)
    done = run(sys.argv[1], json.loads(sys.argv[2]), "--cancel" in sys.argv)
    sys.stdout.write(json.dumps(done, default=str) + "\n")
    sys.stdout.flush()


main()
