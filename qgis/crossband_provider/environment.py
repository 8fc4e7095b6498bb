"""Where `crossband` is: a folder that the user chose, the plugin's own environment, or PATH."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

from .child import Failed, clean_environment

#: Pythons that Crossband runs on: at least the first, below the second.
PYTHONS = ((3, 11), (3, 14))
_WINDOWS = os.name == "nt"
_BIN, _EXE = ("Scripts", ".exe") if _WINDOWS else ("bin", "")
_HERE = os.path.dirname(os.path.abspath(__file__))


def command_in(folder: str) -> str | None:
    """Return the command of an environment, or of the folder that holds it; None without one."""
    for place in (folder, os.path.join(folder, _BIN)):
        path = os.path.join(place, f"crossband{_EXE}")
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def find_command(chosen: str, own: str) -> str:
    """Return the path of the command.

    Args:
        chosen: folder that the user chose; empty where none.
        own: folder of the plugin's own environment.

    Raises:
        Failed: it is nowhere; the text says what to do.
    """
    if chosen:
        found = command_in(chosen)
        if found is None:
            raise Failed(f"{chosen}: no crossband is in this folder; choose another in {MENU}")
        return found
    found = command_in(own) or shutil.which("crossband")
    if found is None:
        raise Failed(f"Crossband is not installed; install it with one button: {MENU}")
    return found


#: Where the dialog is.
MENU = "Plugins > Crossband > Set up Crossband"


def find_python() -> str:
    """Return a Python that Crossband runs on: that of QGIS, or one on PATH.

    Raises:
        Failed: there is none.
    """
    for path in _pythons():
        if _fits(path):
            return path
    low, high = (".".join(map(str, version)) for version in PYTHONS)
    raise Failed(
        f"no Python from {low} to below {high} with venv was found; install one, or choose the "
        "folder of an environment with Crossband"
    )


def _pythons() -> Iterator[str]:
    """Yield paths that may be a Python; `sys.executable` may be QGIS itself."""
    inside = [
        sys.executable,
        getattr(sys, "_base_executable", ""),
        os.path.join(sys.exec_prefix, "python.exe"),
    ]
    inside.append(os.path.join(sys.exec_prefix, "bin", "python3"))
    for path in inside:
        if path and os.path.basename(path).lower().startswith("python") and os.path.isfile(path):
            yield path
    for minor in range(PYTHONS[1][1] - 1, PYTHONS[0][1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found:
            yield found
    for name in ("python3", "python"):
        found = shutil.which(name)
        if found:
            yield found


def _fits(python: str) -> bool:
    """Return whether a program is a Python of the right version that can make environments."""
    code = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    try:
        done = subprocess.run(
            [python, "-I", "-c", code],
            capture_output=True,
            env=clean_environment(),
            timeout=30,
            check=True,
            text=True,
        )
        major, minor = map(int, done.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return False
    return PYTHONS[0] <= (major, minor) < PYTHONS[1]


def bundled_package() -> str:
    """Return the wheel that lies in the plugin; without one, the name for the package index."""
    wheels = sorted(glob.glob(os.path.join(_HERE, "wheel", "crossband-*.whl")))
    return wheels[-1] if wheels else "crossband"


def installation(python: str, folder: str, package: str) -> list[tuple[str, list[str]]]:
    """Return the steps that make an environment, each with its title and command.

    Args:
        python: to make it with.
        folder: of the environment; what was there is replaced.
        package: wheel, folder or name of Crossband.
    """
    inside = os.path.join(folder, _BIN, f"python{_EXE}")
    pip = [
        inside,
        "-I",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "install",
        "--progress-bar",
        "off",
    ]
    constraints = os.path.join(_HERE, "wheel", "constraints.txt")
    tested = ["-c", constraints] if os.path.isfile(constraints) else []
    return [
        ("making the environment", [python, "-I", "-m", "venv", "--clear", folder]),
        ("downloading and installing (torch is large)", [*pip, *tested, package]),
        ("trying it", [inside, "-I", "-m", "crossband", "--version"]),
    ]
