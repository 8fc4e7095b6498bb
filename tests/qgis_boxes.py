"""Show the parameter INDEX of each algorithm as QGIS does; QGIS' Python starts this.

Prints as JSON the names of the boxes, and what the parameter is once the second one is ticked.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "qgis"))


def main():
    """Build the widgets."""
    # Only QGIS' Python has these, and pytest imports this file for its doctests.
    from qgis.core import QgsApplication, QgsProcessingContext
    from qgis.gui import QgsGui, QgsProcessingGui
    from qgis.PyQt.QtWidgets import QCheckBox

    application = QgsApplication([], True)
    application.initQgis()
    from crossband_provider.provider import CrossbandProvider

    provider = CrossbandProvider()
    QgsApplication.processingRegistry().addProvider(provider)
    context, told = QgsProcessingContext(), {}
    for algorithm in provider.algorithms():
        parameter = algorithm.parameterDefinition("INDEX")
        if parameter is None:
            continue
        registry = QgsGui.processingGuiRegistry()
        wrapper = registry.createParameterWidgetWrapper(parameter, QgsProcessingGui.Standard)
        widget = wrapper.createWrappedWidget(context)  # which owns the boxes
        boxes = widget.findChildren(QCheckBox)
        for box in boxes:
            box.setChecked(box.text() == "EVI")
        names = [box.text() for box in boxes]
        told[algorithm.name()] = {"names": names, "chosen": wrapper.parameterValue()}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
