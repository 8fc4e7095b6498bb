"""The cases of `compare_commits.py` that are functions: Python's interface, Ctrl-C, training."""

from __future__ import annotations

import contextlib
import re
import shutil
from typing import Any

from compare_cases import NIR, S2
from compare_run import CASES, Case, Run, add, case


def opened(path: str, chunks: int | None = None) -> Any:
    """Open a raster as a DataArray, in chunks of dask where a side of them is given."""
    import rioxarray

    sides = {"y": chunks, "x": chunks} if chunks else None
    return rioxarray.open_rasterio(path, chunks=sides)


def model_of(name: str) -> Any:
    """Load a model."""
    import crossband

    return crossband.load(name)


@case("scenes", "Python: a file to an array")
def _to_array(run: Run) -> None:
    model = model_of("rgb2nir")
    options = {"sensor": "sentinel-2-l2a-no-offset"}
    for name in ("s2.tif", "gcps.tif", "rotated.tif", "masked.tif"):
        made = run.call(name, model.translate, name, **options)
        if made is not None:
            run.keep(name, made)


@case("scenes", "Python: DataArray in memory")
def _eager(run: Run) -> None:
    for name in ("rgb2nir", "super-resolution-x2"):
        made = run.call(name, model_of(name).translate, opened("scaled.tif"))
        run.keep(name, made)
    made = run.call("u8", model_of("rgb2nir").translate, opened("u8.tif"), sensor="naip")
    run.keep("u8", made)


@case("scenes", "Python: lazy DataArray, threads of dask")
def _lazy(run: Run) -> None:
    import dask

    array = opened("s2.tif", 50)
    with dask.config.set(scheduler="threads", num_workers=2):
        for name in ("rgb2nir", "super-resolution-x2"):
            model = model_of(name)
            made = run.call(
                name, model.translate, array, sensor="sentinel-2-l2a-no-offset", tile=64
            )
            run.keep(name, made)
            run.keep(f"{name}-part", made.isel(x=slice(17, 99), y=slice(30, 61)))


@case("scenes", "Python: tensor, wrong options")
def _tensor(run: Run) -> None:
    import numpy as np
    import torch

    model = model_of("rgb2nir")
    source = torch.from_numpy(np.random.default_rng(0).uniform(0.02, 0.4, (3, 40, 44))).float()
    for unit in ("reflectance", "display"):
        np.save(run.out / f"{unit}.npy", model(source, unit).detach().numpy())
    run.call("wrong unit", model, source, "kelvin")
    run.call("wrong bands", model, source[:2])
    run.call("an unknown option", model.translate, "s2.tif", dtipe="float32")
    run.call("an output of an array", model.translate, opened("s2.tif"), run.out / "x.tif")


@case("many", "Python: series of an array, of files")
def _series(run: Run) -> None:
    import xarray as xr

    model = model_of("rgb2nir")
    cube = xr.open_dataset("series/cube.nc", engine="scipy").to_array("band")
    array = cube.transpose("time", "band", "y", "x").assign_attrs(units="reflectance")
    for name, stack in (("eager", array), ("lazy", array.chunk({"time": 1, "y": 24, "x": 24}))):
        made = run.call(name, model.series, stack.rio.write_crs("EPSG:32633"), ["NDVI", "EVI"])
        for variable in made or ():
            run.keep(f"{name}-{variable}", made[variable])
    scenes = ["series/s2_20240501.tif", "series/s2_20240521.tif"]
    made = run.call(
        "places", model.series, scenes, places="series/places.geojson",
        dates=["2024-05-01", "2024-05-21"],
    )  # fmt: skip
    if made is not None:
        made.to_csv(run.out / "places.csv")


def interrupted(run: Run, model: str, source: str, **options: Any) -> None:
    """Translate into nir.tif until a third of the pixels is done: then comes Ctrl-C."""

    def stop(done: int, total: int) -> None:
        if done > total / 3:
            raise KeyboardInterrupt

    translate = model_of(model).translate
    run.call("until Ctrl-C", translate, source, run.out / "nir.tif", progress=stop, **options)


_TILES = f"translate middle.tif {NIR} {S2} --tile 128 --index NDVI --resume"


