"""Weights carried over by the names of bands, for every registered generator; `--start`."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import yaml
from fitting import RECIPE, options, pairs, same_weights  # noqa: F401  (a fixture)
from registered import cases, waken
from tiers import first_quick, slow

from crossband import Model, load
from crossband.core.registry import build
from crossband.core.signature import Signature, UnitRange
from crossband.errors import CrossbandError, ModelError, RecipeError
from crossband.model.adapt import ModelBands, adapt, first_difference
from crossband.networks import Generator
from crossband.networks.generators.blend import Blend
from crossband.networks.generators.guided_unet import GuidedUNet
from crossband.networks.generators.local_pyramid import LocalPyramid
from crossband.networks.generators.local_statistics import LocalStatistics
from crossband.networks.generators.local_unet import LocalUNet
from crossband.networks.generators.per_pixel import PerPixelLinear, PerPixelMLP
from crossband.networks.generators.thermal_gan import TwoStepThermal
from crossband.training import recipe
from crossband.training.fine_tune_defaults import set_fine_tuning
from crossband.training.fit import fit
from crossband.training.methods.base import Method

#: Share of the largest answer. Another number of bands lets a processor sum in another order, by a
#: few units in the last place a layer; a misplaced band moves an answer by more than a thousandth.
ROUNDING = 500 * torch.finfo(torch.float32).eps


def apart(one, other):
    """Return the largest difference as a share of the largest answer."""
    return (one - other).abs().max() / max(1, other.abs().max())


def with_bands(arguments, source, target):
    """Return a generator's arguments for other numbers of bands, those of a blend's parts too."""
    changed = copy.deepcopy(arguments)
    if "parts" in changed:
        for part in changed["parts"]:
            part["arguments"] = with_bands(part["arguments"], source, target)
        return changed
    return {**changed, "in_channels": source, "out_channels": target}


def generator(name, arguments, source, target, seed):
    torch.manual_seed(seed)
    network = waken(build(Generator, name, with_bands(arguments, source, target)))
    for parameter in network.parameters():  # `waken` is the same for every seed
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return network


def names(count):
    return [f"b{i}" for i in range(count)]


CASES = cases(Generator)
LABELS = [f"{name}-{len(arguments)}" for name, arguments in CASES]


@pytest.fixture(params=first_quick([(c,) for c in CASES], lambda c: c[0][0], LABELS))
def case(request):
    name, arguments = request.param
    if not list(build(Generator, name, arguments).parameters()):
        pytest.skip(f"{name} has no weights")
    if name in ("LocalStatistics", "LocalPyramid", "FamiliarBlend"):
        pytest.skip("its features mix bands: see test_bands_that_cannot_be_told_apart")
    if name.startswith("Guided"):
        pytest.skip("refused: see test_bands_of_a_guided_network_are_not_changed")
    if name == "TwoStepThermal":
        pytest.skip("target bands go in again: see test_bands_that_cannot_be_told_apart")
    if arguments.get("bicubic") or name in ("SharpenedBicubic", "SubpixelResNet"):
        pytest.skip("its bands come back, so that they cannot change on one side")
    return name, arguments


def test_bands_of_a_guided_network_are_not_changed():
    old, new = (GuidedUNet(n, 1, width=4, depth=0, hidden=4) for n in (3, 4))
    with pytest.raises(ModelError, match="it takes a guide"):
        adapt(old, ModelBands(names(3), ["t"]), new, ModelBands(names(4), ["t"]))


def answers(network, x):
    with torch.no_grad():
        torch.manual_seed(0)  # for a network that draws noise
        return network.eval()(x)


@pytest.mark.parametrize("at", [slow(0), 1, slow(3)])
def test_a_new_source_band_changes_no_answer(case, at):
    name, arguments = case
    old, new = (generator(name, arguments, n, 2, seed=n) for n in (3, 4))
    more = names(3)
    more.insert(at, "new")
    target = ["t0", "t1"]
    new.load_state_dict(adapt(old, ModelBands(names(3), target), new, ModelBands(more, target)))
    edge = max(16, old.stride)
    x = torch.rand(2, 4, edge, edge) + 10 * torch.rand(1) * torch.eye(4)[at].view(1, 4, 1, 1)
    kept = [i for i in range(4) if i != at]
    expected = answers(old, x[:, kept])
    assert apart(answers(new, x), expected) <= ROUNDING


def test_reordered_bands_reorder_weights(case):
    name, arguments = case
    old, new = (generator(name, arguments, 3, 2, seed=n) for n in (0, 1))
    old_bands, new_bands = (
        ModelBands(names(3), ["s", "t"]),
        ModelBands(["b2", "b0", "b1"], ["t", "s"]),
    )
    weights = adapt(old, old_bands, new, new_bands)
    new.load_state_dict(weights)
    edge = max(16, old.stride)
    x = torch.rand(2, 3, edge, edge)
    expected = answers(old, x)[:, [1, 0]]
    assert apart(answers(new, x[:, [2, 0, 1]]), expected) <= ROUNDING
    # There and back again.
    again = adapt(new, new_bands, old, old_bands)
    assert all(torch.equal(value, again[key]) for key, value in old.state_dict().items())


def test_bands_that_cannot_be_told_apart():
    """Correlations and brightness are of several bands; the same bands are carried over whole."""
    old, new = (LocalPyramid(n, 1, width=8) for n in (3, 4))
    with pytest.raises(ModelError, match="so its bands cannot be changed"):
        adapt(old, ModelBands(names(3), ["t"]), new, ModelBands(names(4), ["t"]))
    old, new = (LocalStatistics(n, 1, width=8) for n in (3, 4))
    with pytest.raises(ModelError, match="so its bands cannot be changed"):
        adapt(old, ModelBands(names(3), ["t"]), new, ModelBands(names(4), ["t"]))
    steps = [TwoStepThermal(n, 1, width=2, levels=1, contrast_levels=1) for n in (3, 4)]
    with pytest.raises(ModelError, match="so its bands cannot be changed"):
        adapt(steps[0], ModelBands(names(3), ["t"]), steps[1], ModelBands(names(4), ["t"]))
    weights = adapt(
        old, ModelBands(names(3), ["t"]), LocalStatistics(width=8), ModelBands(names(3), ["t"])
    )
    assert all(torch.equal(weights[key], value) for key, value in old.state_dict().items())


def test_a_band_left_out_is_no_longer_read(case):
    """As if it held what the network itself takes for zero: 0, or 0.5 where it works on -1..1."""
    name, arguments = case
    if name == "PictureUNet":
        pytest.skip("its perceptron takes 0 for zero, its U-Net a mean of 0.5 and some spread")
    old, new = (generator(name, arguments, n, 1, seed=n) for n in (3, 2))
    new.load_state_dict(
        adapt(old, ModelBands(names(3), ["t"]), new, ModelBands(["b2", "b0"], ["t"]))
    )
    edge = max(16, old.stride)
    x = torch.rand(1, 3, edge, edge)
    out, differences = answers(new, x[:, [2, 0]]), []
    for zero in (0.0, 0.5):
        x[:, 1] = zero
        differences.append(apart(out, answers(old, x)))
    assert min(differences) <= ROUNDING


def test_a_new_target_band_is_fresh_and_the_others_stay(case):
    name, arguments = case
    if name in ("DiffusionSampler", "FlowSampler"):
        pytest.skip("on the way to one band its field looks at the others")
    old, new = (generator(name, arguments, 3, n, seed=n) for n in (1, 2))
    edge = max(16, old.stride)
    x = torch.rand(1, 3, edge, edge)
    new.load_state_dict(
        adapt(old, ModelBands(names(3), ["t"]), new, ModelBands(names(3), ["u", "t"]))
    )
    out = answers(new, x)
    assert apart(out[:, 1], answers(old, x)[:, 0]) <= ROUNDING
    assert (out[:, 0] - out[:, 1]).abs().max() > 1e-3


def test_the_new_band_is_learned_from_the_first_step():
    old, new = (generator("LocalUNet", {"width": 6, "depth": 1}, n, 1, seed=n) for n in (3, 4))
    new.load_state_dict(adapt(old, ModelBands(names(3), ["t"]), new, ModelBands(names(4), ["t"])))
    member = new.members[0]
    assert not member.pixel_in.weight[:, 3].any()
    assert not member.stem.weight[:, 48:].any()
    new(torch.rand(2, 4, 16, 16)).sum().backward()
    assert member.pixel_in.weight.grad[:, 3].any()
    assert member.stem.weight.grad[:, 48:].any()


class _Folded(Generator):
    """ModelBands folded the other way round, beside two planes that are no bands; a tanh behind."""

    def __init__(self, in_channels: int = 3, out_channels: int = 1) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, 2
        self.first = torch.nn.Conv2d(4 * in_channels + 2, 8, 1)
        self.last = torch.nn.Conv2d(8, 4 * out_channels, 1)
        torch.nn.init.zeros_(self.last.weight)

    def forward(self, x):
        cells = [2 * x[..., i::2, j::2] - 1 for i in (0, 1) for j in (0, 1)]
        planes = torch.ones_like(cells[0][:, :1])
        y = self.last(torch.tanh(self.first(torch.cat([planes, *cells, planes], 1))))
        return torch.nn.functional.pixel_shuffle(y, 2)


class Folded(_Folded):
    """Registered, so that it is built by name."""

    def __init__(self, in_channels: int = 3, out_channels: int = 1) -> None:
        super().__init__(in_channels, out_channels)


def test_any_way_of_folding_is_found():
    old, new = (generator("Folded", {}, 3, 2, seed=n) for n in (3, 4))
    bands, other = ModelBands(names(3), ["s", "t"]), ModelBands(["b1", "b2", "b0"], ["t", "s"])
    new.load_state_dict(adapt(old, bands, new, other))
    x = torch.rand(1, 3, 16, 16)
    assert apart(answers(new, x[:, [1, 2, 0]]), answers(old, x)[:, [1, 0]]) <= ROUNDING
    more = generator("Folded", {}, 4, 2, seed=5)
    more.load_state_dict(adapt(old, bands, more, ModelBands([*names(3), "b3"], ["s", "t"])))
    wide = torch.rand(1, 4, 16, 16)
    assert apart(answers(more, wide), answers(old, wide[:, :3])) <= ROUNDING


class Mixed(Generator):
    """Every weight of the first layer answers to all bands: they cannot be told apart."""

    def __init__(self, in_channels: int = 3, out_channels: int = 1) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.first = torch.nn.Conv2d(2 * in_channels, out_channels, 1)

    def forward(self, x):
        rest = x.sum(1, keepdim=True) - x
        return self.first(torch.cat([rest, rest], 1))


def test_what_cannot_be_adapted_is_one_line():
    narrow, wide = LocalUNet(width=6, depth=1), LocalUNet(4, width=8, depth=1)
    bands, more = ModelBands(names(3), ["t"]), ModelBands(names(4), ["t"])
    with pytest.raises(ModelError, match="width is 6, not 8"):
        adapt(narrow, bands, wide, more)
    with pytest.raises(ModelError, match="network is 'PerPixelMLP', not 'LocalUNet'"):
        adapt(PerPixelMLP(), bands, narrow, bands)
    with pytest.raises(ModelError, match="no source band in common: b0, b1, b2 and x, y, z"):
        adapt(narrow, bands, narrow, ModelBands(["x", "y", "z"], ["t"]))
    with pytest.raises(ModelError, match=r"Mixed: which weights of first\.weight belong"):
        adapt(Mixed(), bands, Mixed(4), more)


def test_adapting_draws_nothing_from_the_runs_generator():
    old, new = LocalUNet(width=6, depth=1), LocalUNet(4, width=6, depth=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    adapt(old, ModelBands(names(3), ["t"]), new, ModelBands(names(4), ["t"]))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_first_difference_of_plain_data():
    assert first_difference([1, {"a": 2}], [1, {"a": 3}]) == ("1.a", 2, 3)
    assert first_difference({"a": [1]}, {"a": [1, 2]}) == ("a", [1], [1, 2])
    assert first_difference({"a": 1}, {"a": 1, "b": 2}) == ("b", None, 2)
    assert first_difference({"a": (1, 2)}, {"a": [1, 2]}) is None


# `--start`.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of the test recipe's form, with bands in another order, inside a blend too."""
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(7)
    network = waken(LocalUNet(3, 1, width=8, depth=1, hidden=6, drop_path=0.3))
    ranges = UnitRange([(0, 0.25), (0, 0.30), (0, 0.35)], [(0, 0.60)])
    signature = Signature(["blue", "green", "red"], ["nir"], {"reflectance": ranges})
    Model(network, signature, name="plain", task="rgb2nir").save(folder / "plain")
    blend = Blend.of([PerPixelLinear(), network], [0.5, 0.5])
    Model(blend, signature, name="blended", task="rgb2nir").save(folder / "blended")
    return folder


