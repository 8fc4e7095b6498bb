"""Build the plugin's zip, as the plugin repository of QGIS takes it; `make qgis` runs this.

    python qgis/package.py dist

The newest wheel of Crossband in that folder goes into the zip, with the versions that were tested.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "qgis" / "crossband_provider"
#: The same bytes for the same files, whenever they are built.
_TIME = (2026, 1, 1, 0, 0, 0)


def contents(wheel: Path) -> dict[str, Path]:
    """Return name in the zip -> file."""
    files = {
        f"{PLUGIN.name}/{path.name}": path for path in sorted(PLUGIN.iterdir()) if path.is_file()
    }
    files[f"{PLUGIN.name}/LICENSE"] = ROOT / "LICENSE"
    files[f"{PLUGIN.name}/wheel/{wheel.name}"] = wheel
    files[f"{PLUGIN.name}/wheel/constraints.txt"] = ROOT / "constraints.txt"
    return files


def version() -> str:
    """Return the version in metadata.txt."""
    lines = (PLUGIN / "metadata.txt").read_text(encoding="utf-8").splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("version="))


def build(folder: Path) -> Path:
    """Write the zip into a folder that has the wheel of the same version; return its path."""
    wheel = next(iter(folder.glob(f"crossband-{version()}-*.whl")), None)
    if wheel is None:
        sys.exit(f"{folder}: no wheel of Crossband {version()}; make wheel builds it")
    path = folder / f"{PLUGIN.name}-{version()}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, file in contents(wheel).items():
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(entry, file.read_bytes())
    return path


if __name__ == "__main__":
    sys.stdout.write(f"{build(Path(sys.argv[1]))}\n")
