"""The pairs of benchmarks: manifests as the command writes them, splits by region, runs on them."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path

import manifests
import numpy as np
import pandas as pd
import pytest
import rasterio
import task_pairs
import tiny
import vault
from PIL import Image

from crossband import load
from crossband.data import manifest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "systems.py"


def image(path, width=60, height=48, bands=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "width": width, "height": height, "count": bands}
    with rasterio.open(path, "w", dtype="uint16", **profile) as d:
        d.write(np.ones((bands, height, width), np.uint16))
    return str(path)


@pytest.fixture
def shared(tmp_path):
    """Places in ten regions of one family, the first with two dates; one has no coordinates."""
    rows = []
    for region in range(10):
        for number in range(2 if region else 3):
            file = image(tmp_path / "images" / f"{region}-{number}.tif")
            place = f"place {region}-{max(number, int(region == 0))}"
            rows.append(
                {
                    "source": file, "target": file, "source_bands": "red=1,green=2,blue=3",
                    "target_bands": "nir=4", "sensor": "sentinel-2-l2a", "family": "Sentinel-2",
                    "campaign": "c", "group": place, "region": f"region {region}",
                    "lon": np.nan if region == 9 else 10.0 * region, "licence_ok": "yes",
                    "vault": "yes" if region == 8 else "no",
                }
            )  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=vault.COLUMNS)


def test_manifests_are_written_by_the_code_of_the_command(shared, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(manifests, "TASKS", ("rgb2nir",))
    monkeypatch.setattr(manifests, "tables", lambda data: {"rgb2nir": shared})
    manifests.write(tmp_path, tmp_path / "manifests")
    assert "21 pairs, 20 groups" in capsys.readouterr().out
    table = manifest.read(tmp_path / "manifests" / "rgb2nir.csv")
    assert len(table) == 21
    rows = vault.read("rgb2nir", folder=tmp_path / "manifests")
    assert tuple(rows.columns) == vault.COLUMNS  # empty ones, too, which the file lacks
    assert set(rows["region"]) == {f"region {n}" for n in range(10) if n != 8}
    assert rows["target"].tolist() == shared["target"][shared["vault"] == "no"].tolist()


def test_no_region_is_cut_and_a_place_is_judged_once(shared, monkeypatch):
    monkeypatch.setattr(vault, "read", lambda task: shared.copy())
    table = task_pairs.pairs("rgb2nir", Path("unused"))
    assert table.groupby("region")["split"].nunique().max() == 1
    counts = table["split"].value_counts()
    assert counts["train"] > counts["val"] > 0
    judged = table[table["split"] == "test"]
    assert not judged["group"].duplicated().any()
    assert set(judged["source_window"]) == {"0,0,60,48"}
    assert table.loc[table["split"] != "test", "source_window"].isna().all()
    located = task_pairs.pairs("rgb2nir", Path("unused"), located=True)
    assert "region 9" not in set(located["region"])


def test_parts_of_a_drive_are_not_cut(tmp_path):
    folder = tmp_path / "rgb2thermal" / "roadscene" / "train"
    frames = [1, 2, 3, 200, 201, 400, 401, 402, 1000]
    for frame in frames:
        for side, mode in (("RGB", "RGB"), ("thermal_8_bit", "L")):
            path = folder / side / f"FLIR_{frame:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, (64, 52), 100).save(path)
    table = task_pairs.roadscene(tmp_path)
    assert [int(Path(f).stem.split("_")[1]) for f in table["source"]] == frames
    assert [p.replace("RGB", "thermal_8_bit") for p in table["source"]] == table["target"].tolist()
    assert table["group"].tolist() == [f"part {n}" for n in (0, 0, 0, 1, 1, 2, 2, 2, 3)]
    split = dict(zip(table["group"], table["split"], strict=True))
    assert split["part 1"] == "test"
    assert table["target_window"].dropna().tolist() == ["2,2,60,48"] * 2
    own = task_pairs.roadscene(tmp_path, own=True)
    assert set(own["split"]) == {"train"}


def test_trained_and_judged_tiles_of_a_radar_scene_lie_apart(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(vault, "FOLDER", tmp_path)
    sen12 = shared.iloc[:3].assign(campaign="sen12_pairs", target_sensor="display")
    pd.concat([sen12, shared.iloc[3:]]).to_csv(tmp_path / "sar2optical.csv", index=False)
    for side in ("s1", "s2"):
        path = tmp_path / "sar2optical" / "sih1733_scenes" / side / f"scene1_{side}.jpg"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (2500, 800)).save(path)
    table = task_pairs.radar_pictures(tmp_path)
    assert not table["group"].duplicated().any()
    assert (table["source_window"].fillna("") == table["target_window"].fillna("")).all()
    scene = table[table["source_window"].notna()]
    assert len(table) - len(scene) == 3
    assert set(table.loc[table["source_window"].isna(), "split"]) == {"train"}
    corners = scene["source_window"].str.split(",", expand=True).astype(int)
    across = {k: set(part[0]) for k, part in corners.groupby(scene["split"])}
    assert min(across["test"]) - max(across["train"]) == 512  # a tile lies between
    assert across["test"] == across["val"]
    down = {k: set(part[1]) for k, part in corners.groupby(scene["split"])}
    assert down == {"train": {0, 256, 512}, "val": {0}, "test": {512}}


@pytest.mark.slow
def test_runs_of_all_systems_resume_and_keep_their_results(interpreters, tmp_path):
    table = pd.read_csv(tiny.pairs(tmp_path / "pairs", "rgb2thermal", 6, 72, 80))
    table["split"] = ["train"] * 3 + ["val"] + ["test"] * 2
    table["group"] = [f"place {n}" for n in range(6)]
    for side in ("source", "target"):
        table[side] = [str(tmp_path / "pairs" / name) for name in table[side]]
    runs, name = tmp_path / "runs", "rgb2thermal/pix2pix"
    runs.mkdir()
    table.to_csv(runs / "rgb2thermal.csv", index=False)

    def run(what="run"):
        return interpreters.run(
            SCRIPT, what, "--task", "rgb2thermal", "--recipe", name, "rgb2thermal/cyclegan",
            "--unreferenced", "--seed", 0, "--budget", 16, "--output", runs,
            "--option", "method.log_every=2",
        )  # fmt: skip

    folder = runs / name / "seed-0"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:  # another process works on it
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run().returncode == 0
    assert not (folder / "run.json").exists()
    done = run()
    assert done.returncode == 0, done.stderr
    assert not (runs / "rgb2thermal" / "cyclegan").exists()  # it has a reference run
    about = json.loads((folder / "run.json").read_text())
    assert about["samples"] == 16
    assert "--method.log_every=2" in about["options"]
    shown = run("table").stdout.splitlines()
    assert len(shown) == 3
    for text in (f"`{name} seed 0` | 16 |", "error at unseen places: from", "RMSE", "linear"):
        assert text in shown[2]
    results = pd.read_csv(runs / "results.csv")
    assert results["recipe"].tolist() == [name]
    assert (results[["model_mae", "mean_mae", "linear_mae", "model_swd"]] > 0).all(axis=None)
    log = pd.read_csv(folder / "run" / "logs" / "metrics.csv")
    assert log["val/score"].notna().sum() >= 4  # a point of the curve after each step
    # Stopped before its model was saved, it goes on from its last checkpoint.
    weights = folder / "run" / "model" / "model.safetensors"
    trained = weights.read_bytes()
    shutil.rmtree(folder / "run" / "model")
    (folder / "run.json").unlink()
    assert run().returncode == 0
    assert weights.read_bytes() == trained
    assert load(folder / "run" / "model").about["training"]["resumed"] is True
    again = json.loads((folder / "run.json").read_text())
    assert again["seconds"]["fit"] > about["seconds"]["fit"]  # both parts