def physical(network_or_model, model, x):
    """Answers before clipping, in physical units."""
    normal = model.signature.normalise(x, ["reflectance"], "source")
    return model.signature.denormalise(network_or_model(normal), ["reflectance"], "target")


#: One step that moves nothing: what is saved is what was loaded.
STILL = ["--method.max_steps", "1", "--method.optimizer.lr", "0", "--data.steps", "1"]


@pytest.mark.parametrize("kind", ["plain", "blended"])
def test_training_begins_with_the_models_weights(pairs, tiny, tmp_path, capsys, kind):  # noqa: F811
    arguments = options(pairs, *STILL, "--start", str(tiny / kind), "--weights", "last")
    folder = fit(RECIPE, arguments, tmp_path / "run")
    old, new = load(tiny / "plain"), load(folder)
    x = torch.rand(1, 3, 16, 16) * 0.3
    expected = physical(old.network, old, x.flip(1))
    torch.testing.assert_close(physical(new.network, new, x), expected, atol=1e-6, rtol=0)
    state = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    for key in new.network.state_dict():
        assert torch.equal(state[f"generator.{key}"], state[f"average.{key}"])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("start: ")]
    assert len(said) == 1
    assert load(tiny / kind).weights_hash[:12] in said[0]
    assert "3 of 3 source bands taken over: red, green, blue" in said[0]
    assert "normalisation: the same" in said[0]
    assert ("), its LocalUNet (member 2 of 2): 3 of" in said[0]) == (kind == "blended")
    begun = json.loads((folder / "model.json").read_text())["about"]["training"]["start"]
    assert begun["name"] == str(tiny / kind)
    assert begun["sha256"] == load(tiny / kind).weights_hash


