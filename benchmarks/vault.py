"""Regions, the vault and inner folds: which images may be seen while something is chosen.

`manifests.py` writes the manifests and says what a region and the vault are. `read` returns the
rows outside of the vault; `inner_folds` deals them out by region. Nothing here reads a pixel.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from project import ROOT

FOLDER = ROOT / "runs" / "manifests"
#: Every look at a vault, in the repository: a look that is not known is none.
LOOKS = ROOT / "benchmarks" / "looks.csv"
SEED = "crossband-1"
#: Places that are closer than this, from one to the next, are one region.
KILOMETRES = 50.0
#: Share of the regions of a source in the vault, and the largest share of a family's places that
#: one region may take into it.
SHARE, LARGEST = 0.25, 0.1
BY_PLACE, BY_CAMPAIGN = "coordinates, single linkage 50 km", "campaign: no coordinates"
BY_GROUND, BY_CHIP = "ground shared by elevation", "chip: no coordinates"
#: Columns of a manifest; the file has those that are not empty.
GUIDE = ("guide", "guide_bands", "guide_sensor", "guide_datetime")
RADIOMETRY = ("sensor", "scale", "offset", "nodata")
COLUMNS = (
    *("source", "target", "source_window", "target_window", "source_bands", "target_bands"),
    *RADIOMETRY,
    *(f"target_{name}" for name in RADIOMETRY),
    *("degradation", "campaign", "family", "group", "region", "region_by", "lon", "lat", "gsd"),
    *GUIDE,
    *("date", "licence", "licence_ok", "left_out", "vault", "split", "split_by"),
)
#: HLS water chips come in two campaigns that number their places differently (h: "hunt group",
#: r: "region group"). Of these the elevation bands of the source's chips share ground.
SAME_GROUND = (
    "h93 h147 h228 h282 h286",
    "h293 h305 r172",
    "h128 r113 r170",
    "h262 r125 r96",
    "h207 r1 r58 r160",
    "h72 r174",
    "h253 r147",
    "h219 h264 r106",
    "h266 r167",
    "h276 h279 r152",
    "h255 r134",
    "h209 r126",
    "h176 r137",
    "h193 r93",
    "h78 r163",
    "r36 r156",
    "h218 r105",
    "h174 r82",
)
#: Known to share ground with the other campaign, but not with which of its places: never in the
#: vault.
UNLINKED = ("h290",)
#: How often places of a family are drawn, for red, green, blue -> near infrared: more often where
#: there are more of them, and no family so seldom that it is not learned.
SHARES = {
    "chips": 0.35,
    "Sentinel-2": 0.23,
    "HLS": 0.15,
    "Landsat": 0.12,
    "NAIP": 0.08,
    "aerial": 0.06,
    "WorldView": 0.01,
}
#: Share of the draws that places with a guide of another date have, where some have one: there are
#: few of them.
DATED = 0.4
#: Rows without coordinates in the table that are one region each.
NAMED = {"naip_wv": "West Virginia, one quad", "landsat7_dn_pa": "Pennsylvania"}


def read(
    task: str,
    *,
    folder: Path = FOLDER,
    look: bool = False,
    why: str = "",
    model: str = "",
    shipped: bool = True,
    record: Path = LOOKS,
) -> pd.DataFrame:
    """Return the rows of a task that may be trained and chosen on, or with `look` the vault's.

    Args:
        task: one of `TASKS`.
        folder: of the manifests.
        look: return the vault's rows instead, and write the look down.
        why: what the look is for; needed for a look.
        model: the model that is judged; needed for a look.
        shipped: only rows on which shipped weights may be trained.
        record: the file into which looks are written.

    Raises:
        ValueError: a look without a reason or a model.
    """
    path = folder / f"{task}.csv"
    if not path.is_file():
        sys.exit(f"{path} is not there; write it: python benchmarks/manifests.py write")
    rows = pd.read_csv(path, dtype={"date": str}, keep_default_na=True)
    rows = rows.reindex(columns=COLUMNS)
    rows = rows[rows["left_out"].isna()]
    if shipped:
        rows = rows[rows["licence_ok"] == "yes"]
    rows = rows[(rows["vault"] == "yes") == look]
    if look:
        if not why or not model:
            raise ValueError(
                "a look at the vault needs a reason: read(task, look=True, model=..., why=...)"
            )
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        look_at = {"time": now, "task": task, "model": model, "why": why, "rows": len(rows)}
        seen = pd.DataFrame([look_at])
        seen.to_csv(record, mode="a", header=not record.is_file(), index=False)
    return rows.reset_index(drop=True)


def looks(model: str, record: Path = LOOKS) -> list[str]:
    """Return why the vault was opened for a model, each time."""
    if not record.is_file():
        return []
    seen = pd.read_csv(record)
    return [str(why) for why in seen[seen["model"] == model]["why"]]


def check_unopened(model: str, again: bool, record: Path = LOOKS) -> None:
    """Raise SystemExit where the vault was open before and is not wanted `again`."""
    before = looks(model, record)
    if before and not again:
        raise SystemExit(
            f"the vault was opened for {model} already ({'; '.join(before)}): whatever is chosen "
            "after that is chosen with it; --again opens it, and the table will say so"
        )


def inner_folds(table: pd.DataFrame, folds: int) -> pd.Series:
    """Return the fold of each row: regions dealt out in each family, the largest first.

    Each region goes to the fold that has the fewest places of the family so far. Among regions of
    one size a hash decides the order.
    """
    fold: dict[str, int] = {}
    for _, part in sorted(table.groupby("family")):
        places = part.groupby("region")["group"].nunique()
        filled = [0] * folds
        for region in fold.keys() & set(places.index):
            filled[fold[region]] += places[region]
        first = int(_hash(str(_), "fold")[:8], 16)
        for region in sorted(places.index, key=lambda r: (-places[r], _hash(r, "fold"))):
            if region not in fold:
                order = sorted(range(folds), key=lambda k: (filled[k], (k + first) % folds))
                fold[region] = order[0]
                filled[order[0]] += places[region]
    return table["region"].map(fold)


def with_weights(table: pd.DataFrame) -> pd.DataFrame:
    """Add `weight`: how often each place is drawn by data that are balanced by `group`.

    Each family of `SHARES` has its share, whichever number of places it has, and other families as
    much as the smallest of these. In a family a region counts as the square root of its places:
    more places say more, but not as many times more. Then places with a guide of another date get
    `DATED` of the whole.
    """
    places = table.drop_duplicates("group")
    each = places.groupby(["family", "region"])["group"].transform("nunique") ** -0.5
    shares = places["family"].map(SHARES).fillna(min(SHARES.values()))
    weight = shares * each / each.groupby(places["family"]).transform("sum")
    guide = table.get("guide", pd.Series(index=table.index, dtype=object))
    dated = places["group"].isin(table.loc[guide.notna(), "group"])
    if dated.any() and not dated.all():
        share = dated.map({True: DATED, False: 1 - DATED})
        weight *= share / weight.groupby(dated).transform("sum")
    of_place = dict(zip(places["group"], weight, strict=True))
    return table.assign(weight=table["group"].map(of_place))


def with_regions(table: pd.DataFrame) -> pd.DataFrame:
    """Add `region` and `region_by`, over all tasks at once."""
    located = table["lon"].notna()
    names = table["campaign"].astype(str).to_numpy(dtype=object)
    how = np.full(len(table), BY_CAMPAIGN, dtype=object)
    numbers = np.flatnonzero(located)
    labels = linked(table["lon"].to_numpy()[numbers], table["lat"].to_numpy()[numbers], KILOMETRES)
    for label in np.unique(labels):
        members = numbers[labels == label]
        first = table.iloc[members].sort_values(["lat", "lon"]).iloc[0]
        names[members] = f"at {first['lat']:.1f} {first['lon']:.1f}"
        how[members] = BY_PLACE
    same = {h: names_.split()[0] for names_ in SAME_GROUND for h in names_.split()}
    for n in np.flatnonzero(~located):
        place, file = str(table["group"].iloc[n]), Path(str(table["source"].iloc[n])).name
        if place.startswith("hls_") and place[4:5] in ("h", "r"):
            names[n], how[n] = f"hls {same.get(place[4:], place[4:])}", BY_GROUND
        elif table["family"].iloc[n] == "chips":
            names[n], how[n] = place, BY_CHIP
        elif table["campaign"].iloc[n] in ("s2-l2a-finland-biomassters", "biomassters_fi"):
            names[n] = "biomassters " + re.findall("0060c0a5|000aa810", place)[0]
        elif table["campaign"].iloc[n] == "sen12_pairs":
            names[n] = place
        else:
            names[n] = next((v for k, v in NAMED.items() if file.startswith(k)), names[n])
    return table.assign(region=names, region_by=how)


def linked(lon: np.ndarray, lat: np.ndarray, kilometres: float) -> np.ndarray:
    """Return the number of the cluster of each place: single linkage of great-circle distances."""
    angles = np.radians(np.stack([lat, lon], axis=1).astype(float))
    south, east = angles.T
    middle = np.sin((south[:, None] - south) / 2) ** 2
    across = np.sin((east[:, None] - east) / 2) ** 2 * np.cos(south)[:, None] * np.cos(south)
    near = 2 * 6371.0 * np.arcsin(np.sqrt(np.clip(middle + across, 0, 1))) <= kilometres
    label = np.arange(len(lon))
    while True:  # the smallest number spreads until nothing changes
        lowest = np.where(near, label[None], len(lon)).min(axis=1)
        if (lowest == label).all():
            return label
        label = lowest


def vault_regions(table: pd.DataFrame) -> set[str]:
    """Return the regions of the vault: a quarter of each source's, by the order of a hash.

    A campaign of fewer than three regions joins the others of its family. A region that holds many
    of the family's places, and more than most regions do, stays outside: what is left to train on
    would lack its kind.
    """
    usable = table[(table["licence_ok"] == "yes") & table["left_out"].isna()]
    chosen: set[str] = set()
    pinned = {f"hls {place}" for place in UNLINKED}
    for _, part in usable.groupby("family", sort=True):
        counts = part.groupby("campaign")["region"].transform("nunique")
        source = part["campaign"].where(counts >= 3, "several campaigns")
        places = part.groupby("region")["group"].nunique()
        most = max(LARGEST * places.sum(), places.median())
        for _, rows in part.groupby(source, sort=True):
            regions = sorted(rows["region"].unique(), key=lambda r: _hash(r, "vault"))
            wanted = max(1, round(SHARE * len(regions))) if len(regions) > 2 else 0
            taken = len(chosen.intersection(regions))
            for region in regions:
                small = places[region] <= most
                if taken < wanted and region not in chosen | pinned and small:
                    chosen.add(region)
                    taken += 1
    return chosen


def _hash(name: str, purpose: str) -> str:
    return hashlib.sha256(f"{SEED} {purpose} {name}".encode()).hexdigest()
