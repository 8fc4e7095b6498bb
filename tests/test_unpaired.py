"""Methods without pairs, and ThermalGAN: who sees what, what they minimise, what they refuse."""

from __future__ import annotations

import lightning
import pytest
import torch
from torch import nn
from toy_unpaired import (
    GREY,
    SIGNATURE,
    SIZE,
    Noting,
    One,
    Shift,
    adam,
    resnets,
    run,
    thermal,
    two_way,
)

from crossband.errors import RecipeError
from crossband.networks import Discriminator
from crossband.networks.discriminators.patch_critic import PatchCritic
from crossband.networks.generators.progressive import ProgressiveCritic, ProgressiveUNet
from crossband.networks.generators.resnet import ResNet
from crossband.networks.generators.style import StyleResNet
from crossband.networks.generators.thermal_gan import TwoStepThermal
from crossband.networks.generators.unit import UNITCritic, UNITResNet, UNITViT
from crossband.training.losses.pixel import L1
from crossband.training.losses.structure import SpatialCorrelative
from crossband.training.methods.cycle_gan import CycleGAN
from crossband.training.methods.disco_gan import DiscoGAN
from crossband.training.methods.dual_gan import DualGAN
from crossband.training.methods.modules import orthogonal_penalty
from crossband.training.methods.paired_gan import PairedGAN
from crossband.training.methods.regions import region_means
from crossband.training.methods.unit import UNIT
from crossband.training.methods.unpaired import UnpairedBatch


@pytest.mark.parametrize("method", [CycleGAN, DiscoGAN, DualGAN])
def test_each_discriminator_sees_its_own_domain_only(method):
    """The seed's critic of colour was shown thermal outputs."""
    critics = Noting(), Noting()
    own = method(
        GREY, Shift(10.0), back=Shift(-20.0), discriminator=critics[0],
        back_discriminator=critics[1], optimizer=adam(1e-9), max_steps=1,
    )  # fmt: skip
    run(own, bands=1)
    data = One(1)
    source, target = data.source.mean().item(), data.target.mean().item()
    made = [target, source + 10.0], [source, target - 20.0]
    for critic_seen, wanted in zip(critics, made, strict=True):
        shown = sorted({round(t, 2) for _, t in critic_seen.seen})
        assert shown == pytest.approx(sorted(wanted), abs=0.02)


def test_dual_gan_clips_the_critics_and_steps_them_more_often():
    method = two_way(DualGAN, *resnets(), max_steps=2, critic_steps=3, rate=0.5)
    log = run(method)
    critics = [*method.discriminator.parameters(), *method.back_discriminator.parameters()]
    assert max(p.abs().max() for p in critics) <= 0.01
    assert max(p.abs().max() for p in method.generator.parameters()) > 0.1
    assert method.consumed == 2 * 2 * 3
    assert len(log.of("cycle")) == 2
    other = two_way(DualGAN, *resnets(), max_steps=1, weight_clip=0.0, penalty=10.0)
    assert {"penalty", "penalty_back"} <= {k[5:] for line in run(other).lines for k in line}
    with pytest.raises(RecipeError, match=r"wasserstein needs method\.penalty above 0"):
        two_way(DualGAN, *resnets(), weight_clip=0.0)


