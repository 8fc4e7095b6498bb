"""Adversarial objectives: what a discriminator's scores are worth to either side.

- `lsgan`: least squares (Mao et al. 2017, Least squares generative adversarial networks).
- `bce`: cross-entropy, the non-saturating form (Goodfellow et al. 2014, Generative adversarial
  nets, section 3).
- `hinge`: Lim and Ye 2017, Geometric GAN.
- `wasserstein`: Arjovsky et al. 2017, Wasserstein GAN; with a penalty or clipped weights.
- `relativistic`: Jolicoeur-Martineau 2018, The relativistic discriminator, eq. 5 and 6: target and
  output of one place compared with each other.

Where both sides have a term, the discriminator's sum is halved, as in pix2pix (Isola et al. 2017).
Each takes scores [B, 1, h, w] without sigmoid and gives one value for each sample, [B], in fp32 at
least: scores of half precision are widened.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from crossband.errors import RecipeError, nearest
from crossband.networks.layers.batch_layers import at_least_float32

#: Names of the adversarial losses, as methods take them; see `GAN_LOSSES`.
GANLossName = Literal["lsgan", "bce", "hinge", "wasserstein", "relativistic"]


@dataclass(frozen=True)
class GANLoss:
    """One adversarial loss: a term for the generator and a term for the discriminator.

    Attributes:
        generator: (scores of the target, scores of the output) -> the generator's loss, [B].
        discriminator: the same scores -> the discriminator's loss, [B].
        needs_target_scores: whether the generator's loss depends on the scores of the target. Where
            it does not, methods need not compute them.
    """

    generator: Callable[[Tensor, Tensor], Tensor]
    discriminator: Callable[[Tensor, Tensor], Tensor]
    needs_target_scores: bool = False


def _mean(values: Tensor) -> Tensor:
    return values.flatten(1).mean(dim=1)


def _lsgan_generator(target: Tensor, output: Tensor) -> Tensor:
    return _mean((at_least_float32(output) - 1.0) ** 2)


def _lsgan_discriminator(target: Tensor, output: Tensor, label: float = 1.0) -> Tensor:
    return 0.5 * (
        _mean((at_least_float32(target) - label) ** 2) + _mean(at_least_float32(output) ** 2)
    )


def _bce_generator(target: Tensor, output: Tensor) -> Tensor:
    return _mean(functional.softplus(-at_least_float32(output)))


def _bce_discriminator(target: Tensor, output: Tensor, label: float = 1.0) -> Tensor:
    # softplus(x) = softplus(-x) + x: cross-entropy with a label between 0 and 1.
    real = functional.softplus(-at_least_float32(target)) + (1.0 - label) * at_least_float32(target)
    return 0.5 * (_mean(real) + _mean(functional.softplus(at_least_float32(output))))


def _hinge_generator(target: Tensor, output: Tensor) -> Tensor:
    return -_mean(at_least_float32(output))


def _hinge_discriminator(target: Tensor, output: Tensor) -> Tensor:
    real, made = (
        torch.relu(1.0 - at_least_float32(target)),
        torch.relu(1.0 + at_least_float32(output)),
    )
    return 0.5 * (_mean(real) + _mean(made))


def _wasserstein_generator(target: Tensor, output: Tensor) -> Tensor:
    return -_mean(at_least_float32(output))


def _wasserstein_discriminator(target: Tensor, output: Tensor) -> Tensor:
    return _mean(at_least_float32(output)) - _mean(at_least_float32(target))


def _relativistic_generator(target: Tensor, output: Tensor) -> Tensor:
    return _mean(functional.softplus(at_least_float32(target) - at_least_float32(output)))


def _relativistic_discriminator(target: Tensor, output: Tensor) -> Tensor:
    return _mean(functional.softplus(at_least_float32(output) - at_least_float32(target)))


#: Every adversarial loss by name; the module's docstring cites their sources.
GAN_LOSSES: dict[str, GANLoss] = {
    "lsgan": GANLoss(_lsgan_generator, _lsgan_discriminator),
    "bce": GANLoss(_bce_generator, _bce_discriminator),
    "hinge": GANLoss(_hinge_generator, _hinge_discriminator),
    "wasserstein": GANLoss(_wasserstein_generator, _wasserstein_discriminator),
    "relativistic": GANLoss(_relativistic_generator, _relativistic_discriminator, True),
}


#: Discriminator losses that compare scores with a label, which may be smoothed.
_LABELLED = {"lsgan": _lsgan_discriminator, "bce": _bce_discriminator}


def gan_loss(name: str, smoothing: float = 0.0, bounded: bool = True) -> GANLoss:
    """Return an adversarial loss by name.

    Args:
        name: see `GAN_LOSSES`.
        smoothing: one-sided label smoothing (Salimans et al. 2016, section 3.4): the
            discriminator's label is 1 - smoothing for targets and stays 0 for outputs.
        bounded: whether a gradient penalty or weight clipping bounds the scores.

    Raises:
        RecipeError: unknown name (the message names the nearest one); smoothing of a loss without
            labels; `wasserstein` without bounds.
    """
    if name not in GAN_LOSSES:
        raise RecipeError(f"unknown adversarial objective {name!r}: {nearest(name, GAN_LOSSES)}")
    if name == "wasserstein" and not bounded:
        raise RecipeError(
            "method.adversarial wasserstein needs method.penalty above 0 (10 is usual) or "
            "method.weight_clip (0.01): nothing else bounds the scores"
        )
    if not smoothing:
        return GAN_LOSSES[name]
    if name not in _LABELLED or not 0.0 < smoothing < 1.0:
        raise RecipeError(
            f"method.smoothing must be 0 to below 1, and is for {' and '.join(_LABELLED)}, which "
            f"have a label; not {smoothing} with {name}"
        )
    smoothed = functools.partial(_LABELLED[name], label=1.0 - smoothing)
    return GANLoss(GAN_LOSSES[name].generator, smoothed)


def mean_over_discriminators(
    side: Callable[[Tensor, Tensor], Tensor],
    target: Sequence[Sequence[Tensor]],
    output: Sequence[Sequence[Tensor]],
) -> Tensor:
    """Return one side's loss, [B], the mean over the judges of a discriminator.

    Args:
        side: `generator` or `discriminator` of an objective.
        target: `Discriminator.features` of the target: for each judge a list, scores last.
        output: the same of the output.
    """
    values = [side(true[-1], made[-1]) for true, made in zip(target, output, strict=True)]
    return torch.stack(values).mean(dim=0)


def mean_score(judges: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the mean score over batch, places and judges; see `Discriminator.features`."""
    return torch.stack([at_least_float32(judge[-1].detach()).mean() for judge in judges]).mean()


