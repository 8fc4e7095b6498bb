"""LocalPyramid: an MLP on each pixel's colour and on smooth statistics of its surroundings."""

from __future__ import annotations

import copy
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.errors import RecipeError
from crossband.networks.base import Generator
from crossband.networks.cells import CELL, STEP, interpolate_cells, strips_of
from crossband.networks.layers.pyramid_member import PyramidMember
from crossband.networks.tracing import infers_on_cpu

#: Binomial weights of a cell and of its `REACH` neighbours on each side.
BLUR, REACH = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16), 2
#: Largest numbers of source bands, levels and bins.
MOST_BANDS, MOST_LEVELS, MOST_BINS = 256, 10, 256
#: Mean and standard deviation of each kind of feature over normalised satellite and aerial images,
#: rounded; constants, so that the inputs of the first layer are always of order 1.
USUAL = {
    "colour": (0.3, 0.33),
    "spread": (-3.0, 0.7),
    "correlation": (0.7, 0.3),
    "ratio": (0.0, 0.25),
    "light": (-1.1, 0.55),
    "edge": (-3.7, 0.9),
    "share": (1 / 6, 0.25),
}
#: Centres of the first and the last bin of histograms of ratios and of the brightness.
BINS = {"ratio": (-0.7, 0.7), "light": (-2.6, 0.2)}
#: Smallest share of valid pixels that is used as a divisor.
FEWEST = 1e-3
#: Standardised features are clipped here: an MLP extrapolates badly beyond its training data.
FARTHEST = 5.0
#: Of colours in logarithms: the lowest, the highest, and what is added. Overcorrected haze gives
#: values slightly below 0; dark water is below about 0.06.
LOGARITHM = (-0.02, 1e3, 0.06)


