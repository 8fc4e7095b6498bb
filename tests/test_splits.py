import pandas as pd
import pytest

from crossband.data import splits
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
    fold = splits.deal(table, 4, 0)
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
    with pytest.raises(ManifestError, match="1 of 4 rows have no lon and lat, as row 3"):
        splits.regions(table.assign(lat=[1, 1, float("nan"), 1]), 0.5)
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
