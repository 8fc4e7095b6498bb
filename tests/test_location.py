"""SatCLIP's basis and encoder, its checkpoints, and what a place does to a ResNet."""

from __future__ import annotations

import math
import os

import lightning
import numpy as np
import pytest
import torch
from fitting import options, pairs  # noqa: F401  (a fixture)
from lightning.pytorch.callbacks import ModelCheckpoint
from scipy.special import sph_harm_y
from torch import nn
from torch.nn import functional

from crossband import Model, load
from crossband.core.registry import build
from crossband.core.signature import Signature, UnitRange
from crossband.errors import CrossbandError, ModelError
from crossband.networks import Generator, parameter_count
from crossband.networks.conditions import Conditions, Lattice
from crossband.networks.generators.located_resnet import SIDE, LocatedResNet, stretch_weights
from crossband.networks.generators.resnet import ResNet
from crossband.networks.layers.location import LocationEncoder, read_satclip, spherical_harmonics
from crossband.training.fit import fit
from crossband.training.methods.batches import conditions_of, predict

KINDS = ("multiply", "add", "concat", "channel")
ENCODER = {"degrees": 4, "hidden": 8, "channels": 6}
SIGNATURE = Signature(["red"], ["nir"], {"display": UnitRange([(0.0, 1.0)], [(0.0, 1.0)])})


def places(count=40, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(
        np.stack([rng.uniform(-180, 180, count), rng.uniform(-89, 89, count)], 1)
    )


# The basis.


@pytest.mark.parametrize("degrees", [1, 2, 10, 40])
def test_the_basis_is_scipys_with_the_factors_of_satclip(degrees):
    lonlat = places()
    azimuth, polar = np.radians(lonlat[:, 0] + 180), np.radians(lonlat[:, 1] + 90)
    expected = []
    for degree in range(degrees):
        for order in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(order), polar.numpy(), azimuth.numpy())
            value = value * (-1) ** abs(order)  # scipy has the Condon-Shortley phase
            factor = math.pi if order == 0 else math.sqrt(2)
            expected.append(factor * (value.imag if order < 0 else value.real))
    found = spherical_harmonics(lonlat, degrees)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), np.stack(expected, 1), atol=1e-11)


def test_the_basis_has_the_published_spot_values():
    lonlat = torch.tensor([[8.0, 50.0], [-70.0, -33.0], [0.0, 0.0]], dtype=torch.float64)
    found = spherical_harmonics(lonlat, 3).numpy()
    azimuth, polar = np.radians(lonlat.numpy() + np.array([180.0, 90.0])).T
    c, s = np.cos(polar), np.sin(polar)
    np.testing.assert_allclose(found[:, 0], 0.886226925, atol=1e-9)
    np.testing.assert_allclose(found[:, 1], 0.488602512 * s * np.sin(azimuth), atol=1e-9)
    np.testing.assert_allclose(found[:, 2], 1.53499006 * c, atol=1e-8)
    np.testing.assert_allclose(found[:, 3], 0.488602512 * s * np.cos(azimuth), atol=1e-9)
    np.testing.assert_allclose(found[:, 6], 2.97249547 * c**2 - 0.99083182, atol=1e-8)


def test_the_basis_is_finite_at_the_poles_and_the_same_across_the_date_line():
    edges = torch.tensor([[0.0, 90.0], [0.0, -90.0], [180.0, 10.0], [-180.0, 10.0], [90.0, 89.97]])
    found = spherical_harmonics(edges, 40)
    assert found.isfinite().all()
    torch.testing.assert_close(found[2], found[3], atol=1e-11, rtol=0)
    held = spherical_harmonics(torch.tensor([[0.0, 89.95], [90.0, 89.95]], dtype=torch.float64), 40)
    torch.testing.assert_close(found[[0, 4]], held, atol=1e-9, rtol=0)


# The encoder.