@case("scenes", "interrupted, resumed", lambda run: run.command(_TILES))
def _interrupted(run: Run) -> None:
    options = {"sensor": "sentinel-2-l2a-no-offset", "indices": ["NDVI"]}
    interrupted(run, "rgb2nir", "middle.tif", tile=128, **options)


_FADING = "translate s2.tif -o $out/nir.tif --model $out/model --tile 64 --resume "


@case("scenes", "import of pix2pix; interrupted, resumed", lambda run: run.command(_FADING + S2))
def _imported(run: Run) -> None:
    import torch

    network = pix2pix_weights(3, 1, width=4, levels=5)
    torch.save(network, run.out / "net.pth")
    run.command(
        "import $out/net.pth -o $out/model --task rgb2nir --unit reflectance --source-bands "
        "red,green,blue --target-bands nir --source-range 0 0.5 --target-range 0 0.7 --licence MIT"
    )
    (run.out / "net.pth").unlink()
    run.command(f"translate s2.tif -o $out/whole.tif --model $out/model {S2}")
    run.command(
        f"translate s2.tif -o $out/tiles.tif --model $out/model {S2} --tile 64 --overlap 16"
    )
    options = {"sensor": "sentinel-2-l2a-no-offset", "tile": 64}
    interrupted(run, str(run.out / "model"), "s2.tif", **options)


