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
    """Run the real command in the repository.

    Raises:
        SystemExit: it failed, and has said why.
    """
    command = [sys.executable, "-m", "crossband", *map(str, arguments)]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code:
        raise SystemExit(code)
