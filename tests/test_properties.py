"""Properties that hold for any numbers, sizes and names: radiometry, windows, plans, names.

What is expected is computed here by other means: fractions, sets of pixels, paths of the system.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiers import slow

from crossband.core.file_names import check_output_name
from crossband.core.messages import printable, say
from crossband.data.packed.read import name_in, split_name
from crossband.errors import CrossbandError, OutputError
from crossband.jobs.inputs import SceneInput
from crossband.jobs.names import output_paths
from crossband.networks.generators.identity import Identity
from crossband.raster.bands import parse_bands
from crossband.raster.encoding import DTYPES, Encoding, limits
from crossband.raster.grid import Box, Grid
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.radiometry import Radiometry
from crossband.translate.options import TileOptions
from crossband.translate.tiling import Tiling

INTEGERS = [name for name in DTYPES if np.dtype(name).kind in "iu"]
#: How many times more examples the slow tier has.
MANY = 100


def holds(examples: int, **values: st.SearchStrategy) -> Callable:
    """Make a test of a property: the same few examples in the quick tier, many in the slow one.

    Args:
        examples: of the quick tier.
        values: name of an argument -> where its values come from.
    """

    def decorate(check: Callable) -> Callable:
        @pytest.mark.parametrize("times", [pytest.param(1, id="few"), slow(MANY, id="many")])
        def test(times: int) -> None:
            same = settings(
                max_examples=examples * times, derandomize=True, deadline=None, database=None
            )
            same(given(**values)(check))()

        test.__doc__ = check.__doc__
        return test

    return decorate


# Radiometry

scales = st.floats(1e-30, 1e12).flatmap(lambda s: st.sampled_from([s, -s])) | st.sampled_from(
    [1.0, 1e-4, 2.75e-05, -0.5]
)
offsets = st.floats(-1e12, 1e12) | st.sampled_from([0.0, -0.1, -0.2, 273.15])
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def stored_numbers(draw: Callable) -> np.ndarray:
    dtype = draw(st.sampled_from(INTEGERS))
    info = np.iinfo(dtype)
    listed = draw(st.lists(st.integers(int(info.min), int(info.max)), min_size=1, max_size=8))
    return np.array(listed, dtype)[None, None]


def single(value: float, scale: float, offset: float) -> Radiometry:
    return Radiometry("reflectance", (scale,), (offset,), (value,), False, "a test")


@holds(50, stored=stored_numbers(), scale=scales, offset=offsets, data=st.data())
def test_physical_values_are_stored_times_scale_plus_offset(stored, scale, offset, data):
    whole = [int(v) for v in stored.ravel()]
    nodata = data.draw(st.sampled_from(whole))
    assume(abs(nodata) < 2**53)  # others are refused
    values, valid = single(float(nodata), scale, offset).physical(stored)
    for number, value, is_valid in zip(whole, values.ravel(), valid.ravel(), strict=True):
        assert is_valid == (number != nodata)
        exact = Fraction(number) * Fraction(scale) + Fraction(offset)
        # The product and the sum are rounded to float64, the result to float32.
        error = (
            abs(exact) + abs(Fraction(offset)) + abs(Fraction(number) * Fraction(scale))
        ) / 2**51
        assert (
            abs(Fraction(float(value)) - exact) <= abs(exact) / 2**24 + error + Fraction(2) ** -149
        )


@holds(50, stored=stored_numbers(), scale=scales, offset=offsets)
def test_stored_numbers_come_back_where_float32_tells_them_apart(stored, scale, offset):
    whole = [int(v) for v in stored.ravel()]
    largest = max(abs(Fraction(v) * Fraction(scale)) + abs(Fraction(offset)) for v in whole)
    assume(largest / 2**22 < abs(Fraction(scale)) / 4)
    assume(abs(scale) > 1e-30)
    assume(max(map(abs, whole)) < 2**53)
    values, valid = single(None, scale, offset).physical(stored)
    assert valid.all()
    back = Encoding(str(stored.dtype), scale, offset).encode(values, valid)
    assert back.dtype == stored.dtype
    np.testing.assert_array_equal(back, stored)


@holds(
    80,
    dtype=st.sampled_from(INTEGERS),
    values=st.lists(floats, min_size=1, max_size=6),
    scale=scales,
    offset=offsets,
    data=st.data(),
)
def test_integers_hold_the_nearest_number_and_never_nodata(dtype, values, scale, offset, data):
    info = np.iinfo(dtype)
    ends = st.sampled_from([0, int(info.min), int(info.max), 255, -9999])
    nodata = data.draw(st.none() | st.integers(int(info.min), int(info.max)) | ends)
    mark = None if nodata is None else float(nodata)
    nodata = None if mark is None else int(mark)  # float64 has not all of them beyond 2^53
    physical = np.array(values, np.float32)[None, None]
    mask = np.array([data.draw(st.booleans()) for _ in values])[None]
    scene = _Scene(dtype, Radiometry("reflectance", (scale,), (offset,), (None,), False, ""))
    try:
        encoding = Encoding.of_scene(scene, nodata=mark)
    except OutputError:
        assert nodata is not None
        assert not info.min <= nodata <= info.max
        return
    found = encoding.encode(physical, mask)
    assert found.dtype == np.dtype(dtype)
    low, high = limits(dtype)
    for value, kept, number in zip(physical.ravel(), mask.ravel(), found.ravel(), strict=True):
        if not kept:
            assert int(number) == (0 if nodata is None else nodata)
            continue
        assert nodata is None or int(number) != nodata
        wanted = (Fraction(float(value)) - Fraction(offset)) / Fraction(scale)
        wanted = min(max(wanted, Fraction(low)), Fraction(high))
        # float64 rounds the difference by the size of its terms.
        error = (abs(Fraction(float(value))) + abs(Fraction(offset))) / abs(Fraction(scale)) / 2**52
        beside = 0 if mark is None else max(1, Fraction(float(np.spacing(abs(mark)))))
        assert abs(int(number) - wanted) <= Fraction(1, 2) + beside + error + abs(wanted) / 2**51


class _Scene:
    """What an encoding needs to know of a scene without a mask."""

    has_mask = False

    def __init__(self, dtype: str, radiometry: Radiometry) -> None:
        self.dtype, self.radiometry, self.unit = dtype, radiometry, radiometry.unit


LARGEST = float(np.finfo(np.float32).max)


@holds(
    80,
    dtype=st.sampled_from(["float32", "float64"]),
    values=st.lists(floats | st.sampled_from([0.0, 0.1, LARGEST]), min_size=1, max_size=6),
    scale=st.just(1.0) | scales,
    offset=st.just(0.0) | offsets,
    data=st.data(),
)
def test_a_valid_value_never_becomes_the_nodata_number_of_floats(
    dtype, values, scale, offset, data
):
    physical = np.array(values, np.float32)[None, None]
    with np.errstate(over="ignore"):
        stored = ((physical.astype(np.float64) - offset) / scale).astype(dtype).ravel()
    # The numbers that values have when they are stored are those that clash.
    mark = float(data.draw(st.sampled_from([*stored, -9999.0, 0.0, LARGEST, -LARGEST])))
    assume(math.isfinite(mark))
    scene = _Scene(dtype, Radiometry("reflectance", (scale,), (offset,), (mark,), False, ""))
    encoding = Encoding.of_scene(scene)
    assert encoding.nodata == mark
    mask = np.ones(physical.shape[1:], bool)
    mask[0, 0] = data.draw(st.booleans())
    found = encoding.encode(physical, mask)
    kept, exact = found[0][mask], stored[mask[0]]
    assert not (kept == mark).any()
    assert (found[0][~mask] == mark).all()
    finite = np.isfinite(exact)
    assert np.isfinite(kept[finite]).all()
    with np.errstate(over="ignore"):  # GDAL takes what is very near to the nodata number for it
        beside = [np.nextafter(exact[finite], end) for end in (-np.inf, np.inf)]
        near = np.abs(kept[finite] - exact[finite]) <= 2e-6 * abs(mark)
    assert (np.isin(kept[finite], exact[finite]) | np.isin(kept[finite], beside) | near).all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@holds(10, stored=stored_numbers(), data=st.data())
def test_a_file_has_masked_what_equals_its_nodata_number(stored, data):
    """Through a file of GDAL, which compares in its own way."""
    info = np.iinfo(stored.dtype)
    number = data.draw(st.sampled_from([int(v) for v in stored.ravel()]) | st.just(int(info.max)))
    assume(abs(number) < 2**53)  # others are refused, and rasterio cannot write them
    shape = {"count": 1, "height": 1, "width": stored.size, "dtype": stored.dtype}
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", nodata=number, **shape) as out:
            out.write(stored)
        options = ReadOptions(bands={"nir": 1}, sensor="reflectance", scale=1.0)
        with open_scene(memory.name, options, needed=("nir",)) as scene:
            window = scene.read(Box(0, 0, 1, stored.size))
    assert window.mask.ravel().tolist() == [int(v) != number for v in stored.ravel()]


# Windows and plans

sides = st.integers(1, 70)


@st.composite
def boxes(draw: Callable) -> Box:
    return Box(
        *draw(st.tuples(*[st.integers(-9, 9)] * 2)), *draw(st.tuples(*[st.integers(1, 9)] * 2))
    )


def pixels(box: Box) -> set[tuple[int, int]]:
    rows = range(box.row, box.row + box.height)
    return {(row, col) for row in rows for col in range(box.col, box.col + box.width)}


@holds(40, one=boxes(), other=boxes(), edge=st.integers(0, 4), scale=st.integers(1, 3))
def test_boxes_are_sets_of_pixels(one, other, edge, scale):
    assert pixels(one.intersection(other)) == pixels(one) & pixels(other)
    around = {
        (row + y, col + x)
        for row, col in pixels(one)
        for y in range(-edge, edge + 1)
        for x in range(-edge, edge + 1)
    }
    assert pixels(one.expanded(edge, other)) == around & pixels(other)
    fine = {(row // scale, col // scale) for row, col in pixels(one.scaled(scale))}
    assert fine == pixels(one)
    assert len(pixels(one.scaled(scale))) == scale**2 * len(pixels(one))
    assert Box.parse(one.srcwin()) == one


class _Model:
    """A model of any margin, stride and scale."""

    name = "any"

    def __init__(self, margin: int | None, stride: int, scale: int) -> None:
        self.network = Identity(1, scale)
        self.network.margin, self.network.stride = margin, stride


@holds(
    50,
    height=sides,
    width=sides,
    margin=st.none() | st.integers(0, 30),
    stride=st.sampled_from([1, 2, 3, 4, 8]),
    scale=st.integers(1, 4),
    tile=st.none() | st.integers(1, 90),
    batch=st.integers(1, 5),
    columns=st.none() | st.integers(1, 80),
)
def test_tiles_cover_each_output_pixel_once(
    height, width, margin, stride, scale, tile, batch, columns
):
    grid, whole = Grid(height, width), Box(0, 0, height, width)
    options = TileOptions(tile=tile, batch=batch)
    tiling = Tiling.of(_Model(margin, stride, scale), grid, options, columns)
    seen = np.zeros((height * scale, width * scale), int)
    for batch_of in tiling.batches:
        assert len(batch_of.tiles) <= batch
        assert len({(t.source.height, t.source.width) for t in batch_of.tiles}) == 1
        for one in batch_of.tiles:
            seen[one.core.scaled(scale).slices()] += 1
            assert one.source == one.source.intersection(whole)  # the halo lies in the source
            assert one.core == one.core.intersection(one.source)
            assert one.source.row % stride == one.source.col % stride == 0
            if margin is not None:
                # What the network sees of a kept pixel is in the window, or outside of the scene.
                assert one.core.expanded(margin, whole) == one.core.expanded(margin, one.source)
    assert (seen == 1).all()
    assert [b.number for b in tiling.batches] == list(range(len(tiling.batches)))


# Names

texts = st.text(max_size=30) | st.text("./\\~ \n\x00\x1b\u202e%#:{}", max_size=12)
#: Texts that a person could give, or a file could hold.
nasty = st.sampled_from(
    [
        "..",
        "../..",
        "/etc/passwd",
        "a/../../b",
        "\x1b[2J",
        "a\nb",
        "~",
        "CON",
        "-rf",
        "\udce9",
        "%2e%2e",
    ]
)
words = texts | nasty


@holds(
    80,
    stems=st.lists(words, min_size=1, max_size=4),
    target=st.lists(words, min_size=1, max_size=2),
    model=words,
    pattern=words
    | st.sampled_from(["{stem}_{target}", "{model}/{stem}", "{parent}{number}", "{stem!r:>9}"]),
)
def test_outputs_lie_in_their_folder_under_names_of_their_own(stems, target, model, pattern):
    sources = [SceneInput(f"/in/{n}/a.tif", stem, "a") for n, stem in enumerate(stems)]
    folder = Path("/out")
    try:
        paths = output_paths(sources, folder, model=model, target=target, pattern=pattern)
        for path in paths:
            check_output_name(path)
    except CrossbandError as error:
        assert_harmless(printable(error))
        return
    assert len(set(paths)) == len(stems)
    for path in paths:
        assert os.path.normpath(path) == str(path)
        assert path.is_relative_to(folder)
        assert path != folder
        assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in str(path))


def assert_harmless(text: str) -> None:
    """Assert that no character of a text controls a terminal, turns its direction, or is none."""
    for character in text:
        kind = unicodedata.category(character)
        assert kind not in ("Cc", "Cs", "Zl", "Zp") or character in "\t\n"
        assert unicodedata.bidirectional(character) not in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
        )
        text.encode()


@holds(80, text=words | st.binary(max_size=9).map(os.fsdecode))
def test_messages_control_no_terminal_and_lose_nothing(text):
    shown = printable(text)
    assert_harmless(shown)
    assert printable(shown) == shown
    # What is escaped can be told from what is not: as far as there was no backslash before.
    if "\\" not in text:
        code = re.compile(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})")
        back = code.sub(lambda m: chr(int(m[1] or m[2], 16)), shown)
        raw = "".join(chr(ord(c) - 0xDC00) if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)
        assert back == raw


@holds(50, text=words, encoding=st.sampled_from(["ascii", "latin-1", "utf-8", "cp1252"]))
def test_any_stream_takes_any_message(text, encoding):
    import io
    from contextlib import redirect_stderr

    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    with redirect_stderr(stream):
        say(text, error=True)
    assert_harmless(stream.buffer.getvalue().decode(encoding))


@holds(50, root=words, name=words)
def test_names_in_packs_are_reversible(root, name):
    assume("#" not in root and not any(0xD800 <= ord(c) <= 0xDFFF for c in name))
    path = name_in(root, name)
    assert path.startswith("pack://")
    assert split_name(path) == (root, name)


@holds(
    60,
    text=words
    | st.dictionaries(words, words, max_size=3).map(
        lambda d: ",".join(f"{k}={v}" for k, v in d.items())
    ),
)
def test_bands_are_parsed_or_refused(text):
    try:
        found = parse_bands(text)
    except CrossbandError as error:
        assert_harmless(printable(error))
        return
    # Nothing is lost: the same bands, in the same order.
    again = parse_bands(",".join(f"{name}={value}" for name, value in found.items()))
    assert list(again.items()) == list(found.items())
    assert len(found) == text.count(",") + 1
