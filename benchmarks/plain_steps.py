"""One training step of each system as plain PyTorch, in the manner of the public code of each.

fp32, eager, memory as PyTorch lays it out, unfused optimisers, losses read after each step. Each
function takes the networks and weights of a recipe's method and a normalised batch, and returns a
step. Networks and losses are those of the method, so that only the way of training differs. What
the public code computes and does not use is left out here, unlike there: CycleGAN's code runs two
more generator passes and four passes of VGG-19 with weight 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crossband.networks.samplers.base import to_signed

#: Trains on one batch.
Step = Callable[[], None]


def plain_step(method: Any, batch: dict[str, Tensor], units: Sequence[str]) -> Step:
    """Return the plain step of a method.

    Args:
        method: built from a recipe; its networks are laid out anew.
        batch: source and target [B, C, H, W] in physical units.
        units: of each sample.
    """
    method.to(memory_format=torch.contiguous_format).train()
    source = method.signature.normalise(batch["source"], units, "source").contiguous()
    target = method.signature.normalise(batch["target"], units, "target").contiguous()
    kind = type(method).__name__
    if kind == "PairedGAN" and method.discriminator is None:
        return _regression(method, source, target)
    if kind == "PairedGAN" and method.penalty:
        return _wasserstein(method, source, target)
    if kind == "PairedGAN":
        return _paired(method, source, target)
    return {
        "FlowMatching": _flow,
        "CycleGAN": _cycle_gan,
        "DiscoGAN": _disco_gan,
        "DualGAN": _dual_gan,
        "UNIT": _unit,
    }[kind](method, source, target)


def _optimizer(factory: Any, *networks: nn.Module) -> torch.optim.Optimizer:
    # UNIT's networks share weights.
    weights = list(dict.fromkeys(p for n in networks for p in n.parameters()))
    made: torch.optim.Optimizer = factory(weights)
    for group in made.param_groups:
        group["foreach"] = False
    return made


def _go(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _says(loss: str, scores: Tensor, wanted: float) -> Tensor:
    labels = torch.full_like(scores, wanted)
    if loss == "bce":
        return functional.binary_cross_entropy_with_logits(scores, labels)
    return functional.mse_loss(scores, labels)


def _regression(method: Any, source: Tensor, target: Tensor) -> Step:
    """Squared error, as the baselines of NIR-GAN and the autoencoder of super-resolution."""
    optimizer = _optimizer(method.optimizer, method.generator)

    def step() -> None:
        optimizer.zero_grad()
        loss = functional.mse_loss(method.generator(source), target)
        _go(optimizer, loss)
        loss.item()

    return step


def _paired(method: Any, source: Tensor, target: Tensor) -> Step:
    """pix2pix: the discriminator, then the generator, from one output.

    The gradients of the discriminator's weights are computed in the generator's step too (as
    SAR2Optical does), unless the method has index losses: NIR-GAN's Lightning switches them off,
    and runs the generator once for each optimiser.
    """
    generator, critic, adversarial = method.generator, method.discriminator, _name(method)
    of_generator = _optimizer(method.optimizer, generator)
    of_critic = _optimizer(method.discriminator_optimizer, critic)
    twice = len(method.losses) > 1

    def forward() -> Tensor:
        if generator.conditioned:
            from crossband.networks.conditions import Conditions, Lattice

            where = torch.zeros(len(source), 2)
            return generator.forward_conditioned(  # type: ignore[no-any-return]
                source, Conditions(lattice=Lattice.constant(where))
            )
        return generator(source)  # type: ignore[no-any-return]

    def step() -> None:
        output = forward()
        of_critic.zero_grad()
        true, made = critic(source, target), critic(source, output.detach())
        loss = 0.5 * (_says(adversarial, true, 1.0) + _says(adversarial, made, 0.0))
        _go(of_critic, loss)
        if twice:
            output = forward()
            critic.requires_grad_(False)
        of_generator.zero_grad()
        fooled = _says(adversarial, critic(source, output), 1.0)
        pixels = functional.l1_loss(output, target)
        total = fooled + method.losses[0].weight * pixels
        if twice:
            red, nir, near = source[:, :1], output, target
            for weight in (m.weight for m in list(method.losses)[1:]):
                there = (near - red) / (near + red + 1e-6)
                total = total + weight * ((nir - red) / (nir + red + 1e-6) - there).abs().mean()
        _go(of_generator, total)
        critic.requires_grad_(True)
        _ = loss.item(), total.item(), fooled.item(), pixels.item()

    return step


def _wasserstein(method: Any, source: Tensor, target: Tensor) -> Step:
    """rgb_to_nir: critic steps with a gradient penalty, all on one batch, then the generator."""
    generator, critic = method.generator, method.discriminator
    of_generator = _optimizer(method.optimizer, generator)
    of_critic = _optimizer(method.discriminator_optimizer, critic)

    def step() -> None:
        for _ in range(method.critic_steps):
            of_critic.zero_grad()
            with torch.no_grad():
                output = generator(source)
            true, made = critic(source, target), critic(source, output)
            slope = _penalty(lambda x: critic(source, x), target, output)
            wgan = made.mean() - true.mean()
            loss = wgan + method.penalty * slope
            _go(of_critic, loss)
        of_generator.zero_grad()
        output = generator(source)
        fooled = -critic(source, output).mean()
        pixels = functional.l1_loss(output, target)
        total = fooled + 100.0 * pixels
        _go(of_generator, total)
        _ = loss.item(), wgan.item(), slope.item(), total.item(), fooled.item(), pixels.item()

    return step


def _penalty(critic: Callable[[Tensor], Tensor], true: Tensor, made: Tensor) -> Tensor:
    share = torch.rand(len(true), 1, 1, 1)
    mixed = (share * true + (1 - share) * made).requires_grad_(True)
    scores = critic(mixed)
    (slope,) = torch.autograd.grad(scores, mixed, torch.ones_like(scores), create_graph=True)
    found: Tensor = ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
    return found


def _flow(method: Any, source: Tensor, target: Tensor) -> Step:
    """rgb_to_nir: the velocity from noise to target at a random time, squared error."""
    optimizer = _optimizer(method.optimizer, method.generator)
    source, target = to_signed(source), to_signed(target)

    def step() -> None:
        optimizer.zero_grad()
        t, noise = torch.rand(len(target)), torch.randn_like(target)
        if method.grid:
            t = (t * method.grid).floor() / method.grid
        at = t.view(-1, 1, 1, 1)
        x = (1 - at) * noise + at * target
        velocity = method.generator.evaluate_field(x, t, source)
        loss = functional.mse_loss(velocity, target - noise)
        _go(optimizer, loss)
        loss.item()

    return step


class _Both:
    """Networks and optimisers of both directions, with the steps of both discriminators."""

    def __init__(self, method: Any, source: Tensor, target: Tensor) -> None:
        self.forth, self.back = method.generator, method.back
        self.critic, self.back_critic = method.discriminator, method.back_discriminator
        self.generators = _optimizer(method.optimizer, self.forth, self.back)
        made = method.discriminator_optimizer
        self.critics = [_optimizer(made, n) for n in (self.critic, self.back_critic)]
        self.adversarial, self.source, self.target = _name(method), source, target
        self.kept: list[list[Tensor]] = [[], []]

    def fooled(self, output: Tensor, output_back: Tensor) -> Tensor:
        """Return the generators' adversarial losses; the critics' gradients are computed too."""
        return _says(self.adversarial, self.critic(self.source, output), 1.0) + _says(
            self.adversarial, self.back_critic(self.target, output_back), 1.0
        )

    def step_critics(self, output: Tensor, output_back: Tensor, replay: int = 0) -> None:
        """Step each discriminator by itself."""
        ways = (
            (self.critic, self.source, self.target, output, self.critics[0]),
            (self.back_critic, self.target, self.source, output_back, self.critics[1]),
        )
        for number, (critic, other, true, made, optimizer) in enumerate(ways):
            optimizer.zero_grad()
            shown, kept = made.detach(), self.kept[number]
            if replay:
                kept.append(shown.clone())
                shown = kept.pop(0) if len(kept) > replay else shown
            scores, false = critic(other, true), critic(other, shown)
            loss = _says(self.adversarial, scores, 1.0) + _says(self.adversarial, false, 0.0)
            _go(optimizer, 0.5 * loss)
            loss.item()


def _cycle_gan(method: Any, source: Tensor, target: Tensor) -> Step:
    both, known = _Both(method, source, target), torch.ones_like(source[:, :1], dtype=torch.bool)

    def step() -> None:
        both.generators.zero_grad()
        output, output_back = both.forth(source), both.back(target)
        fooled = both.fooled(output, output_back)
        cycle = functional.l1_loss(both.back(output), source)
        cycle = cycle + functional.l1_loss(both.forth(output_back), target)
        alike = method.structure.compare(output, source, known).mean()
        total = 3.0 * fooled + 16.0 * cycle + 20.0 * alike
        _go(both.generators, total)
        both.step_critics(output, output_back, replay=50)
        _ = total.item(), fooled.item(), cycle.item()

    return step


def _disco_gan(method: Any, source: Tensor, target: Tensor) -> Step:
    both = _Both(method, source, target)

    def step() -> None:
        both.generators.zero_grad()
        output, output_back = both.forth(source), both.back(target)
        fooled = both.fooled(output, output_back)
        cycle = functional.mse_loss(both.back(output), source)
        cycle = cycle + functional.mse_loss(both.forth(output_back), target)
        total = fooled + cycle
        _go(both.generators, total)
        both.step_critics(output, output_back)
        _ = total.item(), fooled.item(), cycle.item()

    return step


def _dual_gan(method: Any, source: Tensor, target: Tensor) -> Step:
    """Critic steps with clipped weights, or a penalty; generators once for several of them."""
    both = _Both(method, source, target)

    def critics() -> None:
        for optimizer in both.critics:
            optimizer.zero_grad()
        output, output_back = both.forth(source).detach(), both.back(target).detach()
        loss = torch.zeros(())
        for critic, other, true, made in (
            (both.critic, source, target, output),
            (both.back_critic, target, source, output_back),
        ):
            loss = loss + critic(other, made).mean() - critic(other, true).mean()
            if method.penalty:
                score = lambda x, n=critic, o=other: n(o, x)  # noqa: E731
                loss = loss + method.penalty * _penalty(score, true, made)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in both.critics:
            optimizer.step()
        if method.weight_clip:
            for p in (p for n in (both.critic, both.back_critic) for p in n.parameters()):
                p.data.clamp_(-method.weight_clip, method.weight_clip)
        loss.item()

    def step() -> None:
        for _ in range(method.critic_steps):
            critics()
        both.generators.zero_grad()
        output, output_back = both.forth(source), both.back(target)
        fooled = -both.critic(source, output).mean() - both.back_critic(target, output_back).mean()
        cycle = functional.l1_loss(both.back(output), source)
        cycle = cycle + functional.l1_loss(both.forth(output_back), target)
        total = fooled + 100.0 * cycle
        _go(both.generators, total)
        _ = total.item(), fooled.item(), cycle.item()

    return step


def _unit(method: Any, source: Tensor, target: Tensor) -> Step:
    both = _Both(method, source, target)

    def step() -> None:
        both.generators.zero_grad()
        mean, mean_back = both.forth.encode(source), both.back.encode(target)
        latent = mean + torch.randn_like(mean)
        latent_back = mean_back + torch.randn_like(mean)
        same, same_target = both.back.decode(latent), both.forth.decode(latent_back)
        output, output_back = both.forth.decode(latent), both.back.decode(latent_back)
        again, again_back = both.back.encode(output), both.forth.encode(output_back)
        cycle = functional.l1_loss(both.back.decode(again + torch.randn_like(again)), source)
        returned = both.forth.decode(again_back + torch.randn_like(again))
        cycle = cycle + functional.l1_loss(returned, target)
        fooled = both.fooled(output, output_back)
        kept = functional.l1_loss(same, source) + functional.l1_loss(same_target, target)
        spread = sum(m.square().mean() for m in (mean, mean_back, again, again_back))
        total = 10.0 * fooled + 0.1 * spread + 100.0 * kept + 100.0 * cycle
        _go(both.generators, total)
        both.step_critics(output, output_back)
        total.item()

    return step


def _name(method: Any) -> str:
    """Return `bce` or `lsgan`: the form of the method's adversarial loss."""
    score = torch.zeros(1, 1, 1, 1)  # log 2 for cross-entropy, 1 for squares
    return "lsgan" if float(method.gan_loss.generator(score, score)) == 1.0 else "bce"
