import re

import pandas as pd
import pytest
from affine import Affine

from crossband.cli.main import main
from crossband.data import manifest, rows, splits
from crossband.errors import ManifestError


def table_of(groups):
    return pd.DataFrame({"group": groups, "sensor": ["s"] * len(groups)})


def test_split_is_stable_when_rows_are_added_and_cuts_no_group():
    few = [f"g{i}" for i in range(60) for _ in range(2)]
    many = [f"new{i}" for i in range(40)] + few
    a = dict(zip(few, splits.assign(table_of(few), 0.2, 7), strict=True))
    split = splits.assign(table_of(many), 0.2, 7)
    b = dict(zip(many, split, strict=True))
    assert a == {g: b[g] for g in a}
    assert table_of(many).assign(split=split).groupby("group")["split"].nunique().max() == 1
    assert 0.1 < (split == "val").mean() < 0.3
    assert b != dict(zip(many, splits.assign(table_of(many), 0.2, 8), strict=True))
    assert set(splits.assign(table_of(many), 0.0, 7)) == {"train"}


def test_split_of_few_groups_leaves_no_side_empty():
    for seed in range(20):
        for fraction in (0.01, 0.99):
            split = splits.assign(table_of(["a", "b", "b"]), fraction, seed)
            assert set(split) == {"train", "val"}
    with pytest.raises(ManifestError, match="single group"):
        splits.assign(table_of(["a", "a"]), 0.2, 0)


def test_the_manifests_own_split_wins():
    table = table_of(["a", "b", "c"]).assign(split=["train", "test", "val"])
    assert splits.assign(table, 0.5, 0).tolist() == ["train", "test", "val"]
    with pytest.raises(ManifestError, match="no row with split 'train'"):
        splits.assign(table.assign(split="test"), 0.5, 0)


def test_folds_are_even_in_each_sensor_and_cut_no_group():
    groups = [f"g{i}" for i in range(12) for _ in range(3)]
    table = table_of(groups).assign(sensor=["x"] * 24 + ["y"] * 12)
    fold = splits.assign_folds(table, 4, 0)
    assert table.assign(fold=fold).groupby("group")["fold"].nunique().max() == 1
    assert fold.value_counts().tolist() == [9, 9, 9, 9]
    assert set(fold[table["sensor"] == "y"]) == {0, 1, 2, 3}


def strata(terrain):
    """Forty groups of two rows for each terrain."""
    rows = [
        {"group": f"{t}{i}", "sensor": "s", "terrain": t, "row": 0}
        for t in terrain
        for i in range(40)
        for _ in range(2)
    ]
    return pd.DataFrame(rows)


def test_each_stratum_is_split_by_itself_and_stays_as_it_is():
    table = strata("ab")
    split = splits.by_group(table, 0.2, 0.1, 3, ["terrain"])
    for terrain in "ab":
        shares = split[table["terrain"] == terrain].value_counts(normalize=True)
        assert 0.05 < shares["val"] < 0.4
        assert 0 < shares["test"] < 0.3
    more = strata("abc")
    again = splits.by_group(more, 0.2, 0.1, 3, ["terrain"])
    assert again[more["terrain"] != "c"].tolist() == split.tolist()
    assert pd.crosstab(table["group"], split).gt(0).sum(axis=1).max() == 1


def test_a_small_stratum_still_has_one_of_each_and_a_single_group_is_trained_on():
    table = pd.DataFrame({"group": list("abcde"), "terrain": [*"xxxyy"]})
    for seed in range(10):
        split = splits.by_group(table, 0.01, 0.01, seed, ["terrain"])
        assert sorted(split[:3]) == ["test", "train", "val"]
        assert sorted(split[3:]) == ["train", "val"]
    alone = pd.DataFrame({"group": ["a", "a"]})
    assert splits.by_group(alone, 0.4, 0.4, 0).tolist() == ["train", "train"]


def test_a_group_counts_where_most_of_its_rows_are():
    table = pd.DataFrame({"group": list("aaabbbcc"), "terrain": [*"xxyyyxyy"]})
    split = splits.by_group(table, 0.3, 0.0, 0, ["terrain"])
    assert split[:3].nunique() == 1
    assert split[0] == "train"  # the only group of terrain x
    assert set(split[3:]) == {"train", "val"}


@pytest.mark.parametrize("shares", [(0.6, 0.4), (-0.1, 0.2), (1.0, 0.0)])
def test_shares_that_leave_nothing_are_refused(shares):
    with pytest.raises(ManifestError, match="must not be negative"):
        splits.by_group(strata("a"), *shares, 0)


def test_an_unknown_stratum_names_the_nearest():
    with pytest.raises(ManifestError, match="no column 'terain': did you mean 'terrain'"):
        splits.by_group(strata("a"), 0.2, 0.1, 0, ["terain"])


def test_regions_are_cells_of_a_grid():
    table = pd.DataFrame({"lon": [0.1, 0.4, 0.6, -0.1], "lat": [50.0] * 4, "row": [1, 2, 3, 4]})
    found = splits.regions(table, 0.5).tolist()
    assert found == ["region_+0_+100", "region_+0_+100", "region_+1_+100", "region_-1_+100"]
    # One place has two longitudes.
    other = table.assign(lon=[359.9, -0.1, 180.1, -179.9])
    assert splits.regions(other, 0.5).tolist() == ["region_-1_+100"] * 2 + ["region_-360_+100"] * 2
    nowhere = table.assign(lat=[1, 1, float("nan"), 1], source="no.tif", target=None)
    with pytest.raises(ManifestError, match=r"1 of 4 rows have no lon and lat, nor a .* as row 3"):
        splits.regions(nowhere, 0.5, rows.place_of)
    with pytest.raises(ManifestError, match="above 0 degrees"):
        splits.regions(table, 0.0)


