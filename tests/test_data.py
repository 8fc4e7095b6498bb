"""The manifest, the split, samples that are pure functions of (seed, position), augmentation."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from registered import cases
from samples import NAMES, SIGNATURE, dataset, same, values
from torch.utils.data import DataLoader

from crossband.core.registry import build
from crossband.core.signature import Signature, UnitRange
from crossband.data import manifest, splits
from crossband.data.balance import Balance
from crossband.data.mixture import mixture, with_shares
from crossband.data.reader import PairReader
from crossband.data.sampler import PositionSampler
from crossband.data.samples import PairDataset, WindowDataset
from crossband.data.transforms import Flip, RadiometricJitter, Transform
from crossband.errors import ManifestError, OutputError, RecipeError
from crossband.raster.grid import Box

# The manifest.


def test_read_resolves_paths_and_fills_in(pairs, tmp_path):
    table = manifest.read(
        pairs(2, {"group": ["a", None], "weight": [None, 3], "mine": ["007", "8"]})
    )
    assert table["source"].tolist() == [str(tmp_path / "0.tif"), str(tmp_path / "1.tif")]
    assert table["group"].tolist() == ["a", "1.tif"]
    assert table["weight"].tolist() == [1.0, 3.0]
    assert table["mine"].tolist() == ["007", "8"]
    assert table["row"].tolist() == [1, 2]
    parquet = tmp_path / "pairs.parquet"
    pd.read_csv(tmp_path / "pairs.csv", dtype={"mine": str}).to_parquet(parquet)
    pd.testing.assert_frame_equal(manifest.read(parquet), table, check_dtype=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sorce,target\na,b\n", "no column 'source': did you mean 'sorce'?"),
        ("source,target\n", "it has no rows"),
        ("source,target\n0.tif,0.tif\n0.tif,9.tif\n", "row 2: target .*9.tif: no such file"),
        ("source,target\n,\n", "row 1: source and target are empty"),
        ("source,target,scale\n0.tif,0.tif,big\n", "row 1: scale 'big' is not a number"),
        ("source,target,lon\n0.tif,0.tif,1e400\n", "row 1: lon inf is not on the Earth"),
        ("source,target,lat\n0.tif,0.tif,-91\n", "row 1: lat -91 is not on the Earth"),
        ("source,target,gsd\n0.tif,0.tif,1e9\n", "row 1: gsd 1e[+]09 is not on the Earth"),
        ("source,target,gsd\n0.tif,0.tif,0\n", "row 1: gsd 0 cannot be"),
        ("source,target,gsd\n0.tif,0.tif,-5\n", "row 1: gsd -5 cannot be"),
        ("source,target,weight\n0.tif,0.tif,inf\n", "row 1: weight inf cannot be"),
        ("source,target,weight\n0.tif,0.tif,-1\n", "row 1: weight below 0"),
        ("source,target,guide\n0.tif,0.tif,8.tif\n", "row 1: guide .*8.tif: no such file"),
        ("source,target,guide_datetime\n0.tif,0.tif,May\n", "row 1: guide_datetime 'May' is no"),
        ("source,target,split\n0.tif,0.tif,dev\n", "row 1: split is 'dev', but must be"),
        ("source,target,split\n0.tif,0.tif,\n", "row 1: split is None"),
        (
            "source,target,split,group\n0.tif,0.tif,train,g\n0.tif,0.tif,val,g\n",
            "group 'g' is in train and val: a split must not cut a group",
        ),
    ],
)
def test_a_bad_manifest_is_one_line(tmp_path, make_raster, text, message):
    make_raster("0.tif", names=NAMES, values=values())
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(ManifestError, match=message) as error:
        manifest.read(tmp_path / "pairs.csv")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_guides_are_read_and_written_as_the_other_columns(pairs, make_raster, tmp_path, name):
    make_raster("g.tif", values(7), names=NAMES)
    plain = manifest.read(pairs(2))
    guides = {"guide": ["g.tif", None], "guide_bands": ["nir=4", None]}
    guides |= {"guide_sensor": ["naip", None], "guide_datetime": [20240501, None]}
    table = manifest.read(pairs(2, guides))
    assert table["guide"].tolist() == [str(tmp_path / "g.tif"), None]
    assert table["guide_datetime"].tolist() == ["2024-05-01", None]
    manifest.write(table, tmp_path / name)
    again = manifest.read(tmp_path / name)
    pd.testing.assert_frame_equal(again, table, check_like=True)
    stored = (
        pd.read_csv(tmp_path / name) if name.endswith("csv") else pd.read_parquet(tmp_path / name)
    )
    assert stored["guide"].tolist()[0] == "g.tif"
    for fingerprint in (manifest.fingerprint, lambda t: manifest.input_fingerprint(t, {})):
        assert fingerprint(table) != fingerprint(plain)
        before = fingerprint(table)
        make_raster("g.tif", values(8)[:, :-1], names=NAMES)
        assert fingerprint(table) != before


def test_no_manifest(tmp_path):
    with pytest.raises(ManifestError, match="no such manifest"):
        manifest.read(tmp_path / "nothing.csv")


def test_a_given_split_may_cut_groups_and_says_so(pairs):
    split = {"split": ["train", "train", "val", "test"], "group": [*"abab"], "split_by": "theirs"}
    table = manifest.read(pairs(4, split))
    assert [leak.seen for leak in splits.leakage(table)] == [1, 1]
    with pytest.raises(ManifestError, match="must not cut a group"):
        manifest.read(pairs(4, split | {"split_by": ["theirs", None, "theirs", "theirs"]}))


def test_a_row_without_counterpart_is_no_pair(pairs, tmp_path):
    pairs(4)
    table = pd.DataFrame({"source": ["0.tif", None, "2.tif", None]})
    table["target"] = ["0.tif", "1.tif", None, "3.tif"]
    table["degradation"] = [None, None, None, "Bicubic"]
    table.to_csv(tmp_path / "some.csv", index=False)
    read = manifest.read(tmp_path / "some.csv")
    assert manifest.is_paired(read).tolist() == [True, False, False, True]
    assert read["group"].tolist() == ["0.tif", "1.tif", "2.tif", "3.tif"]
    assert manifest.fingerprint(read) != manifest.fingerprint(read[:3])


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_what_is_written_is_read_again(pairs, tmp_path, name):
    path = pairs(4, {"split": ["train"] * 4, "place": [*"wxyz"], "lon": [1.0, 2.0, None, 4.0]})
    table = manifest.read(path)
    manifest.write(table, tmp_path / name)
    pd.testing.assert_frame_equal(manifest.read(tmp_path / name), table, check_like=True)
    stored = pd.read_csv(path) if name.endswith("csv") else pd.read_parquet(tmp_path / name)
    assert stored["source"].tolist() == ["0.tif", "1.tif", "2.tif", "3.tif"]
    assert "sensor" not in stored
    elsewhere = tmp_path / "else" / name
    manifest.write(table, elsewhere)
    assert manifest.read(elsewhere)["source"].tolist() == table["source"].tolist()


def test_a_manifest_has_a_format_and_is_not_replaced(tmp_path):
    with pytest.raises(OutputError, match=r"ends in \.csv or \.parquet"):
        manifest.check_writable(tmp_path / "pairs.txt", False)
    (tmp_path / "pairs.csv").touch()
    with pytest.raises(OutputError, match="exists already; give --overwrite"):
        manifest.check_writable(tmp_path / "pairs.csv", False)
    manifest.check_writable(tmp_path / "pairs.csv", True)


def test_a_mixture_draws_by_shares_and_keeps_groups_together(pairs, tmp_path):
    path = pairs(4)
    one = pd.read_csv(path)
    one.assign(weight=[1, 2, 1, 4]).to_csv(tmp_path / "a.csv", index=False)
    one[:2].to_csv(tmp_path / "b.csv", index=False)
    table = mixture([tmp_path / "a.csv", tmp_path / "b.csv"], [3, 1])
    assert table["manifest"].tolist() == ["a"] * 4 + ["b"] * 2
    assert table["group"].nunique() == 6
    table = with_shares(table, [tmp_path / "a.csv", tmp_path / "b.csv"], [3, 1])
    share = table.groupby("manifest")["weight"].mean()
    assert share["a"] == pytest.approx(3 * share["b"])
    deal = Balance.of(table, ["manifest", "group"])
    rows = [deal.draw(0, i) for i in range(6000)]
    assert np.mean([r < 4 for r in rows]) == pytest.approx(0.75, abs=0.02)
    assert rows.count(3) / rows.count(0) == pytest.approx(4, rel=0.25)

    # Rows that are not drawn, by weight or by split, do not count.
    one.assign(weight=[1, 0, 0, 1]).to_csv(tmp_path / "a.csv", index=False)
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    mixed = mixture(paths)
    deal = Balance.of(with_shares(mixed, paths, [3, 1]), ["manifest", "group"])
    assert np.mean([deal.draw(0, i) < 4 for i in range(2000)]) == pytest.approx(0.75, abs=0.03)
    train = mixed.drop(index=0)
    deal = Balance.of(with_shares(train, paths, [1, 0]), ["manifest", "group"])
    assert {int(train.index[deal.draw(0, i)]) for i in range(50)} == {3}

    one.assign(group=[*"xyzx"], split="train").to_csv(tmp_path / "c.csv", index=False)
    one.assign(group=[*"uvwx"], split="test").to_csv(tmp_path / "d.csv", index=False)
    with pytest.raises(ManifestError, match="together: group 'x' is in test and train"):
        mixture([tmp_path / "c.csv", tmp_path / "d.csv"])
    with pytest.raises(ManifestError, match="'a' has none: split it first"):
        mixture([tmp_path / "c.csv", tmp_path / "a.csv"])
    with pytest.raises(ManifestError, match="2 manifests, but 1 shares"):
        mixture([tmp_path / "a.csv", tmp_path / "b.csv"], [1.0])
    with pytest.raises(ManifestError, match="not all 0"):
        mixture([tmp_path / "a.csv", tmp_path / "b.csv"], [0.0, 0.0])
    (tmp_path / "e").mkdir()
    (tmp_path / "a.csv").rename(tmp_path / "e" / "b.csv")
    with pytest.raises(ManifestError, match="two manifests are called 'b'"):
        mixture([tmp_path / "b.csv", tmp_path / "e" / "b.csv"])


def test_where_the_files_lie_changes_neither_split_nor_fingerprint(pairs, tmp_path):
    path = pairs(6)
    here = manifest.read(path)
    shutil.copytree(tmp_path, tmp_path / "moved")
    there = manifest.read(tmp_path / "moved" / "pairs.csv")
    assert splits.assign(here, 0.4, 3).tolist() == splits.assign(there, 0.4, 3).tolist()
    assert manifest.fingerprint(here) == manifest.fingerprint(there)
    (tmp_path / "moved" / "3.tif").write_bytes(b"shorter")
    assert manifest.fingerprint(here) != manifest.fingerprint(there)


# Reading.


def test_a_sample_holds_the_files_numbers(pairs):
    data = dataset(pairs())
    for position in range(5):
        s = data[position]
        assert s["source"].shape == (3, 16, 16)
        assert s["target"].shape == (1, 16, 16)
        assert s["mask"].shape == (1, 16, 16)
        assert s["mask"].all()
        assert s["mask"].dtype == torch.bool
        torch.testing.assert_close(s["target"][0], s["source"][0] + 0.5)
        stored = values(int(s["row"]) - 1)
        first = round(float(s["source"][0, 0, 0]) * 1e4) - 1
        row, col = divmod(first, 50)
        window = stored[[2, 1, 0], row : row + 16, col : col + 16] * 1e-4
        np.testing.assert_allclose(s["source"], window, atol=1e-6)
        assert s["gsd"].item() == 10.0
        assert s["unit"] == "reflectance"
        assert s["lonlat"][0].item() == pytest.approx(15.0, abs=0.01)
        assert s["lonlat"][1].item() == pytest.approx(45.15, abs=0.01)


def test_the_manifests_word_wins_over_the_file(pairs):
    path = pairs(2, {"gsd": [3.0, 3.0], "lon": [7.0, 7.0], "lat": [-8.0, -8.0]})
    s = dataset(path)[0]
    assert s["gsd"].item() == 3.0
    assert s["lonlat"].tolist() == [7.0, -8.0]


def test_bands_and_scale_from_the_manifest(pairs):
    path = pairs(
        1,
        {
            "source_bands": ["red=3,green=2,blue=1,swir16=1"],
            "target_bands": ["nir=4"],
            "sensor": ["sentinel-2-l2a-no-offset"],
            "offset": [0.1],
            "scale": [2e-4],
        },
        names=(None,) * 4,
        unit=None,
        scale=None,
    )
    s = dataset(path)[3]
    torch.testing.assert_close(s["target"][0], s["source"][0] + 1.0)
    assert s["source"][0].min() >= 0.1


def test_source_and_target_with_radiometry_of_their_own(pairs, tmp_path, make_raster):
    path = pairs(1)
    rgb = np.random.default_rng(0).integers(0, 255, (3, 40, 50)).astype(np.uint8)
    make_raster("picture.tif", values=rgb, unit=None)
    row = {"source": "picture.tif", "sensor": "display"}
    row |= {"target": "0.tif", "target_sensor": "sentinel-2-l2a-no-offset"}
    pd.DataFrame([row]).to_csv(path, index=False)
    table = manifest.read(path)
    with pytest.raises(ManifestError, match=r"row 1: the target is reflectance, but .* display"):
        PairReader(table, SIGNATURE).check()
    ranges = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)], "reflectance")
    mixed = Signature(SIGNATURE.source, SIGNATURE.target, {"display": ranges})
    s = PairDataset(PairReader(table, mixed), table, crop=40)[0]
    assert s["unit"] == "display"
    at = round(float(s["target"][0, 0, 0]) * 1e4) - 5001
    np.testing.assert_allclose(s["source"], rgb[:, :, at : at + 40] / 255, atol=1e-6)


def test_two_halves_of_one_picture_are_a_pair(pairs, make_raster):
    """What pix2pix calls AB: source on the left, target on the right."""
    path = pairs(1, {"source_window": "0,0,25,40", "target_window": ["25,0,25,40"]})
    reader = PairReader(manifest.read(path), SIGNATURE)
    whole = PairReader(
        manifest.read(path).assign(source_window=None, target_window=None), SIGNATURE
    )
    box = Box(3, 5, 10, 12)
    here, there = reader.read(0, box), whole.read(0, Box(3, 0, 10, 50))
    assert reader.info(0).grid.box == Box(0, 0, 40, 25)
    np.testing.assert_array_equal(here.source, there.source[..., 5:17])
    np.testing.assert_array_equal(here.target, there.target[..., 30:42])
    for window, message in (("0,0,60,40", "0,0,60,40 is not inside its 50 x 40"), ("1,2", "'1,2'")):
        table = manifest.read(path).assign(source_window=window)
        with pytest.raises(ManifestError, match=message):
            PairReader(table, SIGNATURE).check()


def test_what_does_not_fit_names_the_row(pairs, make_raster):
    path = pairs(3)
    make_raster("1.tif", names=NAMES, values=values(), unit="K")
    with pytest.raises(ManifestError, match=r"row 2: .*kelvin.*takes reflectance"):
        PairReader(manifest.read(path), SIGNATURE).check()
    make_raster("1.tif", names=NAMES[:3], values=values()[:3])
    with pytest.raises(ManifestError, match=r"row 2: .*1.tif"):
        PairReader(manifest.read(path), SIGNATURE).check()


def test_nodata_is_masked_and_filled(pairs):
    stored = values()
    stored[0, :, :25] = 0
    data = dataset(pairs(1, values=stored, nodata=0), min_valid=0.4)
    shares = []
    for position in range(20):
        s = data[position]
        hidden = ~s["mask"][0]
        shares.append(s["mask"].float().mean().item())
        assert (s["source"][:, hidden] == 0).all()
        assert (s["target"][:, hidden] == 0).all()
        assert (s["source"][:, ~hidden] > 0).all()
    assert min(shares) >= 0.4
    assert min(shares) < 1


def test_a_small_scene_is_padded_never_resized(pairs):
    s = dataset(pairs(1, values=values(0, 5, 7)), crop=12)[0]
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[:5, :7] = True
    assert torch.equal(s["mask"][0], expected)
    np.testing.assert_allclose(s["source"][0, :5, :7], values(0, 5, 7)[2] * 1e-4, atol=1e-6)
    assert s["source"][:, ~expected].abs().max() == 0


def test_a_finer_target(pairs, make_raster, tmp_path):
    path = pairs(1)
    coarse = values(0, 20, 25)
    fine = coarse[3:].repeat(2, axis=1).repeat(2, axis=2)
    fine[0, 6, 7] = 0
    make_raster("s.tif", names=NAMES[:3], values=coarse[:3], scale=1e-4)
    make_raster("t.tif", names=("nir",), values=fine, scale=1e-4, nodata=0)
    pd.DataFrame([{"source": "s.tif", "target": "t.tif"}]).to_csv(path, index=False)
    data = dataset(path, crop=20, scale=2)
    for position in range(10):
        s = data[position]
        assert s["target"].shape == s["mask"].shape == (1, 40, 40)
        up = s["source"][0].repeat_interleave(2, 0).repeat_interleave(2, 1) + 0.5
        torch.testing.assert_close(s["target"][s["mask"]], up[None][s["mask"]])
        assert (~s["mask"]).sum() <= 1
    with pytest.raises(ManifestError, match=r"row 1: the target has 40 x 50 .* at scale 1"):
        dataset(path, scale=1)[0]


# Purity.


def test_a_sample_is_a_pure_function_of_seed_and_position(pairs):
    path = pairs()
    jitter = RadiometricJitter(gain=0.3, band_gain=0.1, haze=0.02, noise=0.01, display_gamma=0.2)
    options = {"transforms": [Flip(), jitter], "resolution": (1.0, 2.0), "seed": 5}
    data = dataset(path, **options)
    wanted = [data[i] for i in range(6)]
    torch.manual_seed(1)
    np.random.seed(1)  # the global generators must not matter
    again = dataset(path, cache_mb=64, **options)
    for i in reversed(range(6)):
        same(again[i], wanted[i])
    assert not torch.equal(wanted[0]["source"], wanted[1]["source"])
    other = dataset(path, **{**options, "seed": 6})
    assert not torch.equal(other[0]["source"], wanted[0]["source"])


def test_workers_do_not_matter(pairs):
    data = dataset(pairs(), transforms=[Flip(), RadiometricJitter(noise=0.1)])
    batches = {}
    for workers in (0, 2):
        sampler = PositionSampler(3, 4, lambda: 6)
        loader = DataLoader(data, batch_sampler=sampler, num_workers=workers)
        batches[workers] = list(loader)
    assert len(batches[0]) == 4
    for a, b in zip(batches[0], batches[2], strict=True):
        same(a, b)


def test_positions_go_on_where_training_stopped_and_are_dealt_to_ranks():
    consumed = {"n": 0}
    one = PositionSampler(4, 3, lambda: consumed["n"])
    assert list(one) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    consumed["n"] = 8
    assert next(iter(one)) == [8, 9, 10, 11]
    ranks = [list(PositionSampler(2, 3, lambda: 8, rank, 2)) for rank in (0, 1)]
    together = [a + b for a, b in zip(*ranks, strict=True)]
    assert together == list(one)


# Balance.


def counts(balance, n=4000):
    return np.bincount([balance.draw(0, i) for i in range(n)], minlength=5) / n


def test_balance_is_hierarchical():
    table = pd.DataFrame(
        {"sensor": ["a", "a", "a", "b"], "group": ["1", "1", "2", "3"], "weight": 1.0}
    )
    shares = counts(Balance.of(table, ["sensor", "group"]))
    np.testing.assert_allclose(shares[:4], [1 / 8, 1 / 8, 1 / 4, 1 / 2], atol=0.03)
    shares = counts(Balance.of(table, []))
    np.testing.assert_allclose(shares[:4], [0.25] * 4, atol=0.03)
    weighted = table.assign(weight=[1, 1, 1, 3])
    shares = counts(Balance.of(weighted, ["sensor"]))
    np.testing.assert_allclose(shares[:4], [1 / 12, 1 / 12, 1 / 12, 3 / 4], atol=0.03)
    nothing = counts(Balance.of(table.assign(weight=[0, 1, 1, 1]), ["group"]))
    assert nothing[0] == 0
    with pytest.raises(ManifestError, match="did you mean 'sensor'"):
        Balance.of(table, ["sensr"])
    with pytest.raises(ManifestError, match="weight 0"):
        Balance.of(table.assign(weight=0.0), [])


def test_groups_are_dealt_like_cards():
    groups = [f"g{i}" for i in range(10) for _ in range(i + 1)]
    table = pd.DataFrame({"group": groups, "weight": 1.0})
    balance = Balance.of(table, ["group"])
    rounds = [[groups[balance.draw(3, 10 * r + i)] for i in range(10)] for r in range(20)]
    assert all(len(set(dealt)) == 10 for dealt in rounds)
    assert len({tuple(dealt) for dealt in rounds}) == 20


# Augmentation.


def sample(unit="reflectance"):
    rng = torch.Generator().manual_seed(0)
    source = torch.rand(3, 8, 8, generator=rng) * 0.5 + 0.1
    mask = torch.rand(1, 8, 8, generator=rng) > 0.3
    return {
        "source": source,
        "target": source[:1].clone(),
        "mask": mask,
        "source_mask": mask.clone(),
        "unit": unit,
    }


@pytest.mark.parametrize("unit", ["reflectance", "display"])
@pytest.mark.parametrize(("name", "arguments"), cases(Transform))
def test_every_transform_is_pure_and_keeps_what_a_sample_is(name, arguments, unit):
    one, other = (build(Transform, name, arguments) for _ in range(2))
    for seed in range(8):
        given = sample(unit) | {"position": seed, "lonlat": torch.zeros(2)}
        kept = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in given.items()}
        first = one(given, np.random.default_rng(seed))
        again = other(kept, np.random.default_rng(seed))
        assert first.keys() == given.keys()
        for key, value in given.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, kept[key]), key  # not changed in place
                assert torch.equal(first[key], again[key]), key
                assert (first[key].dtype, first[key].shape) == (value.dtype, value.shape), key
                assert first[key].isfinite().all()
            else:
                assert first[key] == value


@pytest.mark.parametrize("turns", [True, False])
def test_flip_moves_everything_together(turns):
    seen = set()
    for seed in range(60):
        s = sample()
        out = Flip(turns)(s, np.random.default_rng(seed))
        assert torch.equal(out["target"], out["source"][:1])
        assert torch.equal(out["mask"], out["source_mask"])
        torch.testing.assert_close(
            out["source"][:, out["mask"][0]].sum(), s["source"][:, s["mask"][0]].sum()
        )
        seen.add(tuple(out["source"].flatten().tolist()))
    assert len(seen) == (8 if turns else 4)


def test_flip_leaves_the_ground_below():
    s = sample()
    found = {
        tuple(
            Flip(turns=False, upside=False)(s, np.random.default_rng(i))["source"]
            .flatten()
            .tolist()
        )
        for i in range(20)
    }
    assert found == {tuple(x.flatten().tolist()) for x in (s["source"], s["source"].flip(-1))}
    with pytest.raises(RecipeError, match="set turns false too"):
        Flip(upside=False)


def jittered(seed=0, unit="reflectance", **ranges):
    s = sample(unit)
    out = RadiometricJitter(**ranges)(s, np.random.default_rng(seed))
    assert torch.equal(out["mask"], s["mask"])
    return s, out


def test_gain_and_gamma_are_shared_by_source_and_target():
    s, out = jittered(gain=0.3)
    assert torch.equal(out["target"], out["source"][:1])
    factor = (out["source"] / s["source"]).flatten()
    assert factor.std() < 1e-6
    assert 0.74 < factor[0] < 1.36
    assert factor[0] != 1
    s, out = jittered(unit="display", display_gamma=0.3)
    assert torch.equal(out["target"], out["source"][:1])
    power = (out["source"].log() / s["source"].log()).flatten()
    assert power.std() < 1e-5
    assert 0.74 < power[0] < 1.36
    assert power[0] != 1
    s, out = jittered(unit="reflectance", display_gamma=0.3)
    assert torch.equal(out["source"], s["source"])


def test_band_gain_haze_and_noise_touch_the_source_only():
    s, out = jittered(band_gain=0.1)
    assert torch.equal(out["target"], s["target"])
    factors = (out["source"] / s["source"]).flatten(1)
    assert factors.std(dim=1).max() < 1e-6
    assert len(set(factors[:, 0].tolist())) == 3
    s, out = jittered(haze=[0.0, 0.01, 0.02])
    added = (out["source"] - s["source"]).flatten(1)
    assert added.std(dim=1).max() < 1e-6
    assert added[0].abs().max() == 0
    for seed in range(50):
        s, out = jittered(seed, haze=[0.0, 0.01, 0.02])
        added = (out["source"] - s["source"]).amax(dim=(1, 2))
        assert (added >= -0.3 * 1.3 * 0.02 - 1e-6).all()
        assert (added <= 1.3 * torch.tensor([0, 0.01, 0.02]) + 1e-6).all()
    s, out = jittered(noise=0.01)
    assert torch.equal(out["target"], s["target"])
    assert 0 < (out["source"] - s["source"]).std() < 0.011
    with pytest.raises(RecipeError, match="2 haze values, 3 bands"):
        jittered(haze=[0.1, 0.1])
    with pytest.raises(RecipeError, match="negative"):
        RadiometricJitter(gain=-1)


def test_jitter_leaves_the_other_samples_as_they_are():
    jitter = RadiometricJitter(gain=0.5, probability=0.3)
    given = sample()
    changed = [
        not torch.equal(jitter(given, np.random.default_rng(i))["source"], given["source"])
        for i in range(400)
    ]
    assert sum(changed) == pytest.approx(0.3 * 400, abs=40)
    with pytest.raises(RecipeError, match=r"probability 2 is not in 0..1"):
        RadiometricJitter(probability=2)


def test_jitter_every_second_sample():
    jitter = RadiometricJitter(gain=0.5, every=2)
    for position in range(4):
        given = sample() | {"position": position}
        after = jitter(given, np.random.default_rng(position))
        assert torch.equal(after["source"], given["source"]) == (position % 2 == 1)
    with pytest.raises(RecipeError, match="every must be at least 1"):
        RadiometricJitter(every=0)


def test_the_loss_may_be_taken_at_a_few_pixels(pairs):
    whole, some = dataset(pairs(2)), dataset(pairs(2), pixels=20)
    seen = torch.zeros(16, 16)
    for position in range(60):
        a, b = whole[position], some[position]
        assert torch.equal(a["source"], b["source"])
        assert b["mask"].sum() == 20
        assert not (b["mask"] & ~a["mask"]).any()
        assert torch.equal(b["target"], a["target"].masked_fill(~b["mask"], 0.0))
        seen += b["mask"][0]
    assert (seen > 0).float().mean() > 0.95
    assert dataset(pairs(2), pixels=10**6)[0]["mask"].sum() == whole[0]["mask"].sum()


def test_a_context_comes_with_the_source_only(pairs):
    """Red numbers the pixels, so that the target says where the source must have come from."""
    crops = dataset(pairs(2), crop=8, context=6)
    edges = 0
    for position in range(40):
        s = crops[position]
        assert s["source"].shape == (3, 20, 20)
        assert s["target"].shape == (1, 8, 8)
        assert s["source_mask"].shape == (1, 20, 20)
        assert s["mask"].all()
        number = torch.round(s["source"][0] * 1e4)
        middle = number[6:-6, 6:-6]
        assert torch.equal(torch.round(s["target"][0] * 1e4), middle + 5000)
        first = int(middle[0, 0]) - 1
        row, col = first // 50 - 6, first % 50 - 6  # of the source's corner in a 40 x 50 scene
        rows, cols = torch.arange(row, row + 20), torch.arange(col, col + 20)
        inside = ((rows >= 0) & (rows < 40))[:, None] & ((cols >= 0) & (cols < 50))[None]
        assert torch.equal(s["source_mask"][0], inside)
        wanted = (rows[:, None] * 50 + cols[None] + 1).float() * inside
        assert torch.equal(number, wanted)
        edges += int(not inside.all())
    assert 0 < edges < 40
    coarser = dataset(
        pairs(2), crop=8, context=4, resolution=(2.0, 2.0), resolution_probability=1.0
    )[3]
    assert (coarser["source"].shape, coarser["target"].shape) == ((3, 16, 16), (1, 8, 8))
    red = coarser["source"][0, 4:-4, 4:-4]
    assert (coarser["target"][0] - red - 0.5).abs().max() < 1e-3
    with pytest.raises(RecipeError, match="excludes mix and unpaired"):
        dataset(pairs(2), context=4, mix=0.5)


def test_unpaired_samples_have_masks_of_their_own(pairs):
    crops = dataset(pairs(4), paired=False)
    samples = [crops[i] for i in range(12)]
    assert all({"source_mask", "mask"} <= set(s) for s in samples)
    # Where source and target are of one place, NIR is red + 5000.
    together = [
        torch.equal(torch.round(s["target"][0] * 1e4), torch.round(s["source"][0] * 1e4) + 5000)
        for s in samples
    ]
    assert sum(together) <= 1
    same(crops[3], dataset(pairs(4), paired=False)[3])


def test_coarser_resolution_is_antialiased_and_shared(pairs):
    stored = values()
    stored[2] = 1000 + 4000 * (np.arange(50) % 2)  # one-pixel stripes average out
    stored[3] = stored[2] + 5000
    path = pairs(1, values=stored)
    data = dataset(path, crop=20, resolution=(2.0, 2.0), resolution_probability=1.0)
    s = data[0]
    assert s["source"].shape == (3, 20, 20)
    assert s["gsd"].item() == pytest.approx(20.0)
    torch.testing.assert_close(s["target"][0], s["source"][0] + 0.5)
    inner = s["source"][0, :, 2:-2]
    assert inner.std() < 0.02
    assert inner.mean() == pytest.approx(0.3, abs=0.01)
    finer = dataset(path, crop=20, resolution=(0.5, 0.5), resolution_probability=1.0)[0]
    assert finer["gsd"].item() == pytest.approx(5.0)


def test_a_coarser_pixel_is_valid_only_if_all_it_is_made_of_is(pairs):
    stored = values()
    stored[:, 20, 20] = 0
    data = dataset(
        pairs(1, values=stored, nodata=0), crop=20, resolution=(2.0, 2.0), resolution_probability=1
    )
    holes = [(~data[i]["mask"]).sum().item() for i in range(10)]
    assert max(holes) >= 4  # the antialiased kernel is four pixels wide
    for i in range(10):
        s = data[i]
        torch.testing.assert_close(
            s["target"][s["mask"]], s["source"][:1][s["mask"]] + 0.5, atol=1e-3, rtol=0
        )


def test_mixing_adds_what_reflectance_adds(pairs, make_raster):
    stored = [np.full((4, 40, 50), v, np.uint16) for v in (1000, 3000)]
    stored[1][:, :, :10] = 0
    path = pairs(2)
    for i, v in enumerate(stored):
        make_raster(f"{i}.tif", v, names=NAMES, scale=1e-4, nodata=0)
    data = dataset(path, crop=40, mix=1.0)
    levels = set()
    for i in range(20):
        s = data[i]
        assert torch.equal(s["target"], s["source"][:1])
        level = s["source"][0][s["mask"][0]]
        assert level.std() < 1e-6
        assert 0.1 - 1e-6 <= level[0] <= 0.3 + 1e-6
        levels.add(round(level[0].item(), 5))
    assert len(levels) > 5
    plain = dataset(path)
    assert {round(plain[i]["source"].max().item(), 5) for i in range(9)} == {0.1, 0.3}


def test_the_size_of_the_scene_bounds_the_resolution(pairs):
    data = dataset(pairs(1), crop=30, resolution=(1.0, 3.0), resolution_probability=1.0)
    gsd = [data[i]["gsd"].item() for i in range(20)]
    assert min(gsd) < 11
    assert 12 < max(gsd) <= 10 * 40 / 30 + 0.01
    assert all(data[i]["mask"].all() for i in range(5))


# Validation windows.


def test_windows_are_fixed_and_cover_small_scenes_whole(pairs):
    table = manifest.read(pairs(2, {"group": ["a", "b"]}))
    whole = WindowDataset(PairReader(table, SIGNATURE), tile=64)
    assert len(whole) == 2
    s = whole[1]
    np.testing.assert_allclose(s["source"][0], values(1)[2] * 1e-4, atol=1e-6)
    assert (s["group"], s["row"]) == ("b", 2)
    tiled = WindowDataset(PairReader(table, SIGNATURE), tile=16, per_pair=100)
    assert len(tiled) == 2 * 3 * 4
    assert sum(tiled[i]["mask"].numel() for i in range(12)) == 40 * 50
    few = WindowDataset(PairReader(table, SIGNATURE), tile=16, per_pair=3)
    assert [box for _, box in few.windows[:3]] == [tiled.windows[i][1] for i in (0, 6, 11)]
    same(few[1], few[1])
