"""The evaluation against numbers computed here with plain NumPy, and what it must refuse."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from scipy import stats

from crossband import Model
from crossband.core.signature import Signature, UnitRange
from crossband.errors import BandError, CrossbandError, ManifestError, ModelError, OutputError
from crossband.evaluation import evaluate as ev
from crossband.evaluation.report.selection import select_pairs
from crossband.metrics import MODEL
from crossband.model.folder import bundled, load
from crossband.model.interpolate import blend
from crossband.model.training_data import read_training_data, target_hash, write_training_data
from crossband.networks.base import Generator
from crossband.networks.generators.bicubic import Bicubic
from crossband.networks.generators.per_pixel import PerPixelLinear, PerPixelMean
from crossband.training import fine_tune

pytestmark = pytest.mark.usefixtures("no_figures")

RGB = ["red", "green", "blue"]
SIGNATURE = Signature(
    RGB,
    ["nir"],
    {
        "reflectance": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)]),
        "display": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)]),
    },
)
SIZE = 24


class NotANumber(Generator):
    """A line that has no value where red is high; only for these tests."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels, self.out_channels = 3, 1
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return torch.where(x[:, :1] > 0.29, torch.nan, x[:, :1])


def line(red, green, blue, constant):
    network = PerPixelLinear()
    network.set_solution(torch.tensor([[red], [green], [blue], [constant]]))
    return network


def mean(value):
    network = PerPixelMean()
    network.set_solution(torch.tensor([[value]]))
    return network


def build(network, name="toy", **baselines):
    model = Model(network, SIGNATURE, name=name, task="rgb2nir")
    model.baselines = {k: Model(n, SIGNATURE, name=k, task="rgb2nir") for k, n in baselines.items()}
    return model


@pytest.fixture
def model():
    return build(line(0.0, 1.0, 0.0, 0.2), mean=mean(0.4), linear=line(1.0, 0.0, 0.0, 0.1))


class Scenes:
    """Pairs on disk; `pixels` holds what they mean physically: rgb [3, H, W], nir, mask."""

    def __init__(self, folder):
        self.folder, self.rows, self.pixels = folder, [], []
        self.rng = np.random.default_rng(3)

    def add(self, name, group, sensor="sentinel-2-l2a-no-offset", split="test", **more):
        display = sensor == "naip"
        dtype, top = ("uint8", 255) if display else ("uint16", 10000)
        size = (4, SIZE, SIZE + len(self.rows))
        stored = self.rng.integers(int(0.06 * top), int(0.3 * top), size).astype(dtype)
        noise = self.rng.normal(size=size[1:])
        stored[3] = np.clip(stored[1] * 1.1 + (0.2 + 0.02 * noise) * top, 1, top)
        mask = np.ones(size[1:], bool)
        if not display:
            stored[:, :3, :5] = 0
            mask[:3, :5] = False
        if more.pop("empty", False):
            stored[:] = 0
            mask[:] = False
        with rasterio.open(
            self.folder / f"{name}.tif",
            "w",
            driver="GTiff",
            count=4,
            height=size[1],
            width=size[2],
            dtype=dtype,
            crs="EPSG:32633",
            transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6),
        ) as out:
            out.write(stored)
            out.descriptions = (*RGB, "nir")
        physical = stored.astype(np.float64) / top
        self.pixels.append((physical[:3], physical[3], mask))
        self.rows.append(
            {
                "source": f"{name}.tif",
                "target": f"{name}.tif",
                "sensor": sensor,
                "split": split,
                "group": group,
                "terrain": name.upper(),
                **more,
            }
        )
        return self

    def manifest(self, name="pairs.csv", drop=()):
        path = self.folder / name
        pd.DataFrame(self.rows).drop(columns=list(drop)).to_csv(path, index=False)
        return path


@pytest.fixture
def scenes(tmp_path):
    s = Scenes(tmp_path)
    s.add("a1", "a").add("a2", "a").add("b1", "b")
    return s.add("n1", "c", sensor="naip").add("n2", "d", sensor="naip")


