"""The likely cause why a scene is unfamiliar, as far as its numbers show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crossband.core.sensors import DISPLAY, REFLECTANCE
from crossband.model.calibration import BANDS, HAZE, NIGHT, OFFSET, Familiar

#: A band's median this many times beyond the usual 99 % quantile is of another scale.
BEYOND = 3.0
#: Share of pixels in a clearer state that names a cause, and of surroundings that look wrong.
MOST, LOOKS = 0.3, 0.1
#: Share of pixels that have the smallest number in every band, and of ones that are cut.
FILLED, CUT = 0.05, 0.02
#: How many times the usual contrast shows another scale, not another offset.
CONTRAST = 2.0
#: Reflectance below this is of no surface: an offset was subtracted that is not in the numbers.
BELOW = -0.02
#: What the classifier of wrong inputs finds, in words.
WORDS = {
    BANDS: "bands in another order (--bands): they look like",
    OFFSET: "a missing --offset: even its dark parts are bright",
    HAZE: "haze or thin clouds",
    NIGHT: "night or shadow: it is darker than the places of the training",
}


def likely_cause(
    familiar: Familiar,
    bands: Mapping[str, NDArray[np.float32]],
    unit: str,
    looks: Mapping[str, float],
    order: Sequence[str] = (),
) -> str:
    """Return the likely cause in a few words; empty where nothing shows one.

    Args:
        familiar: of the model.
        bands: source band -> values of valid pixels.
        unit: of the source.
        looks: kind of a wrong input -> share of the surroundings that look like it.
        order: names of the bands in the order in which the scene is familiar, if there is one. A
            new place may look like bands in another order, too, but in no order is it familiar.
    """
    usual = familiar.bands.get(unit, {})
    known = [name for name in bands if name in usual]
    if not known:
        return ""
    values = np.stack([bands[name] for name in known])
    lowest = values.min(axis=1)
    filled = float(np.mean((values == lowest[:, None]).all(axis=0)))
    usually = [usual[name][2] - usual[name][0] for name in known]
    below = [usual[n][0] - 2 * span for n, span in zip(known, usually, strict=True)]
    if unit in (REFLECTANCE, DISPLAY):
        below = [0.0 for _ in known]  # a dark pixel has other digits
    is_filled = FILLED < filled < 1 - FILLED and bool((lowest <= below).all())
    looks = {kind: share for kind, share in looks.items() if kind != BANDS or order}
    kind = max(looks, key=lambda name: looks[name], default="")
    looks_like = looks.get(kind, 0.0) > LOOKS
    words = " ".join([WORDS.get(kind, ""), ", ".join(order) if kind == BANDS else ""]).strip()
    if unit not in (REFLECTANCE, DISPLAY):  # what is dark or white is said of light only
        if is_filled:
            return _fill_words(filled, lowest)
        return words if looks_like else ""
    top = max(usual[name][2] for name in known)
    low, middle, high = (
        {name: float(np.quantile(bands[name], q)) for name in known} for q in (0.01, 0.5, 0.99)
    )
    brightness, colour = values.mean(axis=0), values.std(axis=0)
    white = float(np.mean((brightness > 0.8 * top) & (colour < 0.15 * brightness)))
    dark = float(np.mean(brightness < 0.1 * np.mean([usual[n][1] for n in known])))
    largest = max(high.values())
    contrast = min(
        (high[n] - low[n]) / max(span, 1e-9) for n, span in zip(known, usually, strict=True)
    )
    rules = (
        (
            min(middle.values()) > BEYOND * top or largest > 10 * max(top, 1.0),
            f"a missing --scale: the values reach {largest:.4g}, and usual are up to {top:.2g}",
        ),
        (
            0 < largest < 0.05 * top,
            f"night, or a wrong --scale: the values reach only {largest:.2g}",
        ),
        (
            unit == REFLECTANCE and _is_stretched(low, high, values),
            "a display stretch: every band reaches from 0 to 1, as reflectance does nowhere",
        ),
        (is_filled, _fill_words(filled, lowest)),
        (
            unit == REFLECTANCE and max(low.values()) < BELOW,
            f"an --offset that is subtracted twice: dark parts are {min(low.values()):.2g}",
        ),
        (
            looks_like and kind == OFFSET and contrast > CONTRAST,
            f"a wrong --scale: the contrast is {contrast:.1f} times the usual",
        ),
        (white > MOST, "snow or clouds: much of the scene is bright and white"),
        (looks_like, words),
        (dark > MOST, "night or shadow: much of the scene is very dark"),
    )
    return next((words for found, words in rules if found), "")


def _is_stretched(
    low: Mapping[str, float], high: Mapping[str, float], values: NDArray[np.float32]
) -> bool:
    """Return whether every band is cut at 0 and at 1, or many numbers are cut at 1."""
    ends = max(low.values()) < 0.005 and min(high.values()) > 0.98 and max(high.values()) <= 1.0
    return ends or bool(values.max() == 1.0 and (values == 1.0).any(axis=0).mean() > CUT)


def _fill_words(share: float, numbers: NDArray[np.float32]) -> str:
    """Return words on the smallest number of each band, which a share of the pixels has."""
    stated = ", ".join(dict.fromkeys(f"{number:.4g}" for number in numbers))
    return (
        f"no data that the file does not declare: {share:.0%} of the pixels are {stated} in every "
        f"band; gdal_edit -a_nodata declares it"
    )
