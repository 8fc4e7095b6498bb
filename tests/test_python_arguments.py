"""Arguments from Python: what is wrong is refused in one line, and what was changed is noticed."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import rioxarray
import torch
import xarray as xr
from calibrated import calibration
from conftest import random_values

import crossband
from crossband.core import indices
from crossband.core.python_words import naming_options
from crossband.errors import CrossbandError, CrossbandWarning, InputError, ModelError
from crossband.evaluation.calibrate import calibrate
from crossband.evaluation.evaluate import evaluate
from crossband.jobs.run import translate_many
from crossband.metrics.family import Target
from crossband.metrics.score import PairScorer
from crossband.model.exporting.onnx_file import export_onnx
from crossband.model.exporting.stac import export_stac
from crossband.raster.grid import Box
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.training.fit import fit


@pytest.fixture
def scene(make_raster):
    return make_raster(values=(random_values(3, 40, 50) * 10000).astype(np.uint16), scale=1e-4)


@pytest.fixture
def array():
    values, names = random_values(3, 40, 50), ["red", "green", "blue"]
    coords = {"band": names}
    return xr.DataArray(values, coords, ("band", "y", "x"), attrs={"units": "reflectance"})


@pytest.fixture
def folder(tiny_model, tmp_path):
    """Return the folder of a model with a calibration."""
    made = crossband.load(tiny_model)
    made.save(tmp_path / "model")
    calibration(made.weights_hash).save(tmp_path / "model")
    return tmp_path / "model"


def change(model, by=1.5):
    with torch.no_grad():
        for weights in model.network.parameters():
            weights.data.mul_(by)  # `data` has no version that would tell of it


def refused(call):
    with pytest.raises(CrossbandError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_lazy_result_is_of_the_weights_of_the_call(tiny_model, array):
    model = crossband.load(tiny_model)
    chunked = array.chunk({"y": 16, "x": 16})
    wanted = crossband.load(tiny_model).translate(array)
    before = model.translate(chunked)
    change(model)
    assert before.equals(wanted)
    after = model.translate(chunked).compute()
    assert after.equals(model.translate(array))
    assert not after.equals(wanted)
    assert crossband.load(tiny_model).translate(chunked).equals(wanted)


def test_changed_weights_have_no_hash_and_no_calibration(folder, scene, tmp_path):
    model = crossband.load(folder)
    assert model.calibration is not None
    model.translate(scene, tmp_path / "a.tif", interval=0.9)
    change(model)
    assert (model.weights_hash, model.calibration) == ("", None)
    words = refused(lambda: model.translate(scene, tmp_path / "b.tif", interval=0.9))
    assert "no calibration of these weights" in words
    assert "save it first" in refused(lambda: export_stac(model, tmp_path / "item.json"))
    with rioxarray.open_rasterio(model.translate(scene, tmp_path / "b.tif")) as made:
        assert not made.attrs.get("CROSSBAND_WEIGHTS_SHA256")
        assert made.attrs["CROSSBAND_MODEL"] == f"{model.name} (weights that are in no file)"
    with pytest.raises(ModelError, match="of other weights"):
        model.calibration = crossband.load(folder).calibration
    change(model, 1 / 1.5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_calibration_is_saved_with_its_weights(folder, tmp_path, dtype):
    model = crossband.load(folder)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        model.save(tmp_path / "other", dtype=dtype)
    found = crossband.load(tmp_path / "other").calibration
    assert (model.calibration is None) == (found is None) == (dtype == "bfloat16")
    assert [w.filename for w in heard] == [__file__] * (dtype == "bfloat16")
    if found is None:
        return
    assert found.weights == model.weights_hash
    crossband.load(tmp_path / "other").save(tmp_path / "other")  # onto its own folder
    assert crossband.load(tmp_path / "other").calibration is not None


def test_values_of_bfloat16_are_calibrated_in_float32_too(tiny_model, tmp_path):
    crossband.load(tiny_model).save(tmp_path / "small", dtype="bfloat16")
    small = crossband.load(tmp_path / "small")
    calibration(small.weights_hash).save(tmp_path / "small")
    crossband.load(tmp_path / "small").save(tmp_path / "large")
    large = crossband.load(tmp_path / "large")
    assert large.weights_hash != small.weights_hash
    assert large.calibration is not None


def test_a_saved_model_knows_its_training_data_and_keeps_files_of_others(folder, tmp_path):
    (folder / "training_data.csv").write_text("pair,hash\na,0123456789abcdef\n")
    crossband.load(folder).save(tmp_path / "copy")
    (tmp_path / "copy" / "notes.txt").write_text("mine")
    crossband.load(tmp_path / "copy").save(tmp_path / "copy")
    kept = (tmp_path / "copy" / "training_data.csv").read_text()
    assert kept == (folder / "training_data.csv").read_text()
    assert (tmp_path / "copy" / "notes.txt").read_text() == "mine"


def test_a_model_that_has_translated_is_saved_by_torch(tiny_model, array):
    model = crossband.load(tiny_model)
    wanted = model.translate(array)
    torch.save(model, memory := io.BytesIO())
    memory.seek(0)
    assert torch.load(memory, weights_only=False).translate(array).equals(wanted)


def test_one_file_for_two_scenes(tiny_model, make_raster, tmp_path):
    model = crossband.load(tiny_model)
    scenes = [make_raster(f"{name}.tif", random_values(3, 20, 20)) for name in "ab"]
    given = {"NDVI": tmp_path / "index.tif"}
    words = refused(lambda: translate_many(model, scenes, tmp_path / "out", indices=given))
    assert "two inputs would be written under this name" in words
    assert "--name" not in words
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "indices_of",
    [
        {"NDVI": "sub/../made.tif"},
        {"NDVI": "x.tif", "GNDVI": "sub/../x.tif"},
        {"NDVI": "made.familiarity.tif"},
    ],
)
def test_two_results_of_one_path(indices_of, folder, scene, tmp_path):
    (tmp_path / "sub").mkdir()
    paths = {name: tmp_path / path for name, path in indices_of.items()}
    options = {"indices": paths, "familiarity": True}
    model = crossband.load(folder)
    words = refused(lambda: model.translate(scene, tmp_path / "made.tif", **options))
    assert "two results would be written to this file" in words
    assert not (tmp_path / "made.tif").exists()


def test_masked_arrays_and_tensors_are_compared_where_they_are_valid():
    values = np.random.default_rng(0).random((2, 6, 7))
    mask = np.zeros(values.shape, bool)
    mask[1, 2, 3] = True
    hidden = np.ma.array(np.where(mask, 99.0, values), mask=mask)
    target = Target(hidden, ["red", "nir"], "reflectance")
    assert target.n == 41
    assert PairScorer(target).score(values).numbers()["mae"] == 0
    other = PairScorer(Target(values, ["red", "nir"], "reflectance")).score(hidden)
    assert other.n_nonfinite == 1
    gradient = torch.tensor(values, requires_grad=True)
    assert PairScorer(target).score(gradient).numbers()["mae"] == 0
    for bands, image in ((["nir", "nir"], values), (["red", "nir"], values + 1j), ("ab", values)):
        with pytest.raises(ValueError, match=r"once|real numbers"):
            Target(image, bands, "reflectance")


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "bool"])
@pytest.mark.parametrize("name", ["NDVI", "EVI", "NBR"])
def test_an_index_of_integers_does_not_wrap(kind, name):
    rng = np.random.default_rng(0)
    whole = {b: rng.integers(0, 99, 50).astype(kind) for b in ("red", "nir", "blue", "swir22")}
    with np.errstate(all="ignore"):
        wanted = indices.compute(name, {b: v.astype(np.float64) for b, v in whole.items()})
        found = indices.compute(name, whole)
        of_torch = indices.compute(name, {b: torch.tensor(v) for b, v in whole.items()})
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_allclose(of_torch, wanted, rtol=1e-5)


def test_windows_beyond_a_scene(scene):
    with open_scene(scene, needed=("red", "green", "blue")) as opened:
        for box in (Box(0, 0, 41, 50), Box(-1, 0, 5, 5), Box(30, 45, 5, 6)):
            with pytest.raises(InputError, match="is not inside its 50 x 40 pixels"):
                opened.read(box)
        assert opened.read(Box(39, 49, 1, 1)).values.shape == (3, 1, 1)
    for needed in ([], ["red", "red"], "red"):
        assert "a list of names of bands, each once" in refused(
            lambda needed=needed: open_scene(scene, needed=needed)
        )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"extent": (1, 2, 3)}, "extent=1,2,3: not XMIN,YMIN,XMAX,YMAX"),
        ({"extent": (0, 0, float("nan"), 1)}, "not finite"),
        ({"extent": ("a", 0, 1, 1)}, "not XMIN,YMIN,XMAX,YMAX"),
        ({"extent": (9, 0, 1, 1)}, "XMIN is below XMAX"),
        ({"window": (0, 0, 5, 5)}, "it takes a crossband.raster.grid.Box"),
        ({"window": Box(0, 0, 5.5, 5)}, "whole numbers"),
        ({"indices": {"NDVI": None}}, "index NDVI: its path is None"),
        ({"source_nodata": 99999}, "a nodata number of 99999 is stated, which no uint16 is"),
        ({"source_nodata": float("inf")}, "which no uint16 is"),
    ],
)
def test_options_that_cannot_be(given, words, tiny_model, scene, tmp_path):
    model = crossband.load(tiny_model)
    said = refused(lambda: model.translate(scene, tmp_path / "out.tif", **given))
    assert words in said.replace("--extent ", "extent=")
    assert not (tmp_path / "out.tif").exists()


def test_the_nodata_number_of_the_caller_takes_the_place_of_the_files(make_raster):
    values = np.array([[[1, 2, 3]]] * 3, np.uint16)
    path = make_raster(values=values, nodata=1, scale=1e-4)
    with open_scene(path, ReadOptions(nodata=3), needed=("red", "green", "blue")) as opened:
        assert opened.read().mask.tolist() == [[True, True, False]]


def test_what_belongs_to_files(tiny_model, scene, array):
    model = crossband.load(tiny_model)
    for name, value in {"skip": True, "progress": print, "cluster": object()}.items():
        assert f"{name}: of files only" in refused(
            lambda name=name, value=value: model.translate(scene, **{name: value})
        )
    assert "its argument index" in refused(lambda: model.series([scene], indices=["NDVI"]))
    for output in (3, b"x.tif"):
        assert "it takes a text or a path" in refused(
            lambda output=output: model.translate(scene, output)
        )


def test_bands_in_memory_have_their_own_units(folder, scene, tmp_path):
    model = crossband.load(folder)
    for found in (
        model.translate(scene, interval=0.9, familiarity=True),
        model.translate(
            rioxarray.open_rasterio(scene).assign_attrs(units="reflectance"),
            interval=0.9,
            familiarity=True,
        ),
    ):
        names, units = found["band"].values.tolist(), found.attrs["units"]
        assert units[names.index("dissimilarity")] == "1"
        assert {*units[: names.index("dissimilarity")]} == {"reflectance"}
        assert found.attrs["CROSSBAND_FAMILIARITY"].startswith("above 1")
    assert model.translate(scene).attrs["units"] == "reflectance"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (lambda x: x.bool(), "not torch.bool"),
        (lambda x: x.to_sparse(), "not a sparse one"),
    ],
)
def test_tensors_that_are_no_values(kind, words, tiny_model):
    model = crossband.load(tiny_model)
    assert words in refused(lambda: model(kind(torch.rand(1, 3, 8, 8))))


def test_weights_of_another_type(tiny_model):
    model = crossband.load(tiny_model).double()
    assert "its weights are torch.float64" in refused(lambda: model(torch.rand(3, 8, 8)))
    assert model.float()(torch.rand(3, 8, 8)).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda m: evaluate("rgb2nir", "p.csv", "out"),
            "models='rgb2nir' is a str; it takes a list",
        ),
        (lambda m: evaluate(m, "p.csv", "out"), "is a Model; it takes a list"),
        (lambda m: evaluate([m], "p.csv", "out", by="campaign"), "by='campaign' is a str"),
        (lambda m: evaluate([m], "p.csv", "out", indices="NDVI"), "indices='NDVI' is a str"),
        (lambda m: evaluate([m], "p.csv", "out", predictions="a"), "predictions='a' is a str"),
        (lambda m: evaluate([m], "p.csv", "out", workers="2"), "workers='2' is a str"),
        (lambda m: evaluate([m], "p.csv", "out", workers=0), "workers=0: at least 1"),
        (lambda m: calibrate("rgb2nir", "p.csv"), "it takes a loaded model, see crossband.load"),
        (lambda m: calibrate(m, "p.csv", index="NDVI"), "index='NDVI' is a str; it takes a list"),
        (lambda m: export_onnx("rgb2nir", "m.onnx"), "it takes a loaded model"),
        (lambda m: translate_many(m, "a.tif", "out"), "inputs='a.tif' is a str; it takes a list"),
        (lambda m: fit("rgb2nir/local-unet", [object()]), "options are texts, numbers and paths"),
        (lambda m: fit("rgb2nir/local-unet", [], 5), "output=5 is a int"),
        (lambda m: m.save("out", dtype="int8"), "dtype='int8': weights are stored as float32"),
        (lambda m: m.save(3), "folder=3 is a int; it takes a text or a path"),
        (lambda m: crossband.load(""), "the name of the model is empty"),
    ],
)
def test_arguments_of_another_type(call, words, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = crossband.load(tiny_model)
    said = refused(lambda: call(model)).replace("--workers 0", "workers=0")
    assert words in said
    assert [*tmp_path.iterdir()] == []


def test_a_message_names_the_arguments_of_the_function(tiny_model, tmp_path):
    model = crossband.load(tiny_model)
    (tmp_path / "there.onnx").write_text("")
    from crossband.core import python_words

    token = python_words._in_command.set(False)
    try:
        assert "give overwrite=True" in refused(lambda: export_onnx(model, tmp_path / "there.onnx"))
        with naming_options():
            words = refused(lambda: export_onnx(model, tmp_path / "there.onnx"))
        assert "give --overwrite" in words
    finally:
        python_words._in_command.reset(token)


def test_a_warning_names_the_line_that_called(folder, scene, tmp_path):
    model = crossband.load(folder)
    with pytest.warns(CrossbandWarning) as heard:
        model(torch.full((3, 8, 8), 5000.0))
    assert [w.filename for w in heard] == [__file__]


@pytest.mark.parametrize("number", [20240501, 20240501.0, np.int64(20240501)])
def test_dates_that_are_numbers_are_of_digits(number, tiny_model, scene):
    model = crossband.load(tiny_model)
    found = model.series([scene], dates=[number])
    assert found["time"].values.astype("datetime64[D]").tolist() == [np.datetime64("2024-05-01")]
    for none in (True, "2024-W18-3", 5, object()):
        assert "date" in refused(lambda none=none: model.series([scene], dates=[none]))


def test_a_model_in_onnx_says_that_it_has_no_intervals(folder, scene, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx")
    from crossband.model.exporting.onnx_file import on_onnx_runtime

    model = on_onnx_runtime(crossband.load(folder))
    for option in ({"interval": 0.9}, {"familiarity": True}):
        words = refused(
            lambda option=option: model.translate(scene, tmp_path / "out.tif", **option)
        )
        assert "computes no intervals and no familiarity" in words