def errors(scenes, numbers, predict):
    """Absolute errors of the pairs, all pixels together, by hand."""
    out = []
    for i in numbers:
        rgb, nir, mask = scenes.pixels[i]
        out.append(np.abs(predict(rgb) - nir)[mask])
    return np.concatenate(out)


def by_model(rgb):
    return rgb[1] + 0.2


def by_line(rgb):
    return rgb[0] + 0.1


def find(records, **wanted):
    (one,) = [r for r in records if all(r[k] == v for k, v in wanted.items())]
    return one


def test_numbers_equal_those_of_numpy(scenes, model, tmp_path):
    report = ev.evaluate([model], scenes.manifest(), tmp_path / "out", precision="fp32", pictures=0)
    (record,) = report.metrics["models"]
    s2 = find(record["sensors"], unit="reflectance")
    assert s2["sensor"] == "sentinel-2-l2a-no-offset"
    assert (s2["n_groups"], s2["n_images"]) == (2, 3)
    for who, predict in ((MODEL, by_model), ("linear", by_line), ("mean", lambda rgb: 0.4)):
        wanted = errors(scenes, [0, 1, 2], predict)
        got = s2["scores"][who]["pixels"]
        assert got["n_valid"] == wanted.size
        assert got["mae"] == pytest.approx(wanted.mean(), rel=1e-5)
        assert got["rmse"] == pytest.approx(np.sqrt((wanted**2).mean()), rel=1e-5)
        images = s2["scores"][who]["images"]
        per_image = [errors(scenes, [i], predict).mean() for i in range(3)]
        assert images["mae"] == pytest.approx(np.mean(per_image), rel=1e-5)
        assert images["n_images"]["mae"] == 3
    # Different sizes: the mean over images is not the mean over pixels.
    own = s2["scores"][MODEL]
    assert own["images"]["mae"] != pytest.approx(own["pixels"]["mae"], rel=1e-6)
    pixels = [scenes.pixels[i] for i in range(3)]
    true = np.concatenate([nir[m] for _, nir, m in pixels])
    made = np.concatenate([by_model(rgb)[m] for rgb, _, m in pixels])
    assert own["pixels"]["r"] == pytest.approx(stats.pearsonr(made, true)[0], rel=1e-5)
    red = np.concatenate([rgb[0][m] for rgb, _, m in pixels])
    ndvi = np.abs((made - red) / (made + red) - (true - red) / (true + red)).mean()
    assert own["pixels"]["NDVI_mae"] == pytest.approx(ndvi, rel=1e-4)


def test_units_are_kept_apart_and_ratios_by_group(scenes, model, tmp_path):
    report = ev.evaluate([model], scenes.manifest(), tmp_path / "out", precision="fp32", pictures=0)
    (record,) = report.metrics["models"]
    assert [(s["sensor"], s["unit"]) for s in record["sensors"]] == [
        ("sentinel-2-l2a-no-offset", "reflectance"),
        ("naip", "display"),
    ]
    groups = {"a": [0, 1], "b": [2], "c": [3], "d": [4]}
    wanted = {
        g: errors(scenes, i, by_model).mean() / errors(scenes, i, by_line).mean()
        for g, i in groups.items()
    }
    overall = find(record["ratios"], baseline="linear", metric="mae", sensor=None)
    assert overall["geometric_mean"] == pytest.approx(stats.gmean([*wanted.values()]), rel=1e-4)
    assert overall["n_groups"] == 4
    assert overall["n_won"] == sum(v < 1 for v in wanted.values()) > 0
    naip = find(record["ratios"], baseline="linear", metric="mae", sensor="naip")
    two = stats.gmean([wanted["c"], wanted["d"]])
    assert naip["geometric_mean"] == pytest.approx(two, rel=1e-4)
    assert naip["n_groups"] == 2
    # EVI has constants that mean reflectance: it is not judged on display.
    assert "EVI_mae" in find(record["groups"], group="a")["scores"][MODEL]["pixels"]
    assert "EVI_mae" not in find(record["groups"], group="c")["scores"][MODEL]["pixels"]
    assert "NDVI_mae" in find(record["groups"], group="c")["scores"][MODEL]["pixels"]


