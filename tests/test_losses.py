"""Losses against hand values, SciPy, spyndex and torchmetrics; masks; gradients in float64."""

from __future__ import annotations

import inspect
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import spyndex
import torch
import vggs
from registered import cases, classes
from scipy.ndimage import correlate1d, minimum_filter
from scipy.stats import wasserstein_distance
from torchmetrics.functional.image import structural_similarity_index_measure

from crossband.core.signature import Signature, UnitRange
from crossband.errors import BandError
from crossband.training import recipe_classes
from crossband.training.losses import Loss, Prediction, masked_mean
from crossband.training.losses.distribution import EarthMovers, earth_movers
from crossband.training.losses.index import IndexLoss
from crossband.training.losses.perceptual import Perceptual
from crossband.training.losses.pixel import L1, MSE, Charbonnier
from crossband.training.losses.relative import Relative
from crossband.training.losses.ssim import SSIMLoss
from crossband.training.losses.structure import SpatialCorrelative

UNITS = {
    "reflectance": UnitRange([(0.0, 0.5), (0.0, 0.4), (0.0, 0.3)], [(0.1, 0.6)]),
    "display": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)]),
    "kelvin": UnitRange([(200.0, 320.0)] * 3, [(200.0, 320.0)]),
}
SIGNATURE = Signature(["red", "green", "blue"], ["nir"], UNITS)
INDICES = ("NDVI", "NDWI", "GNDVI", "EVI", "SAVI", "MSAVI")


def make(batch=2, size=16, units=None, dtype=torch.float32, seed=0, mask=None):
    rng = torch.Generator().manual_seed(seed)

    def rand(c):
        return torch.rand(batch, c, size, size, generator=rng, dtype=dtype) * 0.8 + 0.1

    if mask is None:
        mask = torch.rand(batch, 1, size, size, generator=rng) > 0.2
    units = units or ["reflectance"] * batch
    return Prediction(rand(1), rand(1), rand(3), mask, SIGNATURE, units)


def change(p, **values):
    return Prediction(**{**{k: getattr(p, k) for k in p.__dataclass_fields__}, **values})


# Each loss again, in NumPy or by a library: prediction, sample -> what it costs.


def valid(values, p, i):
    """What stands at the valid pixels of sample i, band by band, in NumPy."""
    return values[i].detach().numpy()[:, p.mask[i, 0].numpy()]


def per_pixel(cost):
    return lambda p, i: cost(valid(p.output, p, i) - valid(p.target, p, i)).mean()


def by_scipy(p, i):
    bands = zip(valid(p.output, p, i), valid(p.target, p, i), strict=True)
    return np.mean([wasserstein_distance(x, y) for x, y in bands])


def by_torchmetrics(p, i):
    pictures = p.output[i : i + 1], p.target[i : i + 1]
    _, found = structural_similarity_index_measure(
        *pictures, data_range=1.0, sigma=1.0, return_full_image=True
    )
    # It mirrors at the border, we leave the border out; and all windows that are not wholly valid.
    whole = minimum_filter(p.mask[i, 0].numpy(), 9)[4:-4, 4:-4]
    return 1 - found[0, 0, 4:-4, 4:-4].numpy()[whole].mean()


def by_spyndex(name):
    def cost(p, i):
        r, g, b = valid(p.physical_source, p, i)
        letters = {"R": r, "G": g, "B": b, "g": 2.5, "C1": 6.0, "C2": 7.5}
        letters["L"] = 1.0 if name == "EVI" else 0.5
        needed = set(spyndex.indices[name].bands)
        (true,), (made,) = (valid(v, p, i) for v in (p.physical_target, p.physical_output))
        value = [
            spyndex.computeIndex(
                name, {k: v for k, v in {**letters, "N": n}.items() if k in needed}
            )
            for n in (true, made)
        ]
        # A pixel counts where the true denominator is above the guard.
        denominator = {
            "NDVI": true + r, "NDWI": true + g, "GNDVI": true + g, "SAVI": true + r + 0.5,
            "EVI": true + 6 * r - 7.5 * b + 1, "MSAVI": np.ones_like(r),
        }[name]  # fmt: skip
        return np.abs(value[1] - value[0])[np.abs(denominator) > 0.02].mean()

    return cost


