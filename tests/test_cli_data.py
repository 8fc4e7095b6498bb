"""`crossband data degrade`: pairs from generated scenes, and wrong input as one line."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from affine import Affine
from commands import one_line

from crossband.cli.main import main
from crossband.core.signature import Signature, UnitRange
from crossband.data import manifest
from crossband.data.degrade import scene as module
from crossband.data.degrade.blind import Blind
from crossband.data.degrade.scene import degrade_scene
from crossband.data.degrade.sensor import Bicubic, SensorMTF
from crossband.data.reader import PairReader
from crossband.errors import (
    CrossbandError,
    CrossbandWarning,
    InputError,
    OutputError,
    RecipeError,
    UpToDate,
)
from crossband.raster.grid import Box, Grid
from crossband.raster.open import known_bands, open_scene
from crossband.raster.warp import overlap, read_warped, resolution_ratio

NAMES = ("red", "green", "nir")
COARSE = Affine(10, 0, 500_000, 0, -10, 5_000_000)


def smooth(bands, height, width, seed=0):
    """Return blobs of a few pixels in 0..1, float32."""
    rng = np.random.default_rng(seed)
    noise = torch.from_numpy(rng.uniform(0, 1, (1, bands, height + 8, width + 8)))
    for _ in range(2):
        noise = torch.nn.functional.avg_pool2d(noise, 5, 1)
    values = noise[0].numpy()
    return ((values - values.min()) / np.ptp(values)).astype(np.float32)


@pytest.fixture
def scenes(make_raster):
    """Write a fine scene of 2.5 m (uint8) and a reference of 10 m of its place and surroundings.

    The fine one begins 3 and 2 reference pixels in; the reference's red is 0.4 x + 0.1, and so on.
    """

    def make(height=120, width=160, mask=None, **options):
        stored = np.round(1 + smooth(3, height, width) * 254).astype(np.uint8)
        rows, columns = height // 4, width // 4
        means = (stored / 255).reshape(3, rows, 4, columns, 4).mean((2, 4))
        values = np.random.default_rng(1).uniform(0, 0.6, (3, rows + 6, columns + 5))
        gain, offset = np.array([0.4, 0.3, 0.6]), np.array([0.1, 0.0, 0.05])
        inner = means * gain[:, None, None] + offset[:, None, None]
        values[:, 2 : 2 + rows, 3 : 3 + columns] = inner
        if mask is not None:
            stored[:, ~mask] = 0
        transform = COARSE @ Affine.translation(3, 2) @ Affine.scale(0.25)
        a = make_raster(
            "aerial.tif",
            stored,
            names=options.get("names", NAMES),
            unit="display",
            scale=1 / 255,
            nodata=0,
            transform=options.get("transform", transform),
            crs=options.get("crs", "EPSG:32633"),
        )
        b = make_raster("reference.tif", values.astype(np.float32), names=NAMES, transform=COARSE)
        return a, b

    return make


def read(path):
    """Return the values and what the file says of them."""
    with rasterio.open(path) as file:
        keys = ("transform", "crs", "descriptions", "units", "dtypes", "nodata")
        return file.read(), SimpleNamespace(**{key: getattr(file, key) for key in keys})


@pytest.mark.parametrize("match", ["histogram", "linear"])
@pytest.mark.parametrize("degradation", [SensorMTF(), Bicubic()])
def test_the_pair_has_the_references_values_and_grid(scenes, tmp_path, match, degradation):
    fine, reference = scenes()
    pair = degrade_scene(fine, reference, tmp_path / "o", match=match, degradation=degradation)
    assert (pair.scale, pair.bands, pair.unit) == (4, NAMES, "reflectance")
    target, a = read(pair.target)
    source, b = read(pair.source)
    assert (target.shape, source.shape) == ((3, 120, 160), (3, 30, 40))
    assert b.transform == COARSE @ Affine.translation(3, 2)
    assert a.transform == b.transform @ Affine.scale(0.25)
    for file in (a, b):
        assert file.crs == "EPSG:32633"
        assert file.descriptions == NAMES
        assert set(file.units) == {"reflectance"}
        assert set(file.dtypes) == {"float32"}
        assert np.isnan(file.nodata)
    stored, _ = read(fine)
    gain, offset = np.array([0.4, 0.3, 0.6]), np.array([0.1, 0.0, 0.05])
    expected = stored / 255 * gain[:, None, None] + offset[:, None, None]
    # A sensor of MTF 0.2 is softer than the means that the reference was made of: contrast grows.
    for got, wanted in zip(target, expected, strict=True):
        assert np.corrcoef(got.ravel(), wanted.ravel())[0, 1] > 0.995
        assert got.mean() == pytest.approx(wanted.mean(), abs=2e-3)
        assert 0.97 < got.std() / wanted.std() < 1.35
    again = degradation(torch.from_numpy(target), 4, np.random.default_rng(0)).numpy()
    np.testing.assert_allclose(source[:, 4:-4, 4:-4], again[:, 4:-4, 4:-4], atol=1e-5)
    seen, _ = read(reference)
    np.testing.assert_allclose(source.std((1, 2)), seen[:, 2:32, 3:43].std((1, 2)), rtol=0.03)


def test_values_that_are_cut_are_told(scenes, make_raster, tmp_path):
    fine, reference = scenes()
    values, _ = read(reference)
    bright = make_raster("bright.tif", values * 5, names=NAMES, transform=COARSE)
    with pytest.warns(
        CrossbandWarning, match=r"[\d,]+ of its values \([\d.]+%\) lay beyond 0 to 2"
    ):
        pair = degrade_scene(fine, bright, tmp_path / "cut", match="linear")
    target, _ = read(pair.target)
    assert np.nanmax(target) == 2


def test_a_linked_manifest_is_not_replaced(scenes, tmp_path):
    fine, reference = scenes()
    mine = tmp_path / "mine.csv"
    mine.write_text("source,target\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "pairs.csv").symlink_to(mine)
    with pytest.raises(OutputError, match=r"pairs.csv: a link"):
        degrade_scene(fine, reference, tmp_path / "out")
    assert (tmp_path / "out" / "pairs.csv").is_symlink()
    assert os.listdir(tmp_path / "out") == ["pairs.csv"]


def test_nothing_is_shifted(scenes, tmp_path):
    """Coarse pixels correlate with the means of the fine ones best where they lie."""
    fine, reference = scenes()
    pair = degrade_scene(fine, reference, tmp_path)
    target, _ = read(pair.target)
    source, _ = read(pair.source)
    flat = source[:, 3:-3, 3:-3].ravel()
    scores = {}
    for down in range(-2, 3):
        for right in range(-2, 3):
            moved = np.roll(target, (down, right), (1, 2))
            means = moved.reshape(3, 30, 4, 40, 4).mean((2, 4))[:, 3:-3, 3:-3]
            scores[down, right] = np.corrcoef(means.ravel(), flat)[0, 1]
    assert max(scores, key=scores.get) == (0, 0)
    for axis in ((1, 0), (0, 1)):
        there, back = scores[axis], scores[tuple(-v for v in axis)]
        assert there == pytest.approx(back, abs=0.005)


def test_no_match_keeps_values_and_unit(scenes, tmp_path):
    fine, reference = scenes()
    pair = degrade_scene(fine, reference, tmp_path, match="none")
    target, file = read(pair.target)
    stored, _ = read(fine)
    np.testing.assert_allclose(target, stored / 255, atol=1e-6)
    assert set(file.units) == {"display"}


def test_blocks_and_the_whole_are_one(scenes, tmp_path, monkeypatch):
    mask = np.ones((120, 160), bool)
    mask[50:58, 60:75] = mask[0, :9] = mask[63:65, 100:] = False
    fine, reference = scenes(mask=mask)
    pairs = []
    for block in (40, 10_000):
        monkeypatch.setattr(module, "BLOCK", block)
        pairs.append(degrade_scene(fine, reference, tmp_path / str(block)))
    for one, other in ((pairs[0].target, pairs[1].target), (pairs[0].source, pairs[1].source)):
        np.testing.assert_allclose(read(one)[0], read(other)[0], atol=1e-6)
    target, source = read(pairs[0].target)[0], read(pairs[0].source)[0]
    assert np.array_equal(np.isnan(target[0]), ~mask)
    coarse = mask.reshape(30, 4, 40, 4).all((1, 3))
    assert np.array_equal(np.isnan(source[0]), ~coarse)
    assert 0 < coarse.mean() < 1


def test_gaps_do_not_bleed(scenes, tmp_path):
    """A band without contrast stays so beside a gap, whatever the gap was filled with."""
    mask = np.ones((120, 160), bool)
    mask[40:80, 40:80] = False
    fine, reference = scenes(mask=mask)
    with rasterio.open(fine, "r+") as file:
        file.write(np.where(mask, 200, 0).astype(np.uint8), 2)
    pair = degrade_scene(fine, reference, tmp_path, match="none")
    green = read(pair.source)[0][1]
    assert np.isnan(green).sum() == 100
    np.testing.assert_allclose(green[np.isfinite(green)], 200 / 255, atol=1e-6)


def test_the_manifest_row_is_read_and_trained_on(scenes, tmp_path):
    fine, reference = scenes()
    pair = degrade_scene(fine, reference, tmp_path / "o")
    text = pair.manifest.read_text().splitlines()
    assert text == [
        "source,target,sensor,target_sensor,group,gsd",
        "aerial_source.tif,aerial_target.tif,,,aerial,10",
    ]
    table = manifest.read(pair.manifest)
    ranges = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)] * 3)
    reader = PairReader(table, Signature([*NAMES], [*NAMES], {"reflectance": ranges}), 4)
    pixels = reader.read(0, Box(3, 5, 8, 6))
    np.testing.assert_array_equal(pixels.source, read(pair.source)[0][:, 3:11, 5:11])
    np.testing.assert_array_equal(pixels.target, read(pair.target)[0][:, 12:44, 20:44])
    assert pixels.mask.all()


def test_a_second_pair_is_a_second_row_and_columns_stay(scenes, tmp_path):
    fine, reference = scenes()
    out = tmp_path / "o"
    pair = degrade_scene(fine, reference, out)
    table = pd.read_csv(pair.manifest)
    table.assign(split="val").to_csv(pair.manifest, index=False)
    fine.rename(tmp_path / "other.tif")
    degrade_scene(tmp_path / "other.tif", reference, out)
    degrade_scene(tmp_path / "other.tif", reference, out, overwrite=True)
    table = pd.read_csv(pair.manifest)
    assert table["group"].tolist() == ["aerial", "other"]
    assert table["split"].fillna("").tolist() == ["val", ""]
    for text in ("a,b\n1,2\n", "source,target\na,b,c\n"):
        pair.manifest.write_text(text)
        with pytest.raises(CrossbandError, match="no manifest of pairs"):
            degrade_scene(tmp_path / "other.tif", reference, out, overwrite=True)
        assert pair.manifest.read_text() == text


def test_a_kill_when_the_files_were_in_place(scenes, tmp_path, monkeypatch):
    """The same command ends it; another one does not take the files for its own."""
    fine, reference = scenes()
    whole = degrade_scene(fine, reference, tmp_path / "whole")

    def stop(*_):
        raise KeyboardInterrupt

    for name in ("_add_row", "finish_files"):
        out = tmp_path / name
        with monkeypatch.context() as patched:
            if name == "finish_files":  # between the two files
                patched.setattr(module.OutputFile, "place", placing_one(module.OutputFile.place))
            else:
                patched.setattr(module, name, stop)
            with pytest.raises(KeyboardInterrupt):
                degrade_scene(fine, reference, out)
        assert (out / "aerial_target.tif").exists()
        assert not (out / "pairs.csv").exists()
        with pytest.raises(OutputError, match="exists already; give --overwrite"):
            degrade_scene(fine, reference, out, match="linear")
        pair = degrade_scene(fine, reference, out)
        for path in ("source", "target", "manifest"):
            assert getattr(pair, path).read_bytes() == getattr(whole, path).read_bytes()
        assert not [p for p in out.iterdir() if p.name.startswith(".")]
        with pytest.raises(UpToDate, match="aerial: exists already, made from the same"):
            degrade_scene(fine, reference, out)


def placing_one(place):
    """Return a `place` that is interrupted after the first file."""

    def one(self, final):
        place(self, final)
        raise KeyboardInterrupt

    return one


def test_only_shared_bands_in_the_fine_scenes_order(scenes, tmp_path):
    fine, reference = scenes(names=(None, None, None))
    pair = degrade_scene(
        fine,
        reference,
        tmp_path,
        bands={"nir": 1, "blue": 2, "green": 3},
        reference_bands={"red": 1, "green": 2, "nir": 3},
    )
    assert pair.bands == ("nir", "green")
    with rasterio.open(pair.target) as file:
        assert file.descriptions == ("nir", "green")
    assert known_bands(reference) == NAMES
    # Not by the order of NAIP's bands, of which there are four: a picture's colours.
    assert known_bands(fine, "naip") == ("red", "green", "blue")


def test_another_crs_and_a_whole_number_that_is_not_the_ratio(make_raster, tmp_path):
    """A fine scene in degrees; a ramp of the map's x must come out as that ramp."""
    step = 2e-5  # 1.58 m east-west and 2.2 m north-south, at 45 degrees
    corner = (15.001, 45.151)
    lon = corner[0] + step * (np.arange(600) + 0.5)
    lat = corner[1] - step * (np.arange(500) + 0.5)
    grid = np.meshgrid(lon, lat)
    from rasterio.warp import transform

    xs, ys = transform("EPSG:4326", "EPSG:32633", grid[0].ravel(), grid[1].ravel())
    ramp = np.stack([(np.array(xs) - 5e5) / 2000, (np.array(ys) - 4.998e6) / 3000])
    fine = make_raster(
        "degrees.tif",
        ramp.reshape(2, 500, 600).astype(np.float32),
        names=("red", "nir"),
        crs="EPSG:4326",
        transform=Affine(step, 0, corner[0], 0, -step, corner[1]),
    )
    values = np.random.default_rng(0).uniform(0, 1, (2, 120, 120)).astype(np.float32)
    reference = make_raster("utm.tif", values, names=("red", "nir"), transform=COARSE)
    pair = degrade_scene(fine, reference, tmp_path / "o", match="none")
    assert pair.scale == 5  # 10 m / sqrt(1.58 m x 2.2 m) = 5.35
    for path, size in ((pair.target, 2.0), (pair.source, 10.0)):
        got, file = read(path)
        assert file.transform.a == size
        x = file.transform.c + size * (np.arange(got.shape[2]) + 0.5)
        y = file.transform.f - size * (np.arange(got.shape[1]) + 0.5)
        off = np.abs(got[0] - (x - 5e5) / 2000)[6:-6, 6:-6]
        up = np.abs(got[1] - ((y - 4.998e6) / 3000)[:, None])[6:-6, 6:-6]
        assert np.nanmax(off) * 2000 < 0.4  # metres: an eighth of a fine pixel and rounding
        assert np.nanmax(up) * 3000 < 0.4
        assert np.isfinite(off).mean() > 0.9


