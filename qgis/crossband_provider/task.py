"""Install Crossband in the background."""

from __future__ import annotations

import shutil

from qgis.core import QgsTask
from qgis.PyQt.QtCore import pyqtSignal

from .child import Cancelled, Child, Failed
from .enums import CAN_CANCEL
from .environment import find_python, installation

#: Lines of pip after which the bar stands at half of its step; nobody knows how many will come.
_HALF = 60


class InstallTask(QgsTask):
    """Makes an environment, and installs Crossband into it.

    Args:
        folder: of the environment.
        package: wheel, folder or name of Crossband.

    Attributes:
        said: signal with a line of the log.
        ended: signal with the error, empty where there is none.
    """

    said = pyqtSignal(str)
    ended = pyqtSignal(str)

    def __init__(self, folder: str, package: str) -> None:
        super().__init__("Installing Crossband", CAN_CANCEL)
        self._folder, self._package = folder, package
        self._error = ""

    def run(self) -> bool:
        """Run the steps; called in a thread of its own."""
        try:
            steps = installation(find_python(), self._folder, self._package)
            for number, (title, command) in enumerate(steps):
                self.said.emit(f"[{number + 1}/{len(steps)}] {title}")
                self.setProgress(100 * number / len(steps))
                self._step(number / len(steps), 1 / len(steps), command)
            self.setProgress(100)
        except (Cancelled, Failed) as error:
            self._error = str(error) or "cancelled; nothing was installed"
            shutil.rmtree(self._folder, ignore_errors=True)
            return False
        return True

    def _step(self, begin: float, share: float, command: list[str]) -> None:
        child = Child(command, self.isCanceled)
        for count, line in enumerate(child.lines(), 1):
            self.said.emit(line)
            self.setProgress(100 * (begin + share * count / (count + _HALF)))
        if child.exit_code != 0:
            for line in child.errors:
                self.said.emit(line)
            last = [line for line in child.errors if line.strip()] or ["it said nothing"]
            raise Failed(f"the installation failed: {last[-1]}")

    def finished(self, result: bool) -> None:
        """Tell the dialog; called in the thread of the window."""
        self.ended.emit(self._error if not result else "")