@pytest.mark.parametrize(("degrees", "count"), [(10, 445_696), (40, 1_213_696)])
def test_the_encoder_has_the_parameters_of_satclip(degrees, count):
    with torch.device("meta"):
        assert parameter_count(LocationEncoder(degrees)) == count


def encoded(tensors, lonlat, degrees):
    """The encoder as its paper says, in float64."""
    x = spherical_harmonics(lonlat, degrees)
    for i, frequency in ((0, 30.0), (1, 1.0)):
        x = torch.sin(frequency * functional.linear(x, *(tensors[f"layers.{i}.{n}"] for n in WB)))
    return functional.linear(x, *(tensors[f"last_layer.{n}"] for n in WB))


WB = ("weight", "bias")


@pytest.mark.parametrize("degrees", [4, 40])
def test_the_encoder_is_two_sines_and_a_line(degrees):
    torch.manual_seed(0)
    encoder = LocationEncoder(degrees, channels=6, hidden=32)
    lonlat = places(12)
    tensors = {name: value.double() for name, value in encoder.state_dict().items()}
    expected = encoded(tensors, lonlat, degrees)
    with torch.autocast("cpu", torch.bfloat16):  # which must not reach the sines
        found = encoder(lonlat)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=0)
    assert found.std(dim=0).min() > 1e-3


def test_frozen_means_no_gradient_and_no_dropout_even_in_training():
    """The seed's encoder dropped half of its values again as soon as training began."""
    lonlat = places(5)
    encoder = LocationEncoder(**ENCODER, dropout=0.5, frozen=True)
    network = nn.Sequential(encoder).train()
    assert not encoder.training
    assert not any(p.requires_grad for p in encoder.parameters())
    assert torch.equal(network(lonlat), network(lonlat))
    free = LocationEncoder(**ENCODER, dropout=0.5).train()
    assert not torch.equal(free(lonlat), free(lonlat))
    assert torch.equal(free.eval()(lonlat), free(lonlat))
    free.train()(lonlat).sum().backward()
    assert all(p.grad is not None for p in free.parameters())


def test_places_are_encoded_once_and_unknown_ones_are_zero():
    encoder = LocationEncoder(**ENCODER)
    lonlat = places(3).float()
    lonlat[1, 0] = math.nan
    found = encoder(lonlat)
    assert not found[1].any()
    torch.testing.assert_close(found[[0, 2]], encoder(lonlat[[0, 2]]))
    with pytest.raises(ValueError, match=r"\[N, 2\], longitude and latitude"):
        encoder(found)  # an embedding is no place: the seed encoded it again in validation
    for wrong in ({"degrees": 0}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match="at least 1"):
            LocationEncoder(**wrong)


# Checkpoints.


def satclip(path, degrees=4, prefixes=("model.location.nnet.", "model.nnet."), **more):
    """Write a file of the public checkpoints' form, with float64 tensors; return those."""
    generator = torch.Generator().manual_seed(degrees)
    shapes = {"layers.0": (16, degrees**2), "layers.1": (16, 16), "last_layer": (6, 16)}
    tensors = {}
    for name, (rows, cols) in shapes.items():
        tensors[f"{name}.weight"] = torch.randn(rows, cols, generator=generator).double() / cols
        tensors[f"{name}.bias"] = torch.randn(rows, generator=generator).double()
    state = {f"{p}{name}": value for p in prefixes for name, value in tensors.items()}
    state["model.visual.conv1.weight"] = torch.zeros(3)
    said = {
        "le_type": "sphericalharmonics", "pe_type": "siren", "legendre_polys": degrees,
        "harmonics_calculation": "analytic", "embed_dim": 6, "capacity": 16,
        "num_hidden_layers": 2, "min_radius": 0.01, "max_radius": 360.0, "frequency_num": 16,
    }  # fmt: skip
    torch.save({"hyper_parameters": said | more, "state_dict": state, "epoch": 3}, path)
    return tensors


