"""Random reads from a pack, beside the libraries that were thought of for it.

    pip install webdataset             # and, without its dependencies, litdata with obstore, boto3
    python benchmarks/pack_libraries.py [--rounds 5] [--json FILE]

The same blocks (four bands of 128 x 128, 16 bits, zstd) lie in litdata's chunks and in tar shards.
Whole blocks are read: by litdata's `StreamingDataset[i]` at random, by Crossband's index at random,
and by webdataset's pipeline one after another, which is the only order that it has. Ways take
turns; the median of the rounds' blocks per second, with the least and the most.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from loader import pictures

from crossband.data.packed.raster import unpack_plane
from crossband.data.packed.read import Pack

SIDE, BLOCK, BANDS = 512, 128, 4
WHOLE = (slice(None), slice(None))


def blocks(pack: Pack) -> Iterator[list[bytes]]:
    """Yield the planes of every block."""
    for number in range(len(pack.names)):
        for row in range(SIDE // BLOCK):
            for col in range(SIDE // BLOCK):
                planes = pack.read_blocks(number, [(row, col)], range(BANDS))[0]
                yield [bytes(p) for p in planes]


def unpacked(planes: list[Any]) -> None:
    """Decode a block, as all ways do."""
    for plane in planes:
        unpack_plane(plane, (BLOCK, BLOCK), "uint16", WHOLE)


def ways(pack: Pack, folder: Path) -> dict[str, Callable[[int], None]]:
    """Return what reads so many blocks, by name."""
    found = list(blocks(pack))
    rng = np.random.default_rng(0)

    def crossband(count: int) -> None:
        for at in rng.integers(len(found), size=count):
            number, cell = divmod(int(at), (SIDE // BLOCK) ** 2)
            cells = [divmod(cell, SIDE // BLOCK)]
            unpacked(pack.read_blocks(number, cells, range(BANDS))[0])

    out: dict[str, Callable[[int], None]] = {"Crossband's index, at random": crossband}
    try:
        import webdataset
    except ImportError:
        print("webdataset is not installed")
    else:
        shards = sorted(str(p) for p in (Path(pack.root) / "shards").iterdir())
        sizes = [[len(p) for p in planes] for planes in found]

        def sequential(count: int) -> None:
            stream = webdataset.WebDataset(shards, shardshuffle=False)
            for at, sample in zip(range(count), stream, strict=False):
                ends = np.cumsum([0, *sizes[at % len(sizes)]])
                unpacked([sample["zst"][i:j] for i, j in itertools.pairwise(ends)])

        out["webdataset, in order"] = sequential
    try:
        import litdata
    except ImportError:
        print("litdata is not installed")
        return out
    writer = litdata.streaming.cache.Cache(str(folder / "lit"), chunk_bytes=2**25)
    for at, planes in enumerate(found):
        writer[at] = {str(n): p for n, p in enumerate(planes)}
    writer.done()
    writer.merge()
    stream = litdata.StreamingDataset(str(folder / "lit"))

    def lit(count: int) -> None:
        for at in rng.integers(len(found), size=count):
            unpacked(list(stream[int(at)].values()))

    return out | {"litdata, at random": lit}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--json", type=Path, help="write the numbers to FILE")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pack = Pack(str(pictures(folder, a.scenes, SIDE)["packed"]), None)
        pack.load()
        chosen = ways(pack, folder)
        rates: dict[str, list[float]] = {way: [] for way in chosen}
        count = 500
        for turn in range(a.rounds + 1):
            for way, read in chosen.items():
                begun = time.perf_counter()
                read(count)
                if turn:  # the first is the warm-up
                    rates[way].append(count / (time.perf_counter() - begun))
    print(f"| way | blocks/s ({a.rounds} rounds) |\n|---|---|")
    for way, found in rates.items():
        print(f"| {way} | {statistics.median(found):.0f} ({min(found):.0f} to {max(found):.0f}) |")
    if a.json:
        a.json.write_text(json.dumps(rates, indent=1) + "\n")


if __name__ == "__main__":
    main()
