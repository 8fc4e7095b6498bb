"""One step of a recipe with a discriminator and pairs against plain code: same weights, batch."""

from __future__ import annotations

import plain
import pytest
import torch
from one_step import Step, exact, twins_of  # noqa: F401  (a fixture)
from plain_systems import Small, earth_mover, entropy, harmonics, l1, squares
from torch import nn
from torch.nn import functional

from crossband.networks.layers.attention import SelfAttention

NIR_GAN = ("generator.width=4", "generator.blocks=2", "discriminator.width=4")


def signed(x):
    """From 0..1 to -1..1, in which published systems compute."""
    return 2 * x - 1


def pair(x, y):
    """What a conditional discriminator sees: the pictures as they are, source last."""
    return torch.cat([y, x], 1)


def paired_gan(step, generator, critic, losses, criterion, weight=1.0):
    """The losses of both networks: weighted ones, and those of an adversarial criterion.

    Args:
        step: see `Step`.
        generator: plain, source -> target on -1..1.
        critic: plain, stacked pictures -> scores.
        losses: of output and target on 0..1.
        criterion: scores, label -> value.
        weight: of the adversarial loss.
    """
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    fake = (generator(signed(x)) + 1) / 2
    of_generator = weight * criterion(critic(pair(fake, x)), 1.0) + losses(fake, y)
    true, made = critic(pair(y, x)), critic(pair(fake.detach(), x))
    return fake, of_generator, (criterion(true, 1.0) + criterion(made, 0.0)) / 2


def plain_critic(step, norm, name="discriminator"):
    """70 x 70 patches with the weights of the step, and both side by side."""
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    network = plain.discriminator(x.shape[1] + y.shape[1], 4, norm)
    return network, side_by_side(step, name, network, (pair(y, x),), (x, y))


def plain_generator(step, network, others=()):
    """A plain network with the weights of the step, and both side by side."""
    x = step.data.normalised["source"]
    return network, side_by_side(step, "generator", network, (signed(x),), (x,), others)


def side_by_side(step, name, network, given, taken, others=()):
    method = {id(a): b for a, b in step.twins(name)}
    twins = twins_of(network, step.before[name], given, taken, others)
    return [(a, method[id(b)]) for a, b in twins]


def without_dropout(network):
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


@pytest.mark.parametrize("name", ["rgb2thermal/pix2pix", "sar2optical/pix2pix"])
def test_a_step_of_pix2pix(name):
    """Cross-entropy + 100 L1 on -1..1; the discriminator's loss is halved (Isola et al. 2017)."""
    step = Step(name, "generator.width=4", "discriminator.width=4", "generator.levels=5",
                "generator.dropout=0")  # fmt: skip
    norm = "batch" if name.startswith("sar") else "instance"
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    network = plain.Sar2Optical(x.shape[1], y.shape[1], 4, 5, norm=norm)
    network, twins = plain_generator(step, without_dropout(network))
    critic, critic_twins = plain_critic(step, norm)

    def losses(fake, true):
        return 100 * l1(signed(fake), signed(true))

    fake, of_generator, of_critic = paired_gan(step, network, critic, losses, entropy)
    step.logged(L1=l1(fake, y), total=of_generator, discriminator=of_critic)
    step.agrees(of_generator, twins=twins)
    step.agrees(of_critic, twins=critic_twins)


def index_losses(fake, nir, colour):
    """Mean absolute errors of NDVI, NDWI and EVI, a third each; reflectance."""
    red, green, blue = colour.split(1, dim=1)

    def indices(n):
        ndvi, ndwi = (n - red) / (n + red), (green - n) / (green + n)
        return ndvi, ndwi, 2.5 * (n - red) / (n + 6 * red - 7.5 * blue + 1)

    return sum(l1(a, b) for a, b in zip(indices(fake), indices(nir), strict=True)) / 3