def test_files_of_the_report(scenes, model, tmp_path):
    model.save(tmp_path / "folder")
    out = tmp_path / "deep" / "out"
    report = ev.evaluate([str(tmp_path / "folder")], scenes.manifest(), out)
    names = {p.name for p in out.iterdir()}
    files = {"index.html", "metrics.json", "profiles.json", "per_image.csv", "per_image.parquet"}
    assert names == {*files, "table.txt", "pictures"}
    assert [p.name for p in out.parent.iterdir()] == ["out"]  # nothing hidden is left
    stored = json.loads((out / "metrics.json").read_text())
    assert stored["schema"] == "crossband.metrics/1"
    assert stored["data_range"]["reflectance"] == 1.0
    assert stored["index_guard"] == 0.02
    assert stored["manifest"]["split"] == "test"
    assert stored["models"][0]["weights_hash"] == model.weights_hash != ""
    assert set(stored["models"][0]["baselines"]) == {"mean", "linear"}
    csv, parquet = pd.read_csv(out / "per_image.csv"), pd.read_parquet(out / "per_image.parquet")
    for frame in (csv, parquet):
        assert len(frame) == 5 * 3
        assert set(frame["by"]) == {"model", "mean", "linear"}
        assert {"source", "sensor", "group", "split", "terrain", "gsd"} <= set(frame.columns)
        row = frame[(frame["by"] == "model") & (frame["terrain"] == "B1")].iloc[0]
        assert row["mae"] == pytest.approx(errors(scenes, [2], by_model).mean(), rel=0.02)
        assert row["group"] == "b"
        assert row["unit"] == "reflectance"
    assert (out / "table.txt").read_text().strip() == ev.report_text(report)
    for picture in stored["models"][0]["pictures"]:
        pixels = matplotlib.image.imread(out / picture["file"])
        assert pixels.shape[1] == 1600
        assert pixels[..., :3].std() > 0.1


def test_pairs_that_a_model_was_trained_on_are_said(scenes, model, tmp_path):
    """The hash is of the target's values: neither the file's name nor its grid counts."""
    folder = tmp_path / "folder"
    model.save(folder)
    known = [target_hash(nir[None], mask) for _, nir, mask in scenes.pixels[:2]]
    write_training_data(folder, [("a, with a comma", known[0]), ("b", known[1])])
    report = ev.evaluate([str(folder)], scenes.manifest(), tmp_path / "out", pictures=0)
    assert report.metrics["models"][0]["trained_on"] == 2
    said = "was trained on 2 of 5 pairs judged here, so its numbers are too good"
    assert f"! {model.name} {said}" in ev.report_text(report)
    page = (tmp_path / "out" / "index.html").read_text()
    assert said in page
    assert '<li class="good">' not in page
    write_training_data(folder, [("a", "0" * 16)])
    report = ev.evaluate([str(folder)], scenes.manifest(), tmp_path / "out2", pictures=0)
    assert report.metrics["models"][0]["trained_on"] == 0
    assert "was trained on" not in ev.report_text(report)


def test_a_model_made_of_others_names_their_training_pairs(model, tmp_path):
    for name, value in (("one", "1" * 16), ("two", "2" * 16)):
        model.save(tmp_path / name)
        write_training_data(tmp_path / name, [(name, value)])
    blend(str(tmp_path / "one"), str(tmp_path / "two"), tmp_path / "both")
    assert read_training_data(tmp_path / "both") == {"1" * 16: "one", "2" * 16: "two"}
    own = [("three", "3" * 16)]
    fine_tune.keep_training_data({"name": str(tmp_path / "one")}, None, own, tmp_path / "two")
    assert read_training_data(tmp_path / "two") == {"1" * 16: "one", "3" * 16: "three"}
    fine_tune.keep_training_data({"name": str(tmp_path / "gone")}, None, own, tmp_path / "both")
    assert read_training_data(tmp_path / "both") == {"3" * 16: "three"}


