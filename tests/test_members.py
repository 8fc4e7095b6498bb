"""A change of any file that a scene is made of is noticed, however many VRTs lie in between."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from conftest import random_values
from tiers import slow

import crossband
from crossband.core.hidden_folder import folder_of
from crossband.errors import ChangedError, Interrupted
from crossband.raster import journal as store_module
from crossband.raster.members import member_files

BAND = """<VRTRasterBand dataType="Float32" band="{number}"><Description>{name}</Description>
<UnitType>reflectance</UnitType><SimpleSource>
<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>
<SourceBand>{number}</SourceBand></SimpleSource></VRTRasterBand>"""


@pytest.fixture
def over(tmp_path):
    """Return a function that writes a VRT of three bands over another raster."""

    def write(name, source, relative=1):
        bands = "".join(
            BAND.format(number=n, name=band, source=source, relative=relative)
            for n, band in enumerate(("red", "green", "blue"), start=1)
        )
        place = "<SRS>EPSG:32633</SRS><GeoTransform>500000,10,0,5000000,0,-10</GeoTransform>"
        text = f'<VRTDataset rasterXSize="70" rasterYSize="60">{place}{bands}</VRTDataset>'
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.fixture
def nested(make_raster, over):
    """Return a VRT of a VRT of a VRT of `in.tif`."""
    make_raster("in.tif", random_values(3, 60, 70))
    over("one.vrt", "in.tif")
    over("two.vrt", "one.vrt")
    return over("three.vrt", "two.vrt")


def names(*files):
    return sorted(file.rpartition("/")[2] for file in member_files(map(str, files)))


def test_members(nested, over, tmp_path):
    assert names(nested) == ["in.tif", "one.vrt", "three.vrt", "two.vrt"]
    assert names(nested, tmp_path / "in.tif") == names(nested)
    assert names(over("round.vrt", "circle.vrt")) == ["circle.vrt", "round.vrt"]
    # A circle is refused before GDAL opens it.
    assert names(over("circle.vrt", "round.vrt")) == ["circle.vrt"]
    assert names(over("own.vrt", f"../{tmp_path.name}/own.vrt")) == ["own.vrt"]
    assert names(over("lost.vrt", "gone.vrt")) == ["gone.vrt", "lost.vrt"]
    part = f"GTIFF_DIR:1:{tmp_path / 'in.tif'}"
    assert str(tmp_path / "in.tif") in member_files([str(over("part.vrt", part, relative=0))])
    seen = f"vrt://{tmp_path / 'one.vrt'}?bands=1,2,3"
    assert names(over("seen.vrt", seen, relative=0)) == ["in.tif", "one.vrt", "seen.vrt"]


@pytest.mark.parametrize("relative", [True, slow(False)])
def test_a_fleet_does_not_skip_what_changed_behind_a_vrt(
    crossband_command, nested, over, make_raster, tiny_model, tmp_path, relative
):
    if not relative:
        over("two.vrt", f"vrt://{tmp_path / 'one.vrt'}?bands=1,2,3", relative=0)
    words = ("translate", nested, "-o", f"{tmp_path / 'out'}/", "--model", tiny_model)
    assert "1 done" in crossband_command(*words).stdout
    assert "1 skipped" in crossband_command(*words).stdout
    make_raster("in.tif", random_values(3, 60, 70, seed=1))
    again = crossband_command(*words)
    assert again.returncode == 1
    assert "the source changed" in again.stderr
    assert "1 done" in crossband_command(*words, "--overwrite").stdout
    alone = crossband.load(tiny_model).translate(tmp_path / "in.tif", tmp_path / "alone.tif")
    with rasterio.open(alone) as one, rasterio.open(tmp_path / "out" / "three_nir.tif") as other:
        np.testing.assert_array_equal(one.read(), other.read())


def test_resume_does_not_mix_two_sources(nested, make_raster, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "FLUSH_SECONDS", 0.0)

    def stop(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    out, model = tmp_path / "o.tif", crossband.load(tiny_model)
    with pytest.raises(Interrupted):
        model.translate(nested, out, tile=16, progress=stop)
    make_raster("in.tif", random_values(3, 60, 70, seed=1))
    with pytest.raises(ChangedError, match="the source changed"):
        model.translate(nested, out, tile=16, resume=True)
    assert folder_of(out).is_dir()


def test_a_result_does_not_replace_what_lies_behind_a_vrt(
    crossband_command, nested, tiny_model, tmp_path
):
    before = (tmp_path / "in.tif").read_bytes()
    out = tmp_path / "in.tif"
    done = crossband_command(
        "translate", nested, "-o", out, "--model", tiny_model, "--overwrite"
    )  # fmt: skip
    assert done.returncode == 2
    assert "the source is read from this file" in done.stderr
    assert out.read_bytes() == before