def test_overlap_and_ratio_by_hand():
    crs = rasterio.crs.CRS.from_epsg(32633)
    reference = Grid(20, 30, COARSE, crs)
    # From 12 m to 52 m east and from 8 m to 38 m south: whole pixels are 2..5 and 1..3.
    fine = Grid(12, 16, Affine(2.5, 0, 500_012, 0, -2.5, 4_999_992), crs)
    assert overlap(fine, reference) == Box(1, 2, 2, 3)
    assert resolution_ratio(fine, reference, Box(1, 2, 2, 3)) == pytest.approx(4.0)
    exact = Grid(12, 16, Affine(2.5, 0, 500_010.001, 0, -2.5, 4_999_990.001), crs)
    assert overlap(exact, reference) == Box(1, 1, 3, 4)
    with pytest.raises(InputError, match="do not overlap"):
        overlap(Grid(12, 16, Affine(2.5, 0, 600_000, 0, -2.5, 5_000_000), crs), reference)


def test_a_window_far_away_and_a_coarser_grid(scenes):
    fine, _ = scenes()
    with open_scene(fine, needed=["red"]) as scene:
        away = read_warped(scene, Grid(4, 4, Affine(10, 0, 0, 0, -10, 0), scene.grid.crs))
        assert not away.mask.any()
        coarse = read_warped(scene, Grid(30, 40, COARSE @ Affine.translation(3, 2), scene.grid.crs))
        means = scene.read().values[0].reshape(30, 4, 40, 4).mean((1, 3))
        assert coarse.mask[1:-1, 1:-1].all()
        assert np.corrcoef(coarse.values[0].ravel(), means.ravel())[0, 1] > 0.98