def by_ndimage(p, i):
    """F-LSeSim of one query: the middle of a patch as large as the picture."""
    maps = []
    for picture in (p.output, p.target):
        grey = np.where(p.mask[i, 0], picture[i].mean(0).detach(), 0.0)
        found = []
        for scale in (1.0, 2.0):
            reach = round(3 * scale)
            at = np.arange(-reach, reach + 1)
            smooth = np.exp(-0.5 * (at / scale) ** 2)
            smooth /= smooth.sum()
            first, second = -at / scale * smooth, (at**2 / scale**2 - 1) * smooth
            second = second - second.sum() * smooth

            def filtered(down, along, picture=grey):
                rows = correlate1d(picture, down, axis=0, mode="nearest")
                return correlate1d(rows, along, axis=1, mode="nearest")

            found += [filtered(first, smooth), filtered(smooth, first)]
            found.append(filtered(second, smooth) + filtered(smooth, second))
        features = np.stack(found)
        features /= np.sqrt((features**2).sum(axis=0) + 1e-4)
        middle = features[:, grey.shape[0] // 2, grey.shape[1] // 2]
        maps.append(np.einsum("chw,c->hw", features, middle) * p.mask[i, 0].numpy())
    sizes = [(m**2).sum() + 1e-4 for m in maps]
    return 1 - ((maps[0] * maps[1]).sum() + 1e-4) / np.sqrt(sizes[0] * sizes[1])


def shown(p, i, last):
    """What a VGG sees in output and target of sample i, and how much of each place is valid."""
    mask = p.mask[i]
    pictures = (picture[i].masked_fill(~mask, 0.0) for picture in (p.output, p.target))
    made, true = (vggs.seen(PHOTOGRAPHS, x, last).numpy() for x in pictures)
    cell = mask.shape[-1] // made.shape[-1]
    share = mask[0].double().numpy().reshape(made.shape[1], cell, -1, cell).mean(axis=(1, 3))
    return made, true, share


def by_sequential(*layers, power):
    def cost(p, i):
        found = [shown(p, i, last) for last in layers]
        return sum(
            (np.abs(made - true) ** power).mean(axis=0).ravel() @ share.ravel() / share.sum()
            for made, true, share in found
        )

    return cost


def by_sequential_alike(p, i):
    """F-LSeSim of one query, of what a VGG sees after the first convolution of its second block."""
    made, true, share = shown(p, i, 6)
    known, maps = share > 0.5, []
    for features in (made, true):
        centred = features - features[:, known].mean(axis=1)[:, None, None]
        centred /= np.sqrt((centred**2).sum(axis=0) + 1e-4)
        middle = centred[:, known.shape[0] // 2, known.shape[1] // 2]
        maps.append(np.einsum("chw,c->hw", centred, middle) * known)
    sizes = [(m**2).sum() + 1e-4 for m in maps]
    return 1 - ((maps[0] * maps[1]).sum() + 1e-4) / np.sqrt(sizes[0] * sizes[1])


def softened(cost, scale):
    return lambda p, i: scale * np.log(1 + cost(p, i) / scale)


FOLDER = tempfile.TemporaryDirectory()
PHOTOGRAPHS = vggs.network()
VGG_FILE = vggs.write(Path(FOLDER.name) / "vgg.pth", PHOTOGRAPHS)
LOOKED_AT = {"vgg": VGG_FILE, "layers": ["relu2_1"]}

#: Class name -> losses, each with the same by other means.
THEIRS = {
    "L1": [(L1(), per_pixel(np.abs))],
    "MSE": [(MSE(), per_pixel(np.square))],
    "Charbonnier": [
        (Charbonnier(), per_pixel(lambda d: np.sqrt(d**2 + 1e-6))),
        (Charbonnier(epsilon=0.3), per_pixel(lambda d: np.hypot(d, 0.3))),
    ],
    "EarthMovers": [(EarthMovers(), by_scipy)],
    "SSIMLoss": [(SSIMLoss(window=9, sigma=1.0), by_torchmetrics)],
    "Relative": [
        (Relative(IndexLoss("NDVI"), scale=0.1), softened(by_spyndex("NDVI"), 0.1)),
        (Relative(L1(weight=7), scale=0.5), softened(per_pixel(np.abs), 0.5)),
    ],
    "SpatialCorrelative": [
        (SpatialCorrelative(queries=1, patch=16, against="target"), by_ndimage),
        (SpatialCorrelative(1, 8, "target", **LOOKED_AT), by_sequential_alike),
    ],
    "Perceptual": [
        (Perceptual(VGG_FILE, ["relu2_2"]), by_sequential(8, power=2)),
        (Perceptual(VGG_FILE, ["relu3_1", "relu1_1"], "l1"), by_sequential(1, 11, power=1)),
    ],
    "IndexLoss": [(IndexLoss(name), by_spyndex(name)) for name in INDICES],
}
LOSSES = [loss for rows in THEIRS.values() for loss, _ in rows]
LOSSES += [
    recipe_classes.construct({"class_path": name, "init_args": arguments}, Loss)
    for name, arguments in cases(Loss)
]


def test_every_loss_is_held_against_another_means():
    """One without a row above shows values of its own, in an example of its docstring."""
    for name, cls in classes(Loss).items():
        said = f"{inspect.getmodule(cls).__doc__}\n{cls.__doc__}\n{cls.forward.__doc__}"
        assert name in THEIRS or ">>> " in said, name


@pytest.mark.parametrize("name", THEIRS)
def test_equals_the_same_by_other_means(name):
    mask = torch.ones(3, 1, 16, 16, dtype=torch.bool)
    mask[:, :, :3, :5] = mask[1, :, 14, 12:] = mask[2, :, 10, 0] = False
    p = make(3, dtype=torch.float64, mask=mask)
    p = change(p, source=0.5 * p.source)  # EVI's denominator stays away from 0
    for loss, theirs in THEIRS[name]:
        expected = [theirs(p, i) for i in range(3)]
        assert min(expected) > 1e-4
        assert loss(p).tolist() == pytest.approx(expected, rel=1e-5)


def test_masked_mean_by_hand():
    values = torch.tensor([[[[1.0, 2.0], [3.0, math.nan]]], [[[5.0, 6.0], [7.0, 8.0]]]])
    mask = torch.tensor([[[[True, False], [True, False]]], [[[False] * 2] * 2]])
    assert masked_mean(values, mask).tolist() == [2.0, 0.0]


def test_pixel_losses_by_hand():
    p = change(
        make(1, 1, mask=torch.ones(1, 1, 1, 1, dtype=torch.bool)),
        output=torch.full((1, 1, 1, 1), 0.7),
        target=torch.full((1, 1, 1, 1), 0.3),
    )
    assert L1()(p).item() == pytest.approx(0.4)
    assert MSE()(p).item() == pytest.approx(0.16)
    assert Charbonnier(epsilon=0.3)(p).item() == pytest.approx(0.5)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: f"{type(x).__name__}-{x.label}")
def test_one_value_for_each_sample_whatever_the_batch(loss):
    p = make(3)
    whole = loss(p)
    assert whole.shape == (3,)
    for i in range(3):
        part = {k: getattr(p, k)[i : i + 1] for k in ("output", "target", "source", "mask")}
        one = loss(change(p, **part, units=p.units[:1]))
        torch.testing.assert_close(one, whole[i : i + 1])


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: f"{type(x).__name__}-{x.label}")
def test_what_is_masked_changes_nothing(loss):
    mask = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    mask[0, 0, 2:4, 3:9] = False
    p = make(mask=mask)
    before = loss(p)
    assert (before > 0).all()
    spoiled = change(
        p,
        output=torch.where(mask, p.output, 9.0),
        target=torch.where(mask, p.target, -5.0),
        source=torch.where(mask, p.source, 3.0),
    )
    torch.testing.assert_close(loss(spoiled), before)
    seen = change(spoiled, mask=torch.ones_like(mask))
    assert not torch.allclose(loss(seen)[0], before[0])
    nothing = change(p, mask=torch.zeros_like(mask))
    assert loss(nothing).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: f"{type(x).__name__}-{x.label}")