@pytest.mark.parametrize("prefixes", [("model.location.nnet.", "model.nnet."), ("model.nnet.",)])
def test_a_public_checkpoint_is_read(tmp_path, prefixes):
    path = tmp_path / "satclip-vit16-l7.ckpt"
    # Old files hold more hyperparameters, which are of no matter.
    old = {"eval_downstream": False, "air_temp_data_path": "x", "election_data_path": "y"}
    expected = satclip(path, 7, prefixes, **old)
    found = read_satclip(path)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value.float()) for name, value in expected.items())
    network = LocatedResNet(1, 1, width=2, blocks=0, checkpoint=str(path))
    lonlat = places(9)
    torch.testing.assert_close(
        network.location(lonlat).double(), encoded(expected, lonlat, 7), atol=2e-5, rtol=0
    )
    assert not any(p.requires_grad for p in network.location.parameters())
    assert network.arguments["encoder"] == {"degrees": 7, "channels": 6, "hidden": 16, "depth": 2}


def test_a_checkpoint_that_lightning_wrote_is_read(tmp_path):
    """With all that stands in one beside tensors: loops, optimisers, callbacks, hyperparameters."""

    class Siren(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(n, 8) for n in (16, 8))
            self.last_layer = nn.Linear(8, 5)

    class Trained(lightning.LightningModule):
        def __init__(self, legendre_polys=4, le_type="sphericalharmonics", pe_type="siren",
                     harmonics_calculation="analytic", air_temp_data_path=None):  # fmt: skip
            super().__init__()
            self.save_hyperparameters()
            self.model = nn.Module()
            self.model.location, self.model.visual = nn.Module(), nn.Conv2d(1, 1, 1)
            self.model.location.nnet = self.model.nnet = Siren()
            self.double()

        def training_step(self, batch, index):
            return self.model.nnet.last_layer.weight.square().sum()

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters())

    module = Trained()
    keep = ModelCheckpoint(tmp_path, filename="public", save_last=True)
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=1, logger=False, callbacks=[keep],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(torch.zeros(2, 1)))
    found = read_satclip(tmp_path / "public.ckpt")
    expected = module.model.nnet.state_dict()
    assert found.keys() == expected.keys()
    assert {value.dtype for value in expected.values()} == {torch.float64}
    assert all(torch.equal(found[name], value.float()) for name, value in expected.items())