@pytest.mark.parametrize("text", ["", "pair,sha\n", "pair,hash\na,xyz\n", "pair,hash\na\n", "\xff"])
def test_a_broken_table_of_training_pairs_is_one_line(scenes, model, tmp_path, text):
    model.save(tmp_path / "folder")
    (tmp_path / "folder" / "training_data.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"training_data\.csv: "):
        ev.evaluate([str(tmp_path / "folder")], scenes.manifest(), tmp_path / "out", pictures=0)


def test_bundled_models_name_each_pair_that_they_were_trained_on():
    for name, folder in bundled().items():
        pairs = load(name).about["training"]["data"]["pairs"]
        # A pair is in it once for each guide.
        assert len((folder / "training_data.csv").read_text().splitlines()) == 1 + pairs
        assert len(read_training_data(folder)) > 0.9 * pairs
        assert "training_data.csv" in (folder / "README.md").read_text()


def test_a_manifest_column_with_a_name_of_ours_is_kept(scenes, model, tmp_path):
    for i, row in enumerate(scenes.rows):
        row["mae"], row["mixed"] = i, "x" if i else 7
    report = ev.evaluate([model], scenes.manifest(), tmp_path / "out", precision="fp32", pictures=0)
    own = report.per_image[report.per_image["by"] == "model"]
    assert list(own["manifest_mae"]) == ["0", "1", "2", "3", "4"]
    assert own["mae"].max() < 1
    # A report's table is a manifest, too, and so is the next one's.
    for row in scenes.rows:
        row["manifest_mae"] = "before"
    again = ev.evaluate([model], scenes.manifest(), tmp_path / "again", pictures=0).per_image
    assert set(again["manifest_mae"]) == {"before"}
    assert set(again["manifest_manifest_mae"]) == {"0", "1", "2", "3", "4"}


def test_table_marks_where_the_model_loses(scenes, tmp_path):
    good, bad = line(0.0, 1.0, 0.0, 0.2), line(0.0, 0.0, 0.0, 0.0)
    lost = ev.evaluate([build(bad, linear=good)], scenes.manifest(), tmp_path / "1", pictures=0)
    text = ev.report_text(lost)
    (row,) = [x for x in text.splitlines() if x.startswith("linear: all")]
    assert "*" in row
    assert "0/4" in row
    assert "loses to linear in MAE in 4 of 4 groups" in text
    own = [x for x in text.splitlines() if x.startswith("linear ")]
    assert own
    assert all("*" in x for x in own)
    won = ev.evaluate([build(good, linear=bad)], scenes.manifest(), tmp_path / "2", pictures=0)
    text = ev.report_text(won)
    (row,) = [x for x in text.splitlines() if x.startswith("linear: all")]
    assert "*" not in row
    assert "4/4" in row
    assert "loses" not in text
    none = ev.evaluate([build(good)], scenes.manifest(), tmp_path / "3", pictures=0)
    assert "no baselines" in ev.report_text(none)


def test_not_a_number_is_counted_and_shown(scenes, tmp_path):
    model = build(NotANumber(), linear=line(0.0, 1.0, 0.0, 0.2))
    report = ev.evaluate([model], scenes.manifest(), tmp_path / "out", precision="fp32", pictures=0)
    expected = sum(int((rgb[0] > 0.29)[m].sum()) for rgb, _, m in scenes.pixels[:3])
    (record,) = report.metrics["models"]
    s2 = find(record["sensors"], unit="reflectance")["scores"]
    assert s2[MODEL]["pixels"]["n_nonfinite"] == pytest.approx(expected, abs=2)
    assert expected > 3
    assert math.isnan(s2[MODEL]["pixels"]["mae"])
    assert math.isnan(s2[MODEL]["images"]["mae"])
    assert s2["linear"]["pixels"]["mae"] > 0
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    overall = find(stored["models"][0]["ratios"], baseline="linear", metric="mae", sensor=None)
    assert overall["geometric_mean"] is None
    assert overall["n_undefined"] >= 2
    assert "NaN or infinite" in ev.report_text(report)


def test_all_masked_pair_and_constant_target(scenes, model, tmp_path):
    scenes.add("e1", "e", empty=True)
    report = ev.evaluate([model], scenes.manifest(), tmp_path / "out", precision="fp32", pictures=0)
    own = report.per_image[report.per_image["terrain"] == "E1"]
    assert list(own["n_valid"]) == [0, 0, 0]
    assert own["mae"].isna().all()
    (record,) = report.metrics["models"]
    overall = find(record["ratios"], baseline="linear", metric="mae", sensor=None)
    assert (overall["n_groups"], overall["n_empty"]) == (4, 1)
    assert overall["geometric_mean"] > 0
    s2 = find(record["sensors"], unit="reflectance")["scores"][MODEL]
    assert s2["images"]["n_images"]["mae"] == 3  # of four
    assert not math.isnan(s2["images"]["mae"])
    assert math.isnan(find(record["groups"], group="a")["scores"]["mean"]["pixels"]["r"])


def test_one_pair_alone(tmp_path, model):
    manifest = Scenes(tmp_path).add("a1", "a").manifest()
    report = ev.evaluate([model], manifest, tmp_path / "out")
    pictures = report.metrics["models"][0]["pictures"]
    assert [(p["kind"], p["place"]) for p in pictures] == [("worst", 1)]


def test_order_of_pairs_changes_only_the_last_digits(scenes, model, tmp_path):
    one = ev.evaluate([model], scenes.manifest(), tmp_path / "1", precision="fp32", pictures=0)
    scenes.rows.reverse()
    two = ev.evaluate(
        [model], scenes.manifest("turned.csv"), tmp_path / "2", precision="fp32", pictures=0
    )
    for a in one.metrics["models"][0]["groups"]:
        b = find(two.metrics["models"][0]["groups"], group=a["group"])
        for name, value in a["scores"][MODEL]["pixels"].items():
            other = b["scores"][MODEL]["pixels"][name]
            assert value == pytest.approx(other, rel=1e-9, nan_ok=True)


def test_several_models_stand_side_by_side(model, tmp_path):
    scenes = Scenes(tmp_path).add("a1", "a")
    other = build(line(0.0, 1.0, 0.0, 0.1))
    report = ev.evaluate([model, other], scenes.manifest(), tmp_path / "out", pictures=1)
    assert [m["label"] for m in report.metrics["models"]] == ["toy (1)", "toy (2)"]
    assert set(report.per_image["model"]) == {"toy (1)", "toy (2)"}
    folders = sorted(p.name for p in (tmp_path / "out" / "pictures").iterdir())
    assert len(folders) == 2


def keys(value):
    """Yield the keys of objects within a value of JSON."""
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from keys(inner)


def test_every_key_of_metrics_json_is_documented(scenes, model, tmp_path):
    page = (Path(__file__).parents[1] / "docs/metrics-schema.md").read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", " ".join(re.findall("`([^`]+)`", page))))
    other = build(line(0.0, 1.0, 0.0, 0.1), mean=mean(0.4))
    metrics = ev.evaluate(
        [model, other], scenes.manifest(), tmp_path / "out", by=["terrain"], pictures=0
    ).metrics
    names = {"reflectance", "display", "db", "kelvin", "nir", "mean", "linear"}  # keys by name
    found = {re.sub("^(NDVI|NDWI|EVI)_", "NDVI_", key) for key in keys(metrics)} - names
    assert len(found) > 60
    assert [k for k in sorted(found) if k not in words and k.replace("NDVI", "") not in words] == []


@pytest.mark.parametrize(
    ("splits", "asked", "judged", "n"),
    [
        (["train", "val", "test"], None, "test", 1),
        (["train", "val", "val"], None, "val", 2),
        (["train", "train", "train"], None, "all rows", 3),
        (["train", "val", "test"], "train", "train", 1),
        (None, None, "all rows", 3),
    ],
)
def test_which_rows_are_judged_is_said(tmp_path, model, splits, asked, judged, n):
    s = Scenes(tmp_path)
    for i in range(3):
        s.add(f"p{i}", f"g{i}", split=splits[i] if splits else "")
    manifest = s.manifest(drop=() if splits else ("split",))
    report = ev.evaluate([model], manifest, tmp_path / "out", split=asked, pictures=0)
    assert report.split == judged
    assert report.metrics["manifest"]["n_rows"] == n
    assert judged in ev.report_text(report)


def test_pictures_are_chosen_by_rule():
    maes = [0.1, 0.9, 0.5, math.nan, 0.2, 0.25, 0.4, 0.375, 0.25, 0.5]
    rows = [
        {"position": i, "unit": "reflectance", "n_valid": 9, "mae": m} for i, m in enumerate(maes)
    ]
    rows.append({"position": 10, "unit": "display", "n_valid": 9, "mae": 7.0})
    rows.append({"position": 11, "unit": "display", "n_valid": 0, "mae": math.nan})
    chosen = [(kind, place, r["position"]) for kind, place, r in select_pairs(rows, 3)]
    # The median of the nine finite ones is 0.375; 0.25 (rows 5, 8) and 0.5 (row 9) are as near.
    assert chosen == [
        ("worst", 1, 3),
        ("worst", 2, 1),
        ("worst", 3, 2),
        ("median", 1, 7),
        ("median", 2, 6),
        ("median", 3, 5),
        ("worst", 1, 10),
    ]
    assert len(select_pairs(rows, 1)) == 3
    assert select_pairs(rows, 0) == []


# ---- refused, and nothing left ---------------------------------------------------------------


def test_an_existing_folder_is_refused_and_only_a_report_is_replaced(scenes, model, tmp_path):
    out = tmp_path / "out"
    ev.evaluate([model], scenes.manifest(), out, pictures=0)
    before = (out / "metrics.json").stat().st_mtime_ns
    with pytest.raises(OutputError, match="--overwrite"):
        ev.evaluate([model], scenes.manifest(), out, pictures=0)
    assert (out / "metrics.json").stat().st_mtime_ns == before
    (out / "mine.txt").write_text("mine")
    (out / "pictures").mkdir()
    ev.evaluate([model], scenes.manifest(), out, overwrite=True, pictures=0)
    assert (out / "mine.txt").read_text() == "mine"
    assert not (out / "pictures").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="not replaced"):
        ev.evaluate([model], scenes.manifest(), mine, overwrite=True, pictures=0)
    assert (mine / "thesis.txt").read_text() == "precious"


def test_a_failure_leaves_nothing_and_keeps_the_old_report(scenes, model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    ev.evaluate([model], scenes.manifest(), out, pictures=0)
    before = set(tmp_path.iterdir())
    old = (out / "metrics.json").read_bytes()

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ev, "_write", full)
    with pytest.raises(OutputError, match="No space left"):
        ev.evaluate([model], scenes.manifest(), out, overwrite=True, pictures=0)

    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(ev, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ev.evaluate([model], scenes.manifest(), tmp_path / "new", pictures=0)
    assert set(tmp_path.iterdir()) == before
    assert (out / "metrics.json").read_bytes() == old


def test_what_does_not_fit_names_the_row(scenes, model, tmp_path):
    scenes.rows[2]["target"] = "a1.tif"
    with pytest.raises(ManifestError, match=r"row 3.*pixels"):
        ev.evaluate([model], scenes.manifest(), tmp_path / "out", pictures=0)
    assert not (tmp_path / "out").exists()


def test_wrong_arguments(scenes, model, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ManifestError, match="no row with split 'val'"):
        ev.evaluate([model], scenes.manifest(), out, split="val", pictures=0)
    with pytest.raises(ManifestError, match="no column 'split'"):
        ev.evaluate([model], scenes.manifest(drop=["split"]), out, split="val", pictures=0)
    with pytest.raises(BandError, match="NDVI"):
        ev.evaluate([model], scenes.manifest(), out, indices=["NDVII"], pictures=0)
    with pytest.raises(ManifestError, match="no such manifest"):
        ev.evaluate([model], tmp_path / "none.csv", out, pictures=0)
    with pytest.raises(ManifestError, match="no model"):
        ev.evaluate([], scenes.manifest(), out, pictures=0)
    bands = Signature(["vv", "vh", "blue"], ["nir"], SIGNATURE.units)
    radar = Model(PerPixelLinear(), bands, name="radar", task="sar2optical")
    with pytest.raises(CrossbandError, match=r"row 1.*vv"):
        ev.evaluate([radar], scenes.manifest(), out, pictures=0)
    assert not out.exists()


@pytest.mark.slow
def test_evaluating_imports_no_lightning(scenes, model, tmp_path):
    model.save(tmp_path / "folder")
    code = (
        "import sys; from crossband.evaluation.evaluate import evaluate, report_text\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"print(report_text(evaluate([{str(tmp_path / 'folder')!r}], {str(scenes.manifest())!r},"
        f" {str(tmp_path / 'out')!r}, pictures=1)))\n"
        "assert not {'lightning', 'pytorch_lightning'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "MAE" in done.stdout
    assert done.stderr == ""


def test_real_pairs(real_data, model, tmp_path):
    """Two real files: 8-bit NAIP, and Landsat whose bands only a manifest tells."""
    folder = real_data / "rgb2nir" / "satellite"
    known = pd.read_csv(folder / "manifest.csv").set_index("file")
    rows = []
    for file, sensor in (
        ("naip_nd_m4709963se_20140720.tif", "naip"),
        ("landsat7_sr_chiapas_1999322.tif", "reflectance"),
    ):
        row = known.loc[file]
        rows.append(
            {
                "source": folder / file,
                "target": folder / file,
                "source_bands": ",".join(f"{b}={row[b]}" for b in RGB),
                "target_bands": f"nir={row['nir']}",
                "sensor": sensor,
                "scale": 1e-4 if sensor == "reflectance" else None,
                "offset": 0.0 if sensor == "reflectance" else None,
                "group": row["place"],
                "split": "test",
            }
        )
    pd.DataFrame(rows).to_csv(tmp_path / "pairs.csv", index=False)
    report = ev.evaluate(
        [model], tmp_path / "pairs.csv", tmp_path / "out", precision="fp32", pictures=0
    )
    with rasterio.open(folder / rows[0]["source"]) as file:
        stored = file.read().astype(np.float64) / 255
        valid = (file.read_masks() > 0).all(axis=0)
    wanted = np.abs(stored[1] + 0.2 - stored[3])[valid].mean()
    naip = find(report.metrics["models"][0]["sensors"], sensor="naip")["scores"][MODEL]["pixels"]
    assert naip["n_pixels"] == valid.size
    assert naip["n_valid"] == valid.sum() > 0.9 * valid.size
    assert naip["mae"] == pytest.approx(wanted, rel=1e-4)
    other = find(report.metrics["models"][0]["sensors"], unit="reflectance")
    assert other["scores"][MODEL]["pixels"]["mae"] < 1


def test_what_the_coarse_source_does_not_know_does_not_count(tmp_path):
    """Nodata in the target makes coarse pixels that nobody knows; they are no error of a model."""
    rng = np.random.default_rng(0)
    values = rng.integers(1, 4000, (3, SIZE, SIZE)).astype(np.uint16)
    values[:, 9, 10] = 0
    profile = {"driver": "GTiff", "height": SIZE, "width": SIZE, "count": 3, "dtype": "uint16"}
    with rasterio.open(tmp_path / "fine.tif", "w", nodata=0, **profile) as file:
        file.write(values)
        file.descriptions = RGB
    row = {"source": None, "target": "fine.tif", "sensor": "reflectance", "scale": 1e-4}
    table = pd.DataFrame([{**row, "offset": 0.0, "degradation": "Bicubic"}])
    table.to_csv(tmp_path / "pairs.csv", index=False)
    units = {"reflectance": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)] * 3)}
    model = Model(Bicubic(3, 3, 2), Signature(RGB, RGB, units), name="cubic", task="x2")
    report = ev.evaluate(
        [model], tmp_path / "pairs.csv", tmp_path / "out", precision="fp32", pictures=0
    )
    found, beside = report.per_image.to_dict("records")
    # What is finer must beat bicubic, and this model is bicubic.
    assert (found["by"], beside["by"]) == (MODEL, "bicubic")
    assert found["mae"] == beside["mae"]
    assert found["n_nonfinite"] == 0
    assert found["n_valid"] == SIZE**2 - (5 * 2) ** 2  # the kernel reaches two coarse pixels
    assert found["mae"] > 0