def test_gradient(loss):
    mask = torch.ones(2, 1, 10, 10, dtype=torch.bool)
    mask[:, :, 0, :3] = False
    p = make(size=10, dtype=torch.float64, mask=mask)
    output = p.output.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: loss(change(p, output=x)), (output,), fast_mode=True)
    loss(change(p, output=output)).sum().backward()
    assert output.grad.abs()[~p.mask].max() == 0
    assert output.grad.abs()[p.mask].max() > 0


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: f"{type(x).__name__}-{x.label}")
def test_perfect_output_costs_nothing(loss):
    p = make()
    if torch.equal(loss(p), loss(change(p, target=p.target.flip(-1)))):
        pytest.skip("it does not look at the target")
    value = loss(change(p, output=p.target))
    torch.testing.assert_close(value, torch.full((2,), getattr(loss, "epsilon", 0.0)))


def test_earth_movers_between_sets_of_different_sizes():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.rand(3, 40, generator=rng).double(), torch.rand(3, 25, generator=rng).double()
    valid_x, valid_y = torch.rand(3, 40, generator=rng) > 0.3, torch.rand(3, 25) > 0.3
    found = earth_movers(x, y, valid_x, valid_y)
    for i in range(3):
        expected = wasserstein_distance(x[i][valid_x[i]].numpy(), y[i][valid_y[i]].numpy())
        assert found[i].item() == pytest.approx(expected, rel=1e-9)
    assert earth_movers(x, y, valid_x, torch.zeros_like(valid_y)).tolist() == [0.0] * 3
    x.requires_grad_(True)
    y.requires_grad_(True)
    given = (valid_x, valid_y)
    assert torch.autograd.gradcheck(lambda a, b: earth_movers(a, b, *given), (x, y))


