"""What the page shows of a model from within: only what is there, and that it is that."""

import base64
import io

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from crossband import Model
from crossband.core.signature import Signature, UnitRange
from crossband.evaluation.report import diagnostics
from crossband.networks.discriminators.patchgan import PatchGAN
from crossband.networks.generators.located_resnet import LocatedResNet
from crossband.networks.generators.per_pixel import PerPixelMean
from crossband.networks.generators.style import StyleResNet
from crossband.raster.grid import Grid, Window

RGB = ["red", "green", "blue"]
SIGNATURE = Signature(RGB, ["nir"], {"reflectance": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])})
SIZE = 32


def named(network):
    return Model(network, SIGNATURE, name="toy", task="rgb2nir").eval()


def windows():
    rng = np.random.default_rng(0)
    mask, grid = np.ones((SIZE, SIZE), bool), Grid(SIZE, SIZE)
    bands = (tuple(RGB), ("nir",), ("nir",))
    return [
        Window(
            rng.uniform(0, 1, (len(b), SIZE, SIZE)).astype(np.float32), mask, grid, b, "reflectance"
        )
        for b in bands
    ]


def picture(figure):
    data = base64.b64decode(figure["uri"].partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    judge = {"source_channels": 3, "target_channels": 1, "width": 4, "layers": 2}
    discriminator = PatchGAN(**judge)
    method = {"discriminator": {"class_path": "crossband.networks.PatchGAN", "init_args": judge}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"method": {"init_args": method}}))
    (tmp_path / "checkpoints").mkdir()
    state = {f"discriminator.{k}": v for k, v in discriminator.state_dict().items()}
    torch.save(
        {"state_dict": {**state, "generator.x": torch.zeros(1)}},
        tmp_path / "checkpoints" / "last.ckpt",
    )
    model = named(PerPixelMean())
    model.save(tmp_path / "model")
    return model, discriminator.eval()


def test_a_model_that_came_alone_has_no_run(tmp_path):
    model = named(PerPixelMean())
    source, target, output = windows()
    assert (
        diagnostics.training_curves(model)
        == diagnostics.location_map(model)
        == diagnostics.style_sheet(model, source)
        == []
    )
    model.save(tmp_path / "model")
    assert (
        diagnostics.training_curves(model)
        == diagnostics.discriminator_maps(model, source, target, output)
        == []
    )


def test_curves_come_from_the_log(run, tmp_path):
    model, _ = run
    (tmp_path / "logs").mkdir()
    lines = ["step,loss/l1,val/mae_reflectance,learning_rate/generator"]
    lines += [f"{n},{1 / n},{0.5 / n if n % 10 == 0 else ''},0.1" for n in range(1, 1001)]
    (tmp_path / "logs" / "metrics.csv").write_text("\n".join(lines))
    logged = diagnostics._read_log(tmp_path / "logs")
    assert logged["val/mae_reflectance"][0][:2] == [10.0, 20.0]
    steps, values = diagnostics._thin_out(logged["loss/l1"])
    assert len(steps) <= diagnostics.MAX_POINTS
    assert values[0] == pytest.approx(np.mean([1, 1 / 2, 1 / 3]))
    (figure,) = diagnostics.training_curves(model)
    svg = base64.b64decode(figure["uri"].partition(",")[2]).decode()
    assert "val/mae_reflectance" in svg
    assert "loss/l1" in svg
    assert "learning_rate" not in svg


def test_curves_come_from_tensorboard_too(run, tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    model, _ = run
    with SummaryWriter(str(tmp_path / "logs")) as writer:
        for step in range(1, 6):
            writer.add_scalar("loss/l1", 1 / step, step)
    assert diagnostics._read_log(tmp_path / "logs")["loss/l1"][0] == [1, 2, 3, 4, 5]
    assert len(diagnostics.training_curves(model)) == 1


def test_the_discriminator_of_the_run_is_shown(run):
    model, discriminator = run
    source, target, output = windows()
    figures = diagnostics.discriminator_maps(model, source, target, output)
    layers = discriminator.features(
        torch.from_numpy(source.values)[None], torch.from_numpy(target.values)[None]
    )
    assert len(figures) == sum(map(len, layers)) > 2
    assert "score" in figures[-1]["caption"]
    found = diagnostics._discriminator(model)
    for name, value in discriminator.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)
    again = diagnostics.discriminator_maps(model, source, target, target)
    assert picture(figures[0]).shape == picture(again[0]).shape
    shown = picture(again[0])
    side = shown.shape[0]  # of one map; they are square
    left, right = shown[:, :side], shown[:, -side:]
    assert np.abs(left.astype(int) - right).mean() < 6  # the same twice, but for the codec


def test_a_run_of_another_version_leaves_the_report_alone(run, tmp_path):
    model, _ = run
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"nothing")
    assert diagnostics.discriminator_maps(model, *windows()) == []
    (tmp_path / "config.yaml").write_text("method: 3")
    assert diagnostics.discriminator_maps(model, *windows()) == []


def test_the_world_by_its_embedding():
    torch.manual_seed(0)
    sizes = {"degrees": 4, "channels": 8, "hidden": 16, "depth": 1}
    network = LocatedResNet(in_channels=3, out_channels=1, width=4, blocks=1, encoder=sizes)
    (figure,) = diagnostics.location_map(named(network))
    shown = picture(figure)
    assert shown.shape == (180 // diagnostics.STEP, 360 // diagnostics.STEP, 3)
    assert shown.std(axis=(0, 1)).min() > 10
    # The map is closed: its left edge goes on where the right one ends.
    jump = np.abs(shown[:, 0].astype(int) - shown[:, -1]).mean()
    assert jump < np.abs(shown[:, 0].astype(int) - shown[:, 90]).mean() / 2


def test_styles_go_from_one_to_the_other():
    torch.manual_seed(0)
    model = named(StyleResNet(3, 1, width=4, blocks=1, style=4, codes=8, depth=2))
    source, _, _ = windows()
    (figure,) = diagnostics.style_sheet(model, source)
    row = picture(figure)[..., 0].astype(float)
    assert row.shape == (SIZE, SIZE * diagnostics.STYLES)
    cells = row.reshape(SIZE, diagnostics.STYLES, SIZE).transpose(1, 0, 2)
    ends = np.abs(cells[0] - cells[-1]).mean()
    assert ends > 1
    assert np.abs(cells[0] - cells[1]).mean() < ends