def test_what_methods_without_pairs_refuse():
    with pytest.raises(RecipeError, match="that take nothing but their source"):
        two_way(CycleGAN, StyleResNet(3, 1, width=2), ResNet(1, 3, width=4, blocks=1))
    for side in (1, 3):  # of targets, of sources
        with pytest.raises(RecipeError, match="UNIT needs discriminators that judge alone"):
            two_way(
                UNIT,
                *(UNITResNet(a, b, width=4, blocks=2) for a, b in ((3, 1), (1, 3))),
                critics=lambda s, t, n=side: PatchCritic(s, t, width=4, conditional=t == n),
            )
    with pytest.raises(RecipeError, match="must be against source"):
        two_way(CycleGAN, *resnets(), structure=SpatialCorrelative(against="target"))
    halves = (UNITViT(a, b, patch=32, width=8, heads=2, blocks=0) for a, b in ((3, 1), (1, 3)))
    coarse = two_way(UNIT, *halves, max_steps=1)
    with pytest.raises(RecipeError, match="a multiple of 32"):
        run(coarse)
    small = two_way(UNIT, UNITResNet(3, 1, width=4), UNITResNet(1, 3, width=4), max_steps=1)
    source, target, mask = (torch.ones(2, n, 4, 4) for n in (3, 1, 1))
    with pytest.raises(RecipeError, match="a multiple of 4, and at least 8"):
        small.forward_generators(UnpairedBatch(source, mask.bool(), target, mask.bool()))
    with pytest.raises(RecipeError, match="of two steps, as TwoStepThermal, not ResNet"):
        thermal(ResNet(width=4, blocks=1))
    with pytest.raises(RecipeError, match=r"encoder has a style of 2, method\.generator of 3"):
        thermal(TwoStepThermal(width=4, levels=2, contrast_levels=2, style=3))


def test_cycle_and_identity_by_hand():
    """One way adds 10, the way back takes 20: what is left of each round, and of each domain."""
    method = CycleGAN(
        GREY, Shift(10.0), back=Shift(-20.0), discriminator=Noting(), back_discriminator=Noting(),
        optimizer=adam(1e-9), max_steps=1, cycle=2.0, identity=0.5,
    )  # fmt: skip
    line = next(line for line in run(method, bands=1).lines if "loss/total" in line)
    wanted = {"cycle": 10.0, "cycle_back": 10.0, "identity": 10.0, "identity_back": 20.0}
    for name, value in wanted.items():
        assert line[f"loss/{name}"] == pytest.approx(value, rel=1e-5), name
    losses = line["loss/adversarial"] + line["loss/adversarial_back"]
    assert line["loss/total"] == pytest.approx(losses + 2.0 * 20.0 + 0.5 * 30.0, rel=1e-5)


def test_the_terms_of_unit_are_those_of_its_paper():
    """Eq. 4 to 6, means for sums: twice the networks by hand, the divergences by torch."""
    torch.manual_seed(0)
    networks = [UNITResNet(a, b, width=4, blocks=2) for a, b in ((3, 1), (1, 3))]
    method = two_way(
        UNIT, *networks, critics=lambda s, t: UNITCritic(s, t, width=4, layers=2), cycle=7.0
    )
    forth, back = networks
    data, everywhere = One(), torch.ones(2, 1, SIZE, SIZE, dtype=torch.bool)
    noise = torch.randn(2, 4, *forth.encode(data.source).shape[1:])
    method.normal = lambda *shape: noise.view(shape)
    found = method.generator_losses(
        d := UnpairedBatch(data.source, everywhere, data.target, everywhere),
        method.forward_generators(d),
    )

    def encoded(network, x):
        return network.shared_encoder(network.encoder(2 * x - 1))

    def decoded(network, x):
        return network.decoder(forth.shared_decoder(x))  # shared

    means = [encoded(forth, data.source), encoded(back, data.target)]
    latent = [means[0] + noise[:, 0], means[1] + noise[:, 1]]
    means += [encoded(back, decoded(forth, latent[0])), encoded(forth, decoded(back, latent[1]))]
    normal = torch.distributions.Normal
    apart = [torch.distributions.kl_divergence(normal(m, 1.0), normal(0.0, 1.0)) for m in means]
    one, other, translated, translated_back = (a.mean() for a in apart)
    divergence = (one + other) + (one + translated) + (other + translated_back)  # VAE, cycles
    wanted = {
        "reconstruction": (100.0, (decoded(back, latent[0]) - data.source).abs().mean()),
        "reconstruction_back": (100.0, (decoded(forth, latent[1]) - data.target).abs().mean()),
        "cycle": (7.0, (decoded(back, means[2] + noise[:, 2]) - data.source).abs().mean()),
        "cycle_back": (7.0, (decoded(forth, means[3] + noise[:, 3]) - data.target).abs().mean()),
        "divergence": (0.1, divergence),
    }
    assert found.keys() == wanted.keys()
    for name, (factor, value) in wanted.items():
        assert found[name][0] == factor
        assert found[name][1].item() == pytest.approx(value.item(), rel=1e-5), name


