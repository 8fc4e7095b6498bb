"""Networks that take a measurement beside their source: training, translation, refusals."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from affine import Affine
from scipy.ndimage import gaussian_filter

import crossband
from crossband.api import Model
from crossband.cli.main import main
from crossband.core.signature import Signature
from crossband.data.made_guide import MadeGuide
from crossband.data.module import Pairs
from crossband.errors import (
    BandError,
    CrossbandError,
    InputError,
    ModelError,
    RecipeError,
    UnitError,
)
from crossband.model.exporting.graph import check_exportable
from crossband.networks.generators.guided_unet import GuidedUNet
from crossband.raster.grid import Box
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.warp import WindowRaster
from crossband.training import recipe
from crossband.training.fit import fit
from crossband.training.methods.batches import conditions_of, predict
from crossband.translate.options import GuideOptions, TileOptions
from crossband.translate.trained_guide import TrainedGuide
from crossband.translate.window import translate_window

BANDS = ["red", "green", "blue", "nir"]
RANGE = [[0.0, 0.5]]
SIGNATURE = {
    "source": BANDS[:3],
    "target": ["nir"],
    "guide": BANDS,
    "units": {
        "reflectance": {
            "source": RANGE * 3,
            "target": RANGE,
            "target_unit": None,
            "guide": RANGE * 4,
        }
    },
}
READ = {"sensor": "reflectance", "guide_sensor": "reflectance"}


def field(seed=0, size=256):
    values = np.random.default_rng(seed).uniform(0.0, 1.0, (4, size, size))
    smooth = gaussian_filter(values, (0, 4, 4))
    return (0.2 + 1.5 * (smooth - 0.5)).clip(0.02).astype(np.float32)


def write(path, values, pixel=1.0, bands=BANDS, x=0.0, tags=None):
    profile = {"driver": "GTiff", "dtype": "float32", "crs": "EPSG:32632", "nodata": -9.0}
    shape = dict(zip(("count", "height", "width"), values.shape, strict=True))
    place = Affine(pixel, 0, 5e5 + x, 0, -pixel, 5e6)
    with rasterio.open(path, "w", **profile, **shape, transform=place) as out:
        out.write(values)
        out.update_tags(**(tags or {}))
        for number, name in enumerate(bands, start=1):
            out.set_band_description(number, name)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    network = GuidedUNet(3, 1, guide=4, carried=[3], width=6, depth=1, hidden=4)
    made = Model(network, Signature.from_json(SIGNATURE), name="tiny", task="rgb2nir")
    folder = tmp_path_factory.mktemp("guided") / "model"
    made.save(folder)
    return crossband.load(folder)


@pytest.fixture
def scene(tmp_path):
    values = field()
    write(tmp_path / "scene.tif", values[:3], bands=BANDS[:3])
    coarse = values.reshape(4, 32, 8, 32, 8).mean((2, 4))
    write(tmp_path / "guide.tif", coarse, 8.0)
    return tmp_path


def read_whole(path):
    with open_scene(path, ReadOptions(sensor="reflectance"), needed=BANDS[:3]) as scene:
        return scene.read(scene.grid.box)


def read(path):
    with rasterio.open(path) as file:
        return file.read(1), file.tags()


def test_tiles_equal_the_whole_and_the_file_says_how_it_was_guided(model, scene):
    found = []
    for tile in (64, 112, None):
        out = scene / f"{tile}.tif"
        model.translate(scene / "scene.tif", out, guide=scene / "guide.tif", tile=tile, **READ)
        found.append(read(out))
    for values, _ in found[1:]:
        np.testing.assert_allclose(values, found[0][0], atol=1e-6)
    said = found[0][1]["CROSSBAND_GUIDED"]
    assert said.startswith("guide.tif, trained, 1024 pixels, agreement 0.9")


def test_a_guide_moves_the_result(model, scene):
    values = field()
    coarse = values.reshape(4, 32, 8, 32, 8).mean((2, 4))
    write(scene / "bright.tif", coarse * np.float32([1, 1, 1, 1.5])[:, None, None], 8.0)
    for name in ("guide", "bright"):
        model.translate(
            scene / "scene.tif", scene / f"{name}.nir.tif", guide=scene / f"{name}.tif", **READ
        )
    one, two = (read(scene / f"{name}.nir.tif")[0] for name in ("guide", "bright"))
    assert 1.2 < np.median(two / one) < 1.6


def test_beyond_the_guide_and_in_its_holes_the_result_is_that_without_one(model, scene):
    coarse = field().reshape(4, 128, 2, 128, 2).mean((2, 4))[..., :64].copy()
    coarse[:, 64:] = -9.0
    write(scene / "half.tif", coarse, 2.0)
    exact = {"guide": scene / "half.tif", "precision": "fp32", **READ}
    model.translate(scene / "scene.tif", scene / "out.tif", **exact)
    made = read(scene / "out.tif")[0]
    with torch.inference_mode():
        alone = model(torch.from_numpy(field()[:3]), "reflectance")[0].numpy()
    # 18 pixels of the guide, and what enlarging and deconvolution see around.
    beyond = 128 + 2 * (18 + 2 * 3 + 4) + model.network.margin
    np.testing.assert_allclose(made[:, beyond:], alone[:, beyond:], atol=1e-5)
    np.testing.assert_allclose(made[beyond:], alone[beyond:], atol=1e-5)
    assert np.abs(made[:110, :110] - alone[:110, :110]).mean() > 0.005


def averaged(image):
    """Return what a sensor with pixels 8 times larger sees, without the outer ones."""
    return gaussian_filter(image, 4.0)[4::8, 4::8][2:-2, 2:-2]


def test_the_result_agrees_with_the_guide_where_the_colours_have_not_changed(model, scene):
    """The bare network is far from it, as it was not trained."""
    values = field()
    then = values.copy()
    then[:3, :, 128:] *= np.float32([0.4, 0.5, 2.0])[:, None, None]  # other colours in the east
    seen = gaussian_filter(then, (0, 4, 4))[:, 4::8, 4::8]
    write(scene / "guide.tif", seen, 8.0)
    out = scene / "out.tif"
    model.translate(
        scene / "scene.tif",
        out,
        guide=scene / "guide.tif",
        indices={"NDVI": scene / "ndvi.tif"},
        **READ,
    )
    made, tags = read(out)
    raster = [WindowRaster(read_whole(scene / name)) for name in ("scene.tif", "guide.tif")]
    options = GuideOptions(scene / "guide.tif", sensor="reflectance")
    with TrainedGuide(options, model, raster[0], "it") as guide:
        bare = translate_window(model, raster[0].read(Box(0, 0, 256, 256)), TileOptions(), guide.at)
    wanted = averaged(values[3])
    west = (slice(None), slice(0, 11))
    before, after = (np.abs(averaged(x) - wanted)[west].mean() for x in (bare.values[0], made))
    assert after < 0.25 * before
    east = (slice(None), slice(160, 240))  # of changed colours, and beyond the blur of the border
    moved = np.abs(made - bare.values[0])
    assert moved[east].mean() < 0.1 * moved[:, :96].mean()
    said = re.fullmatch(r"guide.tif, .*, remaining difference (\S+)", tags["CROSSBAND_GUIDED"])
    assert said is not None
    assert float(said[1]) < 0.05
    index, _ = read(scene / "ndvi.tif")
    red = values[0]
    np.testing.assert_allclose(index, (made - red) / (made + red), atol=1e-5)


def test_it_is_judged_as_it_is_translated(model, scene):
    values = field()
    write(scene / "true.tif", values[3:], bands=["nir"])
    out = scene / "out.tif"
    model.translate(scene / "scene.tif", out, guide=scene / "guide.tif", **READ)
    row = {"source": "scene.tif", "target": "true.tif", "guide": "guide.tif"}
    row |= {"sensor": "reflectance", "guide_sensor": "reflectance", "split": "test"}
    pd.DataFrame([row]).to_csv(scene / "pairs.csv", index=False)
    model.save(scene / "model")
    words = ["evaluate", "--model", str(scene / "model"), "--manifest", str(scene / "pairs.csv")]
    assert main([*words, "-o", str(scene / "report")]) == 0
    found = pd.read_csv(scene / "report" / "per_image.csv")
    error = float(found.loc[found["by"] == "model", "mae"].iloc[0])
    assert error == pytest.approx(float(np.abs(read(out)[0] - values[3]).mean()), rel=2e-3)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"guide": None}, CrossbandError, "takes a measurement of red, green, blue, nir as guide"),
        ({"guide_method": "residual"}, CrossbandError, "was trained with a guide; leave it out"),
        ({"guide_sensor": "display"}, UnitError, "it is display, the result is reflectance"),
        ({"guide_bands": {"nir": 9}}, BandError, "--guide"),
        ({"guide": "far.tif"}, InputError, "do not overlap"),
        ({"guide": "empty.tif"}, InputError, "0 pixels are valid in it and in the scene"),
        ({"interval": 0.9}, CrossbandError, "calibrat"),
    ],
)
def test_wrong_guides_are_refused_in_one_line(model, scene, change, kind, words):
    coarse = field().reshape(4, 32, 8, 32, 8).mean((2, 4))
    write(scene / "far.tif", coarse, 8.0, x=1e5)
    write(scene / "empty.tif", np.full_like(coarse, -9.0), 8.0)
    given = {"guide": "guide.tif", **READ} | change
    if given["guide"] is None:
        del given["guide"], given["guide_sensor"]
    else:
        given["guide"] = scene / given["guide"]
    with pytest.raises(kind, match=words) as error:
        model.translate(scene / "scene.tif", scene / "out.tif", **given)
    assert "\n" not in str(error.value)
    assert not (scene / "out.tif").exists()


def test_a_guide_of_another_place_is_warned_of(model, scene):
    other = field(seed=5).reshape(4, 32, 8, 32, 8).mean((2, 4))
    write(scene / "other.tif", other, 8.0)
    with pytest.warns(crossband.errors.CrossbandWarning, match="another place"):
        model.translate(scene / "scene.tif", scene / "out.tif", guide=scene / "other.tif", **READ)


def test_another_guide_makes_another_file(model, scene):
    keep = {"guide": scene / "guide.tif", **READ}
    model.translate(scene / "scene.tif", scene / "out.tif", **keep)
    model.translate(scene / "scene.tif", scene / "out.tif", resume=True, **keep)  # up to date
    write(scene / "guide.tif", field(seed=3).reshape(4, 32, 8, 32, 8).mean((2, 4)), 8.0)
    with pytest.raises(CrossbandError, match="--guide"):
        model.translate(scene / "scene.tif", scene / "out.tif", resume=True, **keep)


def test_the_age_of_a_guide_changes_the_result(model, scene):
    ages = {"none": {}, "dated": {"TIFFTAG_DATETIME": "2024:05:01 10:00:00"}}
    made = {}
    for name, tags in ages.items():
        write(scene / "scene.tif", field()[:3], bands=BANDS[:3], tags=tags)
        coarse = field().reshape(4, 32, 8, 32, 8).mean((2, 4))
        write(
            scene / "guide.tif",
            coarse,
            8.0,
            tags=tags and {"TIFFTAG_DATETIME": "2024:08:01 10:00:00"},
        )
        out = scene / f"{name}.nir.tif"
        model.translate(scene / "scene.tif", out, guide=scene / "guide.tif", **READ)
        made[name] = read(out)[0]
    assert np.abs(made["none"] - made["dated"]).max() > 1e-4


def test_ways_without_a_guide_are_refused(model, tmp_path):
    import xarray as xr

    with pytest.raises(CrossbandError, match="takes a guide, and a DataArray has none"):
        model.translate(xr.DataArray(np.zeros((3, 8, 8), np.float32), dims=("band", "y", "x")))
    with pytest.raises(ModelError, match="it takes a guide"):
        check_exportable("tiny", model.network)


def test_a_signature_with_a_guide_is_stored_and_one_without_is_as_before():
    signature = Signature.from_json(SIGNATURE)
    assert Signature.from_json(json.loads(json.dumps(signature.to_json()))) == signature
    plain = {k: v for k, v in SIGNATURE.items() if k != "guide"}
    ranges = {k: v for k, v in SIGNATURE["units"]["reflectance"].items() if k != "guide"}
    plain["units"] = {"reflectance": ranges}
    assert "guide" not in json.dumps(Signature.from_json(plain).to_json())
    with pytest.raises(ModelError, match="guide ranges"):
        Signature.from_json({**SIGNATURE, "guide": BANDS[:2]})
    with pytest.raises(ModelError, match="takes a guide of 4 bands, the signature says 0"):
        Model(
            GuidedUNet(3, 1, guide=4, carried=[3]),
            Signature.from_json(plain),
            name="x",
            task="rgb2nir",
        )


def test_a_made_guide_is_what_a_coarse_sensor_saw():
    fine, mask = field(size=96), np.ones((96, 96), bool)
    never = {
        "holes": 0.0,
        "absent": 0.0,
        "changed": 0.0,
        "undated": 0.0,
        "shift": 0.0,
        "noise": 0.0,
    }
    guide = MadeGuide(ratio=(8.0, 8.0), mtf=(0.3, 0.3), **never)
    made = guide(fine, mask, np.random.default_rng(0), days=30.0)
    again = guide(fine, mask, np.random.default_rng(0), days=30.0)
    np.testing.assert_array_equal(made, again)
    assert made.shape == (7, 96, 96)
    inner = (slice(None), slice(24, 72), slice(24, 72))
    assert (made[inner][4] == 1).all()
    assert np.allclose(made[inner][5], 0.75)  # log2(8) / 4
    assert np.allclose(made[inner][6], np.log1p(30) / 6)
    wanted = gaussian_filter(fine, (0, 4, 4))
    assert np.abs(made[:4] - wanted)[inner].mean() < 0.25 * np.abs(fine - wanted)[inner].mean()
    assert abs(float((made[:4] - fine)[inner].mean())) < 2e-3


def test_a_made_guide_has_holes_where_it_should_and_zeros_in_them():
    fine, mask = field(size=96), np.ones((96, 96), bool)
    mask[:40, :40] = False
    rng = np.random.default_rng(1)
    guide = MadeGuide(ratio=(4.0, 4.0), holes=0.0, absent=0.0, changed=0.0)
    made = guide(fine, mask, rng)
    assert not made[:, :30, :30].any()
    assert made[4, 60:90, 60:90].all()
    shares = [MadeGuide(holes=1.0)(fine, mask | True, rng)[4].mean() for _ in range(8)]
    assert 0.05 < np.mean(shares) < 0.95
    assert not MadeGuide(absent=1.0)(fine, mask, rng).any()
    moved = MadeGuide(changed=1.0, holes=0.0, absent=0.0, undated=0.0)(fine, mask | True, rng)
    assert moved[6].max() > 0.2


@pytest.mark.parametrize(
    "wrong", [{"ratio": (0.5, 2.0)}, {"mtf": (0.0, 0.5)}, {"noise": -1.0}, {"holes": 1.5}]
)
def test_wrong_ranges_of_made_guides_are_refused(wrong):
    with pytest.raises(RecipeError, match=r"data\.guide"):
        MadeGuide(**wrong)


@pytest.fixture
def manifest(tmp_path):
    rows = []
    for number in range(6):
        values = field(seed=number, size=64)
        write(tmp_path / f"{number}.tif", values)
        write(tmp_path / f"{number}.then.tif", values * np.float32(1.1))
        row = {"source": f"{number}.tif", "target": f"{number}.tif", "group": f"place-{number}"}
        row |= {"sensor": "reflectance", "date": "2024-05-01"}
        if number % 2:
            row |= {"guide": f"{number}.then.tif", "guide_sensor": "reflectance"}
            row |= {"guide_datetime": "2024-04-01"}
        rows.append(row)
    pd.DataFrame(rows).to_csv(tmp_path / "pairs.csv", index=False)
    return tmp_path / "pairs.csv"


def test_samples_have_guides_of_their_own_date_and_of_that_which_the_manifest_names(manifest):
    guide = MadeGuide(other_dates=1.0, changed=0.0, absent=0.0, undated=0.0)
    data = Pairs(manifest, crop=32, batch=4, steps=2, guide=guide, val_fraction=0.4)
    data.load(Signature.from_json(SIGNATURE), 0)
    assert data._train is not None
    samples = [data._train[i] for i in range(12)]
    ages = {round(float(s["guide"][6].max()), 3) for s in samples}
    assert ages == {0.0, round(float(np.log1p(30) / 6), 3)}
    assert all(s["guide"].shape == (7, 32, 32) for s in samples)
    assert not any(key.startswith("then") for s in samples for key in s)
    assert torch.equal(samples[3]["guide"], data._train[3]["guide"])


def test_signature_and_data_agree_on_guides(manifest):
    plain = replace(
        Signature.from_json(SIGNATURE),
        guide=[],
        units={
            unit: replace(ranges, guide=[])
            for unit, ranges in Signature.from_json(SIGNATURE).units.items()
        },
    )
    for signature, guide in ((plain, MadeGuide()), (Signature.from_json(SIGNATURE), None)):
        with pytest.raises(RecipeError, match=r"data\.guide"):
            Pairs(manifest, guide=guide).load(signature, 0)


GUIDED = ["rgb2nir/guided", "rgb2thermal/guided", "sar2optical/guided", "super-resolution/sharpen"]
SENSORS = {"reflectance": "reflectance", "db": "sentinel-1-grd-db", "kelvin": "thermal-kelvin"}


def write_pairs(name, folder):
    """Write pairs for a recipe, each image within the recipe's ranges; return the manifest."""
    signature = recipe.load(name)["method"]["init_args"]["signature"]
    ((unit, ranges),) = list(signature["units"].items())[:1]
    units = {"source": unit, "target": ranges.get("target_unit") or unit}
    rows = []
    for number in range(4):
        row = {"group": number}
        for side, of in units.items():
            low, high = (
                np.float32(ends)[:, None, None] for ends in zip(*ranges[side], strict=True)
            )
            seen = [field(seed=9 * number + n, size=64)[0] / 0.5 for n in range(len(low))]
            path = write(
                folder / f"{number}.{side}.tif",
                (low + np.stack(seen) * (high - low)).astype(np.float32),
                bands=signature[side],
            )
            row[side] = path.name
            row["sensor" if side == "source" else "target_sensor"] = SENSORS[of]
        rows.append(row)
    pd.DataFrame(rows).to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


