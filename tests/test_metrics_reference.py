"""Metrics of structure, spectra and super-resolution against independent implementations."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from skimage import color
from skimage import metrics as sk
from torchmetrics.functional import image as tm

from crossband import metrics
from crossband.core.resample import bicubic
from crossband.errors import BandError
from crossband.metrics import PairScorer, Target
from crossband.metrics.families.super_resolution import scores
from crossband.metrics.families.uqi import valid_boxes
from crossband.metrics.families.wasserstein import directions

RGB = ("red", "green", "blue")
SIDE = 192


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def rgb(rng):
    """Truth, output, mask: [3, 192, 192], in 0..1; a corner and one pixel are masked."""
    row, col = np.mgrid[:SIDE, :SIDE]
    t = 0.4 + 0.2 * np.sin(row / 6) * np.cos(col / 9) + rng.normal(0, 0.04, (3, SIDE, SIDE))
    p = 0.9 * t + 0.05 + rng.normal(0, 0.04, t.shape)
    mask = np.ones((SIDE, SIDE), bool)
    mask[:15, :25] = mask[15, 170] = False
    return p.clip(0, 1), t.clip(0, 1), mask


def numbers(p, t, mask=None, bands=RGB, unit="display", **options):
    return PairScorer(Target(t, bands, unit, mask, **options)).score(p).numbers()


def tensor(x):
    return torch.from_numpy(np.asarray(x, np.float64))[None]


def pooled(x):
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean(axis=(1, 3))


# ---- MS-SSIM ---------------------------------------------------------------------------------


def test_ms_ssim_equals_torchmetrics_scale_by_scale(rgb):
    p, t, _ = rgb
    expected = []
    for band in range(3):
        a, b = tensor(p[band])[None], tensor(t[band])[None]
        product = 1.0
        for weight in (0.0448, 0.2856, 0.3001, 0.2363):
            _, contrast = tm.structural_similarity_index_measure(
                a, b, data_range=1.0, return_contrast_sensitivity=True
            )
            product *= float(contrast) ** weight
            a, b = (torch.nn.functional.avg_pool2d(x, 2) for x in (a, b))
        _, full = tm.structural_similarity_index_measure(
            a, b, data_range=1.0, return_full_image=True
        )
        # torchmetrics takes the last scale with its reflected border; we take whole windows.
        expected.append(product * float(full[..., 5:-5, 5:-5].mean()) ** 0.1333)
    assert numbers(p, t)["ms_ssim"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert 0.5 < np.mean(expected) < 0.99


def contrast_by_loops(p, t, valid):
    """Mean contrast and SSIM over windows that are wholly valid, with SciPy's Gaussian."""

    def smooth(x):
        return ndimage.gaussian_filter(x, 1.5, truncate=3.5, mode="constant")

    mp, mt = smooth(p), smooth(t)
    cov = smooth(p * t) - mp * mt
    c = (2 * cov + 9e-4) / (smooth(p * p) - mp**2 + smooth(t * t) - mt**2 + 9e-4)
    ssim = c * (2 * mp * mt + 1e-4) / (mp**2 + mt**2 + 1e-4)
    centres = [
        (i, j)
        for i in range(5, t.shape[0] - 5)
        for j in range(5, t.shape[1] - 5)
        if valid[i - 5 : i + 6, j - 5 : j + 6].all()
    ]
    rows, cols = np.array(centres).T
    return c[rows, cols].mean(), ssim[rows, cols].mean()


def test_masked_ms_ssim_takes_valid_windows_at_each_scale(rgb):
    p, t, mask = (x[0] if x.ndim == 3 else x for x in rgb)
    ours = numbers(np.where(mask, p, 7.0)[None], t[None], mask, ["red"])["ms_ssim"]
    expected, valid = 1.0, mask
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        contrast, ssim = contrast_by_loops(p, t, valid)
        expected *= (ssim if scale == 4 else contrast) ** weight
        p, t, valid = pooled(p), pooled(t), pooled(valid.astype(float)) == 1
    assert ours == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_is_undefined_below_176_pixels(rgb):
    p, t, _ = rgb
    assert math.isnan(numbers(p[:, :175], t[:, :175])["ms_ssim"])
    assert math.isfinite(numbers(p[:, :176], t[:, :176])["ms_ssim"])