def test_the_terms_of_thermal_gan_are_those_of_its_papers():
    torch.manual_seed(0)
    method = thermal(max_steps=1, log_every=1, classes=3)
    network, encoder, data = method.generator, method.encoder, One()
    noise = torch.randn(2, 2, 2)
    method.normal = lambda *shape: noise.view(shape)
    truth = region_means(data.target, torch.ones(2, 1, SIZE, SIZE, dtype=torch.bool), 3)
    with torch.no_grad():
        mean, log_variance = encoder(truth)
        style = mean + noise[:, 0] * log_variance.exp().sqrt()
        drawn = network.regions(data.source, noise[:, 1])
        normal = torch.distributions.Normal
        apart = torch.distributions.kl_divergence(
            normal(mean, log_variance.exp().sqrt()), normal(0.0, 1.0)
        )
        wanted = {
            "regions": (network.regions(data.source, style) - truth).abs().mean(),
            "contrasts": (
                truth + network.contrasts(data.source, truth) - data.target
            ).abs().mean(),
            "latent": (encoder(drawn)[0] - noise[:, 1]).abs().mean(),
            "divergence": apart.sum(1).mean(),
        }  # fmt: skip
    line = next(line for line in run(method).lines if "loss/total" in line)
    for name, value in wanted.items():
        assert line[f"loss/{name}"] == pytest.approx(value.item(), rel=1e-4), name
    total = 10 * wanted["regions"] + 100 * wanted["contrasts"] + 0.5 * wanted["latent"]
    total = total + 0.01 * wanted["divergence"]
    total += line["loss/adversarial"] + line["loss/adversarial_contrasts"]
    assert line["loss/total"] == pytest.approx(total.item(), rel=1e-4)


def test_structure_is_a_term_of_cycle_gan():
    method = two_way(
        CycleGAN, *resnets(), max_steps=1, structure=SpatialCorrelative(2, 8, weight=3.0)
    )
    line = next(line for line in run(method).lines if "loss/total" in line)
    found = {k[5:]: v for k, v in line.items() if k.startswith("loss/")}
    expected = found["adversarial"] + found["adversarial_back"]
    expected += 10.0 * (found["cycle"] + found["cycle_back"])
    expected += 3.0 * (found["structure"] + found["structure_back"])
    assert found["total"] == pytest.approx(expected, rel=1e-5)


def test_thermal_gan_keeps_its_steps_apart():
    """The contrasts' loss moves the second step only, the regions' the first and the encoder."""
    method = thermal(max_steps=1, contrasts=0.0, latent=0.0, divergence=0.0, regions=1.0)
    method.gan_losses = (Silent(), Silent())
    before = [p.clone() for p in method.generator.second.parameters()]
    first = [p.clone() for p in method.generator.first.parameters()]
    encoder = [p.clone() for p in method.encoder.parameters()]
    run(method)
    assert all(map(torch.equal, before, method.generator.second.parameters()))
    assert not all(map(torch.equal, first, method.generator.first.parameters()))
    assert not all(map(torch.equal, encoder, method.encoder.parameters()))
    method = thermal(max_steps=1, contrasts=0.0, latent=1.0, divergence=0.0, regions=0.0)
    method.gan_losses = (Silent(), Silent())
    encoder = [p.clone() for p in method.encoder.parameters()]
    first = [p.clone() for p in method.generator.first.parameters()]
    run(method)
    # Reading the style again must not move the encoder that reads it.
    assert all(map(torch.equal, encoder, method.encoder.parameters()))
    assert not all(map(torch.equal, first, method.generator.first.parameters()))