class Harmful:
    """Runs a command as soon as it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_what_is_no_such_checkpoint_is_one_line_and_runs_nothing(tmp_path):
    path, ran = tmp_path / "a.ckpt", tmp_path / "ran"

    def refused(message, content=None):
        if content is not None:
            torch.save(content, path)
        with pytest.raises(ModelError, match=message) as error:
            read_satclip(path)
        assert "\n" not in str(error.value)

    refused("no such file")
    refused("holds other objects than tensors", {"state_dict": Harmful(ran)})
    torch.save({"state_dict": Harmful(ran)}, path, _use_new_zipfile_serialization=False)
    refused("holds other objects than tensors")
    assert not ran.exists()
    path.write_bytes(b"no file of torch")
    refused("a.ckpt: ")
    satclip(path)
    path.write_bytes(path.read_bytes()[:700])
    refused("a.ckpt: cannot be read as a checkpoint")
    refused("there is no state_dict", [torch.zeros(2)])
    refused("no location encoder is in it", {"state_dict": {"model.visual.weight": torch.ones(2)}})
    satclip(path, harmonics_calculation="closed-form")
    refused("harmonics_calculation is 'closed-form'")
    for name, value, message in (
        ("layers.0.weight", torch.zeros(16, 15).double(), "do not fit one another"),
        ("layers.1.bias", torch.zeros(15).double(), "do not fit one another"),
        ("layers.1.bias", torch.full((16,), math.nan).double(), "not finite"),
        ("layers.1.bias", torch.zeros(16, dtype=torch.long), "is int64, no number"),
        ("layers.1.bias", 3.0, "is not a tensor"),
        ("layers.1.bias", torch.zeros(16).to_sparse(), "is sparse or nested"),
        ("layers.1.bias", torch.zeros(16, device="meta"), "is without values"),
        ("layers.1.bias", torch.zeros(15).to(torch.float8_e4m3fn), "do not fit one another"),
        ("layers.0.weight", torch.zeros(0, 16), "layers.0.weight is empty"),
        ("layers.0.weight", torch.zeros(16, 0), "layers.0.weight is empty"),
        ("strange", torch.zeros(1), "no location encoder is in it"),
    ):
        satclip(path)
        held = torch.load(path, weights_only=True)
        held["state_dict"][f"model.location.nnet.{name}"] = value
        refused(message, held)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "as before PyTorch 1.6"])
def test_a_damaged_checkpoint_is_one_line_that_names_it(tmp_path, new):
    path = tmp_path / "a.ckpt"
    satclip(path)
    torch.save(torch.load(path), path, _use_new_zipfile_serialization=new)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), []
    for _ in range(150):
        spoilt = bytearray(whole)
        for at in rng.integers(2, len(whole), 8):
            spoilt[at] = rng.integers(256)
        path.write_bytes(spoilt)
        try:
            read_satclip(path)  # numbers may be others
        except ModelError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in refused)


# What a place does to the network.


def located(kind, width=3, blocks=1, seed=0, **options):
    """A small network whose place matters."""
    torch.manual_seed(seed)
    options = {"norm": "none", "crop": 32, "encoder": ENCODER, **options}
    network = LocatedResNet(1, 1, width=width, blocks=blocks, injection=kind, **options).eval()
    for parameter in network.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return network


def at(lon, lat, batch=1):
    return Conditions(lattice=Lattice.constant(torch.tensor([[lon, lat]]).expand(batch, 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_the_seed(kind):
    with torch.device("meta"):
        network = LocatedResNet(3, 1, injection=kind, frozen=True)
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        assert parameter_count(network.location) == 445_696
        assert parameter_count(network) == trained + 445_696
    more = {
        "multiply": 4_210_689, "add": 4_210_689,
        "concat": 4_210_688 + 64 * 49, "channel": 257 * 2 * 256,
    }  # fmt: skip
    assert trained == 11_371_905 + more[kind]
    assert kind not in ("multiply", "add") or trained == 15_582_594


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
def test_an_unknown_place_is_the_network_without_places(kind, norm):
    network = located(kind, norm=norm)
    plain = ResNet(1, 1, width=3, blocks=1, norm=norm).eval()
    own = {k: v for k, v in network.state_dict().items() if k.startswith(("body", "head"))}
    place = f"body.{network.at}."
    rest = [v for k, v in own.items() if not k.startswith(place)]
    plain.load_state_dict(dict(zip(plain.state_dict(), rest, strict=True)))
    x = torch.rand(2, 1, 24, 32)
    with torch.no_grad():
        assert torch.equal(network(x), plain(x))
        assert torch.equal(network.forward_conditioned(x, at(math.nan, math.nan, 2)), plain(x))
        known = network.forward_conditioned(x, at(8.0, 50.0, 2))
        assert (known - plain(x)).abs().max() > 1e-3
        assert (network.forward_conditioned(x, at(100.0, 10.0, 2)) - known).abs().max() > 1e-3
        # In one batch each sample has its own place.
        both = Lattice.constant(torch.tensor([[8.0, 50.0], [math.nan, 50.0]]))
        mixed = network.forward_conditioned(x, Conditions(lattice=both))
        torch.testing.assert_close(mixed, torch.stack([known[0], plain(x)[1]]))
        assert torch.equal(network(x), plain(x))  # nothing of the last pass is left


def test_the_first_crop_has_the_seeds_stretched_map():
    network = located("multiply", crop=32)
    layer = network.body[network.at]
    features = torch.rand(1, 12, 8, 8)
    layer.set_location(at(8.0, 50.0).lattice, network.location)
    embedding = network.location(torch.tensor([[8.0, 50.0]]))
    e = layer.linear(embedding).view(1, 1, SIDE, SIDE)
    e = functional.interpolate(e, (8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(layer(features), features * (1 + layer.scale * e))
    assert LocatedResNet(1, 1, width=2, injection="add").body[10].scale.item() == pytest.approx(
        0.01
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_reflected_border_leaves_places_where_they_are(kind):
    plain, bordered = located(kind), located(kind, border=12)
    bordered.load_state_dict(plain.state_dict())
    x = torch.rand(1, 1, 112, 112)
    m = -(-bordered.margin // 4) * 4
    lonlat = torch.tensor([[[6.0, 9.0], [6.5, 9.5]], [[50.0, 50.2], [40.0, 40.3]]])[None]
    lattice = Lattice(lonlat, (8.0, 4.0), 120.0, (48.0, 20.0))
    with torch.no_grad():
        answers = [n.forward_conditioned(x, Conditions(lattice=lattice)) for n in (plain, bordered)]
        at_once = [n.forward_conditioned(x, at(8.0, 50.0)) for n in (plain, bordered)]
    for one, other in (answers, at_once):
        inner = slice(m, 112 - m)
        torch.testing.assert_close(other[..., inner, inner], one[..., inner, inner])


def test_the_map_goes_on_as_between_mirrors():
    weights = stretch_weights(0.0, 4 * 16, 4, 64)  # four times the extent of 64 pixels
    torch.testing.assert_close(weights[:16], weights[32:48])
    torch.testing.assert_close(weights[16:32], weights[:16].flip(0))
    torch.testing.assert_close(stretch_weights(88.0, 20, 4, 64), weights[22:42])
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(64, dtype=torch.float64))
    smooth = weights @ torch.linspace(0, 1, SIDE, dtype=torch.float64)
    assert smooth.diff().abs().max() < 1.1 * 4 / 64  # no jump at a fold


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_with_the_scenes_lattice_equal_the_whole_scene(kind):
    network = located(kind)
    scene = torch.rand(1, 1, 128, 144, generator=torch.Generator().manual_seed(0))
    step, rows, cols = 40.0, 5, 5
    lonlat = torch.zeros(1, 2, rows, cols)
    lonlat[0, 0] = torch.linspace(6.0, 12.0, cols)
    lonlat[0, 1] = torch.linspace(52.0, 46.0, rows)[:, None]
    lattice = Lattice(lonlat, (0.0, 0.0), step, (0.0, 0.0))
    m = -(-network.margin // 4) * 4
    top, left = 44, 48
    assert m <= 44
    high, wide = slice(top - m, top + 20 + m), slice(left - m, left + 16 + m)
    first = (int((top - m) // step), int((left - m) // step))  # the nodes around it only
    part = Lattice(
        lonlat[..., first[0] :, first[1] :],
        (top - m - first[0] * step, left - m - first[1] * step),
        step,
        (float(top - m), float(left - m)),
    )
    with torch.no_grad():
        whole = network.forward_conditioned(scene, Conditions(lattice=lattice))
        tile = network.forward_conditioned(scene[..., high, wide], Conditions(lattice=part))
        nowhere = network(scene)
    found, true = tile[..., m : m + 20, m : m + 16], whole[..., top : top + 20, left : left + 16]
    torch.testing.assert_close(found, true, atol=1e-5, rtol=0)
    assert (whole - nowhere).abs().mean() > 1e-3
    adrift = Lattice(part.lonlat, part.origin, part.step)
    network.body[network.at].crop = 20  # the nodes lie where the map begins anew
    with torch.no_grad():
        lost = network.forward_conditioned(scene[..., high, wide], Conditions(lattice=adrift))
        torch.testing.assert_close(
            lost, network.forward_conditioned(scene[..., high, wide], Conditions(lattice=part))
        )
        network.body[network.at].crop = 32
    if kind != "channel":
        with pytest.raises(CrossbandError, match="lattice has no corner"):
            network.forward_conditioned(scene[..., high, wide], Conditions(lattice=adrift))


@pytest.mark.parametrize("kind", KINDS)
def test_training_learns_from_places_and_validation_sees_the_same(kind):
    """The seed's validation encoded the embedding again, and so looked at other places."""
    network = located(kind, norm="none")
    batch = {
        "source": torch.rand(3, 1, 16, 16), "target": torch.rand(3, 1, 16, 16),
        "lonlat": torch.tensor([[8.0, 50.0], [math.nan, math.nan], [-70.0, -33.0]]),
    }  # fmt: skip
    conditions = conditions_of(SIGNATURE, network, batch)
    with torch.no_grad():
        answers = predict(SIGNATURE, network, batch, conditions).output
    network.train()
    p = predict(SIGNATURE, network, batch, conditions)
    torch.testing.assert_close(p.output, answers)
    (p.output - p.target).square().mean().backward()
    silent = [n for n, v in network.named_parameters() if v.grad is None or not v.grad.any()]
    assert not silent


