"""Adversarial losses of generators and discriminators.

- `lsgan`: least squares (Mao et al. 2017, Least squares generative adversarial networks).
- `bce`: cross-entropy, the non-saturating form (Goodfellow et al. 2014, Generative adversarial
  nets, section 3).
- `hinge`: Lim and Ye 2017, Geometric GAN.
- `wasserstein`: Arjovsky et al. 2017, Wasserstein GAN; with a gradient penalty or weight clipping.
- `relativistic`: Jolicoeur-Martineau 2018, The relativistic discriminator, eq. 5 and 6: compares
  the scores of target and output.

Where the discriminator's loss is a sum of two terms, it is halved, as in pix2pix (Isola et al.
2017). All functions take scores [B, 1, h, w] without sigmoid and return one value for each sample,
[B], at least in fp32.
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

#: How the scores of a sample's patches become one score in the gradient penalty.
PenaltyReduction = Literal["mean", "sum"]


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
    target, output = at_least_float32(target), at_least_float32(output)
    target_loss = functional.softplus(-target) + (1.0 - label) * target
    return 0.5 * (_mean(target_loss) + _mean(functional.softplus(output)))


def _hinge_generator(target: Tensor, output: Tensor) -> Tensor:
    return -_mean(at_least_float32(output))


def _hinge_discriminator(target: Tensor, output: Tensor) -> Tensor:
    target_loss = torch.relu(1.0 - at_least_float32(target))
    output_loss = torch.relu(1.0 + at_least_float32(output))
    return 0.5 * (_mean(target_loss) + _mean(output_loss))


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
    """Return the loss of one side, [B], averaged over the sub-discriminators.

    Args:
        side: `generator` or `discriminator` of a `GANLoss`.
        target: `Discriminator.features` of the target: a list for each sub-discriminator, with the
            scores last.
        output: `Discriminator.features` of the output.
    """
    values = [side(a[-1], b[-1]) for a, b in zip(target, output, strict=True)]
    return torch.stack(values).mean(dim=0)


def mean_score(features: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the mean score over batch, positions and sub-discriminators.

    Args:
        features: see `Discriminator.features`.
    """
    scores = [each[-1].detach() for each in features]
    return torch.stack([at_least_float32(score).mean() for score in scores]).mean()


def feature_matching(
    target: Sequence[Sequence[Tensor]], output: Sequence[Sequence[Tensor]]
) -> Tensor:
    """Return the feature matching loss, [B], in fp32.

    Wang et al. 2018 (pix2pixHD), eq. 4: the mean absolute difference of the features of output and
    target, summed over the layers without the scores. The paper sums over the sub-discriminators,
    both here and in the adversarial loss; here both are averaged, so that their ratio is the same.
    The features of the target get no gradient.

    Args:
        target: `Discriminator.features` of the target.
        output: `Discriminator.features` of the output.
    """
    values = [
        torch.stack(
            [
                _mean((at_least_float32(b) - at_least_float32(a.detach())).abs())
                for a, b in zip(of_target[:-1], of_output[:-1], strict=True)
            ]
        ).sum(dim=0)
        for of_target, of_output in zip(target, output, strict=True)
    ]
    return torch.stack(values).mean(dim=0)


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], mixed: Tensor, reduction: PenaltyReduction = "mean"
) -> Tensor:
    """Return (|gradient of the critic's score| - 1)^2 of each sample, [B], in float32.

    Gulrajani et al. 2017, eq. 3, for a critic that gives N scores for the patches of a sample: the
    score of the sample is their mean, or their sum. Published code that calls `torch.autograd.grad`
    with `grad_outputs` of ones takes the sum. There the gradient of the mean, which is what the
    generator follows, is held at 1/N instead of 1. With one score both are the same. Under
    autocast the critic's convolutions and their second derivatives are in bfloat16, scores and
    norms in float32.

    Args:
        critic: [B, C, H, W] -> scores [B, 1, h, w].
        mixed: [B, C, H, W], a random point on the line from output to target for each sample.
        reduction: how the patches' scores become the score of a sample.
    """
    mixed = mixed.detach().requires_grad_(True)
    # Only the plain attention kernel has second derivatives.
    with sdpa_kernel(SDPBackend.MATH):
        scores = at_least_float32(critic(mixed)).flatten(1)
    scores = scores.mean(dim=1) if reduction == "mean" else scores.sum(dim=1)
    (slope,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)
    # The square root has no gradient at 0: a constant critic would give NaN.
    return ((slope.flatten(1).square().sum(dim=1) + 1e-12).sqrt() - 1.0) ** 2