class Silent:
    """A game that nobody gains from."""

    needs_target_scores = False

    def generator(self, target, output):
        return output.flatten(1).mean(1) * 0.0

    discriminator = generator


# Options of paired methods.


class Judge(Discriminator):
    def __init__(self):
        super().__init__()
        self.seen, self.score = [], nn.Conv2d(4, 1, 1)

    def forward(self, source, target):
        self.seen.append((source.detach(), target.detach()))
        return self.score(torch.cat([source, target], 1))


def paired(discriminator=None, generator=None, **options):
    return PairedGAN(
        SIGNATURE, generator or ResNet(width=4, blocks=1, norm="none"), losses=[L1()],
        discriminator=discriminator, optimizer=adam(1e-3),
        **{"max_steps": 1, "adversarial_weight": 1.0, "log_every": 1, **options},
    )  # fmt: skip


def test_mismatched_pairs_are_a_third_kind_of_sample():
    judge = Judge()
    start = [p.clone() for p in judge.parameters()]
    log = run(paired(judge, mismatched=True, adversarial="bce"))
    made, true, wrong = judge.seen
    data = One()
    assert torch.equal(true[1], data.target)
    assert torch.equal(wrong[0], data.source)
    assert torch.equal(wrong[1], data.target.flip(0))  # the other sample's target
    weight, bias = start

    def score(pair):
        return nn.functional.conv2d(torch.cat(pair, 1), weight, bias)

    # Reed et al.: log D(true) + (log(1 - D(wrong)) + log(1 - D(made))) / 2, halved as in pix2pix.
    soft = nn.functional.softplus
    expected = soft(-score(true)).mean() + (soft(score(wrong)) + soft(score(made))).mean() / 2
    assert log.of("discriminator")[0] == pytest.approx(expected.item() / 2, rel=1e-5)
    assert "score/mismatched" in log.lines[0]
    with pytest.raises(RecipeError, match="that sees the source"):
        paired(PatchCritic(width=4, conditional=False), mismatched=True)
    lonely = paired(Judge(), mismatched=True)
    with pytest.raises(RecipeError, match="batch of at least 2"):
        run(lonely, batch=1)


def test_wasserstein_may_be_bounded_by_clipping():
    method = paired(
        PatchCritic(width=4, strided=2, norm="none"), adversarial="wasserstein", weight_clip=0.02
    )
    run(method)
    assert 0.019 < max(p.abs().max().item() for p in method.discriminator.parameters()) <= 0.02
    with pytest.raises(RecipeError, match=r"weight_clip is above 0, but there is no discrim"):
        run(paired(adversarial_weight=0.0, weight_clip=0.1))
    with pytest.raises(RecipeError, match=r"method\.smoothing"):
        paired(Judge(), adversarial="hinge", smoothing=0.1)


def test_orthogonal_weights_are_an_option_of_every_method():
    torch.manual_seed(0)
    networks = [ResNet(width=4, blocks=1, norm="none") for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    for network, strength in zip(networks, (0.0, 100.0), strict=True):
        run(paired(generator=network, adversarial_weight=0.0, orthogonal=strength, max_steps=15))
    assert orthogonal_penalty([networks[1]]) < 0.7 * orthogonal_penalty([networks[0]])


def test_networks_grow_with_the_steps():
    growths = []

    class Growths(lightning.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            parts = pl_module.generator, pl_module.discriminator, pl_module.average
            growths.append([p.growth for p in parts])

    method = paired(
        ProgressiveCritic(width=2, levels=1, grown=4),
        ProgressiveUNet(width=2, levels=1, grown=4),
        adversarial="wasserstein", penalty=10.0, max_steps=8,
    )  # fmt: skip
    run(method, callbacks=[Growths()])
    assert [s[0] for s in growths] == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0]
    assert all(len(set(s)) == 1 for s in growths)


# Other tests go over the registries, which are for the package's own classes.
for _class in (Shift, Noting, Judge):
    _class.known.pop(_class.__name__)
