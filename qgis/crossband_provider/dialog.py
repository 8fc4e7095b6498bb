"""The dialog that finds Crossband, or installs it with one button and visible progress."""

from __future__ import annotations

import os

from qgis.core import QgsApplication
from qgis.PyQt.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from .child import Failed
from .environment import bundled_package, command_in, find_command
from .settings import choose_folder, chosen_folder, own_environment, plugin_version
from .task import InstallTask

try:  # Qt 6
    from qgis.PyQt.QtGui import QAction
except ImportError:
    from qgis.PyQt.QtWidgets import QAction

__all__ = ["QAction", "SetUpDialog"]


class SetUpDialog(QDialog):
    """Says where Crossband is, and has a button for each way to get it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Set up Crossband")
        self.setMinimumWidth(560)
        self._task: InstallTask | None = None
        self.state = QLabel()
        self.state.setWordWrap(True)
        about = QLabel(
            "Crossband runs in a Python environment of its own. Nothing is installed into the "
            "Python of QGIS."
        )
        about.setWordWrap(True)
        self.install = QPushButton("Install Crossband")
        self.choose = QPushButton("Choose a folder...")
        self.forget = QPushButton("Look again")
        self.cancel = QPushButton("Cancel")
        self.bar = QProgressBar()
        self.log = QPlainTextEdit()
        self.log.setReadOnly(True)
        self.log.setMinimumHeight(160)
        buttons = QHBoxLayout()
        for button, press in (
            (self.install, self.start),
            (self.choose, self.pick),
            (self.forget, self.reset),
            (self.cancel, self.stop),
        ):
            button.clicked.connect(press)
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        for widget in (self.state, about):
            layout.addWidget(widget)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.log)
        self.bar.hide()
        self.log.hide()
        self.cancel.hide()

    def look(self) -> None:
        """Show where Crossband is found."""
        try:
            command = find_command(chosen_folder(), own_environment())
            self.state.setText(
                f"Crossband is at {command}.\nThe plugin is for version {plugin_version()}."
            )
        except Failed as failed:
            self.state.setText(str(failed))

    def pick(self, checked: bool = False) -> None:
        """Let the user choose an environment that has Crossband."""
        folder = QFileDialog.getExistingDirectory(self, "Folder of an environment with Crossband")
        if folder:
            self.use(folder)

    def use(self, folder: str) -> None:
        """Take a folder, if Crossband is in it."""
        if command_in(folder) is None:
            self.state.setText(f"{folder}: no crossband is in this folder")
            return
        choose_folder(folder)
        self.look()

    def reset(self, checked: bool = False) -> None:
        """Forget the chosen folder, and look in the own environment and on PATH."""
        choose_folder("")
        self.look()

    def start(self, checked: bool = False) -> None:
        """Install Crossband into the plugin's own environment."""
        if self._task is not None:
            return
        os.makedirs(os.path.dirname(own_environment()), exist_ok=True)
        self._task = InstallTask(own_environment(), bundled_package())
        self._task.said.connect(self.log.appendPlainText)
        self._task.progressChanged.connect(lambda value: self.bar.setValue(int(value)))
        self._task.ended.connect(self._ended)
        self.log.clear()
        self._working(True)
        QgsApplication.taskManager().addTask(self._task)

    def stop(self, checked: bool = False) -> None:
        """Cancel the installation."""
        if self._task is not None:
            self._task.cancel()

    def _ended(self, error: str) -> None:
        self._task = None
        self._working(False)
        if error:
            self.state.setText(error)
        else:
            self.reset()

    def _working(self, working: bool) -> None:
        self.bar.setValue(0)
        self.bar.setVisible(working)
        self.log.setVisible(True)
        self.cancel.setVisible(working)
        for button in (self.install, self.choose, self.forget):
            button.setEnabled(not working)