def test_pooled_ms_ssim_is_of_all_windows(rgb):
    p, t, _ = rgb
    a = PairScorer(Target(t[:1], ["red"], "display")).score(p[:1])
    b = PairScorer(Target(t[:1], ["red"], "display")).score(t[:1])
    one, two = (s.sums["structure"].scales["red"] for s in (a, b))
    means = (one[:, 0] + two[:, 0]) / (one[:, 1] + two[:, 1])
    expected = np.prod(means ** np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]))
    assert (a + b).numbers()["ms_ssim"] == pytest.approx(expected)


# ---- UQI -------------------------------------------------------------------------------------


def uqi_by_loops(p, t, valid):
    values = []
    for i in range(t.shape[0] - 7):
        for j in range(t.shape[1] - 7):
            at = slice(i, i + 8), slice(j, j + 8)
            if not valid[at].all():
                continue
            a, b = p[at].ravel(), t[at].ravel()
            c = np.cov(a, b)
            top = 4 * c[0, 1] * a.mean() * b.mean()
            values.append(top / ((c[0, 0] + c[1, 1]) * (a.mean() ** 2 + b.mean() ** 2)))
    return np.mean(values), len(values)


@pytest.mark.parametrize("masked", [False, True])
def test_uqi_equals_the_formula_window_by_window(rgb, masked):
    p, t, mask = (x[0, :60, :70] if x.ndim == 3 else x[:60, :70] for x in rgb)
    mask = mask if masked else np.ones_like(mask)
    expected, count = uqi_by_loops(p, t, mask)
    assert numbers(p[None], t[None], mask, ["red"])["uqi"] == pytest.approx(expected, abs=1e-9)
    assert count == valid_boxes(mask).sum()


def test_uqi_of_flat_windows():
    t, p = np.full((1, 8, 8), 0.4), np.full((1, 8, 8), 0.2)
    assert numbers(t, t, None, ["red"])["uqi"] == pytest.approx(1.0)
    assert numbers(p, t, None, ["red"])["uqi"] == pytest.approx(2 * 0.08 / 0.2)
    assert numbers(t * 0, t * 0, None, ["red"])["uqi"] == 1.0


# ---- spectra of pixels -----------------------------------------------------------------------


def test_sam_equals_torchmetrics(rgb):
    p, t, mask = rgb
    expected = np.rad2deg(float(tm.spectral_angle_mapper(tensor(p), tensor(t))))
    assert numbers(p, t)["sam"] == pytest.approx(expected, rel=1e-6)
    angles = [
        np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
        for a, b in zip(p[:, mask].T, t[:, mask].T, strict=True)
    ]
    assert numbers(p, t, mask)["sam"] == pytest.approx(np.mean(angles))


def test_sam_by_hand_with_zero_pixels():
    t = np.array([[[1.0, 0.0, 1.0, 0.3]], [[0.0, 0.0, 0.0, 0.3]]])
    p = np.array([[[1.0, 1.0, 0.0, 0.2]], [[1.0, 1.0, 0.0, 0.2]]])
    # 45 degrees; a true zero that does not count; a synthetic zero: 90; the same direction: 0.
    assert numbers(p, t, None, ["red", "nir"])["sam"] == pytest.approx((45 + 90 + 0) / 3, abs=1e-5)
    assert math.isnan(numbers(p, t * 0, None, ["red", "nir"])["sam"])


def test_ergas_equals_torchmetrics(rgb):
    p, t, mask = rgb
    for scale in (1, 2, 4):
        theirs = tm.error_relative_global_dimensionless_synthesis(tensor(p), tensor(t), ratio=scale)
        assert numbers(p, t, scale=scale)["ergas"] == pytest.approx(float(theirs), rel=1e-6)
    rmse = np.sqrt(((p - t)[:, mask] ** 2).mean(axis=1))
    expected = 50 * np.sqrt(((rmse / t[:, mask].mean(axis=1)) ** 2).mean())
    assert numbers(p, t, mask, scale=2)["ergas"] == pytest.approx(expected)
    assert math.isnan(numbers(p, t * 0)["ergas"])


def test_pooled_ergas_is_that_of_all_pixels(rgb):
    p, t, _ = rgb
    halves = [
        PairScorer(Target(t[:, r], RGB, "display")).score(p[:, r])
        for r in (slice(50), slice(50, None))
    ]
    assert (halves[0] + halves[1]).numbers()["ergas"] == pytest.approx(numbers(p, t)["ergas"])


