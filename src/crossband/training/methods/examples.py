"""Small parts for the `examples` of methods, written as in a recipe."""

from __future__ import annotations

from typing import Any


def part(name: str, **arguments: Any) -> dict[str, Any]:
    """Return a class and its arguments as a recipe has them."""
    return {"class_path": name, "init_args": arguments}


def critic(source: int, target: int, *, conditional: bool = True) -> dict[str, Any]:
    """Return a small discriminator for these numbers of bands."""
    bands = {"source_channels": source, "target_channels": target}
    return part("PatchCritic", **bands, width=4, strided=2, norm="none", conditional=conditional)


#: Rates at which small networks overfit one batch in a few hundred steps.
OPTIMIZER = part("Adam", lr=3e-3, betas=[0.5, 0.99])
DISCRIMINATOR_OPTIMIZER = part("Adam", lr=1e-4, betas=[0.5, 0.99])
OPTIMIZERS = {"optimizer": OPTIMIZER, "discriminator_optimizer": DISCRIMINATOR_OPTIMIZER}
FASTER = part("Adam", lr=5e-3, betas=[0.5, 0.99])

#: The field of a sampler.
FIELD = {"arguments": {"width": 16, "levels": 1, "time_channels": 8}}
RESNET = part("ResNet", width=8, blocks=1)
#: A generator with dropout, which draws random numbers in training.
RANDOM = part("UNet", width=4, levels=2, norm="none", dropout=0.5)
#: Two networks and their discriminators, for methods without pairs.
BOTH_WAYS = {
    **OPTIMIZERS,
    "generator": RESNET,
    "back": part("ResNet", in_channels=1, out_channels=3, width=8, blocks=1),
    "discriminator": critic(3, 1, conditional=False),
    "back_discriminator": critic(1, 3, conditional=False),
}
