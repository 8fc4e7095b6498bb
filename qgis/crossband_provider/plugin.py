"""The plugin: the provider and, in a window, a menu entry that sets Crossband up."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsApplication

from .provider import CrossbandProvider, icon

_MENU = "Crossband"


class CrossbandPlugin:
    """What QGIS loads.

    Args:
        iface: of the window; None in `qgis_process`.
    """

    def __init__(self, iface: Any) -> None:
        self._iface = iface
        self._provider: Any = None
        self._action: Any = None
        self._dialog: Any = None

    def initProcessing(self) -> None:
        """Register the provider; all that `qgis_process` needs."""
        self._provider = CrossbandProvider()
        QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:
        """Register the provider, and add the menu entry."""
        self.initProcessing()
        if self._iface is None:
            return
        from .dialog import QAction

        self._action = QAction(icon(), "Set up Crossband...", self._iface.mainWindow())
        self._action.triggered.connect(self.set_up)
        self._iface.addPluginToMenu(_MENU, self._action)

    def set_up(self) -> None:
        """Show the dialog that finds or installs Crossband."""
        from .dialog import SetUpDialog

        if self._dialog is None:
            self._dialog = SetUpDialog(self._iface.mainWindow())
        self._dialog.look()
        self._dialog.show()
        self._dialog.raise_()

    def unload(self) -> None:
        """Take everything back."""
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None
        if self._action is not None:
            self._iface.removePluginMenu(_MENU, self._action)
            self._action = None
        if self._dialog is not None:
            self._dialog.close()
            self._dialog = None