# ---- distributions ---------------------------------------------------------------------------


def test_swd_of_one_band_is_scipys_wasserstein_distance(rgb):
    p, t, mask = rgb
    for valid in (np.ones_like(mask), mask):
        expected = stats.wasserstein_distance(p[0][valid], t[0][valid])
        ours = numbers(p[:1], t[:1], valid, ["red"])["swd"]
        assert ours == pytest.approx(expected, abs=2e-5)
        assert ours <= expected + 1e-12  # what is lost is lost where the two cross in a bin
        assert expected > 0.005


def test_swd_of_a_shift_is_the_shift_even_beyond_the_usual_range(rgb):
    _, t, _ = rgb
    for shift in (0.001, -0.3, 2.5):
        ours = numbers(t[:1] + shift, t[:1], None, ["red"])["swd"]
        assert ours == pytest.approx(abs(shift), rel=1e-9)
    kelvin = 200 + 200 * t[:1]  # below and above 230..330
    ours = numbers(0.5 * kelvin + 50, kelvin, None, ["thermal"], "kelvin")["swd"]
    expected = stats.wasserstein_distance(0.5 * kelvin.ravel() + 50, kelvin.ravel())
    assert ours == pytest.approx(expected, rel=1e-3)


def test_swd_of_bands_is_the_mean_over_directions(rgb):
    p, t, mask = rgb
    turn = directions(3)
    assert turn.shape == (16, 3)
    assert np.linalg.norm(turn, axis=1) == pytest.approx(1)
    expected = np.mean([stats.wasserstein_distance(d @ p[:, mask], d @ t[:, mask]) for d in turn])
    assert numbers(p, t, mask)["swd"] == pytest.approx(expected, rel=1e-3)


def test_pooled_swd_is_of_all_pixels(rgb):
    p, t, _ = rgb
    halves = [
        PairScorer(Target(t[:1, r], ["red"], "display")).score(p[:1, r])
        for r in (slice(50), slice(50, 192))
    ]
    whole = numbers(p[:1], t[:1], None, ["red"])["swd"]
    assert (halves[0] + halves[1]).numbers()["swd"] == pytest.approx(whole)
    own = [h.numbers()["swd"] for h in halves]
    assert whole < (50 * own[0] + 142 * own[1]) / 192 + 1e-12  # what one lacks, the other may have


# ---- edges -----------------------------------------------------------------------------------


def edges_by_scipy(x, mask, limit=1.0):
    gradient = np.hypot(ndimage.sobel(x, 0), ndimage.sobel(x, 1)) / 8
    inside = ndimage.binary_erosion(mask, np.ones((3, 3)))
    values = np.sort(gradient[inside])
    return (gradient > max(values[int(0.9 * (values.size - 1))], 0.005 * limit)) & inside


@pytest.mark.parametrize("masked", [False, True])
def test_edge_agreement_equals_scipys_sobel(rgb, masked):
    p, t, mask = rgb
    mask = mask if masked else np.ones_like(mask)
    e, f = edges_by_scipy(p[0], mask), edges_by_scipy(t[0], mask)
    expected = 2 * (e & f).sum() / (e.sum() + f.sum())
    assert numbers(p[:1], t[:1], mask, ["red"])["edge_f1"] == pytest.approx(expected)
    assert 0.1 < expected < 0.9


def test_edges_in_one_place_in_another_or_nowhere():
    t = np.zeros((1, 40, 40))
    t[:, :, 20:] = 0.5
    for p, expected in ((t, 1.0), (np.roll(t, 5, axis=1), 1.0), (t * 0.3, 1.0), (t * 0, 0.0)):
        assert numbers(p, t, None, ["red"])["edge_f1"] == expected
    moved = np.zeros_like(t)
    moved[:, :, 21:] = 0.5
    assert numbers(moved, t, None, ["red"])["edge_f1"] == pytest.approx(0.5)  # of 2 columns, 1
    assert math.isnan(numbers(t * 0.001, t * 0, None, ["red"])["edge_f1"])
    assert numbers(t, t * 0, None, ["red"])["edge_f1"] == 0.0


# ---- spectrum --------------------------------------------------------------------------------


