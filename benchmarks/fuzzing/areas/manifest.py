"""Manifests and lists: tables of scenes and pairs as text, or as parquet."""

from __future__ import annotations

import csv
import decimal
import io
from pathlib import Path
from typing import Any

from fuzzing.case import RIGHT, Case, Draw, Files, mutate_bytes, mutate_text
from fuzzing.scenes import LINE, QUIET, Scene, compare, draw_scene, translate

Rows = list[dict[str, str]]
_SIDES = {"train", "val", "test"}
_FOLDER = ("out", "out/*")


def case(draw: Draw) -> Case:
    """Draw a case of text."""
    return draw.choice((_split, _split, _scenes, _list, _checked))(draw)


def parquet(draw: Draw) -> Case:
    """Draw a case of parquet: odd types, many rows in few bytes, changed bytes."""
    import pyarrow as pa

    rows = _table(draw, 8)
    columns: dict[str, Any] = {key: [row[key] for row in rows] for key in rows[0]}
    columns["weight"] = [float(word) for word in columns["weight"]]
    kind = draw.randrange(5)
    if kind == 1:
        columns[draw.choice((*columns, "split", "lon"))] = _odd_column(draw, len(rows))
    if kind == 2:
        empty = pa.nulls(draw.choice((10**5, 10**6, 3 * 10**7)))
        columns = {"source": empty, "target": empty}
    data = _parquet(columns)
    if kind > 2:
        data = mutate_bytes(draw, data)
    arguments = ["data", "split", "in.parquet", "-o", "out.csv"]
    return _of_split(rows, arguments, {"in.parquet": data}, changed=kind > 0)


def _table(draw: Draw, most: int) -> Rows:
    """Return rows of pairs with groups."""
    rows = []
    for name in (f"{n}.tif" for n in range(draw.randint(3, most))):
        row = {"source": name, "target": name, "group": f"g{draw.randint(0, 5)}"}
        rows.append(row | {"terrain": draw.choice("ab"), "weight": draw.choice(("1", "2.5"))})
    return rows


