"""One step of a recipe without pairs, and of ThermalGAN, against plain code."""

from __future__ import annotations

import numpy as np
import plain
import pytest
import torch
from one_step import Step, exact, twins_of  # noqa: F401  (a fixture)
from plain_systems import centres, entropy, l1, squares, unlike

SMALL = [f"{n}.width=4" for n in ("generator", "back", "discriminator", "back_discriminator")]


def signed(x):
    return 2 * x - 1


def plain_pair(step, make):
    """Plain generators of both ways on 0..1, and their weights beside those of the method."""
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    found, twins = [], []
    for name, given, takes, gives in (("generator", x, 3, 1), ("back", y, 1, 3)):
        network = make(takes, gives)
        method = {id(a): b for a, b in step.twins(name)}
        for a, b in twins_of(network, step.before[name], (signed(given),), (given,)):
            twins.append((a, method[id(b)]))
        found.append(lambda z, network=network: (network(signed(z)) + 1) / 2)
    return *found, twins


def plain_critics(step):
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    found, twins = [], []
    for name, seen, other in (("discriminator", y, x), ("back_discriminator", x, y)):
        network = plain.discriminator(seen.shape[1], 4, "instance")
        method = {id(a): b for a, b in step.twins(name)}
        for a, b in twins_of(network, step.before[name], (seen,), (other, seen)):
            twins.append((a, method[id(b)]))
        found.append(network)
    return *found, twins


def copied_critics(step):
    """The networks of the method; they see the picture alone."""
    pair = step.before["discriminator"], step.before["back_discriminator"]
    return [lambda z, critic=critic: critic(z, z) for critic in pair]


def test_a_step_of_cyclegan_weighs_its_losses_as_the_thermal_system():
    """3 (a + b) / 2 + 8 (c + d) / 2 + 10 s on -1..1, s from colour to thermal only; all doubled."""
    step = Step("rgb2thermal/cyclegan", *SMALL, "generator.blocks=1", "back.blocks=1",
                "structure.patch=8", "structure.queries=4")  # fmt: skip
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    forth, back, twins = plain_pair(
        step, lambda a, b: plain.resnet(takes=a, gives=b, blocks=1, larger=True)
    )
    critic, back_critic, critic_twins = plain_critics(step)
    fake, fake_back = forth(x), back(y)
    gan = squares(critic(fake), 1.0) + squares(back_critic(fake_back), 1.0)
    cycle = 2 * (l1(back(fake), x) + l1(forth(fake_back), y))
    structure = unlike(fake, x, 4, 8)
    total = 3 * gan / 2 + 8 * cycle / 2 + 10 * structure
    of_critics = [
        (squares(d(true), 1.0) + squares(d(made.detach()), 0.0)) / 2
        for d, true, made in ((critic, y, fake), (back_critic, x, fake_back))
    ]
    step.logged(structure=structure, cycle=l1(back(fake), x), total=2 * total)
    step.logged(discriminator=of_critics[0], discriminator_back=of_critics[1])
    step.agrees(2 * total, twins=twins)
    step.agrees(sum(of_critics), twins=critic_twins)


def discos(takes, gives):
    return plain.PyTorchGAN(takes, gives, 4, 5, bias=True, skip_first=True)


LEVELS = ("generator.levels=5", "back.levels=5", "generator.dropout=0", "back.dropout=0")


def test_a_step_of_discogan():
    """Cross-entropy and the squared error of both rounds on -1..1 (Kim et al. 2017, eq. 3 to 8)."""
    step = Step("rgb2thermal/discogan", *SMALL, *LEVELS)
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    forth, back, twins = plain_pair(step, discos)
    critic, back_critic = copied_critics(step)
    fake, fake_back = forth(x), back(y)
    again = (back(fake), x), (forth(fake_back), y)
    rounds = [((signed(a) - signed(b)) ** 2).mean() for a, b in again]
    total = sum(rounds) + entropy(critic(fake), 1.0) + entropy(back_critic(fake_back), 1.0)
    of_critics = [
        (entropy(d(true), 1.0) + entropy(d(made.detach()), 0.0)) / 2
        for d, true, made in ((critic, y, fake), (back_critic, x, fake_back))
    ]
    step.logged(cycle=rounds[0] / 4, cycle_back=rounds[1] / 4, total=total)
    step.agrees(total, twins=twins)
    step.agrees(sum(of_critics), "discriminator", "back_discriminator")


def test_a_step_of_dualgan():
    """Wasserstein scores and 500 times both rounds on -1..1 (Yi et al. 2017, eq. 1 to 3)."""
    step = Step("rgb2thermal/dualgan", *SMALL, *LEVELS, "critic_steps=1")
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    forth, back, twins = plain_pair(step, discos)
    critic, back_critic = copied_critics(step)
    fake, fake_back = forth(x), back(y)
    rounds = [l1(signed(a), signed(b)) for a, b in ((back(fake), x), (forth(fake_back), y))]
    total = 500 * sum(rounds) - critic(fake).mean() - back_critic(fake_back).mean()
    of_critics = critic(fake.detach()).mean() - critic(y).mean()
    of_critics = of_critics + back_critic(fake_back.detach()).mean() - back_critic(x).mean()
    step.logged(total=total)
    step.agrees(total, twins=twins)
    step.agrees(of_critics, "discriminator", "back_discriminator")
    # After the step the critics' weights are held within 0.01.
    clipped = step.method.discriminator
    assert max(p.abs().max() for p in clipped.parameters()) <= 0.01