class LocalPyramid(Generator):
    """An ensemble of MLPs on a pixel's colour and on a pyramid of statistics around it.

    The statistics are computed over cells of 4, 8, 16, ... pixels, one cell size for each level of
    the pyramid. Each level is smoothed with binomial weights (Burt and Adelson 1983), which are
    close to a Gaussian window. The features of a level are means, standard deviations, correlations
    between bands, band ratios, brightness and the strength of edges. The coarser levels also have
    histograms of the finest cells' mean colours.

    Each member of the ensemble has two MLPs. The context MLP computes a vector from the features of
    all levels, for each cell of 4 x 4 pixels. Its first layer is linear, so it is computed on each
    level's own cells and then interpolated to the finest cells. The vectors are interpolated to the
    pixels, and added to the first hidden layer of the pixel MLP, whose input is the pixel's colour.
    So the context costs a sixteenth of what it would cost for each pixel. As everything is smooth,
    neither windows nor cells are visible as squares around a bright object.

    Pixels that are 0 in all bands (normalised: masked or padded ones) do not count in any
    statistics. In training, each sample of a batch trains one of the members. At inference their
    outputs are averaged.

    Args:
        in_channels: source bands.
        out_channels: target bands.
        width: hidden units of the context MLP.
        depth: hidden layers of the context MLP.
        hidden: units of the two hidden layers of the pixel MLP.
        levels: levels of the pyramid; cells of the coarsest are 4 x 2^(levels - 1) pixels wide.
        bins: bins of the histograms of each ratio and of the brightness; 0 leaves them out. A value
            between the centres of two bins counts partly in both, so that the histograms change
            smoothly.
        members: number of members, trained at the same time.
    """

    examples = (
        {"width": 6, "hidden": 5, "levels": 1},
        {"width": 6, "depth": 1, "hidden": 4, "levels": 2, "members": 2, "out_channels": 2},
        {"width": 6, "hidden": 5, "levels": 2, "bins": 0},
    )

    parallel_tiles = True
    own_usual: Tensor
    own_spread: Tensor
    window_usual: Tensor
    window_spread: Tensor

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        *,
        width: int = 64,
        depth: int = 2,
        hidden: int = 32,
        levels: int = 3,
        bins: int = 6,
        members: int = 1,
    ) -> None:
        super().__init__()
        if min(width, depth, hidden, levels, members) < 1:
            raise RecipeError(
                "LocalPyramid needs width, depth, hidden, levels and members of at least 1"
            )
        if bins < 0 or bins == 1:
            raise RecipeError(f"LocalPyramid needs at least 2 bins, or 0 for none, not {bins}")
        if in_channels > MOST_BANDS or levels > MOST_LEVELS or bins > MOST_BINS:
            raise RecipeError(
                f"LocalPyramid compares all pairs of bands, at each level: at most {MOST_BANDS} "
                f"bands, {MOST_LEVELS} levels and {MOST_BINS} bins are possible"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.levels, self.bins = levels, bins
        self.pairs = list(combinations(range(in_channels), 2))
        self.stride = CELL * STEP ** (levels - 1)
        # A pixel is interpolated from cells whose centre is less than a cell away. These are
        # interpolated from cells of the coarsest level, which are smoothed over `REACH` cells. An
        # edge also depends on the next pixel.
        between = self.stride - CELL // 2 if levels > 1 else 0
        self.margin = CELL - 1 + between + REACH * self.stride + self.stride // 2 + 1
        own, window = self._kinds()
        #: Number of features of a level that are not of histograms; these come first.
        self.moments = len(window)
        window = window + ["share"] * (bins * in_channels)  # of all levels but the finest
        for part, kinds in (("own", own), ("window", window)):
            for column, name in enumerate(("usual", "spread")):
                values = torch.tensor([USUAL[k][column] for k in kinds])[:, None, None]
                self.register_buffer(f"{part}_{name}", values, persistent=False)
        windows = [self.moments] + [len(window)] * (levels - 1)
        self.members = nn.ModuleList(
            PyramidMember(len(own), windows, out_channels, width, depth, hidden)
            for _ in range(members)
        )

    def _kinds(self) -> tuple[list[str], list[str]]:
        """Return the kind of each feature of a pixel and of a window, in order."""
        bands = self.in_channels
        ratios = ["ratio"] * (bands - 1) + ["light"]
        window = ["colour"] * bands + ["spread"] * bands + ["correlation"] * len(self.pairs)
        return ["colour"] * bands + ratios, [*window, *ratios, "edge"]

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cs, H, W] -> float32 [B, Ct, H, W]."""
        return self.forward_cropped(x, 0)

    def forward_cropped(self, x: Tensor, context: int, wanted: Tensor | None = None) -> Tensor:
        """Translate without the outer `context` pixels; in training only where `wanted`."""
        return self.predict(x, self.surroundings(x), context, wanted)

    def surroundings(self, x: Tensor) -> list[Tensor]:
        """Return the features of the surroundings, on the cells of each level.

        Args:
            x: [B, Cs, H, W].

        Returns:
            [B, h, w, F] for each level, the finest first, with H and W padded to the stride. The
            first `moments` of the F features are not of histograms.
        """
        # Variances are small differences of sums, which bfloat16 does not hold.
        with torch.autocast(x.device.type, enabled=False):
            return self._levels(self._sums(self._padded(x.float())))

    def _levels(self, sums: Tensor) -> list[Tensor]:
        """Return `surroundings` from the means over the finest cells."""
        count, levels = sums.shape[1], [self._standard_window(self._window(_blur(sums)))]
        if self.bins and self.levels > 1:
            sums = torch.cat([sums, self._histograms(sums)], dim=1)
        for _ in range(1, self.levels):
            sums = functional.avg_pool2d(sums, STEP)
            smooth = _blur(sums)
            shares = smooth[:, count:] / smooth[:, :1].clamp_min(FEWEST)
            features = torch.cat([self._window(smooth[:, :count]), shares], dim=1)
            levels.append(self._standard_window(features))
        return levels

    def description(self, levels: list[Tensor]) -> Tensor:
        """Return the moments of all levels on the cells of the coarsest: [B, h, w, F]."""
        coarse = [levels[-1][..., : self.moments]]
        for number, features in enumerate(levels[:-1]):
            channels = features[..., : self.moments].permute(0, 3, 1, 2)
            pooled = functional.avg_pool2d(channels, STEP ** (self.levels - 1 - number))
            coarse.append(pooled.permute(0, 2, 3, 1))
        return torch.cat(coarse, dim=-1)

    def _padded(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return functional.pad(x, (0, -width % self.stride, 0, -height % self.stride))

    def predict(
        self, x: Tensor, levels: list[Tensor], context: int = 0, wanted: Tensor | None = None
    ) -> Tensor:
        """Translate like `forward_cropped`, from the `surroundings` of x."""
        height, width = x.shape[-2:]
        x = self._padded(x.float())
        rows, columns = slice(context, height - context), slice(context, width - context)
        if self.training:
            return self._train(x, levels, rows, columns, wanted)
        if infers_on_cpu(x):
            return self._compiled(x, levels, rows, columns)
        members = cast("list[PyramidMember]", list(self.members))
        contexts = [member.context_vectors(levels) for member in members]
        outputs = []
        for some in strips_of(rows, columns.stop - columns.start):
            pixels = self._pixel_features(x[..., some, columns])
            total = pixels.new_zeros(())
            for member, vectors in zip(members, contexts, strict=True):
                total = total + member.output(pixels, interpolate_cells(vectors, some, columns))
            outputs.append((total / len(members)).permute(0, 3, 1, 2))
        return torch.cat(outputs, dim=2)

    def _compiled(self, x: Tensor, levels: list[Tensor], rows: slice, columns: slice) -> Tensor:
        """Translate rows and columns with loops that are compiled for the CPU."""
        # Numba takes a while.
        from crossband.networks.compiled_layers import PixelStage, context_vectors, pixel_features

        members = list(self.members)
        stage, vectors = PixelStage(members), context_vectors(members, levels)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        result = x.new_empty(len(x), self.out_channels, height, width)
        for some in strips_of(rows, width):
            into = result[:, :, some.start - rows.start : some.stop - rows.start]
            corner = (some.start, columns.start)
            for number, image in enumerate(x[..., some, columns].contiguous()):
                pixels = pixel_features(image, LOGARITHM, self.own_usual, self.own_spread, FARTHEST)
                into[number] = stage(pixels, vectors, number, corner, CELL)
        return result

    def _train(
        self, x: Tensor, levels: list[Tensor], rows: slice, columns: slice, wanted: Tensor | None
    ) -> Tensor:
        """Translate the wanted pixels; member m of k takes the samples m, m + k, m + 2 k, ..."""
        size = (x.shape[0], rows.stop - rows.start, columns.stop - columns.start)
        if wanted is None:
            wanted = torch.ones(size, dtype=torch.bool, device=x.device)[:, None]
        where = wanted[:, 0].nonzero(as_tuple=True)
        outputs = torch.zeros(*size, self.out_channels, device=x.device)
        for number, member in enumerate(cast("list[PyramidMember]", list(self.members))):
            of_member = where[0] % len(self.members) == number
            sample, row, column = (index[of_member] for index in where)
            place = (sample, row + rows.start, column + columns.start)
            colours = x[place[0], :, place[1], place[2]].T[None, :, None]
            vectors = member.context_vectors_at(levels, *place)[None, None]
            values = member.output(self._pixel_features(colours), vectors)
            outputs = outputs.index_put((sample, row, column), values[0, 0])
        return outputs.movedim(-1, 1)

    def _pixel_features(self, x: Tensor) -> Tensor:
        """Return the features of pixels: [B, C, h, w] -> [B, h, w, F]."""
        features = torch.cat([x, self._ratios(x)], dim=1)
        return _standard(features, self.own_usual, self.own_spread)

    def _standard_window(self, features: Tensor) -> Tensor:
        count = features.shape[1]  # the finest level has no histograms
        return _standard(features, self.window_usual[:count], self.window_spread[:count])

    def _histograms(self, sums: Tensor) -> Tensor:
        """Return the weight of each cell in each bin, for the ratios and brightness of its mean."""
        valid = sums[:, :1]
        mean = sums[:, 1 : 1 + self.in_channels] / valid.clamp_min(FEWEST) + USUAL["colour"][0]
        values = self._ratios(mean)
        weights = []
        for number in range(self.in_channels):
            first, last = BINS["light" if number == self.in_channels - 1 else "ratio"]
            place = (values[:, number : number + 1].clamp(first, last) - first) / (last - first)
            bins = torch.arange(self.bins, device=sums.device)[:, None, None]
            weights.append((1 - (place * (self.bins - 1) - bins).abs()).clamp_min(0) * valid)
        return torch.cat(weights, dim=1)

    def _sums(self, x: Tensor) -> Tensor:
        """Return means over the finest cells: share of valid pixels, colours, products, edges."""
        if infers_on_cpu(x):
            from crossband.networks.cell_loops import sums_of_cells

            return sums_of_cells(x, CELL, USUAL["colour"][0])
        strips = strips_of(slice(0, x.shape[-2]), x.shape[-1])
        return torch.cat([self._cells(x, rows) for rows in strips], dim=2)

    def _cells(self, x: Tensor, strip: slice) -> Tensor:
        """Return `_sums` of some rows."""
        rows = strip.stop - strip.start
        x = x[..., strip.start : strip.stop + 1, :]  # an edge reaches to the next row
        bands = [x[:, n : n + 1] for n in range(self.in_channels)]
        valid, light = bands[0] != 0, bands[0]
        for band in bands[1:]:
            valid, light = valid | (band != 0), light + band
        edges = _edges(light / len(bands), valid)[..., :rows, :]
        counts = valid[..., :rows, :].to(x.dtype)
        # Centred, so that small variances are not lost in differences of large sums.
        about = (x[..., :rows, :] - USUAL["colour"][0]) * counts
        products = [about[:, i : i + 1] * about[:, j : j + 1] for i, j in self.pairs]
        maps = torch.cat([counts, about, about * about, *products, edges], dim=1)
        return functional.avg_pool2d(maps, CELL)

    def _window(self, sums: Tensor) -> Tensor:
        """Return the features of windows from their sums."""
        bands = self.in_channels
        sums = sums / sums[:, :1].clamp_min(FEWEST)
        sizes = [bands, bands, len(self.pairs), 1]
        mean, square, product, edge = torch.split(sums[:, 1:], sizes, dim=1)
        spread = ((square - mean * mean).clamp_min(0.0) + 1e-12).sqrt()
        correlations = [
            (product[:, n] - mean[:, i] * mean[:, j]) / (spread[:, i] * spread[:, j] + 1e-4)
            for n, (i, j) in enumerate(self.pairs)
        ]
        colour = mean + USUAL["colour"][0]
        features = [colour, torch.log(spread + 0.01)]
        if correlations:
            features.append(torch.stack(correlations, dim=1))
        return torch.cat([*features, self._ratios(colour), torch.log(edge + 0.003)], dim=1)

    def _ratios(self, x: Tensor) -> Tensor:
        """Return the logarithms of neighbouring bands' ratios, and of the brightness."""
        logs = _log(x)
        return torch.cat([logs[:, 1:] - logs[:, :-1], _log(x.mean(dim=1, keepdim=True))], dim=1)