# The command.


def run(capsys, *words):
    code = main(["data", "degrade", *map(str, words)])
    out, err = capsys.readouterr()
    return subprocess.CompletedProcess([], code, out, err)


def test_the_command(crossband_command, scenes, tmp_path):
    fine, reference = scenes()
    words = [fine, "--reference", reference, "-o", tmp_path / "o", "--match", "linear"]
    words += ["--bands", "red=1,nir=3", "--degradation", "SensorMTF", "--mtf", "0.3,0.1"]
    done = crossband_command("data", "degrade", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "o" / "pairs.csv")
    by_hand = degrade_scene(
        fine,
        reference,
        tmp_path / "p",
        bands={"red": 1, "nir": 3},
        match="linear",
        degradation=SensorMTF([0.3, 0.1]),
    )
    for name in ("aerial_source.tif", "aerial_target.tif"):
        np.testing.assert_array_equal(
            read(tmp_path / "o" / name)[0], read(tmp_path / "p" / name)[0]
        )
    assert by_hand.bands == ("red", "nir")
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [
        "aerial_source.tif",
        "aerial_target.tif",
        "pairs.csv",
    ]


def test_existing_files_stay(capsys, scenes, tmp_path):
    fine, reference = scenes()
    words = [fine, "--reference", reference, "-o", tmp_path / "o", "--match", "linear"]
    assert run(capsys, *words).returncode == 0
    before = (tmp_path / "o" / "aerial_target.tif").read_bytes()
    one_line(run(capsys, *words, "--scale", 2), "exists already", "--overwrite")
    assert (tmp_path / "o" / "aerial_target.tif").read_bytes() == before
    assert run(capsys, *words, "--scale", 2, "--overwrite").returncode == 0
    assert read(tmp_path / "o" / "aerial_target.tif")[0].shape == (3, 60, 80)
    assert len((tmp_path / "o" / "pairs.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--degradation", "SensorMFT"], ["unknown Degradation", "did you mean 'SensorMTF'"]),
        (["--degradation", "Blind"], ["draws at random"]),
        (["--degradation", "Bicubic", "--mtf", "0.3"], ["Bicubic has no argument 'mtf'"]),
        (["--mtf", "high"], ["--mtf high: not a number"]),
        (["--mtf", "0.2,0.3"], ["2 values of mtf for 3 bands"]),
        (["--mtf", "0.99"], ["too few for an MTF"]),
        (["--match", "histogramm"], ["did you mean 'histogram'"]),
        (["--scale", "0"], ["scale 0", "at least 1"]),
        (["--scale", "-2"], ["at least 1"]),
        (["--scale", "0.5"], ["--scale", "not a whole number"]),
        (["--scale", "9"], ["only 4.00 pixels", "invent"]),
        (["--bands", "blue=1"], ["no band in common", "has blue", "has red, green, nir"]),
        (["--bands", "red"], ["name=number"]),
        (["--sensor", "nap"], ["unknown sensor"]),
        (["--reference-sensor", "naip"], ["the file says reflectance"]),
        (["--refrence", "x"], ["unknown option '--refrence': did you mean '--reference'"]),
        (["--referenc-band", "x"], ["did you mean '--reference-bands'"]),
    ],
)
def test_wrong_options_are_one_line(capsys, scenes, tmp_path, options, words):
    fine, reference = scenes(40, 40)
    one_line(run(capsys, fine, "--reference", reference, "-o", tmp_path / "o", *options), *words)
    assert not list((tmp_path / "o").glob("*"))


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("far", ["do not overlap"]),
        ("no crs", ["aerial.tif", "no georeference"]),
        ("no inverse", ["aerial.tif", "its affine transform has no inverse"]),
        ("endless", ["aerial.tif", "its affine transform has no inverse"]),
        ("coarser", ["reference.tif has 0.25 pixels", "finer of the two"]),
        ("missing", ["nothing.tif: no such file"]),
        ("empty", ["only 0 pixels are valid"]),
        ("nothing left", ["no pixel of the overlap is wholly valid"]),
        ("into the input", ["the output is the input"]),
    ],
)
def test_wrong_scenes_are_one_line(capsys, scenes, tmp_path, case, words):
    far = Affine(2.5, 0, 700_000, 0, -2.5, 5_000_000)
    options = {
        "far": {"transform": far},
        "no crs": {"crs": None, "transform": None},
        "no inverse": {"transform": Affine(0, 0, 5, 0, 0, 5)},
        "endless": {"transform": Affine(1e308, 0, 1e308, 0, -1e308, 1e308)},
    }.get(case, {})
    if case in ("empty", "nothing left"):
        options["mask"] = np.zeros((40, 40), bool)
    fine, reference = scenes(40, 40, **options)
    out, extra = tmp_path / "o", []
    if case == "coarser":
        fine, reference = reference, fine
    if case == "missing":
        reference = tmp_path / "nothing.tif"
    if case == "nothing left":
        extra = ["--match", "none"]
    if case == "into the input":
        out = fine.parent
        fine = fine.rename(fine.with_name("a_target.tif"))
        (tmp_path / "a.tif").symlink_to(fine)
        fine, extra = tmp_path / "a.tif", ["--overwrite"]
    one_line(run(capsys, fine, "--reference", reference, "-o", out, *extra), *words)
    if out.is_dir() and case != "into the input":
        assert not list(out.glob("*"))