def test_a_new_band_starts_at_zero_and_other_ranges_are_said(pairs, tiny, tmp_path, capsys):  # noqa: F811
    config = yaml.safe_load(RECIPE.read_text())
    init = config["method"]["init_args"]
    init["signature"]["source"] = ["red", "nir", "blue"]
    init["signature"]["target"] = ["green"]
    init["signature"]["units"]["reflectance"]["source"] = [[0, 0.5], [0, 0.6], [0, 0.25]]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    config["method"]["init_args"] = init
    arguments = options(pairs, *STILL, "--start", str(tiny / "plain"))
    folder = fit(tmp_path / "mine.yaml", arguments, tmp_path / "run")
    member = load(folder).network.members[0]
    assert not member.pixel_in.weight[:, 1].any()
    old = load(tiny / "plain").network.members[0]
    assert torch.equal(member.pixel_in.weight[:, 0], old.pixel_in.weight[:, 2])
    said = next(s for s in capsys.readouterr().err.splitlines() if s.startswith("start: "))
    for words in (
        "2 of 3 source bands taken over: red, blue; new: nir (zero weights); left out: green",
        "0 of 1 target bands taken over; new: green (fresh weights); left out: nir",
        "normalisation: the recipe's, other than the start's for red (reflectance)",
    ):
        assert words in said


