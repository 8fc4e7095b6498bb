"""Options of `translate`, right and wrong; any words as a command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fuzzing.case import REFUSED, RIGHT, Case, Draw, listed
from fuzzing.scenes import LINE, NAMES, Scene, compare, draw_layout, draw_scene, translate

_DTYPES = ("uint8", "uint16", "int16", "int32", "uint32", "float32", "float64")
_OPTIONS = listed(
    """
    --tile --batch --overlap --seed --blocksize --nodata --dtype --compress --device --sensor
    --bands --index --guide-method --shard --out-scale --out-offset --name --guide --engine
    """
)
_COMMANDS = listed(
    """
    translate series models sensors fit evaluate blend import data check split pack manifest
    degrade
    """
)
_WORDS = listed(
    """
    in.tif none.csv rgb2nir model -o out.tif --model --bands red=1 --quiet --resume --overwrite
    -- --sensor naip --index NDVI --manifest --data.manifest --seed --name {stem} { {0}
    {stem.__class__} --shard 1/2 slurm --tile 8 -h --recipes --sweep --task x --unit display
    --source-bands red = / hf:// rgb2nir/linear --method.max_steps --places hf://a/b/c s3://
    """
)


def case(draw: Draw) -> Case:
    """Draw a case."""
    scene = draw_scene(draw, ("uint16", "float32", "uint8", "int16"))
    return draw.choice((_reading, _writing, _computing, _odd))(draw, scene)


def words(draw: Draw) -> Case:
    """Draw any words; no file is there, so nothing can be made of them."""
    known = ("", *_COMMANDS, *_WORDS)
    line = [
        draw.choice(known) if draw.chance(0.8) else draw.choice((draw.text(), draw.number()))
        for _ in range(draw.randint(0, 7))
    ]
    if draw.chance(0.7):
        line.insert(0, draw.choice(_COMMANDS))
    # 1: findings, or scenes that failed.
    return Case([word.replace("\x00", "") for word in line], made=(), codes=(0, 1))


def _case(
    draw: Draw, scene: Scene, said: Scene, more: list[str], must: str | None, dtype: str | None
) -> Case:
    """Return a case.

    Args:
        draw: of random numbers.
        scene: what the answer is computed from.
        said: what the file says.
        more: further arguments.
        must: see `Case`.
        dtype: of the result.
    """
    data = said.file(draw, draw_layout(draw, scene.stored.dtype.name))
    if must == RIGHT and not scene.physical()[1].any():
        must = REFUSED
    return Case(
        translate("in.tif", *more),
        {**LINE.files(), "in.tif": data},
        must,
        lambda folder: compare(folder / "out.tif", scene, dtype=dtype),
    )


def _reading(draw: Draw, scene: Scene) -> Case:
    """--bands, --scale and --offset over what the file says."""
    order = list(NAMES)
    draw.shuffle(order)
    bands = ",".join(f"{name}={n}" for n, name in enumerate(order, start=1))
    scale, offset = draw.choice((1e-4, 0.5, -2.0)), draw.choice((0.0, -0.1, 3.0))
    given = replace(
        scene,
        stored=scene.stored[[order.index(name) for name in NAMES]],
        scale=(scale,) * 3,
        offset=(offset,) * 3,
    )
    more = ["--bands", bands, "--scale", str(scale), f"--offset={offset}"]
    return _case(draw, given, scene, more, RIGHT, None)


def _writing(draw: Draw, scene: Scene) -> Case:
    """Data type, scale, nodata, compression and blocks of the result."""
    more: list[str] = []
    dtype = draw.choice((*_DTYPES, None, None, None))
    if dtype is not None:
        more += ["--dtype", dtype]
        if np.dtype(dtype).kind in "iu":
            more += ["--out-scale", draw.choice(("0.0001", "0.01", "1e-5"))]
            more += draw.choice(([], ["--out-offset", "-0.2"], ["--out-offset=0.5"]))
    if draw.chance(0.5):
        more += ["--compress", draw.choice(("deflate", "zstd", "lzw", "none"))]
    if draw.chance(0.3):
        more += ["--blocksize", draw.choice(("128", "256", "1024"))]
    if draw.chance(0.3):
        more += ["--nodata", draw.choice(("0", "255", "7"))]
    return _case(draw, scene, scene, more, RIGHT, dtype)


def _computing(draw: Draw, scene: Scene) -> Case:
    """Tiles of any size give the same pixels."""
    more = ["--tile", str(draw.choice((1, 2, 7, 16, 33, 500)))]
    more += ["--batch", str(draw.choice((1, 2, 5)))] if draw.chance(0.5) else []
    more += ["--whole"] if draw.chance(0.1) else []
    return _case(draw, scene, scene, more, None if "--whole" in more else RIGHT, None)


def _odd(draw: Draw, scene: Scene) -> Case:
    """Any value of any option."""
    more = []
    for option in draw.some(_OPTIONS, 3):
        value = draw.number() if draw.chance(0.7) else draw.text()
        more.append(f"{option}={value}".replace("\x00", ""))
    made = _case(draw, scene, scene, more, None, None)
    made.made = ("out.tif", "out_*")
    if any(
        word.startswith(("--nodata", "--dtype", "--out", "--sensor", "--bands")) for word in more
    ):
        made.check = _unknown  # these change the numbers
    return made


def _unknown(folder: Path) -> str | None:
    return None