@pytest.mark.parametrize("name", ["rgb2thermal/unit", "rgb2thermal/unit-vit"])
def test_a_step_of_unit(name):
    """10 GAN + 0.1 divergence + 100 L1 of pictures and rounds on -1..1 (Liu et al. 2017, eq. 3)."""
    small = [*SMALL, "generator.blocks=2", "back.blocks=2"]
    if name.endswith("vit"):
        small = [*SMALL[2:], *(f"{n}.{o}" for n in ("generator", "back")
                               for o in ("width=8", "heads=2", "blocks=1"))]  # fmt: skip
    step = Step(name, *small)
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    forth, back = step.before["generator"], step.before["back"]
    critic, back_critic = copied_critics(step)
    noise = step.drawn["normal"][0]

    def code(network, z):
        return network.shared_encoder(network.encoder(signed(z)))

    def picture(network, z):
        return network.decoder(forth.shared_decoder(z))  # shared by both

    def divergence(mean):  # of N(mean, 1) from N(0, 1)
        normal = torch.distributions.Normal
        return torch.distributions.kl_divergence(normal(mean, 1.0), normal(0.0, 1.0)).mean()

    means = code(forth, x), code(back, y)
    latent, latent_back = means[0] + noise[:, 0], means[1] + noise[:, 1]
    fake, fake_back = picture(forth, latent), picture(back, latent_back)
    again = code(back, fake), code(forth, fake_back)
    pictures = l1(signed(picture(back, latent)), signed(x))
    pictures = pictures + l1(signed(picture(forth, latent_back)), signed(y))
    rounds = l1(signed(picture(back, again[0] + noise[:, 2])), signed(x))
    rounds = rounds + l1(signed(picture(forth, again[1] + noise[:, 3])), signed(y))
    # That of the pictures is in the autoencoders' losses (eq. 4) and in those of rounds (eq. 6).
    apart = 2 * sum(map(divergence, means)) + sum(map(divergence, again))
    criterion = squares if name.endswith("vit") else entropy
    gan = criterion(critic(fake), 1.0) + criterion(back_critic(fake_back), 1.0)
    total = 10 * gan + 0.1 * apart + 100 * pictures + 100 * rounds
    of_critics = sum(
        (criterion(d(true), 1.0) + criterion(d(made.detach()), 0.0)) / 2
        for d, true, made in ((critic, y, fake), (back_critic, x, fake_back))
    )
    step.logged(divergence=apart, total=total)
    step.agrees(total, "generator", "back")
    step.agrees(of_critics, "discriminator", "back_discriminator")


def test_a_step_of_thermalgan():
    """BicycleGAN from colour to regions, pix2pix from both to contrasts (Kniaz et al. 2018)."""
    step = Step(
        "rgb2thermal/thermalgan", "generator.width=4", "generator.levels=3",
        "generator.contrast_levels=3", "generator.dropout=0", "encoder.width=4",
        "discriminator.width=4", "contrast_discriminator.width=4",
    )  # fmt: skip
    x, y = step.data.normalised["source"], step.data.normalised["target"]
    network, encoder = step.before["generator"], step.before["encoder"]
    critic, contrast_critic = (step.before[n] for n in ("discriminator", "contrast_discriminator"))
    clusters = [centres(one.ravel(), 8).reshape(1, 64, 64) for one in y.numpy()]
    regions = torch.from_numpy(np.stack(clusters))
    both, noise = torch.cat([x, regions], 1), step.drawn["normal"][0]
    mean, log_variance = encoder(regions)
    told = mean + noise[:, 0] * (log_variance / 2).exp()

    def first(style):
        laid = style[:, :, None, None].expand(-1, -1, 64, 64)
        return network.first(torch.cat([x, (laid + 1) / 2], 1))  # the U-Net takes 2 x - 1

    read, drawn = first(told), first(noise[:, 1])
    final = regions + signed(network.second(both))
    apart = (mean**2 + log_variance.exp() - 1 - log_variance) / 2
    gan = squares(critic(x, read), 1.0) + squares(critic(x, drawn), 1.0)
    total = gan + entropy(contrast_critic(both, final), 1.0)
    total = total + 10 * l1(signed(read), signed(regions)) + 100 * l1(signed(final), signed(y))
    total = total + 0.01 * apart.sum(1).mean()
    # The style must be found in what was made of it; this moves the generator alone.
    frozen = encoder(drawn)[0]
    latent = l1(frozen, noise[:, 1])
    step.logged(latent=latent, divergence=apart.sum(1).mean(), total=total + 0.5 * latent)
    step.agrees(total + 0.5 * latent, "generator")
    step.agrees(total, "encoder")
    of_critics = (squares(critic(x, regions), 1.0) * 2
                  + squares(critic(x, read.detach()), 0.0)
                  + squares(critic(x, drawn.detach()), 0.0)) / 4  # fmt: skip
    of_contrasts = entropy(contrast_critic(both, y), 1.0)
    of_contrasts = (of_contrasts + entropy(contrast_critic(both, final.detach()), 0.0)) / 2
    step.agrees(of_critics + of_contrasts, "discriminator", "contrast_discriminator")
