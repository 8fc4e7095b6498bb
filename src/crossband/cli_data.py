"""The command `crossband data`: make and check pairs; a subcommand is options and a handler.

Nothing here imports torch before a subcommand needs it, so that `--help` is immediate.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from crossband.errors import RecipeError


def add_data(sub: Any) -> None:
    """Add the command `data` with its subcommands to the parser's commands."""
    p = sub.add_parser("data", help="make and check manifests of pairs")
    p.set_defaults(run=lambda a: p.print_help() or 0)
    commands = p.add_subparsers(title="commands", metavar="COMMAND")
    _degrade_options(commands)
    _split_options(commands)
    _check_options(commands)
    p.commands = dict(commands.choices)


def _degrade_options(sub: Any) -> None:
    p = sub.add_parser(
        "degrade",
        help="match a fine scene to a coarse one and degrade it: a pair for super-resolution",
        epilog="Writes <stem>_target.tif (fine), <stem>_source.tif (degraded) and a row of "
        "pairs.csv into the folder. Bands are paired by common name.",
    )
    p.set_defaults(run=_degrade)
    p.add_argument("input", metavar="FINE", help="aerial photograph or other fine scene")
    p.add_argument("--reference", required=True, help="scene of the coarse sensor, of the place")
    p.add_argument("-o", "--output", required=True, help="folder of the pair")
    p.add_argument("--bands", help="as in red=1,green=2: numbers or names in the fine file")
    p.add_argument("--sensor", help="what took the fine scene; 'crossband sensors' lists them")
    p.add_argument("--reference-bands", help="as --bands, of the reference")
    p.add_argument("--reference-sensor", help="what took the reference")
    p.add_argument("--match", default="histogram", help="histogram (default), linear or none")
    p.add_argument("--degradation", default="SensorMTF", help="SensorMTF (default) or Bicubic")
    p.add_argument(
        "--mtf", help="of SensorMTF at the Nyquist frequency: 0.2 (default), or one per band: .3,.2"
    )
    p.add_argument(
        "--scale",
        type=_whole,
        help="fine pixels per coarse pixel (default: ratio of the pixel sizes, rounded)",
    )
    p.add_argument("--overwrite", action="store_true", help="replace existing files")


def _degrade(a: argparse.Namespace) -> int:
    from crossband.data.degrade import Degradation
    from crossband.data.degrade_scene import degrade_scene
    from crossband.raster.scene import check_exists, parse_bands
    from crossband.registry import build

    for path in (a.input, a.reference):
        check_exists(path)
    pair = degrade_scene(
        a.input,
        a.reference,
        Path(a.output),
        bands=parse_bands(a.bands) if a.bands else None,
        sensor=a.sensor,
        reference_bands=parse_bands(a.reference_bands) if a.reference_bands else None,
        reference_sensor=a.reference_sensor,
        match=a.match,
        degradation=build(Degradation, a.degradation, {"mtf": _numbers(a.mtf)} if a.mtf else {}),
        scale=a.scale,
        overwrite=a.overwrite,
    )
    print(f"{pair.target}\n{pair.source}  {' '.join(pair.bands)}, {pair.unit}, 1/{pair.scale}")
    print(pair.manifest)
    return 0


def _split_options(sub: Any) -> None:
    p = sub.add_parser(
        "split",
        help="split a manifest into train, val and test; no group is cut",
        epilog="Which side a group is on is a hash of seed and group: rows that are added later "
        "move no other. Groups are those of the column 'group', or as --by or --region say.",
    )
    p.set_defaults(run=_split)
    p.add_argument("manifest", metavar="MANIFEST", help="CSV or parquet table of pairs")
    p.add_argument("-o", "--output", required=True, help="the manifest with the split")
    p.add_argument("--val", type=float, default=0.15, help="share of the groups (default 0.15)")
    p.add_argument("--test", type=float, default=0.15, help="share of the groups (default 0.15)")
    p.add_argument("--by", metavar="COLUMN", help="a group is what has one value in this column")
    p.add_argument("--region", type=float, metavar="DEGREES", help="a group is a cell of this side")
    p.add_argument(
        "--stratify",
        action="append",
        default=[],
        metavar="COLUMN",
        help="split each value of this column alike, as terrain or sensor; may be repeated",
    )
    p.add_argument("--seed", type=int, default=0, help="of the hash (default 0)")
    p.add_argument("--overwrite", action="store_true", help="replace an existing manifest")