def pix2pix_weights(takes: int, gives: int, width: int, levels: int) -> dict[str, Any]:
    """Return a state dict of the U-Net of junyanz/pytorch-CycleGAN-and-pix2pix, norm `batch`."""
    import torch

    generator = torch.Generator().manual_seed(0)
    sizes = [width * min(2**n, 8) for n in range(levels)]
    out: dict[str, Any] = {}

    def convolution(name: str, one: int, two: int, bias: int = 0) -> None:
        out[f"{name}.weight"] = torch.randn(one, two, 4, 4, generator=generator) * 0.1
        if bias:
            out[f"{name}.bias"] = torch.randn(bias, generator=generator) * 0.1

    def norm(name: str, size: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            out[f"{name}.{part}"] = torch.rand(size, generator=generator) + 0.5
        out[f"{name}.num_batches_tracked"] = torch.tensor(1)

    convolution("model.model.0", sizes[0], takes)
    convolution("model.model.3", 2 * sizes[0], gives, gives)
    at = "model.model.1.model"
    for level in range(1, levels):
        last = level == levels - 1
        convolution(f"{at}.1", sizes[level], sizes[level - 1])
        convolution(f"{at}.{3 if last else 5}", sizes[level] * (2 - last), sizes[level - 1])
        norm(f"{at}.{4 if last else 6}", sizes[level - 1])
        if not last:
            norm(f"{at}.2", sizes[level])
            at += ".3.model"
    return out


@contextlib.contextmanager
def cluster() -> Any:
    """Start two workers of dask.distributed, each a process."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=60
    ) as made:
        yield made.scheduler_address


@case("dask", "--engine dask: a scene, a fleet, an interrupted scene")
def _dask(run: Run) -> None:
    with cluster() as address:
        engine = f"--engine dask --scheduler {address} {S2}"
        run.command(f"translate middle.tif -o $out/spread.tif {engine} --tile 128 --index NDVI")
        run.command(f"translate 'fleet/*.tif' -o $out/fleet/ {engine}")
        # Which worker is done first is chance.
        words = re.sub(r"(?m)^\[\d/\d\] |; about .*", "", run.steps[-1]["out"])
        run.steps[-1]["out"] = "\n".join(sorted(words.splitlines()))
        run.steps[-1]["err"] = re.sub(r"\[\d/\d\] ", "", run.steps[-1]["err"])
        summary = run.out / "fleet/summary.jsonl"
        summary.write_text("".join(sorted(summary.read_text().splitlines(keepends=True))))
        run.command(f"translate s2.tif -o $out/x.tif {engine} --whole")
        interrupted(run, "rgb2nir", "middle.tif", tile=128, sensor="sentinel-2-l2a-no-offset")
        run.command(f"translate middle.tif {NIR} {engine} --tile 128 --resume")
        run.command("translate s2.tif -o $out/y.tif --engine dask --scheduler gone.json")


SMALL = "--data.crop=16 --data.batch=2 --data.cache_mb=8 --trainer.logger=csv --precision=fp32"
GAN = "--method.discriminator.width=6 --method.discriminator.layers=2"
UNET = f"--method.generator.width=12 --method.generator.levels=3 {GAN}"
CYCLE = (
    f"{GAN} --method.generator.width=8 --method.generator.blocks=2 --method.back.width=8 "
    "--method.back.blocks=2 --method.back_discriminator.width=6 "
    "--method.back_discriminator.layers=2 --method.structure.queries=3 --method.structure.patch=8"
)
FLOW = """--method.generator.field='{"arguments": {"width": 6, "levels": 1, "time_channels": 8}}'"""
#: Recipe -> its manifest, and options that make it small.
RECIPES = {
    "rgb2nir/local-unet": (
        "pairs",
        "--method.generator.width=8 --method.generator.depth=1 --method.generator.hidden=6",
    ),
    "rgb2thermal/pix2pix": ("thermal", UNET),
    "rgb2thermal/cyclegan": ("thermal", CYCLE),
    "sar2optical/pix2pix": ("radar", UNET),
    "rgb2nir/flow-matching": ("pairs", FLOW),
}


def fit_line(recipe: str, steps: int, folder: str, more: str) -> str:
    """Return the command that trains a small recipe."""
    manifest, small = RECIPES[recipe]
    return (
        f"fit {recipe} --data.manifest=pairs/{manifest}.csv {SMALL} {small} -o $out/{folder} "
        f"--method.max_steps={steps} --data.steps=3 {more}"
    )


add(
    "training",
    {
        "fit: a network, its baselines; translate": f"""
            {fit_line("rgb2nir/local-unet", 4, "run", "--fast-run")}
            ---
            translate s2.tif {NIR} --model $out/run/model {S2}
            """,
        "fit: flow matching; translate by seed": f"""
            {fit_line("rgb2nir/flow-matching", 4, "run", "--baselines=[]")}
            ---
            translate s2.tif {NIR} --model $out/run/model {S2} --seed 3 --tile 64
            """,
        "fit: fine-tuned": f"""
            fit rgb2nir/local-statistics --data.manifest pairs/pairs.csv --start rgb2nir -o $out/run
                {SMALL} --fast-run""",
    },
)


def trained(recipe: str) -> None:
    """Add the case of a training that is cut off at its fourth step of eight, and goes on."""
    more = "--baselines=[] --blend=null"

    def begin(run: Run) -> None:
        every = "--trainer.checkpoint_every=2 --trainer.keep_last=9"
        run.command(fit_line(recipe, 8, "whole", f"{more} {every}"))
        shutil.copytree(run.out / "whole", run.out / "cut")
        shutil.rmtree(run.out / "cut/model", ignore_errors=True)
        folder = run.out / "cut/checkpoints"
        for path in folder.iterdir():
            step = re.fullmatch(r"step-(\d+)\.ckpt", path.name)
            if not step or int(step[1]) > 4:
                path.unlink()

    def end(run: Run) -> None:
        run.command(fit_line(recipe, 8, "cut", f"{more} --resume"))
        one, two = (run.out / name / "model/model.safetensors" for name in ("whole", "cut"))
        if two.exists():
            run.call(f"equal to the uninterrupted: {one.read_bytes() == two.read_bytes()}", int)

    CASES[f"fit, cut off, resumed: {recipe}"] = Case("training", begin, end)


for _recipe in ("rgb2nir/local-unet", "rgb2thermal/pix2pix", "rgb2thermal/cyclegan"):
    trained(_recipe)


@case("errors", "options of each command")
def _options(run: Run) -> None:
    commands = [
        *("translate", "series", "models", "sensors", "fit", "evaluate", "blend", "import"),
        *("data check", "data split", "data degrade", "data pack", "data index folders", "demo"),
    ]
    for line in commands:
        run.command(f"{line} --help")
        step = run.steps[-1]
        found = sorted(set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", step["out"])))
        step["out"] = " ".join(found)  # the words of a help text may change
    run.command("")
    run.steps[-1]["out"] = " ".join(re.findall(r"(?m)^ {4}(\w+)", run.steps[-1]["out"]))