def test_earth_movers_is_one_of_values_and_not_of_places():
    """A shift of d costs d, shuffled pixels cost nothing, and the gradient says which way."""
    p = make(2, 16, dtype=torch.float64)
    assert (EarthMovers()(p) <= L1()(p)).all()
    for shift in (0.3, -0.05):
        moved = (p.target + shift).requires_grad_(True)
        value = EarthMovers()(change(p, output=moved))
        torch.testing.assert_close(value, torch.full((2,), abs(shift), dtype=torch.float64))
        value.sum().backward()
        share = math.copysign(1.0, shift) / p.mask.sum(dim=(1, 2, 3), keepdim=True).double()
        torch.testing.assert_close(moved.grad, share * p.mask)
    shuffled = p.target.clone()
    for i in range(2):
        values = p.target[i][p.mask[i]]
        shuffled[i][p.mask[i]] = values[torch.randperm(len(values))]
    assert not torch.equal(shuffled, p.target)
    assert EarthMovers()(change(p, output=shuffled)).abs().max() < 1e-12
    bands = {k: getattr(p, k).repeat(1, 2, 1, 1) for k in ("output", "target")}
    bands["output"][:, 1] = bands["target"][:, 1] + 0.2  # the mean over the bands
    both = EarthMovers()(change(p, **bands))
    torch.testing.assert_close(both, (EarthMovers()(p) + 0.2) / 2)


def test_relative_is_a_logarithm_of_each_sample():
    p = make()
    plain = L1()(p)
    torch.testing.assert_close(Relative(L1(), scale=0.5)(p), 0.5 * (1 + plain / 0.5).log())
    torch.testing.assert_close(Relative(L1(weight=7), scale=1e6)(p), plain, rtol=1e-3, atol=0)


