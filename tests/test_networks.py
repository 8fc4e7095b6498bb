"""Every registered generator keeps its word about margin, stride, scale and shapes."""

from __future__ import annotations

from operator import itemgetter

import numpy as np
import pytest
import torch
from registered import cases, waken
from tiers import first_quick, slow

from crossband import Model, load
from crossband.core.registry import build
from crossband.core.signature import Signature, UnitRange
from crossband.errors import RecipeError
from crossband.networks import Discriminator, Generator
from crossband.networks.conditions import FACTS, Conditions
from crossband.networks.generators.blend import Blend
from crossband.networks.generators.familiar_blend import FamiliarBlend
from crossband.networks.generators.local_pyramid import LocalPyramid
from crossband.networks.generators.local_statistics import LocalStatistics
from crossband.networks.generators.local_unet import LocalUNet
from crossband.networks.generators.per_pixel import PerPixelMLP
from crossband.raster.grid import Grid, Window
from crossband.translate.options import TileOptions
from crossband.translate.tiles import halo
from crossband.translate.tiling import default_tile
from crossband.translate.window import translate_window

CASES = cases(Generator)
CRITICS = cases(Discriminator)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_rebuilt_from_its_arguments(name, arguments):
    first = waken(build(Generator, name, arguments))
    second = build(Generator, name, first.arguments)
    second.load_state_dict(first.state_dict())
    x = torch.rand(1, first.in_channels, 16, 12)
    assert torch.equal(first(x), second.eval()(x))


@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (13, 1), (7, 10), (16, 16)])
def test_any_shape(name, arguments, shape):
    network = build(Generator, name, arguments).eval()
    out = network(torch.rand(2, network.in_channels, *shape))
    assert out.shape == (
        2,
        network.out_channels,
        shape[0] * network.scale,
        shape[1] * network.scale,
    )
    assert out.isfinite().all()


