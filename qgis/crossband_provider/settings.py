"""What the plugin remembers, and the folders and version that it knows."""

from __future__ import annotations

import configparser
import os

from qgis.core import QgsApplication, QgsSettings

_CHOSEN = "crossband/folder"
HERE = os.path.dirname(os.path.abspath(__file__))


def chosen_folder() -> str:
    """Return the folder with `crossband` that the user chose; empty where none."""
    return str(QgsSettings().value(_CHOSEN, "") or "")


def choose_folder(folder: str) -> None:
    """Remember a folder; an empty one means the plugin's own environment, or PATH."""
    QgsSettings().setValue(_CHOSEN, folder)


def own_environment() -> str:
    """Return the folder of the plugin's own environment, which may not exist yet."""
    return os.path.join(QgsApplication.qgisSettingsDirPath(), "crossband", "environment")


def plugin_version() -> str:
    """Return the version in metadata.txt, which is that of Crossband."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(os.path.join(HERE, "metadata.txt"), encoding="utf-8")
    return parser["general"]["version"]
