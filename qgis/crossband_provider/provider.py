"""The Processing provider `crossband` and its algorithms."""

from __future__ import annotations

import os

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .check_data import CheckData
from .evaluate import Evaluate
from .series import IndexThroughTime
from .settings import HERE
from .translate import Translate


def icon() -> QIcon:
    """Return the plugin's icon."""
    return QIcon(os.path.join(HERE, "icon.svg"))


class CrossbandProvider(QgsProcessingProvider):
    """Offers the algorithms in the toolbox, in models, and to `qgis_process`."""

    def loadAlgorithms(self) -> None:
        """Add every algorithm."""
        for algorithm in (Translate, IndexThroughTime, Evaluate, CheckData):
            self.addAlgorithm(algorithm())

    def id(self) -> str:
        """Return the name before the colon, as in `crossband:translate`."""
        return "crossband"

    def name(self) -> str:
        """Return the name in the toolbox."""
        return "Crossband"

    def icon(self) -> QIcon:
        """Return the plugin's icon."""
        return icon()
