"""Stand-ins for QGIS and Qt, with enums where QGIS 3.22 and Qt 5, or QGIS 4 and Qt 6, have them."""

from __future__ import annotations

import sys
import types
import zipfile

#: Enum members that the plugin uses, as (class, scope, member) of QGIS 4 and (class, member) of 3.
SCOPED = (
    *(
        ("Qgis", "ProcessingNumberParameterType", "Double"),
        ("Qgis", "ProcessingFileParameterBehavior", "File"),
    ),
    *(
        ("Qgis", "ProcessingFileParameterBehavior", "Folder"),
        ("Qgis", "ShaderInterpolationMethod", "Linear"),
    ),
    *(("Qgis", "ProcessingParameterFlag", "Advanced"), ("Qgis", "ProcessingSourceType", "Raster")),
    ("Qgis", "ProcessingSourceType", "VectorAnyGeometry"),
    ("QgsContrastEnhancement", "ContrastEnhancementAlgorithm", "StretchToMinimumMaximum"),
    *(("Qgis", "RasterRangeLimit", "CumulativeCut"), ("QgsTask", "Flag", "CanCancel")),
)
PLAIN = (
    *(("QgsProcessingParameterNumber", "Double"), ("QgsProcessingParameterFile", "File")),
    *(("QgsProcessingParameterFile", "Folder"), ("QgsColorRampShader", "Interpolated")),
    *(("QgsProcessingParameterDefinition", "FlagAdvanced"), ("QgsProcessing", "TypeRaster")),
    ("QgsProcessing", "TypeVectorAnyGeometry"),
    ("QgsContrastEnhancement", "StretchToMinimumMaximum"),
    *(("QgsRasterMinMaxOrigin", "CumulativeCut"), ("QgsTask", "CanCancel")),
)


class Module(types.ModuleType):
    """A module that has every class that is asked for, without attributes of its own."""

    absent: tuple[str, ...] = ()

    def __getattr__(self, name):
        if name.startswith("__") or name in self.absent:
            raise AttributeError(name)
        made = type(name, (), {})
        setattr(self, name, made)
        return made


def stubs(version):
    """Return name -> module of QGIS 3 or 4."""
    names = ["qgis", "qgis.core", "qgis.PyQt"]
    modules = {name: Module(name) for name in names}
    for part in ("QtCore", "QtGui", "QtWidgets"):
        modules[f"qgis.PyQt.{part}"] = Module(f"qgis.PyQt.{part}")
    # QAction moved from one to the other with Qt 6.
    modules[f"qgis.PyQt.{'QtWidgets' if version == 4 else 'QtGui'}"].absent = ("QAction",)
    modules["qgis.PyQt.QtCore"].pyqtSignal = lambda *types: None
    core = modules["qgis.core"]
    for path in SCOPED if version == 4 else PLAIN:
        owner = getattr(core, path[0])
        for scope in path[1:-1]:
            if not hasattr(owner, scope):
                setattr(owner, scope, type(scope, (), {}))
            owner = getattr(owner, scope)
        setattr(owner, path[-1], 1)
    modules["qgis"].core = core
    modules["qgis.PyQt"].QtCore = modules["qgis.PyQt.QtCore"]
    return modules


def forget():
    """Remove the plugin's modules, so that they are imported anew."""
    for name in [n for n in sys.modules if n.partition(".")[0] == "crossband_provider"]:
        del sys.modules[name]


def wheel_of_a_stand_in(folder):
    """Write a wheel named crossband without any dependency; return its path."""
    path, info = folder / "crossband-9.9-py3-none-any.whl", "crossband-9.9.dist-info"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("crossband/__init__.py", "")
        made.writestr("crossband/__main__.py", "def main():\n    print('crossband 9.9')\nmain()\n")
        made.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: crossband\nVersion: 9.9\n")
        made.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        made.writestr(
            f"{info}/entry_points.txt", "[console_scripts]\ncrossband=crossband.__main__:main\n"
        )
        made.writestr(f"{info}/RECORD", "")
    return path