def _text(rows: Rows) -> str:
    """Return rows as CSV."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _maybe_changed(draw: Draw, rows: Rows, *words: str) -> tuple[bytes, bool]:
    """Return rows as CSV, and whether it was changed."""
    text = _text(rows)
    data = mutate_text(draw, text, ("\x00", '"', ",,,,", *words)) if draw.chance(0.6) else b""
    return data or text.encode(), bool(data)


def _split(draw: Draw) -> Case:
    """`data split`: all rows stay, and no group is cut."""
    rows = _table(draw, 12)
    words = ("\n\n", "../" * 30, "s3://x/y", "nan", "=1+1", "a" * 10**5)
    data, changed = _maybe_changed(draw, rows, *words)
    more = draw.choice(([], ["--seed", "3"], ["--val", "0.3", "--test", "0"], ["--by", "terrain"]))
    arguments = ["data", "split", "in.csv", "-o", "out.csv", *more]
    return _of_split(rows, arguments, {"in.csv": data}, changed=changed)


def _of_split(rows: Rows, arguments: list[str], files: Files, *, changed: bool) -> Case:
    by = "terrain" if "--by" in arguments else "group"
    few = len({row[by] for row in rows}) < 3

    def check(folder: Path) -> str | None:
        return _check_split(folder / "out.csv", None if changed else rows, by)

    files = {**dict.fromkeys((row["source"] for row in rows), b"x"), **files}
    return Case(arguments, files, None if changed or few else RIGHT, check, ("out.csv",))


def _check_split(path: Path, rows: Rows | None, by: str) -> str | None:
    """Say what is wrong with a split manifest; rows are None where they are not known."""
    with path.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    sides: dict[str, str] = {}
    for row in found:
        if row["split"] not in _SIDES:
            return f"a row is of {row['split']!r}"
        if row.get(by) and sides.setdefault(row[by], row["split"]) != row["split"]:
            return f"the group {row[by]!r} is cut"
    if rows is None:
        return None
    keys = ("source", "target", "terrain", *(["group"] if by == "group" else []))
    kept, wanted = ([{key: row[key] for key in keys} for row in each] for each in (found, rows))
    return None if kept == wanted else "not the same rows"


def _scenes(draw: Draw) -> Case:
    """`translate` of a table: scale and offset of its rows."""
    scenes: dict[str, Scene] = {}
    files = LINE.files()
    rows = []
    for n in range(draw.randint(1, 3)):
        scene = draw_scene(draw, ("uint16", "float32"))
        scenes[f"s{n}"], files[f"s{n}.tif"] = scene, scene.file(draw, said=False)
        rows.append({"source": f"s{n}.tif", "sensor": "reflectance"})
        rows[-1] |= {"scale": repr(scene.scale[0]), "offset": repr(scene.offset[0])}
    files["in.csv"], changed = _maybe_changed(
        draw, rows, "/etc/passwd", "s0.tif", "display", "1e999"
    )

    def check(folder: Path) -> str | None:
        for name, scene in {} if changed else scenes.items():
            wrong = compare(folder / "out" / f"{name}_nir.tif", scene)
            if wrong is not None:
                return f"{name}: {wrong}"
        return None

    must, codes = (None, (0, 1)) if changed else (RIGHT, (0,))
    arguments = translate("in.csv", output="out/")
    return Case(arguments, files, must, check, _FOLDER, codes=codes, kept=True)


def _list(draw: Draw) -> Case:
    """`translate` of a list of names, or of a pattern."""
    scene = draw_scene(draw, ("uint16", "float32"))
    files = {**LINE.files(), "a.tif": scene.file(draw), "b c.tif": scene.file(draw)}
    files["list.txt"] = mutate_text(draw, "a.tif\nb c.tif\n", ("# x", "\r\n", "*.tif", "list.txt"))
    given = draw.choice(("list.txt", "*.tif", "[ab]*.tif", "**", "?.tif", "model/*", "a.tif"))
    name = draw.choice(([], ["--name", draw.choice(("{stem}", "{x}", "{", "{stem!r}", "a/b"))]))
    shard = draw.choice(([], ["--shard", draw.choice(("1/2", "0/2", "3/2", "x", "1/0", "2/2"))]))

    def check(folder: Path) -> str | None:
        for path in sorted(folder.glob("out/*.tif")):
            if (wrong := compare(path, scene)) is not None:
                return f"{path.name}: {wrong}"
        return None

    arguments = ["translate", given, "-o", "out/", *QUIET, *name, *shard]
    return Case(arguments, files, None, check, _FOLDER, codes=(0, 1), kept=True)


def _checked(draw: Draw) -> Case:
    """`data check` of a table with files that are none."""
    scene = draw_scene(draw, ("uint16", "float32"))
    rows: Rows = [dict.fromkeys(("source", "target"), f"{n}.tif") for n in range(3)]
    files: Files = {"0.tif": scene.file(draw), "1.tif": draw.randbytes(50)}
    files["in.csv"], _ = _maybe_changed(draw, rows, "[" * 1000)
    arguments = ["data", "check", "in.csv", "--workers", "1", "--quiet"]
    return Case(arguments, files, made=(), codes=(0, 1))


def _parquet(columns: dict[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def _odd_column(draw: Draw, count: int) -> Any:
    import pyarrow as pa

    odd = (None, b"\xff\x00", [1, 2], {"a": 1}, decimal.Decimal("1.5"), 2**63 - 1, float("nan"))
    more = (True, "a\x00b", "x", 0)
    column = pa.array([draw.choice((*odd, *more))] * count)
    if column.type == pa.string():
        return column.dictionary_encode()
    return column.cast(pa.timestamp("ns")) if column.type == pa.int64() else column