def member_spread(network: LocalPyramid, x: Tensor, levels: list[Tensor]) -> Tensor:
    """Return how far the members of a network disagree: the standard deviation of their outputs.

    Args:
        network: whose members these are.
        x: [1, Cs, H, W].
        levels: its surroundings.

    Returns:
        [H, W], of the first band; 0 for a network with one member.
    """
    if len(network.members) == 1:
        return x.new_zeros(x.shape[-2:])
    outputs, alone = [], copy.copy(network)
    for member in network.members:
        alone._modules = network._modules | {"members": nn.ModuleList([member])}
        outputs.append(alone.predict(x, levels)[0, 0, : x.shape[-2], : x.shape[-1]].float())
    return torch.stack(outputs).std(dim=0, correction=0)


def _standard(features: Tensor, usual: Tensor, spread: Tensor) -> Tensor:
    """Return standardised features: [B, F, h, w] -> [B, h, w, F]."""
    features = ((features - usual) / spread).clamp(-FARTHEST, FARTHEST)
    return features.permute(0, 2, 3, 1).contiguous()


def _log(x: Tensor) -> Tensor:
    lowest, highest, added = LOGARITHM
    return torch.log(x.clamp(lowest, highest) + added)


def _edges(light: Tensor, valid: Tensor) -> Tensor:
    """Return the absolute differences from the next pixels below and right; 0 if one is invalid."""
    total = torch.zeros_like(light)
    for dim in (2, 3):
        length = light.shape[dim] - 1
        here, there = (light.narrow(dim, start, length) for start in (0, 1))
        both = valid.narrow(dim, 0, length) & valid.narrow(dim, 1, length)
        last = (0, 0, 0, 1) if dim == 2 else (0, 1)
        total = total + functional.pad((there - here).abs() * both, last)
    return total


def _blur(x: Tensor) -> Tensor:
    """Smooth with binomial weights; beyond the edge are zeros, which do not count."""
    channels, weights = int(x.shape[1]), x.new_tensor(BLUR)
    for shape, padding in (((1, 1, -1, 1), (REACH, 0)), ((1, 1, 1, -1), (0, REACH))):
        kernel = weights.view(shape).expand(channels, -1, -1, -1).contiguous()
        x = functional.conv2d(x, kernel, padding=padding, groups=channels)
    return x
