"""The picture of an evaluation that the README shows: a bundled model at the places of its vault.

    python benchmarks/report.py [--model rgb2nir]

Takes a picture (docs/report.png) of the page that `bundled.py judge` wrote, with Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

from bundled import MODELS, RUNS
from project import ROOT

#: Size of the picture in pixels, and of a pixel of the page.
SIZE, ZOOM = (1180, 1560), 1


def main() -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="rgb2nir", choices=sorted(MODELS))
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "report.png")
    a = parser.parse_args()
    page = ROOT / RUNS / a.model / "report" / "index.html"
    if not page.is_file():
        raise SystemExit(f"{page}: no such page; run: bundled.py judge {a.model}")
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        raise SystemExit(f"{page}: open it; there is no Chromium here to take a picture")
    subprocess.run(
        [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--force-device-scale-factor={ZOOM}", f"--window-size={SIZE[0]},{SIZE[1]}",
            f"--screenshot={a.picture}", page.as_uri(),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    print(a.picture)


if __name__ == "__main__":
    main()