def guided(network, x, guide):
    """Return the output for a source and a guide, or for a source alone."""
    return network(x) if guide is None else network.forward_conditioned(x, Conditions(guide=guide))


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_a_pixel_changes_nothing_beyond_the_margin(name, arguments):
    torch.manual_seed(0)  # with unlucky weights a rectifier hides the farthest pixels
    network = waken(build(Generator, name, arguments))
    if network.margin is None:
        pytest.skip("sees the whole image, and says so")
    stride, margin = network.stride, network.margin
    centre = -(-(margin + stride) // stride) * stride
    size = 2 * centre + stride
    base = torch.rand(1, network.in_channels, size, size)
    guide = torch.rand(1, network.guide + FACTS, size, size) if network.guide else None
    before = guided(network, base, guide)
    farthest = 0
    for phase in range(stride):
        at = centre + phase
        changed, other = base.clone(), None if guide is None else guide.clone()
        changed[:, :, at, at] += 10.0
        if other is not None:
            other[:, : network.guide, at, at] += 10.0
        moved = (guided(network, changed, other) - before).abs().amax((0, 1)).nonzero()
        # From the perturbed pixel the margin is seen the other way round: which outputs see it.
        distance = (moved // network.scale - at).abs().max().item() if len(moved) else 0
        assert distance <= margin, (
            f"{name} states a margin of {margin}, and a pixel {distance} away changes its output"
        )
        farthest = max(farthest, distance)
    # Not only an upper bound: a larger margin would waste the halo.
    assert farthest == margin, f"{name} states a margin of {margin}, and sees {farthest} pixels"


@pytest.mark.parametrize(("name", "arguments"), first_quick(CASES, itemgetter(0)))
@pytest.mark.parametrize(
    ("shape", "tile"), [((61, 83), 48), slow((100, 35), 64), slow((30, 30), 40)]
)
def test_tiled_equals_whole(name, arguments, shape, tile):
    torch.manual_seed(1)  # the weights do not depend on the tests before
    network = waken(build(Generator, name, arguments))
    if network.margin is None:
        pytest.skip("sees the whole image, and says so")
    bands = [f"b{i}" for i in range(network.in_channels)]
    outs = [f"t{i}" for i in range(network.out_channels)]
    guide = [f"g{i}" for i in range(network.guide)]
    one = [(0.0, 1.0)]
    ranges = UnitRange(one * len(bands), one * len(outs), None, one * len(guide))
    # Decibels may be negative: nothing is clipped, so that no difference can hide.
    model = Model(network, Signature(bands, outs, {"db": ranges}, guide), name="m", task="t")
    rng = np.random.default_rng(2)
    mask = rng.random(shape) > 0.05
    values = rng.random((len(bands), *shape), np.float32) * mask
    window = Window(values, mask, Grid(*shape), tuple(bands), "db")
    measured = torch.rand(network.guide + FACTS, *shape)

    def at(boxes):
        return torch.stack([measured[:, *box.slices()] for box in boxes])

    whole, tiled = (
        translate_window(
            model, window, TileOptions(precision="fp32", tile=n), at if guide else None
        )
        for n in (4096, tile)
    )
    largest = max(np.abs(whole.values).max(), 1.0)
    assert np.abs(whole.values - tiled.values).max() <= 1e-5 * largest
    assert len(np.unique(whole.values)) > 10 or name == "PerPixelMean"


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_trains_and_answers_in_bf16(name, arguments):
    network = build(Generator, name, arguments).train()
    x = torch.rand(2, network.in_channels, 16, 16)
    for training in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            out = network.train(training)(x)
        assert out.float().isfinite().all()
    if any(p.requires_grad for p in network.parameters()):
        network.train()
        with torch.autocast("cpu", torch.bfloat16):
            network(x).float().square().mean().backward()
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(("name", "arguments"), CRITICS)
def test_discriminators_train_in_bf16(name, arguments):
    network = build(Discriminator, name, arguments)
    with torch.autocast("cpu", torch.bfloat16):
        scores = network(torch.rand(2, 3, 128, 128), torch.rand(2, 1, 128, 128))
        scores.float().square().mean().backward()
    assert scores.shape[:2] == (2, 1)
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(("name", "arguments"), CRITICS)
def test_discriminators_say_how_small_a_picture_they_can_judge(name, arguments):
    network = build(Discriminator, name, arguments)
    source, target = torch.rand(2, 3, 128, 128), torch.rand(2, 1, 128, 128)
    side = network.smallest
    scores = network.features(source[..., :side, :], target[..., :side, :])[-1][-1]
    assert scores.shape[2] == 1
    assert scores.isfinite().all()
    less = source[..., : side - 1], target[..., : side - 1]
    with pytest.raises(RecipeError, match=f"needs {side} x {side} pixels for a score, not 128 x "):
        network(*less)
    if side > 1:  # and not one pixel more than it must have
        network.smallest = 0
        with pytest.raises((RuntimeError, ValueError)):
            network(*less)


@pytest.mark.parametrize(("name", "arguments"), CRITICS)
def test_discriminators_see_a_coarse_source_at_the_pixels_of_its_target(name, arguments):
    network = build(Discriminator, name, arguments).eval()
    coarse, target = torch.rand(2, 3, 48, 49), torch.rand(2, 1, 96, 98)
    fine = torch.nn.functional.interpolate(coarse, (96, 98), mode="bilinear")
    torch.testing.assert_close(network(coarse, target), network(fine, target))
    other = network(coarse.flip(1), target)
    assert torch.equal(other, network(coarse, target)) != network.conditional


def test_local_unet_at_its_default_size():
    network = LocalUNet()
    assert (network.margin, network.stride) == (27, 4)
    assert sum(p.numel() for p in network.parameters()) == 1_012_481


def test_local_statistics_are_those_of_numpy():
    """Mean, spread, correlation of a window, without what is masked; extremes of whole cells."""
    network = LocalStatistics(3, 1, near=(5,), far=(3,), stride=4)
    assert (network.margin, network.stride) == (7, 4)
    rng = np.random.default_rng(0)
    x = rng.uniform(0.05, 0.9, (3, 24, 32)).astype(np.float32)
    x[:, 10:14, 9:15] = 0.0  # masked
    batch = torch.from_numpy(x)[None]
    row, col = 13, 17
    found = network._features(
        batch,
        network._windows_of_cells(network._cells(batch)),
        slice(row, row + 1),
        slice(col, col + 1),
    )
    found = dict(zip(range(found.shape[1]), found.flatten().tolist(), strict=True))

    def expected(window):
        pixels = window.reshape(3, -1)
        pixels = pixels[:, pixels.any(axis=0)].astype(float)
        spread, mean = pixels.std(axis=1), pixels.mean(axis=1)
        pairs = [(0, 1), (0, 2), (1, 2)]
        cov = [((pixels[i] - mean[i]) * (pixels[j] - mean[j])).mean() for i, j in pairs]
        alike = [c / (spread[i] * spread[j] + 1e-4) for c, (i, j) in zip(cov, pairs, strict=True)]
        logs = np.log(mean + 0.06)
        ratios = [logs[1] - logs[0], logs[2] - logs[1], np.log(mean.mean() + 0.06)]
        extremes = [np.log(f(axis=1) + 0.06) for f in (pixels.min, pixels.max)]
        return [*mean, *np.log(spread + 0.01), *alike, *ratios], np.concatenate(extremes)

    near, _ = expected(x[:, row - 2 : row + 3, col - 2 : col + 3])
    top, left = row // 4 * 4 - 4, col // 4 * 4 - 4
    far, extremes = expected(x[:, top : top + 12, left : left + 12])
    values = [*near, *far, *extremes]
    assert len(found) == 6 + len(values)
    np.testing.assert_allclose([found[6 + i] for i in range(len(values))], values, atol=2e-5)


@pytest.mark.parametrize("context", [5, 8])
def test_inner_is_the_middle_of_the_whole(context):
    for network in (
        LocalStatistics(width=8),
        LocalUNet(width=8, depth=1, hidden=6),
        LocalPyramid(width=8, hidden=6, levels=2),
    ):
        waken(network)
        x = torch.rand(2, 3, 37, 40)
        whole = network(x)[..., context:-context, context:-context]
        torch.testing.assert_close(network.forward_cropped(x, context), whole, atol=1e-6, rtol=1e-6)
        with torch.no_grad():  # in strips of rows, as scenes are
            tall = torch.rand(1, 3, 150, 12)
            strips = network(tall)
        torch.testing.assert_close(strips, network(tall).detach(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", [LocalStatistics, LocalPyramid])
@pytest.mark.parametrize("share", [0.3, 0.05])  # of all pixels; windows of few are cut out
def test_members_take_turns_and_answer_where_wanted(kind, share):
    network = waken(kind(3, 2, width=6, depth=1, members=2))
    one, other = (kind(3, 2, width=6, depth=1, members=1) for _ in range(2))
    one.members[0], other.members[0] = network.members
    x = torch.rand(5, 3, 20, 20)
    wanted = torch.rand(5, 1, 8, 8) > 1 - share
    with torch.no_grad():
        expected = torch.stack([(one if i % 2 == 0 else other)(x[i : i + 1])[0] for i in range(5)])
        both = (one(x) + other(x)) / 2
        torch.testing.assert_close(network(x), both, atol=3e-6, rtol=1e-6)
        network.train()
        torch.testing.assert_close(network(x), expected, atol=1e-6, rtol=1e-6)
        inner = network.forward_cropped(x, 6, wanted)
    there = wanted.expand_as(inner)
    middle = expected[..., 6:-6, 6:-6]
    torch.testing.assert_close(inner[there], middle[there], atol=1e-6, rtol=1e-6)
    assert inner[~there].abs().max() == 0


def test_local_pyramid_at_its_default_size():
    network = LocalPyramid()
    assert (network.margin, network.stride) == (58, 16)
    reach = halo(network.margin, network.stride)
    kept = 1 - 2 * reach / default_tile(network)
    assert 1 / kept**2 <= 1.15  # pixels computed for each pixel kept


def test_statistics_of_a_pyramid_are_those_of_numpy():
    """At an even picture with a masked part: the same for every window, whatever its weights."""
    network = LocalPyramid(levels=2, bins=0)
    rng = np.random.default_rng(0)
    column = rng.uniform(0.1, 0.8, (3, 4, 4)).astype(np.float32)
    x = np.tile(column, (1, 20, 20))
    step = np.abs(np.diff(np.pad(column.mean(axis=0), ((0, 1), (0, 1)), mode="wrap"), axis=0))
    across = np.abs(np.diff(np.pad(column.mean(axis=0), ((0, 1), (0, 1)), mode="wrap"), axis=1))
    edge = (step[:, :4] + across[:4]).mean()
    pixels = column.reshape(3, -1).astype(float)
    mean, spread = pixels.mean(axis=1), pixels.std(axis=1)
    cov = np.cov(pixels, bias=True)
    alike = [cov[i, j] / (spread[i] * spread[j] + 1e-4) for i, j in network.pairs]
    logs = np.log(mean + 0.06)
    ratios = [logs[1] - logs[0], logs[2] - logs[1], np.log(mean.mean() + 0.06)]
    expected = [*mean, *np.log(spread + 0.01), *alike, *ratios, np.log(edge + 0.003)]

    def found(picture):
        fine, coarse = network.surroundings(torch.from_numpy(picture)[None])
        features = torch.stack([fine[0, 10, 10], coarse[0, 5, 5]])
        back = features * network.window_spread.flatten() + network.window_usual.flatten()
        return back.numpy()

    np.testing.assert_allclose(found(x), [expected, expected], atol=1e-4)
    x[:, 44:, :] = 0.0  # masked: whole cells beside the middle
    np.testing.assert_allclose(found(x)[:, :12], [expected[:12]] * 2, atol=1e-4)


def test_histograms_of_a_pyramid_are_those_of_cells():
    """At an even picture of two colours of cells: half of the weight each, shared between bins."""
    network = LocalPyramid(levels=2, bins=4)
    colours = np.array([[0.2, 0.3, 0.25], [0.6, 0.4, 0.3]], np.float32)
    cells = np.indices((20, 20)).sum(axis=0) % 2
    x = colours[cells].transpose(2, 0, 1).repeat(4, axis=1).repeat(4, axis=2)
    expected = np.zeros((3, 4))
    for colour in colours:
        logs = np.log(colour + 0.06)
        values = [logs[1] - logs[0], logs[2] - logs[1], np.log(colour.mean() + 0.06)]
        for row, value, (first, last) in zip(
            expected, values, [(-0.7, 0.7), (-0.7, 0.7), (-2.6, 0.2)], strict=True
        ):
            place = (value - first) / (last - first) * 3
            low = int(np.floor(place))
            row[low] += 0.5 * (low + 1 - place)
            row[low + 1] += 0.5 * (place - low)

    def found(picture):
        features = network.surroundings(torch.from_numpy(picture)[None])[1][0, 5, 5]
        back = features * network.window_spread.flatten() + network.window_usual.flatten()
        return back[network.moments :].reshape(3, 4).numpy()

    np.testing.assert_allclose(found(x), expected, atol=1e-5)
    x[:, 48:, :] = 0.0  # masked: whole cells beside the middle
    np.testing.assert_allclose(found(x), expected, atol=1e-5)
    np.testing.assert_allclose(found(x).sum(axis=1), 1.0, atol=1e-5)


def test_histograms_of_one_bin_are_refused():
    with pytest.raises(RecipeError, match="at least 2 bins, or 0 for none, not 1"):
        LocalPyramid(bins=1)


def roughness(network):
    """Return the largest step of the answer to one bright pixel, over the answer's largest value.

    Of the pixels beyond the bright one itself, whose own colour is another.
    """
    rows, columns = torch.meshgrid(torch.arange(160.0), torch.arange(160.0), indexing="ij")
    smooth = 0.3 + 0.05 * torch.sin(rows / 60) * torch.cos(columns / 75)
    field = torch.stack([smooth, smooth * 0.9, smooth * 0.8])[None]
    bright = field.clone()
    bright[:, :, 80, 80] = 2.0
    with torch.no_grad():
        answer = (network(bright) - network(field))[0, 0]
    steps = torch.stack([answer.diff(dim=0)[:, :-1].abs(), answer.diff(dim=1)[:-1].abs()])
    steps[:, 79:81, 79:81] = 0.0
    answer[80, 80] = 0.0
    return float(steps.max() / answer.abs().max())


def test_a_bright_pixel_has_no_square_edge_around_it():
    """The finest window is as wide as a Gaussian of 4.5 px: its steepest step is exp(-1/2) / 4.5.

    Logarithms of spread rise faster than what they are of: three times that is allowed.
    """
    gaussian = np.exp(-0.5) / 4.5
    for seed in range(3):
        torch.manual_seed(seed)
        assert roughness(LocalPyramid().eval()) < 3 * gaussian
        assert roughness(LocalPyramid(bins=0).eval()) < 3 * gaussian
        assert roughness(LocalStatistics().eval()) > 3 * gaussian  # boxes: the measure tells


def described(pyramid, x):
    """Return what a blend by familiarity compares."""
    return pyramid.description(pyramid.surroundings(x))


def pyramid_with_fallback(levels=2, members=1):
    """Return a blend of a pyramid with half a perceptron each, and pictures that it is fitted to.

    The pictures are of two kinds, so that some surroundings are between those of training.
    """
    torch.manual_seed(0)
    pyramid = waken(LocalPyramid(width=8, hidden=6, levels=levels, members=members))
    parts = [pyramid, waken(PerPixelMLP(width=5)), waken(PerPixelMLP(width=6))]
    network = FamiliarBlend.of(parts, [0.0, 0.5, 0.5]).eval()
    dark, light = 0.2 + 0.01 * torch.rand(1, 3, 64, 64), 0.4 + 0.3 * torch.rand(1, 3, 64, 64)
    network.fit_centres(torch.cat([described(pyramid, x).flatten(0, 2) for x in (dark, light)]))
    return network, torch.cat([dark, light])


def test_a_familiar_blend_answers_with_its_network_at_a_centre_and_without_it_far_away():
    network, known = pyramid_with_fallback()
    pyramid, *others = network.parts
    with torch.no_grad():
        fallback = sum(part(known) for part in others) / 2
        even = known[:1, :, :1, :1].expand(1, 3, 64, 64)  # the same surroundings everywhere
        network.centres.copy_(described(pyramid, even)[0, 4, 4])
        inner = slice(16, 48)
        found, alone = network(even), pyramid(even)
        assert (alone - sum(part(even) for part in others) / 2).abs().max() > 0.01
        torch.testing.assert_close(
            found[..., inner, inner], alone[..., inner, inner], atol=1e-5, rtol=0
        )
        network.centres.fill_(100.0)
        torch.testing.assert_close(network(known), fallback, atol=1e-4, rtol=0)
        network.reach.fill_(float("inf"))  # as before it is fitted
        torch.testing.assert_close(network(known), pyramid(known), atol=1e-6, rtol=0)


def test_weights_of_a_familiar_blend():
    """Between 0 and 1; above 1/2 for half of what it was fitted to, and less between the kinds."""
    network, known = pyramid_with_fallback()
    with torch.no_grad():
        own = network.weights(described(network.parts[0], known))
        new = network.weights(described(network.parts[0], torch.rand(4, 3, 64, 64) ** 4))
        half = network.weights(described(network.parts[0], known.mean(0, keepdim=True)))
    for weights in (own, new, half):
        assert weights.min() >= 0
        assert weights.max() <= 1
    assert 0.49 < (own >= 0.5).float().mean() < 0.6
    assert new.max() < 0.5
    assert half.max() < 0.5


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_tiles_of_a_familiar_blend_equal_the_whole(levels):
    network, known = pyramid_with_fallback(levels, members=2)
    ranges = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])
    model = Model(network, Signature(list("rgb"), ["n"], {"db": ranges}), name="m", task="t")
    mixed = torch.cat([known[0], known[1], known[0].lerp(known[1], 0.02)], dim=2)
    values = torch.cat([mixed, mixed], dim=1)[:, :101].numpy().copy()
    mask = np.random.default_rng(0).random(values.shape[1:]) > 0.02
    window = Window(values * mask, mask, Grid(*mask.shape), tuple("rgb"), "db")
    with torch.no_grad():
        weights = network.weights(described(network.parts[0], torch.from_numpy(values)[None]))
    assert weights.min() < 0.1
    assert weights.max() > 0.9
    whole = translate_window(model, window, TileOptions(precision="fp32", tile=4096))
    tiled = translate_window(model, window, TileOptions(precision="fp32", tile=80))
    assert np.abs(whole.values - tiled.values).max() <= 1e-5


def test_a_familiar_blend_is_kept_with_its_centres(tmp_path):
    network, known = pyramid_with_fallback()
    ranges = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])
    model = Model(network, Signature(list("rgb"), ["n"], {"db": ranges}), name="m", task="t")
    again = load(model.save(tmp_path / "m")).network
    assert torch.equal(again.centres, network.centres)
    assert torch.equal(again(known), network(known))


