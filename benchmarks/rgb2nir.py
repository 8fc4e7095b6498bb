"""The bundled `rgb2nir`: its error on the inner folds and at the vault, side by side.

    python benchmarks/rgb2nir.py [--json FILE]

The same as `bundled.py table rgb2nir`; see there.
"""

import argparse
from pathlib import Path

import bundled

if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers to FILE")
    bundled.table("rgb2nir", parser.parse_args().json)
