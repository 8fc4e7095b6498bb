"""The report that the README shows: a bundled model on places that it never saw.

    python benchmarks/report.py [--model super-resolution-x2] [--output runs/report]

Writes the manifest of the held-out places (those of benchmarks/bundled.py), runs `crossband
evaluate` on them, and, where there is a Chromium, takes the README's picture of the page
(docs/report.png). The images lie beside the repository (`--data`).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

import bundled
from rgb2nir import ROOT, crossband

#: Size of the picture in pixels, and of a pixel of the page.
SIZE, ZOOM = (1180, 1560), 1


def main() -> None:
    """Evaluate, and take the picture."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "report")
    parser.add_argument(
        "--model", default="super-resolution-x2", choices=bundled.MODELS[:2], help="held-out places"
    )
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "report.png")
    a = parser.parse_args()
    rows = bundled.pairs(a.model, a.data)
    rows = rows[rows["split"] == "test"].reset_index(drop=True)
    rows["target_window"] = [bundled.middle(r) for r in rows.itertuples()]
    a.output.mkdir(parents=True, exist_ok=True)
    manifest = a.output / "held-out.csv"
    rows.to_csv(manifest, index=False)
    crossband(
        "evaluate", "--model", a.model, "--manifest", manifest.relative_to(ROOT), "--by", "family",
        "-o", (a.output / a.model).relative_to(ROOT), "--overwrite",
    )  # fmt: skip
    page = a.output / a.model / "index.html"
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        print(f"{page}: open it; there is no Chromium here to take a picture")
        return
    subprocess.run(
        [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--force-device-scale-factor={ZOOM}", f"--window-size={SIZE[0]},{SIZE[1]}",
            f"--screenshot={a.picture}", page.resolve().as_uri(),
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    print(a.picture)


if __name__ == "__main__":
    main()
