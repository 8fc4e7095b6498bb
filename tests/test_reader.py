"""What a network sees when a pair is more than two files of one size."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from affine import Affine
from conftest import UTM
from samples import NAMES, SIGNATURE, dataset, same, values
from torch.utils.data import DataLoader

from crossband.core.signature import Signature, UnitRange
from crossband.data import manifest
from crossband.data.check.row_stats import row_stats
from crossband.data.degrade.blind import Blind
from crossband.data.degrade.sensor import Bicubic, SensorMTF
from crossband.data.reader import PairReader
from crossband.data.samples import WindowDataset
from crossband.errors import ManifestError, RecipeError, UnreadableError
from crossband.raster.grid import Box

RGB = ["red", "green", "blue"]
SHARPER = Signature(RGB, RGB, {"reflectance": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)] * 3)})


def write(folder, rows):
    path = folder / "rows.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


# A source that is made from its target.


@pytest.fixture
def fine(tmp_path, make_raster):
    """Write a manifest of three fine pictures without a source, 45 x 51 pixels."""
    for i in range(3):
        make_raster(f"{i}.tif", values(i, 45, 51), names=NAMES, scale=1e-4)
    rows = [{"source": None, "target": f"{i}.tif", "degradation": "Bicubic"} for i in range(3)]
    return write(tmp_path, rows)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_degraded_window_equals_the_same_part_of_the_whole(fine, scale):
    reader = PairReader(manifest.read(fine), SHARPER, scale)
    grid = reader.info(0).grid
    assert (grid.height, grid.width) == (45 // scale, 51 // scale)
    assert grid.pixel_size() == pytest.approx(10.0 * scale)
    whole = reader.read(0, grid.box)
    assert whole.target.shape == (3, grid.height * scale, grid.width * scale)
    expected = Bicubic()(torch.from_numpy(whole.target), scale, np.random.default_rng(0))
    np.testing.assert_allclose(whole.source, expected.numpy(), atol=1e-6)
    for box in (Box(0, 0, 4, 5), Box(3, 2, 5, 6), Box(grid.height - 4, grid.width - 3, 4, 3)):
        part = reader.read(0, box)
        rows, cols = box.slices()
        np.testing.assert_allclose(part.source, whole.source[:, rows, cols], atol=1e-6)
        np.testing.assert_array_equal(part.target, whole.crop(box, scale).target)
        np.testing.assert_array_equal(part.mask, whole.crop(box, scale).mask)


def test_the_cache_changes_nothing_that_is_degraded(fine):
    table = manifest.read(fine)
    cached, plain = PairReader(table, SHARPER, 2, 64), PairReader(table, SHARPER, 2)
    for _ in range(2):
        a, b = (reader.read(1, Box(3, 4, 9, 8)) for reader in (cached, plain))
        np.testing.assert_array_equal(a.source, b.source)


def test_a_masked_fine_pixel_masks_what_it_reaches(tmp_path, make_raster):
    stored = values(0, 40, 40)
    stored[:, 20, 20] = 0
    make_raster("0.tif", stored, names=NAMES, scale=1e-4, nodata=0)
    path = write(tmp_path, [{"source": None, "target": "0.tif", "degradation": "Bicubic"}])
    reader = PairReader(manifest.read(path), SHARPER, 2)
    whole = reader.read(0, Box(0, 0, 20, 20))
    assert not whole.source_mask[10, 10]
    assert whole.source_mask.sum() < 20 * 20 - 1  # the kernel is eight fine pixels wide
    assert (whole.source[:, ~whole.source_mask] == 0).all()
    stored[:, 20, 20] = 9000
    make_raster("0.tif", stored, names=NAMES, scale=1e-4, nodata=0)
    other = PairReader(manifest.read(path), SHARPER, 2).read(0, Box(0, 0, 20, 20))
    known = whole.source_mask
    np.testing.assert_array_equal(whole.source[:, known], other.source[:, known])


@pytest.mark.parametrize("degradation", [SensorMTF(noise=0.02), Blind()])
def test_a_random_degradation_is_a_pure_function_of_seed_and_position(fine, degradation):
    def crops(**more):
        return dataset(fine, 8, signature=SHARPER, scale=2, degradation=degradation, **more)

    one, other = crops(), crops(cache_mb=64)
    for position in (0, 5, 6):
        same(one[position], other[position])
    assert not torch.equal(one[0]["source"], crops(seed=1)[0]["source"])
    windows = WindowDataset(PairReader(manifest.read(fine), SHARPER, 2, degradation=degradation))
    same(windows[1], windows[1])


def test_a_recipes_degradation_wins_over_source_and_manifest(fine, pairs):
    paired = manifest.read(pairs(2))
    reader = PairReader(paired, SHARPER, 2, degradation=Bicubic())
    assert reader.info(0).grid.box == Box(0, 0, 20, 25)
    soft = PairReader(manifest.read(fine), SHARPER, 2, degradation=SensorMTF(mtf=0.05))
    sharp = PairReader(manifest.read(fine), SHARPER, 2)
    box = Box(0, 0, 20, 20)
    assert soft.read(0, box).source.std() < sharp.read(0, box).source.std()


def test_each_row_has_the_degradation_that_it_names(fine):
    stated = ["Bicubic", "SensorMTF(mtf=0.05)", "SensorMTF(mtf=0.05, noise=0.1)"]
    table = manifest.read(fine)
    same = table.assign(target=table["target"].iloc[0], degradation=stated)
    reader = PairReader(same, SHARPER, 2)
    target = torch.from_numpy(reader.read(0, reader.info(0).grid.box).target)
    made = [Bicubic(), SensorMTF(mtf=0.05), SensorMTF(mtf=0.05, noise=0.1)]
    for row, degradation in enumerate(made):
        source = reader.read(row, reader.info(row).grid.box).source
        expected = degradation(target, 2, np.random.default_rng(0)).numpy()
        np.testing.assert_allclose(source, expected, atol=1e-6)


def test_what_cannot_be_degraded(fine, tmp_path):
    table = manifest.read(fine)
    with pytest.raises(ManifestError, match=r"manifest row 1: .* needs data.scale of 2 or more"):
        PairReader(table, SHARPER).read(0, Box(0, 0, 5, 5))
    with pytest.raises(ManifestError, match="did you mean 'Bicubic'"):
        PairReader(table.assign(degradation="Bicubik"), SHARPER, 2).read(0, Box(0, 0, 5, 5))
    signature = Signature(["nir"], ["red"], {"reflectance": UnitRange([(0, 1)], [(0, 1)])})
    with pytest.raises(ManifestError, match="a source of nir cannot be made from a target of red"):
        PairReader(table, signature, 2).read(0, Box(0, 0, 5, 5))
    with pytest.raises(ManifestError, match="too small for a source 60 times coarser"):
        PairReader(table, SHARPER, 60).check()
    alone = write(tmp_path, [{"source": "0.tif", "target": None}])
    with pytest.raises(ManifestError, match="no target to make the source from"):
        PairReader(manifest.read(alone), SHARPER, 2, degradation=Bicubic()).check()


# Rows with one side only.


@pytest.fixture
def apart(tmp_path, make_raster):
    """Write a manifest of two sources and two targets of other sizes; returns its path."""
    for i in range(2):
        make_raster(f"s{i}.tif", values(i)[:3], names=NAMES[:3], scale=1e-4)
        make_raster(f"t{i}.tif", values(i, 30, 33)[3:], names=NAMES[3:], scale=1e-4)
    rows = [{"source": f"s{i}.tif", "target": None} for i in range(2)]
    return write(tmp_path, rows + [{"source": None, "target": f"t{i}.tif"} for i in range(2)])


def test_unpaired_rows_are_drawn_for_their_side_only(apart):
    crops = dataset(apart, paired=False)
    samples = [crops[i] for i in range(30)]
    assert {s["name"].rsplit("/", 1)[1] for s in samples} == {"s0.tif", "s1.tif"}
    for s in samples:
        assert s["source_mask"].all()
        assert s["mask"].all()
        assert s["source"].min() > 0
        assert s["target"].min() >= 0.5  # nir of a row of 30 x 33
        assert s["target"].max() <= 0.5001 + 30 * 33 * 1e-4
    same(crops[7], dataset(apart, paired=False, cache_mb=64)[7])


def test_paired_training_refuses_them(apart):
    with pytest.raises(ManifestError, match=r"row 1: it has no target: .*data.paired false"):
        PairReader(manifest.read(apart), SIGNATURE).check()
    table = manifest.read(apart)
    with pytest.raises(ManifestError, match="row 3: it has no source"):
        PairReader(table[2:], SIGNATURE).check()
    path = write(apart.parent, [{"source": "s0.tif", "target": None}])
    with pytest.raises(ManifestError, match="no row has a target"):
        dataset(path, paired=False)


def test_no_target_of_a_fitting_unit(apart, make_raster):
    for i in range(2):
        make_raster(f"t{i}.tif", values(i)[3:], names=NAMES[3:], scale=1e-4, unit="display")
    with pytest.raises(ManifestError, match="no target in reflectance was found"):
        dataset(apart, paired=False)[0]


# A resize that a recipe asks for by name.


def test_whole_pictures_are_resized_whatever_their_shape(tmp_path, make_raster):
    ramp = np.tile(np.arange(1, 61, dtype=np.uint16) * 100, (3, 40, 1))
    make_raster("s.tif", ramp, names=NAMES[:3], scale=1e-4)
    make_raster("t.tif", np.tile(ramp[:1, :1, ::2], (1, 80, 1)), names=("nir",), scale=1e-4)
    path = write(tmp_path, [{"source": "s.tif", "target": "t.tif"}])
    with pytest.raises(ManifestError, match="the target has 80 x 30 pixels"):
        PairReader(manifest.read(path), SIGNATURE).check()
    reader = PairReader(manifest.read(path), SIGNATURE, resize=(20, 15))
    grid = reader.info(0).grid
    assert (grid.height, grid.width) == (20, 15)
    assert (grid.transform.a, grid.transform.e) == (40.0, -20.0)
    whole = reader.read(0, grid.box)
    # One resized column is the mean of four of the source, of two of the target.
    assert whole.source[0, 10, 7] == pytest.approx(0.01 * np.mean([29, 30, 31, 32]), abs=1e-3)
    assert whole.target[0, 10, 7] == pytest.approx(0.01 * np.mean([29, 31]), abs=1e-3)
    sample = dataset(path, 10, resize=(20, 15))[0]
    assert sample["source"].shape == (3, 10, 10)
    assert (sample["source"][0] - sample["target"][0] - 0.005).abs().max() < 2e-3


def test_a_resized_pixel_is_valid_only_if_all_it_is_made_of_is(tmp_path, make_raster):
    stored = values(0, 40, 40)
    stored[:, :10] = 0
    make_raster("0.tif", stored, names=NAMES, scale=1e-4, nodata=0)
    path = write(tmp_path, [{"source": "0.tif", "target": "0.tif"}])
    mask = (
        PairReader(manifest.read(path), SIGNATURE, resize=(20, 20)).read(0, Box(0, 0, 20, 20)).mask
    )
    assert not mask[:5].any()
    assert mask[7:].all()


# A pixel size in metres.


def test_a_range_of_pixel_sizes_is_the_same_for_every_sensor(pairs, make_raster):
    path = pairs(2, {"gsd": [2.5, 5.0]})
    data = dataset(path, crop=8, gsd=(5.0, 20.0), resolution_probability=1.0)
    sizes = np.array([data[i]["gsd"].item() for i in range(300)])
    assert 4.9 < sizes.min() < 5.5
    assert 18.0 < sizes.max() <= 25.0  # a scene of 40 pixels of 2.5 m bounds it at 12.5 m
    assert abs(np.median(np.log(sizes)) - np.log(9)) < 0.25
    fixed = dataset(path, crop=8, gsd=(1.0, 1.0), resolution_probability=1.0)
    assert {fixed[i]["gsd"].item() for i in range(20)} == {2.5, 5.0}  # never finer
    with pytest.raises(RecipeError, match="resolution or gsd, not both"):
        dataset(path, gsd=(1.0, 2.0), resolution=(1.0, 2.0))
    with pytest.raises(RecipeError, match=r"data.gsd must be"):
        dataset(path, gsd=(3.0, 2.0))


def test_a_pixel_size_that_nobody_says(tmp_path, make_raster):
    make_raster("0.png", values(0)[:4].astype(np.uint8), names=NAMES, unit=None, driver="PNG")
    rows = [{"source": "0.png", "target": "0.png", "sensor": "display"}]
    rows[0] |= {"source_bands": "red=1,green=2,blue=3", "target_bands": "nir=4"}
    with pytest.raises(ManifestError, match=r"row 1: data.gsd needs the pixel's size"):
        dataset(write(tmp_path, rows), gsd=(1.0, 2.0))[0]


# Files that cannot be read.


def garble(path):
    """Damage the pixels of a compressed file; it can be opened, but not read."""
    data = bytearray(path.read_bytes())
    data[8:4000] = b"\xff" * 3992
    path.write_bytes(data)


def test_a_broken_file_ends_it_with_its_name_or_is_skipped(pairs, tmp_path):
    path = pairs(4, compress="deflate", blockysize=40)
    garble(tmp_path / "2.tif")
    with pytest.raises(UnreadableError, match=r"manifest row 3: .*2\.tif: cannot be read"):
        [dataset(path)[i] for i in range(8)]
    data = dataset(path, on_error="skip")
    samples = [data[i] for i in range(40)]
    assert {s["row"] for s in samples} == {1, 2, 4}
    named = [s["skipped"] for s in samples if s["skipped"]]
    assert 5 <= len(named) <= 15
    assert all("2.tif: cannot be read" in name for name in named)
    good = dataset(pairs(4))
    untouched = [i for i in range(40) if not samples[i]["skipped"]]
    for i in untouched[:5]:
        same(samples[i], good[i])


def test_a_loading_process_says_it_in_one_line(pairs, tmp_path):
    from crossband.data.workers import original

    path = pairs(4, compress="deflate", blockysize=40)
    garble(tmp_path / "2.tif")
    loader = DataLoader(dataset(path), batch_sampler=[[0, 1, 2, 3]], num_workers=1)
    with pytest.raises(UnreadableError) as error:
        list(loader)
    assert "Traceback" in str(error.value)
    line = str(original(error.value))
    assert line.startswith("manifest row 3: ")
    assert "Traceback" not in line


@pytest.mark.slow
def test_nothing_but_broken_files_is_an_error_anyway(pairs, tmp_path):
    path = pairs(2, compress="deflate", blockysize=40)
    for i in range(2):
        garble(tmp_path / f"{i}.tif")
    with pytest.raises(UnreadableError):
        dataset(path, on_error="skip")[0]
    for i in range(2):
        (tmp_path / f"{i}.tif").write_bytes(b"II*\0nothing")
    reader = PairReader(manifest.read(path), SIGNATURE)
    with pytest.raises(UnreadableError, match=r"row 1: .*not a raster"):
        reader.check(skip=True)


@pytest.mark.slow
def test_a_window_that_cannot_be_read_counts_nothing(pairs, tmp_path):
    path = pairs(3, compress="deflate", blockysize=40)
    garble(tmp_path / "1.tif")
    (tmp_path / "2.tif").write_bytes(b"II*\0nothing")
    reader = PairReader(manifest.read(path), SIGNATURE)
    with pytest.raises(UnreadableError, match="row 3"):
        WindowDataset(reader)
    windows = WindowDataset(reader, on_error="skip")
    assert [index for index, _ in windows.windows] == [0, 1]
    assert windows[0]["mask"].all()
    assert not windows[1]["mask"].any()
    assert windows[1]["source"].shape == windows[0]["source"].shape


def test_pairs_of_another_target_than_the_models_are_said(line_pairs):
    table = manifest.read(line_pairs).assign(target_bands="thermal=1")
    signature = Signature(["red"], ["swir"], {"reflectance": UnitRange([(0, 1)], [(0, 1)])})
    said = "row 1: the manifest's target is thermal, the model makes swir: take a model"
    with pytest.raises(ManifestError, match=said):
        PairReader(table, signature).info(0)
    unnamed = manifest.read(line_pairs)
    with pytest.raises(ManifestError, match="source_bands or target_bands, as red=3,swir=NUMBER"):
        PairReader(unnamed, signature).info(0)


@pytest.mark.parametrize(("left", "lies"), [(0, True), (30, True), (50, False), (-5000, False)])
def test_a_target_of_another_place_is_refused(left, lies, make_raster, tmp_path):
    """A target may be shifted, but not lie beside its source."""
    make_raster("one.tif")
    make_raster("two.tif", names=("nir",), transform=UTM @ Affine.translation(left, 0))
    table = write(tmp_path, [{"source": "one.tif", "target": "two.tif"}])
    reader = PairReader(manifest.read(table), SIGNATURE)
    if lies:
        assert reader.info(0).grid.width == 50
        return
    with pytest.raises(ManifestError, match=r"row 1: by their georeference, .* do not overlap"):
        reader.info(0)


# A target with a radiometry of its own.


@pytest.fixture
def halves(tmp_path, make_raster):
    """Write a source and a target of one sensor, without units in the files."""
    make_raster("rgb.tif", values(1)[:3], names=NAMES[:3], unit=None)
    make_raster("nir.tif", values(1)[3:], names=NAMES[3:], unit=None)
    row = {"source": "rgb.tif", "target": "nir.tif", "sensor": "reflectance"}
    return lambda **cells: PairReader(manifest.read(write(tmp_path, [row | cells])), SIGNATURE)


def test_a_target_without_a_sensor_has_its_own_cells(halves):
    plain = halves(scale=1e-4, offset=0.0).read(0, Box(0, 0, 8, 8))
    other = halves(scale=1e-4, offset=0.0, target_scale=2e-4, target_offset=0.0)
    found = other.read(0, Box(0, 0, 8, 8))
    np.testing.assert_array_equal(found.source, plain.source)
    np.testing.assert_allclose(found.target, 2 * plain.target, rtol=1e-6)
    stored = round(float(plain.target[0, 2, 3]) * 1e4)
    hole = halves(scale=1e-4, offset=0.0, target_nodata=stored).read(0, Box(0, 0, 8, 8))
    np.testing.assert_array_equal(hole.mask.squeeze(), plain.target[0] != plain.target[0, 2, 3])
    assert not hole.mask.squeeze()[2, 3]


def test_a_target_of_unknown_unit_names_its_columns(halves):
    with pytest.raises(ManifestError) as error:
        halves(scale=1e-4, offset=0.0, target_sensor="naip").read(0, Box(0, 0, 8, 8))
    assert "give the column target_scale and the column target_offset" in str(error.value)
    with pytest.raises(ManifestError, match="declare them in the column sensor "):
        halves(sensor=None).read(0, Box(0, 0, 8, 8))


def test_one_file_of_unknown_unit_names_its_columns(tmp_path, make_raster):
    make_raster("both.tif", values(1), names=NAMES, unit=None)
    row = {"source": "both.tif", "target": "both.tif"}
    table = manifest.read(write(tmp_path, [row]))
    with pytest.raises(ManifestError, match="declare them in the column sensor "):
        PairReader(table, SIGNATURE).read(0, Box(0, 0, 8, 8))
    refused = row_stats(table.iloc[0]).refused["source"]
    assert "declare them in the column sensor " in refused[2]


@pytest.mark.parametrize(
    ("written", "groups"),
    [
        (["7.0", "8.0", "9.0"], ["7", "8", "9"]),  # pandas wrote integers
        (["1", "1.0", "2"], ["1", "1.0", "2"]),  # two groups
        (["v1.0", "2.0", "3"], ["v1.0", "2.0", "3"]),
    ],
)
def test_groups_keep_their_texts(halves, tmp_path, written, groups):
    path = tmp_path / "groups.csv"
    halves()
    lines = [f"rgb.tif,nir.tif,{group}\n" for group in written]
    path.write_text("source,target,group\n" + "".join(lines))
    assert manifest.read(path)["group"].tolist() == groups
