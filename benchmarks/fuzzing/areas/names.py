"""Names of inputs and outputs: odd, long, hostile, taken by a link."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from fuzzing.case import RIGHT, Case, Draw, Files
from fuzzing.scenes import LINE, QUIET, compare, draw_scene, translate

_STEMS = (
    *("a b", "-x", "--model", "é", "中文", "a\u0301", "🛰", "a'b", 'a"b', "a&b", "a;b", "a$b", "%s"),
    *("a*b", "a?b", "[a]", "{stem}", "a#b", "a,b", "a=b", "a:b", "a\\b", "~", "..", ".hidden"),
    *("a.", "\x1b[2J", "a\nb", "a\tb", "\x7f", "\u202egpj", "\udce9", "\x85", "con", "x" * 200),
    *("vsizip", "http:", "s3:", "hf:", "NETCDF:a", "GTIFF_DIR:1:a", "a.tif", "a.zip", "a.vrt"),
    "x" * 251,
)
_PLACES = ("", "", "", "", "d/", "./", "d/../", "é/", "d e/", "\x1b/")
_ENDINGS = (".tif", ".tif", ".tif", ".TIF", ".tiff", ".png", "", ".jp2", ".tif ")


def case(draw: Draw) -> Case:
    """Draw a case."""
    scene = draw_scene(draw, ("uint16", "float32"))
    files: Files = {**LINE.files(), "d/": b""}
    if draw.chance(0.1):
        return _planted(draw, {**files, "in.tif": scene.file(draw)})
    plain = draw.chance(0.2)
    name = "scene.tif" if plain else _name(draw)
    must = RIGHT if plain else None
    if draw.chance(0.5):  # the name of the input
        name = name if _possible(name) else "in.tif"
        files[name] = scene.file(draw)
        return Case(
            ["translate", "-o", "out.tif", *QUIET, "--", name],
            files,
            must,
            lambda folder: compare(folder / "out.tif", scene),
            ("out.tif*",),
        )
    files["in.tif"] = scene.file(draw)
    wanted = os.path.normpath(name)

    def check(folder: Path) -> str | None:
        found = folder / name
        if found.is_dir():  # as `..`
            return None
        if not found.is_file():
            return f"there is no {name!r}"
        return None if found.suffix == ".png" else compare(found, scene)

    # A PNG has a second file: what PNG itself cannot say.
    made = [wanted, *map(str, Path(wanted).parents), *([f"{wanted}.aux.xml"] * (".png" in name))]
    patterns = ("*",) if name.endswith(("/", "..")) else tuple(map(glob.escape, made))
    return Case(["translate", "in.tif", f"--output={name}", *QUIET], files, must, check, patterns)


def _name(draw: Draw) -> str:
    stem = draw.choice(_STEMS) if draw.chance(0.8) else draw.text(20).replace("/", "")
    return (draw.choice(_PLACES) + (stem or "x") + draw.choice(_ENDINGS)).replace("\x00", "")


def _possible(name: str) -> bool:
    """Return whether a file may have this name, and is none of ours."""
    parts = Path(name).parts
    taken = {"d", "model", "..", ".", "out.tif"}
    long = any(len(os.fsencode(p)) > 250 for p in parts)
    return bool(parts) and parts[-1] not in taken and ".." not in parts and not long


def _planted(draw: Draw, files: Files) -> Case:
    """A link, a folder or a file of somebody lies where the command wants to write."""
    files |= {"precious/a.tif": b"mine", "precious/run.json": b"{}"}
    name = draw.choice((".out.tif.crossband", "out.tif", ".out.tif.lock", "out.tif.aux.xml"))
    link, content = draw.choice((("precious", b""), ("precious/a.tif", b"mine"), ("none", b"{}")))
    files[name] = link if draw.chance(0.6) else content
    more = draw.choice(([], ["--resume"], ["--overwrite"]))
    # A link to a folder is a folder for results; files that GDAL kept beside the name are removed.
    made = ("out.tif", "out.tif.aux.xml", "precious/in_nir.tif", "precious/summary.jsonl")
    return Case(translate("in.tif", *more), files, made=made)