def test_the_bundled_blend_gives_its_member(pairs, tmp_path, capsys):  # noqa: F811
    arguments = options(pairs, "--data.crop", "16", "--data.batch", "4", "--start", "rgb2nir")
    arguments += ["--baselines", "null", "--blend", "null", "--blend_by", "share"]
    arguments += ["--method.optimizer.lr", "1e-12"]
    folder = fit("rgb2nir/local-pyramid", arguments, tmp_path / "run", fast_run=True)
    x = torch.rand(3, 16, 16) * 0.3
    bundled = load("rgb2nir")
    wanted = Model(bundled.network.parts[0], bundled.signature, name="m", task="t").eval()
    torch.testing.assert_close(load(folder)(x), wanted(x), atol=1e-6, rtol=0)
    assert "start: rgb2nir (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("start", "more", "message"),
    [
        ("plain", ["--method.generator.width", "12"], "its LocalUNet has width 8, the recipe's"),
        ("blended", ["--method.generator.hidden", "7"], "its LocalUNet has hidden 6, the recipe's"),
        ("plain", ["--method.generator", "PerPixelMLP"], "it is a LocalUNet, and the recipe's"),
        ("blended", ["--method.generator", "PerPixelMLP"], "a blend of PerPixelLinear, LocalUNet"),
        ("nothing", [], "unknown model"),
    ],
)
def test_a_start_of_another_form_is_one_line(pairs, tiny, tmp_path, start, more, message):  # noqa: F811
    arguments = options(pairs, "--start", str(tiny / start), *more)
    with pytest.raises(CrossbandError, match=message) as error:
        fit(RECIPE, arguments, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_what_is_solved_takes_no_start(pairs, tmp_path):  # noqa: F811
    with pytest.raises(RecipeError, match="a start changes nothing"):
        fit("rgb2nir/linear", options(pairs, "--start", "rgb2nir"), tmp_path / "run")


def test_a_resumed_run_does_not_start_again(pairs, tiny, tmp_path, monkeypatch, capsys):  # noqa: F811
    from crossband.errors import Interrupted

    start = ["--start", str(tiny / "plain")]
    arguments = options(pairs, "--method.max_steps", "6", "--data.steps", "3")
    whole = fit(RECIPE, [*arguments, *start], tmp_path / "whole")

    original = Method.training_step

    def stopped(self, batch, index):
        original(self, batch, index)
        if self.step == 4:
            raise Interrupted("here")

    with monkeypatch.context() as patch:
        patch.setattr(Method, "training_step", stopped)
        with pytest.raises(Interrupted):
            fit(RECIPE, [*arguments, *start], tmp_path / "run")
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()
    capsys.readouterr()
    with pytest.raises(RecipeError, match=r"goes on with began from .*plain"):
        fit(RECIPE, [*arguments, "--start", "rgb2nir"], tmp_path / "run", resume=True)
    monkeypatch.setattr("crossband.model.folder.load", None)  # nothing is loaded any more
    folder = fit(RECIPE, arguments, tmp_path / "run", resume=True)
    monkeypatch.undo()
    assert "start:" not in capsys.readouterr().err
    one, other = load(whole).network.state_dict(), load(folder).network.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    training = load(folder).about["training"]
    assert training["start"] == load(whole).about["training"]["start"]
    # A run that began without one says so, instead of ignoring the option.
    plain = fit(RECIPE, arguments, tmp_path / "plain")
    assert load(plain).about["training"]["start"] is None
    with pytest.raises(RecipeError, match="began from random weights"):
        fit(RECIPE, [*arguments, *start], tmp_path / "plain", resume=True)
    # Begun anew without a start, the old note must not linger.
    again = fit(RECIPE, arguments, tmp_path / "run", overwrite=True)
    assert load(again).about["training"]["start"] is None
    assert not (tmp_path / "run/checkpoints/start.json").exists()


@pytest.mark.parametrize("said", [slow(True), False])
def test_a_run_killed_before_its_first_checkpoint_starts_again(
    pairs,  # noqa: F811
    tiny,
    tmp_path,
    monkeypatch,
    said,
):
    """Not from random weights, of which the model would say that they were the start's."""
    start = ["--start", str(tiny / "plain")]
    arguments = options(pairs, "--method.max_steps", "2", "--data.steps", "2")
    whole = fit(RECIPE, [*arguments, *start], tmp_path / "whole")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("crossband.training.run.TrainingRun.train", killed)
        with pytest.raises(CrossbandError):
            fit(RECIPE, [*arguments, *start], tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.ckpt"))
    again = fit(RECIPE, arguments + start * said, tmp_path / "run", resume=True)
    assert same_weights(whole, again)
    assert load(again).about["training"]["start"] == load(whole).about["training"]["start"]


def test_a_start_is_the_model_to_beat(pairs, tiny, tmp_path, capsys):  # noqa: F811
    """Where every step is worse, the model has the weights of the start."""
    arguments = options(pairs, "--start", str(tiny / "plain"), "--method.max_steps", "4")
    arguments += ["--data.steps", "2", "--method.optimizer.lr", "0.01"]
    arguments += ["--trainer.mode", "max"]  # a smaller error counts as worse
    folder = fit(RECIPE, arguments, tmp_path / "run")
    old, new = load(tiny / "plain"), load(folder)
    x = torch.rand(1, 3, 16, 16) * 0.3
    expected = physical(old.network, old, x.flip(1))
    torch.testing.assert_close(physical(new.network, new, x), expected, atol=1e-6, rtol=0)
    assert "training tiny: step 0/4 val " in capsys.readouterr().err


def test_a_blend_that_is_better_as_a_whole_stays(pairs, tiny, tmp_path, capsys):  # noqa: F811
    folder = fit(RECIPE, options(pairs, *STILL, "--start", str(tiny / "blended")), tmp_path / "run")
    assert isinstance(load(folder).network, Blend)
    assert load(folder).about["training"]["start"]["kept"]
    assert "the start is better, and becomes the model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([], (0.0003, 200, 20, 25, "best")),
        (["--method.optimizer.lr", "0.1", "--weights", "last"], (0.1, 200, 20, 25, "last")),
        (["--method.max_steps", "80", "--data.steps", "7"], (0.0003, 80, 8, 7, "best")),
        (["--method.schedule.warmup", "3"], (0.0003, 200, 3, 25, "best")),
    ],
)
def test_a_start_sets_what_the_user_has_not(given, wanted):
    config = recipe.load("rgb2nir/local-pyramid", given)
    set_fine_tuning(config, recipe.given_options(given))
    method, data = config["method"]["init_args"], config["data"]["init_args"]
    rate, warmup = method["optimizer"]["init_args"]["lr"], method["schedule"]["init_args"]["warmup"]
    assert (rate, method["max_steps"], warmup, data["steps"], config["weights"]) == wanted
