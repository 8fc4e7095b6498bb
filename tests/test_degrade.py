"""Degradations: MATLAB's bicubic to the last digit, the MTF that was asked for, margins, purity."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from registered import cases

from crossband.core.registry import build
from crossband.core.resample import bicubic
from crossband.data.degrade import Degradation, coarse_mask, parse_degradation
from crossband.data.degrade.any_of import AnyOf
from crossband.data.degrade.base import jpeg
from crossband.data.degrade.blind import Blind, blur_kernel, sinc_kernel
from crossband.data.degrade.sensor import Bicubic, SensorMTF
from crossband.errors import CrossbandError, RecipeError
from crossband.raster.point_spread import gaussian_width

# Written by MATLAB (files of July 2020, "MATLAB 5.0 MAT-file, Platform: GLNXA64") and published as
# test answers in github.com/sanghyun-son/bicubic_pytorch, test_answer/*.mat: imresize(..., [h w],
# 'bicubic') of 0, 1, 2, ... counted along the rows of a square. Sizes -> result.
MATLAB = {
    (8, 1 / 2): [
        [4.04296875, 6.08203125, 8.10546875, 10.14453125],
        [20.35546875, 22.39453125, 24.41796875, 26.45703125],
        [36.54296875, 38.58203125, 40.60546875, 42.64453125],
        [52.85546875, 54.89453125, 56.91796875, 58.95703125],
    ],
    (8, 1 / 4): [[12.383789, 16.631836], [46.368164, 50.616211]],
    (4, 3 / 4): [
        [0.750552, 2.100442, 3.450331],
        [6.15011, 7.5, 8.84989],
        [11.549669, 12.899558, 14.249448],
    ],
    (15, 1 / 3): [
        [14.419753, 17.506173, 20.518519, 23.530864, 26.617284],
        [60.716049, 63.802469, 66.814815, 69.82716, 72.91358],
        [105.901235, 108.987654, 112.0, 115.012346, 118.098765],
        [151.08642, 154.17284, 157.185185, 160.197531, 163.283951],
        [197.382716, 200.469136, 203.481481, 206.493827, 209.580247],
    ],
    (15, 1 / 5): [
        [29.1072, 34.288, 39.4688],
        [106.8192, 112.0, 117.1808],
        [184.5312, 189.712, 194.8928],
    ],
}
# From the same place (up_up_topleft): 4 x 4 zeros but for four corners' pixels, to 5 x 5.
ENLARGED = [
    [108.685225, 27.697097, -12.446562, 26.884193, 109.2025],
    [35.471365, 8.970789, -3.589562, 6.637437, 26.961],
    [-0.650312, -0.212219, 0.394531, -1.607906, -6.53125],
    [-0.768075, -0.18963, 0.045938, 0.0, 0.0],
    [0.0, 0.0, 0.0, 0.0, 0.0],
]


@pytest.mark.parametrize("case", MATLAB)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shrinking_is_matlabs(case, dtype):
    side, scale = case
    x = torch.arange(side * side, dtype=dtype).view(side, side)
    expected = torch.tensor(MATLAB[case], dtype=dtype)
    torch.testing.assert_close(bicubic(x, scale), expected, atol=1e-4, rtol=0)


def test_enlarging_is_matlabs():
    x = torch.zeros(4, 4)
    x[0, 0], x[1, 0], x[0, 1], x[0, 3] = 100, 10, 1, 100
    torch.testing.assert_close(bicubic(x, 1.25), torch.tensor(ENLARGED), atol=1e-4, rtol=0)


def plain(line, scale):
    """MATLAB's definition on one axis, pixel by pixel, with MATLAB's counting from 1."""
    width = 4.0 / min(scale, 1.0)
    out = []
    for i in range(1, math.ceil(len(line) * scale) + 1):
        u = i / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(u - width / 2)
        total = weights = 0.0
        for k in range(left, left + math.ceil(width) + 2):
            d = abs(u - k) * min(scale, 1.0)
            if d <= 1:
                w = 1.5 * d**3 - 2.5 * d**2 + 1
            elif d <= 2:
                w = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
            else:
                w = 0.0
            both = [*range(len(line)), *reversed(range(len(line)))]
            total += w * line[both[(k - 1) % len(both)]]
            weights += w
        out.append(total / weights)
    return out


@pytest.mark.parametrize("scale", [0.13, 0.25, 1 / 3, 0.7, 1.0, 1.1, 2.0, 3.7])
@pytest.mark.parametrize("length", [1, 5, 31])
def test_any_scale_is_the_definition(scale, length):
    x = np.random.default_rng(0).standard_normal((2, length, 9))
    rows = np.stack([[plain(c, scale) for c in band.T] for band in x]).transpose(0, 2, 1)
    expected = np.stack([[plain(r, scale) for r in band] for band in rows])
    got = bicubic(torch.from_numpy(x), scale)
    np.testing.assert_allclose(got, expected, atol=1e-12)
    assert got.shape == (2, math.ceil(length * scale), math.ceil(9 * scale))


def test_impulse_by_hand():
    """Twice as many pixels: their centres lie a quarter, 3, 5, 7 quarters off the old ones."""
    x = torch.zeros(1, 8, dtype=torch.float64)
    x[0, 4] = 1.0
    keys = [0.8671875, 0.2265625, -0.0703125, -0.0234375]
    assert bicubic(x, 2.0)[0, 9:13].tolist() == keys
    assert bicubic(x, 2.0)[1, 5:9].tolist() == keys[::-1]


def test_bicubic_is_differentiable():
    x = torch.rand(2, 6, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: bicubic(y, 0.5), x)


@pytest.mark.parametrize(
    ("x", "scale"),
    [
        (torch.zeros(4, 4), 0.0),
        (torch.zeros(4, 4), float("nan")),
        (torch.zeros(4, 4, dtype=torch.uint8), 0.5),
        (torch.zeros(4), 0.5),
    ],
)
def test_bicubic_refuses(x, scale):
    with pytest.raises(CrossbandError, match="bicubic"):
        bicubic(x, scale)


def stored(x):
    """MATLAB's uint8()."""
    return (x.clamp(0, 255) + 0.5).floor()