def test_a_failure_between_the_blocks_leaves_nothing(scenes, tmp_path, monkeypatch):
    fine, reference = scenes(40, 40)
    monkeypatch.setattr(module, "BLOCK", 16)
    calls = []

    def broken(self, x, scale, rng):
        calls.append(1)
        if len(calls) > 12:
            raise InputError("broken")
        return x[:, ::scale, ::scale]

    monkeypatch.setattr(Bicubic, "__call__", broken)
    with pytest.raises(InputError, match="broken"):
        degrade_scene(fine, reference, tmp_path / "o", degradation=Bicubic())
    assert not (tmp_path / "o").exists()


def test_random_degradations_are_refused(scenes, tmp_path):
    fine, reference = scenes(40, 40)
    for degradation in (Blind(), SensorMTF(noise=0.01), SensorMTF(jpeg=90)):
        with pytest.raises(RecipeError, match="draws at random"):
            degrade_scene(fine, reference, tmp_path / "o", degradation=degradation)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data", "degrde"], "unknown command 'degrde': did you mean 'degrade'?"),
        (["dat"], "unknown command 'dat': did you mean 'data'?"),
        (["--verison"], "unknown option '--verison': did you mean '--version'?"),
    ],
)
def test_unknown_commands_name_the_nearest(capsys, words, message):
    assert main(words) == 2
    assert capsys.readouterr().err == f"crossband: {message}\n"


def test_data_alone_shows_its_commands_and_imports_no_torch(capsys):
    assert main(["data"]) == 0
    assert "degrade" in capsys.readouterr().out
    code = "import sys; from crossband.cli.main import main\n"
    code += "try:\n main(['data', 'degrade', '--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit('torch' in sys.modules or 'rasterio' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False
        ).returncode
        == 0
    )