def test_leakage_counts_rows_of_groups_that_are_trained_on():
    table = pd.DataFrame(
        {
            "group": list("aabbccd"),
            "split": ["train", "test", "train", "val", "test", "test", "val"],
        }
    )
    val, test = splits.leakage(table)
    assert (val.groups, val.cut, val.rows, val.seen) == (2, 1, 2, 1)
    assert (test.groups, test.cut, test.rows, test.seen) == (2, 1, 3, 1)
    assert str(test) == (
        "1 of 3 test rows (33%) are of groups that are in train too: 1 of 2 groups"
    )
    assert splits.leakage(table.assign(split="train")) == []


def write_pairs(folder, count=12):
    """Write a manifest of files that need not be images, with a split that cuts a group."""
    for i in range(count):
        (folder / f"{i}.tif").touch()
    names = [f"{i}.tif" for i in range(count)]
    table = pd.DataFrame({"source": names, "target": names, "flight": [*"aabbccddeeff"]})
    table["terrain"] = [*"xxxxxxyyyyyy"]
    table["split"], table["lon"], table["lat"] = "train", range(count), 10.0
    table.loc[1, "split"] = "dev"
    table.to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


def test_the_command_splits_by_flight_and_terrain(tmp_path, capsys):
    path, out = write_pairs(tmp_path), tmp_path / "split.parquet"
    command = ["data", "split", str(path), "-o", str(out), "--by", "flight", "--val", "0.3"]
    command += ["--test", "0", "--stratify", "terrain", "--seed", "2"]
    assert main(command) == 0
    table = manifest.read(out)
    assert table.groupby("flight")["split"].nunique().max() == 1
    assert all({"train", "val"} == set(part) for _, part in table.groupby("terrain")["split"])
    assert set(table["split_by"]) == {"seed 2, groups by flight, stratified by terrain"}
    said = capsys.readouterr().out.splitlines()
    counts = table["split"].value_counts()
    assert said[1] == f"val    {counts['val']} rows of {counts['val'] // 2} groups"
    assert main(command) == 0  # the same once more
    assert main([*command, "--seed", "3"]) == 2
    assert "exists already with another content; give --overwrite" in capsys.readouterr().err
    assert main([*command, "--seed", "3", "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--by", "flights"], "did you mean 'flight'"),
        (["--by", "flight", "--region", "1"], "of a column or of regions"),
        (["--stratify", "soil"], "stratify: the manifest has no column 'soil'"),
        (["--val", "0.7", "--test", "0.3"], "must not be negative, nor 1 together"),
        (["--vall", "0.7"], "unknown option '--vall': did you mean '--val'"),
    ],
)
def test_what_the_command_refuses(tmp_path, capsys, more, message):
    out = tmp_path / "out.csv"
    assert main(["data", "split", str(write_pairs(tmp_path)), "-o", str(out), *more]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_regions_are_of_the_files_where_no_column_says_them(make_raster, tmp_path):
    for n, x in enumerate((500_000, 500_400, 900_000)):
        make_raster(f"{n}.tif", transform=Affine(10, 0, x, 0, -10, 5_000_000))
    row = {"source": [f"{n}.tif" for n in range(3)], "target": [f"{n}.tif" for n in range(3)]}
    pd.DataFrame(row).to_csv(tmp_path / "pairs.csv", index=False)
    table = manifest.read(tmp_path / "pairs.csv")
    first, second, third = splits.regions(table, 0.5, rows.place_of)
    assert first == second != third


def test_the_command_splits_by_regions(tmp_path):
    path, out = write_pairs(tmp_path), tmp_path / "split.csv"
    assert main(["data", "split", str(path), "-o", str(out), "--region", "4"]) == 0
    table = manifest.read(out)
    assert sorted(table["group"].unique()) == ["region_+0_+2", "region_+1_+2", "region_+2_+2"]
    assert set(table["split"]) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (["one"] * 15, "all rows are one group, which a split does not cut"),
        ([f"g{i}" for i in range(10)], "of 10 groups, 20% were asked for: a hash of each group"),
        ([f"g{i}" for i in range(3)], None),
    ],
)
def test_a_split_far_from_what_was_asked_is_said(groups, said):
    seed = next(  # 4 of 10 groups in val
        s
        for s in range(50)
        if said is None
        or "one" in groups
        or (splits.by_group(table_of(groups), 0.2, 0.2, s) == "val").sum() > 3
    )
    _, lines = splits.new_split(table_of(groups), 0.2, 0.2, seed)
    assert len(lines) == 3 if said is None else said in lines[3]
    if "one" in groups or said is None:
        return
    better = int(re.fullmatch(r"try --seed (\d+), which is as asked for", lines[-1])[1])
    _, lines = splits.new_split(table_of(groups), 0.2, 0.2, better)
    assert len(lines) == 3


def test_an_empty_part_is_told():
    table = pd.DataFrame({"source": list("abcd"), "target": list("abcd"), "group": [0, 0, 1, 1]})
    for seed in range(8):
        out, lines = splits.new_split(table, 0.15, 0.15, seed)
        for side in ("val", "test"):
            told = any(line.startswith(f"{side} has 0 of 2 groups, 15% were") for line in lines)
            assert told == (side not in set(out["split"]))