def test_ssim_equals_torchmetrics():
    p = make(size=24, mask=torch.ones(2, 1, 24, 24, dtype=torch.bool))
    for i in range(2):
        ours = 1 - SSIMLoss()(p)[i]
        _, theirs = structural_similarity_index_measure(
            p.output[i : i + 1], p.target[i : i + 1], data_range=1.0, return_full_image=True
        )
        inner = theirs[..., 5:-5, 5:-5]  # it mirrors at the border, we leave the border out
        assert ours.item() == pytest.approx(inner.mean().item(), abs=1e-5)


def test_ssim_takes_only_windows_that_are_wholly_valid():
    mask = torch.ones(1, 1, 24, 24, dtype=torch.bool)
    mask[..., 11:] = False  # columns 0..10 hold one column of 11 x 11 windows
    p = make(1, 24, mask=mask)
    left = change(p, **{k: getattr(p, k)[..., :11] for k in ("output", "target", "source", "mask")})
    torch.testing.assert_close(SSIMLoss()(p), SSIMLoss()(left))
    mask = mask.clone()
    mask[..., 10] = False
    assert SSIMLoss()(change(p, mask=mask)).item() == 0.0
    assert SSIMLoss()(make(1, 8)).item() == 0.0


def pixel(nir, true, red, unit="reflectance"):
    """One pixel with physical values."""
    r = UNITS[unit]

    def norm(value, bounds):
        return torch.tensor((value - bounds[0]) / (bounds[1] - bounds[0])).view(1, 1, 1, 1)

    source = torch.cat([norm(red, r.source[0]), norm(0.1, r.source[1]), norm(0.1, r.source[2])], 1)
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    output = norm(nir, r.target[0]).requires_grad_(True)
    return Prediction(output, norm(true, r.target[0]), source, mask, SIGNATURE, [unit])


def test_index_loss_clamps_below_zero_and_keeps_the_gradient():
    p = pixel(nir=-0.2, true=0.3, red=0.1)
    value = IndexLoss("NDVI")(p)
    assert value.item() == pytest.approx(0.5 - (-1.0), abs=1e-5)  # NDVI of 0 and 0.1 is -1
    value.backward()
    assert p.output.grad.item() < 0  # more NIR is better, also from below zero


def test_index_loss_leaves_out_dark_pixels_and_holds_its_own_denominator():
    assert IndexLoss("NDVI")(pixel(nir=0.4, true=0.009, red=0.01)).item() == 0.0
    value = IndexLoss("NDVI", guard=0.02)(pixel(nir=0.004, true=0.3, red=0.001))
    assert value.item() == pytest.approx(0.299 / 0.301 - 0.003 / 0.02, abs=1e-5)


def test_index_loss_counts_only_where_the_unit_allows_it():
    picture = make(units=["display", "reflectance"])
    assert (IndexLoss("NDVI")(picture) > 0).tolist() == [True, True]
    assert (IndexLoss("EVI")(picture) > 0).tolist() == [False, True]
    assert IndexLoss("NDVI")(make(units=["kelvin"] * 2)).tolist() == [0.0, 0.0]
    mixed = UnitRange(UNITS["display"].source, [(0.0, 1.0)], "reflectance")
    signature = Signature(["red", "green", "blue"], ["nir"], {"display": mixed})
    p = change(make(units=["display"] * 2), signature=signature)
    assert IndexLoss("NDVI")(p).tolist() == [0.0, 0.0]


def test_index_loss_names_what_is_wrong():
    with pytest.raises(ValueError, match="did you mean 'NDVI'"):
        IndexLoss("NDVY")
    signature = Signature(
        ["green", "blue"], ["nir"], {"display": UnitRange([(0, 1)] * 2, [(0, 1)])}
    )
    p = change(make(units=["display"] * 2), signature=signature, source=make().source[:, :2])
    with pytest.raises(BandError, match="no red"):
        IndexLoss("NDVI")(p)
