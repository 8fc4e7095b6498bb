"""Networks: generators, discriminators, samplers, and the layers that they share.

One file is one family; `core.registry` finds the classes by name.
"""

from crossband.networks.base import Discriminator, Generator, parameter_count

__all__ = ["Discriminator", "Generator", "parameter_count"]