def nir_losses(fake, true, colour):
    indices = 0.9999 * index_losses(fake, true, colour)
    return 100 * l1(fake, true) + indices + 0.5 * earth_mover(fake, true)


def test_a_step_of_nir_gan():
    """LSGAN + 100 L1 + indices + half of the distance of histograms; 10 pixels of reflection."""
    step = Step("rgb2nir/nir-gan", *NIR_GAN, within=(0.1, 0.4))
    colour, nir = step.data.physical["source"], step.data.normalised["target"]
    border = nn.ReflectionPad2d(10), nn.ZeroPad2d(-10)
    network = nn.Sequential(border[0], plain.resnet(width=4, blocks=2), border[1])
    network, twins = plain_generator(step, network)
    critic, critic_twins = plain_critic(step, "instance")
    fake, of_generator, of_critic = paired_gan(
        step, network, critic, lambda a, b: nir_losses(a, b, colour), squares
    )
    step.logged(EarthMovers=earth_mover(fake, nir), total=of_generator, discriminator=of_critic)
    step.agrees(of_generator, twins=twins)
    step.agrees(of_critic, twins=critic_twins)


def located(network, location, injection, lonlat):
    """NIR-GAN's ResNet: after both halvings features are multiplied by 1 + s map of the place.

    The map has 128 x 128 values, linear in the embedding. It covers the crop and is mirrored in the
    border; the seed's covers both (`differs`).
    """
    basis = torch.from_numpy(harmonics(lonlat.double().numpy(), 10))
    first, second = location.layers
    hidden = torch.sin(second(torch.sin(30 * first(basis))))
    maps = injection.linear(location.last_layer(hidden)).view(-1, 1, 128, 128)
    at = ((torch.arange(21) + 0.5) * 4 - 10) / 64 * 2 - 1  # 84 pixels in features of four
    grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).expand(len(lonlat), -1, -1, -1)
    found = functional.grid_sample(maps, grid, padding_mode="reflection", align_corners=False)

    def forward(x):
        features = network.model[:10](functional.pad(x, [10] * 4, "reflect"))
        features = features * (1 + injection.scale * found)
        return network.model[10:](features)[..., 10:-10, 10:-10]

    return forward


def test_a_step_of_nir_gan_with_satclip():
    """The same with the map of the place, whose encoder learns, too."""
    step = Step("rgb2nir/nir-gan-satclip", *NIR_GAN, "generator.crop=64", within=(0.1, 0.4))
    colour, ours = step.data.physical["source"], step.before["generator"]
    of_place = [ours.location, ours.body[ours.at]]
    others = [p for module in of_place for p in module.parameters()]
    network, twins = plain_generator(step, plain.resnet(width=4, blocks=2), others)
    method = {id(a): b for a, b in step.twins("generator")}
    twins += [(p, method[id(p)]) for p in others]
    critic, critic_twins = plain_critic(step, "instance")
    _, of_generator, of_critic = paired_gan(
        step, located(network, *of_place, step.data.lonlat), critic,
        lambda a, b: nir_losses(a, b, colour), squares,
    )  # fmt: skip
    step.logged(total=of_generator, discriminator=of_critic)
    step.agrees(of_generator, twins=twins)
    step.agrees(of_critic, twins=critic_twins)
    # The part of the place alone, which the others would outweigh.
    step.agrees(of_generator, twins=twins[-len(others) :])