def luma(rgb):
    """MATLAB's rgb2ycbcr of uint8, first band: Y of BT.601 in 16..235."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64) / 255
    return stored((weights[:, None, None] * rgb).sum(0) + 16)


@pytest.mark.parametrize(("scale", "published"), [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_set5_gives_the_published_psnr(real_data, scale, published):
    """Mean PSNR of bicubic on Set5, as in Dong et al. 2014 (SRCNN) and every paper since.

    The published numbers are of luma that is shrunk, enlarged, and rounded once at the end; with
    the small image rounded as well, as its files are, they are 0.01 dB lower.
    """
    smooth, rounded = [], []
    for path in sorted((real_data / "super-resolution" / "Set5").glob("*.png")):
        rgb = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).double()
        height, width = (side // scale * scale for side in rgb.shape[1:])
        rgb = rgb[:, :height, :width]
        y = luma(rgb)
        files = stored(bicubic(stored(bicubic(rgb, 1 / scale)), scale))
        for scores, result in (
            (smooth, stored(bicubic(bicubic(y, 1 / scale), scale))),
            (rounded, luma(files)),
        ):
            error = (result - y)[scale:-scale, scale:-scale].square().mean()
            scores.append(10 * math.log10(255**2 / error))
    assert len(smooth) == 5
    assert np.mean(smooth) == pytest.approx(published, abs=0.006)
    assert np.mean(rounded) == pytest.approx(published, abs=0.02)


# The family.


def rng(seed=0):
    return np.random.default_rng(seed)


def picture(bands=3, side=48, seed=0):
    """Noise of all frequencies in 0..1, float64."""
    return torch.from_numpy(rng(seed).uniform(0, 1, (bands, side, side)))


#: Blind with nothing that depends on where a window lies: no noise, no JPEG, sizes as they are.
STILL = {
    "jpeg": None,
    "noise": ((0, 0), (0, 0)),
    "gaussian": 1.0,
    "resize": ((0, 0, 1), (0, 0, 1)),
    "resize_range": ((1, 1), (1, 1)),
}
MEMBERS = cases(Degradation)
#: Those that give the same of a part as of the whole.
EXACT = [build(Degradation, *case) for case in MEMBERS]
EXACT = [*(member for member in EXACT if not member.random), Blind(**STILL)]


@pytest.mark.parametrize(("name", "arguments"), MEMBERS)
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_shape_and_purity(name, arguments, scale):
    member = build(Degradation, name, arguments)
    if name == "SensorMTF" and scale == 1:
        with pytest.raises(RecipeError, match="too few for an MTF"):
            member(picture(), 1, rng())
        return
    again = build(Degradation, name, member.arguments)
    for dtype in (torch.float32, torch.float64):
        x = picture(side=24).to(dtype)
        kept = x.clone()
        out = member(x, scale, rng(3))
        assert out.shape == (3, 24 // scale, 24 // scale)
        assert out.dtype == dtype
        assert torch.equal(x, kept)
        torch.manual_seed(5)
        assert torch.equal(out, again(x, scale, rng(3)))
        assert member.random != torch.equal(out, member(x, scale, rng(4)))
    with pytest.raises(RecipeError, match="crop first"):
        member(x, 5, rng())
    with pytest.raises(RecipeError, match="takes floats"):
        member(x[0], 1, rng())


def test_one_of_several_is_drawn():
    x, both = picture(), [Bicubic(), SensorMTF(mtf=0.05)]
    drawn = AnyOf(["Bicubic", "SensorMTF(mtf=0.05)"])
    results = [degradation(x, 2, rng()) for degradation in both]
    seen = {
        next(n for n, one in enumerate(results) if torch.equal(one, drawn(x, 2, rng(seed))))
        for seed in range(12)
    }
    assert seen == {0, 1}
    assert drawn.margin == max(degradation.margin for degradation in both)
    with pytest.raises(RecipeError, match="at least one"):
        AnyOf([])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Bicubik", "did you mean 'Bicubic'"),
        ("SensorMTF(mft=0.2)", "no argument 'mft'"),
        ("SensorMTF(mtf)", "names no degradation"),
        ("SensorMTF(mtf=1e)", "1e is no number"),
        ("SensorMTF(mtf=0.2", "names no degradation"),
        ("AnyOf(choices=1)", "choices must be"),
    ],
)
def test_a_text_that_names_no_degradation(text, words):
    with pytest.raises(CrossbandError, match=words):
        parse_degradation(text)


@pytest.mark.parametrize("member", EXACT, ids=lambda m: f"{type(m).__name__} {m.margin}")
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_window_with_its_margin_equals_the_part_of_the_whole(member, scale):
    crop, edge = 3, member.margin
    side = crop + 2 * edge + 10
    x = picture(side=side * scale)
    for seed in range(6 if member.random else 1):
        whole = member(x, scale, rng(seed))
        start = 5
        cut = slice(start * scale, (start + crop + 2 * edge) * scale)
        window = member(x[:, cut, cut], scale, rng(seed))
        inner = window[:, edge : edge + crop, edge : edge + crop]
        same = whole[:, start + edge :, start + edge :][:, :crop, :crop]
        torch.testing.assert_close(inner, same, atol=1e-6, rtol=0)


@pytest.mark.parametrize("member", [Bicubic(), SensorMTF()])
def test_the_margin_is_needed(member):
    """With one pixel less the window differs: the margin is no larger than it must be."""
    edge, scale = member.margin - 1, 4
    x = picture(side=(2 * edge + 21) * scale)
    window = member(x[:, 40 : 40 + (2 * edge + 1) * scale, :], scale, rng())
    whole = member(x, scale, rng())
    assert (window[:, edge] - whole[:, 10 + edge]).abs().max() > 1e-7


@pytest.mark.parametrize("member", EXACT, ids=lambda m: f"{type(m).__name__} {m.margin}")
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_nothing_is_shifted_and_constants_stay(member, scale):
    x = torch.full((3, 24, 24), 0.3, dtype=torch.float64)
    torch.testing.assert_close(member(x, scale, rng()), x[:, ::scale, ::scale], atol=1e-9, rtol=0)
    # A ramp's coarse value is the mean of what lies below the pixel, wherever borders are far.
    x = torch.linspace(0, 1, 60 * scale, dtype=torch.float64).expand(3, 40 * scale, -1)
    means = x.view(3, 40, scale, 60, scale).mean((2, 4))
    inner = (slice(None), slice(18, 22), slice(26, 34))
    torch.testing.assert_close(member(x, scale, rng())[inner], means[inner], atol=1e-6, rtol=0)
    turned = member(x.transpose(1, 2), scale, rng()).transpose(1, 2)
    if not member.random:
        torch.testing.assert_close(turned[inner], means[inner], atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [2, 3, 4, 10])
@pytest.mark.parametrize("mtf", [0.05, 0.2, 0.4])
def test_the_mtf_at_nyquist_is_what_was_asked_for(scale, mtf):
    """The kernel is an impulse's responses on all phases; its FFT at f = 1 / (2 scale)."""
    coarse = 16
    x = torch.zeros(1, coarse * scale, coarse * scale, dtype=torch.float64)
    row = coarse // 2 * scale
    kernel = np.zeros(coarse * scale)
    for phase in range(scale):  # the response of coarse pixel i to fine pixel j has j - i scale
        x.zero_()[0, :, row + phase] = 1.0
        response = SensorMTF(mtf)(x, scale, rng())[0, coarse // 2].numpy()
        kernel[(row + phase - np.arange(coarse) * scale) % len(kernel)] += response
    assert kernel.sum() == pytest.approx(1.0, abs=1e-9)
    spectrum = np.abs(np.fft.rfft(kernel))
    frequency = np.fft.rfftfreq(len(kernel))
    assert frequency[coarse // 2] == 1 / (2 * scale)
    assert spectrum[coarse // 2] == pytest.approx(mtf, abs=0.005)
    half = np.exp(-2 * (math.pi * gaussian_width(mtf, scale) * frequency[coarse // 4]) ** 2)
    assert spectrum[coarse // 4] == pytest.approx(half, abs=0.005)


def test_an_mtf_that_the_pixels_cannot_show_is_refused():
    with pytest.raises(RecipeError, match=r"scale 2 the pixels are too few for an MTF of 0\.9"):
        SensorMTF(0.9)(picture(), 2, rng())
    SensorMTF(0.9)(picture(), 12, rng())


def test_one_mtf_for_each_band():
    x = picture()
    out = SensorMTF([0.05, 0.2, 0.4])(x, 4, rng())
    for band, mtf in enumerate([0.05, 0.2, 0.4]):
        alone = SensorMTF(mtf)(x[band : band + 1], 4, rng())[0]
        torch.testing.assert_close(out[band], alone)
    with pytest.raises(RecipeError, match="2 values of mtf for 3 bands"):
        SensorMTF([0.2, 0.3])(x, 4, rng())


def test_noise_has_the_deviation_that_was_asked_for():
    x = torch.full((2, 256, 256), 0.4)
    still = SensorMTF()(x, 2, rng())
    out = SensorMTF(noise=0.03)(x, 2, rng())
    assert (out - still).std() == pytest.approx(0.03, rel=0.03)
    assert abs(float((out - still).mean())) < 1e-3
    drawn = [float((SensorMTF(noise=(0.0, 0.1))(x, 2, rng(i)) - still).std()) for i in range(60)]
    assert min(drawn) < 0.015
    assert 0.085 < max(drawn) < 0.103


def test_jpeg_is_lossy_clipped_and_for_pictures():
    x = picture()
    fine, coarse = ((jpeg(x[:1], q) - x[:1]).abs().mean() for q in (95, 10))
    assert 0 < fine < coarse
    assert jpeg(x * 3 - 1, 90).min() >= 0
    assert jpeg(x * 3 - 1, 90).max() <= 1
    # Red must stay red: bands are neither swapped nor mixed.
    red = torch.zeros(3, 16, 16)
    red[0] = 0.8
    torch.testing.assert_close(jpeg(red, 95), red, atol=0.02, rtol=0)
    with pytest.raises(RecipeError, match="one band or three, not 4"):
        jpeg(picture(4), 90)
    low = SensorMTF(jpeg=(5, 5))(x, 2, rng())
    torch.testing.assert_close(low, jpeg(SensorMTF()(x, 2, rng()), 5))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("SensorMTF", {"mtf": 0}, "between 0 and 1"),
        ("SensorMTF", {"mtf": [0.2, 1.0]}, "between 0 and 1"),
        ("SensorMTF", {"mtf": []}, "between 0 and 1"),
        ("SensorMTF", {"noise": -1}, "noise -1 is neither"),
        ("SensorMTF", {"jpeg": (80, 30)}, "jpeg"),
        ("SensorMTF", {"mft": 0.3}, "did you mean 'mtf'"),
        ("SensorMFT", {}, "did you mean 'SensorMTF'"),
        ("Blind", {"sizes": (6, 20)}, "odd"),
        ("Blind", {"kernels": (0.5, 0.2, 0.2)}, "sum to 1"),
        ("Blind", {"resize": ((0, 0, 1),)}, "each of two rounds"),
        ("Blind", {"sigma": ((0.2, 3),)}, "each of two rounds"),
        ("Blind", {"resize_range": ((1.2, 1.5), (1, 1))}, "must hold 1"),
        ("Blind", {"grey": 1.5}, "within 0..1"),
    ],
)
def test_wrong_arguments_are_one_line(name, arguments, message):
    with pytest.raises(CrossbandError, match=message) as error:
        build(Degradation, name, arguments)
    assert "\n" not in str(error.value)


# Blind.


def test_kernels_have_the_widths_and_shapes_that_were_asked_for():
    y, x = np.mgrid[:41, :41] - 20
    for angle in (0.0, math.pi / 6, math.pi / 2):
        kernel = blur_kernel(41, 3.0, 1.5, angle)
        assert kernel.sum() == pytest.approx(1)
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        assert math.sqrt((kernel * along**2).sum()) == pytest.approx(3.0, abs=0.01)
        assert math.sqrt((kernel * across**2).sum()) == pytest.approx(1.5, abs=0.01)
    plateau = blur_kernel(41, 4.0, 4.0, 0.0, 2.0, plateau=True)
    # q^2 is (2 / 4)^4 at a distance of 2 and (8 / 4)^4 at 8.
    assert plateau[20, 22] / plateau[20, 20] == pytest.approx(1 / (1 + 1 / 16))
    assert plateau[20, 28] / plateau[20, 20] == pytest.approx(1 / (1 + 16))
    sharp = blur_kernel(41, 4.0, 4.0, 0.0, 0.5)
    assert sharp[20, 24] / sharp[20, 20] == pytest.approx(math.exp(-0.5))
    assert sharp[20, 28] / sharp[20, 20] == pytest.approx(math.exp(-1.0))


def test_sinc_passes_below_its_cutoff_and_stops_above():
    kernel = sinc_kernel(99, math.pi / 2)
    spectrum = np.abs(np.fft.fft2(kernel))
    frequency = 2 * math.pi * np.fft.fftfreq(99)
    radius = np.hypot(frequency[:, None], frequency[None])
    np.testing.assert_allclose(spectrum[radius < 0.4 * math.pi], 1.0, atol=0.1)
    np.testing.assert_allclose(spectrum[radius > 0.6 * math.pi], 0.0, atol=0.1)
    assert kernel.min() < 0  # that is what rings


def test_blind_noise_grey_and_colour_gaussian_and_poisson():
    quiet = {**STILL, "sinc": 0, "final_sinc": 0, "sigma": ((0.01, 0.01),) * 2, "second_blur": 0}
    x = torch.full((3, 64, 64), 0.25)
    x[:, :, 32:] = 0.75
    for grey in (0.0, 1.0):
        member = Blind(**{**quiet, "noise": ((9, 9), (0, 0)), "grey": grey})
        noise = (member(x, 1, rng()) - x).numpy()
        assert noise.std() == pytest.approx(9 / 255, rel=0.03)
        same = np.abs(noise[0] - noise[1]).max() < 1e-6
        assert same == bool(grey)
    member = Blind(**{**quiet, "gaussian": 0, "poisson": ((2, 2), (0, 0)), "grey": 0.0})
    noise = (member(x, 1, rng()) - x).numpy()
    for part, level in ((noise[..., :32], 0.25), (noise[..., 32:], 0.75)):
        assert part.std() == pytest.approx(2 * math.sqrt(level / 255), rel=0.05)


def test_blind_draws_something_else_each_time_and_stays_in_range():
    x = picture(side=64).float()
    smooth = torch.nn.functional.avg_pool2d(x, 9, 1, 4)
    results = [Blind()(smooth, 4, rng(seed)) for seed in range(12)]
    assert len({tuple(r.flatten().tolist()) for r in results}) == 12
    for result in results:
        assert result.min() >= 0
        assert result.max() <= 1
        assert (result.mean() - smooth.mean()).abs() < 0.1
    assert Blind(jpeg=None)(picture(5), 2, rng()).shape == (5, 24, 24)
    with pytest.raises(RecipeError, match="one band or three"):
        Blind()(picture(5), 2, rng())


# Masks.


def test_coarse_mask_is_valid_where_the_whole_footprint_is():
    mask = torch.ones(1, 12, 12, dtype=torch.bool)
    mask[0, 4, 7] = False
    out = coarse_mask(mask, 4)
    assert out.dtype == torch.bool
    assert out[0].tolist() == [[True] * 3, [True, False, True], [True] * 3]
    # Fine pixel (4, 7) is one beyond the rows above it and one beyond the columns right of it.
    one = torch.tensor([[True, False, False], [True, False, False], [True] * 3])
    assert torch.equal(coarse_mask(mask, 4, reach=1)[0], one)
    assert coarse_mask(mask, 4, reach=3)[0].sum() == 5
    assert coarse_mask(mask, 4, reach=4)[0].sum() == 0
    assert torch.equal(coarse_mask(mask, 1), mask)
    assert coarse_mask(mask, 1, reach=2).sum() == 144 - 25
    assert coarse_mask(torch.ones_like(mask), 3, reach=5).all()
