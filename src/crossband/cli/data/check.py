"""`crossband data check`: find problems of a manifest and its files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from crossband.cli.data.progress import RowProgress
from crossband.cli.events import add_progress_option, tell_files
from crossband.core.messages import say
from crossband.errors import OutputError


def add_options(sub: Any) -> None:
    """Add the parser of `check`."""
    p = sub.add_parser(
        "check",
        help="open every file of a manifest and report what is wrong with it",
        epilog="No file is changed. Exit codes: 0 no findings, 1 findings, 2 an error. Suspicions "
        "('looks as if') do not count. docs/data-check.md lists every kind and its threshold.",
    )
    p.set_defaults(run=_check)
    p.add_argument("manifest", metavar="MANIFEST", help="CSV or parquet table of pairs")
    p.add_argument("-o", "--output", metavar="HTML", help="page with pictures of what was found")
    p.add_argument("--json", metavar="FILE", help="also write the findings as JSON, for programs")
    p.add_argument(
        "--fix",
        metavar="MANIFEST",
        help="write a manifest without the rows that training cannot use",
    )
    p.add_argument("--source", metavar="BANDS", help="bands of the source, as red,green,blue")
    p.add_argument("--target", metavar="BANDS", help="bands of the target, as nir")
    p.add_argument(
        "--max-shift",
        type=float,
        metavar="PX",
        help="largest shift of a target, in source pixels (default: 1 within one sensor, else 3)",
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
    add_progress_option(p)


def _check(a: argparse.Namespace) -> int:
    from crossband.core.atomic import is_finished, write_text_atomically
    from crossband.data import check, manifest
    from crossband.data.check import text as check_text

    bands = check.Bands(_names(a.source), _names(a.target))
    limits = check.Limits(a.max_shift)
    table = manifest.read(a.manifest, lenient=True)
    _check_outputs(a, manifest.paths_of(table))
    made_from = manifest.input_fingerprint(
        table, {"bands": bands, "--max-shift": a.max_shift, "--ignore": sorted(a.ignore)}
    )
    done = {n for n in (a.output, a.json) if n and is_finished(n, a.overwrite, made_from)}
    if a.fix:
        manifest.check_writable(a.fix, a.overwrite)
    with RowProgress("checked", quiet=a.quiet) as progress:
        report = check.check(
            a.manifest,
            bands=bands,
            limits=limits,
            workers=a.workers,
            ignore=a.ignore,
            progress=progress,
        )
    say(check_text.summary(report) if a.quiet else check_text.text(report))
    if a.json and a.json not in done:
        record = {"made_from": made_from, **report.record()}
        text = json.dumps(record, indent=1) + "\n"
        write_text_atomically(Path(a.json), text, overwrite=a.overwrite)
    if a.output:
        from crossband.data.check import page as check_page

        if a.output not in done:
            text = check_page.page(report, bands, made_from)
            write_text_atomically(Path(a.output), text, overwrite=a.overwrite)
        say(a.output)
    if a.fix:
        kept = check.usable_rows(report)
        manifest.write(kept, a.fix, overwrite=a.overwrite)
        say(f"{a.fix}: {len(kept)} of {len(report.table)} rows")
    tell_files(path for path in (a.output, a.json, a.fix) if path)
    return 0 if report.clean else 1


def _check_outputs(a: argparse.Namespace, files: Iterable[str]) -> None:
    """Raise OutputError for a result that would be written over an input, or over another one."""
    from crossband.raster.output_paths import check_not_read

    named = [Path(name) for name in (a.output, a.json, a.fix) if name]
    check_not_read(named, files)
    # A manifest may be replaced by its own rows that are usable.
    check_not_read([path for path in named if str(path) != a.fix], [a.manifest])
    if len({path.resolve() for path in named}) < len(named):
        raise OutputError("-o, --json and --fix must be different files")
    if a.output and Path(a.output).suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{a.output}: the page needs the ending .html")


def _names(text: str | None) -> tuple[str, ...] | None:
    return tuple(n.strip() for n in text.split(",") if n.strip()) if text else None