def test_a_familiar_blend_fits_few_and_equal_samples():
    network, _ = pyramid_with_fallback()
    few = torch.rand(5, 26, generator=torch.Generator().manual_seed(0))
    for features in (few, torch.ones(600, 26)):
        network.fit_centres(features)
        assert network.centres.isfinite().all()
        assert network.reach > 0
        # The reach is the median of the distances: of five samples two may lie beyond it.
        assert (network.weights(features[None, None]) > 0.5 - 1e-6).float().mean() > 0.59
    with pytest.raises(RecipeError, match="needs a LocalPyramid as its first part, not PerPixel"):
        FamiliarBlend.of([PerPixelMLP(), PerPixelMLP()], [0.5, 0.5])
    with pytest.raises(RecipeError, match="at least one centre, not 0"):
        FamiliarBlend(network.arguments["parts"], [0.0, 0.5, 0.5], 0)


def test_members_share_the_batch_while_training_and_answer_together_afterwards():
    network = waken(LocalUNet(3, 1, width=6, depth=1, hidden=5, members=2))
    x = torch.rand(4, 3, 8, 8)
    first, second = network.members
    with torch.no_grad():
        assert torch.allclose(network(x), (first(x) + second(x)) / 2)
        network.train()
        assert torch.equal(network(x), torch.cat([first(x[:2]), second(x[2:])]))
        assert network(x[:1]).shape == (1, 1, 8, 8)


