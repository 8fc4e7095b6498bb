"""The comparison picture of a pair: source, target, synthetic band, error and index maps.

Figures are drawn without pyplot, so that they need no display and no global state.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from crossband.core.atomic import atomic_file
from crossband.core.sensors import DECIBEL, DISPLAY, KELVIN
from crossband.evaluation.evaluation import allowed_indices, index_maps
from crossband.raster.grid import Window

#: Percentiles of the valid pixels that are drawn as black and white (or as the ends of a scale).
STRETCH = (2.0, 98.0)
#: Colour of masked pixels.
MASKED = (217, 220, 225)
_MASKED_HEX = "#{:02x}{:02x}{:02x}".format(*MASKED)
RGB = ("red", "green", "blue")
_INK = "#1f2430"
_UNIT_WORDS = {KELVIN: "K", DECIBEL: "dB", DISPLAY: "display 0..1"}
_MAX_SCATTER = 400_000


def draw_comparison(
    path: str | Path,
    source: Window,
    target: Window,
    output: Window,
    *,
    title: str,
    index: str | None = "NDVI",
    top: float | None = None,
) -> Path:
    """Draw one pair.

    The upper row has the source (in red, green and blue if it has these bands), the true and the
    synthetic band on the same grey scale, and the absolute error. The lower row has true against
    synthetic values, the true and the synthetic index on the same colour scale, and the absolute
    error of the index. It is left out if the bands do not allow the index. The first band of the
    target is drawn. Masked pixels are light grey.

    Args:
        path: a `.png`, 1600 px wide; it is written to a temporary file and renamed.
        source: input of the model, in physical units.
        target: the true image.
        output: the synthetic image, on the grid of the target.
        title: one line.
        index: spyndex name; None: no lower row.
        top: upper end of the error's colour scale; None: the 99th percentile of the error.
    """
    mask = target.mask & output.mask
    if source.mask.shape == mask.shape:
        mask = mask & source.mask
    with_index = index is not None and bool(allowed_indices([index], source, target))
    sheet = _Sheet(mask.shape, rows=2 if with_index else 1)
    sheet.figure.suptitle(title, fontsize=14, color=_INK, fontweight="bold", y=sheet.title_at)
    _draw_bands(sheet, source, target, output, mask, top)
    if with_index and index is not None:
        _draw_scatter(sheet.axes[1][0], target, output, mask)
        true, synthetic, defined = index_maps(index, source, target, output)
        _draw_index(sheet, index, true, synthetic, mask & defined)
    return save_figure(sheet.figure, Path(path))


class _Sheet:
    """A figure of rows of four panels, 16 inches wide.

    Panels have the shape of the image. Columns 1 and 2 share a colour bar, column 3 has its own.
    All lengths are in inches.
    """

    width, panel, bar = 16.0, 3.08, 0.14
    lefts = (0.68, 4.56, 7.80, 11.88)
    head, first, between, foot = 0.55, 0.60, 1.05, 0.62

    def __init__(self, shape: tuple[int, ...], rows: int) -> None:
        # An image one pixel wide is stretched so that it is visible.
        tall = min(max(self.panel * shape[0] / shape[1], 1.5), 4.5)
        narrow = max(shape[0] / shape[1], shape[1] / shape[0]) > 4
        self.aspect = "auto" if narrow else "equal"
        self.height = self.head + self.first + rows * tall + (rows - 1) * self.between + self.foot
        self.figure = Figure(figsize=(self.width, self.height), dpi=100)
        FigureCanvasAgg(self.figure)
        self.title_at = 1 - 0.22 / self.height
        self.axes: list[list[Any]] = []
        self._bottoms = []
        self._tall = tall
        for row in range(rows):
            top = self.head + self.first + row * (tall + self.between)
            self._bottoms.append(self.height - top - tall)
            self.axes.append([self._add(left, row, self.panel) for left in self.lefts])

    def _add(self, left: float, row: int, width: float) -> Any:
        return self.figure.add_axes(
            (
                left / self.width,
                self._bottoms[row] / self.height,
                width / self.width,
                self._tall / self.height,
            )
        )

    def image(self, row: int, column: int, title: str, values: Any, **scale: Any) -> Any:
        """Draw an image; only the first two columns have row labels."""
        axis = self.axes[row][column]
        axis.set_title(title, fontsize=12, color=_INK)
        axis.set_xlabel("column (px)", fontsize=10)
        axis.tick_params(labelsize=9, labelleft=column < 2)
        if column < 2:
            axis.set_ylabel("row (px)", fontsize=10)
        image = axis.imshow(values, interpolation="antialiased", aspect=self.aspect, **scale)
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_locator(
                MaxNLocator(nbins=6, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])
            )
        return image

    def colour_bar(self, row: int, column: int, image: Any, label: str, extend: str) -> None:
        """Draw the colour bar to the right of a column, as high as the panel."""
        cax = self._add(self.lefts[column] + self.panel + 0.12, row, self.bar)
        bar = self.figure.colorbar(image, cax=cax, extend=extend)
        bar.set_label(label, fontsize=10)
        bar.ax.tick_params(labelsize=9)


def _draw_bands(
    sheet: _Sheet,
    source: Window,
    target: Window,
    output: Window,
    mask: NDArray[np.bool_],
    top: float | None,
) -> None:
    name, unit = target.bands[0], _UNIT_WORDS.get(target.unit, target.unit)
    true, synthetic = target.values[0], output.values[0]
    picture, words = _source_picture(source)
    sheet.image(0, 0, f"source: {words}", picture)
    low, high = stretch(true[mask])
    scale = {"cmap": _colours("gray"), "vmin": low, "vmax": high}
    sheet.image(0, 1, f"true {name}", _hidden(true, mask), **scale)
    image = sheet.image(0, 2, f"synthetic {name}", _hidden(synthetic, mask), **scale)
    sheet.colour_bar(0, 2, image, f"{name} ({unit})", "both")
    _draw_error(
        sheet, 0, name, np.abs(synthetic.astype(np.float64) - true), mask, unit=unit, top=top
    )


def _draw_index(
    sheet: _Sheet,
    index: str,
    true: NDArray[np.float64],
    synthetic: NDArray[np.float64],
    shown: NDArray[np.bool_],
) -> None:
    low, high = stretch(true[shown])
    low, high = np.floor(10 * low) / 10, np.ceil(10 * high) / 10
    scale = {"cmap": _colours("YlGn"), "vmin": low, "vmax": max(high, low + 0.1)}
    sheet.image(1, 1, f"true {index}", _hidden(true, shown), **scale)
    image = sheet.image(1, 2, f"synthetic {index}", _hidden(synthetic, shown), **scale)
    sheet.colour_bar(1, 2, image, f"{index} (no unit)", "both")
    _draw_error(sheet, 1, index, np.abs(synthetic - true), shown, unit="no unit")


def _draw_error(
    sheet: _Sheet,
    row: int,
    name: str,
    error: NDArray[np.float64],
    shown: NDArray[np.bool_],
    *,
    unit: str,
    top: float | None = None,
) -> None:
    finite = error[shown & np.isfinite(error)]
    if top is None:
        top = max(float(np.percentile(finite, 99.0)), 1e-6) if finite.size else 1.0
    scale = {"cmap": _colours("inferno"), "vmin": 0.0, "vmax": top}
    image = sheet.image(row, 3, f"absolute error of {name}", _hidden(error, shown), **scale)
    sheet.colour_bar(row, 3, image, f"|synthetic - true| ({unit})", "max")


def _draw_scatter(axis: Any, target: Window, output: Window, mask: NDArray[np.bool_]) -> None:
    """Draw the density of true against synthetic values, with the line of no error."""
    name, unit = target.bands[0], _UNIT_WORDS.get(target.unit, target.unit)
    keep = mask & np.isfinite(output.values[0])
    true, synthetic = target.values[0][keep], output.values[0][keep]
    # Every k-th pixel of a large scene: the density looks the same, and drawing takes less time.
    step = max(1, true.size // _MAX_SCATTER)
    true, synthetic = true[::step], synthetic[::step]
    axis.set_title("pixels, logarithmic density", fontsize=12, color=_INK)
    axis.set_xlabel(f"true {name} ({unit})", fontsize=10)
    axis.set_ylabel(f"synthetic {name} ({unit})", fontsize=10)
    axis.tick_params(labelsize=9)
    if true.size == 0:
        return
    low, high = (float(v) for v in np.percentile(np.concatenate([true, synthetic]), [0.1, 99.9]))
    margin = max(0.04 * (high - low), 1e-6)
    low, high = low - margin, high + margin
    box = axis.get_position()
    across = 56
    # The panel may be wider than high; this keeps the hexagons regular.
    down = max(8, round(across / 1.73 * box.height * axis.figure.get_figheight()
                        / (box.width * axis.figure.get_figwidth())))  # fmt: skip
    axis.hexbin(
        true,
        synthetic,
        gridsize=(across, down),
        extent=(low, high, low, high),
        bins="log",
        mincnt=1,
        linewidths=0.1,
    )
    axis.plot([low, high], [low, high], color=_INK, linewidth=1.0, linestyle="--", label="no error")
    axis.set(xlim=(low, high), ylim=(low, high))
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    axis.legend(loc="upper left", fontsize=9, frameon=False)


def shown_bands(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Return the bands of a picture: red, green, blue, or the first band three times."""
    return RGB if set(RGB) <= set(bands) else bands[:1] * 3


def stretch(values: NDArray[Any]) -> tuple[float, float]:
    """Return the 2nd and 98th percentile of finite values; constant +- 0.5 if all are equal."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, STRETCH))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _source_picture(source: Window) -> tuple[NDArray[np.float64], str]:
    """Return a picture of the source, [H, W, 3] in 0..1, and its title."""
    names = shown_bands(source.bands)
    values = source.values[[source.bands.index(n) for n in names]].astype(np.float64)
    low, high = stretch(values[:, source.mask])
    picture = np.clip((values - low) / (high - low), 0, 1).transpose(1, 2, 0)
    picture = np.nan_to_num(picture)
    picture[~source.mask] = np.divide(MASKED, 255)
    words = ", ".join(dict.fromkeys(names))
    return picture, f"{words}\n2nd..98th percentile: {low:.3g}..{high:.3g}"


def _colours(name: str) -> Any:
    return colormaps[name].with_extremes(bad=_MASKED_HEX)


def _hidden(values: NDArray[Any], shown: NDArray[np.bool_]) -> Any:
    return np.ma.masked_where(~shown | ~np.isfinite(values), values)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG: to a temporary file, which is then renamed."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": "Crossband"})
    return path