def spectrum_by_loops(x, valid):
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 64)
    window = np.outer(hann, hann)
    total, count = np.zeros((64, 64)), 0
    for i in range(0, x.shape[0] - 63, 32):
        for j in range(0, x.shape[1] - 63, 32):
            if valid[i : i + 64, j : j + 64].all():
                tile = x[i : i + 64, j : j + 64]
                total += np.abs(np.fft.fft2((tile - tile.mean()) * window)) ** 2
                count += 1
    total /= count * (window**2).sum()
    radius = np.round(64 * np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)))
    return np.array([total[radius == r].mean() for r in range(1, 33)]), count


@pytest.mark.parametrize("masked", [False, True])
def test_spectrum_equals_welchs_tile_by_tile(rgb, masked):
    p, t, mask = rgb
    mask = mask if masked else np.ones_like(mask)
    (own, n), (true, _) = spectrum_by_loops(p[0], mask), spectrum_by_loops(t[0], mask)
    score = PairScorer(Target(t[:1], ["red"], "display", mask)).score(np.where(mask, p, 9.0)[:1])
    found = score.spectrum()["red"]
    assert found.frequency[[0, -1]] == pytest.approx([1 / 64, 1 / 2])
    assert found.target == pytest.approx(true, rel=1e-9)
    assert found.output == pytest.approx(own, rel=1e-9)
    error = np.abs(10 * np.log10(own / true)).mean()
    assert score.numbers()["spectrum_db"] == pytest.approx(error)
    assert score.sums["spectrum"].tiles == n == (23 if masked else 25)


def test_spectrum_shows_blur_where_it_is(rng):
    t = rng.normal(0.5, 0.1, (1, 256, 256))
    p = ndimage.convolve1d(t, [0.25, 0.5, 0.25], axis=1, mode="wrap")
    p = ndimage.convolve1d(p, [0.25, 0.5, 0.25], axis=2, mode="wrap")
    found = PairScorer(Target(t, ["nir"], "reflectance")).score(p).spectrum()["nir"]
    assert found.target == pytest.approx(0.01, rel=0.2)  # white noise: its variance
    f = np.fft.fftfreq(64)
    transfer = np.outer(np.cos(np.pi * f) ** 2, np.cos(np.pi * f) ** 2) ** 2
    radius = np.round(64 * np.hypot(f[:, None], f))
    expected = 10 * np.log10([transfer[radius == r].mean() for r in range(1, 33)])
    assert found.db[:24] == pytest.approx(expected[:24], abs=0.4)
    assert found.db[0] > -0.3
    assert found.db[-1] < -9


def test_spectrum_without_detail_is_held_at_60_db(rgb):
    _, t, _ = rgb
    assert numbers(np.full_like(t, 0.4), t)["spectrum_db"] == 60.0
    assert numbers(t + 0.1, t)["spectrum_db"] == pytest.approx(0, abs=1e-6)
    assert math.isnan(numbers(t[:, :63], t[:, :63])["spectrum_db"])


# ---- thermal ---------------------------------------------------------------------------------


def test_hot_contrast_by_hand():
    t = np.full((1, 20, 20), 290.0)
    t[0, 5:8, 5:8] = 310.0
    p = t.copy()
    p[0, 5:8, 5:8] = 304.0
    p += 1.5  # a bias is no loss of contrast
    assert numbers(p, t, None, ["thermal"], "kelvin")["hot_contrast"] == pytest.approx(-6.0)
    mask = np.ones((20, 20), bool)
    mask[5, 5] = False
    p[0, 5, 5] = 900.0
    assert numbers(p, t, mask, ["thermal"], "kelvin")["hot_contrast"] == pytest.approx(-6.0)
    assert math.isnan(numbers(p, t * 0 + 290, None, ["thermal"], "kelvin")["hot_contrast"])
    assert "hot_contrast" not in numbers(p, t, None, ["nir"], "kelvin")


