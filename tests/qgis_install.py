"""Press the button "Install Crossband" in a QGIS without a window; QGIS' Python starts this.

    python qgis_install.py WHEEL [--cancel]

Prints as JSON what the dialog then says, its log, and how far the bar came.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QEventLoop

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "qgis"))


def main():
    """Install, and wait for the end."""
    application = QgsApplication([], True)
    application.initQgis()
    from crossband_provider import dialog, settings

    dialog.bundled_package = lambda: sys.argv[1]
    window = dialog.SetUpDialog()
    window.show()
    loop, values = QEventLoop(), []
    window.bar.valueChanged.connect(values.append)
    window.start()
    window._task.ended.connect(lambda error: loop.quit())
    if "--cancel" in sys.argv:
        window._task.said.connect(lambda line: window.stop())
    loop.exec()
    told = {
        "state": window.state.text(),
        "log": window.log.toPlainText(),
        "highest": max(values, default=0),
        "own": settings.own_environment(),
        "exists": Path(settings.own_environment()).exists(),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


main()