def test_every_recipe_with_a_guide_is_tested_here():
    made = {name: recipe.load(name) for name in recipe.available()}
    guided = [n for n, c in made.items() if "guide" in c["method"]["init_args"]["signature"]]
    assert sorted(guided) == GUIDED


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDED)
def test_a_training_that_is_resumed_equals_a_whole_one(name, tmp_path):
    words = [f"--data.manifest={write_pairs(name, tmp_path)}", "--data.batch=2", "--data.steps=2"]
    words += ["--method.schedule=Constant", "--baselines=null", "--data.val_fraction=0.3"]
    fit(name, [*words, "--method.max_steps=2"], tmp_path / "run")
    resumed = fit(name, [*words, "--method.max_steps=4"], tmp_path / "run", resume=True)
    whole = fit(name, [*words, "--method.max_steps=4"], tmp_path / "whole")
    one, other = (crossband.load(f).network.state_dict() for f in (resumed, whole))
    assert all(torch.equal(one[key], other[key]) for key in other)


@pytest.mark.slow
def test_a_gain_is_learned(tmp_path):
    """The near infrared is the green band's detail upon a level that only the guide knows."""
    for number in range(6):
        values = field(seed=number, size=64)
        values[3] = values[1] * (0.5 + 0.2 * number)
        write(tmp_path / f"{number}.tif", values)
    names = [f"{number}.tif" for number in range(6)]
    table = pd.DataFrame({"source": names, "target": names, "sensor": "reflectance"})
    table.to_csv(tmp_path / "pairs.csv", index=False)
    sharp = {"shift": 0.0, "noise": 0.0, "absent": 0.0, "holes": 0.0, "changed": 0.0}
    guide = MadeGuide(ratio=(12.0, 12.0), **sharp)
    data = Pairs(tmp_path / "pairs.csv", crop=32, batch=8, guide=guide)
    signature = Signature.from_json(SIGNATURE)
    data.load(signature, 0)
    assert data._train is not None
    network = GuidedUNet(3, 1, guide=4, carried=[3], width=12, depth=1, hidden=8).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01)
    errors = []
    for step in range(60):
        batch = torch.utils.data.default_collate([data._train[8 * step + i] for i in range(8)])
        guide = batch["guide"]
        conditions = conditions_of(signature, network, batch)
        made = predict(signature, network, batch, conditions)
        loss = (made.output - made.target).abs()[made.mask].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        valid = (guide[:, 4:5] > 0) & made.mask
        enlarged = (guide[:, 3:4] - batch["target"]).abs()[valid].mean() / 0.5
        errors.append((loss.item(), enlarged.item()))
    found, plain = np.array(errors[-15:]).mean(axis=0)
    assert found < 0.9 * plain