def test_pooled_hot_contrast_weighs_pixels(rng):
    t = rng.gamma(2.0, 5.0, (1, 40, 60)) + 280
    p = t + rng.normal(0, 2, t.shape) - 0.2 * (t - 290)
    scorers = [
        PairScorer(Target(t[..., c], ["lwir11"], "kelvin")) for c in (slice(20), slice(20, 60))
    ]
    total = scorers[0].score(p[..., :20]) + scorers[1].score(p[..., 20:])
    hot = np.zeros(t.shape, bool)
    for c in (slice(20), slice(20, 60)):
        middle, top = np.percentile(t[..., c], [50, 99.5])
        hot[..., c] = t[..., c] > (middle + top) / 2
    expected = (p[hot].mean() - p[~hot].mean()) - (t[hot].mean() - t[~hot].mean())
    assert total.numbers()["hot_contrast"] == pytest.approx(expected)
    assert expected < -1


# ---- super-resolution ------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_consistency_equals_the_degraded_output_against_the_source(rgb, scale):
    p, t, mask = rgb
    coarse = bicubic(torch.from_numpy(t), 1 / scale).numpy()
    source = dict(zip(RGB, coarse, strict=True))
    options = {"scale": scale, "source": source}
    assert numbers(t, t, **options)["consistency"] == pytest.approx(0, abs=1e-12)
    apart = np.abs(bicubic(torch.from_numpy(p), 1 / scale).numpy() - coarse)
    # Two coarse pixels at each border have a kernel that leaves the image.
    assert numbers(p, t, **options)["consistency"] == pytest.approx(apart[:, 2:-2, 2:-2].mean())
    spoiled = np.where(mask, p, 50.0)
    masked = numbers(spoiled, t, mask, **options)["consistency"]
    far = ndimage.binary_erosion(mask, np.ones((6 * scale, 6 * scale)), border_value=1)
    sure = far[scale // 2 :: scale, scale // 2 :: scale][: coarse.shape[1], : coarse.shape[2]]
    assert masked == pytest.approx(apart[:, 2:-2, 2:-2][:, sure[2:-2, 2:-2]].mean(), rel=0.02)
    assert masked < 0.05


def test_consistency_needs_a_band_in_common(rgb):
    p, t, _ = rgb
    source = {"vv": t[0, ::2, ::2]}
    assert "consistency" not in numbers(p, t, scale=2, source=source)
    assert "improvement" not in numbers(p, t, scale=2, source=source)
    own = numbers(p, t, scale=2, source={"green": t[1, ::2, ::2], **source})
    one = numbers(p[1:2], t[1:2], None, ["green"], scale=2, source={"green": t[1, ::2, ::2]})
    for name in ("consistency", "improvement", "omission", "hallucination"):
        assert own[name] == pytest.approx(one[name])


def test_improvement_omission_hallucination_pixel_by_pixel(rgb):
    p, t, _ = rgb
    coarse = bicubic(torch.from_numpy(t), 0.5).numpy()
    up = bicubic(torch.from_numpy(coarse), 2).numpy()
    ref, to_truth, to_source = (
        np.abs(a - b).mean(axis=0).ravel() for a, b in ((up, t), (p, t), (p, up))
    )
    limit = np.quantile(ref, 0.75)
    sums = np.zeros(3)
    count = 0
    for r, dt, ds in zip(ref, to_truth, to_source, strict=True):
        if max(r, dt, ds) > limit:
            im, om = dt / r, ds / r
            lost = 1 - math.exp(-0.05 * (im + om - 1))
            spaces = (im + om * lost, om + im * lost, math.exp(-0.05 * im * om))
            least = min(spaces)
            weights = [math.exp(-(x - least) / 0.25) for x in spaces]
            sums += np.array(weights) / sum(weights)
            count += 1
    options = {"scale": 2, "source": dict(zip(RGB, coarse, strict=True))}
    found = numbers(p, t, **options)
    ours = [found[k] for k in ("improvement", "omission", "hallucination")]
    assert ours == pytest.approx(sums / count)
    assert sum(ours) == pytest.approx(1)


def test_what_each_of_the_three_means(rgb):
    _, t, mask = rgb
    coarse = bicubic(torch.from_numpy(t), 0.5).numpy()
    up = bicubic(torch.from_numpy(coarse), 2).numpy()
    options = {"scale": 2, "source": dict(zip(RGB, coarse, strict=True))}
    made_up = up + 3 * (up - t)[:, ::-1, ::-1]
    for output, name in ((t, "improvement"), (up, "omission"), (made_up, "hallucination")):
        for valid in (None, mask):
            found = numbers(output, t, valid, **options)
            assert found[name] > 0.8, name
    one, two, three = scores(np.array([0.0, 1.0, 1e9]), np.array([1.0, 0.0, 1e9]))
    assert one[0] == pytest.approx(two[1]) == pytest.approx(1 / (1 + 2 * math.exp(-4)))
    assert three[2] == pytest.approx(1)


def eight(x):
    return np.round(np.clip(x, 0, 1) * 255).astype(np.uint8)


def test_sr_classic_equals_skimage_on_y(rgb):
    p, t, mask = rgb
    p = p + 0.2  # some of it is clipped
    a, b = (color.rgb2ycbcr(np.moveaxis(eight(x), 0, -1))[4:-4, 4:-4, 0] for x in (p, t))
    found = numbers(p, t, scale=4)
    psnr = sk.peak_signal_noise_ratio(b, a, data_range=255)
    assert found["sr_classic_psnr"] == pytest.approx(psnr, abs=1e-9)
    ssim = sk.structural_similarity(
        b, a, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert found["sr_classic_ssim"] == pytest.approx(ssim, abs=1e-9)
    valid = mask[4:-4, 4:-4]
    mse = ((a - b)[valid] ** 2).mean()
    masked = numbers(np.where(mask, p, 0.0), t, mask, scale=4)
    assert masked["sr_classic_psnr"] == pytest.approx(10 * math.log10(255**2 / mse))
    assert masked["sr_classic_ssim"] != pytest.approx(ssim, abs=1e-6)


def test_sr_classic_is_for_finer_colour_pictures(rgb):
    p, t, _ = rgb
    assert numbers(t, t, scale=2)["sr_classic_psnr"] == math.inf
    for bands, unit, scale in (
        (RGB, "display", 1),
        (RGB, "reflectance", 2),
        (("red", "green", "nir"), "display", 2),
    ):
        assert "sr_classic_psnr" not in numbers(p, t, None, bands, unit, scale=scale)
    turned = numbers(p[::-1], t[::-1], None, RGB[::-1], scale=2)
    assert turned["sr_classic_psnr"] == pytest.approx(numbers(p, t, scale=2)["sr_classic_psnr"])


# ---- indices ---------------------------------------------------------------------------------


def test_all_numbers_of_an_index(rng):
    red, nir = rng.uniform(0.02, 0.2, (40, 50)), rng.uniform(0.1, 0.5, (1, 40, 50))
    p = nir + rng.normal(0, 0.05, nir.shape)
    mask = rng.random((40, 50)) > 0.3
    found = numbers(
        p, nir, mask, ["nir"], "reflectance", other_bands={"red": red}, indices=["NDVI", "NIRv"]
    )
    held = np.clip(p[0], 0, 2)
    for name, one, two in (
        ("NDVI", (held - red) / (held + red), (nir[0] - red) / (nir[0] + red)),
        ("NIRv", (held - red) / (held + red) * held, (nir[0] - red) / (nir[0] + red) * nir[0]),
    ):
        a, b = one[mask], two[mask]
        assert found[f"{name}_n"] == mask.sum()
        assert found[f"{name}_mae"] == pytest.approx(np.abs(a - b).mean())
        assert found[f"{name}_rmse"] == pytest.approx(np.sqrt(((a - b) ** 2).mean()))
        assert found[f"{name}_bias"] == pytest.approx((a - b).mean())
        assert found[f"{name}_r"] == pytest.approx(stats.pearsonr(a, b)[0])
        assert found[f"{name}_r2"] == pytest.approx(1 - ((a - b) ** 2).sum() / b.var() / b.size)


def test_every_spyndex_name_that_the_bands_allow_gives_numbers(rng):
    import spyndex

    beside = dict(zip(RGB, rng.uniform(0.05, 0.3, (3, 24, 24)), strict=True))
    t = rng.uniform(0.2, 0.5, (1, 24, 24))
    names = []
    for name in spyndex.indices:
        try:
            names += metrics.usable_indices(
                [name], RGB, ["nir"], unit="reflectance", same_pixels=True
            )
        except BandError:  # it needs more than bands and known constants
            continue
    assert len(names) > 40
    found = numbers(t * 1.1, t, None, ["nir"], "reflectance", other_bands=beside, indices=names)
    defined = [n for n in names if found[f"{n}_n"] > 0]
    assert len(defined) > 0.9 * len(names)
    assert all(math.isfinite(found[f"{n}_mae"]) for n in defined)
