"""The vault of the shared images: what training and choosing may see, and how folds are cut."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from affine import Affine
from manifests import overlap
from vault import (
    DATED,
    KILOMETRES,
    SHARES,
    check_unopened,
    inner_folds,
    linked,
    looks,
    read,
    vault_regions,
    with_regions,
    with_weights,
)


def rows(regions: dict[str, int], family: str = "HLS", **columns: str) -> pd.DataFrame:
    """Return a manifest with so many places in each region."""
    table = pd.DataFrame(
        [{"region": r, "group": f"{r}-{n}"} for r, count in regions.items() for n in range(count)]
    )
    usual = {"campaign": "chips", "licence_ok": "yes", "left_out": None}
    return table.assign(family=family, **(usual | columns))


def test_places_are_linked_one_to_the_next():
    degrees = KILOMETRES / 111.2  # of latitude
    lat = np.array([0.0, 0.9 * degrees, 1.8 * degrees, 3.1 * degrees])
    assert linked(np.zeros(4), lat, KILOMETRES).tolist() == [0, 0, 0, 3]


def test_a_degree_of_longitude_is_short_far_north():
    at = np.array([0.0, 1.0])
    assert linked(at, np.array([70.0, 70.0]), KILOMETRES).tolist() == [0, 0]
    assert linked(at, np.array([0.0, 0.0]), KILOMETRES).tolist() == [0, 1]


def test_regions_come_from_coordinates_shared_ground_or_the_campaign():
    table = pd.DataFrame(
        {
            "source": ["a.tif", "b.tif", "c.tif", "d.tif", "e.tif"],
            "group": ["a", "b", "hls_h293", "hls_r172", "e"],
            "campaign": ["x", "y", "hunt", "first", "flight"],
            "family": "HLS",
            "lon": [10.0, 10.1, np.nan, np.nan, np.nan],
            "lat": [50.0, 50.1, np.nan, np.nan, np.nan],
        }
    )
    region = with_regions(table)["region"]
    assert region[0] == region[1]
    assert region[2] == region[3]
    assert region[4] == "flight"
    assert region.nunique() == 3


def test_places_are_drawn_by_family_and_the_square_root_of_their_region():
    table = pd.concat(
        [rows({"one": 1, "four": 4}), rows({"far": 9}, "NAIP"), rows({"new": 1}, "another")]
    )
    table = pd.concat([table, table[table["region"] == "one"]])  # two files of one place
    weights = with_weights(table).drop_duplicates("group").set_index("group")["weight"]
    assert weights.filter(regex="^(one|four)").sum() == pytest.approx(SHARES["HLS"])
    assert weights.filter(like="far").sum() == pytest.approx(SHARES["NAIP"])
    assert weights.filter(like="four").sum() == pytest.approx(2 * weights["one-0"])
    assert weights["new-0"] == pytest.approx(min(SHARES.values()))
    assert with_weights(table)["weight"].notna().all()


def test_places_with_a_guide_of_another_date_get_their_share():
    table = rows({"one": 8}).assign(guide=["then.tif", *[None] * 7])
    table = pd.concat([table, table.iloc[:1].assign(guide=None)])  # the same place, alone
    weights = with_weights(table).drop_duplicates("group")["weight"]
    assert weights.iloc[0] / weights.sum() == pytest.approx(DATED)


def test_a_quarter_of_each_source_and_no_region_that_holds_much():
    table = pd.concat([rows({f"r{n}": 1 for n in range(20)}), rows({"large": 30})])
    chosen = vault_regions(table)
    assert len(chosen) == 5
    assert "large" not in chosen
    assert vault_regions(table.sample(frac=1, random_state=1)) == chosen


def test_what_may_not_be_trained_on_takes_no_place_in_the_vault():
    table = pd.concat(
        [
            rows({f"r{n}": 1 for n in range(8)}),
            rows({f"n{n}": 1 for n in range(8)}, licence_ok="no"),
        ]
    )
    chosen = vault_regions(table)
    assert len(chosen) == 2
    assert all(region.startswith("r") for region in chosen)


def test_folds_cut_no_region_and_hold_alike_many_places():
    table = rows({f"r{n}": 1 + n % 3 for n in range(24)})
    folds = inner_folds(table, 4)
    assert table.assign(fold=folds).groupby("region")["fold"].nunique().max() == 1
    assert folds.value_counts().tolist() == [12] * 4


@pytest.fixture
def folder(tmp_path):
    table = rows({f"r{n}": 1 for n in range(4)})
    table["vault"] = ["yes", "no", "no", "no"]
    table.loc[1, "licence_ok"] = "no"
    table.loc[2, "left_out"] = "two units"
    table.assign(date="2020").to_csv(tmp_path / "rgb2nir.csv", index=False)
    return tmp_path


def test_the_vault_is_not_handed_out(folder):
    assert read("rgb2nir", folder=folder)["region"].tolist() == ["r3"]
    assert read("rgb2nir", folder=folder, shipped=False)["region"].tolist() == ["r1", "r3"]


def test_a_look_needs_a_reason_and_is_written_down(folder, tmp_path):
    record = tmp_path / "looks.csv"
    look = partial(read, "rgb2nir", folder=folder, look=True, record=record, model="rgb2nir")
    with pytest.raises(ValueError, match="a look at the vault needs a reason"):
        look()
    assert looks("rgb2nir", record) == []
    assert look(why="the final table")["region"].tolist() == ["r0"]
    look(why="again")
    assert looks("rgb2nir", record) == ["the final table", "again"]
    assert looks("sar2optical", record) == []
    check_unopened("sar2optical", again=False, record=record)
    check_unopened("rgb2nir", again=True, record=record)
    with pytest.raises(SystemExit, match="the final table; again"):
        check_unopened("rgb2nir", again=False, record=record)


@pytest.mark.parametrize(("moved", "expected"), [(0, True), (40, True), (60, False), (400, False)])
def test_two_dates_of_a_place_share_ground(make_raster, moved, expected):
    first, then = (
        str(make_raster(f"{x}.tif", np.zeros((1, 100, 100), np.uint8), names=("nir",),
                        transform=Affine(10, 0, 5e5 + 10 * x, 0, -10, 5e6)))
        for x in (0, 1 + moved)
    )  # fmt: skip
    assert overlap(first, then) is expected