def test_a_step_of_pix2pixhd():
    """LSGAN and 10 of feature matching over three discriminators (Wang et al. 2018, eq. 2 to 5)."""
    step = Step("sar2optical/pix2pixhd", "generator.width=8", "generator.levels=2",
                "generator.blocks=2", "discriminator.width=4", side=128)  # fmt: skip
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    network, twins = plain_generator(step, plain.Pix2PixHD(2, 3, 4, halvings=2))
    judges = [plain.discriminator(5, 4, "instance") for _ in range(3)]

    def features(judge, x):
        found = []
        for layer in judge.model:
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                found.append(x)
        return [*found, x]

    def judged(x):
        found = []
        for judge in judges:
            found.append(features(judge, x))
            x = functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return found

    all_judges = nn.ModuleList(judges)
    all_judges.forward = judged
    critic_twins = side_by_side(step, "discriminator", all_judges, (pair(y, x),), (x, y))
    fake = (network(signed(x)) + 1) / 2
    true, made = judged(pair(y, x)), judged(pair(fake, x))
    adversarial = sum(squares(b[-1], 1.0) for b in made)
    layers = [(p, q) for a, b in zip(made, true, strict=True) for p, q in zip(a, b, strict=True)]
    matched = sum(l1(p, q.detach()) for p, q in layers if p.shape[1] > 1)  # not of the scores
    apart = judged(pair(fake.detach(), x))
    of_critic = sum(
        (squares(a[-1], 1.0) + squares(b[-1], 0.0)) / 2 for a, b in zip(true, apart, strict=True)
    )
    of_generator = adversarial + 10 * matched
    step.logged(feature_matching=matched / 3, total=of_generator / 3, discriminator=of_critic / 3)
    step.agrees(of_generator / 3, twins=twins)
    step.agrees(of_critic / 3, twins=critic_twins)


@pytest.mark.parametrize(
    "name", ["rgb2nir/wgan-gp", "rgb2nir/wgan-gp-small", "rgb2thermal/wgan-gp"]
)
def test_a_step_of_wgan_gp(name):
    """The penalty is on the gradient of the sum of the patches' scores; losses are their means."""
    step = Step(name, "generator.width=4", "generator.dropout=0", "discriminator.width=4",
                "critic_steps=1")  # fmt: skip
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    levels = step.before["generator"].arguments["levels"]
    network, twins = plain_generator(step, Small(width=4, levels=levels))
    critic = step.before["discriminator"]
    fake = (network(signed(x)) + 1) / 2
    share = step.drawn["uniform"][0].view(2, 1, 1, 1)
    mixed = (share * y + (1 - share) * fake).detach().requires_grad_(True)
    scores = critic(x, mixed)
    assert scores[0].numel() > 1
    (slope,) = torch.autograd.grad(scores, mixed, torch.ones_like(scores), create_graph=True)
    penalty = ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
    factor = 10 if name.endswith("small") else 6
    of_critic = critic(x, fake.detach()).mean() - critic(x, y).mean() + factor * penalty
    of_generator = -critic(x, fake).mean() + 100 * l1(fake, y)
    step.logged(penalty=penalty, L1=l1(fake, y), total=of_generator)
    step.agrees(of_generator, twins=twins)
    step.agrees(of_critic, "discriminator")


def test_a_step_of_progressive_growing():
    """WGAN-GP at the resolution of the level, of the mean of its scores (Karras et al. 2018)."""
    step = Step("rgb2thermal/progressive", "generator.width=4", "discriminator.width=4")
    assert step.method.generator.growth == 0.0  # the first step: 64 / 2^4 pixels a side
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    forth, critic = step.before["generator"], step.before["discriminator"]
    forth.grow(0), critic.grow(0)
    fake = forth(x)
    assert torch.equal(fake, fake[:, :, ::16, ::16].repeat_interleave(16, 2)
                       .repeat_interleave(16, 3))  # fmt: skip
    share = step.drawn["uniform"][0].view(2, 1, 1, 1)
    mixed = (share * y + (1 - share) * fake).detach().requires_grad_(True)
    each = critic(x, mixed).flatten(1).mean(1)
    (slope,) = torch.autograd.grad(each.sum(), mixed, create_graph=True)
    penalty = ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
    of_critic = critic(x, fake.detach()).mean() - critic(x, y).mean() + 10 * penalty
    of_generator = -critic(x, fake).mean() + 100 * l1(fake, y)
    step.logged(penalty=penalty, L1=l1(fake, y), total=of_generator)
    step.agrees(of_generator, "generator")
    step.agrees(of_critic, "discriminator")