@pytest.mark.parametrize(("name", "arguments"), CRITICS)
def test_discriminators_score_patches(name, arguments):
    network = build(Discriminator, name, arguments)
    size = 128
    scores = network(torch.rand(2, 3, size, size), torch.rand(2, 1, size, size))
    assert scores.shape[:2] == (2, 1)
    assert scores.isfinite().all()


def test_a_blend_is_the_weighted_mean():
    parts = [waken(LocalUNet(width=6, depth=1, hidden=4)), waken(PerPixelMLP())]
    x = torch.rand(1, 3, 9, 10)
    expected = 0.7 * parts[0](x) + 0.3 * parts[1](x)
    assert torch.allclose(Blend.of(parts, [0.7, 0.3]).eval()(x), expected, atol=1e-6)
    with pytest.raises(ValueError, match="sum to 1"):
        Blend.of(parts, [0.7, 0.7])
    with pytest.raises(ValueError, match="in_channels"):
        Blend.of([parts[0], PerPixelMLP(4)], [0.5, 0.5])


def test_a_perceptron_in_parts_is_the_same_as_at_once():
    network = waken(PerPixelMLP(width=8))
    x = torch.rand(2, 3, 61, 83)  # more pixels than are computed at once
    with torch.inference_mode():
        parts = network(x)
    assert torch.allclose(parts, network(x), atol=1e-6)
    assert parts.shape == (2, 1, 61, 83)


def test_statistics_of_a_pyramid_stay_in_fp32_under_autocast():
    network = LocalPyramid(width=6, hidden=5, levels=2)
    x = torch.rand(1, 3, 64, 64) * 0.01 + 0.5  # smooth: variances are small
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network.surroundings(x)
    for one, other in zip(rounded, network.surroundings(x), strict=True):
        assert torch.equal(one, other)
