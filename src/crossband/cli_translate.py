"""The command `crossband translate`: options, jobs, progress.

Nothing here imports torch before the command runs, so that `--help` is immediate.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossband.errors import CrossbandError, Interrupted, OutputError
from crossband.raster.remote import name_of

#: Seconds between two lines of progress where there is no terminal.
LINE_SECONDS = 15.0


def add_translate(sub: Any) -> None:
    """Add the command to the parser's commands."""
    p = sub.add_parser(
        "translate",
        help="translate scenes with a model",
        epilog="Until a scene is finished, its windows are kept in the hidden folder "
        ".OUTPUT.crossband beside the output. After Ctrl-C, a kill or a power cut the same command "
        "with --resume computes only what is missing; without it the folder is removed.",
    )
    p.set_defaults(run=_translate)
    p.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="rasters that GDAL reads; https:// and s3:// too"
    )
    p.add_argument("-o", "--output", required=True, help="file (one input) or folder")
    p.add_argument("--model", default="rgb2nir", help="bundled name, folder or hf://owner/name")
    p.add_argument("--bands", help="as in red=3,green=2,blue=1: band numbers or names in the file")
    p.add_argument("--sensor", help="what took the scene; 'crossband sensors' lists them")
    p.add_argument("--scale", type=float, help="physical = stored x SCALE + OFFSET")
    p.add_argument("--offset", type=float, help="see --scale; both win over file and sensor")
    p.add_argument("--index", action="append", default=[], help="also write this spectral index")
    p.add_argument("--overwrite", action="store_true", help="replace existing files")
    p.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    p.add_argument("--quiet", action="store_true", help="no progress, no summary")

    g = p.add_argument_group("the file")
    g.add_argument("--dtype", help="float32 for physical units; default: as the source")
    g.add_argument(
        "--out-scale", type=float, help="of an integer --dtype: physical = stored x scale + offset"
    )
    g.add_argument("--out-offset", type=float, help="see --out-scale (default 0)")
    g.add_argument(
        "--nodata",
        type=float,
        help="stored number of masked pixels (default: the source's, NaN, or a mask band)",
    )
    g.add_argument("--compress", help="deflate (default), zstd, lzw or none")
    g.add_argument("--blocksize", type=int, help="side of the COG's blocks in pixels (default 512)")

    g = p.add_argument_group("a reference of the same place")
    g.add_argument(
        "--match-to", metavar="RASTER", help="bring the result to the values of its measured bands"
    )
    g.add_argument("--match", help="histogram (default) or linear: one gain and one offset")
    g.add_argument("--match-sensor", help="what took RASTER, where its metadata do not say it")
    g.add_argument("--match-bands", help="of RASTER, as in nir=4")

    g = p.add_argument_group("computing")
    computing(g)
    g.add_argument("--tile", type=int, help="pixels that the network sees at once (default 896)")
    g.add_argument("--batch", type=int, default=1, help="tiles that it sees together (default 1)")
    g.add_argument(
        "--overlap",
        type=int,
        help="pixels over which tiles fade into each other, of a network that sees the whole image "
        "(default: an eighth of the tile)",
    )
    g.add_argument("--seed", type=int, help="of a network that draws at random (default 0)")