def rows_alike(network):
    """The sum of |W W^T - its diagonal|^2 over weights, rows being outputs (Brock et al. 2019)."""
    total = 0.0
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            weight = module.parametrizations.weight.original if hasattr(
                module, "parametrizations") else module.weight  # fmt: skip
            if isinstance(module, nn.ConvTranspose2d):
                weight = weight.transpose(0, 1)
            rows = weight.flatten(1)
            product = rows @ rows.T
            total = total + (product**2).sum() - (product.diagonal() ** 2).sum()
    return total


def test_a_step_of_attention():
    """Hinge losses + 100 L1; rows of the generator's weights are pulled apart by 0.0001."""

    def attend(method):  # at first the attention has no weight, and its parts no gradient
        for module in method.modules():
            if isinstance(module, SelfAttention):
                nn.init.constant_(module.gamma, 0.5)

    step = Step("rgb2thermal/attention", "generator.width=8", "discriminator.width=8",
                "generator.blocks=3", prepare=attend)  # fmt: skip
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    forth, critic = step.before["generator"], step.before["discriminator"]
    fake = forth(x)
    # The estimates of the largest singular values move with each pass: in the order of the step.
    made, true = critic(x, fake), critic(x, y)
    of_generator = -made.mean() + 100 * l1(fake, y)
    of_critic = (torch.relu(1 - true).mean() + torch.relu(1 + made).mean()) / 2
    step.logged(total=of_generator, discriminator=of_critic)
    step.agrees(of_generator + 1e-4 * rows_alike(forth), "generator")
    step.agrees(of_critic, "discriminator")


@pytest.mark.parametrize("name", ["rgb2thermal/adain", "rgb2thermal/style"])
def test_a_step_with_a_style(name):
    """A random code for each sample; LSGAN, or the relativistic loss, + 20 L1."""
    step = Step(name, "generator.width=4", "generator.blocks=1", "generator.codes=8",
                "generator.depth=2", "discriminator.width=4")  # fmt: skip
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    forth, critic = step.before["generator"], step.before["discriminator"]
    code = step.drawn["normal"][0]
    assert code.shape == (2, 16)
    fake = forth._translate(x, forth.codes_of(code))
    made, true = critic(x, fake), critic(x, y)
    if name.endswith("adain"):
        of_generator = squares(made, 1.0)
        of_critic = (squares(true, 1.0) + squares(made, 0.0)) / 2
    else:  # Jolicoeur-Martineau 2018, eq. 5 and 6
        of_generator = -torch.sigmoid(made - true.detach()).log().mean()
        of_critic = -torch.sigmoid(true - made).log().mean()
    of_generator = of_generator + 20 * l1(fake, y)
    step.logged(total=of_generator, discriminator=of_critic)
    step.agrees(of_generator, "generator")
    step.agrees(of_critic, "discriminator")


def test_a_step_of_improved_techniques():
    """The label of true pairs is 0.9; half of the loss is of pairs that do not belong together."""
    step = Step("rgb2thermal/improved", "generator.width=4", "generator.levels=5",
                "generator.dropout=0", "discriminator.width=4")  # fmt: skip
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    forth, critic = step.before["generator"], step.before["discriminator"]
    critic.set_reference_batch(x, y)  # of virtual batch norm: the first batch
    fake = forth(x)
    of_generator = entropy(critic(x, fake), 1.0) + 100 * l1(fake, y)
    true, made, wrong = critic(x, y), critic(x, fake.detach()), critic(x, y.flip(0))
    of_critic = entropy(true, 0.9) / 2 + (entropy(made, 0.0) + entropy(wrong, 0.0)) / 4
    step.logged(total=of_generator, discriminator=of_critic)
    step.agrees(of_generator, "generator")
    step.agrees(of_critic, "discriminator")
