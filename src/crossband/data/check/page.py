"""The report of `data check` as one HTML page, with pictures of the first findings of each kind.

The page holds its style, script and pictures, and fetches nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from crossband.core.html import render
from crossband.core.version import __version__
from crossband.data.check.bands import Bands
from crossband.data.check.findings import KINDS, Finding
from crossband.data.check.opening import open_as_training
from crossband.data.check.registration import edges
from crossband.data.check.row_stats import DAMAGED
from crossband.data.check.run import Report
from crossband.data.check.strips import preview
from crossband.data.spectra import VISIBLE
from crossband.errors import CrossbandError
from crossband.raster.gdal import gdal
from crossband.raster.grid import Box
from crossband.raster.scene import Scene

#: Longer side of a picture; side of the centre crop in an overlay; magnification of an overlay.
PICTURE, MIDDLE, LARGER = 160, 96, 2
#: Findings of one kind that have pictures, and rows of one finding: each opens its files again.
PICTURED, ROWS = 12, 4


def page(report: Report, bands: Bands | None = None, made_from: str = "") -> str:
    """Return the page as HTML.

    Args:
        report: from `check`.
        bands: as given to `check`.
        made_from: fingerprint of what the page is made from.
    """
    records = report.table.to_dict("records")
    rows = {int(r["row"]): {str(k): v for k, v in r.items()} for r in records}
    pictured = dict.fromkeys(KINDS, 0)
    drawn: dict[int, list[dict[str, str]]] = {}
    items = []
    for finding in report.findings:
        pictures: list[dict[str, str]] = []
        if pictured[finding.kind] < PICTURED:
            pictured[finding.kind] += 1
            for number in _chosen(finding):
                if number not in drawn:
                    drawn[number] = _pictures(rows[number], bands or Bands())
                pictures += [p for p in drawn[number] if _wanted(p, finding)]
        items.append(
            {
                "finding": finding,
                "name": Path(finding.file).name,
                "pictures": pictures,
            }
        )
    kinds = [{"kind": KINDS[k], "n": n} for k, n in report.counts.items()]
    severe = sum(f.severity == "finding" for f in report.findings)
    return render(
        __package__,
        "check.html",
        report=report,
        made_from=made_from,
        items=items,
        kinds=kinds,
        findings=severe,
        suspicions=len(report.findings) - severe,
        version=__version__,
        split="split" in report.table.columns,
    )


def _chosen(finding: Finding) -> list[int]:
    """Return the rows of a finding that get pictures: the first and the last ones of many."""
    rows = list(finding.rows)
    return rows if len(rows) <= ROWS else [*rows[: ROWS // 2], *rows[-(ROWS // 2) :]]


def _wanted(picture: Mapping[str, str], finding: Finding) -> bool:
    """Return whether a finding shows a picture.

    Only shifted pairs show an overlay of edges, and findings on a split show one side of a row.
    """
    if picture["what"] == "overlay":
        return finding.kind == "misregistered"
    return finding.side != "split" or picture["first"] == "yes"


def _pictures(row: Mapping[str, Any], bands: Bands) -> list[dict[str, str]]:
    """Return the pictures of a row, as far as its files can be read."""
    out: list[dict[str, str]] = []
    scenes: dict[str, Scene] = {}
    try:
        with gdal():
            needed = bands.of(row)
            for side, names in needed.items():
                scenes[side] = scene = open_as_training(row, side, names)
                values, mask = preview(scene, PICTURE)
                out.append(
                    {
                        "what": side,
                        "first": "no" if out else "yes",
                        "caption": f"row {row['row']}, {side}: {', '.join(_shown(scene))}",
                        "data": _png(_coloured(scene, values, mask)),
                    }
                )
            overlay = _overlay(scenes.get("source"), scenes.get("target"))
            if overlay is not None:
                caption = f"row {row['row']}, edges in the middle: source magenta, target green"
                out.append(
                    {"what": "overlay", "first": "no", "caption": caption, "data": _png(overlay)}
                )
    except (CrossbandError, *DAMAGED):
        pass  # the text of the finding has the reason
    finally:
        for scene in scenes.values():
            scene.close()
    return out


def _shown(scene: Scene) -> tuple[str, ...]:
    return VISIBLE if set(VISIBLE) <= set(scene.bands) else scene.bands[:1]


def _coloured(
    scene: Scene, values: NDArray[np.float32], mask: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return uint8 [3, h, w]: red, green, blue, or the first band in grey; masked pixels blue."""
    shown = values[[scene.bands.index(b) for b in _shown(scene)]]
    inside = shown[:, mask]
    low, high = np.percentile(inside, [2, 98]) if inside.size else (0.0, 1.0)
    grey = np.clip((shown - low) / max(float(high - low), 1e-9), 0, 1) * 255
    picture = np.broadcast_to(grey, (3, *mask.shape)).astype(np.uint8)
    picture[:, ~mask] = np.array([[160], [170], [210]], np.uint8)
    return picture


def _overlay(source: Scene | None, target: Scene | None) -> NDArray[np.uint8] | None:
    """Return the edges of source and target, uint8 [3, h, w], in pixels of the source."""
    if source is None or target is None:
        return None
    one, two = source.grid, target.grid
    scale = two.height // one.height
    if not scale or (one.height * scale, one.width * scale) != (two.height, two.width):
        return None
    height, width = min(one.height, MIDDLE), min(one.width, MIDDLE)
    box = Box((one.height - height) // 2, (one.width - width) // 2, height, width)
    first, second = source.read(box), target.read(box.scaled(scale))
    shape = (height, scale, width, scale)
    fine = second.values.mean(axis=0).reshape(shape).mean(axis=(1, 3))
    valid = np.asarray(second.mask.reshape(shape).all(axis=(1, 3)))
    source_edges = edges(first.values.mean(axis=0), first.mask)
    target_edges = edges(fine.astype(np.float32), valid)
    picture = np.stack([source_edges, target_edges, source_edges]) * 255
    return picture.astype(np.uint8).repeat(LARGER, axis=1).repeat(LARGER, axis=2)


def _png(picture: NDArray[np.uint8]) -> str:
    """Return a picture as a data URI."""
    with MemoryFile() as memory:
        with memory.open(
            driver="PNG",
            count=3,
            height=picture.shape[1],
            width=picture.shape[2],
            dtype="uint8",
        ) as out:
            out.write(picture)
        memory.seek(0)
        return f"data:image/png;base64,{base64.b64encode(memory.read()).decode()}"