@pytest.mark.slow
def test_fit_and_evaluate_by_command(manifest, capsys):
    folder = manifest.parent
    small = ["--method.max_steps=4", "--data.steps=2", "--data.batch=2", "--data.crop=32"]
    run = folder / "run"
    words = ["fit", "rgb2nir/guided", "--data.manifest", str(manifest), "-o", str(run), *small]
    assert main([*words, "--no-baselines"]) == 0
    table = pd.read_csv(manifest)
    table = table[table["guide"].notna()]
    table["split"] = "test"
    table.to_csv(folder / "judged.csv", index=False)
    judged = ["evaluate", "--model", str(run / "model"), "--manifest", str(folder / "judged.csv")]
    assert main([*judged, "-o", str(folder / "report")]) == 0
    rows = capsys.readouterr().out
    for name in ("unguided", "guide enlarged"):
        assert name in rows


def test_tiles_equal_the_whole_with_a_guide_in_another_crs(model, tmp_path):
    """GDAL's warper would place pixels and widen its kernel by the window that it is asked for."""
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    values = field(3, 96)
    source = write(tmp_path / "s.tif", values[:3], 10.0, BANDS[:3], x=2.4e5)
    with rasterio.open(source) as scene:
        of = {"src_transform": scene.transform, "src_crs": scene.crs}
        there, width, height = calculate_default_transform(
            scene.crs, "EPSG:32633", scene.width, scene.height, *scene.bounds, resolution=27.0
        )
    guide = np.full((4, height, width), -9.0, np.float32)
    reproject(values, guide, **of, dst_transform=there, dst_crs="EPSG:32633", dst_nodata=-9.0,
              resampling=Resampling.average)  # fmt: skip
    profile = {"driver": "GTiff", "dtype": "float32", "crs": "EPSG:32633", "nodata": -9.0}
    shape = {"count": 4, "height": height, "width": width, "transform": there}
    with rasterio.open(tmp_path / "g.tif", "w", **profile, **shape) as out:
        out.write(guide)
        for number, name in enumerate(BANDS, start=1):
            out.set_band_description(number, name)
    found = []
    for tile in (32, 96):
        to = tmp_path / f"{tile}.tif"
        model.translate(source, to, guide=tmp_path / "g.tif", tile=tile, guide_days=0, **READ)
        found.append(read(to)[0])
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", [None, "difference"])
def test_fill_values_that_a_guide_does_not_declare_are_no_data(model, scene, tmp_path, method):
    coarse = field().reshape(4, 32, 8, 32, 8).mean((2, 4)).copy()
    coarse[:, 10:14, 10:20] = -9999.0
    write(scene / "plain.tif", coarse, 8.0)
    write(scene / "declared.tif", coarse, 8.0)
    with rasterio.open(scene / "plain.tif", "r+") as file:
        file.nodata = None
    with rasterio.open(scene / "declared.tif", "r+") as file:
        file.nodata = -9999.0
    unguided = crossband.load("rgb2nir") if method else model
    made = []
    for name in ("plain", "declared"):
        how = {"guide": scene / f"{name}.tif", "guide_method": method, "tile": 128, **READ}
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            unguided.translate(scene / "scene.tif", scene / f"{name}.nir.tif", **how)
        assert any("as -9999, and is taken as no data" in str(w.message) for w in told) == (
            name == "plain"
        )
        made.append(read(scene / f"{name}.nir.tif")[0])
    np.testing.assert_array_equal(*made)


def test_a_guide_without_scale_is_told_to_state_it(model, scene):
    coarse = field().reshape(4, 32, 8, 32, 8).mean((2, 4))
    with rasterio.open(write(scene / "guide.tif", coarse, 8.0)) as file:
        profile = {**file.profile, "dtype": "uint16", "nodata": 0}
    with rasterio.open(scene / "whole.tif", "w", **profile) as file:
        file.write((coarse * 1e4).astype(np.uint16))
        file.descriptions = BANDS
    with pytest.raises(UnitError, match=r"gdal_edit -scale and -offset") as raised:
        model.translate(scene / "scene.tif", scene / "o.tif", guide=scene / "whole.tif", **READ)
    assert "give" not in str(raised.value)
