"""What every script shares: the repository, its command, the shared images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: The images lie beside the repository; their SOURCES.md says where they come from.
DATA = ROOT.parent / "shared" / "data"


def crossband(*arguments: Any) -> None:
    """Run the real command in the repository."""
    command = [sys.executable, "-m", "crossband", *map(str, arguments)]
    subprocess.run(command, check=True, cwd=ROOT)