def computing(parser: Any) -> None:
    """Add the options that say where and how to compute."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--precision", default="auto", help="auto, fp32 or bf16")


def _translate(a: argparse.Namespace) -> int:
    from crossband.raster.bands import parse_bands
    from crossband.raster.scene import check_exists
    from crossband.raster.store import begun
    from crossband.raster.write import check_output, make_folder

    bands = parse_bands(a.bands) if a.bands else None
    match_bands = parse_bands(a.match_bands) if a.match_bands else None
    if len(a.inputs) == 1:
        check_exists(a.inputs[0])
    jobs = _jobs(a.inputs, a.output)
    if len(jobs) == 1:
        source, output = jobs[0]
        placed = a.resume and output in begun(output)
        check_output(output, a.overwrite or placed, source)
    else:
        make_folder(jobs[0][1].parent)
    from crossband import load
    from crossband.translator import translate

    model = load(a.model)
    jobs = _jobs(a.inputs, a.output, "_".join(model.signature.target))
    failed = 0
    for source, output in jobs:
        bar = _Bar(source, quiet=a.quiet)
        try:
            path = translate(
                model,
                source,
                output,
                bands=bands,
                sensor=a.sensor,
                scale=a.scale,
                offset=a.offset,
                dtype=a.dtype,
                out_scale=a.out_scale,
                out_offset=a.out_offset,
                nodata=a.nodata,
                compress=a.compress,
                blocksize=a.blocksize,
                indices=a.index,
                device=a.device,
                precision=a.precision,
                tile=a.tile,
                batch=a.batch,
                overlap=a.overlap,
                seed=a.seed,
                overwrite=a.overwrite,
                resume=a.resume,
                match_to=a.match_to,
                match=a.match,
                match_sensor=a.match_sensor,
                match_bands=match_bands,
                progress=bar,
            )
        except CrossbandError as error:
            bar.close()
            if len(jobs) == 1 or isinstance(error, Interrupted):
                raise
            print(f"crossband: {error}", file=sys.stderr)
            failed += 1
        else:
            bar.finish(path)
    if failed:
        raise CrossbandError(f"{failed} of {len(jobs)} scenes failed; the others are written")
    return 0


def _jobs(inputs: Sequence[str], output: str, suffix: str = "target") -> list[tuple[str, Path]]:
    """Pair inputs with outputs; a folder gets `<stem>_<target bands>.<tif or png>`."""
    out = Path(output)
    to_folder = output.endswith(("/", "\\")) or out.is_dir() or len(inputs) > 1
    if not to_folder:
        return [(inputs[0], out)]
    if out.is_file():
        raise OutputError(f"{out}: several inputs need a folder, and this is a file")
    jobs = []
    for source in inputs:
        path = Path(name_of(source))
        ending = ".png" if path.suffix.lower() in (".png", ".jpg", ".jpeg") else ".tif"
        jobs.append((source, out / f"{path.stem}_{suffix}{ending}"))
    names = [target for _, target in jobs]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise OutputError(f"{twice}: two inputs would be written under this name")
    return jobs


class _Bar:
    """Progress with pixels per second and time left: a bar on a terminal, elsewhere plain lines."""

    def __init__(self, source: str, *, quiet: bool) -> None:
        self.name, self.quiet = name_of(source), quiet
        self.start = self.said = time.monotonic()
        self.bar: Any = None
        self.first: int | None = None
        self.pixels = 0

    def __call__(self, done: int, total: int) -> None:
        if self.first is None:
            self.first = done
            self.start = time.monotonic()
        self.pixels = done - self.first
        if self.quiet:
            return
        if sys.stderr.isatty():
            self._draw(done, total)
        elif time.monotonic() - self.said >= LINE_SECONDS and done < total:
            self.said = time.monotonic()
            rate = max(self.pixels, 1) / max(self.said - self.start, 1e-9)
            print(
                f"{self.name}: {done / total:.0%} of {total / 1e6:.1f} MPix, "
                f"{rate / 1e6:.2f} MPix/s, {_left((total - done) / rate)} left",
                file=sys.stderr,
            )

    def _draw(self, done: int, total: int) -> None:
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(
                total=total,
                initial=self.first,
                unit="px",
                unit_scale=True,
                desc=self.name,
                leave=False,
            )
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def finish(self, path: Path) -> None:
        self.close()
        if not self.quiet:
            seconds = max(time.monotonic() - self.start, 1e-9)
            print(f"{path}  {self.pixels / 1e6:.2f} MPix, {self.pixels / 1e6 / seconds:.2f} MPix/s")


def _left(seconds: float) -> str:
    """Say how long it takes.

    >>> [_left(s) for s in (8, 200, 9000)]
    ['8 s', '3 min', '2.5 h']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