def feature_matching(
    target: Sequence[Sequence[Tensor]], output: Sequence[Sequence[Tensor]]
) -> Tensor:
    """Return how far a discriminator's layers tell output from target, [B], in fp32.

    Wang et al. 2018 (pix2pixHD), eq. 4: the mean absolute difference of what a layer gives, summed
    over the layers, the scores left out; here the mean over the judges. The paper sums over them,
    in this term and in the adversarial one, so that the ratio of the two is the paper's. The
    target's side has no gradient.

    Args:
        target: `Discriminator.features` of the target.
        output: the same of the output.
    """
    values = [
        torch.stack(
            [
                _mean((at_least_float32(one) - at_least_float32(other.detach())).abs())
                for one, other in zip(made[:-1], true[:-1], strict=True)
            ]
        ).sum(dim=0)
        for true, made in zip(target, output, strict=True)
    ]
    return torch.stack(values).mean(dim=0)


def gradient_penalty(critic: Callable[[Tensor], Tensor], mixed: Tensor) -> Tensor:
    """Return (|gradient of the critic's score| - 1)^2 of each sample, [B], in fp32.

    Gulrajani et al. 2017, eq. 3: `mixed` lies at random on the line from the output to the target
    of each sample. The score is the mean over patches. It has gradients with respect to the
    critic's weights, which are gradients of gradients: run it with autocast off.

    Args:
        critic: [B, C, H, W] -> scores [B, 1, h, w].
        mixed: [B, C, H, W], without a graph of its own.
    """
    mixed = mixed.detach().requires_grad_(True)
    # The fast kernels of attention have no derivative of their derivative; the plain form has.
    with sdpa_kernel(SDPBackend.MATH):
        scores = _mean(at_least_float32(critic(mixed)))
    (slope,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)
    # The root of zero has no gradient: a critic that is flat would give NaN.
    return ((slope.flatten(1).square().sum(dim=1) + 1e-12).sqrt() - 1.0) ** 2