def _split(a: argparse.Namespace) -> int:
    from crossband.data import manifest, splits

    manifest.check_output(a.output, a.overwrite)
    table = manifest.read(a.manifest, any_split=True)
    table, lines = splits.anew(
        table, a.val, a.test, a.seed, by=a.by, region=a.region, stratify=a.stratify
    )
    manifest.write(table, a.output)
    print("\n".join([*lines, a.output]))
    return 0


def _check_options(sub: Any) -> None:
    p = sub.add_parser(
        "check",
        help="open every file of a manifest and report what is wrong with it",
        epilog="Changes nothing. Exit codes: 0 no findings, 1 findings, 2 an error. Suspicions "
        "('looks as if') do not count. docs/data-check.md has every kind and its threshold.",
    )
    p.set_defaults(run=_check)
    p.add_argument("manifest", metavar="MANIFEST", help="CSV or parquet table of pairs")
    p.add_argument("-o", "--output", metavar="HTML", help="page with pictures of what was found")
    p.add_argument("--json", metavar="FILE", help="the findings for programs")
    p.add_argument(
        "--fix", metavar="MANIFEST", help="write the manifest without the rows that are of no use"
    )
    p.add_argument("--source", metavar="BANDS", help="bands of the source, as red,green,blue")
    p.add_argument("--target", metavar="BANDS", help="bands of the target, as nir")
    p.add_argument(
        "--max-shift",
        type=float,
        metavar="PX",
        help="source pixels that a target may be shifted by (default: 1 within one sensor, else 3)",
    )
    p.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="KIND",
        help="do not report this kind; may be repeated",
    )
    p.add_argument("--workers", type=int, metavar="N", help="processes (default: all processors)")
    p.add_argument("--quiet", action="store_true", help="one line at the end, no progress")
    p.add_argument("--overwrite", action="store_true", help="replace existing files")


def _check(a: argparse.Namespace) -> int:
    import json

    from crossband.data import check, manifest
    from crossband.errors import OutputError
    from crossband.report import check_text
    from crossband.report.folder import write_whole

    for name in (a.output, a.json):
        if name and Path(name).exists() and not a.overwrite:
            raise OutputError(f"{name}: exists; --overwrite replaces it")
    if a.fix:
        manifest.check_output(a.fix, a.overwrite)
    bands = check.Bands(_names(a.source), _names(a.target))
    progress = _Progress(a.quiet)
    try:
        report = check.check(
            a.manifest,
            bands=bands,
            limits=check.Limits(a.max_shift),
            workers=a.workers,
            ignore=a.ignore,
            progress=progress,
        )
    finally:
        progress.close()
    print(check_text.summary(report) if a.quiet else check_text.text(report))
    if a.json:
        write_whole(Path(a.json), json.dumps(report.record(), indent=1) + "\n")
    if a.output:
        from crossband.report import check_page

        print(check_page.write(report, Path(a.output), bands))
    if a.fix:
        kept = check.without_spoilt(report)
        manifest.write(kept, a.fix)
        print(f"{a.fix}: {len(kept)} of {len(report.table)} rows")
    return 0 if report.clean else 1


class _Progress:
    """A bar on a terminal, a line at each tenth elsewhere."""

    def __init__(self, quiet: bool) -> None:
        import sys

        self.quiet, self.terminal = quiet, sys.stderr.isatty()
        self.bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        import sys

        if self.quiet:
            return
        if self.terminal:
            if self.bar is None:
                from tqdm import tqdm

                self.bar = tqdm(total=total, unit="row", leave=False)
            self.bar.update(done - self.bar.n)
        elif done * 10 // total != (done - 1) * 10 // total:
            print(f"checked {done} of {total} rows", file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()


def _names(text: str | None) -> tuple[str, ...] | None:
    return tuple(n.strip() for n in text.split(",") if n.strip()) if text else None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number of fine pixels per coarse pixel (a scale of stored "
            f"numbers belongs into the file: gdal_edit.py -scale)"
        ) from None


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise RecipeError(f"--mtf {text}: not a number, or several with commas") from None