@pytest.mark.parametrize("wrong", [{"injection": "film"}, {"crop": 0}, {"blocks": -1}])
def test_what_cannot_be_built_is_one_line(wrong, tmp_path):
    with pytest.raises(CrossbandError, match="LocatedResNet cannot be built"):
        build(Generator, "LocatedResNet", wrong)
    path = tmp_path / "a.ckpt"
    satclip(path)
    with pytest.raises(ValueError, match="leave out encoder"):
        LocatedResNet(checkpoint=str(path), encoder=ENCODER)
    with pytest.raises(CrossbandError, match="no such file"):
        LocatedResNet(checkpoint=str(tmp_path / "none.ckpt"))


def test_a_stored_network_opens_no_file(tmp_path):
    path = tmp_path / "a.ckpt"
    satclip(path)
    stored = {"class": "LocatedResNet", "arguments": {"checkpoint": str(path)}}
    for name, arguments in (
        ("LocatedResNet", stored["arguments"]),
        ("Blend", {"parts": [stored], "shares": [1.0]}),
    ):
        with pytest.raises(CrossbandError, match="checkpoint names a file"):
            build(Generator, name, arguments)


def test_a_model_needs_its_checkpoint_no_more(tmp_path):
    path = tmp_path / "a.ckpt"
    satclip(path)
    network = LocatedResNet(1, 1, width=2, blocks=0, checkpoint=str(path)).eval()
    folder = Model(network, SIGNATURE, name="m", task="t").save(tmp_path / "m")
    path.unlink()
    model = load(folder)
    assert model.network.location.frozen
    x = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(
        model(x, conditions=at(8.0, 50.0)),
        network.forward_conditioned(x, at(8.0, 50.0)).clamp(0, 1),
    )


@pytest.mark.slow
def test_a_recipe_takes_a_checkpoint_freezes_it_and_resumes(pairs, tmp_path):  # noqa: F811
    path = tmp_path / "satclip.ckpt"
    expected = satclip(path)
    arguments = options(
        pairs, "--method.generator.checkpoint", str(path), "--method.generator.width=4",
        "--method.generator.blocks=1", "--data.crop=32", "--method.generator.crop=32",
        "--data.batch=2", "--method.discriminator.width=4", "--method.ema_decay=0.5",
    )  # fmt: skip
    folder = fit("rgb2nir/nir-gan-satclip", arguments, tmp_path / "run", fast_run=True)
    fit("rgb2nir/nir-gan-satclip", arguments, tmp_path / "run", fast_run=True, resume=True)
    location = load(folder).network.location.state_dict()
    assert all(torch.equal(location[name], v.float()) for name, v in expected.items())
